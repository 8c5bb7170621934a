/*
 * transaction: begin, send, commit and abort, with librdkafka's four kinds of failure turned into two fates.
 * Retriable: the same call again, up to a deadline. Abortable: aborted here, FATE_RETRY. Fatal, or none of
 * these, or a commit whose outcome stays unknown: FATE_FATAL, the owner makes a new one.
 */
#include "kafka/transaction.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/handle.h"
#include "kafka/member.h"

#define INIT_MS         30000
#define DEFAULT_MS      10000
#define PATIENCE        3    /* times the transaction's own time-out: then its outcome is unknown */
#define ABORT_MS        5000 /* a new producer aborts what this one cannot, and sooner */
#define QUEUE_WAIT_MS   50
#define SETTLE_MS       2000
#define TRANSACT_LINGER "5"

struct transaction {
    struct kafka_handle handle;
    int timeout_ms;
    bool is_open;
    struct topic_counters delivered;
    struct topic_counters failed;
    struct metric *committed;
    struct metric *aborted;
};

static bool roll_back(struct transaction *t, struct err *err);

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    (void)rk;
    struct kafka_handle *h = opaque;
    struct transaction *t = h->owner;
    bool ok = m->err == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (ok)
        handle_seen(h);
    topic_counters_add(ok ? &t->delivered : &t->failed, rd_kafka_topic_name(m->rkt));
}

/* One call's answer. false and *again: the same call again. false otherwise: *err says what. */
static bool answer(struct transaction *t, rd_kafka_error_t *failed, const char *what, bool *again,
                   struct err *err)
{
    *again = false;
    if (failed == NULL)
        return true;
    bool is_fatal = rd_kafka_error_is_fatal(failed) != 0;
    bool must_abort = !is_fatal && rd_kafka_error_txn_requires_abort(failed) != 0;
    *again = !is_fatal && !must_abort && rd_kafka_error_is_retriable(failed) != 0;
    enum err_code code = is_fatal ? ERR_STATE : ERR_KAFKA;
    enum err_fate fate = FATE_FATAL;
    if (*again || (must_abort && handle_fate(rd_kafka_error_code(failed)) != FATE_FATAL))
        fate = FATE_RETRY; /* an abort mends neither a missing topic nor a missing right */
    (void)err_set(err, *again ? ERR_TIMEOUT : code, fate, "kafka transaction: %s: %s: %s", what,
                  rd_kafka_error_name(failed), rd_kafka_error_string(failed));
    rd_kafka_error_destroy(failed);
    if (must_abort) {
        struct err why = *err;
        if (!roll_back(t, err))
            return false;
        *err = why;
    }
    return false;
}

typedef rd_kafka_error_t *transaction_call_fn(struct transaction *t, void *arg, int timeout_ms);

/* Repeats a call while librdkafka says that it may be repeated. Past the deadline the fate given stands. */
static bool persist(struct transaction *t, transaction_call_fn *call, void *arg, const char *what,
                    int patience_ms, enum err_fate late, struct err *err)
{
    int64_t end_us = clock_mono_us() + (int64_t)patience_ms * 1000;
    for (;;) {
        bool again = false;
        int64_t left_ms = (end_us - clock_mono_us()) / 1000;
        if (answer(t, call(t, arg, left_ms < 1 ? 1 : (int)left_ms), what, &again, err))
            return true;
        if (!again)
            return false;
        if (clock_mono_us() >= end_us) {
            err->fate = late;
            return false;
        }
    }
}

static rd_kafka_error_t *call_init(struct transaction *t, void *arg, int timeout_ms)
{
    (void)arg;
    return rd_kafka_init_transactions(t->handle.rk, timeout_ms);
}

static rd_kafka_error_t *call_commit(struct transaction *t, void *arg, int timeout_ms)
{
    (void)arg;
    return rd_kafka_commit_transaction(t->handle.rk, timeout_ms);
}

