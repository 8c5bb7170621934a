/*
 * intake: ingest's own endpoints: calls that others tell of. One value a request that waits for Kafka. A call
 * is journalled like any other, as one that is over; events are answered when Kafka has them all, LiteLLM's
 * payloads, which never come again, as soon as they are in the journal (with --journal-sync=disk: when Kafka
 * has them, too). Owns the answer in the making. Thread: the event loop's.
 */
#ifndef SPEND_INGEST_INTAKE_H
#define SPEND_INGEST_INTAKE_H

#include "ingest/client.h"

/* Nothing below /spend/v1/ goes upstream. */
bool intake_is_ours(struct strview path);
/* A request was refused whole: of LiteLLM's it is said, for they never come again. */
void intake_refused(struct strview path, int status, const char *why);
/* Answers the request at the front of c->in (len bytes), now or when Kafka has its events. */
void intake_begin(struct client *c, const struct http_request_head *head, size_t len);
/* The one who sent them is gone: what was journalled goes its way. */
void intake_client_gone(struct intake *in);
/* Time-outs. */
void intake_tick(struct gateway *g, int64_t now_us);
/* The end: nobody is told of anything any more. */
void intake_forget(struct gateway *g);

#endif
