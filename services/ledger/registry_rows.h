/*
 * registry_rows: the configuration tables read as registry records, one shape for every kind of fact.
 * Owns nothing: records live in the arena given. Refuses to write (config_write does).
 */
#ifndef SPEND_LEDGER_REGISTRY_ROWS_H
#define SPEND_LEDGER_REGISTRY_ROWS_H

#include "spend/registry.h"

struct pg_session;

/* A record and what stands beside it in the tables. */
struct registry_fact {
    struct registry_record record; /* the newest LIMIT_REGISTRY_VERSIONS versions, oldest first */
    size_t dropped;                /* older versions that a record has no room for */
    int64_t config_version;        /* of its newest version */
    int64_t account;               /* an account's surrogate, else 0 */
};

typedef bool registry_fact_fn(void *arg, const struct registry_fact *fact, struct err *err);

/* Every fact that changed after config_version `after` (0: all), each with its whole history. */
bool registry_rows_changed(struct pg_session *pg, int64_t after, registry_fact_fn *each, void *arg,
                           struct err *err) NODISCARD;
/* One fact; *found says whether it is there. Texts live in the arena. */
bool registry_rows_one(struct pg_session *pg, enum registry_kind kind, struct strview id, struct arena *a,
                       struct registry_fact *out, bool *found, struct err *err) NODISCARD;

#endif
