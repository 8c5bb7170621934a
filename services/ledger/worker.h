/*
 * worker: one of the ledger's threads: a loop that runs until the process stops, and stops the process when
 * it fails.
 */
#ifndef SPEND_LEDGER_WORKER_H
#define SPEND_LEDGER_WORKER_H

#include "base/err.h"

struct worker;

/* Runs until lifecycle_is_stopping. false: the process cannot go on, *err says why. */
typedef bool worker_fn(void *arg, struct err *err);

/* name: a literal, for logs. */
bool worker_start(struct worker **out, const char *name, worker_fn *run, void *arg,
                  struct err *err) NODISCARD;
/* Waits for its end and frees it: did it end well? NULL: true. */
bool worker_join(struct worker *w);

/* Sleeps longer with each try, up to 5 s. false: the process is stopping. */
bool worker_back_off(int *tries);

#endif
