/* What becomes of a record: each verdict, the wait, the limits. */
#include "decide.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "spend/avro_codec.h"

#define NOW      1800000000000000LL
#define SECOND   1000000LL
#define KEY_HASH "a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5"
#define CALL_ID  "0190a0b0-c0d0-7000-8000-000000000001"
#define GPT_BOOK "{\"gpt-4o\":{\"input_cost_per_token\":2.5e-06,\"output_cost_per_token\":1e-05}}"

struct fixture {
    struct decider *decider;
    struct registry *registry;
    struct price_list *prices;
    struct decide_config config;
    struct spend_call call;
    struct tag tags[2 * LIMIT_TAGS];
    char texts[2 * LIMIT_TAGS][LIMIT_TAG_BYTES + 1];
    struct buffer value;
    struct arena arena;
    struct decision out;
    struct err err;
};

static void fact(struct fixture *f, enum registry_kind kind, const char *id, struct registry_version version)
{
    struct registry_record record = {.kind = kind, .id = sv_of(id), .versions = &version, .version_count = 1};
    assert_true(registry_put(f->registry, &record, &f->err));
}

static void add_tag(struct fixture *f, const char *raw, unsigned origins)
{
    struct tag *tag = &f->tags[f->call.tag_count++];
    const char *cut = strchr(raw, '=');
    *tag = (struct tag){.raw = sv_of(raw), .origins = origins};
    if (cut != NULL) {
        tag->key = sv_of_bytes(raw, (size_t)(cut - raw));
        tag->value = sv_of(cut + 1);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const struct attribute_rules rules = {SV_LIT("account_id"), SV_LIT("task"), SV_LIT("conversation")};
    struct price_import report;
    struct price_book *book;
    assert_true(avro_codec_open(&f->err));
    assert_true(decider_new(&f->decider, &rules, &f->err));
    assert_true(registry_new(&f->registry, &f->err));
    assert_true(price_list_new(&f->prices, &f->err));
    assert_true(price_book_parse(&book, SV_LIT(GPT_BOOK), &report, &f->err));
    book->version = 3;
    book->recorded_at = NOW - 100 * SECOND;
    assert_true(price_list_put(f->prices, book, &f->err));
    fact(f, REGISTRY_ACCOUNT, "acme",
         (struct registry_version){.recorded_at = NOW - 50 * SECOND, .tier = SV_LIT("default")});
    f->config = (struct decide_config){f->registry, f->prices, NOW + 10 * SECOND};
    f->call = (struct spend_call){
        .source = SOURCE_GATEWAY,
        .admitted_at = NOW,
        .received_at = NOW,
        .operation = OPERATION_CHAT,
        .path = SV_LIT("/v1/chat/completions"),
        .upstream = SV_LIT("127.0.0.1:4000"),
        .model_requested = SV_LIT("gpt-4o"),
        .model_replied = SV_LIT("gpt-4o"),
        .tags = f->tags,
        .outcome = OUTCOME_COMPLETED,
        .quality = QUALITY_FINAL,
    };
    f->call.usage.units[USAGE_INPUT] = OPT_I64(100);
    f->call.usage.units[USAGE_OUTPUT] = OPT_I64(45);
    assert_true(uuid_parse(SV_LIT(CALL_ID), &f->call.call_id));
    buffer_init(&f->value, 1 << 20);
    arena_init(&f->arena, 1 << 20);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    decider_free(f->decider);
    registry_free(f->registry);
    price_list_free(f->prices);
    buffer_free(&f->value);
    arena_free(&f->arena);
    free(f);
    return 0;
}

static enum decide_verdict decide_bytes(struct fixture *f, struct strview key, struct strview value)
{
    const struct decide_record record = {
        .origin = {.topic = SV_LIT("spend.calls"), .partition = 3, .offset = 42},
        .append_us = NOW + SECOND,
        .key = key,
        .value = value,
    };
    assert_true(decide(f->decider, &f->config, &record, &f->out, &f->err));
    return f->out.verdict;
}

static enum decide_verdict decide_it(struct fixture *f)
{
    buffer_clear(&f->value);
    assert_true(avro_encode_spend_call(&f->call, &f->value, &f->err));
    return decide_bytes(f, SV_LIT(CALL_ID), buffer_view(&f->value));
}

static struct dead_letter dead_of(struct fixture *f)
{
    struct dead_letter dead;
    assert_true(f->out.value.len <= LIMIT_DEAD_LETTER_BYTES);
    assert_true(avro_decode_dead_letter(f->out.value, &f->arena, &dead, &f->err));
    return dead;
}

static struct attributed_call attributed_of(struct fixture *f)
{
    struct attributed_call a;
    assert_true(f->out.value.len <= LIMIT_CALL_BYTES);
    assert_true(avro_decode_attributed_call(f->out.value, &f->arena, &a, &f->err));
    return a;
}

#define assert_sv(view, text) assert_true(sv_eq((view), SV_LIT(text)))

static void test_a_tagged_call_is_attributed_and_rated(void **state)
{
    struct fixture *f = *state;
    add_tag(f, "account_id=acme", TAG_ORIGIN_HEADER);
    add_tag(f, "task=t1", TAG_ORIGIN_ROOT);
    assert_int_equal(decide_it(f), DECIDE_ATTRIBUTED);
    assert_string_equal(f->out.topic, "spend.attributed");
    assert_sv(f->out.key, "acme");
    struct attributed_call a = attributed_of(f);
    assert_sv(a.account_id, "acme");
    assert_sv(a.task_id, "t1");
    assert_true(sv_is_null(a.conversation_id));
    assert_int_equal(a.route, ROUTE_TAG);
    assert_true(a.raw_nanos.has);
    assert_int_equal(a.raw_nanos.v, 100 * 2500 + 45 * 10000);
    assert_int_equal(a.rating, RATING_EXACT);
    assert_int_equal(a.price_version.v, 3);
    assert_sv(a.price_key, "gpt-4o");
    assert_int_equal(a.config_watermark, NOW + 10 * SECOND);
    assert_sv(a.origin.topic, "spend.calls");
    assert_int_equal(a.origin.partition, 3);
    assert_int_equal(a.origin.offset, 42);
    assert_int_equal(a.call.tag_count, 2);
}

static void test_the_hash_is_of_the_record_and_not_of_the_key_tags_added(void **state)
{
    struct fixture *f = *state;
    uint8_t hash[SHA256_LEN];
    struct sha256 *sha = sha256_new();
    struct strview bound[] = {SV_LIT("team=blue"), SV_LIT("account_id=acme")};
    f->call.key_hash = SV_LIT(KEY_HASH);
    fact(f, REGISTRY_KEY, KEY_HASH,
         (struct registry_version){.account_id = SV_LIT("acme"), .tags = bound, .tag_count = 2});
    add_tag(f, "account_id=acme", TAG_ORIGIN_HEADER);
    assert_int_equal(decide_it(f), DECIDE_ATTRIBUTED);
    struct attributed_call a = attributed_of(f);
    spend_call_hash(&f->call, sha, hash);
    assert_memory_equal(a.hash, hash, sizeof hash);
    spend_call_hash(&a.call, sha, hash);
    assert_memory_equal(a.hash, hash, sizeof hash);
    assert_int_equal(a.call.tag_count, 2);
    assert_int_equal(a.call.tags[0].origins, TAG_ORIGIN_HEADER | TAG_ORIGIN_KEY);
    assert_sv(a.call.tags[1].raw, "team=blue");
    assert_int_equal(a.call.tags[1].origins, TAG_ORIGIN_KEY);
    sha256_free(sha);
}

static void test_a_call_waits_until_the_watermark_has_passed_its_time(void **state)
{
    struct fixture *f = *state;
    add_tag(f, "account_id=acme", TAG_ORIGIN_HEADER);
    f->call.received_at = NOW + 5;
    f->config.watermark = NOW + 4;
    assert_int_equal(decide_it(f), DECIDE_WAIT);
    assert_int_equal(f->out.known_by, NOW + 5);
    f->config.watermark = NOW + 5;
    assert_int_equal(decide_it(f), DECIDE_ATTRIBUTED);
}

static void test_a_wild_received_at_waits_a_minute_past_the_append_and_no_longer(void **state)
{
    struct fixture *f = *state;
    f->call.received_at = NOW + 1000000 * SECOND;
    assert_int_equal(decide_it(f), DECIDE_WAIT);
    assert_int_equal(f->out.known_by, NOW + 61 * SECOND);
    f->config.watermark = NOW + 61 * SECOND;
    assert_int_equal(decide_it(f), DECIDE_UNTAGGED);
    assert_int_equal(dead_of(f).call.received_at, NOW + 1000000 * SECOND);
}

static void test_a_fact_recorded_after_the_call_does_not_exist_for_it(void **state)
{
    struct fixture *f = *state;
    add_tag(f, "account_id=late", TAG_ORIGIN_HEADER);
    fact(f, REGISTRY_ACCOUNT, "late", (struct registry_version){.recorded_at = NOW + 1});
    assert_int_equal(decide_it(f), DECIDE_UNKNOWN);
    fact(f, REGISTRY_ACCOUNT, "late", (struct registry_version){.recorded_at = NOW});
    assert_int_equal(decide_it(f), DECIDE_ATTRIBUTED);
}

static void test_an_untagged_call_is_parked_with_its_cost_and_its_bytes(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(decide_it(f), DECIDE_UNTAGGED);
    assert_string_equal(f->out.topic, "spend.dlq.untagged");
    assert_sv(f->out.key, CALL_ID);
    struct dead_letter dead = dead_of(f);
    assert_int_equal(dead.kind, DEAD_KIND_CALL);
    assert_sv(dead.reason, "untagged");
    assert_true(dead.has_call && dead.has_hash && dead.has_call_id && dead.raw_nanos.has);
    assert_int_equal(dead.raw_nanos.v, 700000);
    assert_int_equal(dead.price_version.v, 3);
    assert_int_equal(dead.first_seen, NOW + SECOND);
    assert_int_equal(dead.attempts, 1);
    assert_false(dead.estimated);
    assert_true(sv_eq(dead.original, buffer_view(&f->value)));
    f->call.quality = QUALITY_ESTIMATED;
    assert_int_equal(decide_it(f), DECIDE_UNTAGGED);
    assert_true(dead_of(f).estimated);
}

static void test_two_accounts_are_a_conflict(void **state)
{
    struct fixture *f = *state;
    add_tag(f, "account_id=acme", TAG_ORIGIN_HEADER);
    add_tag(f, "account_id=other", TAG_ORIGIN_ROOT);
    assert_int_equal(decide_it(f), DECIDE_CONFLICT);
    assert_string_equal(f->out.topic, "spend.dlq.conflict");
    assert_true(dead_of(f).detail.len > 0);
}

static void test_a_model_without_price_is_unpriced_and_never_free(void **state)
{
    struct fixture *f = *state;
    add_tag(f, "account_id=acme", TAG_ORIGIN_HEADER);
    f->call.model_replied = SV_LIT("no-such-model");
    f->call.model_requested = SV_NULL;
    assert_int_equal(decide_it(f), DECIDE_UNPRICED);
    assert_string_equal(f->out.topic, "spend.dlq.unpriced");
    assert_false(dead_of(f).raw_nanos.has);
}

static void test_a_cost_that_does_not_fit_is_unpriced(void **state)
{
    struct fixture *f = *state;
    add_tag(f, "account_id=acme", TAG_ORIGIN_HEADER);
    f->call.usage.units[USAGE_INPUT] = OPT_I64(INT64_MAX);
    assert_int_equal(decide_it(f), DECIDE_UNPRICED);
    struct dead_letter dead = dead_of(f);
    assert_false(dead.raw_nanos.has);
    assert_true(dead.detail.len > 0);
}

static void test_a_failed_call_without_usage_is_free(void **state)
{
    struct fixture *f = *state;
    add_tag(f, "account_id=acme", TAG_ORIGIN_HEADER);
    f->call.usage = (struct usage){0};
    f->call.outcome = OUTCOME_FAILED;
    assert_int_equal(decide_it(f), DECIDE_ATTRIBUTED);
    struct attributed_call a = attributed_of(f);
    assert_true(a.raw_nanos.has);
    assert_int_equal(a.raw_nanos.v, 0);
    assert_int_equal(a.rating, RATING_FREE);
    assert_false(a.price_version.has);
}

static void check_malformed(struct fixture *f, struct strview original)
{
    assert_string_equal(f->out.topic, "spend.dlq.malformed");
    assert_int_equal(f->out.known_by, 0);
    struct dead_letter dead = dead_of(f);
    assert_sv(dead.reason, "malformed");
    assert_false(dead.has_call || dead.has_hash || dead.has_call_id || dead.raw_nanos.has);
    assert_true(sv_eq(dead.original, original));
    assert_true(dead.detail.len > 0);
}

static void test_every_truncation_is_malformed_and_keeps_its_bytes(void **state)
{
    struct fixture *f = *state;
    add_tag(f, "account_id=acme", TAG_ORIGIN_HEADER);
    assert_int_equal(decide_it(f), DECIDE_ATTRIBUTED);
    struct strview whole = buffer_view(&f->value);
    for (size_t len = 0; len < whole.len; len++) {
        struct strview cut = sv_of_bytes(whole.ptr, len);
        assert_int_equal(decide_bytes(f, SV_LIT(CALL_ID), cut), DECIDE_MALFORMED);
        check_malformed(f, cut);
    }
}

static void test_a_flipped_bit_always_ends_somewhere(void **state)
{
    struct fixture *f = *state;
    add_tag(f, "account_id=acme", TAG_ORIGIN_HEADER);
    assert_int_equal(decide_it(f), DECIDE_ATTRIBUTED);
    for (size_t bit = 0; bit < 8 * f->value.len; bit++) {
        f->value.data[bit / 8] = (char)(f->value.data[bit / 8] ^ (1 << (bit % 8)));
        enum decide_verdict verdict = decide_bytes(f, SV_LIT(CALL_ID), buffer_view(&f->value));
        if (verdict == DECIDE_MALFORMED)
            check_malformed(f, buffer_view(&f->value));
        else if (verdict != DECIDE_WAIT)
            assert_true(f->out.value.len > 0);
        else /* only a later time makes a record wait */
            assert_true(f->out.known_by > f->config.watermark);
        f->value.data[bit / 8] = (char)(f->value.data[bit / 8] ^ (1 << (bit % 8)));
    }
}

static void test_no_value_and_the_future_are_malformed_and_another_key_is_not(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(decide_bytes(f, SV_LIT(CALL_ID), SV_NULL), DECIDE_MALFORMED);
    check_malformed(f, SV_LIT(""));
    assert_int_equal(decide_it(f), DECIDE_UNTAGGED);
    struct strview value = buffer_view(&f->value);
    assert_int_equal(decide_bytes(f, SV_NULL, value), DECIDE_UNTAGGED);
    assert_true(sv_is_null(f->out.key));
    assert_int_equal(decide_bytes(f, SV_LIT("mine"), value), DECIDE_UNTAGGED);
    assert_sv(f->out.key, "mine");
    f->call.admitted_at = NOW + 61 * SECOND + 1;
    assert_int_equal(decide_it(f), DECIDE_MALFORMED);
    f->call.admitted_at = NOW + 61 * SECOND;
    assert_int_equal(decide_it(f), DECIDE_WAIT);
}

static void test_an_overlong_original_is_cut_and_says_so(void **state)
{
    struct fixture *f = *state;
    size_t len = 900000;
    char *bytes = malloc(len);
    memset(bytes, 'x', len);
    assert_int_equal(decide_bytes(f, sv_of_bytes(bytes, len), sv_of_bytes(bytes, len)), DECIDE_MALFORMED);
    struct dead_letter dead = dead_of(f);
    assert_true(dead.original.len > 90000 && dead.original.len < LIMIT_DEAD_LETTER_BYTES);
    assert_memory_equal(dead.original.ptr, bytes, dead.original.len);
    assert_int_equal(f->out.left_out, len - dead.original.len);
    assert_int_equal(f->out.key.len, LIMIT_TEXT_BYTES);
    assert_non_null(memmem(dead.detail.ptr, dead.detail.len, "900000", 6));
    free(bytes);
}

/* A call as large as a checked one can be: its tags, texts and usage object all at their limits. */
static void fill(struct fixture *f, const char *account)
{
    static char text[LIMIT_TEXT_BYTES + 1];
    static char usage[LIMIT_PROVIDER_USAGE_BYTES + 1];
    memset(text, 't', LIMIT_TEXT_BYTES);
    memset(usage, 'u', LIMIT_PROVIDER_USAGE_BYTES);
    add_tag(f, account, 0x7f & ~(unsigned)TAG_ORIGIN_KEY);
    while (f->call.tag_count < LIMIT_TAGS) {
        char *raw = f->texts[f->call.tag_count];
        memset(raw, 'a', LIMIT_TAG_BYTES);
        raw[LIMIT_TAG_BYTES - 1] = (char)('0' + (int)f->call.tag_count);
        raw[128] = '=';
        add_tag(f, raw, 0x7f & ~(unsigned)TAG_ORIGIN_KEY);
    }
    f->call.source_id = f->call.instance = f->call.path = f->call.upstream = sv_of(text);
    f->call.user_agent = f->call.upstream_call_id = f->call.service_tier = sv_of(text);
    f->call.provider_usage = sv_of(usage);
    f->call.key_hash = SV_LIT(KEY_HASH);
}

static void bind_many_tags(struct fixture *f)
{
    static char raw[LIMIT_TAGS][LIMIT_TAG_BYTES + 1];
    static struct strview tags[LIMIT_TAGS];
    for (size_t i = 0; i < LIMIT_TAGS; i++) {
        memset(raw[i], 'k', LIMIT_TAG_BYTES);
        raw[i][LIMIT_TAG_BYTES - 1] = (char)('0' + (int)i);
        raw[i][128] = '=';
        tags[i] = sv_of(raw[i]);
    }
    fact(f, REGISTRY_KEY, KEY_HASH, (struct registry_version){.tags = tags, .tag_count = LIMIT_TAGS});
}

static void test_the_largest_call_fits_without_its_usage_object_and_key_tags(void **state)
{
    struct fixture *f = *state;
    fill(f, "account_id=acme");
    bind_many_tags(f);
    assert_int_equal(decide_it(f), DECIDE_ATTRIBUTED);
    struct attributed_call a = attributed_of(f);
    assert_int_equal(a.call.tag_count, LIMIT_TAGS);
    assert_int_equal(a.raw_nanos.v, 700000);
    assert_sv(a.call.provider_usage, "{\"spend_left_out_bytes\":8192}");
    assert_int_equal(f->out.left_out, LIMIT_PROVIDER_USAGE_BYTES + LIMIT_TAGS * LIMIT_TAG_BYTES);
    uint8_t hash[SHA256_LEN];
    struct sha256 *sha = sha256_new();
    spend_call_hash(&f->call, sha, hash);
    assert_memory_equal(a.hash, hash, sizeof hash);
    sha256_free(sha);
}

static void test_the_largest_dead_letter_fits_and_keeps_its_original(void **state)
{
    struct fixture *f = *state;
    fill(f, "nothing=here");
    bind_many_tags(f);
    assert_int_equal(decide_it(f), DECIDE_UNTAGGED);
    struct dead_letter dead = dead_of(f);
    assert_true(sv_eq(dead.original, buffer_view(&f->value)));
    assert_true(dead.has_call && dead.raw_nanos.has);
    assert_true(f->out.left_out >= LIMIT_PROVIDER_USAGE_BYTES);
}

static void test_every_verdict_has_a_name_and_every_dead_one_its_topic(void **state)
{
    (void)state;
    assert_string_equal(decide_verdict_name(DECIDE_WAIT), "wait");
    assert_string_equal(decide_verdict_name(DECIDE_ATTRIBUTED), "attributed");
    for (int v = DECIDE_UNTAGGED; v < DECIDE_VERDICTS; v++) {
        char topic[64];
        (void)snprintf(topic, sizeof topic, "spend.dlq.%s", decide_verdict_name((enum decide_verdict)v));
        assert_string_equal(topic, dead_reasons[v - DECIDE_UNTAGGED].topic);
    }
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_a_tagged_call_is_attributed_and_rated),
        WITH_FIXTURE(test_the_hash_is_of_the_record_and_not_of_the_key_tags_added),
        WITH_FIXTURE(test_a_call_waits_until_the_watermark_has_passed_its_time),
        WITH_FIXTURE(test_a_wild_received_at_waits_a_minute_past_the_append_and_no_longer),
        WITH_FIXTURE(test_a_fact_recorded_after_the_call_does_not_exist_for_it),
        WITH_FIXTURE(test_an_untagged_call_is_parked_with_its_cost_and_its_bytes),
        WITH_FIXTURE(test_two_accounts_are_a_conflict),
        WITH_FIXTURE(test_a_model_without_price_is_unpriced_and_never_free),
        WITH_FIXTURE(test_a_cost_that_does_not_fit_is_unpriced),
        WITH_FIXTURE(test_a_failed_call_without_usage_is_free),
        WITH_FIXTURE(test_every_truncation_is_malformed_and_keeps_its_bytes),
        WITH_FIXTURE(test_a_flipped_bit_always_ends_somewhere),
        WITH_FIXTURE(test_no_value_and_the_future_are_malformed_and_another_key_is_not),
        WITH_FIXTURE(test_an_overlong_original_is_cut_and_says_so),
        WITH_FIXTURE(test_the_largest_call_fits_without_its_usage_object_and_key_tags),
        WITH_FIXTURE(test_the_largest_dead_letter_fits_and_keeps_its_original),
        cmocka_unit_test(test_every_verdict_has_a_name_and_every_dead_one_its_topic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
