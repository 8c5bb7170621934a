/*
 * api_fact: the facts with valid time: accounts' tiers, tiers, keys, tasks, conversations, model aliases. One
 * table says what each kind has; one path writes them all: lock, look, write the version, audit, outbox. A
 * value that already holds from when it is wanted writes nothing.
 */
#ifndef SPEND_LEDGER_API_FACT_H
#define SPEND_LEDGER_API_FACT_H

#include "api_request.h"
#include "spend/registry.h"

/* A record of more versions than it can hold loses its oldest, once no call on the topics can need that one.
 */
#define API_FACT_KEEP_DAYS 400LL

struct api_fact_kind {
    enum registry_kind kind;
    const char *of;    /* "a tier" */
    unsigned required; /* fields of the body: bits of enum fact_field (api_fact.c) */
    unsigned optional;
    bool set_once;    /* another value is a conflict, not a version */
    const char *rows; /* api_rows's statement */
    const char *hint; /* when there is none */
};

extern const struct api_fact_kind api_facts[REGISTRY_HEARTBEAT];

/* The route's kind stands in r->fact. */
api_handler_fn api_fact_put;
api_handler_fn api_fact_get;
api_handler_fn api_fact_list;

/* From when a later version is to hold: as soon as allowed when nothing is wanted. */
int64_t api_fact_wanted(const struct api_request *r, int64_t recorded_at, struct opt_i64 wanted);
/* false: refused, it is too early. */
bool api_fact_allowed(struct api_request *r, int64_t recorded_at, int64_t effective_from) NODISCARD;

#endif
