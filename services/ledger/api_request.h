/*
 * api_request: one request to the API as a value: its path's parameters, query, body, who asks, and the reply
 * being made. Handlers (api_account, api_task, ..) know nothing of sockets. Everything lives in the arena.
 */
#ifndef SPEND_LEDGER_API_REQUEST_H
#define SPEND_LEDGER_API_REQUEST_H

#include "base/arena.h"
#include "base/json_write.h"

#define API_PARAMS        2 /* {} parts of a path */
#define API_QUERY_ITEMS   8
#define API_PATH_BYTES    4096
#define API_LIMIT_DEFAULT 100
#define API_LIMIT_MAX     1000
#define API_REPLY_BYTES   (16LL << 20)

struct api_fact_kind;
struct hold;
struct pg_session;
struct price_store;

enum api_method { API_GET, API_PUT, API_POST, API_OTHER };
enum api_role { API_NOBODY, API_INGEST, API_READER, API_OPERATOR };

struct api_query_item {
    struct strview name;
    struct strview value;
    bool known; /* a route asked for it */
};

struct api_request {
    enum api_method method;
    enum api_role role;
    struct strview param[API_PARAMS]; /* decoded */
    size_t param_count;
    struct api_query_item query[API_QUERY_ITEMS];
    size_t query_count;
    struct strview body;
    const struct api_fact_kind *fact; /* of the route; NULL: it is not about facts */
    struct arena *arena;
    struct pg_session *pg;
    struct price_store *prices;
    struct hold *holds;
    int64_t config_lead_us;

    int status; /* of the reply; 200 unless a handler says otherwise */
    struct buffer *reply;
    struct json_write json; /* writes into reply */
    bool refused;           /* api_refuse was called: status and reply hold the error */
};

/* Answers one request. true: status and reply are set. false: refused, or *err says what failed (500, 503).
 */
typedef bool api_handler_fn(struct api_request *r, struct err *err);

const char *api_role_name(enum api_role role);

/* Makes the reply {"error":{type,message,hint}} and returns false. hint: what to do, one sentence. */
bool api_refuse(struct api_request *r, int status, const char *type, const char *hint, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
/* The reply for what went wrong on our side: 503 when it may pass, else 500. The cause goes to the log only.
 */
void api_fail(struct api_request *r, const struct err *err);

/* Splits the target's path at '/' and decodes %XX of each part. false: refused (bad escape, too long, NUL).
 */
bool api_path_split(struct api_request *r, struct strview path, struct strview *part, size_t cap,
                    size_t *count) NODISCARD;
/* Reads name=value&.. into r->query, decoded ('+' is a blank). */
bool api_query_read(struct api_request *r, struct strview query) NODISCARD;
/* A value of the query, SV_NULL when it was not given. Marks it as known. */
struct strview api_query_get(struct api_request *r, const char *name);
/* Refuses the first parameter that nobody asked for. Call it after the last api_query_get. */
bool api_query_end(struct api_request *r) NODISCARD;

/* ?limit= and ?cursor= of the list called `list`. *after: the key of the last item seen, SV_NULL at the
 * start. */
struct api_page {
    int64_t limit;
    struct strview after;
};
bool api_page_read(struct api_request *r, const char *list, struct api_page *page) NODISCARD;
/* Ends a list: writes "next" from the last item's key, or null when the list is over. */
void api_page_next(struct api_request *r, const char *list, struct strview last_key, bool more);

/* An id of an account, task, conversation, user or team that somebody gives us: 1-128 bytes, UTF-8, no
 * control characters, not one of ours ('~'). `what` names it in the refusal. */
bool api_id_check(struct api_request *r, const char *what, struct strview id) NODISCARD;

#endif
