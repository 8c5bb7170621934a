/*
 * rank_fold: every order and repetition of a call's records gives one bill; each step's movements add up to
 * it.
 */
#include "spend/rank_fold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RECORDS_MAX 5
#define ACCOUNTS    4

/* A record with what the ledger copies from it. */
struct sample {
    struct spend_call call;
    uint8_t hash[SHA256_LEN];
    struct call_record record;
    int64_t account;
    struct opt_i64 billed;
};

/* The ledger's row of one call, and what it posted. */
struct row {
    struct call_ranks ranks;
    int64_t admitted_at;
    struct bill bill;
    int64_t balance[ACCOUNTS];
    int entries;
};

static uint32_t seed;

static uint32_t pick(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 10) % below;
}

/*
 * The hash stands for what the record says: the fields that the maxima bring are functions of what is ranked,
 * as they are in truth. Few values, so that ranks often tie.
 */
static void sample_new(struct sample *s)
{
    *s = (struct sample){0};
    s->hash[0] = (uint8_t)pick(3);
    s->hash[31] = (uint8_t)pick(2);
    s->call.source = (enum spend_source)pick(SOURCE_COUNT);
    s->call.outcome = (enum spend_outcome)pick(OUTCOME_COUNT);
    s->call.quality = (enum spend_quality)pick(QUALITY_COUNT);
    s->call.stream = pick(2) == 0;
    s->call.provider_usage = pick(2) == 0 ? SV_LIT("{}") : SV_NULL;
    s->call.received_at = pick(2); /* no part of the hash, and decides what configuration the record saw */
    s->call.admitted_at = s->hash[0] * 10 + s->hash[31] + 100 * (int64_t)s->call.source;
    s->record =
        (struct call_record){.call = &s->call,
                             .hash = s->hash,
                             .attribution_class = (enum attribution_class)pick(3),
                             .redrive = {.has = pick(2) == 0, .at = pick(2), .id = {{(uint8_t)pick(2)}}}};
    if (!s->record.redrive.has)
        s->record.redrive = (struct redrive){0};
    s->account = (s->record.attribution_class + s->record.redrive.at + s->record.redrive.id.byte[0] +
                  (int64_t)s->call.source + s->hash[0] + s->call.received_at) %
                 ACCOUNTS;
    s->billed = (struct opt_i64){0};
    uint32_t content = (uint32_t)fold_quality(&s->call) + 3U * s->hash[0] + 5U * s->hash[31] +
                       (uint32_t)s->call.source + 11U * (uint32_t)s->call.received_at;
    /* An outcome that ranks as another's must not bring another price: foreign failures cost nothing. */
    bool foreign_failure = s->call.source != SOURCE_GATEWAY && s->call.outcome <= OUTCOME_FAILED;
    content += foreign_failure ? 0 : 7U * (uint32_t)s->call.outcome;
    if (content % 5 != 0)
        s->billed = OPT_I64(content % 4 == 0 ? 0 : content * 1000);
    s->record.priced = s->billed.has;
}

/* Like the ledger: raise the ranks, copy what was raised, post the difference. */
static unsigned apply(struct row *row, const struct sample *s)
{
    struct bill before = row->bill;
    struct movement moves[2];
    size_t count;
    unsigned changes = rank_fold(&row->ranks, &s->record);
    if (changes & FOLD_IDENTITY)
        row->admitted_at = s->call.admitted_at;
    if (changes & FOLD_ATTRIBUTION) {
        row->bill.has_account = true;
        row->bill.account = s->account;
    }
    if (changes & FOLD_MEASUREMENT) {
        row->bill.has_amount = s->billed.has;
        row->bill.billed_nanos = s->billed.v;
    }
    assert_true(bill_difference(&before, &row->bill, moves, &count));
    for (size_t i = 0; i < count; i++) {
        assert_int_not_equal(moves[i].amount_nanos, 0);
        row->balance[moves[i].account] += moves[i].amount_nanos;
        row->entries++;
    }
    for (int64_t a = 0; a < ACCOUNTS; a++) {
        bool bears = row->bill.has_account && row->bill.has_amount && row->bill.account == a;
        assert_int_equal(row->balance[a], bears ? -row->bill.billed_nanos : 0);
    }
    return changes;
}

