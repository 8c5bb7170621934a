#include "balance_post.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_postings_are_grouped_by_account_in_the_order_given(void **state)
{
    const int64_t accounts[] = {7, 3, 7, 3, 5, 7};
    struct posting postings[6] = {0};
    struct balance_post post;
    struct arena arena;
    struct err err;
    (void)state;
    arena_init(&arena, 1 << 16);
    for (size_t i = 0; i < 6; i++)
        postings[i] = (struct posting){.account = accounts[i], .amount_nanos = (int64_t)i};
    assert_true(balance_post_sort(&post, postings, 6, NULL, 0, &arena, &err));
    assert_int_equal(post.account_count, 3);
    const int64_t want_account[] = {3, 5, 7};
    const int64_t want_count[] = {2, 1, 3};
    const int64_t want_order[] = {1, 3, 4, 0, 2, 5};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(post.account[i], want_account[i]);
        assert_int_equal(post.count[i], want_count[i]);
    }
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(post.posting[i].amount_nanos, want_order[i]);
    arena_free(&arena);
}

static void test_nothing_to_post_locks_nothing(void **state)
{
    struct balance_post post;
    struct arena arena;
    struct err err;
    (void)state;
    arena_init(&arena, 1 << 16);
    assert_true(balance_post_sort(&post, NULL, 0, NULL, 0, &arena, &err));
    assert_int_equal(post.account_count, 0);
    assert_true(balance_post_take(&post, NULL, &err));
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_postings_are_grouped_by_account_in_the_order_given),
        cmocka_unit_test(test_nothing_to_post_locks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