static rd_kafka_error_t *call_abort(struct transaction *t, void *arg, int timeout_ms)
{
    (void)arg;
    return rd_kafka_abort_transaction(t->handle.rk, timeout_ms);
}

struct offsets {
    const rd_kafka_topic_partition_list_t *list;
    const rd_kafka_consumer_group_metadata_t *group;
};

static rd_kafka_error_t *call_offsets(struct transaction *t, void *arg, int timeout_ms)
{
    const struct offsets *o = arg;
    return rd_kafka_send_offsets_to_transaction(t->handle.rk, o->list, o->group, timeout_ms);
}

static bool transaction_open(struct transaction *t, const struct transaction_options *o, struct err *err)
{
    struct kafka_int timeout;
    const struct kafka_property ours[] = {
        {"transactional.id", o->transactional_id},
        {"transaction.timeout.ms", handle_int(&timeout, t->timeout_ms)},
        {"message.timeout.ms", "0"},
        {"acks", "all"},
        {"enable.idempotence", "true"},
        {"delivery.report.only.error", "false"},
        {"partitioner", "murmur2_random"},
        {"compression.codec", "lz4"},
        {"linger.ms", TRANSACT_LINGER},
    };
    rd_kafka_conf_t *conf = NULL;
    if (!handle_conf(&conf, &o->kafka, ours, sizeof ours / sizeof ours[0], err))
        return false;
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    return handle_open(&t->handle, RD_KAFKA_PRODUCER, conf, &o->kafka, err) &&
           persist(t, call_init, NULL, "init", INIT_MS, FATE_RETRY, err);
}

bool transaction_new(struct transaction **out, const struct transaction_options *options, struct err *err)
{
    struct transaction *t = calloc(1, sizeof *t);
    if (t == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "kafka transaction: out of memory");
    t->timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : DEFAULT_MS;
    t->handle.owner = t;
    t->delivered.name = "spend_kafka_delivered_total";
    t->delivered.help = "records the broker has";
    t->failed.name = "spend_kafka_delivery_failed_total";
    t->failed.help = "records not delivered, or perhaps delivered: sent again by their owner";
    t->committed = metric_counter("spend_kafka_transactions_total", "transactions, by how they ended",
                                  "result", "committed");
    t->aborted = metric_counter("spend_kafka_transactions_total", "transactions, by how they ended", "result",
                                "aborted");
    if (!transaction_open(t, options, err)) {
        transaction_free(t);
        return false;
    }
    *out = t;
    return true;
}

void transaction_free(struct transaction *t)
{
    if (t == NULL)
        return;
    if (t->handle.rk != NULL) {
        (void)rd_kafka_purge(t->handle.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        while (rd_kafka_poll(t->handle.rk, 0) > 0)
            continue;
    }
    handle_close(&t->handle);
    free(t);
}

struct strview transaction_cluster_id(struct transaction *t, int timeout_ms)
{
    return handle_cluster_id(&t->handle, timeout_ms);
}

void transaction_poll(struct transaction *t)
{
    while (rd_kafka_poll(t->handle.rk, 0) > 0)
        continue;
}

bool transaction_begin(struct transaction *t, struct err *err)
{
    bool again = false;
    transaction_poll(t);
    if (!answer(t, rd_kafka_begin_transaction(t->handle.rk), "begin", &again, err))
        return false;
    t->is_open = true;
    return true;
}

/* The transaction failed on the way: find out how by trying to end it. */
static bool abort_instead(struct transaction *t, rd_kafka_resp_err_t code, const char *topic, struct err *err)
{
    if (!transaction_abort(t, err))
        return false;
    (void)handle_err(err, code, "kafka transaction: %s", topic);
    if (err->fate == FATE_DEAD_LETTER)
        return false; /* this record can never be sent: the owner leaves it out */
    err->fate = handle_fate(code) == FATE_FATAL ? FATE_FATAL : FATE_RETRY;
    return false;
}

bool transaction_send(struct transaction *t, const struct kafka_record *record, struct err *err)
{
    int64_t end_us = clock_mono_us() + (int64_t)t->timeout_ms * 1000;
    for (;;) {
        rd_kafka_resp_err_t code = handle_produce(t->handle.rk, record);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            return true;
        if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL || clock_mono_us() >= end_us)
            return abort_instead(t, code, record->topic, err);
        (void)rd_kafka_poll(t->handle.rk, QUEUE_WAIT_MS);
    }
}

