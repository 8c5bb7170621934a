/*
 * hold_judge: rows by id, looked up by bisection.
 */
#include "hold_judge.h"

#include "base/json_write.h"
#include "base/money.h"
#include "pg_session.h"

#include <stdlib.h>

/* What the rows say, and what this request has added so far. */
struct balance_row {
    int64_t account;
    bool is_checked; /* it has an overdraft limit */
    int64_t amount_nanos;
    int64_t held_nanos;
    int64_t overdraft_nanos;
    int64_t added_nanos;
};

struct window_row {
    int64_t id;
    bool hard;
    struct hold_block now;
    int64_t added_nanos;
};

static bool full(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_RETRY, "hold: the arena is full");
}

/* Of both kinds of rows the first member is what they are found by. */
static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static struct window_row *window_of(const struct hold_judge *j, int64_t id)
{
    return bsearch(&id, j->window, j->window_count, sizeof *j->window, by_number);
}

static struct balance_row *balance_of(const struct hold_judge *j, const struct gate_call *c)
{
    return c->has_account ? bsearch(&c->account, j->balance, j->balance_count, sizeof *j->balance, by_number)
                          : NULL;
}

static int64_t amount_of(const struct gate_call *c, size_t match)
{
    return c->match[match].rule->billed ? c->billed_nanos : c->raw_nanos;
}

bool hold_judge_take(struct hold_judge *j, const struct pg_rows *balances, const struct pg_rows *windows,
                     struct err *err)
{
    j->balance_count = pg_rows_count(balances);
    j->window_count = pg_rows_count(windows);
    j->balance = arena_alloc(j->arena, j->balance_count * sizeof *j->balance + 1);
    j->window = arena_alloc(j->arena, j->window_count * sizeof *j->window + 1);
    if (j->balance == NULL || j->window == NULL)
        return full(err);
    for (size_t i = 0; i < j->balance_count; i++) {
        struct opt_i64 overdraft = pg_get_opt_i64(balances, i, 3);
        j->balance[i] = (struct balance_row){.account = pg_get_i64(balances, i, 0),
                                             .amount_nanos = pg_get_i64(balances, i, 1),
                                             .held_nanos = pg_get_i64(balances, i, 2),
                                             .is_checked = overdraft.has,
                                             .overdraft_nanos = overdraft.v};
    }
    for (size_t i = 0; i < j->window_count; i++)
        j->window[i] = (struct window_row){.id = pg_get_i64(windows, i, 0),
                                           .hard = pg_get_bool(windows, i, 1),
                                           .now = {.budget_id = pg_get(windows, i, 2),
                                                   .scope = pg_get(windows, i, 3),
                                                   .value = pg_get(windows, i, 4),
                                                   .window_start = pg_get_time(windows, i, 5),
                                                   .window_end = pg_get_opt_time(windows, i, 6),
                                                   .limit_nanos = pg_get_opt_i64(windows, i, 7),
                                                   .spent_nanos = pg_get_i64(windows, i, 8),
                                                   .held_nanos = pg_get_i64(windows, i, 9)}};
    if (j->window_count > 1)
        qsort(j->window, j->window_count, sizeof *j->window, by_number);
    return true;
}

bool hold_judge_is_whole(const struct hold_judge *j, const struct gate_call *c)
{
    for (size_t i = 0; i < c->match_count; i++)
        if (window_of(j, c->window[i]) == NULL)
            return false;
    return !c->has_account || balance_of(j, c) != NULL;
}

bool hold_judge_is_open(const struct hold_judge *j, const struct gate_call *c)
{
    for (size_t i = 0; i < c->match_count; i++) {
        const struct window_row *w = window_of(j, c->window[i]);
        if (w != NULL && w->now.window_end.has && w->now.window_end.v <= c->call.admitted_at)
            return false;
    }
    return true;
}

static bool exceeds(const struct hold_block *b, int64_t amount)
{
    return b->limit_nanos.has && (b->limit_nanos.v == 0 ||
                                  (int128)b->spent_nanos + b->held_nanos + amount > (int128)b->limit_nanos.v);
}

static bool blocks_window(const struct window_row *w, int64_t amount)
{
    return (int128)w->now.held_nanos + amount > INT64_MAX || (w->hard && exceeds(&w->now, amount));
}

static bool warns_window(const struct window_row *w, int64_t amount)
{
    return !w->hard && exceeds(&w->now, amount);
}

static bool blocks_balance(const struct balance_row *b, int64_t amount)
{
    if ((int128)b->held_nanos + amount > INT64_MAX)
        return true;
    return b->is_checked && (int128)b->amount_nanos - b->held_nanos + b->overdraft_nanos < (int128)amount;
}

