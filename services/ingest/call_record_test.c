/*
 * call_record: what each way to end leaves in the record.
 */
#include "ingest/call_record.h"
#include "ingest/text_count.h"
#include "spend/avro_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define REQUEST                                                                                              \
    "{\"model\":\"gpt\",\"stream\":true,\"messages\":[{\"content\":\"0123456789\"}],\"tags\":[\"account_id=" \
    "a\"]}"

static struct arena memory;
static struct arena scratch;
static struct sha256 *sha;
static struct tag_capture capture;
static struct spend_call call;
static struct reply_watch watch;

static int set_up_for(enum spend_operation operation, const char *body)
{
    static struct http_headers headers;
    enum err_code code;
    arena_init(&memory, 1 << 20);
    arena_init(&scratch, 1 << 20);
    struct call_start start = {.instance = "01a20777-d128-7e28-a944-9c7f959c7d08",
                               .boot = 2,
                               .seq = 7,
                               .received_at = 1795421624000000,
                               .admitted_at = 1795421624000005,
                               .operation = operation,
                               .path = SV_LIT("/v1/chat/completions"),
                               .upstream = "up:1",
                               .request_bytes = strlen(body)};
    start.call_id = uuid_v7(start.received_at);
    assert_null(http_headers_parse(SV_LIT("Authorization: Bearer sk-1\r\n"), &headers, &code));
    struct capture_source from = {
        .headers = &headers, .body = sv_of(body), .litellm = true, .operation = operation};
    assert_true(tag_capture_read(&capture, &from, sha, &scratch));
    assert_true(call_record_start(&start, &capture, &memory, &call));
    reply_watch_init(&watch, operation, SV_NULL, &scratch);
    if (capture.characters.has)
        usage_reader_note(&watch.reader, USAGE_PATH_CHARACTERS, capture.characters.v);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return set_up_for(OPERATION_CHAT, REQUEST);
}

static int tear_down(void **state)
{
    (void)state;
    reply_watch_free(&watch);
    arena_free(&memory);
    arena_free(&scratch);
    return 0;
}

static bool last; /* the body is known to be whole: read in place */

static void reply(const char *head_text, const char *body)
{
    struct reply_head head;
    struct err err = {0};
    size_t scanned = 0;
    struct buffer piece;
    struct strview pass;
    struct watch_limits limits = {1 << 20, 1 << 20};
    buffer_init(&piece, 1 << 20);
    assert_int_equal(reply_head_parse(sv_of(head_text), &scanned, false, &head, &err), GUARD_OK);
    assert_true(call_record_reply(&call, &head, &memory));
    reply_watch_begin(&watch, &head, &limits, true);
    assert_true(reply_watch_feed(&watch, sv_of(body), last, &piece, &pass));
    assert_true(reply_watch_end(&watch, &piece, &pass));
    buffer_free(&piece);
}

static struct strview stamp; /* of the request under test */

static void end(enum spend_outcome outcome, bool whole, bool estimate_failed)
{
    struct call_end how = {.outcome = outcome,
                           .reply_whole = whole,
                           .estimate_failed = estimate_failed,
                           .request_text = capture.text_bytes,
                           .finished_at = 1795421625000000,
                           .ttfb_us = 10,
                           .duration_us = 20,
                           .reply_bytes = 100,
                           .stamp = stamp};
    struct err err = {0};
    call_record_end(&call, &how, &watch);
    if (!spend_call_check(&call, &err))
        fail_msg("%s", err.text);
}

static void assert_usage(int64_t input, int64_t output, enum spend_quality quality)
{
    const struct opt_i64 *units = call.usage.units;
    assert_int_equal(units[USAGE_INPUT].has ? units[USAGE_INPUT].v : -1, input);
    assert_int_equal(units[USAGE_OUTPUT].has ? units[USAGE_OUTPUT].v : -1, output);
    assert_int_equal(call.quality, quality);
}

#define OK_SSE "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
#define OK_JSON                                                                                              \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-litellm-call-id: c1\r\n"                         \
    "x-litellm-response-cost: 0.0007250000000000001\r\nx-litellm-attempted-retries: 2\r\n\r\n"
#define CHUNK "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"12345\"}}]}\n\n"
#define USAGE "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n"

static void test_a_reply_stamped_with_the_bodys_model_does_not_tell_the_model(void **state)
{
    (void)state;
    const struct {
        struct strview stamp;
        bool kept;
    } rows[] = {{SV_INIT("m"), false}, {SV_INIT("other"), true}, {SV_INIT(""), false}, {{NULL, 0}, true}};
    reply(OK_SSE, CHUNK USAGE "data: [DONE]\n\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        stamp = rows[i].stamp;
        end(OUTCOME_COMPLETED, true, false);
        assert_true(sv_eq(call.model_replied, rows[i].kept ? SV_LIT("m") : SV_NULL));
    }
    stamp = SV_NULL;
}

