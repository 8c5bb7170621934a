#include "pg_value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* The value of field `index` as a result would hold it. */
static struct strview field(const struct pg_fields *f, size_t index)
{
    const uint8_t *at = (const uint8_t *)f->bytes.data;
    for (size_t i = 0;; i++) {
        uint32_t len = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        if (i == index)
            return len == UINT32_MAX ? SV_NULL : sv_of_bytes(at + 4, len);
        at += 4 + (len == UINT32_MAX ? 0 : len);
    }
}

static void test_every_scalar_comes_back_as_it_went(void **state)
{
    struct pg_fields f;
    struct uuid id = uuid_v7(1000000);
    (void)state;
    pg_fields_init(&f);
    pg_put_i64(&f, INT64_MIN);
    pg_put_i32(&f, -7);
    pg_put_bool(&f, true);
    pg_put_time(&f, 1);
    pg_put_uuid(&f, &id);
    pg_put_json(&f, SV_LIT("{}"));
    pg_put_text(&f, SV_LIT(""));
    assert_int_equal(f.count, 7);
    assert_int_equal(pg_value_i64(field(&f, 0)), INT64_MIN);
    assert_int_equal(pg_value_i64(field(&f, 1)), -7);
    assert_true(pg_value_bool(field(&f, 2)));
    assert_int_equal(pg_value_time(field(&f, 3)), 1);
    struct uuid back = pg_value_uuid(field(&f, 4));
    assert_memory_equal(back.byte, id.byte, sizeof id.byte);
    assert_true(sv_eq(pg_value_json(field(&f, 5)), SV_LIT("{}")));
    assert_false(sv_is_null(field(&f, 6)));
    assert_int_equal(field(&f, 6).len, 0);
    pg_fields_free(&f);
}

static void test_nothing_becomes_null_and_zero_does_not(void **state)
{
    struct pg_fields f;
    (void)state;
    pg_fields_init(&f);
    pg_put_null(&f);
    pg_put_opt_i64(&f, (struct opt_i64){0});
    pg_put_opt_i32(&f, (struct opt_i64){0});
    pg_put_opt_time(&f, (struct opt_i64){0});
    pg_put_text(&f, SV_NULL);
    pg_put_str(&f, NULL);
    pg_put_uuid(&f, NULL);
    pg_put_json(&f, SV_NULL);
    pg_put_opt_i64(&f, OPT_I64(0));
    assert_int_equal(f.count, 9);
    for (size_t i = 0; i < 8; i++)
        assert_true(sv_is_null(field(&f, i)));
    assert_int_equal(pg_value_i64(field(&f, 8)), 0);
    assert_int_equal(pg_value_array(SV_NULL).count, 0);
    pg_fields_free(&f);
}

static void test_arrays_come_back_item_by_item(void **state)
{
    const int64_t numbers[] = {1, -2, INT64_MAX};
    const struct strview texts[] = {SV_LIT("a"), SV_LIT(""), SV_LIT("long text")};
    struct pg_fields f;
    struct strview item;
    (void)state;
    pg_fields_init(&f);
    pg_put_i64_array(&f, numbers, 3);
    pg_put_text_array(&f, texts, 3);
    pg_put_time_array(&f, numbers, 0);
    pg_put_text(&f, SV_LIT("after"));
    struct pg_array a = pg_value_array(field(&f, 0));
    assert_int_equal(a.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(pg_array_next(&a, &item));
        assert_int_equal(pg_value_i64(item), numbers[i]);
    }
    assert_false(pg_array_next(&a, &item));
    a = pg_value_array(field(&f, 1));
    for (size_t i = 0; i < 3; i++) {
        assert_true(pg_array_next(&a, &item));
        assert_true(sv_eq(item, texts[i]));
    }
    a = pg_value_array(field(&f, 2));
    assert_int_equal(a.count, 0);
    assert_false(pg_array_next(&a, &item));
    assert_true(sv_eq(field(&f, 3), SV_LIT("after")));
    pg_fields_free(&f);
}

static void test_fields_past_the_cap_are_a_sticky_failure(void **state)
{
    struct pg_fields f;
    (void)state;
    pg_fields_init(&f);
    f.bytes.cap = 16;
    pg_put_i64(&f, 1);
    assert_false(f.failed);
    pg_put_i64(&f, 1);
    assert_true(f.failed);
    pg_fields_clear(&f);
    assert_false(f.failed);
    assert_int_equal(f.count, 0);
    pg_fields_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_scalar_comes_back_as_it_went),
        cmocka_unit_test(test_nothing_becomes_null_and_zero_does_not),
        cmocka_unit_test(test_arrays_come_back_item_by_item),
        cmocka_unit_test(test_fields_past_the_cap_are_a_sticky_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
