/*
 * litellm_source: every captured payload and row of SpendLogs, signatures, guesses, nulls, broken bodies.
 */
#include "ingest/litellm_source.h"

#include "ingest/upstream_request.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW     1895000000000000LL
#define CALL_ID "0190a0b0-c0d0-7000-8000-000000000001"
#define SECRET  "s3cret"

static struct arena arena;

static struct strview file_read(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, SPEND_TESTDATA "/litellm/%s", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = arena_alloc(&arena, 1 << 20);
    assert_non_null(text);
    size_t len = fread(text, 1, 1 << 20, f);
    (void)fclose(f);
    return (struct strview){text, len};
}

static struct litellm_rules rules_of(bool bill)
{
    return (struct litellm_rules){SV_LIT(SECRET), bill, 1000};
}

static size_t read_all(struct strview body, bool bill, struct foreign_item *out, size_t most)
{
    struct litellm_rules rules = rules_of(bill);
    struct litellm_reader r;
    struct http_refusal why;
    size_t count = 0;
    assert_true(litellm_open(&r, &rules, body, &why));
    while (count < most && litellm_next(&r, NOW, &arena, &out[count]))
        count++;
    return count;
}

static struct spend_call read_file(const char *name)
{
    struct foreign_item item;
    assert_int_equal(read_all(file_read(name), true, &item, 1), 1);
    assert_string_equal(item.why, "");
    assert_int_equal(item.status, FOREIGN_ACCEPTED);
    return item.call;
}

static void check_units(const struct spend_call *call, int64_t input, int64_t cached, int64_t output)
{
    assert_int_equal(call->usage.units[USAGE_INPUT].v, input);
    assert_int_equal(call->usage.units[USAGE_CACHE_READ].v, cached);
    assert_int_equal(call->usage.units[USAGE_OUTPUT].v + call->usage.units[USAGE_REASONING].v, output);
}

static void test_every_captured_payload(void **state)
{
    (void)state;
    DIR *dir = opendir(SPEND_TESTDATA "/litellm");
    size_t seen = 0;
    assert_non_null(dir);
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (strncmp(e->d_name, "callback_", 9) != 0 || strstr(e->d_name, ".json") == NULL)
            continue;
        struct spend_call call = read_file(e->d_name);
        assert_int_equal(call.source, SOURCE_PROXY_LOG);
        assert_true(call.admitted_at > 1795000000000000LL && call.admitted_at < 1796000000000000LL);
        assert_true(call.operation != OPERATION_OTHER);
        assert_int_equal(call.outcome,
                         strstr(e->d_name, "failure") != NULL ? OUTCOME_FAILED : OUTCOME_COMPLETED);
        for (size_t i = 0; i < call.tag_count; i++)
            assert_false(sv_starts_with(call.tags[i].raw, SV_LIT("User-Agent")));
        arena_reset(&arena);
        seen++;
    }
    (void)closedir(dir);
    assert_int_equal(seen, 22);
}

static void test_what_they_say(void **state)
{
    (void)state;
    struct spend_call call = read_file("callback_success.json");
    check_units(&call, 100, 20, 45);
    assert_int_equal(call.usage.units[USAGE_REASONING].v, 10);
    assert_int_equal(call.quality, QUALITY_FINAL);
    assert_int_equal(call.reported_cost_nanos.v, 725000);
    assert_true(sv_eq(call.model_requested, SV_LIT("gpt-4o")));
    assert_true(sv_eq(call.model_replied, SV_LIT("openai/gpt-4o")));
    assert_true(sv_eq(call.provider, SV_LIT("openai")));
    assert_true(sv_eq(call.path, SV_LIT("/v1/chat/completions")));
    assert_true(
        sv_eq(call.key_hash, SV_LIT("3b69a285cbd23f85131f55dfcac89d7d58835845072500d7d408898ad9c39e93")));
    assert_int_equal(call.admitted_at, 1795342769185162LL);
    assert_int_equal(call.duration_us.v, 31706);
    call = read_file("callback_messages_anthropic.json");
    assert_int_equal(call.operation, OPERATION_MESSAGES);
    check_units(&call, 100, 500, 40);
    assert_int_equal(call.usage.units[USAGE_CACHE_WRITE_5M].v, 30);
    call = read_file("callback_responses_stream.json");
    check_units(&call, 100, 20, 45);
    assert_int_equal(call.quality, QUALITY_FINAL);
    call = read_file("callback_embeddings.json");
    check_units(&call, 8, 0, 0);
    call = read_file("callback_speech.json");
    assert_int_equal(call.usage.units[USAGE_CHARACTERS].v, 10);
    call = read_file("callback_transcription.json");
    assert_int_equal(call.usage.units[USAGE_AUDIO_IN].v, 14);
    assert_int_equal(call.usage.units[USAGE_OUTPUT].v, 5);
    call = read_file("callback_image_generation.json");
    assert_int_equal(call.usage.units[USAGE_IMAGE_IN].v, 40);
    call = read_file("callback_tags_allowed.json");
    assert_int_equal(call.tag_count, 3);
    assert_true(sv_eq(call.tags[0].raw, SV_LIT("task=1")));
    call = read_file("callback_failure_500.json");
    assert_true(usage_is_empty(&call.usage));
    assert_int_equal(call.quality, QUALITY_UNKNOWN);
}

