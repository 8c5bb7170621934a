/*
 * consumer: reads topics, read_committed, offsets kept by the caller (auto commit and store off,
 * auto.offset.reset=error). Two ways in: a group member (topics assigned, with callbacks), or a plain reader
 * of all partitions of a topic from given offsets. 2.0.2: never consume_batch with pause or seek (skips
 * offsets): one poll loop. Eager range assignor, static membership. Thread: one owner; callbacks run inside
 * consumer_poll.
 */
#ifndef SPEND_KAFKA_CONSUMER_H
#define SPEND_KAFKA_CONSUMER_H

#include "kafka/client.h"

#define CONSUMER_OFFSET_BEGINNING (-2)
#define CONSUMER_OFFSET_END       (-1)
#define CONSUMER_OFFSET_NONE      (-1001)

struct consumer;

struct consumer_partition {
    const char *topic;
    int32_t partition;
    int64_t offset; /* next to read */
};

struct consumer_message {
    const char *topic;
    int32_t partition;
    int64_t offset;
    int64_t timestamp_us; /* broker's append time where the topic has LogAppendTime */
    struct strview key;
    struct strview value; /* null = tombstone */
    void *impl;
};

/* Assigned: set each offset (the group's committed one stands there, CONSUMER_OFFSET_NONE when there is none)
 * before returning true. false: the assignment is refused, err (FATE_FATAL) stops the consumer. */
typedef bool consumer_assigned_fn(void *arg, struct consumer_partition *parts, size_t count, struct err *err);
/* lost: another member may own them already: drop everything, commit nothing. */
typedef void consumer_revoked_fn(void *arg, const struct consumer_partition *parts, size_t count, bool lost);

struct consumer_options {
    struct kafka_settings kafka;
    const char *group;  /* NULL = plain reader (a private group that never commits) */
    const char *member; /* group.instance.id, NULL = none */
    int fetch_bytes;    /* largest record + room, 0 = default */
    int queue_records;  /* read-ahead, 0 = default */
    consumer_assigned_fn *assigned;
    consumer_revoked_fn *revoked;
    void *arg;
};

bool consumer_new(struct consumer **out, const struct consumer_options *options, struct err *err) NODISCARD;
/* Leaves the group and closes. */
void consumer_free(struct consumer *c);

/* A topic that is missing, also 10 s later, is FATE_FATAL and named; so it is in consumer_read_all. */
bool consumer_subscribe(struct consumer *c, const char *const *topics, size_t count,
                        struct err *err) NODISCARD;
/* Plain reader: all partitions of a topic, each from `offset` (BEGINNING or END). */
bool consumer_read_all(struct consumer *c, const char *const *topics, size_t count, int64_t offset,
                       struct err *err) NODISCARD;
/* Plain reader: these partitions from these offsets. */
bool consumer_read(struct consumer *c, const struct consumer_partition *parts, size_t count,
                   struct err *err) NODISCARD;

/* One message, or false with err->code ERR_NONE when the time ran out. A broker away is not an error
 * (counted, waited for); an offset out of range, a fenced member or an authorisation failure is FATE_FATAL.
 * Free the message. */
bool consumer_poll(struct consumer *c, int timeout_ms, struct consumer_message *out,
                   struct err *err) NODISCARD;
void consumer_message_free(struct consumer_message *m);
bool consumer_message_header(const struct consumer_message *m, const char *name, struct strview *value);

bool consumer_seek(struct consumer *c, const char *topic, int32_t partition, int64_t offset,
                   struct err *err) NODISCARD;
bool consumer_pause(struct consumer *c, const char *topic, int32_t partition, bool paused,
                    struct err *err) NODISCARD;
/* Stores offsets in the group, for lag tools only; asynchronous, errors counted. */
void consumer_commit_async(struct consumer *c, const struct consumer_partition *parts, size_t count);
/* Low and high (next to be written, stable) offsets from the broker. */
bool consumer_bounds(struct consumer *c, const char *topic, int32_t partition, int64_t *low, int64_t *high,
                     struct err *err) NODISCARD;
/* Each offset becomes the partition's stable end; one request a broker. They need not be assigned. */
bool consumer_ends(struct consumer *c, struct consumer_partition *parts, size_t count,
                   struct err *err) NODISCARD;
/* Every assigned partition was read up to the end it had when first asked (then the next call asks anew).
 * false: not yet, err->code ERR_NONE, poll on; or the ends are not known (a broker away: FATE_RETRY, after 10
 * s). Nothing assigned: false. */
bool consumer_at_end(struct consumer *c, struct err *err);
bool consumer_partition_count(struct consumer *c, const char *topic, int32_t *count,
                              struct err *err) NODISCARD;
/* The cluster's id, for the check that a database and a cluster belong together. Empty view: not known yet.
 */
struct strview consumer_cluster_id(struct consumer *c, int timeout_ms);

#endif
