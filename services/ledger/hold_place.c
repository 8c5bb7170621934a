/*
 * hold_place: the clock and what each call is; its row, and what stands; the locks; the decisions; what they
 * change. A window that is not known, or is over when it is locked: all of it again.
 */
#include "hold_inside.h"

#include "base/json_write.h"
#include "base/money.h"
#include "pg_query.h"

#include <stdlib.h>
#include <string.h>

#define TRIES 20

/* What the locked rows say, and what this request has added so far. */
struct balance_row {
    int64_t account;
    int64_t free_nanos; /* balance less held plus overdraft */
    bool is_checked;    /* it has an overdraft limit */
    int64_t amount_nanos;
    int64_t held_nanos;
    int64_t overdraft_nanos;
};

struct window_row {
    int64_t id;
    bool hard;
    struct hold_block now;
};

/* One request under way. */
struct placing {
    struct hold *h;
    struct hold_item *item;
    size_t count;
    int64_t at;
    struct hold_item **order; /* by call_id; of one id the first in the request first */
    struct pg_rows *rows[3];  /* texts of windows and answers point into them */
    struct balance_row *balance;
    size_t balance_count;
    struct window_row *window;
    size_t window_count;
};

static bool full(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_RETRY, "hold: the arena is full");
}

static int by_call(const void *a, const void *b)
{
    const struct hold_item *x = *(const struct hold_item *const *)a;
    const struct hold_item *y = *(const struct hold_item *const *)b;
    int order = uuid_cmp(&x->gate.call.call_id, &y->gate.call.call_id);
    return order != 0 ? order : (x > y) - (x < y);
}

/* BEGIN, the clock, the configuration, and every call resolved. *missing: windows are to be opened first. */
static bool open_request(struct placing *p, struct gate_wanted *wanted, struct err *err)
{
    static const char clock_sql[] =
        "SELECT greatest(clock_timestamp(), changed_at, watermark), version FROM config_version";
    struct pg_session *pg = p->h->options.pg;
    struct gate *gate = p->h->options.gate;
    struct pg_step steps[] = {{.sql = PG_BEGIN}, {.sql = clock_sql}};
    bool ok = pg_session_run(pg, steps, 2, err);
    if (ok) {
        p->at = pg_get_time(steps[1].rows, 0, 0);
        ok = pg_get_i64(steps[1].rows, 0, 1) == gate_version(gate) || gate_refresh(gate, pg, err);
    }
    pg_steps_free(steps, 2);
    for (size_t i = 0; ok && i < p->count; i++)
        ok = gate_resolve(gate, &p->item[i].gate, p->at, &p->h->arena, wanted, err);
    return ok;
}

/* '{1,2}': rows of arrays of different lengths are no array. */
static bool ids_text(struct placing *p, const struct gate_call *c, bool billed, struct strview *out)
{
    struct buffer *text = &p->h->text;
    buffer_clear(text);
    bool ok = buffer_append_byte(text, '{');
    bool first = true;
    for (size_t i = 0; ok && i < c->match_count; i++) {
        if (c->match[i].rule->billed != billed)
            continue;
        ok = buffer_printf(text, "%s%lld", first ? "" : ",", (long long)c->window[i]);
        first = false;
    }
    return ok && buffer_append_byte(text, '}') && arena_dup(&p->h->arena, buffer_view(text), out);
}

