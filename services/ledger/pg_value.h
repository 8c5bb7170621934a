/*
 * pg_value: values in Postgres's binary format, for parameters and COPY rows alike. Pure.
 * Refuses: text that Postgres would refuse (NUL bytes, broken UTF-8) is the caller's to check before.
 */
#ifndef SPEND_LEDGER_PG_VALUE_H
#define SPEND_LEDGER_PG_VALUE_H

#include "base/buffer.h"
#include "base/uuid.h"
#include "spend/spend_call.h"

#define PG_FIELDS_BYTES (256 << 20)
/* Postgres counts microseconds from 2000, everybody else from 1970. */
#define PG_EPOCH_US 946684800000000LL

/* Fields in order: the parameters of a statement ($1, $2, ..) or the columns of a COPY row. One sticky error.
 */
struct pg_fields {
    struct buffer bytes; /* int32 length (-1 = null) and the value, each */
    size_t count;
    bool failed; /* out of memory or past PG_FIELDS_BYTES: the statement will say so */
};

void pg_fields_init(struct pg_fields *f);
void pg_fields_free(struct pg_fields *f);
void pg_fields_clear(struct pg_fields *f); /* keeps the memory */

/* The type must be the parameter's or column's very own: binary values are not converted. Where Postgres
 * cannot infer a parameter's type, cast it in the SQL ($1::bigint). A null view is NULL. */
void pg_put_null(struct pg_fields *f);
void pg_put_bool(struct pg_fields *f, bool v);
void pg_put_i32(struct pg_fields *f, int32_t v);            /* int */
void pg_put_i64(struct pg_fields *f, int64_t v);            /* bigint */
void pg_put_opt_i32(struct pg_fields *f, struct opt_i64 v); /* int or NULL; v fits */
void pg_put_opt_i64(struct pg_fields *f, struct opt_i64 v); /* bigint or NULL */
void pg_put_time(struct pg_fields *f, int64_t utc_us);      /* timestamptz */
void pg_put_opt_time(struct pg_fields *f, struct opt_i64 utc_us);
void pg_put_text(struct pg_fields *f, struct strview v);     /* text */
void pg_put_str(struct pg_fields *f, const char *text);      /* text; NULL is NULL */
void pg_put_bytes(struct pg_fields *f, struct strview v);    /* bytea */
void pg_put_json(struct pg_fields *f, struct strview v);     /* jsonb, from JSON text */
void pg_put_uuid(struct pg_fields *f, const struct uuid *v); /* uuid; NULL is NULL */
/* Arrays of one dimension; n may be 0. */
void pg_put_i32_array(struct pg_fields *f, const int32_t *v, size_t n);
void pg_put_i64_array(struct pg_fields *f, const int64_t *v, size_t n);
void pg_put_time_array(struct pg_fields *f, const int64_t *utc_us, size_t n);
void pg_put_text_array(struct pg_fields *f, const struct strview *v, size_t n);
void pg_put_uuid_array(struct pg_fields *f, const struct uuid *v, size_t n);

/* One value of a result, as it came. ptr NULL: NULL. The rest below aborts on a value of another size: our
 * bug. */
int64_t pg_value_i64(struct strview v); /* smallint, int or bigint */
bool pg_value_bool(struct strview v);
int64_t pg_value_time(struct strview v); /* UTC micros */
struct uuid pg_value_uuid(struct strview v);
struct strview pg_value_json(struct strview v); /* the text of a jsonb */

/* Items of an array value, in order. _next is false at the end; *item is a null view for a NULL item. */
struct pg_array {
    struct strview rest;
    size_t count;
};
struct pg_array pg_value_array(struct strview v); /* NULL: no items */
bool pg_array_next(struct pg_array *a, struct strview *item) NODISCARD;

#endif