static void test_a_total_that_cannot_be_read_is_estimated_and_said_to_be(void **state)
{
    (void)state;
    reply(OK_JSON, "{\"choices\":[{\"message\":{\"content\":\"12345\"}}],\"usage\":{\"prompt_tokens\":9,"
                   "\"completion_tokens\":4.5}}");
    end(OUTCOME_COMPLETED, true, false);
    assert_usage(9, 2, QUALITY_ESTIMATED);
}

static void test_a_total_of_prompts_that_cannot_be_read_is_estimated(void **state)
{
    (void)state;
    reply(OK_JSON, "{\"usage\":{\"prompt_tokens\":-9,\"completion_tokens\":4.0}}");
    end(OUTCOME_COMPLETED, true, false);
    assert_usage(3, 4, QUALITY_ESTIMATED);
}

static void test_a_completed_call_has_the_providers_numbers(void **state)
{
    (void)state;
    reply(OK_JSON, "{\"model\":\"m-1\",\"service_tier\":\"flex\",\"choices\":[],\"usage\":{\"prompt_tokens\":"
                   "9,\"completion_tokens\":4}}");
    end(OUTCOME_COMPLETED, true, false);
    assert_usage(9, 4, QUALITY_FINAL);
    assert_true(sv_eq(call.model_replied, SV_LIT("m-1")));
    assert_true(sv_eq(call.service_tier, SV_LIT("flex")));
    assert_true(sv_eq(call.upstream_call_id, SV_LIT("c1")));
    assert_int_equal(call.upstream_retries.v, 2);
    assert_false(call.upstream_fallbacks.has);
    assert_int_equal(call.reported_cost_nanos.v, 725000);
    assert_true(sv_eq(call.provider_usage, SV_LIT("{\"prompt_tokens\":9,\"completion_tokens\":4}")));
}

static void test_usage_nobody_reported_is_estimated_from_the_text(void **state)
{
    (void)state;
    reply(OK_SSE, CHUNK "data: [DONE]\n\n");
    end(OUTCOME_COMPLETED, true, false);
    assert_usage(3, 2, QUALITY_ESTIMATED);
    assert_true(sv_is_null(call.provider_usage));
}

static void test_a_caller_who_left_pays_what_was_reported_or_an_estimate(void **state)
{
    (void)state;
    reply(OK_SSE, CHUNK USAGE);
    end(OUTCOME_ABORTED, false, false);
    assert_usage(9, 4, QUALITY_PARTIAL);
}

static void test_a_caller_who_left_early_pays_an_estimate(void **state)
{
    (void)state;
    reply(OK_SSE, CHUNK CHUNK);
    end(OUTCOME_ABORTED, false, false);
    assert_usage(3, 3, QUALITY_ESTIMATED);
}

static void test_an_upstreams_error_charges_nothing(void **state)
{
    (void)state;
    reply("HTTP/1.1 500 No\r\nContent-Type: application/json\r\n\r\n", "{\"usage\":{\"prompt_tokens\":9}}");
    end(OUTCOME_FAILED, true, true);
    assert_usage(-1, -1, QUALITY_UNKNOWN);
    assert_int_equal(call.upstream_status.v, 500);
}

static void test_a_stream_cut_after_output_is_free_unless_told_otherwise(void **state)
{
    (void)state;
    reply(OK_SSE, CHUNK);
    end(OUTCOME_FAILED, false, false);
    assert_usage(-1, -1, QUALITY_UNKNOWN);
    end(OUTCOME_FAILED, false, true);
    assert_usage(3, 2, QUALITY_ESTIMATED);
}

static void test_an_encoded_reply_is_estimated_by_its_bytes(void **state)
{
    (void)state;
    reply("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", "12345678");
    end(OUTCOME_COMPLETED, true, false);
    assert_usage(3, 2, QUALITY_ESTIMATED);
}

static void test_a_costs_text_that_is_no_number_is_left_out(void **state)
{
    (void)state;
    reply("HTTP/1.1 200 OK\r\nx-litellm-response-cost: None\r\nx-litellm-attempted-retries: -1\r\n\r\n",
          "{}");
    assert_false(call.reported_cost_nanos.has);
    assert_false(call.upstream_retries.has);
}

static void recover(uint64_t progress, bool estimate, struct spend_call *out)
{
    struct buffer head;
    struct buffer bytes;
    struct err err = {0};
    struct strview tags = SV_NULL;
    buffer_init(&head, LIMIT_CALL_BYTES);
    buffer_init(&bytes, LIMIT_CALL_BYTES);
    if (!call_record_encode(&call, &tags, &head, &err) ||
        !call_record_recover(buffer_view(&head), progress, estimate, &memory, &bytes, &err) ||
        !avro_decode_spend_call(buffer_view(&bytes), &memory, out, &err))
        fail_msg("%s", err.text);
    buffer_free(&head);
    buffer_free(&bytes);
}

