/*
 * producer: idempotent, acks=all, message.timeout.ms=0: a record waits for its broker as long as it takes.
 * The delivery report is the only proof. Bounded queue: full is an answer (ERR_FULL, FATE_RETRY), nothing is
 * dropped. Thread: one owner. Metrics: spend_kafka_delivered_total, spend_kafka_delivery_failed_total,
 * spend_kafka_queue_full_total, by topic.
 */
#ifndef SPEND_KAFKA_PRODUCER_H
#define SPEND_KAFKA_PRODUCER_H

#include "kafka/client.h"

struct producer;

/* ok: on the broker, with its partition and offset. Otherwise err says why: possibly persisted, so send the
 * same bytes again. */
typedef void producer_report_fn(void *arg, int64_t tag, bool ok, int32_t partition, int64_t offset,
                                const struct err *err);

struct producer_options {
    struct kafka_settings kafka;
    int linger_ms;
    int queue_records;          /* most records waiting */
    producer_report_fn *report; /* may be NULL */
    void *report_arg;
};

bool producer_new(struct producer **out, const struct producer_options *options, struct err *err) NODISCARD;
/* Does not wait: call producer_flush first, what is still queued is lost to this producer (and kept by the
 * caller's journal). */
void producer_free(struct producer *p);

bool producer_send(struct producer *p, const struct kafka_record *record, struct err *err) NODISCARD;
/* Serves delivery reports; returns how many events were served. timeout_ms 0 never waits. */
int producer_poll(struct producer *p, int timeout_ms);
/* A descriptor that becomes readable when producer_poll has work (for event loops). -1 on failure. */
int producer_event_fd(struct producer *p);
/* The fd's events were taken: call before producer_poll in a loop. */
void producer_event_clear(struct producer *p);
/* true: nothing is queued or in flight any more. */
bool producer_flush(struct producer *p, int timeout_ms);
/* A fatal error (fenced, out of sequence): replace the producer and send everything undelivered again. */
bool producer_is_fatal(const struct producer *p, struct err *err);
/* False while no broker answers. */
bool producer_is_connected(const struct producer *p);
/* Asks a broker, up to timeout_ms. false: ERR_NOT_FOUND, or no answer. */
bool producer_finds_topic(struct producer *p, const char *topic, int timeout_ms, struct err *err) NODISCARD;

#endif
