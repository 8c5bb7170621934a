/*
 * hold_settle: closed rows where there are none, the locks, then those that there were go.
 */
#include "hold_settle.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define HOLD_FIELDS                                                                                          \
    "h.call_id, h.state IN ('placed', 'captured'), h.forced, h.account, h.raw_nanos, h.billed_nanos, "       \
    "h.windows_raw, h.windows_billed"
enum { CALL_ID, IS_OPEN, FORCED, ACCOUNT, RAW, BILLED, WINDOWS_RAW, WINDOWS_BILLED };

static const char close_sql[] =
    "INSERT INTO hold (call_id, state, admitted_at, expires_at) SELECT x.id, x.state, clock_timestamp(), "
    "clock_timestamp() FROM unnest($1::uuid[], $2::text[]) AS x (id, state) ORDER BY x.id "
    "ON CONFLICT DO NOTHING RETURNING call_id";
static const char lock_sql[] =
    "SELECT " HOLD_FIELDS " FROM hold AS h WHERE h.call_id = ANY ($1::uuid[]) ORDER BY h.call_id FOR UPDATE";
static const char delete_sql[] = "DELETE FROM hold AS h USING unnest($1::uuid[]) AS x (call_id)"
                                 " WHERE h.call_id = x.call_id RETURNING " HOLD_FIELDS;
/* Of those that were locked open, and no others: what they held has been given back. */
static const char void_sql[] =
    "UPDATE hold AS h SET state = 'voided', raw_nanos = 0, billed_nanos = 0, changed_at = clock_timestamp()"
    " WHERE h.call_id = ANY ($1::uuid[])";

/* The holds that end: of calls that are billed, and of calls whose record is parked. Both ascending. */
struct ending {
    struct hold_settle *s;
    struct batch_fold *f;
    struct window_charge *charge;
    struct arena *arena;
    struct uuid *billed;
    size_t billed_count;
    struct uuid *parked;
    size_t parked_count;
};

struct closing {
    struct uuid id;
    const char *state;
};

static bool full(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_FATAL, "hold_settle: the arena is full");
}

static int by_id(const void *a, const void *b)
{
    return uuid_cmp(a, b);
}

static struct folded_call *call_of(const struct batch_fold *f, const struct uuid *id)
{
    const struct uuid *found =
        f->call_count == 0 ? NULL : bsearch(id, f->id, f->call_count, sizeof *f->id, by_id);
    return found == NULL ? NULL : &f->call[found - f->id];
}

/* The windows of a hold; of its call, when that is billed, they are kept. */
static bool give_back(struct ending *e, struct call_ids *held, const struct pg_rows *rows, size_t row,
                      int column, int64_t amount, struct err *err)
{
    struct pg_array ids = pg_get_array(rows, row, column);
    struct strview item;
    while (pg_array_next(&ids, &item)) {
        struct window_delta d = {.window = pg_value_i64(item), .held_nanos = -amount};
        if (held != NULL)
            held->id[held->count++] = d.window;
        if (!window_charge_add(e->charge, &d, err))
            return false;
    }
    return true;
}

static size_t ids_of(const struct pg_rows *rows, size_t row, int column)
{
    struct pg_array ids = pg_get_array(rows, row, column);
    struct strview item;
    size_t n = 0;
    while (pg_array_next(&ids, &item))
        n++;
    return n;
}

