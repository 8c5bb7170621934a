/*
 * member: what a consumer is inside, and what a transaction needs of it. For this room's own files only.
 * A position counts what was handed out, and the end-of-partition event moves it past what only the broker
 * sees there (transaction markers, compacted records): so "read to the end" is a comparison of two numbers.
 */
#ifndef SPEND_KAFKA_MEMBER_H
#define SPEND_KAFKA_MEMBER_H

#include "kafka/consumer.h"
#include "kafka/handle.h"

struct position {
    char *topic;
    int32_t partition;
    int64_t next;   /* next to be handed out; a logical offset until the partition's begin is known */
    int64_t target; /* consumer_at_end: the end when it was asked, POSITION_NO_TARGET when it was not */
    bool is_paused;
};
#define POSITION_NO_TARGET (-1)

struct consumer {
    struct kafka_handle handle;
    consumer_assigned_fn *assigned;
    consumer_revoked_fn *revoked;
    void *arg;
    struct position *parts;
    size_t count;
    struct err fatal; /* code ERR_NONE while all is well */
    struct metric *lag;
    struct metric *commit_failed;
};

/* NULL: not assigned. */
struct position *position_find(const struct consumer *c, const char *topic, int32_t partition);
void positions_clear(struct consumer *c);
/* Replaces them by the list's. */
bool positions_set(struct consumer *c, const rd_kafka_topic_partition_list_t *list,
                   struct err *err) NODISCARD;
/* The sum of what is still to be read, into the gauge. No request: librdkafka has both numbers. */
void positions_lag(void *consumer);

/* The group's committed offsets into the list (a logical offset where there is none). A coordinator that is
 * away is waited for. */
bool committed_read(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list, struct err *err) NODISCARD;

#endif
