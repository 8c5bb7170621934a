/*
 * rater: tables of cases on a small book, properties, and LiteLLM's own figures (cost_vectors.jsonl).
 */
#include "spend/rater.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/money.h"

#define AT 1790000000000000LL

/* How many of the 440 agree within 1e-12 USD at least. docs/prices.md says which does not, and why. */
#define VECTORS       440
#define VECTORS_AGREE 439

static const char token_entries[] =
    "{"
    "\"m\": {\"litellm_provider\": \"openai\", \"mode\": \"chat\","
    "  \"input_cost_per_token\": 2.5e-06, \"output_cost_per_token\": 1e-05, \"cache_read_input_token_cost\": "
    "1.25e-06,"
    "  \"cache_creation_input_token_cost\": 3.75e-06, \"cache_creation_input_token_cost_above_1hr\": 6e-06,"
    "  \"output_cost_per_reasoning_token\": 2e-05,"
    "  \"input_cost_per_token_flex\": 1.25e-06, \"output_cost_per_token_priority\": 2e-05},"
    "\"plain\": {\"input_cost_per_token\": 1e-06, \"output_cost_per_token\": 2e-06},"
    "\"openai/m\": {\"input_cost_per_token\": 7e-06, \"output_cost_per_token\": 7e-06},"
    "\"long\": {\"input_cost_per_token\": 1e-06, \"output_cost_per_token\": 2e-06, "
    "\"cache_read_input_token_cost\": 1e-07,"
    "  \"cache_creation_input_token_cost\": 1.25e-06, \"cache_creation_input_token_cost_above_1hr\": 2e-06,"
    "  \"cache_creation_input_token_cost_above_1hr_above_200k_tokens\": 4e-06,"
    "  \"input_cost_per_token_priority\": 5e-06, \"input_cost_per_token_above_200k_tokens_priority\": 9e-06,"
    "  \"input_cost_per_token_above_128k_tokens\": 3e-06, \"input_cost_per_token_above_200k_tokens\": 4e-06,"
    "  \"output_cost_per_token_above_200k_tokens\": 8e-06, "
    "\"cache_read_input_token_cost_above_200k_tokens\": 4e-07},"
    "\"huge\": {\"input_cost_per_token\": 1e-06, \"input_cost_per_token_above_512k_tokens\": 3e-06},"
    "\"qwen\": {\"input_cost_per_token\": 1e-06, \"input_cost_per_token_above_256k_tokens\": 3e-06},"
    "\"ranges\": {\"tiered_pricing\": ["
    "  {\"input_cost_per_token\": 1e-09, \"output_cost_per_token\": 1e-08, \"range\": [0, 1000]},"
    "  {\"range\": [1e3, 1e4], \"input_cost_per_token\": 2e-09, \"cache_read_input_token_cost\": 1e-09,"
    "   \"output_cost_per_token\": 2e-08, \"output_cost_per_reasoning_token\": 5e-08},"
    "  {\"range\": [10000.0, 128000.0], \"input_cost_per_token\": 4e-09, \"output_cost_per_token\": 4e-08}]},"
    "\"places\": {\"tiered_pricing\": [{\"input_cost_per_token\": 1e-09}]},"
    "\"batched\": {\"input_cost_per_token\": 2e-09, \"output_cost_per_token\": 3e-09,"
    "  \"cache_read_input_token_cost\": 1e-09, \"input_cost_per_token_batches\": 1.5e-09},";

static const char other_entries[] =
    "\"speaks\": {\"input_cost_per_token\": 1e-09, \"output_cost_per_token\": 2e-09,"
    "  \"input_cost_per_token_priority\": 9e-09, \"output_cost_per_token_priority\": 8e-09,"
    "  \"input_cost_per_audio_token\": 3e-09, \"output_cost_per_audio_token\": 4e-09,"
    "  \"output_cost_per_image_token\": 5e-09},"
    "\"draws\": {\"input_cost_per_image_token\": 6e-09, \"output_cost_per_image_token\": 7e-09},"
    "\"canvas\": {\"output_cost_per_image\": 0.04, \"input_cost_per_image\": 0.01},"
    "\"draw\": {\"input_cost_per_image\": 0.02},"
    "\"dall\": {\"input_cost_per_image\": 0.02},"
    "\"hd/10-x-20/dall\": {\"input_cost_per_pixel\": 1e-06},"
    "\"vast/32767-x-32767/dall\": {\"input_cost_per_pixel\": 1e-05},"
    "\"sizeless\": {\"input_cost_per_pixel\": 1e-06},"
    "\"tts\": {\"input_cost_per_character\": 1.5e-05},"
    "\"whisper\": {\"input_cost_per_second\": 0.0001, \"output_cost_per_second\": 0.0001},"
    "\"listens\": {\"input_cost_per_second\": 3e-09},"
    "\"rerank\": {\"input_cost_per_query\": 0.002},"
    "\"clip\": {\"input_cost_per_token\": 0, \"output_cost_per_token\": 0, \"output_cost_per_image\": 0.04},"
    "\"gift\": {\"input_cost_per_token\": 0, \"output_cost_per_token\": 0,"
    "  \"search_context_cost_per_query\": {\"search_context_size_low\": 0.01}},"
    "\"hourly\": {\"output_cost_per_second\": 0.001},"
    "\"online\": {\"input_cost_per_token\": 1e-06, \"input_cost_per_request\": 0.005},"
    "\"subscription\": {\"mode\": \"chat\"},"
    "\"subs/m\": {\"mode\": \"chat\"},"
    "\"dear\": {\"input_cost_per_token\": 9000, \"output_cost_per_token\": 9000},"
    "\"half\": {\"input_cost_per_token\": 5e-10},"
    "\"databricks/flat\": {\"input_cost_per_token\": 1e-06, \"output_cost_per_token\": 2e-06,"
    "  \"cache_read_input_token_cost\": 1e-07, \"output_cost_per_reasoning_token\": 9e-06},"
    "\"dashscope/q\": {\"input_cost_per_token\": 1e-06, \"output_cost_per_token\": 2e-06},"
    "\"perplexity/p\": {\"input_cost_per_token\": 1e-06, \"output_cost_per_token\": 2e-06,"
    "  \"output_cost_per_reasoning_token\": 3e-06},"
    "\"xai/x\": {\"input_cost_per_token\": 1e-06, \"output_cost_per_token\": 2e-06,"
    "  \"output_cost_per_reasoning_token\": 3e-06, \"input_cost_per_token_flex\": 5e-07},"
    "\"vertex_ai/v\": {\"input_cost_per_token\": 1e-09, \"output_cost_per_token\": 2e-09,"
    "  \"cache_read_input_token_cost\": 1e-10, \"input_cost_per_token_above_128k_tokens\": 3e-09,"
    "  \"output_cost_per_token_above_128k_tokens\": 4e-09},"
    "\"bedrock/b\": {\"input_cost_per_token\": 3e-06},"
    "\"vertex_ai/g\": {\"input_cost_per_token\": 4e-06},"
    "\"together-ai-up-to-4b\": {\"input_cost_per_token\": 1e-07, \"output_cost_per_token\": 1e-07},"
    "\"together-ai-41.1b-80b\": {\"input_cost_per_token\": 9e-07, \"output_cost_per_token\": 9e-07},"
    "\"together_ai/llama-405b\": {\"input_cost_per_token\": 3.5e-06, \"output_cost_per_token\": 3.5e-06}"
    "}";

