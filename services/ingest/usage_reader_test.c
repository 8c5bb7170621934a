#include "ingest/text_count.h"
#include "ingest/usage_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct arena scratch;

/* Feeds texts until NULL; "null" for a class without value. */
static void read_all(enum spend_operation operation, const char *const *texts, struct usage_reader *r,
                     struct usage *out)
{
    arena_init(&scratch, 1 << 20);
    usage_reader_init(r, operation, SV_NULL);
    for (; *texts != NULL; texts++)
        (void)usage_reader_feed(r, sv_of(*texts), &scratch);
    usage_reader_result(r, out);
    arena_free(&scratch);
}

static void check(enum spend_operation operation, const char *text, const int64_t wanted[USAGE_COUNT])
{
    const char *const texts[] = {text, NULL};
    struct usage_reader r;
    struct usage out;
    read_all(operation, texts, &r, &out);
    for (int c = 0; c < USAGE_COUNT; c++) {
        int64_t got = out.units[c].has ? out.units[c].v : -1;
        if (got != wanted[c])
            fail_msg("%s: %s is %lld, not %lld", text, usage_class_name((enum usage_class)c), (long long)got,
                     (long long)wanted[c]);
    }
    usage_reader_free(&r);
}

/* input, cache_read, cache_write_5m, cache_write_1h, output, reasoning, audio_in, audio_out, then nothing */
#define UNITS(a, b, c, d, e, f, g, h)                                                                        \
    ((const int64_t[USAGE_COUNT]){a, b, c, d, e, f, g, h, -1, -1, -1, -1, -1, -1})

static void test_chat_classes_are_disjoint(void **state)
{
    (void)state;
    check(OPERATION_CHAT,
          "{\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":45,\"total_tokens\":165,\"prompt_tokens_"
          "details\":"
          "{\"cached_tokens\":20,\"audio_tokens\":5},\"completion_tokens_details\":{\"reasoning_tokens\":10,"
          "\"audio_tokens\":3}}}",
          UNITS(95, 20, -1, -1, 32, 10, 5, 3));
}

static void test_a_name_with_a_dot_is_no_path(void **state)
{
    (void)state;
    check(OPERATION_CHAT, "{\"usage\":{\"prompt_tokens\":9,\"prompt_tokens_details.cached_tokens\":5}}",
          UNITS(9, -1, -1, -1, -1, -1, -1, -1));
}

static void test_missing_is_null_and_zero_is_zero(void **state)
{
    (void)state;
    check(OPERATION_CHAT, "{\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}",
          UNITS(0, -1, -1, -1, 0, -1, -1, -1));
    check(OPERATION_CHAT, "{\"usage\":{\"prompt_tokens\":7}}", UNITS(7, -1, -1, -1, -1, -1, -1, -1));
    check(OPERATION_CHAT,
          "{\"usage\":{\"prompt_tokens\":7,\"prompt_tokens_details\":null,\"completion_tokens_details\":{"
          "\"reasoning_tokens\":null}}}",
          UNITS(7, -1, -1, -1, -1, -1, -1, -1));
    check(OPERATION_CHAT, "{\"choices\":[]}", UNITS(-1, -1, -1, -1, -1, -1, -1, -1));
    check(OPERATION_CHAT, "{\"usage\":null}", UNITS(-1, -1, -1, -1, -1, -1, -1, -1));
}

static void test_cache_writes_that_litellm_adds_are_no_plain_input(void **state)
{
    (void)state;
    check(OPERATION_CHAT,
          "{\"usage\":{\"prompt_tokens\":630,\"completion_tokens\":50,\"total_tokens\":680,\"cache_creation_"
          "input_tokens\":30,"
          "\"cache_read_input_tokens\":500,\"prompt_tokens_details\":{\"cached_tokens\":500,\"cache_creation_"
          "tokens\":30}}}",
          UNITS(100, 500, 30, -1, 50, -1, -1, -1));
}