static void write_block(struct json_write *json, const struct hold_block *b, int64_t estimate)
{
    json_write_open(json, '{');
    json_write_key(json, "budget_id");
    if (sv_is_null(b->budget_id)) {
        json_write_null(json);
    } else {
        json_write_sv(json, b->budget_id);
        json_write_key(json, "scope");
        json_write_sv(json, b->scope);
        json_write_key(json, "value");
        json_write_sv(json, b->value);
        json_write_key(json, "window_start");
        json_write_time(json, b->window_start);
        json_write_key(json, "window_end");
        if (b->window_end.has)
            json_write_time(json, b->window_end.v);
        else
            json_write_null(json);
    }
    json_write_key(json, "limit");
    json_write_usd(json, b->limit_nanos.v);
    json_write_key(json, "spent");
    json_write_usd(json, b->spent_nanos);
    json_write_key(json, "held");
    json_write_usd(json, b->held_nanos);
    json_write_key(json, "estimate"); /* of this call */
    json_write_usd(json, estimate);
    json_write_close(json, '}');
}

typedef bool window_test_fn(const struct window_row *w, int64_t amount);

static bool write_blocks(const struct hold_judge *j, struct hold_item *item, window_test_fn *stands_out,
                         const struct balance_row *balance, struct strview *out, struct err *err)
{
    const struct gate_call *c = &item->gate;
    struct json_write json;
    buffer_clear(j->text);
    json_write_init(&json, j->text);
    json_write_open(&json, '[');
    for (size_t i = 0; i < c->match_count; i++) {
        const struct window_row *w = window_of(j, c->window[i]);
        if (w != NULL && stands_out(w, amount_of(c, i)))
            write_block(&json, &w->now, amount_of(c, i));
    }
    if (balance != NULL) /* as a budget: what may be spent, and nothing is */
        write_block(&json,
                    &(struct hold_block){.limit_nanos = OPT_I64(balance->amount_nanos),
                                         .held_nanos = balance->held_nanos},
                    c->billed_nanos);
    json_write_close(&json, ']');
    return (json_write_ok(&json) && arena_dup(j->arena, buffer_view(j->text), out)) || full(err);
}

bool hold_judge_call(const struct hold_judge *j, struct hold_item *item, bool *blocked, struct err *err)
{
    const struct balance_row *b = balance_of(j, &item->gate);
    const struct balance_row *short_of = b != NULL && blocks_balance(b, item->gate.billed_nanos) ? b : NULL;
    if (!write_blocks(j, item, blocks_window, short_of, &item->blocking, err) ||
        !write_blocks(j, item, warns_window, NULL, &item->warnings, err))
        return false;
    *blocked = !sv_eq(item->blocking, SV_LIT("[]"));
    return true;
}

void hold_judge_take_in(struct hold_judge *j, const struct gate_call *c)
{
    for (size_t i = 0; i < c->match_count; i++) {
        struct window_row *w = window_of(j, c->window[i]);
        if (w == NULL)
            continue;
        w->now.held_nanos += amount_of(c, i); /* Postgres adds it up again, and sees an overflow */
        w->added_nanos += amount_of(c, i);    /* HOLD_MOST each: these fit */
    }
    struct balance_row *b = balance_of(j, c);
    if (b == NULL)
        return;
    b->held_nanos += c->billed_nanos;
    b->added_nanos += c->billed_nanos;
}

static bool sums_new(const struct hold_judge *j, size_t most, struct hold_sums *out, struct err *err)
{
    *out = (struct hold_sums){.id = arena_alloc(j->arena, most * sizeof(int64_t) + 1),
                              .nanos = arena_alloc(j->arena, most * sizeof(int64_t) + 1)};
    return (out->id != NULL && out->nanos != NULL) || full(err);
}

static void sums_add(struct hold_sums *sums, int64_t id, int64_t nanos)
{
    if (nanos == 0)
        return;
    sums->id[sums->count] = id;
    sums->nanos[sums->count++] = nanos;
}

bool hold_judge_sums(const struct hold_judge *j, struct hold_sums *accounts, struct hold_sums *windows,
                     struct err *err)
{
    if (!sums_new(j, j->balance_count, accounts, err) || !sums_new(j, j->window_count, windows, err))
        return false;
    for (size_t i = 0; i < j->balance_count; i++)
        sums_add(accounts, j->balance[i].account, j->balance[i].added_nanos);
    for (size_t i = 0; i < j->window_count; i++)
        sums_add(windows, j->window[i].id, j->window[i].added_nanos);
    return true;
}