struct fixture {
    struct price_list *prices;
    struct registry *registry;
    const struct price_book *book;
};

static struct price_book *book_of(struct strview json, int64_t version, int64_t effective_from,
                                  int64_t recorded_at)
{
    struct price_book *book = NULL;
    struct price_import report;
    struct err err = {0};
    if (!price_book_parse(&book, json, &report, &err))
        fail_msg("%s", err.text);
    book->version = version;
    book->effective_from = effective_from;
    book->recorded_at = recorded_at;
    return book;
}

static int set_up(void **state)
{
    static struct fixture f;
    struct err err;
    assert_true(price_list_new(&f.prices, &err));
    assert_true(registry_new(&f.registry, &err));
    static char json[sizeof token_entries + sizeof other_entries];
    (void)snprintf(json, sizeof json, "%s%s", token_entries, other_entries);
    struct price_book *book = book_of(sv_of(json), 3, 0, 10);
    f.book = book;
    assert_true(price_list_put(f.prices, book, &err));
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    price_list_free(f->prices);
    registry_free(f->registry);
    return 0;
}

static struct spend_call call_of(const char *model, int64_t input, int64_t output)
{
    struct spend_call call = {
        .admitted_at = AT,
        .received_at = AT,
        .model_replied = sv_of(model),
        .outcome = OUTCOME_COMPLETED,
        .quality = QUALITY_FINAL,
    };
    call.usage.units[USAGE_INPUT] = OPT_I64(input);
    call.usage.units[USAGE_OUTPUT] = OPT_I64(output);
    return call;
}

static struct rate_result rate(const struct fixture *f, const struct spend_call *call)
{
    struct rate_result out;
    struct err err = {0};
    if (!rater_rate(call, f->registry, f->prices, AT, &out, &err))
        fail_msg("%s", err.text);
    return out;
}

static void assert_raw(const struct fixture *f, const struct spend_call *call, int64_t nanos)
{
    struct rate_result out = rate(f, call);
    if (out.verdict != RATE_OK)
        fail_msg("unpriced: %s", out.detail);
    assert_int_equal(out.raw_nanos, nanos);
    assert_int_equal(out.price_version, 3);
}

