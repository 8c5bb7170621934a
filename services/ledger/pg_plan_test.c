#include "pg_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define LOCK "SELECT id FROM budget_window AS w WHERE w.id = ANY ($1::bigint[]) ORDER BY w.id FOR UPDATE"
#define CHANGE                                                                                               \
    "UPDATE hold AS h SET state = $2 FROM unnest($1::uuid[]) AS x (call_id) WHERE h.call_id = x.call_id"

static bool passes(const char *sql, const char *plan)
{
    struct err err = {0};
    bool ok = pg_plan_check(sql, sv_of(plan), &err);
    if (!ok) {
        assert_int_equal(err.code, ERR_STATE);
        assert_int_equal(err.fate, FATE_FATAL);
        assert_non_null(strstr(err.text, "out of order"));
    }
    return ok;
}

static void test_a_lock_behind_a_sort_or_an_index_is_in_order(void **state)
{
    (void)state;
    assert_true(
        passes(LOCK, "LockRows\n  ->  Sort\n        Sort Key: id\n        ->  Bitmap Heap Scan on hold"));
    assert_true(
        passes(LOCK, "LockRows\n  ->  Index Scan using balance_pkey on balance b\n        Index Cond: x"));
    assert_true(passes(
        LOCK, "LockRows\n  ->  Nested Loop\n        ->  Index Scan using a on b\n        ->  Seq Scan on c"));
}

static void test_a_lock_in_the_order_of_the_table_or_of_a_hash_is_refused(void **state)
{
    (void)state;
    assert_false(passes(LOCK, "LockRows\n  ->  Seq Scan on budget_window w"));
    assert_false(passes(LOCK, "LockRows\n  ->  Bitmap Heap Scan on budget_window w\n        ->  Sort"));
    assert_false(passes(LOCK, "LockRows\n  ->  Nested Loop\n        ->  Seq Scan on a\n        ->  Sort"));
    assert_false(passes(LOCK, "Sort\n  ->  LockRows\n        ->  Seq Scan on a"));
    assert_false(passes("SELECT id FROM hold WHERE id = ANY ($1) FOR UPDATE", "LockRows\n  ->  Sort"));
    assert_false(passes(LOCK, ""));
}

static void test_a_change_goes_through_its_array_and_looks_up_each_row(void **state)
{
    (void)state;
    assert_true(passes(
        CHANGE, "Update on hold h\n  ->  Nested Loop\n        ->  Function Scan on x\n        ->  Index "
                "Scan using hold_pkey on hold h\n              Index Cond: (call_id = x.call_id)"));
    assert_false(
        passes(CHANGE, "Update on hold h\n  ->  Hash Join\n        Hash Cond: (h.call_id = x.call_id)\n    "
                       "    ->  Seq Scan on hold h\n        ->  Hash\n              ->  Function Scan on x"));
    assert_false(passes(
        CHANGE, "Delete on hold h\n  ->  Merge Join\n        ->  Index Scan using hold_pkey on hold h"));
    assert_false(passes(CHANGE, "Update on hold h\n  ->  Nested Loop\n        ->  Seq Scan on hold h\n       "
                                " ->  Function Scan on x"));
}

static void test_which_statements_matter(void **state)
{
    (void)state;
    assert_true(pg_plan_matters(LOCK) && pg_plan_matters(CHANGE));
    assert_false(pg_plan_matters("SELECT id FROM hold ORDER BY id FOR UPDATE SKIP LOCKED"));
    assert_false(pg_plan_matters("UPDATE publisher SET pub_seq = pub_seq + 1"));
    assert_false(pg_plan_matters("INSERT INTO hold SELECT x FROM unnest($1::uuid[]) AS x"));
    assert_int_equal(pg_plan_parameters(CHANGE), 2);
    assert_int_equal(pg_plan_parameters("BEGIN"), 0);
    assert_int_equal(pg_plan_parameters("SELECT $12, $3"), 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lock_behind_a_sort_or_an_index_is_in_order),
        cmocka_unit_test(test_a_lock_in_the_order_of_the_table_or_of_a_hash_is_refused),
        cmocka_unit_test(test_a_change_goes_through_its_array_and_looks_up_each_row),
        cmocka_unit_test(test_which_statements_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
