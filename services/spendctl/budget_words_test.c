#include "budget_words.h"

#include "zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

typedef const char *words_fn(const json_t *budget, char out[BUDGET_WORDS_MAX]);

static void check(words_fn *words, const char *budget, const char *want)
{
    char out[BUDGET_WORDS_MAX];
    json_t *document = json_loads(budget, 0, NULL);
    assert_non_null(document);
    assert_string_equal(words(document, out), want);
    json_decref(document);
}

static void test_what_a_budget_is_about(void **state)
{
    (void)state;
    check(budget_about, "{\"scope\": \"tag\", \"value\": \"tenant=acme\", \"each\": null}",
          "tag tenant=acme");
    check(budget_about, "{\"scope\": \"tag\", \"value\": null, \"each\": \"tenant\"}",
          "each value of tag tenant");
    check(budget_about, "{\"scope\": \"tag\", \"value\": \"tenant=acme\", \"each\": \"tenant\"}",
          "tag tenant=acme");
    check(budget_about, "{\"scope\": \"account\", \"value\": null, \"each\": \"account\"}", "each account");
    check(budget_limit, "{\"limit\": null}", "none");
    check(budget_limit, "{\"limit\": \"12.5\"}", "12.5 USD");
}

static void test_thresholds_are_reached_when_the_ledger_says_so(void **state)
{
    (void)state;
    check(budget_thresholds,
          "{\"threshold_crossed\": 80, \"limit\": \"100\", \"spent\": \"8\", \"thresholds\": [50, 80, 100]}",
          "50 % reached, 80 % reached, 100 %");
    check(budget_thresholds,
          "{\"threshold_crossed\": null, \"limit\": \"0\", \"spent\": \"0\", \"thresholds\": [50]}", "50 %");
    check(budget_thresholds, "{\"limit\": \"10\", \"thresholds\": [50]}", "50 %");
    check(budget_thresholds, "{\"limit\": \"0\", \"thresholds\": []}", "none");
}

static void test_windows_in_words(void **state)
{
    (void)state;
    assert_true(zone_use("Europe/Berlin"));
    check(budget_window, "{\"window\": {\"kind\": \"lifetime\", \"tz\": \"UTC\"}}", "lifetime");
    check(budget_window,
          "{\"window\": {\"kind\": \"calendar\", \"period\": \"month\", \"tz\": \"Asia/Tokyo\"}}",
          "calendar month in Asia/Tokyo");
    static const struct {
        int64_t seconds;
        const char *words;
    } intervals[] = {{2592000, "every 30 days"}, {86400, "every 24 hours"},  {3600, "every hour"},
                     {7200, "every 2 hours"},    {5400, "every 90 minutes"}, {1, "every second"},
                     {61, "every 61 seconds"}};
    for (size_t i = 0; i < sizeof intervals / sizeof intervals[0]; i++) {
        char out[BUDGET_WORDS_MAX];
        json_t *budget = json_pack("{s:{s:s, s:I, s:s}}", "window", "kind", "interval", "seconds",
                                   (json_int_t)intervals[i].seconds, "anchor", "2026-12-01T00:00:00Z");
        const char *words = budget_window(budget, out);
        assert_memory_equal(words, intervals[i].words, strlen(intervals[i].words));
        assert_string_equal(words + strlen(intervals[i].words), ", counted from 2026-12-01 01:00 CET");
        json_decref(budget);
    }
}

static void read_window(const char *text, const char *want)
{
    json_t *window = json_pack("{s:s, s:s}", "tz", "UTC", "period", "day");
    if (want == NULL) {
        assert_false(budget_read_window(text, window));
    } else {
        assert_true(budget_read_window(text, window));
        json_t *expected = json_loads(want, 0, NULL);
        assert_true(json_equal(window, expected));
        json_decref(expected);
    }
    json_decref(window);
}

static void test_windows_are_read_from_a_word(void **state)
{
    (void)state;
    read_window("lifetime", "{\"kind\": \"lifetime\", \"period\": null, \"seconds\": null, \"tz\": \"UTC\"}");
    read_window("month",
                "{\"kind\": \"calendar\", \"period\": \"month\", \"seconds\": null, \"tz\": \"UTC\"}");
    read_window("90s", "{\"kind\": \"interval\", \"period\": null, \"seconds\": 90, \"tz\": \"UTC\"}");
    static const char *const wrong[] = {"", "s", "90", "3x", "months", "calendar", "interval", "1m", " 5s"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        read_window(wrong[i], NULL);
}

static void test_thresholds_are_read_from_a_list(void **state)
{
    (void)state;
    json_t *list = budget_read_thresholds("50, 80,100");
    assert_int_equal(json_array_size(list), 3);
    assert_int_equal(json_integer_value(json_array_get(list, 1)), 80);
    json_decref(list);
    list = budget_read_thresholds("none");
    assert_int_equal(json_array_size(list), 0);
    assert_non_null(list);
    json_decref(list);
    static const char *const wrong[] = {"", "50,", ",50", "50;80", "50%", "half"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_null(budget_read_thresholds(wrong[i]));
}

static void test_a_hint_can_be_pasted_into_a_shell(void **state)
{
    (void)state;
    char out[BUDGET_WORDS_MAX];
    char text[2 * BUDGET_WORDS_MAX];
    assert_string_equal(budget_quote("tenant=acme", out), "tenant=acme");
    assert_string_equal(budget_quote("", out), "''");
    assert_string_equal(budget_quote("a b", out), "'a b'");
    assert_string_equal(budget_quote("it's $HOME", out), "'it'\\''s $HOME'");
    assert_string_equal(budget_quote("~other", out), "'~other'");
    memset(text, '\'', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_true(strlen(budget_quote(text, out)) < BUDGET_WORDS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_budget_is_about),
        cmocka_unit_test(test_thresholds_are_reached_when_the_ledger_says_so),
        cmocka_unit_test(test_windows_in_words),
        cmocka_unit_test(test_windows_are_read_from_a_word),
        cmocka_unit_test(test_thresholds_are_read_from_a_list),
        cmocka_unit_test(test_a_hint_can_be_pasted_into_a_shell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