static bool insert_args(struct placing *p, struct pg_fields *args)
{
    struct arena *a = &p->h->arena;
    struct uuid *id = arena_alloc(a, p->count * sizeof *id);
    int64_t *number[4];
    int32_t *forced = arena_alloc(a, p->count * sizeof *forced);
    struct strview *windows[2];
    for (size_t k = 0; k < 4; k++)
        number[k] = arena_alloc(a, p->count * sizeof(int64_t));
    for (size_t k = 0; k < 2; k++)
        windows[k] = arena_alloc(a, p->count * sizeof(struct strview));
    if (id == NULL || forced == NULL || number[3] == NULL || windows[1] == NULL)
        return false;
    for (size_t i = 0; i < p->count; i++) {
        const struct gate_call *c = &p->order[i]->gate;
        id[i] = c->call.call_id;
        forced[i] = p->order[i]->forced ? 1 : 0;
        number[0][i] = c->has_account ? c->account : 0;
        number[1][i] = c->raw_nanos;
        number[2][i] = c->billed_nanos;
        number[3][i] = c->markup_ppm;
        if (!ids_text(p, c, false, &windows[0][i]) || !ids_text(p, c, true, &windows[1][i]))
            return false;
    }
    pg_put_uuid_array(args, id, p->count);
    pg_put_i32_array(args, forced, p->count);
    for (size_t k = 0; k < 4; k++)
        pg_put_i64_array(args, number[k], p->count);
    pg_put_text_array(args, windows[0], p->count);
    pg_put_text_array(args, windows[1], p->count);
    pg_put_time(args, p->at);
    pg_put_time(args, p->at + p->h->options.lifetime_us);
    return true;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Which accounts and windows are concerned, each once. */
static bool lock_args(struct placing *p, struct pg_fields *accounts, struct pg_fields *windows)
{
    size_t account_count = 0;
    size_t window_count = 0;
    size_t most = 0;
    for (size_t i = 0; i < p->count; i++)
        most += p->item[i].gate.match_count;
    int64_t *account = arena_alloc(&p->h->arena, p->count * sizeof *account);
    int64_t *window = arena_alloc(&p->h->arena, most * sizeof *window + 1);
    if (account == NULL || window == NULL)
        return false;
    for (size_t i = 0; i < p->count; i++) {
        const struct gate_call *c = &p->item[i].gate;
        if (c->has_account)
            account[account_count++] = c->account;
        for (size_t k = 0; k < c->match_count; k++)
            window[window_count++] = c->window[k];
    }
    qsort(account, account_count, sizeof *account, by_number);
    qsort(window, window_count, sizeof *window, by_number);
    pg_put_i64_array(accounts, account, account_count);
    pg_put_i64_array(windows, window, window_count);
    return true;
}

/* The balances and windows as they stand, locked. A window that ended meanwhile: ERR_CONFLICT. */
static bool take_locked(struct placing *p, const struct pg_rows *balances, const struct pg_rows *windows,
                        struct err *err)
{
    p->balance_count = pg_rows_count(balances);
    p->window_count = pg_rows_count(windows);
    p->balance = arena_alloc(&p->h->arena, p->balance_count * sizeof *p->balance + 1);
    p->window = arena_alloc(&p->h->arena, p->window_count * sizeof *p->window + 1);
    if (p->balance == NULL || p->window == NULL)
        return full(err);
    for (size_t i = 0; i < p->balance_count; i++) {
        struct opt_i64 overdraft = pg_get_opt_i64(balances, i, 3);
        p->balance[i] = (struct balance_row){.account = pg_get_i64(balances, i, 0),
                                             .amount_nanos = pg_get_i64(balances, i, 1),
                                             .held_nanos = pg_get_i64(balances, i, 2),
                                             .is_checked = overdraft.has,
                                             .overdraft_nanos = overdraft.v};
    }
    for (size_t i = 0; i < p->window_count; i++) {
        p->window[i] = (struct window_row){.id = pg_get_i64(windows, i, 0),
                                           .hard = pg_get_bool(windows, i, 1),
                                           .now = {.budget_id = pg_get(windows, i, 2),
                                                   .scope = pg_get(windows, i, 3),
                                                   .value = pg_get(windows, i, 4),
                                                   .window_start = pg_get_time(windows, i, 5),
                                                   .window_end = pg_get_opt_time(windows, i, 6),
                                                   .limit_nanos = pg_get_opt_i64(windows, i, 7),
                                                   .spent_nanos = pg_get_i64(windows, i, 8),
                                                   .held_nanos = pg_get_i64(windows, i, 9)}};
        const struct opt_i64 *end = &p->window[i].now.window_end;
        if (end->has && end->v <= p->at)
            return err_set(err, ERR_CONFLICT, FATE_RETRY, "a window ended meanwhile");
    }
    return true;
}

static struct window_row *window_of(struct placing *p, int64_t id)
{
    return bsearch(&id, p->window, p->window_count, sizeof *p->window, by_number);
}

static struct balance_row *balance_of(struct placing *p, int64_t account)
{
    return bsearch(&account, p->balance, p->balance_count, sizeof *p->balance, by_number);
}

static int64_t amount_of(const struct gate_call *c, size_t match)
{
    return c->match[match].rule->billed ? c->billed_nanos : c->raw_nanos;
}

/* Limits are compared in 128 bits: nothing overflows into a yes. */
static bool blocks_window(const struct window_row *w, int64_t amount)
{
    const struct hold_block *b = &w->now;
    if ((int128)b->held_nanos + amount > INT64_MAX)
        return true;
    return w->hard && b->limit_nanos.has &&
           (b->limit_nanos.v == 0 ||
            (int128)b->spent_nanos + b->held_nanos + amount > (int128)b->limit_nanos.v);
}

static bool blocks_balance(const struct balance_row *b, int64_t amount)
{
    if ((int128)b->held_nanos + amount > INT64_MAX)
        return true;
    return b->is_checked && (int128)b->amount_nanos - b->held_nanos + b->overdraft_nanos < (int128)amount;
}

static void write_block(struct json_write *json, const struct hold_block *b)
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
    json_write_close(json, '}');
}

