/*
 * hold_observe: windows are looked up in Postgres, not in memory, which would open those that are not there:
 * one that nobody has opened is an empty one.
 */
#include "hold_inside.h"

#include "hold_judge.h"
#include "pg_query.h"

#include <assert.h>

struct observing {
    struct hold *h;
    struct hold_item *item;
    size_t count;
    int64_t at;
    struct hold_judge judge;
};

static bool full(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_RETRY, "hold: the arena is full");
}

static bool look_args(struct observing *o, struct pg_fields *accounts, struct pg_fields *matches)
{
    struct arena *a = &o->h->arena;
    size_t most = 1;
    size_t n = 0;
    size_t account_count = 0;
    for (size_t i = 0; i < o->count; i++)
        most += o->item[i].gate.match_count;
    int64_t *account = arena_alloc(a, o->count * sizeof *account);
    int64_t *budget = arena_alloc(a, most * sizeof *budget);
    int32_t *revision = arena_alloc(a, most * sizeof *revision);
    struct strview *value = arena_alloc(a, most * sizeof *value);
    if (account == NULL || budget == NULL || revision == NULL || value == NULL)
        return false;
    for (size_t i = 0; i < o->count; i++) {
        const struct gate_call *c = &o->item[i].gate;
        if (c->has_account)
            account[account_count++] = c->account;
        for (size_t k = 0; k < c->match_count; k++, n++) {
            budget[n] = c->match[k].rule->budget;
            revision[n] = c->match[k].rule->revision;
            value[n] = c->match[k].value;
        }
    }
    pg_put_i64_array(accounts, account, account_count);
    pg_put_i64_array(matches, budget, n);
    pg_put_i32_array(matches, revision, n);
    pg_put_text_array(matches, value, n);
    pg_put_time(matches, o->at);
    pg_put_i64(matches, window_map_values_max(gate_windows(o->h->options.gate)));
    return true;
}

/* Row n is the window of match n of all calls; a call is about each once. */
static bool take_windows(struct observing *o, const struct pg_rows *windows)
{
    size_t n = 0;
    for (size_t i = 0; i < o->count; i++) {
        struct gate_call *c = &o->item[i].gate;
        size_t kept = 0;
        struct budget_match *match = arena_alloc(&o->h->arena, c->match_count * sizeof *match + 1);
        int64_t *window = arena_alloc(&o->h->arena, c->match_count * sizeof *window + 1);
        if (match == NULL || window == NULL)
            return false;
        for (size_t k = 0; k < c->match_count; k++, n++) {
            size_t same = 0;
            int64_t id = pg_get_i64(windows, n, 0);
            while (same < kept && window[same] != id)
                same++;
            match[same] = c->match[k];
            window[same] = id;
            kept += same == kept ? 1 : 0;
        }
        c->match = match;
        c->window = window;
        c->match_count = kept;
    }
    assert(n == pg_rows_count(windows)); /* budgets are never deleted */
    return true;
}

static bool judge(struct observing *o, const struct pg_rows *balances, const struct pg_rows *windows,
                  struct err *err)
{
    if (!take_windows(o, windows))
        return full(err);
    if (!hold_judge_take(&o->judge, balances, windows, err))
        return false;
    for (size_t i = 0; i < o->count; i++) {
        struct hold_item *item = &o->item[i];
        bool blocked;
        if (!hold_judge_call(&o->judge, item, &blocked, err))
            return false;
        item->state = blocked ? HOLD_REFUSED : HOLD_OBSERVED;
        item->admitted_at = o->at;
        item->priced = OPT_I64(item->gate.is_priced ? 1 : 0);
    }
    return true;
}

bool hold_look(struct hold *h, struct hold_item *items, size_t count, int64_t at, struct err *err)
{
    static const char window_sql[] = "SELECT * FROM window_look($1, $2, $3, $4, $5)";
    struct observing o = {
        .h = h, .item = items, .count = count, .at = at, .judge = {.arena = &h->arena, .text = &h->text}};
    struct pg_fields args[2];
    struct pg_step steps[] = {{.sql = HOLD_JUDGE_BALANCE_SQL, .args = &args[0]},
                              {.sql = window_sql, .args = &args[1]}};
    pg_fields_init(&args[0]);
    pg_fields_init(&args[1]);
    bool ok = (look_args(&o, &args[0], &args[1]) || full(err)) &&
              pg_session_run(h->options.pg, steps, 2, err) && judge(&o, steps[0].rows, steps[1].rows, err);
    pg_steps_free(steps, 2);
    pg_fields_free(&args[0]);
    pg_fields_free(&args[1]);
    return ok;
}

bool hold_observe(struct hold *h, struct hold_item *items, size_t count, struct err *err)
{
    int64_t at;
    assert(!pg_session_is_sent(h->options.pg)); /* nothing is begun for it */
    arena_reset(&h->arena);
    bool ok = hold_open(h, err) && hold_clock(h, false, &at, err);
    for (size_t i = 0; ok && i < count; i++)
        ok = gate_resolve(h->options.gate, &items[i].gate, at, &h->arena, err);
    ok = ok && (count == 0 || hold_look(h, items, count, at, err)); /* else a probe */
    metric_add(h->observed, ok ? (int64_t)count : 0);
    return ok;
}
