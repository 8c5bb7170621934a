/*
 * window_charge: sums a window.
 */
#include "window_charge.h"

#include "base/money.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

static void add(struct window_charge *c, struct window_delta delta)
{
    struct err err = {0};
    assert_true(window_charge_add(c, &delta, &err));
}

static void test_a_window_gets_one_sum_in_order(void **state)
{
    (void)state;
    struct window_charge c;
    struct err err = {0};
    window_charge_init(&c, &arena);
    for (int64_t i = 0; i < 300; i++) {
        add(&c, (struct window_delta){
                    .window = 7, .spent_nanos = 2, .ungated_nanos = 1, .away_nanos = 3, .latest = i});
        add(&c, (struct window_delta){.window = 3, .spent_nanos = -1, .held_nanos = -5});
    }
    assert_true(window_charge_close(&c, &err));
    assert_int_equal(c.count, 2);
    assert_int_equal(c.delta[0].window, 3);
    assert_int_equal(c.delta[0].spent_nanos, -300);
    assert_int_equal(c.delta[0].held_nanos, -1500);
    assert_int_equal(c.delta[0].latest, 0);
    assert_int_equal(c.delta[1].window, 7);
    assert_int_equal(c.delta[1].spent_nanos, 600);
    assert_int_equal(c.delta[1].ungated_nanos, 300);
    assert_int_equal(c.delta[1].away_nanos, 900);
    assert_int_equal(c.delta[1].latest, 299);
}

static void test_a_sum_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct window_charge c;
    struct err err = {0};
    window_charge_init(&c, &arena);
    add(&c, (struct window_delta){.window = 1, .spent_nanos = INT64_MAX});
    add(&c, (struct window_delta){.window = 1, .spent_nanos = 1});
    assert_false(window_charge_close(&c, &err));
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    assert_int_equal(err.code, ERR_OVERFLOW);
}

static void test_none_is_none(void **state)
{
    (void)state;
    struct window_charge c;
    struct err err = {0};
    struct pg_fields args;
    window_charge_init(&c, &arena);
    pg_fields_init(&args);
    assert_true(window_charge_close(&c, &err));
    assert_true(window_charge_ids(&c, &args, &err));
    assert_int_equal(args.count, 1);
    assert_int_equal(args.bytes.len, 4); /* NULL */
    pg_fields_free(&args);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_window_gets_one_sum_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_sum_that_does_not_fit_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_none_is_none, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