/* All that stands in its way. *blocked: something does, and item->blocking says what. */
static bool judge(struct placing *p, struct hold_item *item, bool *blocked, struct err *err)
{
    const struct gate_call *c = &item->gate;
    struct json_write json;
    *blocked = false;
    buffer_clear(&p->h->text);
    json_write_init(&json, &p->h->text);
    json_write_open(&json, '[');
    for (size_t i = 0; i < c->match_count; i++) {
        const struct window_row *w = window_of(p, c->window[i]);
        if (w == NULL || !blocks_window(w, amount_of(c, i)))
            continue;
        *blocked = true;
        write_block(&json, &w->now);
    }
    const struct balance_row *b = c->has_account ? balance_of(p, c->account) : NULL;
    if (b != NULL && blocks_balance(b, c->billed_nanos)) {
        *blocked = true;
        /* the balance as a budget: what may be spent, and nothing is */
        write_block(&json, &(struct hold_block){.limit_nanos = OPT_I64(b->amount_nanos),
                                                .held_nanos = b->held_nanos});
    }
    json_write_close(&json, ']');
    return (json_write_ok(&json) && arena_dup(&p->h->arena, buffer_view(&p->h->text), &item->blocking)) ||
           full(err);
}

static void take_in(struct placing *p, const struct gate_call *c)
{
    for (size_t i = 0; i < c->match_count; i++) {
        struct window_row *w = window_of(p, c->window[i]);
        if (w != NULL)
            w->now.held_nanos +=
                amount_of(c, i); /* the sum is made again in Postgres, which sees an overflow */
    }
    struct balance_row *b = c->has_account ? balance_of(p, c->account) : NULL;
    if (b != NULL)
        b->held_nanos += c->billed_nanos;
}

/* What stands for each call, our own row or an older one; none: its bill was first. Of one id twice in a
 * request the second is a repeat of the first. */
static void take_standing(struct placing *p, const struct pg_rows *standing)
{
    size_t row = 0;
    for (size_t i = 0; i < p->count; i++) {
        struct hold_item *item = p->order[i];
        struct uuid there = {{0}};
        for (; row < pg_rows_count(standing); row++) {
            there = pg_get_uuid(standing, row, 0);
            if (uuid_cmp(&there, &item->gate.call.call_id) >= 0)
                break;
        }
        bool found = row < pg_rows_count(standing) && uuid_cmp(&there, &item->gate.call.call_id) == 0;
        bool again = i > 0 && uuid_cmp(&item->gate.call.call_id, &p->order[i - 1]->gate.call.call_id) == 0;
        bool fresh = found && !again && pg_get_bool(standing, row, 4);
        bool billed = !found || pg_get_bool(standing, row, 5);
        item->is_repeat = !fresh;
        item->blocking = SV_NULL;
        item->admitted_at = found ? pg_get_time(standing, row, 2) : p->at;
        item->state = billed ? HOLD_SETTLED : HOLD_UNKNOWN;
        if (!billed && !fresh) {
            item->state = hold_state_of(pg_get(standing, row, 1));
            item->blocking = pg_get(standing, row, 3);
        }
    }
}

