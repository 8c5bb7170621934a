/*
 * watch_loop: what is looked after although nothing happens, by one ledger of several at a time: windows that
 * are due are opened, so that a reset shows on an idle budget; holds
 * that nobody renews any more are given back; how long the replies of each model are is looked up for the
 * gate. Thread: its own, with its session. Postgres's clock decides what is due, not ours.
 */
#ifndef SPEND_LEDGER_WATCH_LOOP_H
#define SPEND_LEDGER_WATCH_LOOP_H

#include "base/err.h"

#include <stdint.h>

struct watch_loop_options {
    const char *database_url;
    int64_t tick_us;
    int64_t hold_lifetime_us;
};

/* A worker_fn: arg is struct watch_loop_options, alive until it returns. */
bool watch_loop_run(void *arg, struct err *err) NODISCARD;

#endif
