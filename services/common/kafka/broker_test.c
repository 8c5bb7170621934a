/*
 * The Kafka room against a real broker: SPEND_KAFKA_BROKERS names it. Every test makes topics of its own and
 * frees what it made: a leaked message or list would hang in the free. Run by
 * tests/integration/kafka_test.py.
 */
#include <librdkafka/rdkafka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kafka/consumer.h"
#include "kafka/producer.h"
#include "kafka/transaction.h"

#define PATIENCE_US  (60 * US_PER_SECOND)
#define NAME_MAX_LEN 80

static const char *brokers;
static unsigned made;

static struct kafka_settings settings(void)
{
    return (struct kafka_settings){.brokers = brokers, .client_id = "test"};
}

/* A name nobody had before. */
static void name_new(char out[NAME_MAX_LEN], const char *what)
{
    (void)snprintf(out, NAME_MAX_LEN, "test.%s.%lld.%u", what, (long long)clock_now_us(), made++);
}

static void assert_fine(bool ok, const struct err *err)
{
    if (!ok)
        fail_msg("%s", err->text);
}

static struct consumer *reader_new(void)
{
    struct err err;
    struct consumer *c = NULL;
    const struct consumer_options options = {.kafka = settings()};
    assert_fine(consumer_new(&c, &options, &err), &err);
    return c;
}

/* The controller has answered; the broker learns of the topic a moment later. */
static void visible_await(const char *topic, int partitions)
{
    struct err err;
    int32_t count = 0;
    struct consumer *c = reader_new();
    bool is_visible = false;
    for (int64_t end = clock_mono_us() + PATIENCE_US; !is_visible && clock_mono_us() < end;)
        is_visible = consumer_partition_count(c, topic, &count, &err);
    assert_fine(is_visible, &err);
    assert_int_equal(count, partitions);
    consumer_free(c);
}