/* In the order of the request: who comes first is let through first. */
static bool decide(struct placing *p, struct err *err)
{
    for (size_t i = 0; i < p->count; i++) {
        struct hold_item *item = &p->item[i];
        bool blocked;
        if (item->is_repeat || item->state == HOLD_SETTLED)
            continue;
        if (!judge(p, item, &blocked, err))
            return false;
        item->state = blocked && !item->forced ? HOLD_REFUSED : HOLD_PLACED;
        if (item->state == HOLD_PLACED)
            take_in(p, &item->gate);
    }
    for (size_t i = 1; i < p->count; i++) {
        struct hold_item *item = p->order[i];
        const struct hold_item *first = p->order[i - 1];
        if (uuid_cmp(&item->gate.call.call_id, &first->gate.call.call_id) != 0)
            continue;
        item->state = first->state;
        item->blocking = first->blocking;
        item->admitted_at = first->admitted_at;
    }
    return true;
}

/* What the request adds: per item, sums are made in Postgres. */
struct additions {
    int64_t *account, *account_amount;
    size_t account_count;
    int64_t *window, *window_amount;
    size_t window_count;
    struct uuid *refused;
    struct strview *blocking;
    size_t refused_count;
    struct uuid *billed;
    size_t billed_count;
};

static bool add_up(struct placing *p, struct additions *x)
{
    struct arena *a = &p->h->arena;
    size_t most = 1;
    for (size_t i = 0; i < p->count; i++)
        most += p->item[i].gate.match_count;
    *x = (struct additions){.account = arena_alloc(a, p->count * sizeof(int64_t)),
                            .account_amount = arena_alloc(a, p->count * sizeof(int64_t)),
                            .window = arena_alloc(a, most * sizeof(int64_t)),
                            .window_amount = arena_alloc(a, most * sizeof(int64_t)),
                            .refused = arena_alloc(a, p->count * sizeof(struct uuid)),
                            .blocking = arena_alloc(a, p->count * sizeof(struct strview)),
                            .billed = arena_alloc(a, p->count * sizeof(struct uuid))};
    if (x->account == NULL || x->account_amount == NULL || x->window == NULL || x->window_amount == NULL ||
        x->refused == NULL || x->blocking == NULL || x->billed == NULL)
        return false;
    for (size_t i = 0; i < p->count; i++) {
        const struct hold_item *item = p->order[i];
        const struct gate_call *c = &item->gate;
        if (item->is_repeat)
            continue;
        if (item->state == HOLD_SETTLED)
            x->billed[x->billed_count++] = c->call.call_id;
        if (item->state == HOLD_REFUSED) {
            x->refused[x->refused_count] = c->call.call_id;
            x->blocking[x->refused_count++] = item->blocking;
        }
        if (item->state != HOLD_PLACED)
            continue;
        if (c->has_account) {
            x->account[x->account_count] = c->account;
            x->account_amount[x->account_count++] = c->billed_nanos;
        }
        for (size_t k = 0; k < c->match_count; k++) {
            x->window[x->window_count] = c->window[k];
            x->window_amount[x->window_count++] = amount_of(c, k);
        }
    }
    return true;
}

