/*
 * hold_place: the clock and what each call is; its row, and what stands; the locks; the decisions; what they
 * change. A window that is not known, or is over when it is locked: all of it again.
 */
#include "hold_inside.h"

#include "base/clock.h"
#include "hold_judge.h"
#include "hold_row.h"
#include "pg_query.h"

#include <stdlib.h>
#include <string.h>

#define TRIES          20
#define HURRY_US       US_PER_SECOND /* who waits keeps all that it has locked already from others meanwhile */
#define HURRY_SQL      "SET LOCAL lock_timeout = '25ms'" /* longer than others' transactions as a rule */
#define FORCED_BACK_US (24LL * 3600 * US_PER_SECOND) /* how long ago a forced call may have been admitted */

/* One request under way. */
struct placing {
    struct hold *h;
    struct hold_item *item;
    size_t count;
    int64_t at;
    struct hold_item **order;         /* by call_id; of one id the first in the request first */
    const struct hold_item **refused; /* beside item; NULL: not before its windows are there */
    struct pg_rows *rows[3];          /* texts of windows and answers point into them */
    struct hold_judge judge;
    bool hurries; /* somebody had a row for long a moment ago: nothing is waited for as long again */
    bool skips;   /* .. and somebody still has one: no balance and no window is waited for */
    bool anew;    /* all calls are taken for new: one that is not is a conflict */
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

/* Of a forced call when it was let through, as far as that can be true. */
static int64_t admission_of(const struct placing *p, const struct hold_item *item)
{
    const struct opt_i64 *then = &item->forced_at;
    return item->forced && then->has && then->v <= p->at && then->v >= p->at - FORCED_BACK_US ? then->v
                                                                                              : p->at;
}

/* BEGIN, the clock, the configuration, and every call resolved. */
static bool open_request(struct placing *p, struct err *err)
{
    bool ok = hold_clock(p->h, true, &p->at, err);
    for (size_t i = 0; ok && i < p->count; i++) {
        struct hold_item *item = &p->item[i];
        item->is_revived = false;
        ok = gate_resolve(p->h->options.gate, &item->gate, admission_of(p, item), &p->h->arena, err);
    }
    return ok;
}

static size_t unknown_windows(const struct gate_call *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->match_count; i++)
        n += c->window[i] == 0 ? 1 : 0;
    return n;
}

/* Nothing is opened for a call that is refused anyway: it would use up values of an `each`, and time. What is
 * refused by what stands now is refused; it is left without windows. */
