/*
 * events_api: the three modes, what an event must say, and what it says when it is wrong.
 */
#include "ingest/events_api.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NOW  1795000000000000LL /* 2026-11-18T11:06:40Z */
#define HEAD "\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"svc\",\"type\":\"spend.call\""
#define TIME "\"time\":\"2026-11-18T11:06:39.5Z\""
#define DATA                                                                                                 \
    "\"data\":{\"operation\":\"chat\",\"model\":\"gpt-4o\",\"provider\":\"openai\","                         \
    "\"tags\":[\"account_id=acme\",\"a,b\"],\"user\":\"u1\","                                                \
    "\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":45,\"total_tokens\":165,"                        \
    "\"prompt_tokens_details\":{\"cached_tokens\":20}},\"reported_cost\":\"0.000725\"}"
#define EVENT "{" HEAD "," TIME "," DATA "}"

static struct arena arena;

/* One at a time: they are large. */
static const struct http_headers *headers_of(const char *type, const char *lines)
{
    static struct http_headers h;
    enum err_code code;
    static char text[2048];
    (void)snprintf(text, sizeof text, "Content-Type: %s\r\n%s", type, lines);
    assert_null(http_headers_parse(sv_of(text), &h, &code));
    return &h;
}

/* Reads one event of a structured body. */
static struct foreign_item read_one(const char *body)
{
    const struct http_headers *h = headers_of("application/cloudevents+json; charset=utf-8", "");
    struct events_reader r;
    struct http_refusal why;
    struct foreign_item item;
    struct foreign_item none;
    assert_true(events_open(&r, h, sv_of(body), 10, &why));
    assert_true(events_next(&r, NOW, &arena, &item));
    assert_false(events_next(&r, NOW, &arena, &none));
    return item;
}

static void check_event(const struct foreign_item *item)
{
    const struct spend_call *call = &item->call;
    struct uuid due = uuid_v8_of(SV_LIT("svc"), SV_LIT("e1"));
    assert_string_equal(item->why, "");
    assert_int_equal(item->status, FOREIGN_ACCEPTED);
    assert_true(sv_eq(item->id, SV_LIT("e1")));
    assert_int_equal(uuid_cmp(&call->call_id, &due), 0);
    assert_int_equal(call->source, SOURCE_EVENTS_API);
    assert_true(sv_eq(call->source_id, SV_LIT("e1")));
    assert_int_equal(call->admitted_at, NOW - 500000);
    assert_int_equal(call->operation, OPERATION_CHAT);
    assert_int_equal(call->outcome, OUTCOME_COMPLETED);
    assert_int_equal(call->quality, QUALITY_FINAL);
    assert_int_equal(call->usage.units[USAGE_INPUT].v, 100);
    assert_int_equal(call->usage.units[USAGE_CACHE_READ].v, 20);
    assert_int_equal(call->usage.units[USAGE_OUTPUT].v, 45);
    assert_int_equal(call->reported_cost_nanos.v, 725000);
    assert_int_equal(call->tag_count, 3);
    assert_true(sv_eq(call->tags[1].raw, SV_LIT("a,b")));
    assert_true(sv_eq(call->tags[2].raw, SV_LIT("end_user=u1")));
    assert_true(sv_eq(call->tags[0].key, SV_LIT("account_id")));
}

static void test_structured(void **state)
{
    (void)state;
    struct foreign_item item = read_one(EVENT);
    check_event(&item);
}

static void test_binary(void **state)
{
    (void)state;
    const struct http_headers *h =
        headers_of("application/json", "ce-specversion: 1.0\r\nCE-ID: e%31\r\nce-source: svc\r\nce-type: "
                                       "spend.call\r\nce-time: 2026-11-18T12:06:39.5+01:00\r\n");
    struct events_reader r;
    struct http_refusal why;
    struct foreign_item item;
    assert_true(events_open(&r, h,
                            SV_LIT("{\"operation\":\"chat\",\"model\":\"gpt-4o\",\"provider\":\"openai\","
                                   "\"tags\":[\"account_id=acme\",\"a,b\"],\"user\":\"u1\",\"usage\":{"
                                   "\"prompt_tokens\":120,\"completion_tokens\":45,\"prompt_tokens_"
                                   "details\":{\"cached_tokens\":20}},\"reported_cost\":7.25e-4}"),
                            10, &why));
    assert_true(events_next(&r, NOW, &arena, &item));
    check_event(&item);
    assert_false(events_next(&r, NOW, &arena, &item));
}