/* LiteLLM's own count of a stream's tokens is an estimate. */
static void test_guesses(void **state)
{
    (void)state;
    static const char *const files[] = {"callback_stream_no_usage.json", "callback_upstream_cut.json"};
    for (size_t i = 0; i < 2; i++) {
        struct spend_call call = read_file(files[i]);
        assert_int_equal(call.quality, QUALITY_ESTIMATED);
        assert_true(sv_is_null(call.provider_usage));
        assert_true(call.usage.units[USAGE_INPUT].v > 0);
    }
    struct spend_call told = read_file("callback_stream_with_usage.json");
    assert_int_equal(told.quality, QUALITY_FINAL);
    assert_false(sv_is_null(told.provider_usage));
}

static void test_rows_of_spend_logs(void **state)
{
    (void)state;
    static struct foreign_item items[32];
    size_t count = read_all(file_read("spendlogs_rows.jsonl"), true, items, 32);
    size_t billed = 0;
    assert_int_equal(count, 20);
    for (size_t i = 0; i < count; i++) {
        const struct spend_call *call = &items[i].call;
        assert_string_equal(items[i].why, "");
        assert_int_equal(items[i].status, FOREIGN_ACCEPTED);
        assert_true(call->admitted_at > 1795000000000000LL && call->admitted_at < 1796000000000000LL);
        assert_false(sv_is_null(call->key_hash));
        if (call->outcome == OUTCOME_FAILED)
            continue;
        check_units(call, 100, 20, 45);
        assert_int_equal(call->reported_cost_nanos.v, 19000000);
        billed++;
    }
    assert_int_equal(billed, 15);
    assert_true(sv_eq(items[5].call.tags[0].raw, SV_LIT("tenant:reset2")));
}

static void test_an_array_with_nulls(void **state)
{
    (void)state;
    struct strview body = file_read("callback_raw_batch_with_null.http");
    const char *begin = strstr(body.ptr, "\r\n\r\n");
    struct foreign_item items[8];
    assert_non_null(begin);
    body = (struct strview){begin + 4, body.len - (size_t)(begin + 4 - body.ptr)};
    size_t count = read_all(body, false, items, 8);
    assert_true(count >= 1);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(items[i].status, FOREIGN_EVIDENCE);
}

static struct foreign_item payload(const char *members, bool bill)
{
    struct foreign_item item;
    struct strview body = arena_printf(
        &arena, "[null,{\"litellm_call_id\":\"x\",\"call_type\":\"acompletion\",\"status\":\"success\",%s}]",
        members);
    assert_int_equal(read_all(body, bill, &item, 1), 1);
    assert_string_equal(item.why, "");
    return item;
}

static struct foreign_item claim_at(const char *text, int64_t start, bool bill)
{
    char members[512];
    (void)snprintf(members, sizeof members,
                   "\"startTime\":%lld.5,\"model\":\"m\",\"metadata\":{\"spend_logs_metadata\":%s}",
                   (long long)start, text);
    return payload(members, bill);
}

