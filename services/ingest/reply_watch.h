/*
 * reply_watch: reads the reply of one call while it passes: plain JSON is gathered up to a limit and read at
 * its end, SSE event by event. Owns what it gathers. Refuses encoded bodies: they pass unread, and that is
 * counted.
 */
#ifndef SPEND_INGEST_REPLY_WATCH_H
#define SPEND_INGEST_REPLY_WATCH_H

#include "ingest/reply_head.h"
#include "ingest/stream_filter.h"

enum watch_mode { WATCH_NOTHING, WATCH_JSON, WATCH_SSE };

struct reply_watch {
    enum watch_mode mode;
    struct usage_reader reader;
    struct stream_filter filter;
    struct buffer body;
    struct arena *scratch;
    bool unread; /* something passed that could not be read */
    uint64_t bytes;
};

struct watch_limits {
    size_t reply_bytes;
    size_t sse_event_bytes;
};

void reply_watch_init(struct reply_watch *w, enum spend_operation operation, struct strview provider,
                      struct arena *scratch);
void reply_watch_free(struct reply_watch *w);
/* The head is there. filters: take the usage chunk out of a stream. */
void reply_watch_begin(struct reply_watch *w, const struct reply_head *head,
                       const struct watch_limits *limits, bool filters);
/* It may change the body's length: only then is the reply's own Content-Length not passed on. */
bool reply_watch_filters(const struct reply_watch *w);
/*
 * *pass is what the caller gets: the bytes themselves, or what the filter left of them, in *piece (cleared
 * first). last: nothing follows, so that a body that came whole is read where it stands. false: out of
 * memory.
 */
bool reply_watch_feed(struct reply_watch *w, struct strview bytes, bool last, struct buffer *piece,
                      struct strview *pass) NODISCARD;
/* Bytes that an estimate goes by if the call ended now. */
uint64_t reply_watch_text(const struct reply_watch *w);
/* The body is complete (or as complete as it will be): once. *pass: what the filter still held. */
bool reply_watch_end(struct reply_watch *w, struct buffer *piece, struct strview *pass) NODISCARD;

#endif
