/*
 * hold: what calls under way may cost, as rows of Postgres: placed, renewed, captured, voided. Each of these
 * is one transaction for many calls, can be repeated, and answers a call that is over with how it ended. The
 * row is inserted first: idempotency key and tombstone in one. Locks: hold, balance, budget_window, each in
 * order. Owns the order of statements. Refuses: to decide from memory what is spent or held. Thread: one
 * owner, with its session and its gate.
 */
#ifndef SPEND_LEDGER_HOLD_H
#define SPEND_LEDGER_HOLD_H

#include "gate.h"

#define HOLD_AT_ONCE 256 /* calls in one request */

enum hold_state {
    HOLD_PLACED,
    HOLD_CAPTURED,
    HOLD_SETTLED, /* its bill is there */
    HOLD_VOIDED,
    HOLD_REFUSED,
    HOLD_EXPIRED,
    HOLD_OBSERVED, /* it would be placed: nothing is */
    HOLD_BUSY,     /* not decided: somebody else has its account or one of its windows. Ask again */
    HOLD_UNKNOWN,  /* there is none */
    HOLD_STATES
};
const char *hold_state_name(enum hold_state state);

/* A budget, or the account's balance, that does not let a call pass. */
struct hold_block {
    struct strview budget_id; /* null: the balance */
    struct strview scope;
    struct strview value;
    int64_t window_start;
    struct opt_i64 window_end; /* none: lifetime */
    struct opt_i64 limit_nanos;
    int64_t spent_nanos;
    int64_t held_nanos;
};

/* One call of a request to place. */
struct hold_item {
    struct gate_call gate;
    bool forced;              /* it was let through already: held whatever stands in its way */
    struct opt_i64 forced_at; /* .. and when: in the windows of then */
    /* the answer */
    enum hold_state state;
    bool is_repeat;  /* what stands was answered before */
    bool is_revived; /* it was refused, and is forced now */
    int64_t admitted_at;
    struct opt_i64 priced;   /* 0 or 1, of the first decision; none: nothing tells */
    struct strview blocking; /* JSON array of what stood in its way; null: nothing */
    struct strview warnings; /* .. and of shadow budgets that it takes over their limit */
};

struct hold;

struct hold_options {
    struct pg_session *pg;
    struct gate *gate;
    int64_t lifetime_us; /* of placed, from the last renewal */
};

bool hold_new(struct hold **out, const struct hold_options *options, struct err *err) NODISCARD;
void hold_free(struct hold *h); /* NULL allowed */

/* What is placed next is still being read: its transaction is begun meanwhile. Not needed;
 * pg_session_rollback takes it back. */
void hold_ahead(struct hold *h);

/* Decides each in order, all or nothing for a call. At most HOLD_AT_ONCE. Texts of the answer hold until the
 * next call. */
bool hold_place(struct hold *h, struct hold_item *items, size_t count, struct err *err) NODISCARD;

/* The same decision, each call by itself against what stands: nothing is written and nothing is locked. */
bool hold_observe(struct hold *h, struct hold_item *items, size_t count, struct err *err) NODISCARD;

/* What became of a call, as far as its ingest knows. */
struct hold_capture {
    struct spend_call call; /* operation, models, provider, tier, outcome, usage, quality */
    enum hold_state state;  /* the answer */
};
/* From now on it holds what the call has cost: no price or usage, what was placed. */
bool hold_capture(struct hold *h, struct hold_capture *captures, size_t count, struct err *err) NODISCARD;

struct hold_end {
    struct uuid call_id;
    enum hold_state state; /* the answer */
};
bool hold_renew(struct hold *h, struct hold_end *calls, size_t count, struct err *err) NODISCARD;
bool hold_void(struct hold *h, struct hold_end *calls, size_t count, struct err *err) NODISCARD;

#endif
