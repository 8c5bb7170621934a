/*
 * http_client: one blocking HTTP request at a time, for cold paths. Owns a curl handle and its connections.
 * Refuses: redirects, proxies (also from http_proxy), other protocols than http and https, replies past their
 * cap. Thread: one client belongs to one thread.
 */
#ifndef SPEND_RUN_HTTP_CLIENT_H
#define SPEND_RUN_HTTP_CLIENT_H

#include "base/buffer.h"

#define HTTP_CLIENT_TIMEOUT_MS  30000
#define HTTP_CLIENT_REPLY_BYTES (64LL << 20)

struct http_client;

struct http_request {
    const char *method; /* NULL: GET */
    const char *url;
    const char *const *header; /* "Name: value" */
    size_t header_count;
    struct strview body; /* null: none */
    int64_t timeout_ms;  /* the whole exchange; 0: HTTP_CLIENT_TIMEOUT_MS */
    size_t reply_cap;    /* most body bytes; 0: HTTP_CLIENT_REPLY_BYTES */
};

struct http_reply {
    int status;
    struct buffer body;
};

/* NULL out of memory. */
struct http_client *http_client_new(void) NODISCARD;
void http_client_free(struct http_client *c); /* NULL allowed */

/*
 * true: an answer came, whatever its status; *reply is the caller's, free with http_reply_free.
 * false: none came whole. ERR_TIMEOUT, ERR_FULL (past reply_cap), ERR_INVALID (bad URL), else ERR_HTTP;
 * *reply is empty.
 */
bool http_client_send(struct http_client *c, const struct http_request *request, struct http_reply *reply,
                      struct err *err) NODISCARD;
void http_reply_free(struct http_reply *reply);

#endif