static void assert_unpriced(const struct fixture *f, const struct spend_call *call, const char *why)
{
    struct rate_result out = rate(f, call);
    assert_int_equal(out.verdict, RATE_UNPRICED);
    assert_int_equal(out.raw_nanos, 0);
    assert_int_equal(out.line_count, 0);
    if (strstr(out.detail, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", out.detail, why);
}

static void test_each_text_class_has_its_own_price(void **state)
{
    static const struct {
        enum usage_class usage_class;
        int64_t nanos; /* of 1,000 units */
        const char *name;
    } rows[] = {
        {USAGE_INPUT, 2500000, "input_cost_per_token"},
        {USAGE_CACHE_READ, 1250000, "cache_read_input_token_cost"},
        {USAGE_CACHE_WRITE_5M, 3750000, "cache_creation_input_token_cost"},
        {USAGE_CACHE_WRITE_1H, 6000000, "cache_creation_input_token_cost_above_1hr"},
        {USAGE_OUTPUT, 10000000, "output_cost_per_token"},
        {USAGE_REASONING, 20000000, "output_cost_per_reasoning_token"},
    };
    struct spend_call all = call_of("m", 0, 0);
    int64_t sum = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spend_call call = call_of("m", 0, 0);
        call.usage.units[rows[i].usage_class] = OPT_I64(1000);
        all.usage.units[rows[i].usage_class] = OPT_I64(1000);
        sum += rows[i].nanos;
        struct rate_result out = rate(*state, &call);
        assert_int_equal(out.verdict, RATE_OK);
        assert_int_equal(out.rating, RATING_EXACT);
        assert_int_equal(out.raw_nanos, rows[i].nanos);
        assert_int_equal(out.line_count, 1);
        assert_string_equal(out.lines[0].rate_name, rows[i].name);
        assert_true(sv_eq(out.price_key, SV_LIT("m")));
    }
    assert_raw(*state, &all, sum);
}

static void test_reasoning_without_a_price_costs_as_output(void **state)
{
    struct spend_call call = call_of("plain", 0, 0);
    call.usage.units[USAGE_REASONING] = OPT_I64(10);
    struct rate_result out = rate(*state, &call);
    assert_int_equal(out.raw_nanos, 20000);
    assert_int_equal(out.rating, RATING_EXACT);
    assert_string_equal(out.lines[0].rate_name, "output_cost_per_token");
}

static void test_cache_without_a_price_is_free_and_said_to_be_assumed(void **state)
{
    static const enum usage_class classes[] = {USAGE_CACHE_READ, USAGE_CACHE_WRITE_5M, USAGE_CACHE_WRITE_1H};
    for (size_t i = 0; i < 3; i++) {
        struct spend_call call = call_of("plain", 10, 0);
        call.usage.units[classes[i]] = OPT_I64(100);
        struct rate_result out = rate(*state, &call);
        assert_int_equal(out.verdict, RATE_OK);
        assert_int_equal(out.raw_nanos, 10000);
        assert_int_equal(out.rating, RATING_ASSUMED);
        assert_true(out.lines[1].assumed);
        assert_non_null(strstr(out.detail, usage_class_name(classes[i])));
    }
}

static void test_tokens_without_a_price_are_free_and_said_to_be_assumed(void **state)
{
    static const struct {
        const char *model;
        int64_t nanos; /* of 10 in and 10 out */
        const char *says;
    } rows[] = {
        {"half", 5, "free for lack of a price: output"},
        {"hourly", 0, "another unit"},
        {"subscription", 0, "free for lack of a price: input"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spend_call call = call_of(rows[i].model, 10, 10);
        struct rate_result out = rate(*state, &call);
        assert_int_equal(out.verdict, RATE_OK);
        assert_int_equal(out.rating, RATING_ASSUMED);
        assert_int_equal(out.raw_nanos, rows[i].nanos);
        assert_non_null(strstr(out.detail, rows[i].says));
    }
    struct spend_call call = call_of("half", 10, 0);
    assert_int_equal(rate(*state, &call).rating, RATING_EXACT);
}

static void test_an_image_whose_price_depends_on_its_size_is_unpriced_without_one(void **state)
{
    struct spend_call call = call_of("dall", 0, 0);
    call.usage.units[USAGE_IMAGES] = OPT_I64(1);
    assert_unpriced(*state, &call, "an unknown one");
    call.variant = SV_LIT("hd/9-x-9");
    assert_unpriced(*state, &call, "hd/9-x-9");
    call.usage.units[USAGE_IMAGES] = OPT_I64(0);
    assert_raw(*state, &call, 0);
}

static void test_half_a_nano_rounds_to_even_once(void **state)
{
    static const int64_t rows[][2] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 2}, {7, 4}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spend_call call = call_of("half", rows[i][0], 0);
        assert_raw(*state, &call, rows[i][1]);
    }
}