static void test_what_a_crash_left_open_is_unknown_with_an_estimate_or_zero(void **state)
{
    (void)state;
    struct spend_call found = {0};
    recover(17, true, &found);
    assert_int_equal(found.outcome, OUTCOME_UNKNOWN);
    assert_int_equal(found.quality, QUALITY_ESTIMATED);
    assert_int_equal(found.usage.units[USAGE_INPUT].v, 3);
    assert_int_equal(found.usage.units[USAGE_OUTPUT].v, 5);
    assert_int_equal(found.seq.v, 7);
    assert_int_equal(found.boot.v, 2);
    assert_int_equal(uuid_cmp(&found.call_id, &call.call_id), 0);
    assert_int_equal(found.tag_count, 1);
    assert_int_equal(found.admitted_at, 1795421624000005);
    recover(17, false, &found);
    assert_int_equal(found.quality, QUALITY_UNKNOWN);
    assert_int_equal(found.usage.units[USAGE_INPUT].v, 0);
    assert_int_equal(found.usage.units[USAGE_OUTPUT].v, 0);
}

static void test_a_crash_before_the_gate_let_it_pass_costs_nothing(void **state)
{
    (void)state;
    struct spend_call found = {0};
    call.gate = GATE_HELD;
    call.received_at = call.admitted_at;
    recover(0, true, &found);
    assert_int_equal(found.outcome, OUTCOME_REJECTED);
    assert_int_equal(found.quality, QUALITY_UNKNOWN);
    assert_false(found.usage.units[USAGE_INPUT].has || found.usage.units[USAGE_OUTPUT].has);
    recover(call_record_progress(&call, 0), true, &found);
    assert_int_equal(found.outcome, OUTCOME_UNKNOWN);
    assert_int_equal(found.admitted_at, call.admitted_at);
    assert_int_equal(found.gate, GATE_HELD);
    assert_int_equal(found.usage.units[USAGE_INPUT].v, 3);
    assert_int_equal(found.usage.units[USAGE_OUTPUT].v, 0);
    call.gate = GATE_FORCED;
    uint64_t forced = call_record_progress(&call, 17);
    call.gate = GATE_HELD;
    recover(forced, true, &found);
    assert_int_equal(found.outcome, OUTCOME_UNKNOWN);
    assert_int_equal(found.gate, GATE_FORCED);
    assert_int_equal(found.usage.units[USAGE_OUTPUT].v, 5);
    call.gate = GATE_OBSERVE; /* nobody decides: it went on at once */
    assert_int_equal(call_record_progress(&call, 17), 17);
    recover(0, true, &found);
    assert_int_equal(found.outcome, OUTCOME_UNKNOWN);
    call.gate = GATE_OFF;
}

/* The hold's own moment: the bill lies in the windows that it stood in. */
static void test_a_crash_keeps_when_the_gate_let_it_pass(void **state)
{
    (void)state;
    static const int64_t apart[] = {1, -1, 4999999, -1999999, (1 << 29) - 1, -(1 << 29) + 1};
    static const int64_t beyond[] = {1 << 29, -(1 << 29)};
    struct spend_call found = {0};
    struct spend_call held = call;
    call.gate = held.gate = GATE_HELD;
    held.received_at = call.received_at = call.admitted_at;
    for (size_t i = 0; i < sizeof apart / sizeof apart[0]; i++) {
        held.admitted_at = call.admitted_at + apart[i];
        recover(call_record_progress(&held, UINT64_MAX), true, &found);
        assert_int_equal(found.admitted_at, held.admitted_at);
        assert_int_equal(found.received_at, call.received_at);
        recover(call_record_progress(&held, 17), true, &found);
        assert_int_equal(found.usage.units[USAGE_OUTPUT].v, 5);
    }
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
        held.admitted_at = call.admitted_at + beyond[i];
        recover(call_record_progress(&held, 17), true, &found);
        assert_int_equal(found.admitted_at, call.admitted_at);
    }
    call.gate = GATE_OFF;
}

#define MESSAGE_START                                                                                        \
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":100,"  \
    "\"output_tokens\":1}}}\n\ndata: "                                                                       \
    "{\"type\":\"content_block_delta\",\"delta\":{\"text\":\"0123456789abc\"}}\n\n"

/* A stream's first event tells one token of output: what came after it is estimated when the stream broke
 * off. */