static bool refuse_first(struct placing *p, struct err *err)
{
    size_t count = 0;
    struct hold_item *look = arena_alloc(&p->h->arena, p->count * sizeof *look);
    size_t *index = arena_alloc(&p->h->arena, p->count * sizeof *index);
    p->refused = arena_alloc(&p->h->arena, p->count * sizeof(struct hold_item *));
    if (look == NULL || index == NULL || p->refused == NULL)
        return full(err);
    for (size_t i = 0; i < p->count; i++) {
        p->refused[i] = NULL;
        if (p->item[i].forced || unknown_windows(&p->item[i].gate) == 0)
            continue;
        look[count] = p->item[i];
        index[count++] = i;
    }
    if (count > 0 && !hold_look(p->h, look, count, p->at, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (look[i].state != HOLD_REFUSED)
            continue;
        p->refused[index[i]] = &look[i];
        p->item[index[i]].gate.match_count = 0;
    }
    return true;
}

/* Windows that no ledger, or not this one, has seen yet are opened outside: ERR_CONFLICT, all of it again. */
static bool open_windows(struct placing *p, struct err *err)
{
    struct window_wanted *wanted;
    size_t count = 0;
    size_t most = 0;
    for (size_t i = 0; i < p->count; i++)
        most += unknown_windows(&p->item[i].gate);
    if (most == 0)
        return true;
    if (!refuse_first(p, err))
        return false;
    wanted = arena_alloc(&p->h->arena, most * sizeof *wanted);
    if (wanted == NULL)
        return full(err);
    for (size_t i = 0; i < p->count; i++) {
        const struct gate_call *c = &p->item[i].gate;
        for (size_t k = 0; k < c->match_count; k++)
            if (c->window[k] == 0)
                wanted[count++] = (struct window_wanted){c->match[k], c->call.admitted_at};
    }
    if (count == 0)
        return true;
    pg_session_rollback(p->h->options.pg);
    return window_map_open(gate_windows(p->h->options.gate), p->h->options.pg, wanted, count, err) &&
           err_set(err, ERR_CONFLICT, FATE_RETRY, "windows were opened first");
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

/* What stands for a call is answered, unless that is our own row, or a refusal that came too late. */
static void take_row(struct hold_item *item, const struct pg_rows *standing, size_t row, bool again)
{
    bool fresh = !again && pg_get_bool(standing, row, 4);
    bool known = pg_get_bool(standing, row, 5);
    enum hold_state state = hold_state_of(pg_get(standing, row, 1));
    item->is_revived = item->forced && !again && !known && state == HOLD_REFUSED;
    if (fresh || item->is_revived) {
        item->state = known ? HOLD_SETTLED : HOLD_UNKNOWN;
        return;
    }
    item->is_repeat = true;
    item->state = known ? HOLD_SETTLED : state;
    item->admitted_at = pg_get_time(standing, row, 2);
    item->priced = pg_get_opt_i64(standing, row, 6);
    item->blocking = pg_get(standing, row, 3);
    item->warnings = pg_get(standing, row, 7);
}

static void item_reset(struct hold_item *item, bool is_repeat, enum hold_state state)
{
    item->is_repeat = is_repeat;
    item->is_revived = false;
    item->state = state;
    item->admitted_at = item->gate.call.admitted_at;
    item->priced = (struct opt_i64){.has = false};
    item->blocking = item->warnings = SV_NULL;
}

/* All rows are our own; those of calls that are billed go again. */
static void take_new(struct placing *p, const struct pg_rows *billed)
{
    size_t row = 0;
    for (size_t i = 0; i < p->count; i++) {
        struct hold_item *item = p->order[i];
        struct uuid there = row < pg_rows_count(billed) ? pg_get_uuid(billed, row, 0) : (struct uuid){{0}};
        bool known = row < pg_rows_count(billed) && uuid_cmp(&there, &item->gate.call.call_id) == 0;
        item_reset(item, false, known ? HOLD_SETTLED : HOLD_UNKNOWN);
        row += known ? 1 : 0;
    }
}

/* Of all calls, our own rows or older ones; none: its bill was first. Of one id twice in a request the second
 * is a repeat of the first. */
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
        item_reset(item, !found, HOLD_SETTLED);
        if (found)
            take_row(item, standing, row, again);
    }
}

/* A window that ended meanwhile: ERR_CONFLICT. */
static bool check_windows(struct placing *p, struct err *err)
{
    for (size_t i = 0; i < p->count; i++)
        if (!p->item[i].is_repeat && !hold_judge_is_open(&p->judge, &p->item[i].gate))
            return err_set(err, ERR_CONFLICT, FATE_RETRY, "a window ended meanwhile");
    return true;
}

/* In the order of the request: who comes first is let through first. */
static bool decide(struct placing *p, struct err *err)
{
    for (size_t i = 0; i < p->count; i++) {
        struct hold_item *item = &p->item[i];
        const struct hold_item *refused = p->refused == NULL ? NULL : p->refused[i];
        bool blocked = refused != NULL;
        if (item->is_repeat || item->state != HOLD_UNKNOWN)
            continue;
        if (blocked) {
            item->blocking = refused->blocking;
            item->warnings = refused->warnings;
        } else if (!hold_judge_call(&p->judge, item, &blocked, err)) {
            return false;
        }
        item->priced = OPT_I64(item->gate.is_priced ? 1 : 0);
        item->state = blocked && !item->forced ? HOLD_REFUSED : HOLD_PLACED;
        if (item->state == HOLD_PLACED)
            hold_judge_take_in(&p->judge, &item->gate);
    }
    for (size_t i = 1; i < p->count; i++) {
        struct hold_item *item = p->order[i];
        const struct hold_item *first = p->order[i - 1];
        if (uuid_cmp(&item->gate.call.call_id, &first->gate.call.call_id) != 0)
            continue;
        item->state = first->state;
        item->admitted_at = first->admitted_at;
        item->priced = first->priced;
        item->blocking = first->blocking;
        item->warnings = first->warnings;
    }
    return true;
}

/* What the request changes. */
struct additions {
    struct hold_sums accounts;
    struct hold_sums windows;
    struct uuid *noted; /* refused, or let through although something was in the way */
    int32_t *refused;
    struct strview *blocking;
    struct strview *warnings;
    size_t noted_count;
    size_t revived_count;
    struct uuid *undone; /* whose rows go again */
    size_t undone_count;
};

static bool says_something(struct strview blocks)
{
    return !sv_is_empty(blocks) && !sv_eq(blocks, SV_LIT("[]"));
}

