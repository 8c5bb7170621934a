/*
 * dead_letter: one row a reason, every cell filled, and the names that others rely on.
 */
#include "spend/dead_letter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_every_reason_has_its_topic_account_and_remedy(void **state)
{
    (void)state;
    static const char *const names[DEAD_REASON_COUNT] = {"untagged", "unknown", "conflict", "unpriced",
                                                         "malformed"};
    for (int i = 0; i < DEAD_REASON_COUNT; i++) {
        const struct dead_reason_row *row = &dead_reasons[i];
        char text[64];
        assert_string_equal(row->name, names[i]);
        (void)snprintf(text, sizeof text, "spend.dlq.%s", names[i]);
        assert_string_equal(row->topic, text);
        (void)snprintf(text, sizeof text, "~suspense/%s", names[i]);
        if (i == DEAD_MALFORMED)
            assert_null(row->account); /* it has no money */
        else
            assert_string_equal(row->account, text);
        assert_true(!sv_is_empty(sv_of(row->meaning)) && !sv_is_empty(sv_of(row->remedy)));
    }
}

static void test_reasons_parse_back(void **state)
{
    (void)state;
    enum dead_reason reason;
    for (int i = 0; i < DEAD_REASON_COUNT; i++) {
        assert_true(dead_reason_parse(sv_of(dead_reasons[i].name), &reason));
        assert_int_equal(reason, i);
    }
    assert_false(dead_reason_parse(SV_LIT("Untagged"), &reason));
    assert_false(dead_reason_parse(SV_NULL, &reason));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_reason_has_its_topic_account_and_remedy),
        cmocka_unit_test(test_reasons_parse_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
