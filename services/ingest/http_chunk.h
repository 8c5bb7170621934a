/*
 * http_chunk: the chunked transfer coding, strict, at any split. Pure; data are views into the caller's
 * bytes. Requests: no extensions, no trailers. Replies: both are read over.
 */
#ifndef SPEND_INGEST_HTTP_CHUNK_H
#define SPEND_INGEST_HTTP_CHUNK_H

#include "base/strview.h"

struct http_chunk {
    int state;
    bool lenient; /* a reply: extensions and trailers are read over */
    unsigned digits;
    uint64_t left;  /* of the size or the data */
    size_t skipped; /* extension and trailer bytes so far */
    bool last;      /* the chunk of size 0 was read */
};

enum chunk_step {
    CHUNK_MORE, /* *in is used up */
    CHUNK_DATA, /* *data is the next piece of the body */
    CHUNK_END,  /* the body is complete; *in is what follows it */
    CHUNK_BAD,
};

void http_chunk_init(struct http_chunk *c, bool lenient);
/* Takes bytes off the front of *in. Call again after CHUNK_DATA. */
enum chunk_step http_chunk_next(struct http_chunk *c, struct strview *in, struct strview *data);

#endif