static bool add_up(struct placing *p, struct additions *x, struct err *err)
{
    struct arena *a = &p->h->arena;
    *x = (struct additions){.noted = arena_alloc(a, p->count * sizeof(struct uuid)),
                            .refused = arena_alloc(a, p->count * sizeof(int32_t)),
                            .blocking = arena_alloc(a, p->count * sizeof(struct strview)),
                            .warnings = arena_alloc(a, p->count * sizeof(struct strview)),
                            .undone = arena_alloc(a, p->count * sizeof(struct uuid))};
    if (x->noted == NULL || x->refused == NULL || x->blocking == NULL || x->warnings == NULL ||
        x->undone == NULL)
        return full(err);
    for (size_t i = 0; i < p->count; i++) {
        const struct hold_item *item = p->order[i];
        const struct uuid *id = &item->gate.call.call_id;
        if (item->is_repeat)
            continue;
        if (item->state == HOLD_SETTLED || item->state == HOLD_BUSY)
            x->undone[x->undone_count++] = *id;
        x->revived_count += item->is_revived ? 1 : 0;
        if (item->state == HOLD_REFUSED || says_something(item->blocking) || says_something(item->warnings)) {
            x->noted[x->noted_count] = *id;
            x->refused[x->noted_count] = item->state == HOLD_REFUSED ? 1 : 0;
            x->blocking[x->noted_count] = item->blocking;
            x->warnings[x->noted_count++] = item->warnings;
        }
    }
    return hold_judge_sums(&p->judge, &x->accounts, &x->windows, err);
}

static bool write_request(struct placing *p, struct err *err)
{
    static const char revive_sql[] =
        "UPDATE hold AS h SET state = 'placed', forced = true, priced = x.priced <> 0,"
        " account = nullif(x.account, 0), raw_nanos = x.raw, billed_nanos = x.billed, markup_ppm = x.markup,"
        " windows_raw = " HOLD_ROW_WINDOWS_RAW ", windows_billed = " HOLD_ROW_WINDOWS_BILLED ","
        " admitted_at = x.admitted_at, expires_at = " HOLD_ROW_EXPIRES_AT
        ", changed_at = clock_timestamp(), blocking = NULL,"
        " warnings = NULL FROM " HOLD_ROW_SQL " WHERE h.call_id = x.call_id";
    static const char note_sql[] = "SELECT hold_note($1, $2, $3, $4)";
    static const char undo_sql[] = "DELETE FROM hold WHERE call_id = ANY ($1::uuid[])";
    /* all of these rows are locked */
    static const char balance_sql[] =
        "UPDATE balance AS b SET held_nanos = b.held_nanos + x.nanos"
        " FROM unnest($1::bigint[], $2::bigint[]) AS x (id, nanos) WHERE b.account_id = x.id";
    static const char window_sql[] =
        "WITH held AS (UPDATE budget_window AS w SET held_nanos = w.held_nanos + x.nanos,"
        " version = w.version + 1 FROM unnest($1::bigint[], $2::bigint[]) AS x (id, nanos) WHERE w.id = x.id"
        " RETURNING w.id) INSERT INTO outbox (windows) SELECT array_agg(id) FROM held";
    enum { REVIVE, NOTE, UNDO, BALANCE, WINDOW, COMMIT, STEPS };
    struct additions x;
    struct pg_fields args[STEPS];
    struct pg_step steps[STEPS];
    size_t count = 0;
    if (!add_up(p, &x, err))
        return false;
    for (size_t i = 0; i < STEPS; i++)
        pg_fields_init(&args[i]);
    bool ok = true;
    if (x.revived_count > 0) {
        ok = hold_row_args(p->h, p->order, p->count, true, p->at, &args[REVIVE]) || full(err);
        steps[count++] = (struct pg_step){.sql = revive_sql, .args = &args[REVIVE]};
    }
    if (x.noted_count > 0) {
        pg_put_uuid_array(&args[NOTE], x.noted, x.noted_count);
        pg_put_i32_array(&args[NOTE], x.refused, x.noted_count);
        pg_put_text_array(&args[NOTE], x.blocking, x.noted_count);
        pg_put_text_array(&args[NOTE], x.warnings, x.noted_count);
        steps[count++] = (struct pg_step){.sql = note_sql, .args = &args[NOTE]};
    }
    if (x.undone_count > 0) {
        pg_put_uuid_array(&args[UNDO], x.undone, x.undone_count);
        steps[count++] = (struct pg_step){.sql = undo_sql, .args = &args[UNDO]};
    }
    if (x.accounts.count > 0) {
        pg_put_i64_array(&args[BALANCE], x.accounts.id, x.accounts.count);
        pg_put_i64_array(&args[BALANCE], x.accounts.nanos, x.accounts.count);
        steps[count++] = (struct pg_step){.sql = balance_sql, .args = &args[BALANCE]};
    }
    if (x.windows.count > 0) {
        pg_put_i64_array(&args[WINDOW], x.windows.id, x.windows.count);
        pg_put_i64_array(&args[WINDOW], x.windows.nanos, x.windows.count);
        steps[count++] = (struct pg_step){.sql = window_sql, .args = &args[WINDOW]};
    }
    steps[count++] = (struct pg_step){.sql = PG_COMMIT};
    if (ok) {
        ok = pg_session_run(p->h->options.pg, steps, count, err);
        pg_steps_free(steps, count);
    }
    for (size_t i = 0; i < STEPS; i++)
        pg_fields_free(&args[i]);
    return ok;
}