static bool write_request(struct placing *p, struct err *err)
{
    static const char refuse_sql[] =
        "UPDATE hold AS h SET state = 'refused', raw_nanos = 0, billed_nanos = 0, windows_raw = '{}', "
        "windows_billed = "
        "'{}', blocking = x.blocking::jsonb FROM unnest($1::uuid[], $2::text[]) AS x (call_id, blocking)"
        " WHERE h.call_id = x.call_id";
    static const char billed_sql[] = "DELETE FROM hold WHERE call_id = ANY ($1::uuid[])";
    static const char add_sql[] = "SELECT held_add($1, $2, $3, $4)";
    struct additions x;
    struct pg_fields args[3];
    struct pg_step steps[4];
    size_t count = 0;
    if (!add_up(p, &x))
        return full(err);
    for (size_t i = 0; i < 3; i++)
        pg_fields_init(&args[i]);
    if (x.refused_count > 0) {
        pg_put_uuid_array(&args[0], x.refused, x.refused_count);
        pg_put_text_array(&args[0], x.blocking, x.refused_count);
        steps[count++] = (struct pg_step){.sql = refuse_sql, .args = &args[0]};
    }
    if (x.billed_count > 0) {
        pg_put_uuid_array(&args[1], x.billed, x.billed_count);
        steps[count++] = (struct pg_step){.sql = billed_sql, .args = &args[1]};
    }
    if (x.account_count + x.window_count > 0) {
        pg_put_i64_array(&args[2], x.account, x.account_count);
        pg_put_i64_array(&args[2], x.account_amount, x.account_count);
        pg_put_i64_array(&args[2], x.window, x.window_count);
        pg_put_i64_array(&args[2], x.window_amount, x.window_count);
        steps[count++] = (struct pg_step){.sql = add_sql, .args = &args[2]};
    }
    steps[count++] = (struct pg_step){.sql = PG_COMMIT};
    bool ok = pg_session_run(p->h->options.pg, steps, count, err);
    pg_steps_free(steps, count);
    for (size_t i = 0; i < 3; i++)
        pg_fields_free(&args[i]);
    return ok;
}

/* The rows first, then whether the call is billed: a bill whose transaction was under way has deleted our row
 * by then, or will find it. Then the locks. */
static bool insert_and_lock(struct placing *p, struct err *err)
{
    static const char insert_sql[] =
        "INSERT INTO hold (call_id, state, forced, account, raw_nanos, billed_nanos, markup_ppm, windows_raw,"
        " windows_billed, admitted_at, expires_at) SELECT x.call_id, 'placed', x.forced <> 0, "
        "nullif(x.account, 0), x.raw,"
        " x.billed, x.markup, x.windows_raw::bigint[], x.windows_billed::bigint[], $9, $10 FROM "
        "unnest($1::uuid[],"
        " $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[]) AS x "
        "(call_id, forced,"
        " account, raw, billed, markup, windows_raw, windows_billed) ORDER BY x.call_id ON CONFLICT DO "
        "NOTHING";
    static const char standing_sql[] =
        "SELECT h.call_id, h.state, h.admitted_at, h.blocking::text, h.xmin = pg_current_xact_id()::xid,"
        " EXISTS (SELECT FROM call AS c WHERE c.call_id = h.call_id) FROM hold AS h WHERE h.call_id = ANY "
        "($1::uuid[])"
        " ORDER BY h.call_id FOR UPDATE OF h";
    static const char balance_sql[] =
        "SELECT b.account_id, b.amount_nanos, b.held_nanos, a.overdraft_limit_nanos FROM balance AS b JOIN "
        "account AS a ON"
        " a.id = b.account_id WHERE b.account_id = ANY ($1::bigint[]) ORDER BY b.account_id FOR UPDATE OF b";
    static const char window_sql[] = "SELECT w.id, b.hard, b.budget_id, r.scope, w.value, w.window_start, "
                                     "nullif(w.window_end, 'infinity'),"
                                     " b.limit_nanos, w.spent_nanos, w.held_nanos FROM budget_window AS w "
                                     "JOIN budget AS b ON b.id = w.budget JOIN"
                                     " budget_revision AS r ON r.budget = w.budget AND r.revision = "
                                     "w.revision WHERE w.id = ANY ($1::bigint[])"
                                     " ORDER BY w.id FOR UPDATE OF w";
    struct uuid *id = arena_alloc(&p->h->arena, p->count * sizeof *id);
    struct pg_fields args[4];
    for (size_t i = 0; i < 4; i++)
        pg_fields_init(&args[i]);
    bool ok = (id != NULL && insert_args(p, &args[0]) && lock_args(p, &args[2], &args[3])) || full(err);
    for (size_t i = 0; ok && i < p->count; i++)
        id[i] = p->order[i]->gate.call.call_id;
    if (ok)
        pg_put_uuid_array(&args[1], id, p->count);
    struct pg_step steps[] = {{.sql = insert_sql, .args = &args[0]},
                              {.sql = standing_sql, .args = &args[1]},
                              {.sql = balance_sql, .args = &args[2]},
                              {.sql = window_sql, .args = &args[3]}};
    ok = ok && pg_session_run(p->h->options.pg, steps, 4, err);
    if (ok) {
        take_standing(p, steps[1].rows);
        ok = take_locked(p, steps[2].rows, steps[3].rows, err);
    }
    for (size_t i = 0; i < 3; i++) {
        p->rows[i] = steps[i + 1].rows;
        steps[i + 1].rows = NULL;
    }
    pg_steps_free(steps, 4);
    for (size_t i = 0; i < 4; i++)
        pg_fields_free(&args[i]);
    return ok;
}

