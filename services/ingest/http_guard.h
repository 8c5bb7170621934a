/*
 * http_guard: the strict front of a request: HTTP/1.1, one framing, one host, nothing two parsers could read
 * differently. Refuses: HTTP/1.0 and 2, absolute targets, CONNECT, TRACE, upgrades, dot segments. Pure.
 */
#ifndef SPEND_INGEST_HTTP_GUARD_H
#define SPEND_INGEST_HTTP_GUARD_H

#include "ingest/http_head.h"

struct http_request_head {
    struct strview method;
    struct strview target; /* as it came: path and query */
    struct strview path;   /* the target up to its first '?' */
    struct http_headers headers;
    size_t bytes; /* of the head, with its blank line */
    bool expect_continue;
};

/* Why a request is answered here. The connection is closed after it. */
struct http_refusal {
    int status;
    const char *type;    /* stable, for programs */
    const char *message; /* for people */
};

/*
 * Where a key may stand, in the order in which LiteLLM looks: the first that is there is the key. A request
 * in which one stands twice, or is named by Connection and so not passed on, is refused: the upstream would
 * let in another key than the one that is recorded.
 */
#define HTTP_KEY_HEADERS 6
extern const struct strview http_key_headers[HTTP_KEY_HEADERS];

/*
 * The head at the front of `in`. *scanned: see http_head_find_end. On GUARD_OK the views point into `in`;
 * on GUARD_REFUSED *why is set.
 */
enum guard_verdict http_guard(struct strview in, size_t *scanned, size_t header_bytes_max,
                              struct http_request_head *out, struct http_refusal *why);

#endif
