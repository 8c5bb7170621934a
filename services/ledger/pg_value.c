/*
 * pg_value: Postgres's binary formats, big endian.
 */
#include "pg_value.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#define OID_BIGINT       20
#define OID_INT          23
#define OID_TEXT         25
#define OID_TIMESTAMPTZ  1184
#define OID_UUID         2950
#define JSONB_VERSION    1
#define ARRAY_HEAD_BYTES 20 /* dimensions, flags, element type, length, lower bound */

void pg_fields_init(struct pg_fields *f)
{
    *f = (struct pg_fields){0};
    buffer_init(&f->bytes, PG_FIELDS_BYTES);
}

void pg_fields_free(struct pg_fields *f)
{
    buffer_free(&f->bytes);
}

void pg_fields_clear(struct pg_fields *f)
{
    buffer_clear(&f->bytes);
    f->count = 0;
    f->failed = false;
}

static void put_raw(struct pg_fields *f, const void *ptr, size_t len)
{
    if (!f->failed && !buffer_append(&f->bytes, ptr, len))
        f->failed = true;
}

static void put_be32(struct pg_fields *f, uint32_t v)
{
    uint32_t be = htobe32(v);
    put_raw(f, &be, sizeof be);
}

static void put_be64(struct pg_fields *f, uint64_t v)
{
    uint64_t be = htobe64(v);
    put_raw(f, &be, sizeof be);
}

static void put_item(struct pg_fields *f, struct strview v)
{
    if (sv_is_null(v)) {
        put_be32(f, UINT32_MAX);
        return;
    }
    put_be32(f, (uint32_t)v.len);
    put_raw(f, v.ptr, v.len);
}

void pg_put_null(struct pg_fields *f)
{
    f->count++;
    put_be32(f, UINT32_MAX);
}

void pg_put_bool(struct pg_fields *f, bool v)
{
    char byte = v ? 1 : 0;
    f->count++;
    put_item(f, (struct strview){&byte, 1});
}

void pg_put_i32(struct pg_fields *f, int32_t v)
{
    f->count++;
    put_be32(f, sizeof v);
    put_be32(f, (uint32_t)v);
}

void pg_put_i64(struct pg_fields *f, int64_t v)
{
    f->count++;
    put_be32(f, sizeof v);
    put_be64(f, (uint64_t)v);
}

void pg_put_opt_i32(struct pg_fields *f, struct opt_i64 v)
{
    if (v.has)
        pg_put_i32(f, (int32_t)v.v);
    else
        pg_put_null(f);
}

void pg_put_opt_i64(struct pg_fields *f, struct opt_i64 v)
{
    if (v.has)
        pg_put_i64(f, v.v);
    else
        pg_put_null(f);
}

void pg_put_time(struct pg_fields *f, int64_t utc_us)
{
    pg_put_i64(f, utc_us - PG_EPOCH_US);
}

void pg_put_opt_time(struct pg_fields *f, struct opt_i64 utc_us)
{
    if (utc_us.has)
        pg_put_time(f, utc_us.v);
    else
        pg_put_null(f);
}

void pg_put_text(struct pg_fields *f, struct strview v)
{
    f->count++;
    put_item(f, v);
}

void pg_put_str(struct pg_fields *f, const char *text)
{
    pg_put_text(f, sv_of(text));
}

void pg_put_bytes(struct pg_fields *f, struct strview v)
{
    pg_put_text(f, v);
}

void pg_put_json(struct pg_fields *f, struct strview v)
{
    const char version = JSONB_VERSION;
    if (sv_is_null(v)) {
        pg_put_null(f);
        return;
    }
    f->count++;
    put_be32(f, (uint32_t)v.len + 1);
    put_raw(f, &version, 1);
    put_raw(f, v.ptr, v.len);
}

void pg_put_uuid(struct pg_fields *f, const struct uuid *v)
{
    pg_put_text(f, v == NULL ? SV_NULL : sv_of_bytes(v->byte, sizeof v->byte));
}

/* The array's length in bytes comes first: known for fixed sizes, written afterwards for texts. */
static void put_array_head(struct pg_fields *f, size_t bytes, uint32_t oid, size_t n)
{
    f->count++;
    put_be32(f, (uint32_t)(n == 0 ? ARRAY_HEAD_BYTES - 8 : ARRAY_HEAD_BYTES + bytes));
    put_be32(f, n == 0 ? 0 : 1);
    put_be32(f, 0);
    put_be32(f, oid);
    if (n == 0)
        return;
    put_be32(f, (uint32_t)n);
    put_be32(f, 1);
}