static void test_other_shapes_that_share_the_table(void **state)
{
    (void)state;
    check(OPERATION_RESPONSES,
          "{\"response\":{\"usage\":{\"input_tokens\":10,\"input_tokens_details\":{\"cached_tokens\":4},"
          "\"output_tokens\":6,"
          "\"output_tokens_details\":{\"reasoning_tokens\":1},\"total_tokens\":16}}}",
          UNITS(6, 4, -1, -1, 5, 1, -1, -1));
    check(OPERATION_EMBEDDINGS, "{\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}",
          UNITS(8, -1, -1, -1, -1, -1, -1, -1));
    check(OPERATION_OTHER, "{\"usage\":{\"prompt_tokens\":8}}", UNITS(-1, -1, -1, -1, -1, -1, -1, -1));
}

#define OTHER_UNITS(a, b, c, d, e, f)                                                                        \
    ((const int64_t[USAGE_COUNT]){a, -1, -1, -1, -1, -1, -1, -1, b, c, d, e, f, -1})

static void test_numbers_outside_a_usage_object(void **state)
{
    (void)state;
    check(OPERATION_IMAGE, "{\"created\":1,\"data\":[{\"url\":\"a\"},{\"b64_json\":\"AAAA\"}]}",
          OTHER_UNITS(-1, -1, -1, 2, -1, -1));
    check(OPERATION_IMAGE,
          "{\"data\":[{}],\"usage\":{\"input_tokens\":0,\"output_tokens\":0,\"total_tokens\":0}}",
          ((const int64_t[USAGE_COUNT]){0, -1, -1, -1, 0, -1, -1, -1, -1, -1, 1, -1, -1, -1}));
    check(OPERATION_TRANSCRIPTION, "{\"text\":\"hi\",\"duration\":7.2345}",
          OTHER_UNITS(-1, -1, -1, -1, -1, 7234));
    check(OPERATION_TRANSCRIPTION, "{\"usage\":{\"type\":\"duration\",\"seconds\":8}}",
          OTHER_UNITS(-1, -1, -1, -1, -1, 8000));
    check(OPERATION_TRANSCRIPTION, "{\"duration\":-7}", OTHER_UNITS(-1, -1, -1, -1, -1, -1));
    check(OPERATION_TRANSCRIPTION, "{\"duration\":\"english\"}", OTHER_UNITS(-1, -1, -1, -1, -1, -1));
    check(OPERATION_RERANK,
          "{\"results\":[{\"index\":0}],\"meta\":{\"api_version\":{\"version\":\"2\"},\"billed_units\":"
          "{\"search_units\":1.0}}}",
          ((const int64_t[USAGE_COUNT]){-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1}));
    check(OPERATION_CHAT, "{\"data\":[1,2],\"duration\":5,\"meta\":{\"billed_units\":{\"search_units\":1}}}",
          UNITS(-1, -1, -1, -1, -1, -1, -1, -1));
}

static const char start[] =
    "{\"type\":\"message_start\",\"message\":{\"model\":\"claude\",\"usage\":{\"input_tokens\":100,\"cache_"
    "creation_input_tokens\":30,\"cache_read_input_tokens\":500,\"output_tokens\":1,\"service_tier\":"
    "\"batch\",\"cache_creation\":{\"ephemeral_5m_input_tokens\":30,\"ephemeral_1h_input_tokens\":0}}}}";
#define TEXT "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}"
#define DELTA                                                                                                \
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":40}}"
#define STOP "{\"type\":\"message_stop\"}"

