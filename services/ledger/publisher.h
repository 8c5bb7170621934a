/*
 * publisher: entries to spend.entries, gapless and in order per account, states of budgets to spend.budgets,
 * and parked records to spend.dlq.*; each set of the outbox in one Kafka transaction that also commits its
 * number, so that readers of committed records see each once. One ledger of several publishes (leader). Owns
 * the transactional producer spend-publisher and group spend-publisher. Thread: its own, with its session.
 */
#ifndef SPEND_LEDGER_PUBLISHER_H
#define SPEND_LEDGER_PUBLISHER_H

#include "kafka/client.h"

struct publisher_options {
    struct kafka_settings kafka;
    const char *database_url;
};

/* A worker_fn: arg is struct publisher_options, alive until it returns. */
bool publisher_run(void *arg, struct err *err) NODISCARD;

#endif
