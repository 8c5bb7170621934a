/*
 * upstream_request: a caller's request as it goes upstream: framing and hop-by-hop lines made anew, our ids
 * put in, everything else as it came. The body is the caller's bytes, in place, with at most one edit. Owns
 * the head it wrote; views into the caller's body.
 */
#ifndef SPEND_INGEST_UPSTREAM_REQUEST_H
#define SPEND_INGEST_UPSTREAM_REQUEST_H

#include "base/buffer.h"
#include "base/uuid.h"
#include "ingest/http_guard.h"
#include "ingest/tag_capture.h"
#include "ingest/upstream.h"

struct upstream_request {
    struct buffer head;
    struct strview piece[4]; /* head, body, edit, rest of the body */
    size_t at;               /* the piece under way */
    size_t done;             /* bytes of it that are sent */
    bool begun;              /* a byte was sent */
};

/* What a call adds; NULL for what only passes. */
struct upstream_marks {
    const struct uuid *call_id;
    const struct tag_capture *capture;
    struct strview secret; /* signs the call id */
    bool litellm;          /* send our ids */
    bool identity;         /* ask for a reply we can read */
    bool bills_log;        /* the proxy's log is billed: our call id must come back in it */
};

/* *r is zeroed, but for an empty buffer in head if there is one to use. */
bool upstream_request_make(struct upstream_request *r, const struct upstream_address *to,
                           const struct http_request_head *head, struct strview body,
                           const struct body_edit *edit, const struct upstream_marks *marks,
                           struct err *err) NODISCARD;
void upstream_request_free(struct upstream_request *r);
void upstream_request_rewind(struct upstream_request *r);
/* Sends what it can: 1 all is sent, 0 it would block, -1 the connection is gone. */
int upstream_request_send(struct upstream_request *r, struct upstream_link *link);

/* "<call id>.<32 hex digits>": HMAC-SHA-256 of the call id's text, its first 128 bits. */
#define SPEND_CALL_ID_LEN (UUID_TEXT_LEN + 1 + 32)
void upstream_request_sign(const struct uuid *call_id, struct strview secret,
                           char out[SPEND_CALL_ID_LEN + 1]);

#endif