bool transaction_flush(struct transaction *t, struct err *err)
{
    rd_kafka_resp_err_t code = rd_kafka_flush(t->handle.rk, t->timeout_ms);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR || abort_instead(t, code, "flush", err);
}

static bool offsets_send(struct transaction *t, rd_kafka_consumer_group_metadata_t *group,
                         const struct consumer_partition *parts, size_t count, struct err *err)
{
    if (group == NULL)
        return err_set(err, ERR_STATE, FATE_FATAL, "kafka transaction: no group metadata");
    rd_kafka_topic_partition_list_t *list = handle_list(parts, count);
    struct offsets offsets = {list, group};
    bool ok = persist(t, call_offsets, &offsets, "offsets", t->timeout_ms, FATE_RETRY, err);
    bool late = !ok && err->code == ERR_TIMEOUT && t->is_open;
    struct err why = late ? *err : (struct err){0};
    if (late && transaction_abort(t, err))
        *err = why;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_group_metadata_destroy(group);
    return ok;
}

bool transaction_send_offsets(struct transaction *t, struct consumer *member,
                              const struct consumer_partition *parts, size_t count, struct err *err)
{
    return offsets_send(t, rd_kafka_consumer_group_metadata(member->handle.rk), parts, count, err);
}

bool transaction_send_position(struct transaction *t, const char *group,
                               const struct consumer_partition *parts, size_t count, struct err *err)
{
    return offsets_send(t, rd_kafka_consumer_group_metadata_new(group), parts, count, err);
}

bool transaction_commit(struct transaction *t, struct err *err)
{
    if (!persist(t, call_commit, NULL, "commit", PATIENCE * t->timeout_ms, FATE_FATAL, err))
        return false;
    t->is_open = false;
    metric_add(t->committed, 1);
    return true;
}

static bool roll_back(struct transaction *t, struct err *err)
{
    if (!t->is_open)
        return true;
    t->is_open = false; /* also when the abort fails: then nobody may go on with it */
    bool ok = persist(t, call_abort, NULL, "abort", ABORT_MS, FATE_FATAL, err);
    if (!ok)
        err->fate = FATE_FATAL;
    metric_add(t->aborted, ok ? 1 : 0);
    return ok;
}

bool transaction_abort(struct transaction *t, struct err *err)
{
    /* 2.0.2 ends a transaction that the coordinator has not heard of yet, while its first partition is still
     * being added, and is told INVALID_TXN_STATE, which is fatal (librdkafka #4849). What is on its way
     * arrives first. */
    if (t->is_open)
        (void)rd_kafka_flush(t->handle.rk, SETTLE_MS);
    return roll_back(t, err);
}

bool transaction_read_position(const struct kafka_settings *kafka, const char *group,
                               struct consumer_partition *parts, size_t count, struct err *err)
{
    struct consumer *c = NULL;
    const struct consumer_options options = {.kafka = *kafka, .group = group};
    if (!consumer_new(&c, &options, err))
        return false;
    rd_kafka_topic_partition_list_t *list = handle_list(parts, count);
    bool ok = committed_read(c->handle.rk, list, err);
    for (size_t i = 0; ok && i < count; i++)
        parts[i].offset = list->elems[i].offset >= 0 ? list->elems[i].offset : CONSUMER_OFFSET_NONE;
    rd_kafka_topic_partition_list_destroy(list);
    consumer_free(c);
    return ok;
}
