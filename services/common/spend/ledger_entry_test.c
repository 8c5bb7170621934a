/*
 * ledger_entry: its words are the schema's.
 */
#include "spend/ledger_entry.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_kinds_go_both_ways(void **state)
{
    (void)state;
    static const char *const words[ENTRY_KIND_COUNT] = {"deduction", "adjustment", "reversal", "top_up",
                                                        "grant",     "refund",     "opening"};
    enum entry_kind kind;
    for (int i = 0; i < ENTRY_KIND_COUNT; i++) {
        assert_string_equal(entry_kind_name((enum entry_kind)i), words[i]);
        assert_true(entry_kind_parse(sv_of(words[i]), &kind));
        assert_int_equal(kind, i);
    }
    assert_false(entry_kind_parse(SV_LIT("Deduction"), &kind));
    assert_false(entry_kind_parse(SV_NULL, &kind));
}

static void test_causes_have_words(void **state)
{
    (void)state;
    static const char *const words[CAUSE_COUNT] = {"call", "correction", "redrive", "rebill", "credit"};
    for (int i = 0; i < CAUSE_COUNT; i++)
        assert_string_equal(entry_cause_name((enum entry_cause)i), words[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_go_both_ways),
        cmocka_unit_test(test_causes_have_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
