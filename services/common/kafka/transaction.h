/*
 * transaction: a transactional producer: records and consumed offsets commit together or not at all.
 * One fixed transactional.id an owner: a second one fences the first. After FATE_RETRY from _commit or _send
 * the transaction was aborted: rewind to the committed offsets and do the work again. (FATE_DEAD_LETTER from
 * _send: aborted too, and that record can never be sent.) After FATE_FATAL (fenced, or the outcome of a
 * commit unknown) do not reuse it: free it, make a new one (which fences the old), read the committed
 * offsets.
 */
#ifndef SPEND_KAFKA_TRANSACTION_H
#define SPEND_KAFKA_TRANSACTION_H

#include "kafka/consumer.h"

struct transaction;

struct transaction_options {
    struct kafka_settings kafka;
    const char *transactional_id;
    int timeout_ms; /* transaction.timeout.ms, 10 s as a rule */
};

/* Waits for init_transactions up to 30 s. */
bool transaction_new(struct transaction **out, const struct transaction_options *options,
                     struct err *err) NODISCARD;
void transaction_free(struct transaction *t);
/* As consumer_cluster_id. */
struct strview transaction_cluster_id(struct transaction *t, int timeout_ms);
/* Serves errors and statistics; an owner that is idle for long calls it now and then. */
void transaction_poll(struct transaction *t);

bool transaction_begin(struct transaction *t, struct err *err) NODISCARD;
/* Queue full is waited for (delivery reports are served inside). */
bool transaction_send(struct transaction *t, const struct kafka_record *record, struct err *err) NODISCARD;
/* Waits up to timeout_ms of the options until the broker has all that was sent, hidden still. */
bool transaction_flush(struct transaction *t, struct err *err) NODISCARD;
/* The member's consumed positions (offset = next to read) join the transaction, with its group metadata
 * (KIP-447). */
bool transaction_send_offsets(struct transaction *t, struct consumer *member,
                              const struct consumer_partition *parts, size_t count,
                              struct err *err) NODISCARD;
/* A position of a named group that consumes nothing: the publisher's. */
bool transaction_send_position(struct transaction *t, const char *group,
                               const struct consumer_partition *parts, size_t count,
                               struct err *err) NODISCARD;
/* true: it will be visible. The broker writes the markers a moment later: a read_committed reader may see its
 * end before them. */
bool transaction_commit(struct transaction *t, struct err *err) NODISCARD;
/* Rolls back what is open; FATE_FATAL when that cannot be said. */
bool transaction_abort(struct transaction *t, struct err *err) NODISCARD;
/* What a group has committed: CONSUMER_OFFSET_NONE when nothing. */
bool transaction_read_position(const struct kafka_settings *kafka, const char *group,
                               struct consumer_partition *parts, size_t count, struct err *err) NODISCARD;

#endif