static void assert_same(const struct row *a, const struct row *b)
{
    assert_memory_equal(&a->ranks, &b->ranks, sizeof a->ranks);
    assert_int_equal(a->admitted_at, b->admitted_at);
    assert_int_equal(a->bill.has_amount, b->bill.has_amount);
    assert_int_equal(a->bill.account, b->bill.account);
    if (a->bill.has_amount)
        assert_int_equal(a->bill.billed_nanos, b->bill.billed_nanos);
    assert_memory_equal(a->balance, b->balance, sizeof a->balance);
}

/* Heap's walk over every order of `order`. */
static void each_order(size_t *order, size_t n, const struct sample *samples, size_t count,
                       const struct row *expected)
{
    if (n == 1) {
        struct row row = {0};
        for (size_t i = 0; i < count; i++)
            (void)apply(&row, &samples[order[i]]);
        assert_same(&row, expected);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        each_order(order, n - 1, samples, count, expected);
        size_t k = n % 2 == 0 ? i : 0;
        size_t held = order[k];
        order[k] = order[n - 1];
        order[n - 1] = held;
    }
}

static void test_every_order_of_up_to_five_records_gives_one_bill(void **state)
{
    (void)state;
    seed = 1;
    for (int round = 0; round < 4000; round++) {
        struct sample samples[RECORDS_MAX];
        struct row expected = {0};
        size_t order[RECORDS_MAX];
        size_t count = 2 + pick(RECORDS_MAX - 1);
        for (size_t i = 0; i < count; i++) {
            sample_new(&samples[i]);
            samples[i].record.call = &samples[i].call;
            samples[i].record.hash = samples[i].hash;
            order[i] = i;
        }
        for (size_t i = 0; i < count; i++)
            (void)apply(&expected, &samples[i]);
        each_order(order, count, samples, count, &expected);
    }
}

static void test_repetitions_in_any_order_change_nothing(void **state)
{
    (void)state;
    seed = 2;
    for (int round = 0; round < 5000; round++) {
        struct sample samples[RECORDS_MAX];
        struct row once = {0};
        struct row often = {0};
        for (size_t i = 0; i < RECORDS_MAX; i++)
            sample_new(&samples[i]);
        for (size_t i = 0; i < RECORDS_MAX; i++)
            (void)apply(&once, &samples[i]);
        for (size_t i = 0; i < 30; i++)
            (void)apply(&often, &samples[pick(RECORDS_MAX)]);
        for (size_t i = 0; i < RECORDS_MAX; i++)
            (void)apply(&often, &samples[i]);
        assert_same(&once, &often);
        int entries = often.entries;
        for (size_t i = 0; i < 30; i++)
            (void)apply(&often, &samples[pick(RECORDS_MAX)]);
        assert_int_equal(often.entries, entries); /* what is settled posts nothing more */
    }
}

static void keep_greater(uint8_t *a, const uint8_t *b, size_t len)
{
    if (memcmp(b, a, len) > 0)
        memcpy(a, b, len);
}

/* Associative: two parts folded apart, then the greater of each rank, is the fold of all. */
static void test_parts_folded_apart_join_by_the_greater_rank(void **state)
{
    (void)state;
    seed = 3;
    for (int round = 0; round < 5000; round++) {
        struct call_ranks all = {0};
        struct call_ranks parts[2] = {{{0}, {0}, {0}}, {{0}, {0}, {0}}};
        for (size_t i = 0; i < 6; i++) {
            struct sample s;
            sample_new(&s);
            (void)rank_fold(&all, &s.record);
            (void)rank_fold(&parts[pick(2)], &s.record);
        }
        keep_greater(parts[0].identity, parts[1].identity, RANK_IDENTITY_LEN);
        keep_greater(parts[0].measurement, parts[1].measurement, RANK_MEASUREMENT_LEN);
        keep_greater(parts[0].attribution, parts[1].attribution, RANK_ATTRIBUTION_LEN);
        assert_memory_equal(&all, &parts[0], sizeof all);
    }
}

