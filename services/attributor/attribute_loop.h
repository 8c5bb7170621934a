/*
 * attribute_loop: spend.calls in, spend.attributed and spend.dlq.* out, each batch and its offsets in one
 * Kafka transaction. Owns the records that were read and are not committed yet: a record leaves it only with
 * its transaction, or with its partition. Refuses: to decide before the configuration is known up to a
 * record's time. Thread: one, which also keeps the configuration up.
 */
#ifndef SPEND_ATTRIBUTOR_ATTRIBUTE_LOOP_H
#define SPEND_ATTRIBUTOR_ATTRIBUTE_LOOP_H

#include "decide.h"
#include "kafka/transaction.h"
#include "price_view.h"
#include "registry_view.h"

struct attribute_loop_options {
    struct kafka_settings kafka;
    const char *replica; /* static group member and suffix of the transactional id */
    size_t batch_max;    /* most records in one transaction */
    struct attribute_rules rules;
};

/* Runs until a stop is asked for (true) or nothing but a new process can help (false: FATE_FATAL). */
bool attribute_loop_run(const struct attribute_loop_options *options, struct err *err) NODISCARD;

#endif
