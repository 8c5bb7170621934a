/*
 * api_worker: answers requests with a Postgres session, an arena and stores of its own: those that are no
 * holds, one after the other, on a thread of theirs, so that a long one keeps nobody else from being read.
 */
#ifndef SPEND_LEDGER_API_WORKER_H
#define SPEND_LEDGER_API_WORKER_H

#include "api_queue.h"

/* What a thread answers with: its own. */
struct api_means {
    struct arena arena; /* forgotten with each request */
    struct pg_session *pg;
    struct price_store *prices; /* NULL: its routes need none */
    struct hold *holds;         /* NULL: its routes need none */
    int64_t config_lead_us;
};

#define API_ARENA_BYTES (32 << 20)

/* One request by its route's handler: the status; the reply is put in the place of what reply holds. */
int api_worker_answer(struct api_means *means, const struct api_ask *ask, struct buffer *reply);

struct api_worker_options {
    const char *database_url;
    int64_t config_lead_us;
    struct api_queue *queue;
};

/* A worker_fn, until the queue is over: arg is struct api_worker_options, alive until it returns. */
bool api_worker_run(void *arg, struct err *err) NODISCARD;

#endif
