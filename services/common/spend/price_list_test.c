/*
 * price_list: which book is in force, and that books are owned.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "spend/price_book.h"

static struct price_list *list;

static int set_up(void **state)
{
    (void)state;
    struct err err;
    return price_list_new(&list, &err) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    price_list_free(list);
    price_list_free(NULL);
    return 0;
}

static struct price_book *put(int64_t version, int64_t effective_from, int64_t recorded_at)
{
    struct price_book *book;
    struct price_import report;
    struct err err;
    assert_true(price_book_parse(&book, SV_LIT("{\"m\": {\"input_cost_per_token\": 1}}"), &report, &err));
    book->version = version;
    book->effective_from = effective_from;
    book->recorded_at = recorded_at;
    assert_true(price_list_put(list, book, &err));
    return book;
}

static void test_an_empty_list_has_nothing_in_force(void **state)
{
    (void)state;
    assert_null(price_list_find(list, INT64_MAX, INT64_MAX));
    assert_null(price_list_version(list, 0));
    assert_int_equal(price_list_newest(list), 0);
}

static void test_the_book_in_force_was_recorded_in_time(void **state)
{
    (void)state;
    static const struct {
        int64_t at, known_by, version; /* 0: none */
    } rows[] = {
        {100, 9, 0},  {-1, 100, 0}, {0, 10, 1},     {99, 100, 1},   {100, 100, 2}, {100, 19, 1},
        {200, 30, 4}, {200, 29, 2}, {199, 1000, 2}, {200, 1000, 4}, {300, 49, 4},  {300, 50, 5},
    };
    put(3, 200, 30); /* in any order; 4 was recorded with 3 and replaces it */
    put(1, 0, 10);
    put(5, 300, 50);
    put(4, 200, 30);
    put(2, 100, 20);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct price_book *b = price_list_find(list, rows[i].at, rows[i].known_by);
        assert_int_equal(b == NULL ? 0 : b->version, rows[i].version);
    }
    assert_int_equal(price_list_newest(list), 5);
    for (int64_t v = 1; v <= 5; v++)
        assert_int_equal(price_list_version(list, v)->version, v);
    assert_null(price_list_version(list, 6));
}

static void test_the_same_version_again_replaces(void **state)
{
    (void)state;
    put(1, 0, 10);
    const struct price_book *second = put(1, 0, 20);
    assert_ptr_equal(price_list_version(list, 1), second);
    assert_null(price_list_find(list, 5, 10));
    assert_ptr_equal(price_list_find(list, 5, 20), second);
}

static void test_the_list_grows(void **state)
{
    (void)state;
    for (int64_t v = 100; v > 0; v--)
        put(v, v * 10, 1);
    assert_int_equal(price_list_newest(list), 100);
    assert_int_equal(price_list_find(list, 555, 1)->version, 55);
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_an_empty_list_has_nothing_in_force),
        CASE(test_the_book_in_force_was_recorded_in_time),
        CASE(test_the_same_version_again_replaces),
        CASE(test_the_list_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
