#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static bool holds(const struct buffer *b, const char *text)
{
    return sv_eq(buffer_view(b), sv_of(text));
}

static void test_appends_in_order(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 1000);
    assert_true(holds(&b, ""));
    assert_true(buffer_append(&b, "ab", 2));
    assert_true(buffer_append_byte(&b, 'c'));
    assert_true(buffer_append_sv(&b, sv_of("de")));
    assert_true(buffer_append_sv(&b, SV_NULL));
    assert_true(buffer_printf(&b, "-%d", 42));
    assert_true(holds(&b, "abcde-42"));
    assert_true(buffer_append_uint(&b, 0, 10) && buffer_append_uint(&b, UINT64_MAX, 10));
    assert_true(buffer_append_byte(&b, ' ') && buffer_append_uint(&b, 0xfade1, 16));
    assert_true(holds(&b, "abcde-42018446744073709551615 fade1"));
    buffer_clear(&b);
    assert_true(holds(&b, ""));
    buffer_free(&b);
    buffer_free(&b);
}

static void test_the_cap_holds_and_a_refused_append_changes_nothing(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 5);
    assert_false(buffer_append(&b, "abcdef", 6));
    assert_true(buffer_append(&b, "abc", 3));
    assert_false(buffer_append(&b, "def", 3));
    assert_false(buffer_printf(&b, "%03d", 1));
    assert_null(buffer_reserve(&b, 3));
    assert_null(buffer_reserve(&b, SIZE_MAX));
    assert_true(holds(&b, "abc"));
    assert_true(buffer_printf(&b, "%02d", 1)); /* to the last byte, no room for a NUL */
    assert_true(holds(&b, "abc01"));
    assert_true(b.room <= 5);
    buffer_free(&b);
    buffer_init(&b, 0);
    assert_false(buffer_append_byte(&b, 0));
    assert_true(buffer_append(&b, NULL, 0));
    assert_non_null(buffer_reserve(&b, 0));
    buffer_free(&b);
}

static void test_long_printf_is_whole_or_refused(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 5000);
    assert_true(buffer_printf(&b, "%4000d", 7));
    assert_int_equal(b.len, 4000);
    assert_int_equal(b.data[3999], '7');
    assert_false(buffer_printf(&b, "%4000d", 7));
    assert_int_equal(b.len, 4000);
    buffer_free(&b);
}

static void test_growth_in_small_steps_keeps_the_bytes(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 100000);
    for (int i = 0; i < 100000; i++)
        assert_true(buffer_append_byte(&b, (uint8_t)(i % 251)));
    assert_false(buffer_append_byte(&b, 0));
    for (int i = 0; i < 100000; i++)
        assert_int_equal((unsigned char)b.data[i], i % 251);
    buffer_free(&b);
}

static void test_reserve_write_grow_consume(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 100);
    char *room = buffer_reserve(&b, 10);
    assert_non_null(room);
    for (size_t i = 0; i < 10; i++)
        room[i] = "0123456789"[i];
    buffer_grew(&b, 4);
    assert_true(holds(&b, "0123"));
    buffer_consume(&b, 0);
    buffer_consume(&b, 3);
    assert_true(holds(&b, "3"));
    buffer_consume(&b, 1);
    assert_true(holds(&b, ""));
    buffer_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends_in_order),
        cmocka_unit_test(test_the_cap_holds_and_a_refused_append_changes_nothing),
        cmocka_unit_test(test_long_printf_is_whole_or_refused),
        cmocka_unit_test(test_growth_in_small_steps_keeps_the_bytes),
        cmocka_unit_test(test_reserve_write_grow_consume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
