#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_set_fills_everything_and_returns_false(void **state)
{
    (void)state;
    struct err err;
    assert_false(err_set(&err, ERR_FULL, FATE_DEAD_LETTER, "no room for %d items", 7));
    assert_int_equal(err.code, ERR_FULL);
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    assert_string_equal(err.text, "no room for 7 items");
}

static void test_null_err_is_allowed(void **state)
{
    (void)state;
    assert_false(err_set(NULL, ERR_IO, FATE_RETRY, "lost"));
    assert_false(err_wrap(NULL, "reading"));
}

static void test_wrap_puts_context_in_front_and_keeps_code_and_fate(void **state)
{
    (void)state;
    struct err err;
    err_set(&err, ERR_IO, FATE_RETRY, "disk full");
    assert_false(err_wrap(&err, "journal %s", "a"));
    assert_false(err_wrap(&err, "open"));
    assert_string_equal(err.text, "open: journal a: disk full");
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(err.fate, FATE_RETRY);
}

static void test_text_is_cut_never_overrun(void **state)
{
    (void)state;
    struct err err;
    char big[400];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    err_set(&err, ERR_INVALID, FATE_FATAL, "%s", big);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    err_wrap(&err, "ctx");
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_memory_equal(err.text, "ctx: xxx", 8);
    err_wrap(&err, "%s", big);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_memory_equal(err.text + sizeof err.text - 3, ": ", 2);
}

static void test_text_stays_one_line(void **state)
{
    (void)state;
    struct err err;
    err_set(&err, ERR_INVALID, FATE_FATAL, "a\nb\x7f%s", "c\r");
    assert_string_equal(err.text, "a b c ");
    err_wrap(&err, "x\ny");
    assert_string_equal(err.text, "x y: a b c ");
}

static void test_clear_is_ok(void **state)
{
    (void)state;
    struct err err;
    err_set(&err, ERR_STATE, FATE_FATAL, "x");
    err_clear(&err);
    assert_int_equal(err.code, ERR_NONE);
    assert_int_equal(err.fate, FATE_OK);
    assert_string_equal(err.text, "");
}

static void test_each_code_has_its_own_name(void **state)
{
    (void)state;
    for (int a = ERR_NONE; a <= ERR_STATE; a++) {
        assert_non_null(err_code_name((enum err_code)a));
        assert_string_not_equal(err_code_name((enum err_code)a), "unknown");
        for (int b = ERR_NONE; b < a; b++)
            assert_string_not_equal(err_code_name((enum err_code)a), err_code_name((enum err_code)b));
    }
    assert_string_equal(err_code_name(ERR_NOT_FOUND), "not_found");
    assert_string_equal(err_code_name((enum err_code)999), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_fills_everything_and_returns_false),
        cmocka_unit_test(test_null_err_is_allowed),
        cmocka_unit_test(test_wrap_puts_context_in_front_and_keeps_code_and_fate),
        cmocka_unit_test(test_text_is_cut_never_overrun),
        cmocka_unit_test(test_text_stays_one_line),
        cmocka_unit_test(test_clear_is_ok),
        cmocka_unit_test(test_each_code_has_its_own_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