/* Cases by name. Hashes: the higher byte would win a tie. */

static struct sample sample_of(enum spend_source source, enum spend_outcome outcome,
                               enum spend_quality quality, uint8_t hash)
{
    struct sample s = {.account = 1, .billed = OPT_I64(hash * 1000LL)};
    s.hash[0] = hash;
    s.call.source = source;
    s.call.outcome = outcome;
    s.call.quality = quality;
    s.call.provider_usage = SV_LIT("{}");
    s.record.attribution_class = CLASS_ATTRIBUTED;
    return s;
}

static unsigned add(struct row *row, struct sample *s)
{
    s->record.call = &s->call;
    s->record.hash = s->hash;
    return apply(row, s);
}

static void test_an_estimate_after_the_final_record_bills_nothing(void **state)
{
    (void)state;
    struct row row = {0};
    struct sample final = sample_of(SOURCE_GATEWAY, OUTCOME_COMPLETED, QUALITY_FINAL, 1);
    struct sample estimate = sample_of(SOURCE_GATEWAY, OUTCOME_UNKNOWN, QUALITY_ESTIMATED, 9);
    assert_int_equal(add(&row, &final), FOLD_IDENTITY | FOLD_MEASUREMENT | FOLD_ATTRIBUTION);
    assert_int_equal(add(&row, &estimate) & FOLD_MEASUREMENT, 0);
    assert_int_equal(row.bill.billed_nanos, 1000);
    struct row other = {0};
    (void)add(&other, &estimate);
    assert_int_equal(other.bill.billed_nanos, 9000);
    (void)add(&other, &final);
    assert_same(&row, &other);
}

static void test_a_callback_before_or_after_the_gateway_is_one_call(void **state)
{
    (void)state;
    struct sample callback = sample_of(SOURCE_PROXY_LOG, OUTCOME_COMPLETED, QUALITY_FINAL, 9);
    struct sample gateway = sample_of(SOURCE_GATEWAY, OUTCOME_COMPLETED, QUALITY_FINAL, 1);
    struct row first = {0};
    struct row last = {0};
    (void)add(&first, &callback);
    assert_int_equal(first.bill.billed_nanos, 9000);
    assert_int_equal(add(&first, &gateway), FOLD_IDENTITY | FOLD_MEASUREMENT | FOLD_ATTRIBUTION);
    (void)add(&last, &gateway);
    assert_int_equal(add(&last, &callback), FOLD_NOTHING);
    assert_same(&first, &last);
    assert_int_equal(first.bill.billed_nanos, 1000);
}

static void test_a_callback_that_knows_more_measures_for_the_gateway(void **state)
{
    (void)state;
    struct sample lost = sample_of(SOURCE_GATEWAY, OUTCOME_UNKNOWN, QUALITY_ESTIMATED, 5);
    struct sample callback = sample_of(SOURCE_PROXY_LOG, OUTCOME_COMPLETED, QUALITY_FINAL, 2);
    struct row row = {0};
    (void)add(&row, &lost);
    assert_int_equal(add(&row, &callback), FOLD_MEASUREMENT); /* identity stays the gateway's */
    assert_int_equal(row.bill.billed_nanos, 2000);
}

static void test_a_foreign_failure_never_stands_above_the_gateway(void **state)
{
    (void)state;
    for (int source = SOURCE_PROXY_LOG; source < SOURCE_GATEWAY; source++) {
        for (int failure = OUTCOME_REJECTED; failure <= OUTCOME_FAILED; failure++) {
            struct sample foreign =
                sample_of((enum spend_source)source, (enum spend_outcome)failure, QUALITY_FINAL, 9);
            assert_int_equal(fold_quality(&foreign.call), QUALITY_UNKNOWN);
            for (int o = 0; o < OUTCOME_COUNT; o++) {
                for (int q = 0; q < QUALITY_COUNT; q++) {
                    struct sample gateway =
                        sample_of(SOURCE_GATEWAY, (enum spend_outcome)o, (enum spend_quality)q, 1);
                    struct row row = {0};
                    (void)add(&row, &foreign);
                    assert_true(add(&row, &gateway) & FOLD_MEASUREMENT);
                    assert_int_equal(add(&row, &foreign), FOLD_NOTHING);
                }
            }
        }
    }
}

