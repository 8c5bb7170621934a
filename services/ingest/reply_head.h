/*
 * reply_head: the front of an upstream's reply and how its body is framed. Pure; views into the caller's
 * bytes.
 */
#ifndef SPEND_INGEST_REPLY_HEAD_H
#define SPEND_INGEST_REPLY_HEAD_H

#include "ingest/http_head.h"

#define REPLY_HEAD_BYTES_MAX (64 << 10)

enum reply_framing { REPLY_EMPTY, REPLY_LENGTH, REPLY_CHUNKED, REPLY_UNTIL_CLOSE };

struct reply_head {
    int status;
    struct strview reason;
    struct http_headers headers;
    size_t bytes;
    enum reply_framing framing;
    bool close; /* the connection cannot be used again */
};

/* to_head: the request was a HEAD, so that no body follows whatever the lines say. REFUSED: *err says why. */
enum guard_verdict reply_head_parse(struct strview in, size_t *scanned, bool to_head, struct reply_head *out,
                                    struct err *err);

#endif
