/*
 * hold_judge: what the windows and balances of a request's calls say, and whether a call passes: hard budgets
 * and the balance block it, shadow budgets only warn. Limits are compared in 128 bits: nothing overflows into
 * a yes. Owns nothing: everything lies in the arena given, texts in the rows given.
 */
#ifndef SPEND_LEDGER_HOLD_JUDGE_H
#define SPEND_LEDGER_HOLD_JUDGE_H

#include "hold.h"
#include "pg_session.h"

struct hold_judge {
    struct arena *arena;
    struct buffer *text; /* scratch */
    struct balance_row *balance;
    size_t balance_count;
    struct window_row *window;
    size_t window_count;
};

/* The balances of accounts $1. */
#define HOLD_JUDGE_BALANCE_SQL                                                                               \
    "SELECT b.account_id, b.amount_nanos, b.held_nanos, a.overdraft_limit_nanos FROM balance AS b"           \
    " JOIN account AS a ON a.id = b.account_id WHERE b.account_id = ANY ($1::bigint[])"                      \
    " ORDER BY b.account_id"

/* balances: account, amount, held, overdraft limit or null, ordered. windows: id, hard, budget_id, scope,
 * value, start, end or null, limit or null, spent, held. */
bool hold_judge_take(struct hold_judge *j, const struct pg_rows *balances, const struct pg_rows *windows,
                     struct err *err) NODISCARD;
/* All of its rows are there: none was left out since somebody else has it. */
bool hold_judge_is_whole(const struct hold_judge *j, const struct gate_call *c) NODISCARD;
/* Each window that it counts in lasts beyond its admission: none was closed meanwhile. */
bool hold_judge_is_open(const struct hold_judge *j, const struct gate_call *c) NODISCARD;
/* All that stands in its way, and what it would exceed. *blocked: something does. */
bool hold_judge_call(const struct hold_judge *j, struct hold_item *item, bool *blocked,
                     struct err *err) NODISCARD;
/* The calls after it find what it holds. */
void hold_judge_take_in(struct hold_judge *j, const struct gate_call *c);

/* What was taken in, each once and in order; not what is nothing. */
struct hold_sums {
    int64_t *id;
    int64_t *nanos;
    size_t count;
};
bool hold_judge_sums(const struct hold_judge *j, struct hold_sums *accounts, struct hold_sums *windows,
                     struct err *err) NODISCARD;

#endif
