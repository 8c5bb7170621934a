/*
 * pg_query: one statement with its parameters written beside it.
 *   pg_query(pg, "SELECT id FROM account WHERE account_id = $1", PG_ARGS(PG_TEXT(id)), &rows, err)
 * The types must be the parameters' own, as in pg_value.h.
 */
#ifndef SPEND_LEDGER_PG_QUERY_H
#define SPEND_LEDGER_PG_QUERY_H

#include "pg_session.h"

enum pg_arg_kind {
    PG_ARG_END = 0,
    PG_ARG_TEXT,
    PG_ARG_JSON,
    PG_ARG_BYTES,
    PG_ARG_I32,
    PG_ARG_I64,
    PG_ARG_BOOL,
    PG_ARG_TIME,
    PG_ARG_OPT_TIME,
    PG_ARG_UUID,
    PG_ARG_TEXTS,
    PG_ARG_I64S,
};

struct pg_arg {
    enum pg_arg_kind kind;
    struct strview text;
    struct opt_i64 number;
    const void *array;
    size_t count;
};

#define PG_TEXT(v)     ((struct pg_arg){.kind = PG_ARG_TEXT, .text = (v)})
#define PG_STR(s)      PG_TEXT(sv_of(s))
#define PG_JSON(v)     ((struct pg_arg){.kind = PG_ARG_JSON, .text = (v)})
#define PG_BYTES(v)    ((struct pg_arg){.kind = PG_ARG_BYTES, .text = (v)})
#define PG_I32(n)      ((struct pg_arg){.kind = PG_ARG_I32, .number = OPT_I64(n)})
#define PG_I64(n)      ((struct pg_arg){.kind = PG_ARG_I64, .number = OPT_I64(n)})
#define PG_OPT_I64(n)  ((struct pg_arg){.kind = PG_ARG_I64, .number = (n)})
#define PG_BOOL(b)     ((struct pg_arg){.kind = PG_ARG_BOOL, .number = OPT_I64(b)})
#define PG_TIME(us)    ((struct pg_arg){.kind = PG_ARG_TIME, .number = OPT_I64(us)})
#define PG_OPT_TIME(t) ((struct pg_arg){.kind = PG_ARG_OPT_TIME, .number = (t)})
#define PG_UUID(p)                                                                                           \
    ((struct pg_arg){.kind = PG_ARG_UUID, .array = (p)}) /* const struct uuid *, NULL allowed */
#define PG_TEXTS(v, n) ((struct pg_arg){.kind = PG_ARG_TEXTS, .array = (v), .count = (n)})
#define PG_I64S(v, n)  ((struct pg_arg){.kind = PG_ARG_I64S, .array = (v), .count = (n)})
#define PG_ARGS(...)   ((const struct pg_arg[]){__VA_ARGS__, {.kind = PG_ARG_END}})

/* rows as in pg_session_query; may be NULL. */
bool pg_query(struct pg_session *pg, const char *sql, const struct pg_arg *args, struct pg_rows **rows,
              struct err *err) NODISCARD;

#endif
