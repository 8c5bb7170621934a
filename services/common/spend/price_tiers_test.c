/*
 * price_tiers: what a price file's ranges become, and how tokens are cut by them.
 */
#include "spend/price_tiers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void read_ranges(const char *tiered_pricing, bool readable, struct price_tiers *out)
{
    char json[2048];
    struct price_book *book = NULL;
    struct price_import report;
    struct err err = {0};
    (void)snprintf(json, sizeof json, "{\"m\": {\"tiered_pricing\": %s}}", tiered_pricing);
    if (!price_book_parse(&book, sv_of(json), &report, &err))
        fail_msg("%s", err.text);
    const struct price_entry *entry = price_book_find(book, SV_LIT("m"));
    assert_int_equal(price_tiers_read(entry, out), readable);
    int64_t femtos = 0;
    for (size_t i = 0; readable && i < out->count; i++) {
        assert_true(price_tiers_rate(entry, out, i, "a_cost", &femtos));
        assert_int_equal(femtos, (int64_t)(i + 1) * 1000000);
        assert_false(price_tiers_rate(entry, out, i, "b_cost", &femtos));
    }
    price_book_free(book);
}

static void test_ranges_are_read_in_order_wherever_their_range_stands(void **state)
{
    (void)state;
    struct price_tiers tiers;
    read_ranges("[{\"range\": [2e5, 3e5], \"a_cost\": 3e-9}, {\"a_cost\": 1e-9, \"range\": [0, 3.2e4]},"
                " {\"a_cost\": 2e-9, \"x\": {\"y\": [1]}, \"range\": [32000.0, 200000]}]",
                true, &tiers);
    assert_int_equal(tiers.count, 3);
    assert_int_equal(tiers.from[1], 32000);
    assert_int_equal(tiers.from[2], 200000);
    read_ranges("[]", true, &tiers);
    assert_int_equal(tiers.count, 0);
}

static void test_what_has_no_range_of_tokens_is_not_read_as_one(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "[{\"a_cost\": 1e-9}]",
        "[{\"a_cost\": 1e-9, \"range\": []}]",
        "[{\"a_cost\": 1e-9, \"range\": [-5, 5]}]",
        "[{\"a_cost\": 1e-9, \"range\": [\"0\", 5]}]",
        "[{\"a_cost\": 1e-9, \"max_range\": [0, 5]}]",
        "{\"a_cost\": 1e-9}",
        "{\"from_\": {\"a_cost\": 1e-9}}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct price_tiers tiers;
        read_ranges(wrong[i], false, &tiers);
    }
}

static void test_more_ranges_than_there_is_room_for_are_refused(void **state)
{
    (void)state;
    char text[2048] = "[";
    size_t at = 1;
    struct price_tiers tiers;
    for (int i = 0; i <= PRICE_TIERS_MAX; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s{\"range\": [%d, 9], \"a_cost\": %de-9}",
                               i > 0 ? "," : "", i, i + 1);
    (void)snprintf(text + at, sizeof text - at, "]");
    read_ranges(text, false, &tiers);
}

static void test_slices_hold_every_token_once(void **state)
{
    (void)state;
    const struct price_tiers tiers = {.from = {0, 10, 25}, .count = 3};
    static const int64_t rows[][4] = {{0, 0, 0, 0},
                                      {1, 1, 0, 0},
                                      {10, 10, 0, 0},
                                      {11, 10, 1, 0},
                                      {25, 10, 15, 0},
                                      {26, 10, 15, 1},
                                      {INT64_MAX, 10, 15, INT64_MAX - 25}};
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(price_tiers_slice(&tiers, i, rows[r][0]), rows[r][i + 1]);
    const struct price_tiers late = {.from = {5}, .count = 1}; /* what is below the first costs as it does */
    assert_int_equal(price_tiers_slice(&late, 0, 3), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges_are_read_in_order_wherever_their_range_stands),
        cmocka_unit_test(test_what_has_no_range_of_tokens_is_not_read_as_one),
        cmocka_unit_test(test_more_ranges_than_there_is_room_for_are_refused),
        cmocka_unit_test(test_slices_hold_every_token_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
