#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void test_the_clocks_move_and_agree_with_time(void **state)
{
    (void)state;
    int64_t mono = clock_mono_us();
    int64_t before = (int64_t)time(NULL);
    int64_t now = clock_now_us();
    assert_true(now / US_PER_SECOND >= before - 1 && now / US_PER_SECOND <= before + 5);
    assert_true(clock_mono_us() >= mono);
}

static void test_text_of_known_times(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {1, "1970-01-01T00:00:00.000001Z"},
        {1795417200000001, "2026-11-23T07:00:00.000001Z"},
        {951782400000000, "2000-02-29T00:00:00.000000Z"},
        {4107542400000000, "2100-03-01T00:00:00.000000Z"},
        {-62167219200000000, "0000-01-01T00:00:00.000000Z"},
        {253402300799999999, "9999-12-31T23:59:59.999999Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[CLOCK_TEXT_MAX];
        int64_t back = 0;
        assert_int_equal(clock_format(cases[i].us, text), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
        assert_true(clock_parse(sv_of(text), &back));
        assert_int_equal(back, cases[i].us);
    }
}

static void test_every_day_agrees_with_the_c_library(void **state)
{
    (void)state;
    for (int64_t day = -354285; day < 2932896; day += 1 + (day > 60000 ? 13 : 0)) {
        time_t seconds = (time_t)(day * 86400 + 45296);
        struct tm tm;
        assert_non_null(gmtime_r(&seconds, &tm));
        char want[CLOCK_TEXT_MAX];
        char text[CLOCK_TEXT_MAX];
        assert_int_equal(strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S.000007Z", &tm), 27);
        (void)clock_format((int64_t)seconds * US_PER_SECOND + 7, text);
        assert_string_equal(text, want);
        int64_t back = 0;
        assert_true(clock_parse(sv_of(text), &back));
        assert_int_equal(back, (int64_t)seconds * US_PER_SECOND + 7);
    }
}

static void test_the_whole_int64_range_is_printed_without_overrun(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_MAX];
    assert_true(clock_format(INT64_MAX, text) < CLOCK_TEXT_MAX);
    assert_string_equal(text, "294247-01-10T04:00:54.775807Z");
    assert_true(clock_format(INT64_MIN, text) < CLOCK_TEXT_MAX);
    assert_string_equal(text, "-290308-12-21T19:59:05.224192Z");
}

static void test_offsets_fractions_and_leap_seconds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *utc;
    } cases[] = {
        {"2026-11-23t07:00:00z", "2026-11-23T07:00:00.000000Z"},
        {"2026-11-23T07:00:00+05:30", "2026-11-23T01:30:00.000000Z"},
        {"2026-11-23T22:00:00-05:00", "2026-11-24T03:00:00.000000Z"},
        {"2026-11-23T07:00:00-00:00", "2026-11-23T07:00:00.000000Z"},
        {"2026-11-23T07:00:00.1Z", "2026-11-23T07:00:00.100000Z"},
        {"2026-11-23T07:00:00.123456789Z", "2026-11-23T07:00:00.123456Z"},
        {"1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999Z"},
        {"2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000Z"},
        {"2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t us = 0;
        char text[CLOCK_TEXT_MAX];
        assert_true(clock_parse(sv_of(cases[i].text), &us));
        (void)clock_format(us, text);
        assert_string_equal(text, cases[i].utc);
    }
}

static void test_what_is_not_rfc_3339_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "2026-11-23",
        "2026-11-23T07:00:00",
        "2026-11-23 07:00:00Z",
        "2026-11-23T07:00Z",
        "26-11-23T07:00:00Z",
        "2026-13-23T07:00:00Z",
        "2026-00-23T07:00:00Z",
        "2026-11-00T07:00:00Z",
        "2026-11-31T07:00:00Z",
        "2026-02-29T07:00:00Z",
        "2100-02-29T07:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T07:60:00Z",
        "2026-11-23T07:00:61Z",
        "2026-11-23T07:00:60Z",
        "2026-11-23T07:00:00.Z",
        "2026-11-23T07:00:00.1234567890Z",
        "2026-11-23T07:00:00+0530",
        "2026-11-23T07:00:00+24:00",
        "2026-11-23T07:00:00+05:60",
        "2026-11-23T07:00:00+05",
        "2026-11-23T07:00:00ZZ",
        "2026-11-23T07:00:00Z ",
        "2026/11/23T07:00:00Z",
        "2026-11-23T07.00:00Z",
        "2026-1a-23T07:00:00Z",
        "+2026-11-23T07:00:00Z",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t us = 42;
        assert_false(clock_parse(sv_of(cases[i]), &us));
        assert_int_equal(us, 42);
    }
    int64_t us = 0;
    assert_false(clock_parse(SV_NULL, &us));
    static const char whole[] = "2026-11-23T07:00:00.123456+05:30";
    for (size_t len = 0; len < sizeof whole - 1; len++)
        assert_false(clock_parse(sv_of_bytes(whole, len), &us));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_clocks_move_and_agree_with_time),
        cmocka_unit_test(test_text_of_known_times),
        cmocka_unit_test(test_every_day_agrees_with_the_c_library),
        cmocka_unit_test(test_the_whole_int64_range_is_printed_without_overrun),
        cmocka_unit_test(test_offsets_fractions_and_leap_seconds),
        cmocka_unit_test(test_what_is_not_rfc_3339_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
