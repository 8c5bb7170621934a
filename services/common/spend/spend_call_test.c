/*
 * spend_call: the words against the schema's order, the hash against a layout written out by hand, the check
 * field by field.
 */
#include "spend/spend_call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "spend/tag_set.h"

#define AT 1790000000000001LL

static struct tag tags[2 * LIMIT_TAGS + 1];

static void put_tag(size_t i, const char *raw, unsigned origins)
{
    tags[i] = (struct tag){.raw = sv_of(raw), .origins = origins};
    tag_split(tags[i].raw, &tags[i].key, &tags[i].value);
}

static struct spend_call call_of(void)
{
    put_tag(0, "task=2", TAG_ORIGIN_HEADER);
    put_tag(1, "account_id=acme", TAG_ORIGIN_ROOT | TAG_ORIGIN_KEY);
    put_tag(2, "team:red", TAG_ORIGIN_KEY);
    struct spend_call call = {
        .source = SOURCE_GATEWAY,
        .admitted_at = AT,
        .received_at = AT,
        .operation = OPERATION_CHAT,
        .path = SV_LIT("/v1/chat/completions"),
        .upstream = SV_LIT("proxy:4000"),
        .model_requested = SV_LIT("gpt-4o"),
        .model_replied = SV_LIT("gpt-4o-2024-08-06"),
        .tags = tags,
        .tag_count = 3,
        .key_hash = SV_LIT("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        .outcome = OUTCOME_COMPLETED,
        .quality = QUALITY_FINAL,
    };
    call.usage.units[USAGE_INPUT] = OPT_I64(120);
    call.usage.units[USAGE_OUTPUT] = OPT_I64(0);
    return call;
}

static void hash_of(const struct spend_call *call, uint8_t out[SHA256_LEN])
{
    struct sha256 *sha = sha256_new();
    spend_call_hash(call, sha, out);
    sha256_free(sha);
}

static void add_text(struct buffer *b, const char *text)
{
    uint8_t len[4] = {0, 0, 0, (uint8_t)strlen(text)};
    assert_true(buffer_append(b, len, 4) && buffer_append(b, text, strlen(text)));
}

static void add_null(struct buffer *b)
{
    assert_true(buffer_append(b, "\xff\xff\xff\xff", 4));
}

static void add_long(struct buffer *b, int64_t n)
{
    uint8_t bytes[9] = {1};
    for (int i = 8; i > 0; i--) {
        bytes[i] = (uint8_t)(n & 0xff);
        n >>= 8;
    }
    assert_true(buffer_append(b, bytes, 9));
}

static void add_no_long(struct buffer *b)
{
    assert_true(buffer_append(b, "\0\0\0\0\0\0\0\0\0", 9));
}

static void test_hash_covers_exactly_the_documented_layout(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 4096);
    add_text(&b, "spend.call/1");
    add_text(&b, "gateway");
    add_null(&b); /* source_id */
    add_long(&b, AT);
    add_text(&b, "chat");
    add_text(&b, "gpt-4o");
    add_text(&b, "gpt-4o-2024-08-06");
    add_null(&b); /* provider */
    add_null(&b); /* service_tier */
    add_text(&b, "completed");
    add_text(&b, "final");
    for (int c = 0; c < USAGE_COUNT; c++) {
        if (c == USAGE_INPUT || c == USAGE_OUTPUT)
            add_long(&b, c == USAGE_INPUT ? 120 : 0);
        else
            add_no_long(&b);
    }
    add_no_long(&b); /* reported_cost_nanos */
    add_text(&b, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    add_long(&b, 2);
    add_text(&b, "account_id=acme");
    add_text(&b, "task=2");
    uint8_t expected[SHA256_LEN];
    sha256_of(buffer_view(&b), expected);
    buffer_free(&b);

    uint8_t hash[SHA256_LEN];
    struct spend_call call = call_of();
    hash_of(&call, hash);
    assert_memory_equal(hash, expected, SHA256_LEN);
    char hex[SHA256_HEX_LEN + 1];
    sha256_to_hex(hash, SHA256_LEN, hex);
    assert_string_equal(
        hex, "85e1afb827d35f32449ac6a3705e03a8951583644c304d46e0b60dc989ca6ac9"); /* docs/records.md */
}

/* Every field, changed alone: does the hash move? */
static void test_hash_moves_with_what_is_said_and_with_nothing_else(void **state)
{
    (void)state;
    uint8_t before[SHA256_LEN];
    uint8_t after[SHA256_LEN];
    struct spend_call call = call_of();
    hash_of(&call, before);

#define MOVES(change, expected)                                                                              \
    do {                                                                                                     \
        call = call_of();                                                                                    \
        change;                                                                                              \
        hash_of(&call, after);                                                                               \
        if ((memcmp(before, after, SHA256_LEN) != 0) != (expected))                                          \
            fail_msg("%s", #change);                                                                         \
    } while (0)
    MOVES(call.source = SOURCE_EVENTS_API, true);
    MOVES(call.source_id = SV_LIT(""), true); /* empty is not null */
    MOVES(call.admitted_at++, true);
    MOVES(call.operation = OPERATION_OTHER, true);
    MOVES(call.model_requested = SV_NULL, true);
    MOVES(call.model_replied = SV_LIT("x"), true);
    MOVES(call.provider = SV_LIT("openai"), true);
    MOVES(call.service_tier = SV_LIT("flex"), true);
    MOVES(call.outcome = OUTCOME_ABORTED, true);
    MOVES(call.quality = QUALITY_PARTIAL, true);
    for (int c = 0; c < USAGE_COUNT; c++)
        MOVES(call.usage.units[c] = OPT_I64(7), true);
    MOVES(call.usage.units[USAGE_OUTPUT].has = false, true); /* zero is not null */
    MOVES(call.usage.units[USAGE_CACHE_READ].v = 9, false);  /* null, whatever stands behind it */
    MOVES(call.reported_cost_nanos = OPT_I64(-1), true);
    MOVES(call.key_hash = SV_NULL, true);
    MOVES(call.tag_count = 1, true);
    MOVES(put_tag(0, "task=3", TAG_ORIGIN_HEADER), true);
    MOVES(put_tag(0, "task=2", TAG_ORIGIN_ROOT), false);
    MOVES(put_tag(2, "team:blue", TAG_ORIGIN_KEY), false);
    MOVES(call.tag_count = 2, false);
    MOVES(put_tag(2, "team:red", TAG_ORIGIN_KEY | TAG_ORIGIN_USER), true);
    MOVES((put_tag(1, "task=2", 1), put_tag(0, "account_id=acme", 1)), false);
    MOVES(call.received_at++, false);
    MOVES(call.finished_at = OPT_I64(AT), false);
    MOVES(call.instance = SV_LIT("i"), false);
    MOVES(call.boot = OPT_I64(2), false);
    MOVES(call.seq = OPT_I64(2), false);
    MOVES(call.call_id.byte[0] = 1, false);
    MOVES(call.path = SV_LIT("/x"), false);
    MOVES(call.upstream = SV_LIT("x"), false);
    MOVES(call.stream = true, false);
    MOVES(call.user_agent = SV_LIT("x"), false);
    MOVES(call.gate = GATE_HELD, false);
    MOVES(call.upstream_call_id = SV_LIT("x"), false);
    MOVES(call.upstream_status = OPT_I64(200), false);
    MOVES(call.provider_usage = SV_LIT("{}"), false);
    MOVES(call.ttfb_us = OPT_I64(1), false);
    MOVES(call.duration_us = OPT_I64(1), false);
    MOVES(call.request_bytes = 1, false);
    MOVES(call.reply_bytes = 1, false);
    MOVES(call.dispute = SV_LIT("x"), false);
    MOVES(call.variant = SV_LIT("x"), true);
#undef MOVES
}

static void test_hash_knows_no_order_of_tags(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "aa", "b", "a=1", "", "\xc3\xa9", "B", "a:1"};
    uint8_t first[SHA256_LEN];
    uint8_t hash[SHA256_LEN];
    struct spend_call call = call_of();
    uint32_t seed = 7;
    call.tag_count = 8;
    for (int round = 0; round < 500; round++) {
        size_t order[8] = {0};
        for (size_t i = 0; i < 8; i++) {
            seed = seed * 1664525 + 1013904223;
            size_t at = (seed >> 16) % (i + 1);
            order[i] = order[at];
            order[at] = i;
        }
        for (size_t i = 0; i < 8; i++)
            put_tag(i, names[round == 0 ? i : order[i]], TAG_ORIGIN_ROOT);
        hash_of(&call, hash);
        if (round == 0)
            memcpy(first, hash, sizeof first);
        assert_memory_equal(hash, first, SHA256_LEN);
    }
}

static void assert_refused(const struct spend_call *call, const char *field)
{
    struct err err = {0};
    if (spend_call_check(call, &err))
        fail_msg("%s was let in", field);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    if (strstr(err.text, field) == NULL)
        fail_msg("\"%s\" does not name %s", err.text, field);
}

static void assert_accepted(const struct spend_call *call)
{
    struct err err = {0};
    if (!spend_call_check(call, &err))
        fail_msg("%s", err.text);
}

static void test_check_refuses_negative_numbers(void **state)
{
    (void)state;
    struct spend_call call = call_of();
    assert_accepted(&call);
#define REFUSES(member, name)                                                                                \
    do {                                                                                                     \
        call = call_of();                                                                                    \
        call.member = OPT_I64(-1);                                                                           \
        assert_refused(&call, name);                                                                         \
        call.member = OPT_I64(0);                                                                            \
        assert_accepted(&call);                                                                              \
    } while (0)
    REFUSES(boot, "boot");
    REFUSES(seq, "seq");
    REFUSES(upstream_status, "upstream_status");
    REFUSES(upstream_retries, "upstream_retries");
    REFUSES(upstream_fallbacks, "upstream_fallbacks");
    REFUSES(ttfb_us, "ttfb_us");
    REFUSES(duration_us, "duration_us");
    for (int c = 0; c < USAGE_COUNT; c++)
        REFUSES(usage.units[c], usage_class_name((enum usage_class)c));
#undef REFUSES
    call = call_of();
    call.request_bytes = -1;
    assert_refused(&call, "request_bytes");
    call = call_of();
    call.reply_bytes = INT64_MIN;
    assert_refused(&call, "reply_bytes");
    call = call_of();
    call.reported_cost_nanos = OPT_I64(-1); /* what a proxy claims is compared, never billed */
    assert_accepted(&call);
}

static void test_check_refuses_times_out_of_this_world(void **state)
{
    (void)state;
    struct spend_call call = call_of();
    call.admitted_at = 1577836799999999;
    assert_refused(&call, "admitted_at");
    call.admitted_at = 1577836800000000;
    assert_accepted(&call);
    call.admitted_at = INT64_MAX;
    assert_refused(&call, "admitted_at");
    call = call_of();
    call.received_at = -1;
    assert_refused(&call, "received_at");
    call.received_at = INT64_MAX;
    assert_refused(&call, "received_at");
    call = call_of();
    call.finished_at = OPT_I64(-1);
    assert_refused(&call, "finished_at");
    call.finished_at = OPT_I64(INT64_MAX);
    assert_refused(&call, "finished_at");
}

static void test_check_refuses_texts_no_table_can_hold(void **state)
{
    (void)state;
    char longest[LIMIT_PROVIDER_USAGE_BYTES + 1];
    memset(longest, 'x', sizeof longest);
    struct spend_call call;
#define REFUSES(member)                                                                                      \
    do {                                                                                                     \
        call = call_of();                                                                                    \
        call.member = sv_of_bytes(longest, LIMIT_TEXT_BYTES);                                                \
        assert_accepted(&call);                                                                              \
        call.member = sv_of_bytes(longest, LIMIT_TEXT_BYTES + 1);                                            \
        assert_refused(&call, #member);                                                                      \
        call.member = SV_LIT("\xff");                                                                        \
        assert_refused(&call, #member);                                                                      \
        call.member = SV_LIT("a\0b");                                                                        \
        assert_refused(&call, #member);                                                                      \
    } while (0)
    REFUSES(source_id);
    REFUSES(instance);
    REFUSES(path);
    REFUSES(upstream);
    REFUSES(model_requested);
    REFUSES(model_replied);
    REFUSES(provider);
    REFUSES(service_tier);
    REFUSES(user_agent);
    REFUSES(upstream_call_id);
    REFUSES(dispute);
    REFUSES(variant);
#undef REFUSES
    call = call_of();
    call.provider_usage = SV_LIT("{\n}");
    assert_accepted(&call);
    call.provider_usage = sv_of_bytes(longest, LIMIT_PROVIDER_USAGE_BYTES + 1);
    assert_refused(&call, "provider_usage");
    call.provider_usage = SV_LIT("{\0}");
    assert_refused(&call, "provider_usage");
    call.provider_usage = SV_LIT("\xc3");
    assert_refused(&call, "provider_usage");
}

static void test_check_refuses_what_is_no_key_hash(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "sk-123",
                                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
                                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8555",
                                        "g3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"};
    struct spend_call call = call_of();
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        call.key_hash = sv_of(wrong[i]);
        assert_refused(&call, "key_hash");
    }
    call.key_hash = SV_NULL;
    assert_accepted(&call);
}

static void test_check_refuses_tags_no_tag_set_makes(void **state)
{
    (void)state;
    char longest[LIMIT_TAG_BYTES + 2];
    memset(longest, 'x', sizeof longest);
    longest[LIMIT_TAG_BYTES + 1] = '\0';
    const char *wrong[] = {"", NULL, longest, "a\nb", "\xff"};
    struct spend_call call;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        call = call_of();
        put_tag(0, wrong[i], TAG_ORIGIN_ROOT);
        assert_refused(&call, "tags");
    }
    longest[LIMIT_TAG_BYTES] = '\0';
    put_tag(0, longest, TAG_ORIGIN_ROOT);
    assert_accepted(&call);
    tags[0].key = SV_LIT("account_id"); /* a key the bytes do not say */
    assert_refused(&call, "tags");
    call = call_of();
    tags[0].value = SV_LIT("other");
    assert_refused(&call, "tags");
}

static void test_check_counts_own_tags_apart_from_the_keys(void **state)
{
    (void)state;
    struct spend_call call = call_of();
    for (size_t i = 0; i < 2 * LIMIT_TAGS + 1; i++)
        put_tag(i, "t", i < LIMIT_TAGS ? TAG_ORIGIN_ROOT : TAG_ORIGIN_KEY);
    call.tag_count = (size_t)2 * LIMIT_TAGS;
    assert_accepted(&call);
    uint8_t hash[SHA256_LEN];
    hash_of(&call, hash);
    call.tag_count++;
    assert_refused(&call, "tags");
    call.tag_count = LIMIT_TAGS + 1;
    tags[LIMIT_TAGS].origins = TAG_ORIGIN_ROOT | TAG_ORIGIN_KEY;
    assert_refused(&call, "tags");
}

static void test_words_are_the_schemas(void **state)
{
    (void)state;
    static const char *const words[] = {"chat",          "completion", "responses", "messages",
                                        "embeddings",    "rerank",     "image",     "speech",
                                        "transcription", "batch",      "fine_tune", "other"};
    static const char *const origins[] = {"header", "root", "metadata", "litellm_metadata",
                                          "user",   "key",  "event"};
    enum spend_operation operation;
    unsigned bit;
    for (int i = 0; i < OPERATION_COUNT; i++) {
        assert_string_equal(spend_operation_name((enum spend_operation)i), words[i]);
        assert_true(spend_operation_parse(sv_of(words[i]), &operation));
        assert_int_equal(operation, i);
    }
    for (unsigned i = 0; i < TAG_ORIGIN_COUNT; i++) {
        assert_string_equal(tag_origin_name(1U << i), origins[i]);
        assert_true(tag_origin_parse(sv_of(origins[i]), &bit));
        assert_int_equal(bit, 1U << i);
    }
    assert_false(spend_operation_parse(SV_LIT("Chat"), &operation));
    assert_false(spend_operation_parse(SV_NULL, &operation));
    assert_false(tag_origin_parse(SV_LIT(""), &bit));
    assert_string_equal(spend_source_name(SOURCE_PROXY_LOG), "proxy_log");
    assert_string_equal(spend_source_name(SOURCE_EVENTS_API), "events_api");
    assert_string_equal(spend_outcome_name(OUTCOME_REJECTED), "rejected");
    assert_string_equal(spend_outcome_name(OUTCOME_UNKNOWN), "unknown");
    assert_string_equal(spend_quality_name(QUALITY_ESTIMATED), "estimated");
    assert_string_equal(spend_gate_name(GATE_OFF), "off");
    assert_string_equal(spend_gate_name(GATE_FORCED), "forced");
    assert_string_equal(usage_class_name(USAGE_CACHE_WRITE_1H), "cache_write_1h");
    assert_string_equal(usage_class_name(USAGE_REQUESTS), "requests");
}

static void test_usage_is_empty_only_when_every_class_is_null(void **state)
{
    (void)state;
    struct usage u = {0};
    assert_true(usage_is_empty(&u));
    for (int c = 0; c < USAGE_COUNT; c++) {
        u = (struct usage){0};
        u.units[c] = OPT_I64(0);
        assert_false(usage_is_empty(&u));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_covers_exactly_the_documented_layout),
        cmocka_unit_test(test_hash_moves_with_what_is_said_and_with_nothing_else),
        cmocka_unit_test(test_hash_knows_no_order_of_tags),
        cmocka_unit_test(test_check_refuses_negative_numbers),
        cmocka_unit_test(test_check_refuses_times_out_of_this_world),
        cmocka_unit_test(test_check_refuses_texts_no_table_can_hold),
        cmocka_unit_test(test_check_refuses_what_is_no_key_hash),
        cmocka_unit_test(test_check_refuses_tags_no_tag_set_makes),
        cmocka_unit_test(test_check_counts_own_tags_apart_from_the_keys),
        cmocka_unit_test(test_words_are_the_schemas),
        cmocka_unit_test(test_usage_is_empty_only_when_every_class_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
