/*
 * budget_state: its words are the schema's.
 */
#include "spend/budget_state.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_measures_go_both_ways(void **state)
{
    (void)state;
    static const char *const words[MEASURE_COUNT] = {"raw", "billed"};
    enum budget_measure measure;
    for (int i = 0; i < MEASURE_COUNT; i++) {
        assert_string_equal(budget_measure_name((enum budget_measure)i), words[i]);
        assert_true(budget_measure_parse(sv_of(words[i]), &measure));
        assert_int_equal(measure, i);
    }
    assert_false(budget_measure_parse(SV_LIT("Raw"), &measure));
    assert_false(budget_measure_parse(SV_NULL, &measure));
}

static void test_modes_have_words(void **state)
{
    (void)state;
    assert_string_equal(budget_mode_name(MODE_HARD), "hard");
    assert_string_equal(budget_mode_name(MODE_SHADOW), "shadow");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measures_go_both_ways),
        cmocka_unit_test(test_modes_have_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
