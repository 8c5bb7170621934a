#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "kafka/mock_cluster.h"
#include "kafka/producer.h"

#define PATIENCE_US (30 * US_PER_SECOND)

struct reports {
    int ok;
    int failed;
    int64_t tags; /* summed */
    struct err last;
};

static void on_report(void *arg, int64_t tag, bool ok, int32_t partition, int64_t offset,
                      const struct err *err)
{
    struct reports *r = arg;
    r->ok += ok;
    r->failed += !ok;
    r->tags += tag;
    if (ok) {
        assert_in_range(partition, 0, 1);
        assert_true(offset >= 0);
    } else {
        r->last = *err;
    }
}

struct fixture {
    struct mock_cluster mock;
    struct reports reports;
    struct producer *p;
};

static struct fixture *start(int queue_records)
{
    struct err err;
    struct fixture *f = test_calloc(1, sizeof *f);
    assert_true(mock_cluster_start(&f->mock));
    const struct producer_options options = {.kafka = mock_settings(&f->mock),
                                             .linger_ms = 1,
                                             .queue_records = queue_records,
                                             .report = on_report,
                                             .report_arg = &f->reports};
    if (!producer_new(&f->p, &options, &err))
        fail_msg("%s", err.text);
    return f;
}

static void stop(struct fixture *f)
{
    producer_free(f->p);
    mock_cluster_stop(&f->mock);
    test_free(f);
}

static bool send_one(struct fixture *f, int64_t tag, struct err *err)
{
    const struct kafka_record record = {.topic = "t", .key = sv_of("k"), .value = sv_of("v"), .tag = tag};
    return producer_send(f->p, &record, err);
}

static int64_t counted(const char *name)
{
    return metric_value(metric_counter(name, "", "topic", "t"));
}

static void test_a_full_queue_is_an_answer_and_nothing_in_it_is_lost(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(5);
    int64_t full = counted("spend_kafka_queue_full_total");
    assert_int_equal(rd_kafka_mock_broker_set_down(f->mock.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    for (int i = 0; i < 5; i++)
        assert_true(send_one(f, 1, &err));
    assert_false(send_one(f, 100, &err));
    assert_int_equal(err.code, ERR_FULL);
    assert_int_equal(err.fate, FATE_RETRY);
    assert_int_equal(counted("spend_kafka_queue_full_total"), full + 1);
    assert_false(producer_flush(f->p, 50));
    assert_int_equal(rd_kafka_mock_broker_set_up(f->mock.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_true(producer_flush(f->p, 30000));
    assert_int_equal(f->reports.ok, 5);
    assert_int_equal(f->reports.tags, 5);
    stop(f);
}

static void test_a_refusal_that_passes_is_tried_again_until_the_broker_has_it(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    rd_kafka_mock_push_request_errors(
        f->mock.cluster, MOCK_PRODUCE, 3, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
    assert_true(send_one(f, 7, &err));
    assert_true(producer_flush(f->p, 30000));
    assert_int_equal(f->reports.ok, 1);
    assert_int_equal(f->reports.failed, 0);
    stop(f);
}

static void test_a_refusal_for_good_is_reported_with_its_fate(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    int64_t failed = counted("spend_kafka_delivery_failed_total");
    rd_kafka_mock_push_request_errors(f->mock.cluster, MOCK_PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    assert_true(send_one(f, 9, &err));
    assert_true(producer_flush(f->p, 30000));
    assert_int_equal(f->reports.failed, 1);
    assert_int_equal(f->reports.tags, 9);
    assert_int_equal(f->reports.last.fate, FATE_FATAL);
    assert_non_null(strstr(f->reports.last.text, "t: not delivered"));
    assert_int_equal(counted("spend_kafka_delivery_failed_total"), failed + 1);
    stop(f);
}

static void test_a_broken_sequence_is_fatal_and_told(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    assert_false(producer_is_fatal(f->p, &err));
    assert_true(send_one(f, 1, &err));
    assert_true(producer_flush(f->p, 30000));
    rd_kafka_mock_push_request_errors(f->mock.cluster, MOCK_PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_true(send_one(f, 2, &err));
    for (int64_t end = clock_mono_us() + PATIENCE_US;
         !producer_is_fatal(f->p, &err) && clock_mono_us() < end;)
        (void)producer_poll(f->p, 50);
    assert_true(producer_is_fatal(f->p, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    assert_false(send_one(f, 3, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    stop(f);
}

static void test_the_event_descriptor_wakes_for_a_report_and_rests_when_cleared(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    int fd = producer_event_fd(f->p);
    assert_true(fd >= 0);
    assert_int_equal(producer_event_fd(f->p), fd);
    assert_true(send_one(f, 1, &err));
    for (int64_t end = clock_mono_us() + PATIENCE_US; f->reports.ok == 0 && clock_mono_us() < end;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, 30000), 1);
        producer_event_clear(f->p);
        while (producer_poll(f->p, 0) > 0)
            continue;
    }
    assert_int_equal(f->reports.ok, 1);
    producer_event_clear(f->p);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&wait, 1, 0), 0);
    stop(f);
}

static void test_what_is_queued_is_given_up_at_once_by_free(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    assert_int_equal(rd_kafka_mock_broker_set_down(f->mock.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    for (int i = 0; i < 100; i++)
        assert_true(send_one(f, i, &err));
    int64_t begin = clock_mono_us();
    producer_free(f->p);
    f->p = NULL;
    assert_true(clock_mono_us() - begin < 10 * US_PER_SECOND);
    assert_int_equal(f->reports.ok + f->reports.failed, 0); /* no report: its owner still has them */
    stop(f);
}

static void test_connection_is_told_by_the_brokers_answers(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    assert_false(producer_is_connected(f->p));
    assert_true(send_one(f, 1, &err));
    assert_true(producer_flush(f->p, 30000));
    assert_true(producer_is_connected(f->p));
    assert_int_equal(rd_kafka_mock_broker_set_down(f->mock.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    for (int64_t end = clock_mono_us() + PATIENCE_US; producer_is_connected(f->p) && clock_mono_us() < end;)
        (void)producer_poll(f->p, 100);
    assert_false(producer_is_connected(f->p));
    assert_int_equal(rd_kafka_mock_broker_set_up(f->mock.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    for (int64_t end = clock_mono_us() + PATIENCE_US; !producer_is_connected(f->p) && clock_mono_us() < end;)
        (void)producer_poll(f->p, 100);
    assert_true(producer_is_connected(f->p));
    stop(f);
}

static void test_a_bad_property_is_refused_at_start(void **state)
{
    (void)state;
    struct err err;
    struct producer *p = NULL;
    static const char *const properties[] = {"acks=0"};
    const struct producer_options options = {
        .kafka = {.brokers = "127.0.0.1:1", .properties = properties, .property_count = 1}};
    assert_false(producer_new(&p, &options, &err));
    assert_null(p);
    assert_non_null(strstr(err.text, "acks"));
    producer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_queue_is_an_answer_and_nothing_in_it_is_lost),
        cmocka_unit_test(test_a_refusal_that_passes_is_tried_again_until_the_broker_has_it),
        cmocka_unit_test(test_a_refusal_for_good_is_reported_with_its_fate),
        cmocka_unit_test(test_a_broken_sequence_is_fatal_and_told),
        cmocka_unit_test(test_the_event_descriptor_wakes_for_a_report_and_rests_when_cleared),
        cmocka_unit_test(test_what_is_queued_is_given_up_at_once_by_free),
        cmocka_unit_test(test_connection_is_told_by_the_brokers_answers),
        cmocka_unit_test(test_a_bad_property_is_refused_at_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