#define BALANCE_SQL HOLD_JUDGE_BALANCE_SQL " FOR UPDATE OF b"
#define SKIP_LOCKED " SKIP LOCKED"
#define WINDOW_SQL                                                                                           \
    "SELECT w.id, b.hard, b.budget_id, r.scope, w.value, w.window_start, nullif(w.window_end, 'infinity'),"  \
    " b.limit_nanos, w.spent_nanos, w.held_nanos FROM budget_window AS w JOIN budget AS b ON b.id = "        \
    "w.budget"                                                                                               \
    " JOIN budget_revision AS r ON r.budget = w.budget AND r.revision = w.revision"                          \
    " WHERE w.id = ANY ($1::bigint[]) ORDER BY w.id FOR UPDATE OF w"

/* What somebody else has would keep all the others waiting: those that want it are not decided. */
static void mark_busy(struct placing *p)
{
    for (size_t i = 0; p->skips && i < p->count; i++) {
        struct hold_item *item = &p->item[i];
        if (item->is_repeat || item->state == HOLD_SETTLED || hold_judge_is_whole(&p->judge, &item->gate))
            continue;
        item->state = HOLD_BUSY;
        item->is_repeat = item->is_revived; /* its row stays as it was; a new one goes */
        item->is_revived = false;
    }
}

#define INSERT_SQL                                                                                           \
    "INSERT INTO hold (call_id, state, forced, priced, account, raw_nanos, billed_nanos, markup_ppm,"        \
    " windows_raw, windows_billed, admitted_at, expires_at) SELECT x.call_id, 'placed', x.forced <> 0,"      \
    " x.priced <> 0, nullif(x.account, 0), x.raw, x.billed, x.markup, " HOLD_ROW_WINDOWS_RAW                 \
    ", " HOLD_ROW_WINDOWS_BILLED ", x.admitted_at, " HOLD_ROW_EXPIRES_AT " FROM " HOLD_ROW_SQL

/* The rows first, then whether the call is billed: a bill whose transaction was under way has deleted our row
 * by then, or will find it. Then the locks. */
