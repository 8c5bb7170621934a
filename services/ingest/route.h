/*
 * route: what a request is: a call that is recorded, or something that only passes through. Pure.
 * The path is compared as an upstream would read it: percent-decoded, empty segments aside, so that no
 * spelling of a call's path slips by unrecorded.
 */
#ifndef SPEND_INGEST_ROUTE_H
#define SPEND_INGEST_ROUTE_H

#include "spend/spend_call.h"

struct route {
    bool is_call;
    enum spend_operation operation;
    const char *provider; /* the price file's provider when the path tells it, else NULL */
};

/* extra: paths named by --call-path: exact, or a prefix when one ends in '/'. */
struct route_table {
    const char *const *extra;
    size_t extra_count;
    const char *prefix; /* the upstream's, put before each path; NULL or "": none; under ROUTE_PREFIX_ROOM */
};
#define ROUTE_PREFIX_ROOM 512

struct route route_find(const struct route_table *table, struct strview method, struct strview path);

/* LiteLLM's own that asks models for money and is no POST: nobody would be billed for it. */
bool route_is_unmetered(struct strview method, struct strview path);

/*
 * The model that path or query name where LiteLLM takes it before the body's: the path's of
 * /engines/{model}/.. and /openai/deployments/{model}/.., else the last `model` of the query. Decoded into
 * out, cut at room; null: the body's it is.
 */
struct strview route_model(struct strview target, char *out, size_t room);

/* The path as it is compared, into out; false when it does not fit. */
bool route_normalise(struct strview path, char *out, size_t room, size_t *len);

#endif
