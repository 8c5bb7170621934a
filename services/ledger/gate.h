/*
 * gate: whom a call that asks to be let through would be charged to, in which budgets it would count, and at
 * most how much: from the registry, the prices and the budgets in memory, by the same functions that bill it
 * later. What is spent and held is not here. Kept up to date by config_version. Owns what it holds. Thread:
 * one owner, with its session.
 */
#ifndef SPEND_LEDGER_GATE_H
#define SPEND_LEDGER_GATE_H

#include "budget_store.h"
#include "spend/attribute.h"
#include "window_map.h"

#define HOLD_MOST 1000000000000000LL /* nanos held for a call: a million USD; sums of thousands fit */

struct gate;

struct gate_options {
    struct attribute_rules rules;
    int64_t values_max; /* window_map */
    int64_t output_cap; /* tokens of output held for at most, whatever a call asks for */
};

/* A call at the gate. Its texts are the maker's. */
struct gate_call {
    struct spend_call call; /* call_id, operation, model_requested, key_hash, tags */
    int64_t body_bytes;
    struct opt_i64 max_tokens;
    struct opt_i64 n;
    /* gate_resolve: */
    bool has_account;
    int64_t account;
    int64_t markup_ppm;
    int64_t raw_nanos; /* the estimate, rounded up nowhere but in its tokens */
    int64_t billed_nanos;
    bool is_priced; /* else the estimate is 0 */
    bool is_conflict;
    char detail[LIMIT_DETAIL_BYTES];
    struct budget_match *match;
    int64_t *window; /* beside match: budget_window.id */
    size_t match_count;
};

bool gate_new(struct gate **out, const struct gate_options *options, struct err *err) NODISCARD;
void gate_free(struct gate *g); /* NULL allowed */

/* Brings it up to the config_version that the session sees, if it is another. */
bool gate_refresh(struct gate *g, struct pg_session *pg, struct err *err) NODISCARD;
int64_t gate_version(const struct gate *g);
/* Reads again how long the replies of each model are: not with each call, but now and then. */
bool gate_learn_outputs(struct gate *g, struct pg_session *pg, struct err *err) NODISCARD;
struct window_map *gate_windows(struct gate *g);

/* Fills in a call admitted at `at`. Windows that are not in memory are 0. Everything lies in the arena.
 * false: an amount does not fit (FATE_DEAD_LETTER), or no memory. */
bool gate_resolve(struct gate *g, struct gate_call *c, int64_t at, struct arena *a,
                  struct err *err) NODISCARD;
/* What the call costs by what is known now: usage, outcome, model replied, quality are set. *priced false: no
 * price or no usage. */
bool gate_rate(struct gate *g, const struct spend_call *call, bool *priced, int64_t *raw_nanos,
               struct err *err) NODISCARD;

#endif
