/* What is held of a partition goes on where Postgres stands, or is not applied. */
#include "apply_slot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define TOPIC "spend.attributed"

static int setup(void **state)
{
    static struct apply_slots s;
    struct err err;
    s = (struct apply_slots){0};
    assert_true(apply_slots_add(&s, TOPIC, 3, 100, NULL, &err));
    *state = &s;
    return 0;
}

static int teardown(void **state)
{
    apply_slots_free(*state);
    return 0;
}

static void keep(struct apply_slots *s, int64_t offset)
{
    struct err err;
    struct consumer_message m = {
        .topic = TOPIC, .partition = 3, .offset = offset, .value = SV_LIT("12345678")};
    assert_true(apply_slots_keep(s, &m, &err));
}

/* As a batch that was applied: its records go and Postgres stands behind them. */
static void apply(struct apply_slots *s, size_t n)
{
    struct apply_slot *slot = s->slot;
    slot->expected = slot->records[n - 1].offset + 1;
    apply_slots_drop(s, slot, n);
}

static void test_records_read_on_from_where_postgres_stands_follow(void **state)
{
    struct apply_slots *s = *state;
    assert_true(apply_slot_follows(s->slot));
    keep(s, 100);
    keep(s, 104); /* 101 to 103: markers and what was aborted */
    keep(s, 105);
    assert_true(apply_slot_follows(s->slot));
    apply(s, 2);
    assert_int_equal(s->slot->count, 1);
    assert_true(apply_slot_follows(s->slot));
    apply(s, 1);
    assert_true(apply_slot_follows(s->slot));
    keep(s, 109);
    assert_true(apply_slot_follows(s->slot));
}

static void test_after_a_lost_offset_nothing_follows_until_the_consumer_was_set_there(void **state)
{
    static const int64_t standing[] = {100, 150, 50};
    struct apply_slots *s = *state;
    for (size_t i = 0; i < sizeof standing / sizeof standing[0]; i++) {
        keep(s, 200 + (int64_t)i);
        s->slot->expected = standing[i]; /* another ledger's */
        apply_slots_drop(s, s->slot, s->slot->count);
        assert_false(apply_slot_follows(s->slot));
        keep(s, 300 + (int64_t)i); /* the seek failed and the consumer went on */
        assert_false(apply_slot_follows(s->slot));
        apply_slots_drop(s, s->slot, s->slot->count);
        assert_false(apply_slot_follows(s->slot));
        apply_slot_set(s->slot, standing[i]);
        assert_true(apply_slot_follows(s->slot));
    }
}

static void test_a_record_before_the_place_the_consumer_was_set_to_is_not_kept(void **state)
{
    struct apply_slots *s = *state;
    keep(s, 99);
    assert_int_equal(s->slot->count, 0);
    keep(s, 100);
    keep(s, 100);
    assert_int_equal(s->slot->count, 1);
    assert_int_equal(s->bytes, 8);
    assert_true(apply_slot_follows(s->slot));
}

static void test_another_record_before_the_offset_is_another_topics(void **state)
{
    static const struct {
        int64_t offset;
        const char *value;
        bool same;
    } rows[] = {
        {99, "applied", true}, {99, "another", false}, {98, "applied", false}, {100, "applied", false}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct apply_slots s = {0};
        struct err err;
        uint8_t sha256[SHA256_LEN];
        struct consumer_message m = {
            .topic = TOPIC, .partition = 3, .offset = rows[i].offset, .value = sv_of(rows[i].value)};
        input_record_sha256(&(struct input_record){.value = SV_LIT("applied")}, sha256);
        assert_true(apply_slots_add(&s, TOPIC, 3, 100, sha256, &err));
        assert_int_equal(apply_slots_keep(&s, &m, &err), rows[i].same);
        assert_int_equal(s.slot->count, 0); /* it was applied before */
        if (rows[i].same) {
            keep(&s, 100);
            assert_int_equal(s.slot->count, 1);
            assert_true(apply_slot_follows(s.slot));
        } else {
            assert_int_equal(err.fate, FATE_FATAL);
        }
        apply_slots_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_records_read_on_from_where_postgres_stands_follow, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_after_a_lost_offset_nothing_follows_until_the_consumer_was_set_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_record_before_the_place_the_consumer_was_set_to_is_not_kept,
                                        setup, teardown),
        cmocka_unit_test(test_another_record_before_the_offset_is_another_topics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