static void test_messages_are_read_from_their_first_event_to_their_last(void **state)
{
    (void)state;
    const char *const texts[] = {start, TEXT, DELTA, STOP, NULL};
    struct usage_reader r;
    struct usage out;
    read_all(OPERATION_MESSAGES, texts, &r, &out);
    assert_int_equal(out.units[USAGE_INPUT].v, 100);
    assert_int_equal(out.units[USAGE_CACHE_READ].v, 500);
    assert_int_equal(out.units[USAGE_CACHE_WRITE_5M].v, 30);
    assert_int_equal(out.units[USAGE_CACHE_WRITE_1H].v, 0);
    assert_int_equal(out.units[USAGE_OUTPUT].v, 40);
    assert_false(r.output_is_first);
    assert_int_equal(r.text_bytes, 5);
    assert_true(sv_eq(r.model, SV_LIT("claude")));
    assert_true(sv_eq(r.service_tier, SV_LIT("batch")));
    usage_reader_free(&r);
    const char *const cut_within[] = {
        start, TEXT, "{\"type\":\"message_delta\",\"usage\":{\"output_tokens\":4000,\"x", NULL};
    read_all(OPERATION_MESSAGES, cut_within, &r, &out);
    assert_int_equal(out.units[USAGE_OUTPUT].v, 1);
    assert_true(r.output_is_first && r.has_usage && !r.output_unreadable);
    usage_reader_free(&r);
    const char *const zeros[] = {
        "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}", TEXT,
        NULL};
    read_all(OPERATION_MESSAGES, zeros, &r, &out);
    assert_false(r.has_usage);
    usage_reader_free(&r);
    const char *const cut[] = {start, TEXT, NULL};
    read_all(OPERATION_MESSAGES, cut, &r, &out);
    assert_int_equal(out.units[USAGE_OUTPUT].v, 1);
    assert_true(r.output_is_first);
    usage_reader_free(&r);
}

static void test_the_last_event_of_a_stream_without_done(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool last;
    } rows[] = {{STOP, true},
                {DELTA, false},
                {"{\"type\":\"response.completed\",\"response\":{\"usage\":null}}", true},
                {"{\"type\":\"response.incomplete\"}", true},
                {"{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"x\"}}}", true},
                {"{\"type\":\"response.created\"}", false},
                {"{\"type\":7}", false},
                {"{\"response\":{\"type\":\"message_stop\"}}", false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct usage_reader r;
        arena_init(&scratch, 1 << 20);
        usage_reader_init(&r, OPERATION_RESPONSES, SV_NULL);
        assert_int_equal(usage_reader_feed(&r, sv_of(rows[i].text), &scratch).last, rows[i].last);
        assert_int_equal(r.has_error, i == 4);
        arena_free(&scratch);
        usage_reader_free(&r);
    }
}

static void test_characters_are_counted_as_litellm_does(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int64_t count;
    } rows[] = {{"", 0},
                {"hello there", 10},
                {"caf\xc3\xa9", 4},
                {"\xe6\x97\xa5\xe6\x9c\xac", 2},
                {"\xf0\x9f\x98\x80", 1},
                {"a\xc2\xa0"
                 "b\xe2\x80\x83"
                 "c\xe3\x80\x80"
                 "d\xc2\x85",
                 4},
                {"\xe2\x80\x8b", 1}, /* a zero-width space is none */
                {" \\t\\n\\r\\f\\u000b\\u001c\\u00a0\\u3000", 0},
                {"\\\"\\\\\\/\\b", 4},
                {"\\u0041\\u00e9\\u20ac\\ud83d\\ude00", 4},
                {"a\\u0000b", 3}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct json_value string = {.kind = JSON_KIND_STRING, .raw = sv_of(rows[i].json)};
        assert_int_equal(text_characters(&string), rows[i].count);
    }
}

static void test_numbers_that_are_none_stay_null(void **state)
{
    (void)state;
    check(OPERATION_CHAT,
          "{\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":1.5,\"total_tokens\":\"3\"}}",
          UNITS(-1, -1, -1, -1, -1, -1, -1, -1));
    check(OPERATION_CHAT, "{\"usage\":{\"prompt_tokens\":99999999999999999999,\"completion_tokens\":5}}",
          UNITS(-1, -1, -1, -1, 5, -1, -1, -1));
}

static void test_whole_numbers_written_as_decimals_are_read(void **state)
{
    (void)state;
    check(OPERATION_CHAT, "{\"usage\":{\"prompt_tokens\":120.0,\"completion_tokens\":500.000}}",
          UNITS(120, -1, -1, -1, 500, -1, -1, -1));
}

