/*
 * events_api: CloudEvents 1.0 of type `spend.call` over HTTP: structured, batched, or binary. Reads one
 * request's events, one after the other. Pure but for counting; owns nothing. Strict JSON: an event is
 * somebody's program, and is told what is wrong with it.
 */
#ifndef SPEND_INGEST_EVENTS_API_H
#define SPEND_INGEST_EVENTS_API_H

#include "ingest/foreign_call.h"
#include "ingest/http_guard.h"

#define EVENTS_PATH "/spend/v1/events"
#define EVENTS_TYPE "spend.call"

struct events_reader {
    const struct http_headers *binary; /* its attributes are headers; else NULL */
    struct strview body;
    struct json_scan batch; /* inside the array */
    bool is_batch;
    bool over;
};

/* Judges the whole body first. items_max: most events of a batch. false: *why (400, 413, 415). */
bool events_open(struct events_reader *r, const struct http_headers *headers, struct strview body,
                 size_t items_max, struct http_refusal *why) NODISCARD;
/*
 * The next event; false when there is none. item->call: source events_api, call_id of (source, id),
 * admitted_at its time. now_us: none may be more than 60 s ahead of it. The arena may be reset between two.
 */
bool events_next(struct events_reader *r, int64_t now_us, struct arena *a, struct foreign_item *item);

#endif
