#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "kafka/consumer.h"
#include "kafka/mock_cluster.h"
#include "kafka/producer.h"

#define PATIENCE_US (60 * US_PER_SECOND)

struct fixture {
    struct mock_cluster mock;
    struct consumer *c;
};

static void produce(struct fixture *f, int count)
{
    struct err err;
    struct producer *p = NULL;
    const struct producer_options options = {.kafka = mock_settings(&f->mock)};
    assert_true(producer_new(&p, &options, &err));
    for (int i = 0; i < count; i++) {
        const struct kafka_record record = {.topic = "t", .key = sv_of("k"), .value = sv_of("v")};
        assert_true(producer_send(p, &record, &err));
    }
    assert_true(producer_flush(p, 30000));
    producer_free(p);
}

static struct fixture *start(const char *group)
{
    struct err err;
    struct fixture *f = test_calloc(1, sizeof *f);
    assert_true(mock_cluster_start(&f->mock));
    const struct consumer_options options = {.kafka = mock_settings(&f->mock), .group = group};
    if (!consumer_new(&f->c, &options, &err))
        fail_msg("%s", err.text);
    return f;
}

static void stop(struct fixture *f)
{
    consumer_free(f->c);
    mock_cluster_stop(&f->mock);
    test_free(f);
}

static void read_all(struct fixture *f)
{
    struct err err;
    const char *const topics[] = {"t"};
    if (!consumer_read_all(f->c, topics, 1, CONSUMER_OFFSET_BEGINNING, &err))
        fail_msg("%s", err.text);
}

static void expect(struct fixture *f, int count)
{
    struct err err;
    for (int64_t end = clock_mono_us() + PATIENCE_US; count > 0 && clock_mono_us() < end;) {
        struct consumer_message m;
        if (consumer_poll(f->c, 200, &m, &err)) {
            consumer_message_free(&m);
            count--;
        } else if (err.code != ERR_NONE) {
            fail_msg("%s", err.text);
        }
    }
    assert_int_equal(count, 0);
}

static void test_a_broker_that_is_away_is_waited_for(void **state)
{
    (void)state;
    struct err err;
    struct consumer_message m;
    struct fixture *f = start(NULL);
    produce(f, 5);
    read_all(f);
    expect(f, 5);
    assert_int_equal(rd_kafka_mock_broker_set_down(f->mock.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    struct metric *connected = metric_gauge("spend_kafka_connected", "", "client", "mock");
    for (int64_t end = clock_mono_us() + PATIENCE_US;
         metric_value(connected) == 1 && clock_mono_us() < end;) {
        assert_false(consumer_poll(f->c, 200, &m, &err));
        assert_int_equal(err.code, ERR_NONE);
    }
    assert_int_equal(metric_value(connected), 0);
    assert_int_equal(rd_kafka_mock_broker_set_up(f->mock.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    produce(f, 5);
    expect(f, 5);
    stop(f);
}

static void test_the_bounds_of_a_broker_that_is_away_are_a_retry(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(NULL);
    read_all(f);
    assert_int_equal(rd_kafka_mock_broker_set_down(f->mock.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_false(consumer_at_end(f->c, &err));
    assert_int_equal(err.fate, FATE_RETRY);
    stop(f);
}

static void test_a_topic_one_may_not_read_is_fatal_and_named(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start("g");
    rd_kafka_mock_topic_set_error(f->mock.cluster, "t", RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    const char *const topics[] = {"t"};
    assert_false(consumer_subscribe(f->c, topics, 1, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    assert_non_null(strstr(err.text, "topic t"));
    stop(f);
}

static void test_a_member_without_callbacks_begins_at_the_beginning(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start("g");
    produce(f, 3);
    const char *const topics[] = {"t"};
    assert_false(consumer_at_end(f->c, &err)); /* nothing is assigned: no end to speak of */
    assert_int_equal(err.code, ERR_NONE);
    assert_true(consumer_subscribe(f->c, topics, 1, &err));
    expect(f, 3);
    stop(f);
}

static void test_what_is_still_to_be_read_shows_as_lag(void **state)
{
    (void)state;
    struct fixture *f = start(NULL);
    struct metric *lag = metric_gauge("spend_kafka_lag_records", "", "client", "mock");
    struct err err;
    struct consumer_message m;
    produce(f, 50);
    read_all(f);
    expect(f, 1);
    for (int32_t i = 0; i < 2; i++)
        assert_true(consumer_pause(f->c, "t", i, true, &err));
    for (int64_t end = clock_mono_us() + PATIENCE_US; metric_value(lag) != 49 && clock_mono_us() < end;)
        assert_false(consumer_poll(f->c, 200, &m, &err));
    assert_int_equal(metric_value(lag), 49);
    for (int32_t i = 0; i < 2; i++)
        assert_true(consumer_pause(f->c, "t", i, false, &err));
    expect(f, 49);
    for (int64_t end = clock_mono_us() + PATIENCE_US; metric_value(lag) != 0 && clock_mono_us() < end;)
        assert_false(consumer_poll(f->c, 200, &m, &err));
    assert_int_equal(metric_value(lag), 0);
    stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_broker_that_is_away_is_waited_for),
        cmocka_unit_test(test_the_bounds_of_a_broker_that_is_away_are_a_retry),
        cmocka_unit_test(test_a_topic_one_may_not_read_is_fatal_and_named),
        cmocka_unit_test(test_a_member_without_callbacks_begins_at_the_beginning),
        cmocka_unit_test(test_what_is_still_to_be_read_shows_as_lag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
