#include "zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_a_zone_that_does_not_exist_is_not_taken_for_utc(void **state)
{
    (void)state;
    assert_true(zone_is_known("Europe/Berlin"));
    assert_true(zone_is_known("UTC"));
    static const char *const wrong[] = {
        "",           "Mars/Olympus", "Europe",         "europe/berlin", "CET+1", "../zoneinfo/UTC",
        "posixrules", "right/UTC",    "/etc/localtime", "UTC+3"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(zone_is_known(wrong[i]));
}

static void test_what_tz_may_be_set_to(void **state)
{
    (void)state;
    static const char *const right[] = {"",
                                        ":",
                                        "UTC",
                                        "Europe/Berlin",
                                        ":Europe/Berlin",
                                        "CET-1CEST",
                                        "<-03>3",
                                        "UTC0",
                                        "/usr/share/zoneinfo/Europe/Berlin"};
    static const char *const wrong[] = {"Mars/Olympus", ":Mars", "CE1", "Berlin", "<-03", "/etc/passwd"};
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
        assert_true(zone_is_setting(right[i]));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(zone_is_setting(wrong[i]));
}

static void test_times_are_those_of_the_zone_in_winter_and_in_summer(void **state)
{
    (void)state;
    char out[ZONE_TIME_MAX];
    assert_true(zone_use("Europe/Berlin"));
    assert_string_equal(zone_time("2026-11-30T23:00:00.000000Z", out), "2026-12-01 00:00 CET");
    assert_string_equal(zone_time("2026-06-30T22:00:07.000000Z", out), "2026-07-01 00:00:07 CEST");
    assert_string_equal(zone_time("1969-12-31T22:59:59.500000Z", out), "1969-12-31 23:59:59 CET");
    assert_true(zone_use("America/Sao_Paulo"));
    assert_string_equal(zone_time("2026-12-01T03:00:00Z", out), "2026-12-01 00:00 -03");
    assert_true(zone_use("UTC"));
    assert_string_equal(zone_time("2026-12-01T03:00:00Z", out), "2026-12-01 03:00 UTC");
    assert_string_equal(zone_time(NULL, out), "-");
    assert_string_equal(zone_time("tomorrow", out), "-");
}

static void test_the_readers_own_zone_is_that_of_tz(void **state)
{
    (void)state;
    char out[ZONE_TIME_MAX];
    assert_int_equal(setenv("TZ", "Asia/Kathmandu", 1), 0);
    assert_true(zone_use(NULL));
    assert_string_equal(zone_time("2026-12-01T00:00:00Z", out), "2026-12-01 05:45 +0545");
    assert_int_equal(setenv("TZ", "Mars/Olympus", 1), 0);
    assert_false(zone_use(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_zone_that_does_not_exist_is_not_taken_for_utc),
        cmocka_unit_test(test_what_tz_may_be_set_to),
        cmocka_unit_test(test_times_are_those_of_the_zone_in_winter_and_in_summer),
        cmocka_unit_test(test_the_readers_own_zone_is_that_of_tz),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