static void test_a_total_that_cannot_be_read_is_noted_until_one_can(void **state)
{
    (void)state;
    const char *const texts[] = {"{\"usage\":{\"prompt_tokens\":\"7\",\"completion_tokens\":5}}", NULL};
    const char *const more[] = {"{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}",
                                "{\"usage\":{\"prompt_tokens\":null,\"completion_tokens\":5e2}}", NULL};
    struct usage_reader r;
    struct usage out;
    read_all(OPERATION_CHAT, texts, &r, &out);
    assert_true(r.input_unreadable && !r.output_unreadable);
    usage_reader_free(&r);
    read_all(OPERATION_CHAT, more, &r, &out);
    assert_true(!r.input_unreadable && r.output_unreadable);
    assert_int_equal(out.units[USAGE_INPUT].v, 7);
    assert_false(out.units[USAGE_OUTPUT].has);
    usage_reader_free(&r);
}

static void test_a_usage_object_that_was_cut_tells_nothing(void **state)
{
    (void)state;
    const char *const texts[] = {"{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":50",
                                 "{\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5}", NULL};
    const char *const cut[] = {texts[0], NULL};
    struct usage_reader r;
    struct usage out;
    read_all(OPERATION_CHAT, cut, &r, &out);
    assert_false(r.has_usage || out.units[USAGE_INPUT].has || out.units[USAGE_OUTPUT].has);
    usage_reader_free(&r);
    read_all(OPERATION_CHAT, texts, &r, &out);
    assert_true(r.has_usage);
    assert_int_equal(out.units[USAGE_INPUT].v, 9);
    usage_reader_free(&r);
}

/* Providers write what Python's reader takes, and relays cut strings between the bytes of a character. */
static void test_nothing_before_the_usage_object_hides_it(void **state)
{
    (void)state;
    static char deep[1024];
    static char too_deep[2048];
    memset(deep, '[', 300);
    memset(deep + 300, ']', 300);
    memset(too_deep, '[', 2000);
    const char *const before[] = {"\"\\ud800\"", "NaN", "-Infinity", "\"\xff\xc3\"", deep};
    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
        char text[2048];
        (void)snprintf(
            text, sizeof text,
            "{\"x\":%s,\"model\":\"m\xff\",\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}",
            before[i]);
        const char *const texts[] = {text, NULL};
        struct usage_reader r;
        struct usage out;
        read_all(OPERATION_CHAT, texts, &r, &out);
        if (!r.has_usage || out.units[USAGE_INPUT].v != 7 || out.units[USAGE_OUTPUT].v != 5)
            fail_msg("the usage behind %.20s is not read", before[i]);
        assert_true(sv_eq(r.model, SV_LIT("m")));
        usage_reader_free(&r);
    }
    const char *const texts[] = {too_deep, NULL};
    struct usage_reader r;
    struct usage out;
    read_all(OPERATION_CHAT, texts, &r, &out);
    assert_false(r.has_usage);
    usage_reader_free(&r);
}

static void test_a_usage_object_that_is_no_text_is_read_but_not_kept(void **state)
{
    (void)state;
    const char *const texts[] = {"{\"usage\":{\"prompt_tokens\":7,\"note\":\"\xff\"}}", NULL};
    struct usage_reader r;
    struct usage out;
    read_all(OPERATION_CHAT, texts, &r, &out);
    assert_int_equal(out.units[USAGE_INPUT].v, 7);
    assert_null(r.provider_usage);
    usage_reader_free(&r);
}

static void test_an_empty_name_does_not_replace_the_one_before(void **state)
{
    (void)state;
    const char *const texts[] = {"{\"model\":\"gpt\",\"service_tier\":\"flex\"}",
                                 "{\"model\":\"\",\"service_tier\":\"\\n\"}", NULL};
    struct usage_reader r;
    struct usage out;
    read_all(OPERATION_CHAT, texts, &r, &out);
    assert_true(sv_eq(r.model, SV_LIT("gpt")));
    assert_true(sv_eq(r.service_tier, SV_LIT("flex")));
    usage_reader_free(&r);
}

