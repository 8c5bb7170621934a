/*
 * pg_session_rows: a result's values, binary as they came.
 */
#include "pg_session_rows.h"

#include "pg_session.h"
#include <assert.h>
#include <stdlib.h>

size_t pg_rows_count(const struct pg_rows *r)
{
    return r == NULL ? 0 : (size_t)PQntuples(r->result);
}

int64_t pg_rows_affected(const struct pg_rows *r)
{
    int64_t n = 0;
    return r != NULL && sv_to_i64(sv_of(PQcmdTuples(r->result)), &n) ? n : 0;
}

void pg_rows_free(struct pg_rows *r)
{
    if (r == NULL)
        return;
    PQclear(r->result);
    free(r);
}

bool pg_is_null(const struct pg_rows *r, size_t row, int col)
{
    return PQgetisnull(r->result, (int)row, col) != 0;
}

struct strview pg_get(const struct pg_rows *r, size_t row, int col)
{
    assert(row < pg_rows_count(r) && col < PQnfields(r->result));
    if (pg_is_null(r, row, col))
        return SV_NULL;
    return sv_of_bytes(PQgetvalue(r->result, (int)row, col), (size_t)PQgetlength(r->result, (int)row, col));
}

int64_t pg_get_i64(const struct pg_rows *r, size_t row, int col)
{
    return pg_get_opt_i64(r, row, col).v;
}

struct opt_i64 pg_get_opt_i64(const struct pg_rows *r, size_t row, int col)
{
    struct strview v = pg_get(r, row, col);
    return sv_is_null(v) ? (struct opt_i64){0} : OPT_I64(pg_value_i64(v));
}

bool pg_get_bool(const struct pg_rows *r, size_t row, int col)
{
    return pg_value_bool(pg_get(r, row, col));
}

int64_t pg_get_time(const struct pg_rows *r, size_t row, int col)
{
    return pg_get_opt_time(r, row, col).v;
}

struct opt_i64 pg_get_opt_time(const struct pg_rows *r, size_t row, int col)
{
    struct strview v = pg_get(r, row, col);
    return sv_is_null(v) ? (struct opt_i64){0} : OPT_I64(pg_value_time(v));
}

struct uuid pg_get_uuid(const struct pg_rows *r, size_t row, int col)
{
    return pg_value_uuid(pg_get(r, row, col));
}

struct strview pg_get_json(const struct pg_rows *r, size_t row, int col)
{
    return pg_value_json(pg_get(r, row, col));
}

struct pg_array pg_get_array(const struct pg_rows *r, size_t row, int col)
{
    return pg_value_array(pg_get(r, row, col));
}