/* Row of HOLD_FIELDS: what it holds goes back. call: whose it is, NULL: nobody bills it. */
static bool take(struct ending *e, struct folded_call *call, const struct pg_rows *rows, size_t row,
                 struct err *err)
{
    struct call_ids *held = NULL;
    if (!pg_get_bool(rows, row, IS_OPEN))
        return true;
    if (call != NULL) {
        size_t most = ids_of(rows, row, WINDOWS_RAW) + ids_of(rows, row, WINDOWS_BILLED);
        held = &call->held;
        *held = (struct call_ids){.id = arena_alloc(e->arena, most * sizeof(int64_t) + 1)};
        if (held->id == NULL)
            return full(err);
        call->forced = call->forced || pg_get_bool(rows, row, FORCED);
    }
    if (!pg_is_null(rows, row, ACCOUNT))
        e->s->release[e->s->release_count++] =
            (struct release){pg_get_i64(rows, row, ACCOUNT), pg_get_i64(rows, row, BILLED)};
    return give_back(e, held, rows, row, WINDOWS_RAW, pg_get_i64(rows, row, RAW), err) &&
           give_back(e, held, rows, row, WINDOWS_BILLED, pg_get_i64(rows, row, BILLED), err);
}

static bool run(struct pg_session *pg, const char *sql, const struct uuid *id, size_t count,
                struct pg_rows **rows, struct err *err)
{
    struct pg_fields args;
    pg_fields_init(&args);
    pg_put_uuid_array(&args, id, count);
    bool ok = pg_session_query(pg, sql, &args, rows, err);
    pg_fields_free(&args);
    return ok;
}

static bool drop_billed(struct ending *e, struct pg_session *pg, struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = e->billed_count == 0 || run(pg, delete_sql, e->billed, e->billed_count, &rows, err);
    for (size_t i = 0; ok && i < pg_rows_count(rows); i++) {
        struct uuid id = pg_get_uuid(rows, i, CALL_ID);
        struct folded_call *call = call_of(e->f, &id);
        assert(call != NULL);
        ok = take(e, call, rows, i, err);
    }
    pg_rows_free(rows);
    return ok;
}

/* Both kinds are locked at once and in order, whatever plan the statements behind it have. */
static bool lock_and_void(struct ending *e, struct pg_session *pg, struct err *err)
{
    struct pg_rows *rows = NULL;
    size_t count = e->billed_count + e->parked_count;
    struct uuid *both = arena_alloc(e->arena, count * sizeof *both + 1);
    if (both == NULL)
        return full(err);
    if (count == 0)
        return true;
    if (e->billed_count > 0)
        memcpy(both, e->billed, e->billed_count * sizeof *both);
    if (e->parked_count > 0)
        memcpy(both + e->billed_count, e->parked, e->parked_count * sizeof *both);
    bool ok = run(pg, lock_sql, both, count, &rows, err);
    size_t voided = 0; /* the places in `both` are read by now */
    for (size_t i = 0; ok && i < pg_rows_count(rows); i++) {
        struct uuid id = pg_get_uuid(rows, i, CALL_ID);
        if (!pg_get_bool(rows, i, IS_OPEN) ||
            bsearch(&id, e->parked, e->parked_count, sizeof id, by_id) == NULL)
            continue;
        both[voided++] = id;
        ok = take(e, NULL, rows, i, err);
    }
    pg_rows_free(rows);
    return ok && (voided == 0 || run(pg, void_sql, both, voided, NULL, err));
}

/* Leaves a closed row where there is none: for every new call that says it had one, its POST perhaps under
 * way, and for what is parked. Those billed that got one are done with. The rows first and then the locks, as
 * everybody does it: who waits for a row of ours has locked none that we want. */
