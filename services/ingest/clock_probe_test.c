/*
 * clock_probe: what an answer of the ledger makes of later readings of our clock.
 */
#include "ingest/clock_probe.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NOW  1795421624000000LL
#define HOUR (3600 * US_PER_SECOND)

static void test_without_an_answer_nothing_is_corrected(void **state)
{
    (void)state;
    assert_int_equal(clock_probe_offset_at(NOW, 5), 0);
    assert_int_equal(clock_probe_offset_us(), 0);
}

static void test_a_step_of_our_clock_moves_no_corrected_time(void **state)
{
    (void)state;
    clock_probe_take(NOW + 700, 1000); /* our clock said NOW then */
    assert_int_equal(NOW + clock_probe_offset_at(NOW, 1000), NOW + 700);
    int64_t later = 1000 + 5 * US_PER_SECOND;
    int64_t right = NOW + 700 + 5 * US_PER_SECOND;
    const int64_t steps[] = {0, HOUR, -HOUR, 1};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        int64_t said = NOW + 5 * US_PER_SECOND + steps[i];
        assert_int_equal(said + clock_probe_offset_at(said, later), right);
    }
    clock_probe_take(NOW, later); /* the last answer counts */
    assert_int_equal(NOW + 9 + clock_probe_offset_at(NOW + 9, later), NOW);
}

static void test_the_time_is_read_from_the_ledgers_answer(void **state)
{
    (void)state;
    int64_t utc = 0;
    assert_true(clock_probe_parse(SV_LIT("{\"time\":\"2026-11-23T07:00:00.000001Z\"}"), &utc));
    assert_int_equal(utc % US_PER_SECOND, 1);
    assert_false(clock_probe_parse(SV_LIT("{\"time\":1}"), &utc));
    assert_false(clock_probe_parse(SV_LIT("{"), &utc));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_an_answer_nothing_is_corrected),
        cmocka_unit_test(test_a_step_of_our_clock_moves_no_corrected_time),
        cmocka_unit_test(test_the_time_is_read_from_the_ledgers_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