static bool insert_and_lock(struct placing *p, struct err *err)
{
    static const char anew_sql[] = INSERT_SQL;
    static const char insert_sql[] = INSERT_SQL " ON CONFLICT DO NOTHING";
    static const char billed_sql[] = "SELECT c.call_id FROM call AS c WHERE c.call_id = ANY ($1::uuid[])"
                                     " AND " HOLD_SETTLED_SQL " ORDER BY c.call_id";
    static const char standing_sql[] =
        "SELECT h.call_id, h.state, h.admitted_at, h.blocking::text, h.xmin = pg_current_xact_id()::xid,"
        " c.call_id IS NOT NULL, h.priced::int, h.warnings::text"
        " FROM hold AS h LEFT JOIN call AS c ON c.call_id = h.call_id AND " HOLD_SETTLED_SQL
        " WHERE h.call_id = ANY ($1::uuid[])"
        " ORDER BY h.call_id FOR UPDATE OF h";
    struct uuid *id = arena_alloc(&p->h->arena, p->count * sizeof *id);
    struct pg_fields args[4];
    for (size_t i = 0; i < 4; i++)
        pg_fields_init(&args[i]);
    bool ok = (id != NULL && hold_row_args(p->h, p->order, p->count, false, p->at, &args[0]) &&
               lock_args(p, &args[2], &args[3])) ||
              full(err);
    for (size_t i = 0; ok && i < p->count; i++)
        id[i] = p->order[i]->gate.call.call_id;
    if (ok)
        pg_put_uuid_array(&args[1], id, p->count);
    struct pg_step all[] = {{.sql = HURRY_SQL},
                            {.sql = p->anew ? anew_sql : insert_sql, .args = &args[0]},
                            {.sql = p->anew ? billed_sql : standing_sql, .args = &args[1]},
                            {.sql = p->skips ? BALANCE_SQL SKIP_LOCKED : BALANCE_SQL, .args = &args[2]},
                            {.sql = p->skips ? WINDOW_SQL SKIP_LOCKED : WINDOW_SQL, .args = &args[3]}};
    struct pg_step *steps = &all[1];
    ok = ok && pg_session_run(p->h->options.pg, p->hurries ? all : steps, p->hurries ? 5 : 4, err);
    if (ok) {
        if (p->anew)
            take_new(p, steps[1].rows);
        else
            take_standing(p, steps[1].rows);
        ok = hold_judge_take(&p->judge, steps[2].rows, steps[3].rows, err);
        if (ok)
            mark_busy(p);
        ok = ok && check_windows(p, err);
    }
    for (size_t i = 0; i < 3; i++) {
        p->rows[i] = steps[i + 1].rows;
        steps[i + 1].rows = NULL;
    }
    pg_steps_free(all, 5);
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

static bool keep(struct placing *p, struct strview *text)
{
    return sv_is_null(*text) || arena_dup(&p->h->arena, *text, text);
}

/* The answers' texts leave the results they stand in. */
static bool keep_texts(struct placing *p, struct err *err)
{
    for (size_t i = 0; i < p->count; i++)
        if (!keep(p, &p->item[i].blocking) || !keep(p, &p->item[i].warnings))
            return full(err);
    return true;
}

static void count_answers(const struct placing *p)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct hold_item *item = &p->item[i];
        metric_add(item->state == HOLD_BUSY      ? p->h->busy
                   : item->is_repeat             ? p->h->repeats
                   : item->state == HOLD_REFUSED ? p->h->refused
                   : item->forced                ? p->h->forced
                                                 : p->h->placed,
                   1);
        metric_add(p->h->unpriced, item->state == HOLD_PLACED && !item->gate.is_priced ? 1 : 0);
    }
}

/* Of one id twice the first decides for both: one that was let through behind its own question is forced. */
static void force_first(struct placing *p)
{
    for (size_t i = p->count; i-- > 1;) {
        const struct hold_item *later = p->order[i];
        struct hold_item *first = p->order[i - 1];
        if (!later->forced || first->forced ||
            uuid_cmp(&later->gate.call.call_id, &first->gate.call.call_id) != 0)
            continue;
        first->forced = true;
        first->forced_at = later->forced_at;
    }
}

static bool try_place(struct placing *p, struct err *err)
{
    arena_reset(&p->h->arena);
    p->order = arena_alloc(&p->h->arena, p->count * sizeof(struct hold_item *));
    if (p->order == NULL)
        return full(err);
    for (size_t i = 0; i < p->count; i++)
        p->order[i] = &p->item[i];
    qsort((void *)p->order, p->count, sizeof(struct hold_item *), by_call);
    force_first(p);
    return open_request(p, err) && open_windows(p, err) && insert_and_lock(p, err) && decide(p, err) &&
           write_request(p, err) && keep_texts(p, err);
}

bool hold_place(struct hold *h, struct hold_item *items, size_t count, struct err *err)
{
    bool ok = false;
    bool skips = false;
    int64_t at;
    if (count == 0) /* a probe */
        return hold_open(h, err) && hold_clock(h, true, &at, err);
    for (int tries = 1; !ok; tries++) {
        struct placing p = {.h = h,
                            .item = items,
                            .count = count,
                            .judge = {.arena = &h->arena, .text = &h->text},
                            .hurries = skips || clock_mono_us() < h->hurries_until_us,
                            .skips = skips,
                            .anew = tries == 1};
        err_clear(err);
        ok = hold_open(h, err) && try_place(&p, err);
        if (ok)
            count_answers(&p);
        placing_end(&p);
        if (ok)
            break;
        pg_session_rollback(h->options.pg);
        bool waited = err->code == ERR_TIMEOUT;
        if (waited) /* in vain for something else when it was not for one of those that are skipped */
            h->hurries_until_us = skips ? 0 : clock_mono_us() + HURRY_US;
        if (tries == TRIES || (err->code != ERR_CONFLICT && (!waited || skips)))
            return false;
        skips = skips || waited;
        if (p.judge.window_count > 0) /* one of those that were locked was over */
            window_map_clear(gate_windows(h->options.gate));
    }
    return true;
}
