#include "pg_fate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_each_sqlstate_has_its_fate(void **state)
{
    static const struct {
        const char *sqlstate;
        enum err_code code;
        enum err_fate fate;
    } cases[] = {
        {NULL, ERR_POSTGRES, FATE_RETRY}, /* connection lost */
        {"", ERR_POSTGRES, FATE_RETRY},
        {"23505", ERR_CONFLICT, FATE_RETRY}, /* another ledger was first */
        {"40001", ERR_POSTGRES, FATE_RETRY},
        {"40P01", ERR_CONFLICT, FATE_RETRY},
        {"55P03", ERR_TIMEOUT, FATE_RETRY},  /* lock_timeout */
        {"55006", ERR_POSTGRES, FATE_RETRY}, /* in use */
        {"57014", ERR_POSTGRES, FATE_RETRY}, /* statement_timeout */
        {"57P01", ERR_POSTGRES, FATE_RETRY},
        {"53100", ERR_POSTGRES, FATE_RETRY}, /* disk full */
        {"25006", ERR_POSTGRES, FATE_RETRY}, /* a standby */
        {"22003", ERR_OVERFLOW, FATE_DEAD_LETTER},
        {"22021", ERR_INVALID, FATE_DEAD_LETTER}, /* no UTF-8 */
        {"23514", ERR_INVALID, FATE_DEAD_LETTER},
        {"54000", ERR_INVALID, FATE_DEAD_LETTER}, /* an index row too large */
        {"42P01", ERR_POSTGRES, FATE_FATAL},      /* no such table */
        {"42501", ERR_POSTGRES, FATE_FATAL},      /* no right */
        {"28P01", ERR_POSTGRES, FATE_FATAL},      /* password */
        {"XX001", ERR_POSTGRES, FATE_FATAL},      /* corrupted */
        {"XX000", ERR_POSTGRES, FATE_RETRY},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum err_code code;
        enum err_fate fate;
        pg_fate_of(cases[i].sqlstate, &code, &fate);
        assert_int_equal(code, cases[i].code);
        assert_int_equal(fate, cases[i].fate);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_sqlstate_has_its_fate)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
