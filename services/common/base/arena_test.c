#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_memory_is_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    unsigned char *seen[200];
    for (size_t i = 0; i < 200; i++) {
        seen[i] = arena_alloc(&a, i + 1);
        assert_non_null(seen[i]);
        assert_int_equal((uintptr_t)seen[i] % 16, 0);
        for (size_t k = 0; k <= i; k++)
            assert_int_equal(seen[i][k], 0);
        memset(seen[i], (int)i, i + 1);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k <= i; k++)
            assert_int_equal(seen[i][k], i);
    }
    assert_int_equal(a.used, 200 * 201 / 2);
    arena_free(&a);
}

static void test_the_cap_holds_to_the_byte(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 100);
    assert_null(arena_alloc(&a, 101));
    assert_non_null(arena_alloc(&a, 60));
    assert_null(arena_alloc(&a, 41));
    assert_non_null(arena_alloc(&a, 40));
    assert_null(arena_alloc(&a, 1));
    assert_non_null(arena_alloc(&a, 0));
    assert_null(arena_alloc(&a, SIZE_MAX));
    arena_free(&a);
    arena_init(&a, SIZE_MAX);
    assert_null(arena_alloc(&a, SIZE_MAX));
    arena_free(&a);
}

static void test_dup_ends_in_nul_and_null_stays_null(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 10);
    struct strview copy;
    char text[] = "abcd";
    assert_true(arena_dup(&a, sv_of(text), &copy));
    text[0] = 'x';
    assert_string_equal(copy.ptr, "abcd");
    assert_int_equal(copy.len, 4);
    assert_true(arena_dup(&a, SV_NULL, &copy));
    assert_true(sv_is_null(copy));
    assert_true(arena_dup(&a, sv_of(""), &copy));
    assert_false(sv_is_null(copy));
    assert_int_equal(copy.len, 0);
    assert_false(arena_dup(&a, sv_of("abcd"), &copy)); /* 6 of 10 used, 5 asked */
    assert_true(sv_is_null(copy));
    arena_free(&a);
}

static void test_printf_fits_or_is_null(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 64);
    struct strview v = arena_printf(&a, "%s-%d", "id", 7);
    assert_string_equal(v.ptr, "id-7");
    assert_int_equal(v.len, 4);
    assert_true(sv_is_null(arena_printf(&a, "%100d", 1)));
    arena_free(&a);
}

static void test_reset_gives_the_cap_back(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 8 << 20);
    arena_reset(&a);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++)
            assert_non_null(arena_alloc(&a, 20000));
        arena_reset(&a);
        assert_int_equal(a.used, 0);
        assert_non_null(a.head);
    }
    assert_non_null(arena_alloc(&a, 4 << 20)); /* an oversized block is not kept */
    arena_reset(&a);
    assert_null(a.head);
    assert_non_null(arena_alloc(&a, 8));
    arena_free(&a);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_aligned_zeroed_and_apart),
        cmocka_unit_test(test_the_cap_holds_to_the_byte),
        cmocka_unit_test(test_dup_ends_in_nul_and_null_stays_null),
        cmocka_unit_test(test_printf_fits_or_is_null),
        cmocka_unit_test(test_reset_gives_the_cap_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
