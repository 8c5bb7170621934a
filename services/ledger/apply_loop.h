/*
 * apply_loop: reads what the attributor wrote and applies it, batch by batch, one (topic, partition) a
 * transaction. Where to read on is what Postgres says, never what Kafka's group says: that one is kept up for
 * lag tools only. Refuses to go on (FATE_FATAL, with what to do) when the offsets belong to another Kafka
 * cluster, or when records between the stored offset and the topic's first one are gone. Thread: its own,
 * with its session and consumer.
 */
#ifndef SPEND_LEDGER_APPLY_LOOP_H
#define SPEND_LEDGER_APPLY_LOOP_H

#include "kafka/client.h"
#include "spend/attribute.h"

struct apply_loop_options {
    struct kafka_settings kafka;
    const char *database_url;
    const char *replica; /* static member of the group */
    const char *stream;  /* "live": names the group and the offsets */
    size_t batch_max;    /* most records in one transaction */
    struct attribute_rules rules;
    int64_t values_max; /* of one budget's `each` */
};

/* A worker_fn: arg is struct apply_loop_options, alive until it returns. */
bool apply_loop_run(void *arg, struct err *err) NODISCARD;

#endif