static struct foreign_item claim(const char *text, bool bill)
{
    struct uuid ours;
    assert_true(uuid_parse(SV_LIT(CALL_ID), &ours));
    return claim_at(text, uuid_v7_ms(&ours) / 1000, bill);
}

static void test_claims(void **state)
{
    (void)state;
    struct uuid ours;
    char signature[SPEND_CALL_ID_LEN + 1];
    char text[256];
    assert_true(uuid_parse(SV_LIT(CALL_ID), &ours));
    upstream_request_sign(&ours, SV_LIT(SECRET), signature);
    (void)snprintf(text, sizeof text, "{\"spend_call_id\":\"%s\"}", signature);
    struct foreign_item item = claim(text, true);
    assert_int_equal(item.status, FOREIGN_ACCEPTED);
    assert_true(item.matched);
    assert_int_equal(uuid_cmp(&item.call.call_id, &ours), 0);
    assert_int_equal(item.call.admitted_at, uuid_v7_ms(&ours) * 1000);
    item = claim(text, false);
    assert_int_equal(item.status, FOREIGN_EVIDENCE);
    assert_true(item.matched);
    item = claim_at(text, uuid_v7_ms(&ours) / 1000 + 601, true); /* told again, of another call */
    assert_int_equal(item.status, FOREIGN_CONFLICT);
    assert_int_not_equal(uuid_cmp(&item.call.call_id, &ours), 0);
    text[strlen(text) - 3] ^= 1;
    for (int bill = 0; bill < 2; bill++) {
        item = claim(text, bill != 0);
        assert_int_equal(item.status, FOREIGN_CONFLICT);
        assert_false(sv_is_null(item.call.dispute));
        assert_int_not_equal(uuid_cmp(&item.call.call_id, &ours), 0);
    }
    item = claim("{\"spend_call_id\":7}", true);
    assert_int_equal(item.status, FOREIGN_CONFLICT);
    item = claim("{\"other\":1}", true);
    assert_int_equal(item.status, FOREIGN_ACCEPTED);
    assert_false(item.matched);
    item = claim("null", false);
    assert_int_equal(item.status, FOREIGN_EVIDENCE);
}

/* The same again is the same call; a caller that gives one id to many does not make them one. */
static void test_ids(void **state)
{
    (void)state;
    struct foreign_item a = claim("null", true);
    struct foreign_item b = claim("{}", true);
    struct foreign_item later = claim_at("null", 1800000001, true);
    assert_int_equal(uuid_cmp(&a.call.call_id, &b.call.call_id), 0);
    assert_int_not_equal(uuid_cmp(&a.call.call_id, &later.call.call_id), 0);
    assert_int_equal(a.call.call_id.byte[6] >> 4, 8);
    assert_true(sv_eq(a.call.source_id, SV_LIT("x")));
}

#define START "\"startTime\":1800000000.5,\"model\":\"m\""
#define USED  "\"metadata\":{\"usage_object\":{\"prompt_tokens\":7,\"completion_tokens\":3}}"

static void test_the_tier_and_the_cache(void **state)
{
    (void)state;
    struct foreign_item item = payload(START "," USED ",\"model_parameters\":{\"service_tier\":\"flex\"},"
                                             "\"response\":{\"service_tier\":\"default\"}",
                                       true);
    assert_true(sv_eq(item.call.service_tier, SV_LIT("flex")));
    item = payload(START "," USED ",\"response\":{\"service_tier\":\"priority\"}", true);
    assert_true(sv_eq(item.call.service_tier, SV_LIT("priority")));
    item = payload(START "," USED ",\"response\":{\"service_tier\":\"batch\"}", true);
    assert_true(sv_is_null(item.call.service_tier));
    check_units(&item.call, 7, 0, 3);
    item = payload(START ",\"metadata\":{\"usage_object\":{\"prompt_tokens\":7,\"completion_tokens\":3,"
                         "\"service_tier\":\"batch\"}}",
                   true);
    assert_true(sv_is_null(item.call.service_tier));
    check_units(&item.call, 7, 0, 3);
    item = payload(START "," USED ",\"cache_hit\":true", true);
    check_units(&item.call, 0, 0, 0);
    assert_int_equal(item.call.quality, QUALITY_FINAL);
    item = payload(START "," USED ",\"cache_hit\":\"True\"", true);
    check_units(&item.call, 0, 0, 0);
}