static void test_a_foreign_stream_without_usage_is_an_estimate(void **state)
{
    (void)state;
    static const struct {
        enum spend_source source;
        bool stream, has_usage;
        enum spend_quality quality, ranks;
    } rows[] = {
        {SOURCE_PROXY_LOG, true, false, QUALITY_FINAL, QUALITY_ESTIMATED},
        {SOURCE_EVENTS_API, true, false, QUALITY_PARTIAL, QUALITY_ESTIMATED},
        {SOURCE_PROXY_LOG, true, false, QUALITY_UNKNOWN, QUALITY_UNKNOWN},
        {SOURCE_PROXY_LOG, true, true, QUALITY_FINAL, QUALITY_FINAL},
        {SOURCE_PROXY_LOG, false, false, QUALITY_FINAL, QUALITY_FINAL},
        {SOURCE_GATEWAY, true, false, QUALITY_FINAL, QUALITY_FINAL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sample s = sample_of(rows[i].source, OUTCOME_COMPLETED, rows[i].quality, 1);
        s.call.stream = rows[i].stream;
        if (!rows[i].has_usage)
            s.call.provider_usage = SV_NULL;
        assert_int_equal(fold_quality(&s.call), rows[i].ranks);
    }
}

static void test_the_same_rank_with_another_hash_is_a_conflict_whichever_wins(void **state)
{
    (void)state;
    struct sample low = sample_of(SOURCE_GATEWAY, OUTCOME_COMPLETED, QUALITY_FINAL, 1);
    struct sample high = sample_of(SOURCE_GATEWAY, OUTCOME_COMPLETED, QUALITY_FINAL, 2);
    struct sample lower = sample_of(SOURCE_GATEWAY, OUTCOME_ABORTED, QUALITY_FINAL, 3);
    struct row row = {0};
    assert_false(add(&row, &low) & FOLD_CONFLICT);
    assert_int_equal(add(&row, &low), FOLD_NOTHING);
    assert_true(add(&row, &high) & FOLD_CONFLICT);
    assert_int_equal(add(&row, &low), FOLD_CONFLICT);
    assert_false(add(&row, &lower) & FOLD_CONFLICT);
    assert_int_equal(row.bill.billed_nanos, 2000);
}

static void test_of_one_hash_the_priced_and_then_the_earlier_counts_in_any_order(void **state)
{
    (void)state;
    struct sample of[3];
    for (size_t i = 0; i < 3; i++) {
        of[i] = sample_of(SOURCE_GATEWAY, OUTCOME_COMPLETED, QUALITY_FINAL, 1);
        of[i].call.received_at = 10 * (int64_t)(i + 1);
        of[i].billed = i == 0 ? (struct opt_i64){0} : OPT_I64(1000 * (int64_t)i);
        of[i].record.priced = of[i].billed.has;
        of[i].account = (int64_t)i;
    }
    static const size_t orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (size_t o = 0; o < 6; o++) {
        struct row row = {0};
        for (size_t i = 0; i < 3; i++)
            assert_false(add(&row, &of[orders[o][i]]) & FOLD_CONFLICT);
        assert_int_equal(row.bill.billed_nanos, 1000);
        assert_int_equal(row.bill.account, 0);
    }
}

static void test_redrive_moves_the_bill_from_suspense_and_the_latest_wins(void **state)
{
    (void)state;
    struct attributed_call a = {.account_id = SV_LIT("acme")};
    struct dead_letter d = {.has_call = true, .has_hash = true};
    struct call_record dead;
    struct call_record live;
    struct call_record redriven;
    struct call_record again;
    call_record_of_dead_letter(&d, &dead);
    assert_int_equal(dead.attribution_class, CLASS_SUSPENSE);
    assert_ptr_equal(dead.hash, d.hash);
    assert_ptr_equal(dead.call, &d.call);
    call_record_of_attributed(&a, &live);
    assert_int_equal(live.attribution_class, CLASS_ATTRIBUTED);
    a.redrive = (struct redrive){.has = true, .at = 300, .id = {{1}}};
    call_record_of_attributed(&a, &redriven);
    assert_int_equal(redriven.attribution_class, CLASS_REDRIVE);
    again = redriven;
    again.redrive.at = 1000; /* more digits, not more bytes: the order is the number's */
    struct call_ranks ranks = {0};
    assert_true(rank_fold(&ranks, &dead) & FOLD_ATTRIBUTION);
    assert_int_equal(rank_fold(&ranks, &live), FOLD_ATTRIBUTION);
    assert_int_equal(rank_fold(&ranks, &dead), FOLD_NOTHING);
    assert_int_equal(rank_fold(&ranks, &redriven), FOLD_ATTRIBUTION);
    assert_int_equal(rank_fold(&ranks, &live), FOLD_NOTHING);
    assert_int_equal(rank_fold(&ranks, &again), FOLD_ATTRIBUTION);
    assert_int_equal(rank_fold(&ranks, &redriven), FOLD_NOTHING);
    again.redrive.id.byte[0] = 2; /* at the same time: by id */
    assert_int_equal(rank_fold(&ranks, &again), FOLD_ATTRIBUTION);
    dead.redrive = (struct redrive){.has = true, .at = INT64_MAX};
    assert_int_equal(rank_fold(&ranks, &dead), FOLD_NOTHING); /* a redrive that failed moves nothing back */
}

static void test_the_keys_are_laid_out_as_documented(void **state)
{
    (void)state;
    struct sample s = sample_of(SOURCE_EVENTS_API, OUTCOME_ABORTED, QUALITY_PARTIAL, 0xaa);
    s.record.call = &s.call;
    s.record.hash = s.hash;
    s.record.priced = true;
    s.call.received_at = 0xff;
    s.record.attribution_class = CLASS_REDRIVE;
    s.record.redrive = (struct redrive){.has = true, .at = 0x0102030405060708, .id = {{0xb1, 0xb2}}};
    struct call_ranks ranks = {0};
    (void)rank_fold(&ranks, &s.record);
    assert_int_equal(ranks.identity[0], 2);
    assert_int_equal(ranks.identity[1], 0xaa);
    assert_memory_equal(ranks.measurement, "\x03\x04\x02\xaa", 4);
    assert_memory_equal(ranks.attribution, "\x03\x01\x02\x03\x04\x05\x06\x07\x08\xb1\xb2\0", 12);
    assert_memory_equal(ranks.attribution + 25, "\x02\xaa", 2);
    static const char earlier[] = "\x7f\xff\xff\xff\xff\xff\xff\0";
    assert_memory_equal(ranks.identity + 33, earlier, 8);
    assert_memory_equal(ranks.measurement + 35, "\x02", 1);
    assert_memory_equal(ranks.measurement + 36, earlier, 8);
    assert_memory_equal(ranks.attribution + 58, earlier, 8);
    assert_int_equal(sizeof ranks.identity, 41);
    assert_int_equal(sizeof ranks.measurement, 44);
    assert_int_equal(sizeof ranks.attribution, 66);
}

static void test_the_movements_between_two_bills(void **state)
{
    (void)state;
    static const struct bill none = {0};
    static const struct bill unpriced = {.has_account = true, .account = 1};
    static const struct bill zero = {.has_account = true, .account = 1, .has_amount = true};
    static const struct bill five = {
        .has_account = true, .account = 1, .has_amount = true, .billed_nanos = 5};
    static const struct bill seven = {
        .has_account = true, .account = 1, .has_amount = true, .billed_nanos = 7};
    static const struct bill other = {
        .has_account = true, .account = 2, .has_amount = true, .billed_nanos = 7};
    static const struct bill other_unpriced = {.has_account = true, .account = 2};
    static const struct bill homeless = {.has_amount = true, .billed_nanos = 7};
    const struct {
        const struct bill *before, *after;
        size_t count;
        struct movement moves[2];
    } rows[] = {
        {&none, &none, 0, {{0}}},
        {&none, &zero, 0, {{0}}},
        {&none, &unpriced, 0, {{0}}},
        {&none, &homeless, 0, {{0}}},
        {&none, &five, 1, {{1, -5, MOVE_DEDUCTION}}},
        {&unpriced, &five, 1, {{1, -5, MOVE_DEDUCTION}}},
        {&zero, &five, 1, {{1, -5, MOVE_DEDUCTION}}},
        {&five, &five, 0, {{0}}},
        {&five, &seven, 1, {{1, -2, MOVE_ADJUSTMENT}}},
        {&seven, &five, 1, {{1, 2, MOVE_ADJUSTMENT}}},
        {&seven, &zero, 1, {{1, 7, MOVE_ADJUSTMENT}}},
        {&seven, &unpriced, 1, {{1, 7, MOVE_REVERSAL}}},
        {&five, &other, 2, {{1, 5, MOVE_REVERSAL}, {2, -7, MOVE_DEDUCTION}}},
        {&seven, &other, 2, {{1, 7, MOVE_REVERSAL}, {2, -7, MOVE_DEDUCTION}}},
        {&zero, &other, 1, {{2, -7, MOVE_DEDUCTION}}},
        {&five, &other_unpriced, 1, {{1, 5, MOVE_REVERSAL}}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct movement moves[2];
        size_t count;
        assert_true(bill_difference(rows[i].before, rows[i].after, moves, &count));
        assert_int_equal(count, rows[i].count);
        for (size_t k = 0; k < count; k++) {
            assert_int_equal(moves[k].account, rows[i].moves[k].account);
            assert_int_equal(moves[k].amount_nanos, rows[i].moves[k].amount_nanos);
            assert_int_equal(moves[k].kind, rows[i].moves[k].kind);
        }
    }
}

static void test_a_movement_that_does_not_fit_is_an_error(void **state)
{
    (void)state;
    struct bill least = {.has_account = true, .account = 1, .has_amount = true, .billed_nanos = INT64_MIN};
    struct bill most = least;
    struct bill none = {0};
    struct movement moves[2];
    size_t count;
    most.billed_nanos = INT64_MAX;
    assert_true(bill_difference(&none, &most, moves, &count));
    assert_int_equal(moves[0].amount_nanos, -INT64_MAX);
    assert_false(bill_difference(&none, &least, moves, &count));
    assert_false(bill_difference(&most, &least, moves, &count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_order_of_up_to_five_records_gives_one_bill),
        cmocka_unit_test(test_repetitions_in_any_order_change_nothing),
        cmocka_unit_test(test_parts_folded_apart_join_by_the_greater_rank),
        cmocka_unit_test(test_an_estimate_after_the_final_record_bills_nothing),
        cmocka_unit_test(test_a_callback_before_or_after_the_gateway_is_one_call),
        cmocka_unit_test(test_a_callback_that_knows_more_measures_for_the_gateway),
        cmocka_unit_test(test_a_foreign_failure_never_stands_above_the_gateway),
        cmocka_unit_test(test_a_foreign_stream_without_usage_is_an_estimate),
        cmocka_unit_test(test_of_one_hash_the_priced_and_then_the_earlier_counts_in_any_order),
        cmocka_unit_test(test_the_same_rank_with_another_hash_is_a_conflict_whichever_wins),
        cmocka_unit_test(test_redrive_moves_the_bill_from_suspense_and_the_latest_wins),
        cmocka_unit_test(test_the_keys_are_laid_out_as_documented),
        cmocka_unit_test(test_the_movements_between_two_bills),
        cmocka_unit_test(test_a_movement_that_does_not_fit_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