static bool close_absent(struct ending *e, struct pg_session *pg, struct err *err)
{
    size_t most = e->billed_count + e->parked_count;
    struct closing *closing = arena_alloc(e->arena, most * sizeof *closing + 1);
    struct uuid *id = arena_alloc(e->arena, most * sizeof *id + 1);
    struct strview *state = arena_alloc(e->arena, most * sizeof *state + 1);
    struct pg_rows *rows = NULL;
    struct pg_fields args;
    size_t count = 0;
    size_t left = 0;
    if (closing == NULL || id == NULL || state == NULL)
        return full(err);
    for (size_t i = 0; i < e->billed_count; i++) {
        const struct folded_call *call = call_of(e->f, &e->billed[i]);
        if (call->gated && folded_call_settles(call))
            closing[count++] = (struct closing){e->billed[i], "settled"};
    }
    for (size_t i = 0; i < e->parked_count; i++)
        closing[count++] = (struct closing){e->parked[i], "voided"};
    if (count == 0)
        return true;
    qsort(closing, count, sizeof *closing, by_id); /* its first member is the id */
    for (size_t i = 0; i < count; i++) {
        id[i] = closing[i].id;
        state[i] = sv_of(closing[i].state);
    }
    pg_fields_init(&args);
    pg_put_uuid_array(&args, id, count);
    pg_put_text_array(&args, state, count);
    bool ok = pg_session_query(pg, close_sql, &args, &rows, err);
    size_t closed = ok ? pg_rows_count(rows) : 0;
    for (size_t i = 0, row = 0; ok && i < e->billed_count; i++) {
        struct uuid there = {{0}};
        for (; row < closed; row++) {
            there = pg_get_uuid(rows, row, 0);
            if (uuid_cmp(&there, &e->billed[i]) >= 0)
                break;
        }
        if (row == closed || uuid_cmp(&there, &e->billed[i]) != 0)
            e->billed[left++] = e->billed[i];
    }
    if (ok)
        e->billed_count = left;
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

/* Whatever its record says of a hold; a hold that came later, as well. */
static bool is_billed(const struct folded_call *call)
{
    return folded_call_settles(call) || (call->existed && call->gated && call->row.raw_nanos.has);
}

static void park(struct ending *e, const struct uuid *id)
{
    const struct folded_call *call = call_of(e->f, id);
    if (call == NULL || !is_billed(call))
        e->parked[e->parked_count++] = *id;
}

/* The calls of records that say a hold was placed and can never be applied, or that were malformed already:
 * it would stand for ever. */
static void find_parked(struct ending *e)
{
    size_t kept = 0;
    for (size_t i = 0; i < e->f->record_count; i++) {
        const struct bill_record *r = &e->f->record[i];
        if (r->state == RECORD_ENDS)
            park(e, &r->call_id);
    }
    for (size_t i = 0; i < e->f->letter_count; i++) {
        const struct spend_call *told = e->f->letter[i].record->fold.call;
        if (e->f->letter[i].notice || told == NULL || (told->gate != GATE_HELD && told->gate != GATE_FORCED))
            continue;
        park(e, &told->call_id);
    }
    if (e->parked_count > 1)
        qsort(e->parked, e->parked_count, sizeof *e->parked, by_id);
    for (size_t i = 0; i < e->parked_count; i++)
        if (kept == 0 || uuid_cmp(&e->parked[kept - 1], &e->parked[i]) != 0)
            e->parked[kept++] = e->parked[i];
    e->parked_count = kept;
}

bool hold_settle_run(struct hold_settle *s, struct pg_session *pg, struct batch_fold *f,
                     struct window_charge *charge, struct arena *a, struct err *err)
{
    struct ending e = {.s = s,
                       .f = f,
                       .charge = charge,
                       .arena = a,
                       .billed = arena_alloc(a, f->call_count * sizeof(struct uuid) + 1),
                       .parked =
                           arena_alloc(a, (f->letter_count + f->record_count) * sizeof(struct uuid) + 1)};
    *s = (struct hold_settle){
        .release =
            arena_alloc(a, (f->call_count + f->letter_count + f->record_count) * sizeof *s->release + 1)};
    if (e.billed == NULL || e.parked == NULL || s->release == NULL)
        return full(err);
    for (size_t i = 0; i < f->call_count; i++)
        if (is_billed(&f->call[i]))
            e.billed[e.billed_count++] = f->id[i];
    find_parked(&e);
    return close_absent(&e, pg, err) && lock_and_void(&e, pg, err) && drop_billed(&e, pg, err);
}
