#include "call_fold.h"

#include "base/money.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct record_origin position = {.topic = {"spend.attributed", 16}, .partition = 2, .offset = 9};

struct fixture {
    struct arena arena;
    struct sha256 *sha;
    struct tag tags[2];
    struct spend_call call;
    uint8_t hash[SHA256_LEN];
    struct bill_record record;
};

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){0};
    arena_init(&f.arena, 1 << 20);
    f.sha = sha256_new();
    f.tags[0] = (struct tag){.raw = SV_LIT("a=1"), .origins = TAG_ORIGIN_HEADER};
    f.tags[1] = (struct tag){.raw = SV_LIT("b"), .origins = TAG_ORIGIN_ROOT | TAG_ORIGIN_KEY};
    f.call = (struct spend_call){
        .source = SOURCE_GATEWAY,
        .admitted_at = 1700000000000000,
        .operation = OPERATION_CHAT,
        .model_requested = SV_LIT("asked"),
        .model_replied = SV_LIT("answered"),
        .tags = f.tags,
        .tag_count = 2,
        .outcome = OUTCOME_COMPLETED,
        .quality = QUALITY_FINAL,
        .usage.units[USAGE_INPUT] = OPT_I64(5),
    };
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_free(&f->arena);
    sha256_free(f->sha);
    return 0;
}

/* A record of the fixture's call as it stands now, on account 1. */
static struct bill_record *record_of(struct fixture *f)
{
    spend_call_hash(&f->call, f->sha, f->hash);
    f->record = (struct bill_record){
        .state = RECORD_BILLS,
        .fold = {.call = &f->call, .hash = f->hash, .attribution_class = CLASS_ATTRIBUTED, .priced = true},
        .account = 1,
        .raw_nanos = OPT_I64(100),
        .rating = SV_LIT("exact"),
        .price_version = OPT_I64(3),
        .task = SV_LIT("job"),
        .route = SV_LIT("tag"),
    };
    return &f->record;
}

static unsigned fold(struct fixture *f, struct call_row *row, const struct bill_record *record)
{
    unsigned changes;
    struct err err;
    assert_true(call_fold(row, record, &position, &f->arena, &changes, &err));
    return changes;
}

static void test_the_first_record_fills_the_row(void **state)
{
    struct fixture *f = *state;
    struct call_row row = {0};
    struct err err;
    assert_false(call_bill_of(&row).has_account);
    assert_int_equal(fold(f, &row, record_of(f)), FOLD_IDENTITY | FOLD_MEASUREMENT | FOLD_ATTRIBUTION);
    assert_true(call_bill(&row, 1300000, &err));
    assert_int_equal(row.billed_nanos.v, 130);
    assert_int_equal(row.tags.count, 2);
    assert_int_equal(row.tags.origins[1], TAG_ORIGIN_ROOT | TAG_ORIGIN_KEY);
    assert_true(sv_eq(row.outcome, SV_LIT("completed")));
    assert_true(sv_eq(row.model_replied, SV_LIT("answered")));
    assert_true(sv_is_null(row.reason));
    assert_int_equal(row.usage.units[USAGE_INPUT].v, 5);
    assert_int_equal(row.record.offset, 9);
    struct bill bill = call_bill_of(&row);
    assert_true(bill.has_account && bill.has_amount);
    assert_int_equal(bill.billed_nanos, 130);
}

static void test_the_same_record_again_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct call_row row = {0};
    (void)fold(f, &row, record_of(f));
    assert_int_equal(fold(f, &row, record_of(f)), FOLD_NOTHING);
}

static void test_price_and_amount_travel_with_the_measurement_and_the_task_with_the_attribution(void **state)
{
    struct fixture *f = *state;
    struct call_row row = {0};
    f->call.quality = QUALITY_ESTIMATED;
    (void)fold(f, &row, record_of(f));
    f->call.quality = QUALITY_FINAL;
    f->call.source = SOURCE_PROXY_LOG;
    f->call.provider_usage = SV_LIT("{}");
    struct bill_record *foreign = record_of(f);
    foreign->raw_nanos = OPT_I64(70);
    foreign->price_version = OPT_I64(4);
    foreign->account = 2;
    foreign->task = SV_LIT("other");
    assert_int_equal(fold(f, &row, foreign), FOLD_MEASUREMENT);
    assert_int_equal(row.raw_nanos.v, 70);
    assert_int_equal(row.price_version.v, 4);
    assert_int_equal(row.account, 1);
    assert_true(sv_eq(row.task, SV_LIT("job")));
    assert_true(sv_eq(row.source, SV_LIT("gateway")));
}