static void test_sums_that_do_not_agree_are_seen_and_the_numbers_kept(void **state)
{
    (void)state;
    static const struct {
        int64_t in, out, total, cached;
        bool mismatch;
        int64_t input;
    } rows[] = {{10, 5, 15, 4, false, 6},
                {10, 5, 16, 4, true, 6},
                {10, 5, 15, 11, true, 0},
                {10, 5, 15, 10, false, 0}};
    struct usage_table table = usage_map(OPERATION_CHAT, SV_NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct opt_i64 value[USAGE_ROWS_MAX] = {0};
        for (size_t k = 0; k < table.count; k++) {
            if (table.row[k].role == USAGE_ROLE_IN_TOTAL)
                value[k] = OPT_I64(rows[i].in);
            if (table.row[k].role == USAGE_ROLE_OUT_TOTAL)
                value[k] = OPT_I64(rows[i].out);
            if (table.row[k].role == USAGE_ROLE_TOTAL)
                value[k] = OPT_I64(rows[i].total);
            if (table.row[k].class == USAGE_CACHE_READ)
                value[k] = OPT_I64(rows[i].cached);
        }
        struct usage out;
        bool mismatch = false;
        usage_resolve(&table, value, &out, &mismatch);
        assert_int_equal(mismatch, rows[i].mismatch);
        assert_int_equal(out.units[USAGE_INPUT].v, rows[i].input);
        assert_int_equal(out.units[USAGE_CACHE_READ].v, rows[i].cached);
        assert_int_equal(out.units[USAGE_OUTPUT].v, 5);
    }
}

static void test_cumulative_numbers_overwrite_and_never_add(void **state)
{
    (void)state;
    const char *const texts[] = {
        "{\"model\":\"a\",\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}",
        "{\"usage\":{\"completion_tokens\":4}}",
        "{\"model\":\"b\",\"service_tier\":\"flex\",\"usage\":{\"completion_tokens\":9}}", NULL};
    struct usage_reader r;
    struct usage out;
    read_all(OPERATION_CHAT, texts, &r, &out);
    assert_int_equal(out.units[USAGE_INPUT].v, 5);
    assert_int_equal(out.units[USAGE_OUTPUT].v, 9);
    assert_true(sv_eq(r.model, SV_LIT("b")));
    assert_true(sv_eq(r.service_tier, SV_LIT("flex")));
    assert_true(
        sv_eq((struct strview){r.provider_usage, r.provider_usage_len}, SV_LIT("{\"completion_tokens\":9}")));
    usage_reader_free(&r);
}

static void test_the_providers_object_is_kept_as_it_came_up_to_its_limit(void **state)
{
    (void)state;
    static char text[LIMIT_PROVIDER_USAGE_BYTES + 64];
    for (int over = 0; over <= 1; over++) {
        size_t usage = LIMIT_PROVIDER_USAGE_BYTES + (size_t)over;
        int at = snprintf(text, sizeof text, "{\"usage\":");
        memset(text + at, ' ', usage);
        memcpy(text + at, "{\"prompt_tokens\":1", 18);
        text[(size_t)at + usage - 1] = '}';
        text[(size_t)at + usage] = '}';
        text[(size_t)at + usage + 1] = '\0';
        const char *const texts[] = {text, NULL};
        struct usage_reader r;
        struct usage out;
        read_all(OPERATION_CHAT, texts, &r, &out);
        assert_int_equal(out.units[USAGE_INPUT].v, 1);
        assert_int_equal(r.provider_usage == NULL, over == 1);
        usage_reader_free(&r);
    }
}

static void test_names_end_at_the_first_control_character(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        struct strview model;
    } rows[] = {{"{\"model\":\"a\\u0001b\"}", SV_INIT("a")},
                {"{\"model\":\"a\\tb\\u007f\"}", SV_INIT("a")},
                {"{\"model\":\"\\u00e9\\u0085b\"}", SV_INIT("\xc3\xa9")},
                {"{\"model\":\"\\n\"}", {NULL, 0}}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *const texts[] = {rows[i].text, NULL};
        struct usage_reader r;
        struct usage out;
        read_all(OPERATION_CHAT, texts, &r, &out);
        assert_true(sv_eq(r.model, rows[i].model));
        usage_reader_free(&r);
    }
}

