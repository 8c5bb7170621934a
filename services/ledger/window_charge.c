/*
 * window_charge: sort, then add up neighbours.
 */
#include "window_charge.h"

#include "base/metrics.h"
#include "base/money.h"

#include <stdlib.h>
#include <string.h>

const char window_charge_sql[] = "SELECT window_charge($1, $2, $3, $4, $5, $6)";
const char window_mark_sql[] = "SELECT window_mark($1)";

struct metric *window_mark_metric(void)
{
    return metric_counter("spend_ledger_budget_thresholds_total",
                          "thresholds that windows of budgets have crossed, each once a window", NULL, NULL);
}

static bool full(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_FATAL, "window_charge: the arena is full");
}

void window_charge_init(struct window_charge *c, struct arena *a)
{
    *c = (struct window_charge){.arena = a};
}

bool window_charge_add(struct window_charge *c, const struct window_delta *delta, struct err *err)
{
    if (c->count == c->room) {
        size_t room = c->room == 0 ? 64 : c->room * 2;
        struct window_delta *more = arena_alloc(c->arena, room * sizeof *more);
        if (more == NULL)
            return full(err);
        if (c->count > 0)
            memcpy(more, c->delta, c->count * sizeof *more);
        c->delta = more;
        c->room = room;
    }
    c->delta[c->count++] = *delta;
    return true;
}

static int by_window(const void *a, const void *b)
{
    const struct window_delta *x = a;
    const struct window_delta *y = b;
    return (x->window > y->window) - (x->window < y->window);
}

static bool join(struct window_delta *to, const struct window_delta *from)
{
    to->latest = from->latest > to->latest ? from->latest : to->latest;
    return money_add(to->spent_nanos, from->spent_nanos, &to->spent_nanos) &&
           money_add(to->held_nanos, from->held_nanos, &to->held_nanos) &&
           money_add(to->ungated_nanos, from->ungated_nanos, &to->ungated_nanos) &&
           money_add(to->away_nanos, from->away_nanos, &to->away_nanos);
}

bool window_charge_close(struct window_charge *c, struct err *err)
{
    size_t kept = 0;
    if (c->count > 1)
        qsort(c->delta, c->count, sizeof *c->delta, by_window);
    for (size_t i = 0; i < c->count; i++) {
        if (kept == 0 || c->delta[kept - 1].window != c->delta[i].window)
            c->delta[kept++] = c->delta[i];
        else if (!join(&c->delta[kept - 1], &c->delta[i]))
            return err_set(err, ERR_OVERFLOW, FATE_DEAD_LETTER, "its amount does not fit a budget's window");
    }
    c->count = kept;
    return true;
}

/* One member of every delta, side by side. */
static int64_t *column(const struct window_charge *c, size_t member)
{
    int64_t *out = arena_alloc(c->arena, c->count * sizeof *out + 1);
    for (size_t i = 0; out != NULL && i < c->count; i++)
        memcpy(&out[i], (const char *)&c->delta[i] + member, sizeof out[i]);
    return out;
}

bool window_charge_args(const struct window_charge *c, struct pg_fields *args, struct err *err)
{
    static const size_t amounts[] = {
        offsetof(struct window_delta, window), offsetof(struct window_delta, spent_nanos),
        offsetof(struct window_delta, held_nanos), offsetof(struct window_delta, ungated_nanos),
        offsetof(struct window_delta, away_nanos)};
    for (size_t i = 0; i < sizeof amounts / sizeof amounts[0]; i++) {
        const int64_t *values = column(c, amounts[i]);
        if (values == NULL)
            return full(err);
        pg_put_i64_array(args, values, c->count);
    }
    const int64_t *latest = column(c, offsetof(struct window_delta, latest));
    if (latest == NULL)
        return full(err);
    pg_put_time_array(args, latest, c->count);
    return true;
}

bool window_charge_ids(const struct window_charge *c, struct pg_fields *args, struct err *err)
{
    if (c->count == 0) {
        pg_put_null(args);
        return true;
    }
    const int64_t *ids = column(c, offsetof(struct window_delta, window));
    if (ids == NULL)
        return full(err);
    pg_put_i64_array(args, ids, c->count);
    return true;
}