static void test_thresholds_are_strict_and_switch_every_token(void **state)
{
    static const struct {
        int64_t input, cached, output, nanos;
    } rows[] = {
        {128000, 0, 10, 128000 * 1000LL + 20000},
        {128001, 0, 10, 128001 * 3000LL + 20000},
        {100000, 100000, 10, 100000 * 3000LL + 100000 * 100LL + 20000},
        {100000, 100001, 10, 100000 * 4000LL + 100001 * 400LL + 80000},
        {900000, 0, 300000, 900000 * 4000LL + 300000 * 8000LL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spend_call call = call_of("long", rows[i].input, rows[i].output);
        call.usage.units[USAGE_CACHE_READ] = OPT_I64(rows[i].cached);
        struct rate_result out = rate(*state, &call);
        assert_int_equal(out.raw_nanos, rows[i].nanos);
        assert_int_equal(out.rating, RATING_EXACT);
    }
}

static void test_prices_litellm_does_not_read_are_named(void **state)
{
    struct spend_call call = call_of("long", 200001, 0);
    call.service_tier = SV_LIT("priority");
    struct rate_result out = rate(*state, &call);
    assert_int_equal(out.raw_nanos, 200001 * 4000LL);
    assert_int_equal(out.rating, RATING_ASSUMED);
    assert_non_null(strstr(out.detail, "input_cost_per_token_above_200k_tokens_priority"));

    call = call_of("long", 200001, 0);
    call.usage.units[USAGE_CACHE_WRITE_1H] = OPT_I64(1);
    out = rate(*state, &call);
    assert_int_equal(out.raw_nanos, 200001 * 4000LL + 2000);
    assert_int_equal(out.rating, RATING_ASSUMED);

    call = call_of("qwen", 256001, 0);
    out = rate(*state, &call);
    assert_int_equal(out.raw_nanos, 256001 * 1000LL);
    assert_int_equal(out.rating, RATING_ASSUMED);
    call = call_of("qwen", 256000, 0);
    assert_int_equal(rate(*state, &call).rating, RATING_EXACT);

    call = call_of("online", 1, 0);
    assert_int_equal(rate(*state, &call).rating, RATING_ASSUMED);
}

static void test_a_threshold_without_a_rule_is_unpriced_once_it_matters(void **state)
{
    struct spend_call call = call_of("huge", 512000, 0);
    assert_raw(*state, &call, 512000 * 1000LL);
    call = call_of("huge", 512001, 0);
    assert_unpriced(*state, &call, "threshold");
}

static void test_service_tiers_take_their_price_else_the_plain_one(void **state)
{
    static const struct {
        const char *tier;
        const char *provider;
        int64_t nanos; /* of 1,000 in and 1,000 out, key "m" */
    } rows[] = {
        {NULL, NULL, 12500000},          {"flex", NULL, 11250000},        {"FLEX", NULL, 11250000},
        {"priority", NULL, 22500000},    {"default", NULL, 12500000},     {"batch", NULL, 6250000},
        {"priority", "azure", 12500000}, {"flex", "anthropic", 12500000}, {"flex", "azure_ai", 12500000},
        {"flex", "deepseek", 12500000},  {"flex", "bedrock", 11250000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spend_call call = call_of("m", 1000, 1000);
        call.service_tier = sv_of(rows[i].tier);
        call.provider = sv_of(rows[i].provider);
        assert_raw(*state, &call, rows[i].nanos);
    }
}

static void test_other_classes_have_their_own_prices(void **state)
{
    static const struct {
        const char *model;
        enum usage_class usage_class;
        int64_t units;
        int64_t nanos; /* -1: unpriced */
        enum spend_rating rating;
        const char *name;
    } rows[] = {
        {"speaks", USAGE_AUDIO_IN, 10, 30, RATING_EXACT, "input_cost_per_audio_token"},
        {"speaks", USAGE_AUDIO_OUT, 10, 40, RATING_EXACT, "output_cost_per_audio_token"},
        {"speaks", USAGE_IMAGE_OUT, 10, 50, RATING_EXACT, "output_cost_per_image_token"},
        {"speaks", USAGE_IMAGE_IN, 10, 10, RATING_EXACT, "input_cost_per_token"},
        {"m", USAGE_AUDIO_IN, 10, 0, RATING_ASSUMED, "input_cost_per_audio_token"},
        {"m", USAGE_AUDIO_OUT, 10, 100000, RATING_EXACT, "output_cost_per_token"},
        {"m", USAGE_IMAGE_OUT, 10, 100000, RATING_EXACT, "output_cost_per_token"},
        {"draws", USAGE_IMAGE_IN, 10, 60, RATING_EXACT, "input_cost_per_image_token"},
        {"draws", USAGE_OUTPUT, 10, 70, RATING_EXACT, "output_cost_per_image_token"},
        {"draws", USAGE_INPUT, 10, 0, RATING_ASSUMED, "input_cost_per_token"},
        {"canvas", USAGE_IMAGES, 2, 80000000, RATING_EXACT, "output_cost_per_image"},
        {"draw", USAGE_IMAGES, 2, 40000000, RATING_EXACT, "input_cost_per_image"},
        {"hd/10-x-20/dall", USAGE_IMAGES, 2, 400000, RATING_EXACT, "input_cost_per_pixel"},
        {"sizeless", USAGE_IMAGES, 2, -1, RATING_EXACT, NULL},
        {"vast/32767-x-32767/dall", USAGE_IMAGES, 1, -1, RATING_EXACT, NULL}, /* its price does not fit */
        {"m", USAGE_IMAGES, 1, -1, RATING_EXACT, NULL},
        {"tts", USAGE_CHARACTERS, 10, 150000, RATING_EXACT, "input_cost_per_character"},
        {"m", USAGE_CHARACTERS, 1, -1, RATING_EXACT, NULL},
        {"whisper", USAGE_SECONDS_MILLI, 1500, 150000, RATING_EXACT, "output_cost_per_second"},
        {"listens", USAGE_SECONDS_MILLI, 500, 2, RATING_EXACT, "input_cost_per_second"},
        {"listens", USAGE_SECONDS_MILLI, 833, 2, RATING_EXACT, "input_cost_per_second"},
        {"listens", USAGE_SECONDS_MILLI, 834, 3, RATING_EXACT, "input_cost_per_second"},
        {"m", USAGE_SECONDS_MILLI, 1, 0, RATING_ASSUMED, "output_cost_per_second"},
        {"rerank", USAGE_REQUESTS, 3, 6000000, RATING_EXACT, "input_cost_per_query"},
        {"m", USAGE_REQUESTS, 3, 0, RATING_ASSUMED, "input_cost_per_query"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spend_call call = call_of(rows[i].model, 0, 0);
        call.usage.units[rows[i].usage_class] = OPT_I64(rows[i].units);
        if (rows[i].nanos < 0) {
            assert_unpriced(*state, &call, usage_class_name(rows[i].usage_class));
            continue;
        }
        struct rate_result out = rate(*state, &call);
        if (out.verdict != RATE_OK || out.raw_nanos != rows[i].nanos)
            fail_msg("row %zu: %lld, %s", i, (long long)out.raw_nanos, out.detail);
        assert_int_equal(out.rating, rows[i].rating);
        assert_string_equal(out.lines[0].rate_name, rows[i].name);
    }
}

/* Images in take the plain price whatever the tier; all else takes the tier's, where there is one. */
static void test_tiers_beside_other_classes(void **state)
{
    struct spend_call call = call_of("speaks", 10, 10);
    call.service_tier = SV_LIT("priority");
    call.usage.units[USAGE_IMAGE_IN] = OPT_I64(10);
    call.usage.units[USAGE_AUDIO_IN] = OPT_I64(10);
    call.usage.units[USAGE_REASONING] = OPT_I64(10);
    assert_raw(*state, &call, 90 + 80 + 10 + 30 + 80);
}

static void test_batches_cost_their_price_else_half(void **state)
{
    struct spend_call call = call_of("batched", 10, 5);
    call.provider = SV_LIT("anthropic");
    call.service_tier = SV_LIT("Batch");
    call.usage.units[USAGE_CACHE_READ] = OPT_I64(3);
    call.usage.units[USAGE_REASONING] = OPT_I64(3);
    struct rate_result out = rate(*state, &call);
    assert_int_equal(out.raw_nanos, 32); /* 13 x 1.5 + 8 x 3 / 2 = 31.5 */
    assert_int_equal(out.rating, RATING_ASSUMED);
    assert_non_null(strstr(out.detail, "half of the price"));
    call = call_of("batched", 10, 0);
    call.service_tier = SV_LIT("batch");
    assert_int_equal(rate(*state, &call).rating, RATING_EXACT);
    call = call_of("m", 1000, 0);
    call.service_tier = SV_LIT("batch");
    call.usage.units[USAGE_CACHE_READ] = OPT_I64(1000);
    assert_raw(*state, &call, 1250000 + 625000);
}

static void test_ranges_are_graduated(void **state)
{
    static const struct {
        int64_t input, cached, output, reasoning, nanos;
        size_t lines;
    } rows[] = {
        {1000, 0, 0, 0, 1000, 1},
        {1001, 0, 0, 0, 1002, 2},
        {20000, 0, 0, 0, 1000 + 18000 + 40000, 3},
        {500, 2000, 0, 0, 500 + 1000 + 1000, 3},
        {0, 11000, 0, 0, 1000 + 9000 + 4000, 3},
        {0, 0, 1000, 1001, 10000 + 10000 + 50, 3},
        {0, 0, 200000, 0, 10000 + 180000 + 190000 * 40LL, 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spend_call call = call_of("ranges", rows[i].input, rows[i].output);
        call.provider = SV_LIT("dashscope");
        call.usage.units[USAGE_CACHE_READ] = OPT_I64(rows[i].cached);
        call.usage.units[USAGE_REASONING] = OPT_I64(rows[i].reasoning);
        struct rate_result out = rate(*state, &call);
        assert_int_equal(out.raw_nanos, rows[i].nanos);
        assert_int_equal(out.line_count, rows[i].lines);
        assert_int_equal(out.rating, RATING_EXACT);
    }
    struct spend_call call = call_of("places", 10, 0);
    call.provider = SV_LIT("dashscope");
    assert_unpriced(*state, &call, "import the price file again");
    call = call_of("ranges", 10, 0); /* only dashscope charges by them, as in LiteLLM */
    assert_int_equal(rate(*state, &call).rating, RATING_ASSUMED);
    assert_raw(*state, &call, 0);
}

static void test_tokens_at_zero_beside_another_price_are_assumed_to_be_free(void **state)
{
    struct spend_call call = call_of("clip", 100, 100);
    struct rate_result out = rate(*state, &call);
    assert_int_equal(out.raw_nanos, 0);
    assert_int_equal(out.rating, RATING_ASSUMED);
    assert_non_null(strstr(out.detail, "another unit"));
    call = call_of("gift", 100, 100);
    assert_raw(*state, &call, 0);
    assert_int_equal(rate(*state, &call).rating, RATING_EXACT);
}

static void test_no_usage_is_free_for_a_failure_and_unpriced_otherwise(void **state)
{
    struct spend_call call = call_of("m", 0, 0);
    call.usage = (struct usage){0};
    for (int o = 0; o < OUTCOME_COUNT; o++) {
        call.outcome = (enum spend_outcome)o;
        struct rate_result out = rate(*state, &call);
        if (o == OUTCOME_FAILED || o == OUTCOME_REJECTED) {
            assert_int_equal(out.verdict, RATE_OK);
            assert_int_equal(out.rating, RATING_FREE);
            assert_int_equal(out.raw_nanos, 0);
            assert_int_equal(out.price_version, 0);
            assert_true(sv_is_null(out.price_key));
        } else {
            assert_unpriced(*state, &call, "no usage was reported");
        }
    }
    call = call_of("m", 1000, 0);
    call.outcome = OUTCOME_FAILED;
    assert_raw(*state, &call, 2500000); /* what failed after it was used is paid */
}

static void test_zero_is_zero_and_not_null(void **state)
{
    struct spend_call call = call_of("m", 0, 0);
    struct rate_result out = rate(*state, &call);
    assert_int_equal(out.verdict, RATE_OK);
    assert_int_equal(out.raw_nanos, 0);
    assert_int_equal(out.line_count, 0);
}

static void put_alias(const struct fixture *f, const char *model, const char *price_key, int64_t recorded_at)
{
    struct registry_version v = {.recorded_at = recorded_at, .price_key = sv_of(price_key)};
    struct registry_record r = {
        .kind = REGISTRY_MODEL, .id = sv_of(model), .versions = &v, .version_count = 1};
    struct err err;
    assert_true(registry_put(f->registry, &r, &err));
}

static void test_the_replied_model_is_priced_and_the_requested_one_only_assumed(void **state)
{
    struct spend_call call = call_of("m", 1000, 0);
    call.model_requested = SV_LIT("plain");
    assert_raw(*state, &call, 2500000);
    call.model_replied = SV_LIT("nobody");
    struct rate_result out = rate(*state, &call);
    assert_int_equal(out.raw_nanos, 1000000);
    assert_int_equal(out.rating, RATING_ASSUMED);
    assert_non_null(strstr(out.detail, "nobody"));
    call.model_replied = SV_NULL; /* nothing replied a model: the requested one is the model */
    out = rate(*state, &call);
    assert_int_equal(out.rating, RATING_EXACT);
    assert_int_equal(out.raw_nanos, 1000000);
    call.model_requested = SV_NULL;
    assert_unpriced(*state, &call, "names no model");
    call.model_requested = SV_LIT("nobody either");
    assert_unpriced(*state, &call, "nobody either");
}

static void test_an_alias_comes_before_the_model(void **state)
{
    const struct fixture *f = *state;
    struct spend_call call = call_of("fast", 1000, 0);
    assert_unpriced(f, &call, "fast");
    put_alias(f, "fast", "plain", 10);
    assert_raw(f, &call, 1000000);
    put_alias(f, "fast", "azure/m", 10); /* not a key: looked up as a model is */
    assert_raw(f, &call, 2500000);
    put_alias(f, "m", "openai/m", 10);
    call = call_of("m", 1000, 0);
    assert_raw(f, &call, 7000000);
    put_alias(f, "m", "nothing", 10);
    struct rate_result out = rate(f, &call);
    assert_int_equal(out.raw_nanos, 2500000);
    assert_int_equal(out.rating, RATING_ASSUMED);
    put_alias(f, "m", "openai/m", AT + 1); /* recorded too late for this call */
    assert_raw(f, &call, 2500000);
    put_alias(f, "m", NULL, 10);
    assert_raw(f, &call, 2500000);
    put_alias(f, "asked", "plain", 10);
    call = call_of("nobody", 1000, 0);
    call.model_requested = SV_LIT("asked");
    out = rate(f, &call);
    assert_int_equal(out.raw_nanos, 1000000);
    assert_int_equal(out.rating, RATING_ASSUMED);
    struct err err;
    assert_true(rater_rate(&call, NULL, f->prices, AT, &out, &err));
    assert_int_equal(out.verdict, RATE_UNPRICED); /* no registry: no alias */
}

static void test_the_book_in_force_and_known_then_is_the_one(void **state)
{
    const struct fixture *f = *state;
    struct err err;
    struct price_book *next = book_of(SV_LIT("{\"m\": {\"input_cost_per_token\": 1}}"), 4, AT - 5, AT + 5);
    assert_true(price_list_put(f->prices, next, &err));
    struct spend_call call = call_of("m", 1, 0);
    assert_raw(f, &call, 2500);
    struct rate_result out;
    assert_true(rater_rate(&call, f->registry, f->prices, AT + 5, &out, &err));
    assert_int_equal(out.raw_nanos, NANOS_PER_USD);
    assert_int_equal(out.price_version, 4);
    assert_true(rater_rate(&call, f->registry, f->prices, 9, &out, &err));
    assert_int_equal(out.verdict, RATE_UNPRICED);
    assert_int_equal(out.price_version, 0);
    assert_string_equal(out.detail, "no price book was in force");
}

static void test_providers_with_habits_of_their_own(void **state)
{
    static const struct {
        const char *provider;
        const char *model;
        const char *tier;
        int64_t input, cached, output, reasoning, nanos;
    } rows[] = {
        {"databricks", "flat", "flex", 10, 10, 10, 10, 60000},
        {"dashscope", "q", NULL, 10, 10, 5, 5, 40000},
        {"perplexity", "p", NULL, 10, 10, 10, 10, 20000 + 40000 + 30000},
        {"xai", "x", "flex", 10, 0, 10, 10, 10000 + 40000},
        {"vertex_ai", "v", NULL, 100000, 28000, 128000, 0, 128000 + 256000},
        {"vertex_ai", "v", NULL, 100000, 28001, 128000, 0, 128001 * 3LL + 256000},
        {"vertex_ai", "v", NULL, 1, 0, 128000, 1, 1 + 128001 * 4LL},
        {"openai", "vertex_ai/v", NULL, 128001, 0, 10, 0, 128001 * 3LL + 40},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spend_call call = call_of(rows[i].model, rows[i].input, rows[i].output);
        call.provider = sv_of(rows[i].provider);
        call.service_tier = sv_of(rows[i].tier);
        call.usage.units[USAGE_CACHE_READ] = OPT_I64(rows[i].cached);
        call.usage.units[USAGE_REASONING] = OPT_I64(rows[i].reasoning);
        struct rate_result out = rate(*state, &call);
        if (out.raw_nanos != rows[i].nanos)
            fail_msg("row %zu: %lld, %s", i, (long long)out.raw_nanos, out.detail);
        assert_int_equal(out.rating, RATING_EXACT);
    }
}

static void test_overflow_is_an_error_and_not_a_bill(void **state)
{
    const struct fixture *f = *state;
    struct rate_result out;
    struct err err;
    struct spend_call call = call_of("dear", 1000000, 100000);
    assert_false(rater_rate(&call, NULL, f->prices, AT, &out, &err));
    assert_int_equal(err.code, ERR_OVERFLOW);
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    call = call_of("m", INT64_MAX, INT64_MAX);
    assert_false(rater_rate(&call, NULL, f->prices, AT, &out, &err));
    call.usage.units[USAGE_CACHE_READ] = OPT_I64(1); /* the prompt itself does not fit */
    assert_false(rater_rate(&call, NULL, f->prices, AT, &out, &err));
    call = call_of("m", -1, 0);
    assert_false(rater_rate(&call, NULL, f->prices, AT, &out, &err));
    call = call_of("dear", 1000000, 0); /* 9e9 USD still fits */
    assert_raw(f, &call, 9000LL * 1000000 * NANOS_PER_USD);
}

static void test_a_given_entry_is_rated_without_look_up(void **state)
{
    const struct fixture *f = *state;
    struct rate_result out;
    struct err err;
    struct spend_call call = call_of("whatever", 10, 0);
    assert_true(rater_rate_with(&call, f->book, price_book_find(f->book, SV_LIT("plain")), &out, &err));
    assert_int_equal(out.raw_nanos, 10000);
    assert_int_equal(out.price_version, 3);
    call.usage = (struct usage){0};
    assert_true(rater_rate_with(&call, f->book, price_book_find(f->book, SV_LIT("plain")), &out, &err));
    assert_int_equal(out.verdict, RATE_UNPRICED);
}

static void test_a_price_below_zero_pays_nobody(void **state)
{
    (void)state;
    struct price_rate wrong = {SV_LIT("input_cost_per_token"), -1};
    struct price_entry entry = {.key = SV_LIT("m"), .rates = &wrong, .rate_count = 1};
    struct rate_result out;
    struct err err;
    struct spend_call call = call_of("m", 10, 0);
    assert_false(rater_rate_with(&call, NULL, &entry, &out, &err));
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
}

static void test_a_long_detail_is_cut_between_characters(void **state)
{
    char model[LIMIT_TEXT_BYTES + 1];
    for (size_t i = 0; i < sizeof model; i++)
        model[i] = i % 2 == 0 ? '\xc3' : '\xa9';
    struct spend_call call = call_of("m", 1, 0);
    call.model_replied = sv_of_bytes(model, LIMIT_TEXT_BYTES);
    struct rate_result out = rate(*state, &call);
    assert_int_equal(out.verdict, RATE_UNPRICED);
    assert_true(strlen(out.detail) < LIMIT_DETAIL_BYTES);
    assert_true(strlen(out.detail) > LIMIT_DETAIL_BYTES - 4);
    assert_true(sv_is_utf8(sv_of(out.detail)));
    call.model_requested = SV_LIT("online"); /* two sentences, the first too long already */
    out = rate(*state, &call);
    assert_int_equal(out.rating, RATING_ASSUMED);
    assert_true(sv_is_utf8(sv_of(out.detail)));
}

/* Any usage of any class: the bill is the exact sum of its lines, and more usage never costs less. */
static void test_the_bill_is_the_rounded_sum_of_its_lines_and_grows(void **state)
{
    static const char *const models[] = {"m", "plain", "long", "dashscope/q"};
    uint64_t seed = 20261123;
    for (int round = 0; round < 20000; round++) {
        struct spend_call call = call_of(models[round % 4], 0, 0);
        for (int c = 0; c <= USAGE_REASONING; c++) {
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            call.usage.units[c] = (struct opt_i64){(int64_t)(seed >> 33) % 90000, (seed >> 20) % 4 != 0};
            if (!call.usage.units[c].has)
                call.usage.units[c].v = 0;
        }
        call.usage.units[USAGE_INPUT].has = true;
        struct rate_result out = rate(*state, &call);
        assert_int_equal(out.verdict, RATE_OK);
        int128 femtos = 0;
        int64_t units = 0;
        for (size_t i = 0; i < out.line_count; i++) {
            femtos += (int128)out.lines[i].units * out.lines[i].femtos;
            units += out.lines[i].units;
        }
        for (int c = 0; c < USAGE_COUNT; c++)
            units -= call.usage.units[c].v;
        assert_int_equal(units, 0); /* no unit lost, none twice */
        int128 off = femtos - (int128)out.raw_nanos * FEMTOS_PER_NANO;
        assert_true(off >= -FEMTOS_PER_NANO / 2 && off <= FEMTOS_PER_NANO / 2);
        if (off == FEMTOS_PER_NANO / 2 || off == -FEMTOS_PER_NANO / 2)
            assert_int_equal(out.raw_nanos % 2, 0);
        call.usage.units[USAGE_OUTPUT] = OPT_I64(call.usage.units[USAGE_OUTPUT].v + 1);
        assert_true(rate(*state, &call).raw_nanos >= out.raw_nanos);
    }
}

/* LiteLLM's own figures */

static int64_t number(const json_t *object, const char *name)
{
    return (int64_t)json_integer_value(json_object_get(object, name));
}

/* OpenAI's usage in disjoint classes. xai counts reasoning beside the completion, all others inside it. */
static void usage_of(const json_t *u, const char *provider, struct usage *out)
{
    const json_t *in = json_object_get(u, "prompt_tokens_details");
    const json_t *reply = json_object_get(u, "completion_tokens_details");
    const json_t *written = json_object_get(in, "cache_creation_token_details");
    int64_t cached = number(in, "cached_tokens");
    int64_t creation = number(in, "cache_creation_tokens");
    int64_t hour = number(written, "ephemeral_1h_input_tokens");
    int64_t audio = number(in, "audio_tokens");
    int64_t reasoning = number(reply, "reasoning_tokens");
    int64_t spoken = number(reply, "audio_tokens");
    int64_t inside = strcmp(provider, "xai") == 0 ? 0 : reasoning;
    int64_t input = number(u, "prompt_tokens") - cached - creation - audio;
    out->units[USAGE_INPUT] = OPT_I64(input < 0 ? 0 : input);
    out->units[USAGE_CACHE_READ] = OPT_I64(cached);
    out->units[USAGE_CACHE_WRITE_5M] = OPT_I64(creation - hour);
    out->units[USAGE_CACHE_WRITE_1H] = OPT_I64(hour);
    out->units[USAGE_OUTPUT] = OPT_I64(number(u, "completion_tokens") - inside - spoken);
    out->units[USAGE_REASONING] = OPT_I64(reasoning);
    out->units[USAGE_AUDIO_IN] = OPT_I64(audio);
    out->units[USAGE_AUDIO_OUT] = OPT_I64(spoken);
}

static struct price_book *whole_book(void)
{
    static char text[4 << 20];
    FILE *file = fopen(SPEND_TESTDATA "/litellm/model_prices.json", "r");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof text, file);
    assert_int_equal(fclose(file), 0);
    assert_true(len > 1 << 20 && len < sizeof text);
    return book_of(sv_of_bytes(text, len), 1, 0, 1);
}

/* 1: agrees, 0: unpriced, -1: another figure. Compared before rounding to nanos. */
static int compare_vector(const struct price_list *prices, const json_t *v)
{
    const char *provider = json_string_value(json_object_get(v, "provider"));
    struct spend_call call = {.admitted_at = AT, .outcome = OUTCOME_COMPLETED};
    call.model_replied = sv_of(json_string_value(json_object_get(v, "model")));
    call.provider = sv_of(provider);
    call.service_tier = sv_of(json_string_value(json_object_get(v, "service_tier")));
    usage_of(json_object_get(v, "usage"), provider, &call.usage);
    struct rate_result out;
    struct err err;
    assert_true(rater_rate(&call, NULL, prices, AT, &out, &err));
    int64_t expected;
    assert_true(
        money_parse_decimal(sv_of(json_string_value(json_object_get(v, "cost"))), 15, &expected, NULL, &err));
    if (out.verdict == RATE_UNPRICED) {
        print_message("unpriced " SV_FMT "/" SV_FMT " (LiteLLM: %s): %s\n", SV_ARG(call.provider),
                      SV_ARG(call.model_replied), json_string_value(json_object_get(v, "cost")), out.detail);
        return 0;
    }
    int128 femtos = 0;
    for (size_t i = 0; i < out.line_count; i++)
        femtos += (int128)out.lines[i].units * out.lines[i].femtos / out.lines[i].per;
    int128 off = femtos - expected;
    if (off <= 1000 && off >= -1000)
        return 1;
    print_message("differs  " SV_FMT "/" SV_FMT " tier " SV_FMT ": LiteLLM %s, here %lld nanos\n",
                  SV_ARG(call.provider), SV_ARG(call.model_replied), SV_ARG(call.service_tier),
                  json_string_value(json_object_get(v, "cost")), (long long)out.raw_nanos);
    return -1;
}

/* As LiteLLM's default_image_cost_calculator has them. */
static void test_images_cost_what_their_quality_and_size_do(void **state)
{
    (void)state;
    static const struct {
        const char *provider, *model, *variant, *key;
        int64_t images, nanos;
    } rows[] = {
        {NULL, "dall-e-3", "standard/1024-x-1024", "standard/1024-x-1024/dall-e-3", 1, 39999924},
        {"openai", "dall-e-3", "standard/1024-x-1024", "standard/1024-x-1024/dall-e-3", 2, 79999848},
        {"openai", "openai/dall-e-3", "hd/1024-x-1792", "hd/1024-x-1792/dall-e-3", 1, 119991173},
        {"openai", "dall-e-2", "standard/512-x-512", "512-x-512/dall-e-2", 3, 53949235},
        {"azure", "azure/dall-e-3", "hd/1024-x-1024", "hd/1024-x-1024/dall-e-3", 1, 79995863},
        {"aiml", "dall-e-3", "hd/1024-x-1792", "aiml/dall-e-3", 1, 52000000},
        {"aiml", "dall-e-2", "standard/512-x-512", "aiml/dall-e-2", 1, 26000000},
        {NULL, "gpt-image-1.5", "low/1024-x-1536", "low/1024-x-1536/gpt-image-1.5", 1, 13000000},
        {"nscale", "black-forest-labs/FLUX.1-schnell", "standard/512-x-512",
         "nscale/black-forest-labs/FLUX.1-schnell", 1, 340787},
    };
    struct price_list *prices;
    struct err err;
    assert_true(price_list_new(&prices, &err));
    assert_true(price_list_put(prices, whole_book(), &err));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rate_result out;
        struct spend_call call = {.admitted_at = AT,
                                  .operation = OPERATION_IMAGE,
                                  .outcome = OUTCOME_COMPLETED,
                                  .provider = sv_of(rows[i].provider),
                                  .model_requested = sv_of(rows[i].model),
                                  .variant = sv_of(rows[i].variant)};
        call.usage.units[USAGE_IMAGES] = OPT_I64(rows[i].images);
        assert_true(rater_rate(&call, NULL, prices, AT, &out, &err));
        assert_int_equal(out.verdict, RATE_OK);
        assert_true(sv_eq(out.price_key, sv_of(rows[i].key)));
        assert_int_equal(out.raw_nanos, rows[i].nanos);
        assert_int_equal(out.rating, RATING_EXACT);
    }
    price_list_free(prices);
}

static void test_litellm_cost_vectors_agree(void **state)
{
    (void)state;
    struct price_list *prices;
    struct err err;
    char line[4096];
    int agree = 0;
    int differ = 0;
    int count = 0;
    assert_true(price_list_new(&prices, &err));
    assert_true(price_list_put(prices, whole_book(), &err));
    FILE *file = fopen(SPEND_TESTDATA "/litellm/cost_vectors.jsonl", "r");
    assert_non_null(file);
    for (; fgets(line, sizeof line, file) != NULL; count++) {
        json_t *v = json_loads(line, 0, NULL);
        assert_non_null(v);
        int r = compare_vector(prices, v);
        agree += r == 1;
        differ += r == -1;
        json_decref(v);
    }
    assert_int_equal(fclose(file), 0);
    price_list_free(prices);
    print_message("%d of %d vectors agree within 1e-12 USD, %d unpriced, %d differ\n", agree, count,
                  count - agree - differ, differ);
    assert_int_equal(count, VECTORS);
    assert_true(agree >= VECTORS_AGREE);
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_each_text_class_has_its_own_price),
        CASE(test_reasoning_without_a_price_costs_as_output),
        CASE(test_cache_without_a_price_is_free_and_said_to_be_assumed),
        CASE(test_tokens_without_a_price_are_free_and_said_to_be_assumed),
        CASE(test_half_a_nano_rounds_to_even_once),
        CASE(test_thresholds_are_strict_and_switch_every_token),
        CASE(test_prices_litellm_does_not_read_are_named),
        CASE(test_a_threshold_without_a_rule_is_unpriced_once_it_matters),
        CASE(test_service_tiers_take_their_price_else_the_plain_one),
        CASE(test_an_image_whose_price_depends_on_its_size_is_unpriced_without_one),
        CASE(test_other_classes_have_their_own_prices),
        CASE(test_tiers_beside_other_classes),
        CASE(test_batches_cost_their_price_else_half),
        CASE(test_ranges_are_graduated),
        CASE(test_tokens_at_zero_beside_another_price_are_assumed_to_be_free),
        CASE(test_no_usage_is_free_for_a_failure_and_unpriced_otherwise),
        CASE(test_zero_is_zero_and_not_null),
        CASE(test_the_replied_model_is_priced_and_the_requested_one_only_assumed),
        CASE(test_an_alias_comes_before_the_model),
        CASE(test_the_book_in_force_and_known_then_is_the_one),
        CASE(test_providers_with_habits_of_their_own),
        CASE(test_overflow_is_an_error_and_not_a_bill),
        CASE(test_a_given_entry_is_rated_without_look_up),
        cmocka_unit_test(test_a_price_below_zero_pays_nobody),
        CASE(test_a_long_detail_is_cut_between_characters),
        CASE(test_the_bill_is_the_rounded_sum_of_its_lines_and_grows),
        cmocka_unit_test(test_images_cost_what_their_quality_and_size_do),
        cmocka_unit_test(test_litellm_cost_vectors_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
