#include "ingest/gate_wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct buffer out;

static struct spend_call a_call(void)
{
    static struct tag tags[] = {{.raw = SV_INIT("tenant=\"a\"")}, {.raw = SV_INIT("x")}};
    struct spend_call call = {.operation = OPERATION_CHAT,
                              .model_requested = SV_LIT("gpt-4o"),
                              .tags = tags,
                              .tag_count = 2,
                              .key_hash = SV_LIT("ab")};
    assert_true(uuid_parse(SV_LIT("0197a3b0-0000-7000-8000-000000000001"), &call.call_id));
    return call;
}

#define ID "\"call_id\":\"0197a3b0-0000-7000-8000-000000000001\""

static void assert_out(const char *wanted)
{
    assert_true(buffer_append_byte(&out, '\0'));
    assert_string_equal(out.data, wanted);
    buffer_clear(&out);
}

static void test_a_call_is_asked_for_with_all_that_decides(void **state)
{
    (void)state;
    struct spend_call call = a_call();
    struct gate_size size = {400, OPT_I64(30), {.has = false}};
    assert_true(gate_wire_place(&call, &size, &out));
    assert_out("{" ID ",\"operation\":\"chat\",\"model\":\"gpt-4o\",\"tags\":[\"tenant=\\\"a\\\"\",\"x\"],"
               "\"key_hash\":\"ab\",\"body_bytes\":400,\"max_tokens\":30}");
    call = (struct spend_call){
        .call_id = call.call_id, .operation = OPERATION_IMAGE, .variant = SV_LIT("hd/1x1")};
    size = (struct gate_size){0, {.has = false}, OPT_I64(2)};
    assert_true(gate_wire_place(&call, &size, &out));
    assert_out("{" ID
               ",\"operation\":\"image\",\"variant\":\"hd/1x1\",\"tags\":[],\"body_bytes\":0,\"n\":2}");
}

static void test_one_let_through_says_when(void **state)
{
    (void)state;
    assert_true(gate_wire_force(SV_LIT("{\"a\":1}"), 1790000000000001, &out));
    assert_out("{\"a\":1,\"forced\":1,\"admitted_at\":\"2026-09-21T14:13:20.000001Z\"}");
}

static void test_an_end_says_what_was_used_and_nothing_that_is_not_known(void **state)
{
    (void)state;
    struct spend_call call = a_call();
    call.outcome = OUTCOME_COMPLETED;
    call.model_replied = SV_LIT("gpt-4o-2024");
    call.service_tier = SV_LIT("flex");
    call.usage.units[USAGE_INPUT] = OPT_I64(0);
    call.usage.units[USAGE_OUTPUT] = OPT_I64(7);
    assert_true(gate_wire_capture(&call, &out));
    assert_out("{" ID
               ",\"operation\":\"chat\",\"model\":\"gpt-4o\",\"outcome\":\"completed\",\"model_replied\":"
               "\"gpt-4o-2024\",\"service_tier\":\"flex\",\"usage\":{\"input\":0,\"output\":7}}");
    call = (struct spend_call){.call_id = call.call_id, .outcome = OUTCOME_FAILED};
    assert_true(gate_wire_capture(&call, &out));
    assert_out("{" ID ",\"operation\":\"chat\",\"outcome\":\"failed\"}");
}

static void test_a_buffer_that_is_full_says_so(void **state)
{
    (void)state;
    struct spend_call call = a_call();
    struct gate_size size = {0};
    struct buffer small;
    buffer_init(&small, 40);
    assert_false(gate_wire_place(&call, &size, &small));
    buffer_clear(&small);
    assert_false(gate_wire_capture(&call, &small));
    buffer_clear(&small);
    assert_false(gate_wire_force(SV_LIT("{\"a\":1}"), 0, &small));
    buffer_free(&small);
}

static void test_answers_are_read(void **state)
{
    (void)state;
    struct gate_reply reply[3];
    size_t count;
    assert_true(gate_wire_read(
        SV_LIT("{\"items\":[{" ID ",\"state\":\"placed\",\"admitted\":true,\"admitted_at\":"
               "\"2026-09-21T14:13:20.000001Z\",\"priced\":false,\"conflict\":null,\"blocking\":[],"
               "\"warnings\":[{}]},"
               "{" ID
               ",\"state\":\"refused\",\"admitted_at\":\"2026-09-21T14:13:20.000001Z\",\"priced\":true,"
               "\"conflict\":\"a \\\"b\\\"\",\"blocking\":[{\"budget_id\":\"x\"}]},{" ID
               ",\"state\":\"voided\"}]}"),
        reply, 3, &count));
    assert_int_equal(count, 3);
    assert_int_equal(reply[0].state, GATE_REPLY_PLACED);
    assert_int_equal(reply[0].admitted_at, 1790000000000001);
    assert_true(!reply[0].priced && reply[0].warns);
    assert_true(sv_is_null(reply[0].conflict) && sv_is_null(reply[0].blocking));
    assert_int_equal(reply[1].state, GATE_REPLY_REFUSED);
    assert_true(reply[1].priced && !reply[1].warns);
    assert_true(sv_eq(reply[1].conflict, SV_LIT("a \\\"b\\\"")));
    assert_true(sv_eq(reply[1].blocking, SV_LIT("[{\"budget_id\":\"x\"}]")));
    assert_int_equal(reply[2].state, GATE_REPLY_OVER);
    assert_int_equal(reply[2].admitted_at, 0);
    assert_true(gate_wire_read(SV_LIT("{\"items\":[]}"), reply, 3, &count));
    assert_int_equal(count, 0);
}

static void test_what_is_no_answer_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "{}",
                                      "{\"items\":{}}",
                                      "{\"items\":[{}]}",
                                      "{\"items\":[1]}",
                                      "{\"items\":[{" ID "}]}",
                                      "{\"items\":[{\"call_id\":\"x\",\"state\":\"placed\"}]}",
                                      "{\"items\":[{" ID ",\"state\":\"placed\",\"admitted_at\":\"soon\"}]}",
                                      "{\"items\":[{" ID ",\"state\":\"placed\"},{" ID
                                      ",\"state\":\"placed\"}]}"};
    struct gate_reply reply[1];
    size_t count;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(gate_wire_read(sv_of(bad[i]), reply, 1, &count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_is_asked_for_with_all_that_decides),
        cmocka_unit_test(test_one_let_through_says_when),
        cmocka_unit_test(test_an_end_says_what_was_used_and_nothing_that_is_not_known),
        cmocka_unit_test(test_a_buffer_that_is_full_says_so),
        cmocka_unit_test(test_answers_are_read),
        cmocka_unit_test(test_what_is_no_answer_is_refused),
    };
    buffer_init(&out, 1 << 16);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buffer_free(&out);
    return failed;
}
