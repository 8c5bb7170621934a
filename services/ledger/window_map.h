/*
 * window_map: which row of budget_window a moment of a budget's value lies in. Remembers what it has seen and
 * opens what is not there, outside the transactions that charge it. What it remembers may have ended since (a
 * manual reset): window_charge tells under the lock, then window_map_clear. Owns its memory. Thread: one
 * owner.
 */
#ifndef SPEND_LEDGER_WINDOW_MAP_H
#define SPEND_LEDGER_WINDOW_MAP_H

#include "budget_store.h"

struct window_map;

/* values_max: values of one `each` that have windows of their own; the rest share ~other. */
bool window_map_new(struct window_map **out, int64_t values_max, struct err *err) NODISCARD;
void window_map_free(struct window_map *m); /* NULL allowed */
void window_map_clear(struct window_map *m);
int64_t window_map_values_max(const struct window_map *m);

/* budget_window.id; 0: not known here. */
int64_t window_map_find(const struct window_map *m, const struct budget_match *match, int64_t at);
/* Asks Postgres for windows, which opens those that are not there. Outside a transaction. Sorts what it is
 * given; one that is known here, or wanted twice, is asked for once at most. */
struct window_wanted {
    struct budget_match match;
    int64_t at;
};
bool window_map_open(struct window_map *m, struct pg_session *pg, struct window_wanted *wanted, size_t count,
                     struct err *err) NODISCARD;

#endif
