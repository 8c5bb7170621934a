/*
 * ledger_post: POSTs to the ledger's API from a thread of its own, one at a time, so that the event loop
 * never waits. Owns the thread and its connection. Thread: one loop; the answer comes as an event of it.
 */
#ifndef SPEND_INGEST_LEDGER_POST_H
#define SPEND_INGEST_LEDGER_POST_H

#include "base/buffer.h"
#include "base/err.h"

struct ledger_post;
struct event_base;

struct ledger_post_options {
    struct event_base *base;
    const char *url;   /* the API's; a trailing slash is none */
    const char *token; /* NULL: none */
    int64_t timeout_us;
    /* In the loop: the last POST is over. status 0: no answer came, and why is said. body until the next. */
    void (*done)(void *arg, int status, struct strview body, const struct err *why);
    void *arg;
};

bool ledger_post_new(struct ledger_post **out, const struct ledger_post_options *options,
                     struct err *err) NODISCARD;
/* Waits for a POST that is under way, up to its time-out. NULL allowed. */
void ledger_post_free(struct ledger_post *p);

/* One was begun whose `done` has not been called. */
bool ledger_post_is_busy(const struct ledger_post *p);
/* Begins one; not while it is busy. path: a literal. *body's memory is taken, an empty buffer comes back. */
void ledger_post_send(struct ledger_post *p, const char *path, struct buffer *body);

#endif