static void test_a_call_without_price_has_no_amount_and_says_why(void **state)
{
    struct fixture *f = *state;
    struct call_row row = {0};
    struct err err;
    struct bill_record *record = record_of(f);
    record->raw_nanos = (struct opt_i64){0};
    (void)fold(f, &row, record);
    assert_true(call_bill(&row, 2000000, &err));
    assert_false(row.billed_nanos.has);
    assert_false(call_bill_of(&row).has_amount);
    assert_true(sv_eq(row.reason, SV_LIT("unpriced")));
}

static void test_the_same_measurement_priced_later_is_billed_in_either_order(void **state)
{
    struct fixture *f = *state;
    for (int priced_first = 0; priced_first < 2; priced_first++) {
        struct call_row row = {0};
        struct err err;
        for (int turn = 0; turn < 2; turn++) {
            struct bill_record *record = record_of(f);
            if ((turn == 0) != (priced_first == 1)) {
                record->raw_nanos = (struct opt_i64){0};
                record->fold.priced = false;
                record->fold.attribution_class = CLASS_SUSPENSE;
                record->account = 9;
                record->reason = SV_LIT("unpriced");
            }
            (void)fold(f, &row, record);
        }
        assert_true(call_bill(&row, MARKUP_ONE_PPM, &err));
        assert_int_equal(row.account, 1);
        assert_int_equal(row.billed_nanos.v, 100);
        assert_true(sv_is_null(row.reason));
    }
}

static void test_a_dead_letters_reason_stays_whatever_it_costs(void **state)
{
    struct fixture *f = *state;
    struct call_row row = {0};
    struct err err;
    struct bill_record *record = record_of(f);
    record->fold.attribution_class = CLASS_SUSPENSE;
    record->reason = SV_LIT("untagged");
    (void)fold(f, &row, record);
    assert_true(call_bill(&row, MARKUP_ONE_PPM, &err));
    assert_true(sv_eq(row.reason, SV_LIT("untagged")));
    assert_int_equal(row.billed_nanos.v, 100);
}

static void test_a_bill_that_does_not_fit_is_refused(void **state)
{
    struct fixture *f = *state;
    struct call_row row = {0};
    struct err err;
    struct bill_record *record = record_of(f);
    record->raw_nanos = OPT_I64(INT64_MAX);
    (void)fold(f, &row, record);
    assert_false(call_bill(&row, 2000000, &err));
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
}

static void test_the_update_names_every_column_once(void **state)
{
    struct buffer sql;
    struct pg_fields fields;
    struct call_row row = {0};
    size_t parameters = 0;
    (void)state;
    buffer_init(&sql, 1 << 16);
    assert_true(call_row_update_sql(&sql));
    for (const char *at = strchr(sql.data, '$'); at != NULL; at = strchr(at + 1, '$'))
        parameters++;
    pg_fields_init(&fields);
    call_row_put(&row, &fields);
    assert_int_equal(parameters, fields.count);
    assert_non_null(strstr(sql.data, "identity_rank = $2,"));
    assert_non_null(strstr(sql.data, "WHERE call_id = $1"));
    pg_fields_free(&fields);
    buffer_free(&sql);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_first_record_fills_the_row, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_same_record_again_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_price_and_amount_travel_with_the_measurement_and_the_task_with_the_attribution, setup,
            teardown),
        cmocka_unit_test_setup_teardown(test_a_call_without_price_has_no_amount_and_says_why, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_same_measurement_priced_later_is_billed_in_either_order,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_dead_letters_reason_stays_whatever_it_costs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_bill_that_does_not_fit_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_update_names_every_column_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
