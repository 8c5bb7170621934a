/*
 * hold_queue: the gate's thread. Requests about holds are answered here, and nothing else that takes time:
 * those of one kind that wait together are one transaction, in the order in which they came; a request is
 * never split.
 * What is wrong with one is told to that one. Owns the gate, its memory and its session.
 * Refuses: what has waited so long that its caller has given up.
 */
#ifndef SPEND_LEDGER_HOLD_QUEUE_H
#define SPEND_LEDGER_HOLD_QUEUE_H

#include "spend/attribute.h"
#include <stdint.h>

struct api_queue;

struct hold_queue_options {
    const char *database_url;
    struct attribute_rules rules;
    int64_t values_max;  /* of one budget's `each` */
    int64_t output_cap;  /* tokens that a hold counts for output at most */
    int64_t lifetime_us; /* of a placed hold, from its last renewal */
    int64_t jobs_max;    /* requests that wait */
    struct api_queue *queue;
};

/* A worker_fn, until the queue is over: arg is struct hold_queue_options, alive until it returns. */
bool hold_queue_run(void *arg, struct err *err) NODISCARD;

#endif
