/*
 * stream_filter: an SSE reply on its way to the caller. Reads usage from its events and, when we asked for
 * usage and the caller did not, takes the usage chunk out again. Everything else passes byte for byte. Holds
 * bytes back only while it filters: up to the end of the event under way. Owns its parser.
 */
#ifndef SPEND_INGEST_STREAM_FILTER_H
#define SPEND_INGEST_STREAM_FILTER_H

#include "ingest/sse_parser.h"
#include "ingest/usage_reader.h"

struct stream_filter {
    struct sse_parser parser;
    struct usage_reader *reader; /* the caller's */
    struct arena *scratch;       /* the caller's, reset after each event */
    bool filters;
    bool dropping; /* the event that goes on was taken out */
    bool failed;
    bool done; /* data: [DONE] was seen, or the event that ends a stream without one */
    size_t events;
    struct buffer *out; /* during a feed */
};

void stream_filter_init(struct stream_filter *f, struct usage_reader *reader, struct arena *scratch,
                        size_t event_max, bool filters);
void stream_filter_free(struct stream_filter *f);
/* While it filters, appends what the caller gets to *out; otherwise only reads. false: out of memory. */
bool stream_filter_feed(struct stream_filter *f, struct strview bytes, struct buffer *out) NODISCARD;
bool stream_filter_end(struct stream_filter *f, struct buffer *out) NODISCARD;

#endif
