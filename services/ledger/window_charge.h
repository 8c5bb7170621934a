/*
 * window_charge: what one transaction adds to budget windows: one sum a window, in order of their ids, added
 * by the last statement before COMMIT. Owns nothing: everything lies in the arena given. Order of use: init,
 * add .., close, args. Refuses sums beyond int64: FATE_DEAD_LETTER.
 */
#ifndef SPEND_LEDGER_WINDOW_CHARGE_H
#define SPEND_LEDGER_WINDOW_CHARGE_H

#include "base/arena.h"
#include "pg_value.h"

struct window_delta {
    int64_t window; /* budget_window.id */
    int64_t spent_nanos;
    int64_t held_nanos;
    int64_t ungated_nanos; /* of spent */
    int64_t away_nanos;    /* of spent */
    int64_t latest;        /* when a call that counts in it from now on was admitted; 0: none does */
};

struct window_charge {
    struct arena *arena;
    struct window_delta *delta;
    size_t count;
    size_t room;
};

void window_charge_init(struct window_charge *c, struct arena *a);
bool window_charge_add(struct window_charge *c, const struct window_delta *delta, struct err *err) NODISCARD;
/* One delta a window, ascending. */
bool window_charge_close(struct window_charge *c, struct err *err) NODISCARD;

/* Locks the rows and adds. A window that was closed at or before its `latest`: ERR_CONFLICT, nothing is
 * added. */
extern const char window_charge_sql[];
bool window_charge_args(const struct window_charge *c, struct pg_fields *args, struct err *err) NODISCARD;
/* Then, with the same ids: how many thresholds what was added has crossed, to be counted once it is
 * committed.
 */
extern const char window_mark_sql[];
struct metric *window_mark_metric(void);
/* The ids, as an array: for the outbox and the marks. NULL without any. */
bool window_charge_ids(const struct window_charge *c, struct pg_fields *args, struct err *err) NODISCARD;

#endif