static void test_text_is_counted_in_utf8_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } rows[] = {{"{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"abc\"}}]}", 3},
                {"{\"choices\":[{\"delta\":{\"content\":\"\\n\\u0041\\u00e9\\u20ac\\ud83d\\ude00\\\"\"}}]}",
                 1 + 1 + 2 + 3 + 4 + 1},
                {"{\"choices\":[{\"message\":{\"content\":\"caf\xc3\xa9\",\"tool_calls\":[{\"id\":\"x\","
                 "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}",
                 7},
                {"{\"choices\":[{\"delta\":{\"reasoning_content\":\"ab\",\"content\":null}}]}", 2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *const texts[] = {rows[i].text, NULL};
        struct usage_reader r;
        struct usage out;
        read_all(OPERATION_CHAT, texts, &r, &out);
        assert_int_equal(r.text_bytes, rows[i].bytes);
        usage_reader_free(&r);
    }
    assert_int_equal(text_tokens(0), 0);
    assert_int_equal(text_tokens(1), 1);
    assert_int_equal(text_tokens(4), 1);
    assert_int_equal(text_tokens(5), 2);
}

static void test_an_error_in_the_stream_is_seen(void **state)
{
    (void)state;
    const char *const texts[] = {"{\"error\":{\"message\":\"no\"}}", NULL};
    const char *const fine[] = {"{\"error\":null,\"choices\":[]}", NULL};
    struct usage_reader r;
    struct usage out;
    read_all(OPERATION_CHAT, texts, &r, &out);
    assert_true(r.has_error);
    read_all(OPERATION_CHAT, fine, &r, &out);
    assert_false(r.has_error);
}

static void test_broken_json_is_said_to_be(void **state)
{
    (void)state;
    struct usage_reader r;
    arena_init(&scratch, 1 << 20);
    usage_reader_init(&r, OPERATION_CHAT, SV_NULL);
    assert_false(usage_reader_feed(&r, SV_LIT("{\"usage\":{\"prompt_tokens\":1}"), &scratch).parsed);
    assert_false(usage_reader_feed(&r, SV_LIT(""), &scratch).parsed);
    assert_true(usage_reader_feed(&r, SV_LIT("[1]"), &scratch).parsed);
    arena_free(&scratch);
    usage_reader_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_classes_are_disjoint),
        cmocka_unit_test(test_a_name_with_a_dot_is_no_path),
        cmocka_unit_test(test_missing_is_null_and_zero_is_zero),
        cmocka_unit_test(test_cache_writes_that_litellm_adds_are_no_plain_input),
        cmocka_unit_test(test_other_shapes_that_share_the_table),
        cmocka_unit_test(test_numbers_outside_a_usage_object),
        cmocka_unit_test(test_messages_are_read_from_their_first_event_to_their_last),
        cmocka_unit_test(test_the_last_event_of_a_stream_without_done),
        cmocka_unit_test(test_characters_are_counted_as_litellm_does),
        cmocka_unit_test(test_numbers_that_are_none_stay_null),
        cmocka_unit_test(test_whole_numbers_written_as_decimals_are_read),
        cmocka_unit_test(test_a_total_that_cannot_be_read_is_noted_until_one_can),
        cmocka_unit_test(test_a_usage_object_that_was_cut_tells_nothing),
        cmocka_unit_test(test_nothing_before_the_usage_object_hides_it),
        cmocka_unit_test(test_a_usage_object_that_is_no_text_is_read_but_not_kept),
        cmocka_unit_test(test_an_empty_name_does_not_replace_the_one_before),
        cmocka_unit_test(test_sums_that_do_not_agree_are_seen_and_the_numbers_kept),
        cmocka_unit_test(test_cumulative_numbers_overwrite_and_never_add),
        cmocka_unit_test(test_the_providers_object_is_kept_as_it_came_up_to_its_limit),
        cmocka_unit_test(test_names_end_at_the_first_control_character),
        cmocka_unit_test(test_text_is_counted_in_utf8_bytes),
        cmocka_unit_test(test_an_error_in_the_stream_is_seen),
        cmocka_unit_test(test_broken_json_is_said_to_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