/* Integers of 4 or 8 bytes, less `epoch`. */
static void put_integers(struct pg_fields *f, uint32_t oid, const int32_t *v32, const int64_t *v64,
                         int64_t epoch, size_t n)
{
    put_array_head(f, n * (4 + (v32 != NULL ? sizeof *v32 : sizeof *v64)), oid, n);
    for (size_t i = 0; i < n; i++) {
        put_be32(f, v32 != NULL ? sizeof *v32 : sizeof *v64);
        if (v32 != NULL)
            put_be32(f, (uint32_t)v32[i]);
        else
            put_be64(f, (uint64_t)(v64[i] - epoch));
    }
}

void pg_put_i32_array(struct pg_fields *f, const int32_t *v, size_t n)
{
    put_integers(f, OID_INT, v, NULL, 0, n);
}

void pg_put_i64_array(struct pg_fields *f, const int64_t *v, size_t n)
{
    put_integers(f, OID_BIGINT, NULL, v, 0, n);
}

void pg_put_time_array(struct pg_fields *f, const int64_t *utc_us, size_t n)
{
    put_integers(f, OID_TIMESTAMPTZ, NULL, utc_us, PG_EPOCH_US, n);
}

void pg_put_text_array(struct pg_fields *f, const struct strview *v, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        assert(!sv_is_null(v[i]));
        bytes += 4 + v[i].len;
    }
    put_array_head(f, bytes, OID_TEXT, n);
    for (size_t i = 0; i < n; i++)
        put_item(f, v[i]);
}

void pg_put_uuid_array(struct pg_fields *f, const struct uuid *v, size_t n)
{
    put_array_head(f, n * (4 + sizeof v[0].byte), OID_UUID, n);
    for (size_t i = 0; i < n; i++)
        put_item(f, sv_of_bytes(v[i].byte, sizeof v[i].byte));
}

static uint32_t be32_at(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return be32toh(v);
}

int64_t pg_value_i64(struct strview v)
{
    uint16_t small;
    uint64_t big;
    assert(v.len == 2 || v.len == 4 || v.len == 8);
    if (v.len == 2) {
        memcpy(&small, v.ptr, sizeof small);
        return (int16_t)be16toh(small);
    }
    if (v.len == 4)
        return (int32_t)be32_at(v.ptr);
    memcpy(&big, v.ptr, sizeof big);
    return (int64_t)be64toh(big);
}

bool pg_value_bool(struct strview v)
{
    assert(v.len == 1);
    return v.ptr[0] != 0;
}

int64_t pg_value_time(struct strview v)
{
    assert(v.len == 8);
    return pg_value_i64(v) + PG_EPOCH_US;
}

struct uuid pg_value_uuid(struct strview v)
{
    struct uuid u;
    assert(v.len == sizeof u.byte);
    memcpy(u.byte, v.ptr, sizeof u.byte);
    return u;
}

struct strview pg_value_json(struct strview v)
{
    if (sv_is_null(v))
        return v;
    assert(v.len >= 1 && v.ptr[0] == JSONB_VERSION);
    return (struct strview){v.ptr + 1, v.len - 1};
}

struct pg_array pg_value_array(struct strview v)
{
    if (sv_is_null(v))
        return (struct pg_array){0};
    assert(v.len >= ARRAY_HEAD_BYTES - 8);
    uint32_t dimensions = be32_at(v.ptr);
    if (dimensions == 0)
        return (struct pg_array){0};
    assert(dimensions == 1 && v.len >= ARRAY_HEAD_BYTES);
    return (struct pg_array){
        .rest = {v.ptr + ARRAY_HEAD_BYTES, v.len - ARRAY_HEAD_BYTES},
        .count = be32_at(v.ptr + 12),
    };
}

bool pg_array_next(struct pg_array *a, struct strview *item)
{
    if (a->rest.len == 0)
        return false;
    assert(a->rest.len >= 4);
    uint32_t len = be32_at(a->rest.ptr);
    a->rest = (struct strview){a->rest.ptr + 4, a->rest.len - 4};
    if (len == UINT32_MAX) {
        *item = SV_NULL;
        return true;
    }
    assert(len <= a->rest.len);
    *item = (struct strview){a->rest.ptr, len};
    a->rest = (struct strview){a->rest.ptr + len, a->rest.len - len};
    return true;
}