static void test_batch(void **state)
{
    (void)state;
    const struct http_headers *h = headers_of("application/cloudevents-batch+json", "");
    struct events_reader r;
    struct http_refusal why;
    struct foreign_item item;
    static const char body[] = "[" EVENT ", 7, {\"id\": \"e2\"}]";
    assert_true(events_open(&r, h, SV_LIT(body), 3, &why));
    assert_true(events_next(&r, NOW, &arena, &item));
    check_event(&item);
    assert_true(events_next(&r, NOW, &arena, &item));
    assert_int_equal(item.status, FOREIGN_INVALID);
    assert_true(events_next(&r, NOW, &arena, &item));
    assert_int_equal(item.status, FOREIGN_INVALID);
    assert_true(sv_eq(item.id, SV_LIT("e2")));
    assert_false(events_next(&r, NOW, &arena, &item));
    assert_false(events_open(&r, h, SV_LIT(body), 2, &why));
    assert_int_equal(why.status, 413);
    assert_true(events_open(&r, h, SV_LIT("[]"), 2, &why));
    assert_false(events_next(&r, NOW, &arena, &item));
}

static void test_bodies_refused(void **state)
{
    (void)state;
    static const struct {
        const char *type, *body;
        int status;
    } rows[] = {
        {"application/json", EVENT, 415},
        {"text/plain", EVENT, 415},
        {"application/cloudevents+json", "[" EVENT "]", 400},
        {"application/cloudevents+json", "{", 400},
        {"application/cloudevents+json", EVENT " x", 400},
        {"application/cloudevents+json", "{\"a\": NaN}", 400},
        {"application/cloudevents-batch+json", EVENT, 400},
        {"application/cloudevents-batch+json", "[" EVENT ",]", 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct http_headers *h = headers_of(rows[i].type, "");
        struct events_reader r;
        struct http_refusal why;
        assert_false(events_open(&r, h, sv_of(rows[i].body), 10, &why));
        assert_int_equal(why.status, rows[i].status);
    }
}

#define WITH(data) "{" HEAD "," TIME ",\"data\":{" data "}}"
#define CHAT       "\"operation\":\"chat\",\"model\":\"m\""

static void test_events_refused(void **state)
{
    (void)state;
    static const struct {
        const char *body, *says;
    } rows[] = {
        {"{" TIME "," DATA "}", "id"},
        {"{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"s\",\"type\":\"spend.call\"," TIME "," DATA "}",
         "id"},
        {"{\"specversion\":\"1.0\",\"id\":\"a\\u0001\",\"source\":\"s\"," TIME "," DATA "}", "id"},
        {"{\"specversion\":\"1.0\",\"id\":\"a\",\"type\":\"spend.call\"," TIME "," DATA "}", "source"},
        {"{\"specversion\":\"0.3\",\"id\":\"a\",\"source\":\"s\",\"type\":\"spend.call\"," TIME "," DATA "}",
         "specversion"},
        {"{\"specversion\":\"1.0\",\"id\":\"a\",\"source\":\"s\",\"type\":\"x\"," TIME "," DATA "}", "type"},
        {"{" HEAD "," DATA "}", "time"},
        {"{" HEAD ",\"time\":\"yesterday\"," DATA "}", "time"},
        {"{" HEAD ",\"time\":\"2026-11-18T11:07:41Z\"," DATA "}", "future"},
        {"{" HEAD "," TIME ",\"datacontenttype\":\"text/xml\"," DATA "}", "datacontenttype"},
        {"{" HEAD "," TIME "}", "data"},
        {"{" HEAD "," TIME ",\"data\":\"x\"}", "data"},
        {WITH("\"model\":\"m\""), "operation"},
        {WITH("\"operation\":\"batch\",\"model\":\"m\""), "operation"},
        {WITH("\"operation\":\"chat\""), "model"},
        {WITH("\"operation\":\"chat\",\"model\":7"), "model"},
        {WITH(CHAT ",\"tags\":[1]"), "tags"},
        {WITH(CHAT ",\"tags\":[\"a\\u0007\"]"), "tags"},
        {WITH(CHAT ",\"tags\":7"), "tags"},
        {WITH(CHAT ",\"key_hash\":\"abc\""), "key_hash"},
        {WITH(CHAT ",\"outcome\":\"good\""), "outcome"},
        {WITH(CHAT ",\"usage\":7"), "usage"},
        {WITH(CHAT ",\"usage\":{\"input_tokens\":7}"), "usage"},
        {WITH(CHAT ",\"usage\":{\"input_tokens\":7,\"output_tokens\":1,\"cache_read_input_tokens\":0}"),
         "usage"},
        {WITH(CHAT ",\"usage\":{\"prompt_tokens\":7}"), "usage"},
        {WITH("\"operation\":\"messages\",\"model\":\"m\",\"usage\":{\"prompt_tokens\":7,\"completion_"
              "tokens\":1}"),
         "usage"},
        {WITH(CHAT ",\"usage\":{\"prompt_tokens\":-7,\"completion_tokens\":1}"), "usage"},
        {WITH(CHAT ",\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1.5}"), "usage"},
        {WITH(CHAT ",\"reported_cost\":\"-1\""), "reported_cost"},
        {WITH(CHAT ",\"reported_cost\":\"a\""), "reported_cost"},
        {WITH(CHAT ",\"reported_cost\":{}"), "reported_cost"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct foreign_item item = read_one(rows[i].body);
        assert_int_equal(item.status, FOREIGN_INVALID);
        if (strstr(item.why, rows[i].says) == NULL)
            fail_msg("row %zu: \"%s\" does not speak of %s", i, item.why, rows[i].says);
    }
}

static void test_null_and_zero(void **state)
{
    (void)state;
    struct foreign_item item = read_one(WITH(CHAT ",\"usage\":null,\"outcome\":\"failed\""));
    assert_int_equal(item.status, FOREIGN_ACCEPTED);
    assert_true(usage_is_empty(&item.call.usage));
    assert_int_equal(item.call.quality, QUALITY_UNKNOWN);
    assert_int_equal(item.call.outcome, OUTCOME_FAILED);
    item = read_one(WITH(CHAT ",\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}"));
    assert_true(item.call.usage.units[USAGE_INPUT].has && item.call.usage.units[USAGE_INPUT].v == 0);
    assert_int_equal(item.call.quality, QUALITY_FINAL);
    item = read_one(WITH("\"operation\":\"speech\",\"model\":\"tts-1\",\"usage\":{\"characters\":12}"));
    assert_int_equal(item.call.usage.units[USAGE_CHARACTERS].v, 12);
    item = read_one(WITH("\"operation\":\"image\",\"model\":\"m\",\"usage\":{\"images\":2}"));
    assert_int_equal(item.call.usage.units[USAGE_IMAGES].v, 2);
    item = read_one(WITH("\"operation\":\"transcription\",\"model\":\"m\",\"usage\":{\"seconds\":2.5}"));
    assert_int_equal(item.call.usage.units[USAGE_SECONDS_MILLI].v, 2500);
}

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
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
        cmocka_unit_test(test_structured),     cmocka_unit_test(test_binary),
        cmocka_unit_test(test_batch),          cmocka_unit_test(test_bodies_refused),
        cmocka_unit_test(test_events_refused), cmocka_unit_test(test_null_and_zero),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