/* Takes records of up to 8 MiB and their frame, as spend.prices does. */
static void topic_new(char out[NAME_MAX_LEN], const char *what, int partitions, const char *cleanup)
{
    char why[200];
    name_new(out, what);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    assert_int_equal(rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why),
                     RD_KAFKA_CONF_OK);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    assert_non_null(rk);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(out, partitions, 1, why, sizeof why);
    assert_int_equal(rd_kafka_NewTopic_set_config(topic, "cleanup.policy", cleanup),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_int_equal(rd_kafka_NewTopic_set_config(topic, "max.message.bytes", "8454144"),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 30000);
    assert_non_null(event);
    size_t count = 0;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    assert_int_equal(count, 1);
    assert_int_equal(rd_kafka_topic_result_error(results[0]), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_destroy(rk);
    visible_await(out, partitions);
}

struct reports {
    int ok;
    int failed;
    int64_t tag;
    int64_t offset;
    struct err err;
};

static void on_report(void *arg, int64_t tag, bool ok, int32_t partition, int64_t offset,
                      const struct err *err)
{
    struct reports *r = arg;
    (void)partition;
    r->ok += ok;
    r->failed += !ok;
    r->tag = tag;
    r->offset = offset;
    r->err = *err;
}

/* Numbers first..first+count-1 as values "n", keys "k<n%8>". */
static void produce(const char *topic, int first, int count)
{
    struct err err;
    struct reports reports = {0};
    struct producer *p = NULL;
    const struct producer_options options = {
        .kafka = settings(), .linger_ms = 5, .report = on_report, .report_arg = &reports};
    assert_fine(producer_new(&p, &options, &err), &err);
    for (int i = first; i < first + count; i++) {
        char key[16];
        char value[16];
        (void)snprintf(key, sizeof key, "k%d", i % 8);
        (void)snprintf(value, sizeof value, "%d", i);
        const struct kafka_record record = {
            .topic = topic, .key = sv_of(key), .value = sv_of(value), .tag = i};
        assert_fine(producer_send(p, &record, &err), &err);
    }
    assert_true(producer_flush(p, 30000));
    assert_int_equal(reports.ok, count);
    producer_free(p);
}

static int number_of(const struct consumer_message *m)
{
    int64_t n = -1;
    assert_true(sv_to_i64(m->value, &n));
    return (int)n;
}

/* The next message, within the test's patience. */
static void next_message(struct consumer *c, struct consumer_message *m)
{
    struct err err;
    for (int64_t end = clock_mono_us() + PATIENCE_US; clock_mono_us() < end;) {
        if (consumer_poll(c, 500, m, &err))
            return;
        assert_fine(err.code == ERR_NONE, &err);
    }
    fail_msg("no message came");
}

static int next_number(struct consumer *c)
{
    struct consumer_message m = {0};
    next_message(c, &m);
    int n = number_of(&m);
    consumer_message_free(&m);
    return n;
}

/* Reads on until at_end; counts how often each number came. */
static int read_to_end(struct consumer *c, int *seen, int most)
{
    struct err err;
    int count = 0;
    int64_t end = clock_mono_us() + PATIENCE_US;
    while (!consumer_at_end(c, &err)) {
        assert_fine(err.code == ERR_NONE || err.fate == FATE_RETRY, &err); /* a leader may be on its way */
        assert_true(clock_mono_us() < end);
        struct consumer_message m = {0};
        if (!consumer_poll(c, 200, &m, &err)) {
            assert_fine(err.code == ERR_NONE, &err);
            continue;
        }
        int n = number_of(&m);
        if (n >= 0 && n < most)
            seen[n]++;
        count++;
        consumer_message_free(&m);
    }
    return count;
}

/* A commit is visible only when the broker has written its markers, a moment after it was answered: reads on
 * until so many have come, and then to the end once more, for those that must not come. */
static void read_exactly(struct consumer *c, int *seen, int most, int expected)
{
    int count = 0;
    int64_t end = clock_mono_us() + PATIENCE_US;
    while (count < expected && clock_mono_us() < end)
        count += read_to_end(c, seen, most);
    count += read_to_end(c, seen, most);
    assert_int_equal(count, expected);
}

static void assert_holds(const char *topic, int *seen, int most, int expected)
{
    struct err err;
    struct consumer *c = reader_new();
    const char *const topics[] = {topic};
    assert_fine(consumer_read_all(c, topics, 1, CONSUMER_OFFSET_BEGINNING, &err), &err);
    read_exactly(c, seen, most, expected);
    consumer_free(c);
}

static void test_a_record_comes_back_with_key_headers_and_null_value(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    topic_new(topic, "plain", 1, "delete");
    struct err err;
    struct reports reports = {0};
    struct producer *p = NULL;
    const struct producer_options options = {
        .kafka = settings(), .report = on_report, .report_arg = &reports};
    assert_fine(producer_new(&p, &options, &err), &err);
    assert_true(producer_event_fd(p) >= 0);
    struct kafka_ce ce;
    kafka_ce_fill(&ce, "test/1", "spend.call", sv_of("id-1"), 1700000000000001);
    const struct kafka_record full = {.topic = topic,
                                      .key = sv_of("key"),
                                      .value = sv_of("value"),
                                      .headers = ce.header,
                                      .header_count = KAFKA_CE_HEADERS,
                                      .tag = INT64_MAX};
    const struct kafka_record tombstone = {.topic = topic, .key = sv_of("key"), .tag = -7};
    const struct kafka_record empty = {.topic = topic, .value = sv_of(""), .tag = 3};
    assert_fine(producer_send(p, &full, &err), &err);
    assert_true(producer_flush(p, 30000));
    assert_true(reports.tag == INT64_MAX);
    assert_int_equal(reports.offset, 0);
    assert_true(producer_is_connected(p));
    assert_fine(producer_send(p, &tombstone, &err), &err);
    assert_fine(producer_send(p, &empty, &err), &err);
    assert_true(producer_flush(p, 30000));
    assert_int_equal(reports.ok, 3);
    producer_event_clear(p);
    producer_free(p);

    struct consumer *c = reader_new();
    const struct consumer_partition part = {topic, 0, 0};
    assert_fine(consumer_read(c, &part, 1, &err), &err);
    struct consumer_message m = {0};
    struct strview value;
    next_message(c, &m);
    assert_true(sv_eq(m.key, sv_of("key")));
    assert_true(sv_eq(m.value, sv_of("value")));
    assert_true(m.timestamp_us > 1600000000000000);
    assert_true(consumer_message_header(&m, "ce_id", &value) && sv_eq(value, sv_of("id-1")));
    assert_true(consumer_message_header(&m, "ce_time", &value) &&
                sv_eq(value, sv_of("2023-11-14T22:13:20.000001Z")));
    assert_true(consumer_message_header(&m, "ce_specversion", &value) && sv_eq(value, sv_of("1.0")));
    assert_false(consumer_message_header(&m, "absent", &value));
    consumer_message_free(&m);
    next_message(c, &m);
    assert_true(sv_is_null(m.value));
    assert_false(consumer_message_header(&m, "ce_id", &value));
    consumer_message_free(&m);
    next_message(c, &m);
    assert_true(sv_is_null(m.key));
    assert_true(!sv_is_null(m.value) && m.value.len == 0);
    consumer_message_free(&m);
    consumer_free(c);
}

static void test_cluster_bounds_and_partitions_are_told(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    topic_new(topic, "bounds", 3, "delete");
    produce(topic, 0, 40);
    struct err err;
    struct consumer *c = reader_new();
    assert_true(consumer_cluster_id(c, 10000).len > 0);
    int32_t partitions = 0;
    assert_fine(consumer_partition_count(c, topic, &partitions, &err), &err);
    assert_int_equal(partitions, 3);
    int64_t total = 0;
    for (int32_t i = 0; i < partitions; i++) {
        int64_t low = -1;
        int64_t high = -1;
        for (int64_t end = clock_mono_us() + PATIENCE_US; !consumer_bounds(c, topic, i, &low, &high, &err);)
            assert_fine(err.fate == FATE_RETRY && clock_mono_us() < end, &err);
        assert_int_equal(low, 0);
        total += high;
    }
    assert_int_equal(total, 40);
    consumer_free(c);
}

static void test_a_missing_topic_is_named_and_fatal(void **state)
{
    (void)state;
    struct err err;
    struct consumer *c = NULL;
    const struct consumer_options options = {.kafka = settings(), .group = "test.missing"};
    assert_fine(consumer_new(&c, &options, &err), &err);
    const char *const topics[] = {"test.nobody.made.me"};
    assert_false(consumer_subscribe(c, topics, 1, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    assert_non_null(strstr(err.text, "test.nobody.made.me"));
    assert_non_null(strstr(err.text, "topics.json"));
    consumer_free(c);
}

/* 2.0.2 frees headers twice on one way out of produce: the sanitizer build would tell. */
static void test_a_record_for_a_missing_topic_is_reported_or_refused(void **state)
{
    (void)state;
    struct err err;
    struct reports reports = {0};
    struct producer *p = NULL;
    static const char *const quick[] = {"topic.metadata.propagation.max.ms=1"};
    struct producer_options options = {.kafka = settings(), .report = on_report, .report_arg = &reports};
    options.kafka.properties = quick;
    options.kafka.property_count = 1;
    assert_fine(producer_new(&p, &options, &err), &err);
    struct kafka_ce ce;
    kafka_ce_fill(&ce, "test/1", "spend.call", sv_of("id-1"), 1);
    const struct kafka_record record = {.topic = "test.nobody.made.me",
                                        .value = sv_of("v"),
                                        .headers = ce.header,
                                        .header_count = KAFKA_CE_HEADERS};
    int64_t end = clock_mono_us() + PATIENCE_US;
    assert_fine(producer_send(p, &record, &err), &err);
    while (reports.failed == 0 && clock_mono_us() < end)
        (void)producer_poll(p, 200);
    assert_int_equal(reports.failed, 1);
    /* now the topic is known to be missing: refused at once, with its headers */
    assert_false(producer_send(p, &record, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    assert_non_null(strstr(err.text, "test.nobody.made.me"));
    assert_false(producer_finds_topic(p, "test.nobody.made.me", PATIENCE_US / 1000, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    producer_free(p);
}

static struct transaction *transaction_make(const char *id)
{
    struct err err;
    struct transaction *t = NULL;
    const struct transaction_options options = {
        .kafka = settings(), .transactional_id = id, .timeout_ms = 10000};
    assert_fine(transaction_new(&t, &options, &err), &err);
    return t;
}

static void send_number(struct transaction *t, const char *topic, int n)
{
    struct err err;
    char text[16];
    (void)snprintf(text, sizeof text, "%d", n);
    const struct kafka_record record = {.topic = topic, .key = sv_of(text), .value = sv_of(text)};
    assert_fine(transaction_send(t, &record, &err), &err);
}

static void test_the_end_is_found_behind_markers_and_aborted_records(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    char id[NAME_MAX_LEN];
    topic_new(topic, "compacted", 2, "compact");
    name_new(id, "txn");
    struct err err;
    struct consumer *c = reader_new();
    const char *const topics[] = {topic};
    assert_fine(consumer_read_all(c, topics, 1, CONSUMER_OFFSET_BEGINNING, &err), &err);
    int seen[30] = {0};
    assert_int_equal(read_to_end(c, seen, 30), 0); /* an empty topic has an end too */

    struct transaction *t = transaction_make(id);
    assert_fine(transaction_begin(t, &err), &err);
    for (int i = 0; i < 10; i++)
        send_number(t, topic, i);
    assert_fine(transaction_commit(t, &err), &err);
    assert_fine(transaction_begin(t, &err), &err);
    for (int i = 10; i < 20; i++)
        send_number(t, topic, i);
    assert_fine(transaction_abort(t, &err), &err);
    read_exactly(c, seen, 30, 10);
    assert_fine(transaction_begin(t, &err), &err);
    for (int i = 20; i < 30; i++)
        send_number(t, topic, i);
    assert_fine(transaction_commit(t, &err), &err);
    read_exactly(c, seen, 30, 10); /* asked again: what came since is read too */
    assert_fine(transaction_begin(t, &err), &err);
    assert_fine(transaction_abort(t, &err), &err); /* empty */
    transaction_free(t);
    for (int i = 0; i < 30; i++)
        assert_int_equal(seen[i], i >= 10 && i < 20 ? 0 : 1);
    consumer_free(c);
}

struct member {
    struct consumer *c;
    int assigned; /* callbacks */
    int revoked;
    size_t parts;
    int64_t first; /* what the group had for its first partition */
};

static bool on_assigned(void *arg, struct consumer_partition *parts, size_t count, struct err *err)
{
    struct member *m = arg;
    (void)err;
    m->assigned++;
    m->parts = count;
    m->first = count > 0 ? parts[0].offset : CONSUMER_OFFSET_NONE;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].offset == CONSUMER_OFFSET_NONE)
            parts[i].offset = CONSUMER_OFFSET_BEGINNING;
    }
    return true;
}

static void on_revoked(void *arg, const struct consumer_partition *parts, size_t count, bool lost)
{
    struct member *m = arg;
    (void)parts;
    (void)lost;
    assert_int_equal(count, m->parts);
    m->revoked++;
    m->parts = 0;
}

static void member_join(struct member *m, const char *group, const char *name, const char *topic)
{
    struct err err;
    const struct consumer_options options = {.kafka = settings(),
                                             .group = group,
                                             .member = name,
                                             .assigned = on_assigned,
                                             .revoked = on_revoked,
                                             .arg = m};
    const char *const topics[] = {topic};
    assert_fine(consumer_new(&m->c, &options, &err), &err);
    assert_fine(consumer_subscribe(m->c, topics, 1, &err), &err);
}

/* Handles numbers from..to-1 in one transaction; the position in *at moves. */
static void copy(struct transaction *t, struct member *m, const char *in, const char *out, int from, int to)
{
    struct err err;
    assert_fine(transaction_begin(t, &err), &err);
    for (int i = from; i < to; i++) {
        assert_int_equal(next_number(m->c), i);
        send_number(t, out, i);
    }
    const struct consumer_partition at = {in, 0, to};
    assert_fine(transaction_send_offsets(t, m->c, &at, 1, &err), &err);
}

static void test_an_aborted_transaction_is_done_again_from_the_committed_offset(void **state)
{
    (void)state;
    char in[NAME_MAX_LEN];
    char out[NAME_MAX_LEN];
    char group[NAME_MAX_LEN];
    topic_new(in, "in", 1, "delete");
    topic_new(out, "out", 1, "delete");
    name_new(group, "group");
    produce(in, 0, 300);
    struct err err;
    struct member m = {0};
    struct transaction *t = transaction_make(group);
    member_join(&m, group, "copier", in);
    copy(t, &m, in, out, 0, 100);
    assert_fine(transaction_commit(t, &err), &err);
    assert_int_equal(m.first, CONSUMER_OFFSET_NONE);
    copy(t, &m, in, out, 100, 200);
    assert_fine(transaction_abort(t, &err), &err);
    struct consumer_partition at = {in, 0, 0};
    const struct kafka_settings kafka = settings();
    assert_fine(transaction_read_position(&kafka, group, &at, 1, &err), &err);
    assert_int_equal(at.offset, 100);
    assert_fine(consumer_seek(m.c, in, 0, at.offset, &err), &err);
    copy(t, &m, in, out, 100, 200);
    assert_fine(transaction_commit(t, &err), &err);
    consumer_free(m.c);
    assert_int_equal(m.revoked, 1);

    /* the next process begins where the last commit was */
    struct member again = {0};
    member_join(&again, group, "copier", in);
    copy(t, &again, in, out, 200, 300);
    assert_fine(transaction_commit(t, &err), &err);
    assert_int_equal(again.first, 200);
    consumer_free(again.c);
    transaction_free(t);
    int seen[300] = {0};
    assert_holds(out, seen, 300, 300);
    for (int i = 0; i < 300; i++)
        assert_int_equal(seen[i], 1);
}

static void test_the_second_owner_of_a_transactional_id_fences_the_first(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    char id[NAME_MAX_LEN];
    topic_new(topic, "fenced", 1, "delete");
    name_new(id, "txn");
    struct err err;
    struct transaction *old = transaction_make(id);
    assert_fine(transaction_begin(old, &err), &err);
    send_number(old, topic, 1);
    struct transaction *young = transaction_make(id);
    assert_false(transaction_commit(old, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    assert_fine(transaction_begin(young, &err), &err);
    send_number(young, topic, 2);
    assert_fine(transaction_commit(young, &err), &err);
    transaction_free(old);
    transaction_free(young);
    int seen[3] = {0};
    assert_holds(topic, seen, 3, 1);
    assert_int_equal(seen[2], 1);
}

static void test_a_position_commits_and_aborts_with_its_transaction(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    char group[NAME_MAX_LEN];
    topic_new(topic, "position", 1, "delete");
    name_new(group, "publisher");
    struct err err;
    const struct kafka_settings kafka = settings();
    struct consumer_partition at = {topic, 0, 0};
    assert_fine(transaction_read_position(&kafka, group, &at, 1, &err), &err);
    assert_int_equal(at.offset, CONSUMER_OFFSET_NONE);
    struct transaction *t = transaction_make(group);
    assert_fine(transaction_begin(t, &err), &err);
    send_number(t, topic, 1);
    at.offset = 41;
    assert_fine(transaction_send_position(t, group, &at, 1, &err), &err);
    assert_fine(transaction_commit(t, &err), &err);
    assert_fine(transaction_begin(t, &err), &err);
    at.offset = 99;
    assert_fine(transaction_send_position(t, group, &at, 1, &err), &err);
    assert_fine(transaction_abort(t, &err), &err);
    transaction_free(t);
    at.offset = 0;
    assert_fine(transaction_read_position(&kafka, group, &at, 1, &err), &err);
    assert_int_equal(at.offset, 41);
}

static void test_seek_and_pause_neither_skip_nor_repeat(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    topic_new(topic, "seek", 1, "delete");
    produce(topic, 0, 1000);
    struct err err;
    struct consumer *c = reader_new();
    const struct consumer_partition part = {topic, 0, 0};
    assert_fine(consumer_read(c, &part, 1, &err), &err);
    assert_fine(consumer_seek(c, topic, 0, 500, &err), &err); /* before the first message came */
    assert_int_equal(next_number(c), 500);
    assert_fine(consumer_seek(c, topic, 0, 10, &err), &err);
    for (int i = 10; i < 60; i++)
        assert_int_equal(next_number(c), i);
    assert_fine(consumer_pause(c, topic, 0, false, &err), &err); /* not paused: nothing happens */
    assert_int_equal(next_number(c), 60);
    assert_fine(consumer_pause(c, topic, 0, true, &err), &err);
    struct consumer_message m = {0};
    assert_false(consumer_poll(c, 300, &m, &err));
    assert_int_equal(err.code, ERR_NONE);
    assert_fine(consumer_pause(c, topic, 0, false, &err), &err);
    for (int i = 61; i < 1000; i++)
        assert_int_equal(next_number(c), i);
    assert_false(consumer_seek(c, topic, 7, 0, &err)); /* not assigned */
    consumer_free(c);
}

static void test_an_offset_out_of_range_is_fatal_and_never_reset(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    topic_new(topic, "range", 1, "delete");
    produce(topic, 0, 5);
    struct err err;
    struct consumer *c = reader_new();
    const struct consumer_partition part = {topic, 0, 1000};
    assert_fine(consumer_read(c, &part, 1, &err), &err);
    struct consumer_message m = {0};
    err_clear(&err);
    for (int64_t end = clock_mono_us() + PATIENCE_US; err.code == ERR_NONE && clock_mono_us() < end;)
        assert_false(consumer_poll(c, 500, &m, &err));
    assert_int_equal(err.fate, FATE_FATAL);
    assert_non_null(strstr(err.text, topic));
    consumer_free(c);
}

static void poll_once(struct consumer *c)
{
    struct err err;
    struct consumer_message m = {0};
    if (consumer_poll(c, 50, &m, &err))
        consumer_message_free(&m);
    else
        assert_fine(err.code == ERR_NONE, &err);
}

/* Polls both until each has so many partitions. */
static void settle(struct member *a, size_t a_parts, struct member *b, size_t b_parts)
{
    for (int64_t end = clock_mono_us() + PATIENCE_US; a->parts != a_parts || b->parts != b_parts;) {
        if (clock_mono_us() > end)
            fail_msg("%zu and %zu partitions, not %zu and %zu", a->parts, b->parts, a_parts, b_parts);
        poll_once(a->c);
        if (b->c != NULL)
            poll_once(b->c);
    }
}

static void test_two_members_share_the_partitions(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    char group[NAME_MAX_LEN];
    topic_new(topic, "shared", 4, "delete");
    name_new(group, "group");
    struct member a = {0};
    struct member b = {0};
    member_join(&a, group, NULL, topic);
    settle(&a, 4, &b, 0);
    assert_int_equal(a.first, CONSUMER_OFFSET_NONE);
    const struct consumer_partition at[] = {{topic, 0, 0}, {topic, 1, 0}, {topic, 2, 0}, {topic, 3, 0}};
    produce(topic, 0, 400);
    consumer_commit_async(a.c, at, 4);
    member_join(&b, group, NULL, topic);
    settle(&a, 2, &b, 2);
    assert_true(a.revoked >= 1);
    assert_int_equal(a.first, 0);
    assert_int_equal(b.first, 0);
    consumer_free(b.c);
    b.c = NULL;
    settle(&a, 4, &b, 0);
    consumer_free(a.c);
    assert_int_equal(a.parts, 0);
}

static void test_the_second_member_of_one_name_fences_the_first(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    char group[NAME_MAX_LEN];
    topic_new(topic, "twin", 2, "delete");
    name_new(group, "group");
    struct member a = {0};
    struct member b = {0};
    member_join(&a, group, "twin", topic);
    settle(&a, 2, &b, 0);
    member_join(&b, group, "twin", topic);
    struct err err;
    struct err none;
    struct consumer_message m = {0};
    err_clear(&err);
    for (int64_t end = clock_mono_us() + PATIENCE_US; err.code == ERR_NONE && clock_mono_us() < end;) {
        assert_false(consumer_poll(b.c, 50, &m, &none));
        assert_false(consumer_poll(a.c, 50, &m, &err));
    }
    assert_int_equal(err.fate, FATE_FATAL);
    consumer_free(a.c);
    consumer_free(b.c);
}

static bool refuse(void *arg, struct consumer_partition *parts, size_t count, struct err *err)
{
    (void)arg;
    (void)parts;
    (void)count;
    return err_set(err, ERR_CONFLICT, FATE_FATAL, "another cluster");
}

static void test_a_refused_assignment_stops_the_consumer(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    char group[NAME_MAX_LEN];
    topic_new(topic, "refused", 1, "delete");
    name_new(group, "group");
    struct err err;
    struct consumer *c = NULL;
    const struct consumer_options options = {.kafka = settings(), .group = group, .assigned = refuse};
    const char *const topics[] = {topic};
    assert_fine(consumer_new(&c, &options, &err), &err);
    assert_fine(consumer_subscribe(c, topics, 1, &err), &err);
    struct consumer_message m = {0};
    err_clear(&err);
    for (int64_t end = clock_mono_us() + PATIENCE_US; err.code == ERR_NONE && clock_mono_us() < end;)
        assert_false(consumer_poll(c, 200, &m, &err));
    assert_string_equal(err.text, "another cluster");
    assert_int_equal(err.fate, FATE_FATAL);
    consumer_free(c);
}

static void test_a_record_of_eight_megabytes_passes(void **state)
{
    (void)state;
    char topic[NAME_MAX_LEN];
    topic_new(topic, "large", 1, "delete");
    struct err err;
    struct reports reports = {0};
    struct producer *p = NULL;
    const struct producer_options options = {
        .kafka = settings(), .report = on_report, .report_arg = &reports};
    assert_fine(producer_new(&p, &options, &err), &err);
    size_t len = 8 << 20;
    char *bytes = test_calloc(1, 2 * len);
    uint64_t noise = 1;
    for (size_t i = 0; i < len; i++) {
        noise = noise * 6364136223846793005U + 1442695040888963407U; /* does not compress */
        bytes[i] = (char)(noise >> 56);
    }
    struct kafka_record record = {.topic = topic, .value = {bytes, len}};
    assert_fine(producer_send(p, &record, &err), &err);
    assert_true(producer_flush(p, 30000));
    assert_int_equal(reports.ok, 1);
    record.value.len = 2 * len; /* over every limit: it can never be sent */
    assert_false(producer_send(p, &record, &err));
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    producer_free(p);

    struct consumer *c = reader_new();
    const struct consumer_partition part = {topic, 0, 0};
    assert_fine(consumer_read(c, &part, 1, &err), &err);
    struct consumer_message m = {0};
    next_message(c, &m);
    assert_true(sv_eq(m.value, sv_of_bytes(bytes, len)));
    consumer_message_free(&m);
    consumer_free(c);
    test_free(bytes);
}

int main(void)
{
    brokers = getenv("SPEND_KAFKA_BROKERS");
    if (brokers == NULL) {
        (void)fprintf(stderr, "SPEND_KAFKA_BROKERS names no broker\n");
        return 2;
    }
    (void)alarm(600); /* a hang is a failure */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_record_comes_back_with_key_headers_and_null_value),
        cmocka_unit_test(test_cluster_bounds_and_partitions_are_told),
        cmocka_unit_test(test_a_missing_topic_is_named_and_fatal),
        cmocka_unit_test(test_a_record_for_a_missing_topic_is_reported_or_refused),
        cmocka_unit_test(test_the_end_is_found_behind_markers_and_aborted_records),
        cmocka_unit_test(test_an_aborted_transaction_is_done_again_from_the_committed_offset),
        cmocka_unit_test(test_the_second_owner_of_a_transactional_id_fences_the_first),
        cmocka_unit_test(test_a_position_commits_and_aborts_with_its_transaction),
        cmocka_unit_test(test_seek_and_pause_neither_skip_nor_repeat),
        cmocka_unit_test(test_an_offset_out_of_range_is_fatal_and_never_reset),
        cmocka_unit_test(test_two_members_share_the_partitions),
        cmocka_unit_test(test_the_second_member_of_one_name_fences_the_first),
        cmocka_unit_test(test_a_refused_assignment_stops_the_consumer),
        cmocka_unit_test(test_a_record_of_eight_megabytes_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