static void test_messages_cut_in_the_middle_pay_for_what_came(void **state)
{
    (void)state;
    (void)set_up_for(OPERATION_MESSAGES, "{\"model\":\"claude\"}");
    reply(OK_SSE, MESSAGE_START);
    end(OUTCOME_ABORTED, false, false);
    assert_usage(100, 4, QUALITY_ESTIMATED);
    end(OUTCOME_FAILED, false, true);
    assert_usage(100, 4, QUALITY_ESTIMATED);
    end(OUTCOME_FAILED, false, false);
    assert_usage(100, 1, QUALITY_PARTIAL);
    (void)tear_down(NULL);
    /* LiteLLM's first event of another provider's stream is all zeros */
    (void)set_up_for(OPERATION_MESSAGES, "{\"model\":\"m\",\"messages\":[{\"content\":\"0123456789\"}]}");
    reply(OK_SSE,
          "data: "
          "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n\n"
          "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"0123456789abc\"}}\n\n");
    end(OUTCOME_ABORTED, false, false);
    assert_usage(3, 4, QUALITY_ESTIMATED);
}

static void test_usage_that_tells_no_side_is_estimated(void **state)
{
    (void)state;
    reply(OK_JSON, "{\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":0},\"total_tokens\":5},"
                   "\"choices\":[{\"message\":{\"content\":\"12345\"}}],\"service_tier\":\"Batch\"}");
    end(OUTCOME_COMPLETED, true, false);
    assert_usage(3, 2, QUALITY_ESTIMATED);
    assert_true(sv_is_null(call.service_tier)); /* nobody answers a batch at once */
    end(OUTCOME_FAILED, true, false);
    assert_usage(-1, -1, QUALITY_UNKNOWN);
    end(OUTCOME_FAILED, true, true);
    assert_usage(3, 2, QUALITY_ESTIMATED);
}

static void test_speech_is_paid_by_the_characters_of_its_text(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *head;
        enum spend_outcome outcome;
        int64_t characters;
        enum spend_quality quality;
    } rows[] = {
        {"{\"input\":\"h\\u00e9llo there\"}", "Content-Type: audio/mpeg\r\n", OUTCOME_COMPLETED, 10,
         QUALITY_FINAL},
        {"{\"input\":\"hello there\"}", "", OUTCOME_ABORTED, 10, QUALITY_FINAL},
        {"{\"input\":\"hello\\u0000\"}", "", OUTCOME_COMPLETED, 6, QUALITY_FINAL},
        {"{\"input\":\"hello there\"}", "Content-Type: audio/mpeg\r\n", OUTCOME_FAILED, -1, QUALITY_UNKNOWN},
        {"{\"input\":7}", "Content-Type: audio/mpeg\r\n", OUTCOME_COMPLETED, -1, QUALITY_UNKNOWN},
        {"not JSON", "Content-Type: audio/mpeg\r\n", OUTCOME_COMPLETED, -1, QUALITY_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char head[128];
        (void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\n%s\r\n", rows[i].head);
        (void)set_up_for(OPERATION_SPEECH, rows[i].body);
        struct opt_i64 started = call.usage.units[USAGE_CHARACTERS];
        assert_int_equal(started.has, capture.characters.has);
        reply(head, "ID3...");
        end(rows[i].outcome, true, false);
        struct opt_i64 found = call.usage.units[USAGE_CHARACTERS];
        assert_int_equal(found.has ? found.v : -1, rows[i].characters);
        assert_usage(-1, -1, rows[i].quality);
        (void)tear_down(NULL);
    }
    (void)set_up_for(OPERATION_SPEECH, rows[0].body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_reply_stamped_with_the_bodys_model_does_not_tell_the_model,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_total_that_cannot_be_read_is_estimated_and_said_to_be, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_total_of_prompts_that_cannot_be_read_is_estimated, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_completed_call_has_the_providers_numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_usage_nobody_reported_is_estimated_from_the_text, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_caller_who_left_pays_what_was_reported_or_an_estimate, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_caller_who_left_early_pays_an_estimate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_upstreams_error_charges_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_stream_cut_after_output_is_free_unless_told_otherwise, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_an_encoded_reply_is_estimated_by_its_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_costs_text_that_is_no_number_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_messages_cut_in_the_middle_pay_for_what_came, NULL, tear_down),
        cmocka_unit_test_setup_teardown(test_speech_is_paid_by_the_characters_of_its_text, NULL, tear_down),
        cmocka_unit_test_setup_teardown(test_usage_that_tells_no_side_is_estimated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_a_crash_left_open_is_unknown_with_an_estimate_or_zero,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_crash_keeps_when_the_gate_let_it_pass, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_crash_before_the_gate_let_it_pass_costs_nothing, set_up,
                                        tear_down),
    };
    struct err err = {0};
    if (!avro_codec_open(&err))
        return 1;
    sha = sha256_new();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    last = true;
    failed += cmocka_run_group_tests_name("in place", tests, NULL, NULL);
    sha256_free(sha);
    return failed;
}
