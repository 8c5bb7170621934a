/*
 * pending: records of spend.calls that were read and are not committed yet, and how far each partition is.
 * Owns the messages. Thread: one. Refuses to know what is decided or sent.
 */
#ifndef SPEND_ATTRIBUTOR_PENDING_H
#define SPEND_ATTRIBUTOR_PENDING_H

#include "decide.h"
#include "kafka/consumer.h"

struct pending_item {
    struct consumer_message message;
    int64_t read_us;  /* as given when it was added */
    int64_t known_by; /* the watermark it needs; 0 until it was looked at */
    /* in the transaction under way */
    bool is_sent;
    enum decide_verdict verdict;
    bool assumed;
    size_t left_out;
};

struct pending_partition {
    int32_t partition;
    bool is_waiting; /* a record of it must wait, and so all behind it */
    int64_t next;    /* offset after the last one sent, -1 when none was */
};

struct pending;

/* Full at `records` records or `bytes` bytes: no limit on what is added, but on what should be read. */
bool pending_new(struct pending **out, size_t records, int64_t bytes, struct err *err) NODISCARD;
void pending_free(struct pending *p); /* NULL allowed */

/* Another assignment: whatever was held is dropped. */
bool pending_assign(struct pending *p, const struct consumer_partition *parts, size_t count,
                    struct err *err) NODISCARD;
void pending_drop_all(struct pending *p); /* NULL allowed; the assignment too */

/* Takes the message over, also on failure. */
bool pending_add(struct pending *p, struct consumer_message *m, int64_t now_us, struct err *err) NODISCARD;
bool pending_is_full(const struct pending *p);
/* Something is held that needs no watermark later than this one. */
bool pending_is_ready(const struct pending *p, int64_t watermark);
/* The one held longest of those that need a later watermark; NULL: none. */
const struct pending_item *pending_oldest_waiting(const struct pending *p, int64_t watermark);

size_t pending_count(const struct pending *p);
struct pending_item *pending_at(struct pending *p, size_t i);
size_t pending_partition_count(const struct pending *p);
struct pending_partition *pending_partition(struct pending *p, size_t i);
struct pending_partition *pending_partition_of(struct pending *p, const struct pending_item *item);

/* A transaction: begin forgets the last attempt's marks, mark notes one item, positions are what was marked.
 */
void pending_begin(struct pending *p);
void pending_mark(struct pending *p, struct pending_item *item);
/* Valid until the next call. */
const struct consumer_partition *pending_positions(struct pending *p, const char *topic, size_t *count);
/* It was committed. */
void pending_forget_sent(struct pending *p);

#endif
