/*
 * call_row: each kind of column has a way out (put_..) and a way in (get_..).
 */
#include "call_row.h"

#include <assert.h>
#include <string.h>

struct row_reader {
    const struct pg_rows *rows;
    size_t row;
    int col;
    struct arena *arena;
    bool failed; /* the arena is full */
};

#define PUT_BYTES(f, m)       pg_put_bytes(f, sv_of_bytes(&(m), sizeof(m)))
#define PUT_I32(f, m)         pg_put_i32(f, m)
#define PUT_I64(f, m)         pg_put_i64(f, m)
#define PUT_BOOL(f, m)        pg_put_bool(f, m)
#define PUT_OPT_I32(f, m)     pg_put_opt_i32(f, m)
#define PUT_OPT_I64(f, m)     pg_put_opt_i64(f, m)
#define PUT_TIME(f, m)        pg_put_time(f, m)
#define PUT_OPT_TIME(f, m)    pg_put_opt_time(f, m)
#define PUT_TEXT(f, m)        pg_put_text(f, m)
#define PUT_TIMES(f, m)       pg_put_time_array(f, (m).utc_us, (m).count)
#define PUT_IDS(f, m)         pg_put_i64_array(f, (m).id, (m).count)
#define PUT_TAGS(f, m)        pg_put_text_array(f, (m).raw, (m).count)
#define PUT_TAG_ORIGINS(f, m) pg_put_i32_array(f, (m).origins, (m).count)
#define PUT_REDRIVE_ID(f, m)  pg_put_uuid(f, (m).has ? &(m).id : NULL)
#define PUT_REDRIVE_AT(f, m)  pg_put_opt_time(f, (struct opt_i64){.has = (m).has, .v = (m).at})

void call_row_put(const struct call_row *row, struct pg_fields *out)
{
    pg_put_uuid(out, &row->call_id);
#define PUT_COLUMN(name, kind, member) PUT_##kind(out, row->member);
    CALL_COLUMNS(PUT_COLUMN)
#undef PUT_COLUMN
}

static void get_bytes(struct row_reader *r, void *out, size_t len)
{
    struct strview v = pg_get(r->rows, r->row, r->col);
    assert(v.len == len); /* a rank of another length is another program's */
    memcpy(out, v.ptr, len);
}

static void get_times(struct row_reader *r, struct call_times *out)
{
    struct pg_array array = pg_get_array(r->rows, r->row, r->col);
    struct strview item;
    *out = (struct call_times){.utc_us = arena_alloc(r->arena, array.count * sizeof *out->utc_us + 1)};
    r->failed |= out->utc_us == NULL;
    while (!r->failed && pg_array_next(&array, &item))
        out->utc_us[out->count++] = pg_value_time(item);
}

static void get_ids(struct row_reader *r, struct call_ids *out)
{
    struct pg_array array = pg_get_array(r->rows, r->row, r->col);
    struct strview item;
    *out = (struct call_ids){.id = arena_alloc(r->arena, array.count * sizeof *out->id + 1)};
    r->failed |= out->id == NULL;
    while (!r->failed && pg_array_next(&array, &item))
        out->id[out->count++] = pg_value_i64(item);
}

static void get_tags(struct row_reader *r, struct call_tags *out)
{
    struct pg_array array = pg_get_array(r->rows, r->row, r->col);
    struct strview item;
    *out = (struct call_tags){.raw = arena_alloc(r->arena, array.count * sizeof *out->raw + 1)};
    r->failed |= out->raw == NULL;
    while (!r->failed && pg_array_next(&array, &item))
        out->raw[out->count++] = item;
}

static void get_tag_origins(struct row_reader *r, struct call_tags *out)
{
    struct pg_array array = pg_get_array(r->rows, r->row, r->col);
    struct strview item;
    assert(array.count == out->count);
    out->origins = arena_alloc(r->arena, array.count * sizeof *out->origins + 1);
    r->failed |= out->origins == NULL;
    for (size_t i = 0; !r->failed && pg_array_next(&array, &item); i++)
        out->origins[i] = (int32_t)pg_value_i64(item);
}

static void get_redrive_at(struct row_reader *r, struct redrive *out)
{
    struct opt_i64 at = pg_get_opt_time(r->rows, r->row, r->col);
    out->has = at.has;
    out->at = at.v;
}

static void get_redrive_id(struct row_reader *r, struct redrive *out)
{
    if (!pg_is_null(r->rows, r->row, r->col))
        out->id = pg_get_uuid(r->rows, r->row, r->col);
}

#define GET(type, r)          pg_get_##type((r)->rows, (r)->row, (r)->col)
#define GET_BYTES(r, m)       get_bytes(r, &(m), sizeof(m))
#define GET_I32(r, m)         (m) = (int32_t)GET(i64, r)
#define GET_I64(r, m)         (m) = GET(i64, r)
#define GET_BOOL(r, m)        (m) = GET(bool, r)
#define GET_OPT_I32(r, m)     (m) = GET(opt_i64, r)
#define GET_OPT_I64(r, m)     (m) = GET(opt_i64, r)
#define GET_TIME(r, m)        (m) = GET(time, r)
#define GET_OPT_TIME(r, m)    (m) = GET(opt_time, r)
#define GET_TEXT(r, m)        (m) = pg_get((r)->rows, (r)->row, (r)->col)
#define GET_TIMES(r, m)       get_times(r, &(m))
#define GET_IDS(r, m)         get_ids(r, &(m))
#define GET_TAGS(r, m)        get_tags(r, &(m))
#define GET_TAG_ORIGINS(r, m) get_tag_origins(r, &(m))
#define GET_REDRIVE_ID(r, m)  get_redrive_id(r, &(m))
#define GET_REDRIVE_AT(r, m)  get_redrive_at(r, &(m))

bool call_row_get(const struct pg_rows *rows, size_t i, struct arena *a, struct call_row *out,
                  struct err *err)
{
    struct row_reader r = {.rows = rows, .row = i, .arena = a};
    *out = (struct call_row){.call_id = pg_get_uuid(rows, i, 0)};
#define GET_COLUMN(name, kind, member)                                                                       \
    r.col++;                                                                                                 \
    GET_##kind(&r, out->member);
    CALL_COLUMNS(GET_COLUMN)
#undef GET_COLUMN
    return !r.failed || err_set(err, ERR_MEMORY, FATE_FATAL, "call_row: the arena is full");
}

bool call_row_update_sql(struct buffer *out)
{
    static const char *const names[] = {
#define COLUMN_TEXT(name, kind, member) #name,
        CALL_COLUMNS(COLUMN_TEXT)
#undef COLUMN_TEXT
    };
    bool ok = buffer_printf(out, "UPDATE call SET ");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        ok = ok && buffer_printf(out, "%s%s = $%zu", i == 0 ? "" : ", ", names[i], i + 2);
    return ok && buffer_printf(out, " WHERE call_id = $1") && buffer_append_byte(out, '\0');
}
