/*
 * config_publisher: what was configured to spend.registry and spend.prices, in the order it was written, and
 * the heartbeat whose watermark says: everything recorded up to here is in this topic, before this record.
 * Never behind entries: a thread, session and producer of its own. One ledger of several does it (leader).
 */
#ifndef SPEND_LEDGER_CONFIG_PUBLISHER_H
#define SPEND_LEDGER_CONFIG_PUBLISHER_H

#include "kafka/client.h"
#include <stdint.h>

struct config_publisher_options {
    struct kafka_settings kafka;
    const char *database_url;
    int64_t heartbeat_us;
};

/* A worker_fn: arg is struct config_publisher_options, alive until it returns. */
bool config_publisher_run(void *arg, struct err *err) NODISCARD;

#endif
