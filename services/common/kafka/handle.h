/*
 * handle: one librdkafka instance of ours: its configuration, its log, errors and statistics. For this room's
 * own files only. Owns the rd_kafka_t. Refuses properties our promises rest on. Thread: the owner's; the log
 * callback comes from any thread.
 */
#ifndef SPEND_KAFKA_HANDLE_H
#define SPEND_KAFKA_HANDLE_H

#include <librdkafka/rdkafka.h>

#include "base/metrics.h"
#include "kafka/client.h"

#define HANDLE_CLIENT_MAX                                                                                    \
    41 /* 2.0.2 crashed on long client ids when a buffer segment was erased (librdkafka #4689) */
#define HANDLE_CALL_MS 10000
#define HANDLE_TOPICS  32
/* A price book, its key and headers. */
#define HANDLE_LARGEST_RECORD "8454144"

struct kafka_property {
    const char *name;
    const char *value;
};

struct kafka_handle {
    rd_kafka_t *rk;
    char client[HANDLE_CLIENT_MAX];
    bool is_connected;
    int quiet_ticks;  /* statistics in a row that showed no broker up */
    char *cluster_id; /* once known */
    struct metric *connected;
    void (*tick)(void *owner); /* once a second while the owner polls; may be NULL */
    void *owner;
};

/* One counter a topic, found by the topic's name. Topics are ours: few and known. */
struct topic_counters {
    const char *name;
    const char *help;
    struct {
        char topic[128];
        struct metric *metric;
    } row[HANDLE_TOPICS];
    size_t count;
};

/* Ours first, then the caller's. *out is the caller's until handle_open takes it. */
bool handle_conf(rd_kafka_conf_t **out, const struct kafka_settings *settings,
                 const struct kafka_property *ours, size_t count, struct err *err) NODISCARD;
/* A number as a property's value: *text holds it. */
struct kafka_int {
    char text[16];
};
const char *handle_int(struct kafka_int *text, int value);
/* Takes conf over, also on failure. h must not move afterwards: librdkafka points to it. */
bool handle_open(struct kafka_handle *h, rd_kafka_type_t type, rd_kafka_conf_t *conf,
                 const struct kafka_settings *settings, struct err *err) NODISCARD;
void handle_close(struct kafka_handle *h); /* NULL rk allowed */
void handle_seen(struct kafka_handle *h);  /* a broker answered */
/* Empty: not known yet. */
struct strview handle_cluster_id(struct kafka_handle *h, int timeout_ms);

/* What becomes of a thing that failed so: a broker away is waited for, a promise broken is fatal. */
enum err_fate handle_fate(rd_kafka_resp_err_t code);
/* Fills *err from a librdkafka error and returns false. */
bool handle_err(struct err *err, rd_kafka_resp_err_t code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Asks a broker how many partitions a topic has. ERR_NOT_FOUND: it is missing. */
bool handle_partition_count(rd_kafka_t *rk, const char *topic, int timeout_ms, int32_t *count,
                            struct err *err);
/* Fills *err and returns false. */
bool handle_topic_missing(const char *topic, struct err *err);

/* Room for count partitions, filled from parts. NULL: out of memory. */
struct consumer_partition;
rd_kafka_topic_partition_list_t *handle_list(const struct consumer_partition *parts, size_t count);

void topic_counters_add(struct topic_counters *t, const char *topic);

/* Hands a record to a producer; librdkafka's answer. The bytes are copied. */
rd_kafka_resp_err_t handle_produce(rd_kafka_t *rk, const struct kafka_record *record);

#endif