static void placing_end(struct placing *p)
{
    for (size_t i = 0; i < 3; i++) {
        pg_rows_free(p->rows[i]);
        p->rows[i] = NULL;
    }
}

/* The answers' texts leave the results they stand in. */
static bool keep_texts(struct placing *p, struct err *err)
{
    for (size_t i = 0; i < p->count; i++)
        if (!sv_is_null(p->item[i].blocking) &&
            !arena_dup(&p->h->arena, p->item[i].blocking, &p->item[i].blocking))
            return full(err);
    return true;
}

static void count_answers(const struct placing *p)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct hold_item *item = &p->item[i];
        metric_add(item->is_repeat               ? p->h->repeats
                   : item->state == HOLD_REFUSED ? p->h->refused
                                                 : p->h->placed,
                   1);
        metric_add(p->h->unpriced, item->state == HOLD_PLACED && !item->gate.is_priced ? 1 : 0);
    }
}

static bool try_place(struct placing *p, struct err *err)
{
    struct gate_wanted wanted = {.item = NULL};
    struct pg_session *pg = p->h->options.pg;
    arena_reset(&p->h->arena);
    p->order = arena_alloc(&p->h->arena, p->count * sizeof(struct hold_item *));
    if (p->order == NULL)
        return full(err);
    for (size_t i = 0; i < p->count; i++)
        p->order[i] = &p->item[i];
    qsort((void *)p->order, p->count, sizeof(struct hold_item *), by_call);
    if (!open_request(p, &wanted, err))
        return false;
    if (wanted.count > 0) {
        pg_session_rollback(pg);
        if (!window_map_open(gate_windows(p->h->options.gate), pg, wanted.item, wanted.count, err))
            return false;
        return err_set(err, ERR_CONFLICT, FATE_RETRY, "windows were opened first");
    }
    return insert_and_lock(p, err) && decide(p, err) && write_request(p, err) && keep_texts(p, err);
}

bool hold_place(struct hold *h, struct hold_item *items, size_t count, struct err *err)
{
    bool ok = false;
    if (count == 0)
        return true;
    for (int tries = 1; !ok; tries++) {
        struct placing p = {.h = h, .item = items, .count = count};
        err_clear(err);
        ok = pg_session_ready(h->options.pg, err) &&
             (gate_version(h->options.gate) != 0 || gate_refresh(h->options.gate, h->options.pg, err)) &&
             try_place(&p, err);
        if (ok)
            count_answers(&p);
        placing_end(&p);
        if (ok)
            break;
        pg_session_rollback(h->options.pg);
        if (err->code != ERR_CONFLICT || tries == TRIES)
            return false;
        if (p.window_count > 0) /* one of those that were locked was over */
            window_map_clear(gate_windows(h->options.gate));
    }
    return true;
}
