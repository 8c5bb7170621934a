#include "ingest/gate_refusal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define NOW 1790000000000000 /* 2026-09-21T14:13:20Z */
#define BLOCK(id, scope, value, end, limit, spent, held)                                                     \
    "{\"budget_id\":\"" id "\",\"scope\":\"" scope "\",\"value\":\"" value "\",\"window_start\":"            \
    "\"2026-09-01T00:00:00Z\",\"window_end\":" end ",\"limit\":\"" limit "\",\"spent\":\"" spent             \
    "\",\"held\":\"" held "\",\"estimate\":\"0.1\"}"
#define BALANCE                                                                                              \
    "{\"budget_id\":null,\"limit\":\"0.5\",\"spent\":\"0\",\"held\":\"0.25\",\"estimate\":\"0.6\"}"
#define SOON  "\"2026-09-21T14:13:21.000001Z\""
#define LATER "\"2026-09-21T15:13:20Z\""

static void assert_refusal(const char *blocking, int status, int64_t retry_after_s, const char *body)
{
    struct gate_refusal why;
    assert_true(gate_refusal_budget(sv_of(blocking), 400, NOW, &why));
    assert_true(buffer_append_byte(&why.body, '\0'));
    assert_string_equal(why.body.data, body);
    assert_int_equal(why.status, status);
    assert_int_equal(why.retry_after_s, retry_after_s);
    buffer_free(&why.body);
}

static void test_a_budget_is_told_in_litellms_words(void **state)
{
    (void)state;
    const char *one = "[" BLOCK("b1", "tag", "tenant:\\\"acme\\\"", "null", "0.05", "0.05", "0") "]";
    assert_refusal(
        one, 400, 0,
        "{\"error\":{\"message\":\"Budget has been exceeded! Tag=tenant:\\\"acme\\\" Current cost: 0.05, "
        "Max budget: 0.05\",\"type\":\"budget_exceeded\",\"param\":null,\"code\":\"400\",\"budgets\":"
        "[" BLOCK("b1", "tag", "tenant:\\\"acme\\\"", "null", "0.05", "0.05", "0") "]}}");
    const char *key = "[" BLOCK("b1", "key", "abcdef", LATER, "1", "2", "0") "]";
    assert_refusal(
        key, 400, 3600,
        "{\"error\":{\"message\":\"Budget has been exceeded! Current cost: 2, Max budget: 1\",\"type\":"
        "\"budget_exceeded\",\"param\":null,\"code\":\"400\",\"budgets\":"
        "[" BLOCK("b1", "key", "abcdef", LATER, "1", "2", "0") "]}}");
}

static int64_t wait_for(const char *blocking)
{
    struct gate_refusal why;
    assert_true(gate_refusal_budget(sv_of(blocking), 429, NOW, &why));
    buffer_free(&why.body);
    assert_int_equal(why.status, 429);
    return why.retry_after_s;
}

static void test_it_says_how_long_to_wait_when_that_helps(void **state)
{
    (void)state;
    assert_int_equal(wait_for("[" BLOCK("a", "user", "u", SOON, "1", "1", "0") "]"), 2); /* rounded up */
    assert_int_equal(wait_for("[" BLOCK("a", "user", "u", "\"2026-09-21T14:13:19Z\"", "1", "1", "0") "]"), 1);
    assert_int_equal(wait_for("[" BLOCK("a", "user", "u", LATER, "1", "0.9", "0.1") "]"), 1); /* only held */
    assert_int_equal(wait_for("[" BLOCK("a", "user", "u", "null", "1", "0.9", "0.1") "]"), 1);
    assert_int_equal(wait_for("[" BLOCK("a", "user", "u", LATER, "1", "0.95", "0.1") "]"),
                     3600); /* one call is too much, also when nothing is held */
    assert_int_equal(wait_for("[" BLOCK("a", "user", "u", LATER, "1", "0.9", "0") "]"),
                     3600); /* one call is too much */
    assert_int_equal(wait_for("[" BLOCK("a", "user", "u", SOON, "1", "1",
                                        "0") "," BLOCK("b", "team", "t", LATER, "1", "1", "0") "]"),
                     3600);
    assert_int_equal(wait_for("[" BLOCK("a", "user", "u", SOON, "1", "1",
                                        "0") "," BLOCK("b", "team", "t", "null", "1", "1", "0") "]"),
                     0);
}

static void test_a_balance_is_402_and_every_blocker_is_named(void **state)
{
    (void)state;
    assert_refusal(
        "[" BLOCK("b1", "model", "m", "null", "1", "1", "0") "," BALANCE "]", 402, 0,
        "{\"error\":{\"message\":\"Budget has been exceeded! Model=m Current cost: 1, Max budget: 1; "
        "Account balance has been exhausted! Balance: 0.5, held: 0.25\",\"type\":\"balance_exhausted\","
        "\"param\":null,\"code\":\"402\",\"budgets\":[" BLOCK("b1", "model", "m", "null", "1", "1",
                                                              "0") "," BALANCE "]}}");
}

static void test_names_fit_a_header(void **state)
{
    (void)state;
    struct buffer names;
    buffer_init(&names, 1024);
    assert_true(gate_refusal_names(SV_LIT("[" BLOCK("a-1", "tag", "t", "null", "1", "1", "0") "," BLOCK(
                                       "b,\\n\\u00fc%", "tag", "t", "null", "1", "1", "0") "," BALANCE "]"),
                                   &names));
    assert_true(buffer_append_byte(&names, '\0'));
    assert_string_equal(names.data, "a-1,b%2C%0A%C3%BC%25,~balance");
    buffer_free(&names);
}

static void test_what_names_nothing_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "[]", "{}", "[1]", "[{\"budget_id\":}]", "[{}"};
    struct gate_refusal why;
    struct buffer names;
    buffer_init(&names, 1024);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(gate_refusal_budget(sv_of(bad[i]), 400, NOW, &why));
        assert_false(gate_refusal_names(sv_of(bad[i]), &names));
    }
    buffer_free(&names);
}

static void test_a_conflict_is_403(void **state)
{
    (void)state;
    struct gate_refusal why;
    assert_true(gate_refusal_conflict(SV_LIT("tag says \\\"a\\\", key says b"), &why));
    assert_true(buffer_append_byte(&why.body, '\0'));
    assert_string_equal(why.body.data,
                        "{\"error\":{\"message\":\"tag says \\\"a\\\", key says b\",\"type\":\"conflict\","
                        "\"param\":null,\"code\":\"403\"}}");
    assert_int_equal(why.status, 403);
    buffer_free(&why.body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_budget_is_told_in_litellms_words),
        cmocka_unit_test(test_it_says_how_long_to_wait_when_that_helps),
        cmocka_unit_test(test_a_balance_is_402_and_every_blocker_is_named),
        cmocka_unit_test(test_names_fit_a_header),
        cmocka_unit_test(test_what_names_nothing_is_refused),
        cmocka_unit_test(test_a_conflict_is_403),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
