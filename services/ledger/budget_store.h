/*
 * budget_store: the budgets in memory, and which of them a call counts in. Every revision that a budget has
 * had is here, with the time from when to when: a call counts in the one of its admitted_at, also when it is
 * settled later or replayed. Spend and holds are not here, and nowhere in memory. Kept up to date by
 * config_version, as registry_store is. Owns what it holds. Thread: one store belongs to one thread.
 */
#ifndef SPEND_LEDGER_BUDGET_STORE_H
#define SPEND_LEDGER_BUDGET_STORE_H

#include "base/arena.h"
#include "spend/scope.h"

struct pg_session;
struct budget_store;

/* One revision of one budget. */
struct budget_rule {
    int64_t budget; /* budget.id */
    int32_t revision;
    enum scope_kind scope;
    bool billed; /* it measures billed amounts; else raw */
    int64_t from;
    int64_t to; /* INT64_MAX: in force */
};

/* A budget that a call counts in, and in which of its values. */
struct budget_match {
    const struct budget_rule *rule; /* the store's, until its next refresh */
    struct strview value;           /* a view into the subject */
};

bool budget_store_new(struct budget_store **out, struct err *err) NODISCARD;
void budget_store_free(struct budget_store *s); /* NULL allowed */

/* Takes what has changed since its own version, which becomes `version`: one that was read before, so that
 * what is written meanwhile is taken again, never left out. */
bool budget_store_refresh(struct budget_store *s, struct pg_session *pg, int64_t version,
                          struct err *err) NODISCARD;

/* The config_version that it is up to; 0 before the first refresh. */
int64_t budget_store_version(const struct budget_store *s);

/* Every match of a call that was admitted at `at`, ordered by the scopes' table; of one value by budget. */
bool budget_store_match(const struct budget_store *s, const struct scope_subject *subject, int64_t at,
                        struct arena *a, struct budget_match **out, size_t *count, struct err *err) NODISCARD;

#endif
