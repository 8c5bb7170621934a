/* What was read and is not committed: how far each partition is, what a new assignment leaves. */
#include "pending.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct pending *pending_of(size_t records, int64_t bytes)
{
    struct pending *p = NULL;
    struct err err;
    const struct consumer_partition parts[] = {{"spend.calls", 0, 0}, {"spend.calls", 7, 0}};
    assert_true(pending_new(&p, records, bytes, &err));
    assert_true(pending_assign(p, parts, 2, &err));
    return p;
}

static void add_at(struct pending *p, int32_t partition, int64_t offset, int64_t now_us)
{
    struct err err;
    struct consumer_message m = {
        .topic = "spend.calls", .partition = partition, .offset = offset, .value = SV_LIT("12345678")};
    assert_true(pending_add(p, &m, now_us, &err));
}

static void add(struct pending *p, int32_t partition, int64_t offset)
{
    add_at(p, partition, offset, 0);
}

static void test_positions_are_of_the_partitions_with_something_sent(void **state)
{
    (void)state;
    struct pending *p = pending_of(10, 1000);
    size_t count = 0;
    add(p, 7, 100);
    add(p, 0, 5);
    add(p, 7, 103);
    pending_begin(p);
    (void)pending_positions(p, "spend.calls", &count);
    assert_int_equal(count, 0);
    pending_mark(p, pending_at(p, 0));
    pending_mark(p, pending_at(p, 2));
    const struct consumer_partition *parts = pending_positions(p, "spend.calls", &count);
    assert_int_equal(count, 1);
    assert_int_equal(parts[0].partition, 7);
    assert_int_equal(parts[0].offset, 104);
    pending_forget_sent(p);
    assert_int_equal(pending_count(p), 1);
    assert_int_equal(pending_at(p, 0)->message.offset, 5);
    pending_free(p);
}

static void test_an_aborted_attempt_leaves_everything_to_be_sent_again(void **state)
{
    (void)state;
    struct pending *p = pending_of(10, 1000);
    size_t count = 0;
    add(p, 0, 1);
    add(p, 0, 2);
    pending_begin(p);
    pending_mark(p, pending_at(p, 0));
    pending_partition_of(p, pending_at(p, 1))->is_waiting = true;
    pending_begin(p);
    (void)pending_positions(p, "spend.calls", &count);
    assert_int_equal(count, 0);
    assert_false(pending_partition(p, 0)->is_waiting);
    pending_forget_sent(p);
    assert_int_equal(pending_count(p), 2);
    pending_free(p);
}

static void test_it_is_full_by_records_or_by_bytes(void **state)
{
    (void)state;
    struct pending *p = pending_of(3, 1000);
    for (int i = 0; i < 3; i++) {
        assert_false(pending_is_full(p));
        add(p, 0, i);
    }
    assert_true(pending_is_full(p));
    pending_begin(p);
    pending_mark(p, pending_at(p, 0));
    pending_forget_sent(p);
    assert_false(pending_is_full(p));
    pending_free(p);
    p = pending_of(1000, 16);
    add(p, 0, 0);
    assert_false(pending_is_full(p));
    add(p, 0, 1);
    assert_true(pending_is_full(p));
    pending_free(p);
}

static void test_it_is_ready_when_one_record_needs_no_later_watermark(void **state)
{
    (void)state;
    struct pending *p = pending_of(10, 1000);
    assert_false(pending_is_ready(p, 100));
    add(p, 0, 1);
    assert_true(pending_is_ready(p, 0)); /* not looked at yet */
    pending_at(p, 0)->known_by = 50;
    assert_false(pending_is_ready(p, 49));
    assert_true(pending_is_ready(p, 50));
    pending_free(p);
}

static void test_another_assignment_drops_what_was_held(void **state)
{
    (void)state;
    struct err err;
    struct pending *p = pending_of(2, 1000);
    const struct consumer_partition parts[] = {{"spend.calls", 3, 0}};
    for (int i = 0; i < 300; i++) /* past the first room */
        add(p, 0, i);
    assert_true(pending_assign(p, parts, 1, &err));
    assert_int_equal(pending_count(p), 0);
    assert_false(pending_is_full(p));
    assert_int_equal(pending_partition_count(p), 1);
    assert_int_equal(pending_partition(p, 0)->partition, 3);
    pending_drop_all(p);
    assert_int_equal(pending_partition_count(p), 0);
    pending_free(p);
    pending_free(NULL);
    pending_drop_all(NULL);
}

static void test_the_oldest_that_waits_is_told_with_the_time_it_was_read(void **state)
{
    (void)state;
    struct pending *p = pending_of(10, 1000);
    assert_null(pending_oldest_waiting(p, 0));
    add_at(p, 0, 5, 1000);
    assert_null(pending_oldest_waiting(p, 0)); /* not looked at yet */
    add_at(p, 7, 100, 2000);
    add_at(p, 0, 6, 3000);
    pending_at(p, 0)->known_by = 40;
    pending_at(p, 1)->known_by = 50;
    pending_at(p, 2)->known_by = 60;
    const struct pending_item *item = pending_oldest_waiting(p, 40); /* the first waits for its transaction */
    assert_non_null(item);
    assert_int_equal(item->read_us, 2000);
    assert_int_equal(item->message.partition, 7);
    assert_int_equal(item->message.offset, 100);
    assert_int_equal(pending_oldest_waiting(p, 50)->read_us, 3000);
    assert_null(pending_oldest_waiting(p, 60));
    pending_begin(p);
    pending_mark(p, pending_at(p, 0));
    pending_forget_sent(p);
    assert_int_equal(pending_oldest_waiting(p, 40)->read_us, 2000); /* it is not read again */
    pending_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_positions_are_of_the_partitions_with_something_sent),
        cmocka_unit_test(test_an_aborted_attempt_leaves_everything_to_be_sent_again),
        cmocka_unit_test(test_it_is_full_by_records_or_by_bytes),
        cmocka_unit_test(test_it_is_ready_when_one_record_needs_no_later_watermark),
        cmocka_unit_test(test_another_assignment_drops_what_was_held),
        cmocka_unit_test(test_the_oldest_that_waits_is_told_with_the_time_it_was_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