/* Its clock is ahead of ours: the same payload, told again later, is the same call. */
static void test_a_repeat_of_the_future_is_the_same_call(void **state)
{
    (void)state;
    struct litellm_rules rules = rules_of(true);
    struct litellm_reader r;
    struct http_refusal why;
    struct foreign_item item[2];
    for (int i = 0; i < 2; i++) {
        int64_t now = 1799999990000000 + i * 1000000LL;
        assert_true(litellm_open(&r, &rules, SV_LIT("{\"id\":\"a\"," START "," USED "}"), &why));
        assert_true(litellm_next(&r, now, &arena, &item[i]));
        assert_int_equal(item[i].status, FOREIGN_ACCEPTED);
        assert_int_equal(item[i].call.admitted_at, now);
    }
    assert_int_equal(uuid_cmp(&item[0].call.call_id, &item[1].call.call_id), 0);
}

/* Our call id may stand in what there was no room to read: a bill of its own would be a second one. */
static void test_metadata_that_cannot_be_read_is_not_none(void **state)
{
    (void)state;
    struct arena small;
    struct litellm_rules rules = rules_of(true);
    struct litellm_reader r;
    struct http_refusal why;
    struct foreign_item item;
    char text[4096];
    char filler[2048];
    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    (void)snprintf(text, sizeof text, "{\"id\":\"a\"," START ",\"metadata\":\"{\\\"a\\\":\\\"%s\\\"}\"}",
                   filler);
    arena_init(&small, 1024);
    assert_true(litellm_open(&r, &rules, sv_of(text), &why));
    assert_true(litellm_next(&r, NOW, &small, &item));
    assert_int_equal(item.status, FOREIGN_INVALID);
    arena_free(&small);
    item = payload(START ",\"metadata\":\"\"", true);
    assert_int_equal(item.status, FOREIGN_ACCEPTED);
    item = payload(START ",\"metadata\":null", true);
    assert_int_equal(item.status, FOREIGN_ACCEPTED);
}

/* What tells one side alone would be billed as if the other were nothing. */
static void test_half_a_usage_is_none(void **state)
{
    (void)state;
    struct foreign_item item = payload(
        START ",\"metadata\":{\"usage_object\":{\"completion_tokens\":3,\"prompt_tokens\":null}}", true);
    assert_true(usage_is_empty(&item.call.usage));
    assert_int_equal(item.call.quality, QUALITY_UNKNOWN);
}

static void test_bodies(void **state)
{
    (void)state;
    struct litellm_rules rules = rules_of(true);
    struct litellm_reader r;
    struct http_refusal why;
    struct foreign_item item;
    static const char *const bad[] = {"", "7", "x", "[1", "\"a\"", "[] x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(litellm_open(&r, &rules, sv_of(bad[i]), &why));
        assert_int_equal(why.status, 400);
    }
    assert_true(litellm_open(&r, &rules, SV_LIT("[null, null]"), &why));
    assert_false(litellm_next(&r, NOW, &arena, &item));
    rules.items_max = 1;
    assert_false(litellm_open(&r, &rules, SV_LIT("[{}, {}]"), &why));
    assert_int_equal(why.status, 413);
    rules.items_max = 5;
    assert_true(litellm_open(&r, &rules, SV_LIT("{}\n{\"id\": \"a\"}\r\n\nx\n"), &why));
    for (int i = 0; i < 3; i++) {
        assert_true(litellm_next(&r, NOW, &arena, &item));
        assert_int_equal(item.status, FOREIGN_INVALID);
    }
    assert_false(litellm_next(&r, NOW, &arena, &item));
}

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 64 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_captured_payload),
        cmocka_unit_test(test_what_they_say),
        cmocka_unit_test(test_guesses),
        cmocka_unit_test(test_rows_of_spend_logs),
        cmocka_unit_test(test_an_array_with_nulls),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_the_tier_and_the_cache),
        cmocka_unit_test(test_a_repeat_of_the_future_is_the_same_call),
        cmocka_unit_test(test_metadata_that_cannot_be_read_is_not_none),
        cmocka_unit_test(test_half_a_usage_is_none),
        cmocka_unit_test(test_bodies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
