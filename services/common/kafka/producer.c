/*
 * producer: an idempotent librdkafka producer that waits for its broker as long as it takes.
 */
#include "kafka/producer.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "kafka/handle.h"

#define QUEUE_RECORDS 100000

struct producer {
    struct kafka_handle handle;
    producer_report_fn *report;
    void *report_arg;
    int event_fd;
    struct topic_counters delivered;
    struct topic_counters failed;
    struct topic_counters full;
};

static bool topic_missing(rd_kafka_resp_err_t code, const char *topic, struct err *err)
{
    if (code != RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC && code != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        return false;
    (void)handle_topic_missing(topic, err);
    return true;
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    (void)rk;
    struct kafka_handle *h = opaque;
    struct producer *p = h->owner;
    const char *topic = rd_kafka_topic_name(m->rkt);
    bool ok = m->err == RD_KAFKA_RESP_ERR_NO_ERROR;
    struct err err;
    err_clear(&err);
    if (ok) {
        handle_seen(h);
        topic_counters_add(&p->delivered, topic);
    } else {
        topic_counters_add(&p->failed, topic);
        bool maybe = rd_kafka_message_status(m) == RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED;
        if (!topic_missing(m->err, topic, &err))
            (void)handle_err(&err, m->err, "%s: not delivered%s", topic, maybe ? " (perhaps it was)" : "");
    }
    if (p->report != NULL)
        p->report(p->report_arg, (int64_t)(intptr_t)m->_private, ok, m->partition, m->offset, &err);
}

static bool producer_open(struct producer *p, const struct producer_options *options, struct err *err)
{
    struct kafka_int linger;
    struct kafka_int queue;
    const struct kafka_property ours[] = {
        {"enable.idempotence", "true"},
        {"acks", "all"},
        {"message.timeout.ms", "0"}, /* the default of 300 s drops what a longer outage delays */
        {"delivery.report.only.error", "false"},
        /* so soon a topic that is not there is said to be missing, and found once it was made */
        {"topic.metadata.propagation.max.ms", "5000"},
        {"topic.metadata.refresh.interval.ms", "10000"},
        {"partitioner", "murmur2_random"}, /* Java's: one key, one partition, whoever produces */
        {"compression.codec", "lz4"},
        {"linger.ms", handle_int(&linger, options->linger_ms)},
        {"queue.buffering.max.messages",
         handle_int(&queue, options->queue_records > 0 ? options->queue_records : QUEUE_RECORDS)},
    };
    rd_kafka_conf_t *conf = NULL;
    if (!handle_conf(&conf, &options->kafka, ours, sizeof ours / sizeof ours[0], err))
        return false;
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    return handle_open(&p->handle, RD_KAFKA_PRODUCER, conf, &options->kafka, err);
}

bool producer_new(struct producer **out, const struct producer_options *options, struct err *err)
{
    struct producer *p = calloc(1, sizeof *p);
    if (p == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "kafka producer: out of memory");
    p->event_fd = -1;
    p->report = options->report;
    p->report_arg = options->report_arg;
    p->handle.owner = p;
    p->delivered.name = "spend_kafka_delivered_total";
    p->delivered.help = "records the broker has";
    p->failed.name = "spend_kafka_delivery_failed_total";
    p->failed.help = "records not delivered, or perhaps delivered: sent again by their owner";
    p->full.name = "spend_kafka_queue_full_total";
    p->full.help = "records refused because the queue was full";
    if (!producer_open(p, options, err)) {
        producer_free(p);
        return false;
    }
    *out = p;
    return true;
}

void producer_free(struct producer *p)
{
    if (p == NULL)
        return;
    if (p->handle.rk != NULL) {
        p->report = NULL; /* what is purged now is no news: its owner still has it */
        (void)rd_kafka_purge(p->handle.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        while (rd_kafka_poll(p->handle.rk, 0) > 0)
            continue;
        if (p->event_fd >= 0) {
            rd_kafka_queue_t *queue = rd_kafka_queue_get_main(p->handle.rk);
            rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
            rd_kafka_queue_destroy(queue);
        }
    }
    handle_close(&p->handle);
    if (p->event_fd >= 0)
        (void)close(p->event_fd);
    free(p);
}

bool producer_send(struct producer *p, const struct kafka_record *record, struct err *err)
{
    rd_kafka_resp_err_t code = handle_produce(p->handle.rk, record);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return true;
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        topic_counters_add(&p->full, record->topic);
    if (producer_is_fatal(p, err) || topic_missing(code, record->topic, err))
        return false;
    return handle_err(err, code, "%s: not queued", record->topic);
}

int producer_poll(struct producer *p, int timeout_ms)
{
    return rd_kafka_poll(p->handle.rk, timeout_ms);
}

int producer_event_fd(struct producer *p)
{
    if (p->event_fd >= 0)
        return p->event_fd;
    p->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->event_fd < 0)
        return -1;
    static const uint64_t one = 1;
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(p->handle.rk);
    rd_kafka_queue_io_event_enable(queue, p->event_fd, &one, sizeof one);
    rd_kafka_queue_destroy(queue);
    return p->event_fd;
}

void producer_event_clear(struct producer *p)
{
    uint64_t count;
    if (p->event_fd >= 0)
        while (read(p->event_fd, &count, sizeof count) == sizeof count)
            continue;
}

bool producer_flush(struct producer *p, int timeout_ms)
{
    return rd_kafka_flush(p->handle.rk, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

bool producer_is_fatal(const struct producer *p, struct err *err)
{
    char why[200] = "";
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(p->handle.rk, why, sizeof why);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    (void)err_set(err, ERR_STATE, FATE_FATAL, "kafka producer: %s: %s", rd_kafka_err2name(code), why);
    return true;
}

bool producer_is_connected(const struct producer *p)
{
    return p->handle.is_connected;
}

bool producer_finds_topic(struct producer *p, const char *topic, int timeout_ms, struct err *err)
{
    int32_t count;
    return handle_partition_count(p->handle.rk, topic, timeout_ms, &count, err);
}
