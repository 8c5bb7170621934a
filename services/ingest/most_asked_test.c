#include "ingest/most_asked.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static enum spend_operation operation;

static void assert_most(const char *body, int64_t max_tokens, int64_t n)
{
    struct most_asked most = {.n.has = false};
    struct json_scan scan;
    struct json_value key;
    struct json_value value;
    json_scan_init(&scan, sv_of(body), 8);
    assert_true(json_scan_value(&scan, &value));
    while (json_scan_member(&scan, &key, &value))
        most_asked_read(&most, operation, &key, &value);
    assert_false(scan.failed);
    assert_int_equal(most.max_tokens.has ? most.max_tokens.v : -1, max_tokens);
    assert_int_equal(most.n.has ? most.n.v : -1, n);
}

#define ANY INT64_MAX

static void test_what_it_may_use_at_most_is_read_by_the_names_of_its_operation(void **state)
{
    (void)state;
    operation = OPERATION_CHAT;
    assert_most("{}", -1, -1);
    assert_most("{\"max_tokens\":7,\"n\":3,\"best_of\":9}", 7, 3);
    assert_most("{\"max_tokens\":1,\"max_completion_tokens\":900}", 900, -1);
    assert_most("{\"max_completion_tokens\":900,\"max_tokens\":1}", 900, -1);
    assert_most("{\"max_output_tokens\":1}", -1, -1); /* no chat knows it */
    operation = OPERATION_COMPLETION;
    assert_most("{\"max_tokens\":0,\"best_of\":5,\"n\":2}", 0, 5);
    operation = OPERATION_RESPONSES;
    assert_most("{\"max_tokens\":1,\"max_output_tokens\":50,\"n\":7}", 50, -1);
    operation = OPERATION_MESSAGES;
    assert_most("{\"max_tokens\":50,\"max_completion_tokens\":70}", 50, -1);
    operation = OPERATION_IMAGE;
    assert_most("{\"n\":4,\"max_tokens\":1}", -1, 4);
}

static void test_a_limit_that_is_no_whole_number_is_none(void **state)
{
    (void)state;
    operation = OPERATION_CHAT;
    assert_most("{\"max_tokens\":\"12\",\"n\":1.5}", ANY, ANY);
    assert_most("{\"max_tokens\":-4,\"n\":99999999999999999999}", ANY, ANY);
    assert_most("{\"max_tokens\":1,\"max_tokens\":null,\"n\":null}", ANY, -1);
    assert_most("{\"max_tokens\":1,\"max_completion_tokens\":\"4000\"}", ANY, -1);
    assert_most("{\"max_tokens\":null,\"max_tokens\":1,\"n\":\"2\"}", ANY, ANY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_it_may_use_at_most_is_read_by_the_names_of_its_operation),
        cmocka_unit_test(test_a_limit_that_is_no_whole_number_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
