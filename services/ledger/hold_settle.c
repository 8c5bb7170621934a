/*
 * hold_settle: a closed row where there is none, then those that there were go.
 */
#include "hold_settle.h"

#include <assert.h>

static const char delete_sql[] = "DELETE FROM hold AS h USING unnest($1::uuid[]) AS x (call_id) WHERE "
                                 "h.call_id = x.call_id RETURNING h.call_id,"
                                 " h.state IN ('placed', 'captured'), h.account, h.raw_nanos, "
                                 "h.billed_nanos, h.windows_raw, h.windows_billed";
static const char close_sql[] =
    "INSERT INTO hold (call_id, state, admitted_at, expires_at) SELECT x, 'settled', clock_timestamp(), "
    "clock_timestamp()"
    " FROM unnest($1::uuid[]) AS x ORDER BY x ON CONFLICT DO NOTHING RETURNING call_id";

static bool full(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_FATAL, "hold_settle: the arena is full");
}

static bool give_back(struct window_charge *charge, const struct pg_rows *rows, size_t row, int column,
                      int64_t amount, struct err *err)
{
    struct pg_array ids = pg_get_array(rows, row, column);
    struct strview item;
    while (pg_array_next(&ids, &item))
        if (!window_charge_add(
                charge, &(struct window_delta){.window = pg_value_i64(item), .held_nanos = -amount}, err))
            return false;
    return true;
}

static struct folded_call *call_of(struct batch_fold *f, const struct uuid *id)
{
    size_t low = 0;
    size_t high = f->call_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = uuid_cmp(&f->id[middle], id);
        if (order == 0)
            return &f->call[middle];
        *(order < 0 ? &low : &high) = order < 0 ? middle + 1 : middle;
    }
    return NULL;
}

/* Rows of delete_sql: found says which of the ids were among them. */
static bool take(struct hold_settle *s, struct batch_fold *f, struct window_charge *charge,
                 const struct pg_rows *rows, struct err *err)
{
    for (size_t i = 0; i < pg_rows_count(rows); i++) {
        struct uuid id = pg_get_uuid(rows, i, 0);
        struct folded_call *call = call_of(f, &id);
        assert(call != NULL);
        if (!pg_get_bool(rows, i, 1))
            continue;
        call->held = true;
        if (!pg_is_null(rows, i, 2))
            s->release[s->release_count++] = (struct release){pg_get_i64(rows, i, 2), pg_get_i64(rows, i, 4)};
        if (!give_back(charge, rows, i, 5, pg_get_i64(rows, i, 3), err) ||
            !give_back(charge, rows, i, 6, pg_get_i64(rows, i, 4), err))
            return false;
    }
    return true;
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

static bool drop(struct hold_settle *s, struct pg_session *pg, struct batch_fold *f,
                 struct window_charge *charge, const struct uuid *id, size_t count, struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = run(pg, delete_sql, id, count, &rows, err) && take(s, f, charge, rows, err);
    pg_rows_free(rows);
    return ok;
}

/* Leaves a closed row for every new call that has none. id: all that are to end; those that got one go. The
 * rows first and then the deletions, as everybody does it: who waits for a row of ours has locked none that
 * we want. */
static bool close_absent(struct pg_session *pg, struct batch_fold *f, struct arena *a, struct uuid *id,
                         size_t *count, struct err *err)
{
    struct uuid *fresh = arena_alloc(a, f->call_count * sizeof *fresh + 1);
    struct pg_rows *rows = NULL;
    size_t fresh_count = 0;
    size_t left = 0;
    if (fresh == NULL)
        return full(err);
    for (size_t i = 0; i < *count; i++)
        if (!call_of(f, &id[i])->existed)
            fresh[fresh_count++] = id[i];
    if (fresh_count == 0)
        return true;
    bool ok = run(pg, close_sql, fresh, fresh_count, &rows, err);
    size_t closed = ok ? pg_rows_count(rows) : 0;
    for (size_t i = 0, row = 0; ok && i < *count; i++) {
        struct uuid there = row < closed ? pg_get_uuid(rows, row, 0) : (struct uuid){{0}};
        if (row < closed && uuid_cmp(&there, &id[i]) == 0)
            row++;
        else
            id[left++] = id[i];
    }
    *count = left;
    pg_rows_free(rows);
    return ok;
}

bool hold_settle_run(struct hold_settle *s, struct pg_session *pg, struct batch_fold *f,
                     struct window_charge *charge, struct arena *a, struct err *err)
{
    struct uuid *id = arena_alloc(a, f->call_count * sizeof *id + 1);
    size_t count = 0;
    *s = (struct hold_settle){.release = arena_alloc(a, f->call_count * sizeof *s->release + 1)};
    if (id == NULL || s->release == NULL)
        return full(err);
    for (size_t i = 0; i < f->call_count; i++)
        if (f->call[i].gated && f->call[i].row.raw_nanos.has)
            id[count++] = f->id[i];
    return count == 0 || (close_absent(pg, f, a, id, &count, err) &&
                          (count == 0 || drop(s, pg, f, charge, id, count, err)));
}
