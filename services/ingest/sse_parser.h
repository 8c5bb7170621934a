/*
 * sse_parser: server-sent events out of a byte stream, split anywhere. Lines end in LF, CR or CR LF; data
 * lines are joined with LF; comments, other fields and a byte order mark in front are read over. Owns the
 * bytes of the event under way. Each event carries its raw bytes, so that a stream can be passed on event by
 * event, byte for byte.
 */
#ifndef SPEND_INGEST_SSE_PARSER_H
#define SPEND_INGEST_SSE_PARSER_H

#include "base/buffer.h"

struct sse_event {
    struct strview raw;  /* all its bytes, with the blank line that ends it */
    struct strview data; /* null when it has none */
    bool goes_on; /* raw belongs to the event before it: the LF of a CR LF cut in two, or the rest of one that
                     was too long */
    bool oversize; /* too long to be read: data is null */
};

typedef void sse_event_fn(void *arg, const struct sse_event *event);

struct sse_parser {
    struct buffer raw;
    struct buffer data;
    bool has_data;
    bool begun;       /* a line has ended */
    size_t line;      /* where the current line begins in raw */
    bool after_cr;    /* the last byte was CR: an LF now belongs to it */
    bool after_event; /* .. and it ended an event */
    bool oversize;    /* reading over the rest of an event that was too long */
    bool line_empty;  /* while oversize */
    bool failed;      /* out of memory: bytes were lost, the stream cannot go on */
    size_t event_max;
    sse_event_fn *fn;
    void *arg;
};

void sse_parser_init(struct sse_parser *p, size_t event_max, sse_event_fn *fn, void *arg);
void sse_parser_free(struct sse_parser *p);
void sse_parser_feed(struct sse_parser *p, struct strview bytes);
/* The stream ended: what is left is handed over as a last event (without its blank line it is not complete,
 * but its data is read all the same). */
void sse_parser_end(struct sse_parser *p);

#endif
