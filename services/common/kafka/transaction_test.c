#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "kafka/mock_cluster.h"
#include "kafka/transaction.h"

struct fixture {
    struct mock_cluster mock;
    struct transaction *t;
};

static struct fixture *start(int timeout_ms)
{
    struct err err;
    struct fixture *f = test_calloc(1, sizeof *f);
    assert_true(mock_cluster_start(&f->mock));
    const struct transaction_options options = {
        .kafka = mock_settings(&f->mock), .transactional_id = "owner", .timeout_ms = timeout_ms};
    if (!transaction_new(&f->t, &options, &err))
        fail_msg("%s", err.text);
    return f;
}

static void stop(struct fixture *f)
{
    transaction_free(f->t);
    mock_cluster_stop(&f->mock);
    test_free(f);
}

static void begin_and_send(struct fixture *f)
{
    struct err err;
    const struct kafka_record record = {.topic = "t", .value = sv_of("v")};
    if (!transaction_begin(f->t, &err) || !transaction_send(f->t, &record, &err))
        fail_msg("%s", err.text);
}

static void commit(struct fixture *f)
{
    struct err err;
    if (!transaction_commit(f->t, &err))
        fail_msg("%s", err.text);
}

static int64_t ended(const char *how)
{
    return metric_value(metric_counter("spend_kafka_transactions_total", "", "result", how));
}

static void test_a_failed_record_aborts_and_the_work_can_be_done_again(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    int64_t aborted = ended("aborted");
    int64_t committed = ended("committed");
    rd_kafka_mock_push_request_errors(f->mock.cluster, MOCK_PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS);
    begin_and_send(f);
    assert_false(transaction_commit(f->t, &err));
    assert_int_equal(err.fate, FATE_RETRY);
    assert_int_equal(ended("aborted"), aborted + 1);
    /* 2.0.2 may tell of the failed record's sequence number once more: again FATE_RETRY */
    int tries = 0;
    do {
        begin_and_send(f);
        err_clear(&err);
        tries++;
    } while (!transaction_commit(f->t, &err) && err.fate == FATE_RETRY && tries < 5);
    assert_int_equal(err.fate, FATE_OK);
    assert_int_equal(ended("committed"), committed + 1);
    assert_int_equal(ended("aborted"), aborted + tries);
    stop(f);
}

static void test_an_answer_that_says_later_is_asked_again(void **state)
{
    (void)state;
    struct fixture *f = start(0);
    rd_kafka_mock_push_request_errors(f->mock.cluster, MOCK_END_TXN, 2,
                                      RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                                      RD_KAFKA_RESP_ERR_NOT_COORDINATOR);
    begin_and_send(f);
    commit(f);
    stop(f);
}

static void test_a_fenced_owner_is_fatal(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    rd_kafka_mock_push_request_errors(f->mock.cluster, MOCK_END_TXN, 1, RD_KAFKA_RESP_ERR_PRODUCER_FENCED);
    begin_and_send(f);
    assert_false(transaction_commit(f->t, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    assert_int_equal(err.code, ERR_STATE);
    assert_false(transaction_begin(f->t, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    stop(f);
}

static void test_a_right_that_is_missing_is_fatal_not_tried_for_ever(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    rd_kafka_mock_push_request_errors(f->mock.cluster, MOCK_ADD_PARTITIONS, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    begin_and_send(f);
    assert_false(transaction_commit(f->t, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    stop(f);
}

static void test_a_commit_without_answer_is_fatal_because_its_outcome_is_unknown(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(1000);
    begin_and_send(f);
    commit(f); /* the coordinator is known and connected */
    begin_and_send(f);
    assert_int_equal(rd_kafka_mock_broker_set_down(f->mock.cluster, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    int64_t begin = clock_mono_us();
    assert_false(transaction_commit(f->t, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    assert_true(clock_mono_us() - begin < 20 * US_PER_SECOND);
    stop(f); /* and it does not hang */
}

static void test_a_commit_waits_for_a_broker_that_comes_back(void **state)
{
    (void)state;
    struct fixture *f = start(0);
    begin_and_send(f);
    commit(f);
    begin_and_send(f);
    for (size_t i = 0; i < 3; i++)
        rd_kafka_mock_push_request_errors(f->mock.cluster, MOCK_PRODUCE, 1,
                                          RD_KAFKA_RESP_ERR__TRANSPORT); /* disconnects */
    commit(f);
    stop(f);
}

static void test_a_record_over_the_limit_aborts_and_is_named_a_dead_letter(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    size_t len = 9 << 20;
    char *bytes = test_calloc(1, len);
    const struct kafka_record record = {.topic = "t", .value = {bytes, len}};
    assert_true(transaction_begin(f->t, &err));
    assert_false(transaction_send(f->t, &record, &err));
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    test_free(bytes);
    begin_and_send(f);
    commit(f);
    stop(f);
}

static void test_abort_without_a_transaction_is_fine(void **state)
{
    (void)state;
    struct err err;
    struct fixture *f = start(0);
    assert_true(transaction_abort(f->t, &err));
    assert_true(transaction_begin(f->t, &err));
    assert_true(transaction_abort(f->t, &err));
    assert_true(transaction_abort(f->t, &err));
    begin_and_send(f);
    commit(f);
    stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failed_record_aborts_and_the_work_can_be_done_again),
        cmocka_unit_test(test_an_answer_that_says_later_is_asked_again),
        cmocka_unit_test(test_a_fenced_owner_is_fatal),
        cmocka_unit_test(test_a_right_that_is_missing_is_fatal_not_tried_for_ever),
        cmocka_unit_test(test_a_commit_without_answer_is_fatal_because_its_outcome_is_unknown),
        cmocka_unit_test(test_a_commit_waits_for_a_broker_that_comes_back),
        cmocka_unit_test(test_a_record_over_the_limit_aborts_and_is_named_a_dead_letter),
        cmocka_unit_test(test_abort_without_a_transaction_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
