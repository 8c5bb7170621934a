#include "pg_query.h"

static void put(struct pg_fields *f, const struct pg_arg *arg)
{
    switch (arg->kind) {
    case PG_ARG_TEXT:
        pg_put_text(f, arg->text);
        break;
    case PG_ARG_JSON:
        pg_put_json(f, arg->text);
        break;
    case PG_ARG_BYTES:
        pg_put_bytes(f, arg->text);
        break;
    case PG_ARG_I32:
        pg_put_i32(f, (int32_t)arg->number.v);
        break;
    case PG_ARG_I64:
        pg_put_opt_i64(f, arg->number);
        break;
    case PG_ARG_BOOL:
        pg_put_bool(f, arg->number.v != 0);
        break;
    case PG_ARG_TIME:
        pg_put_time(f, arg->number.v);
        break;
    case PG_ARG_OPT_TIME:
        pg_put_opt_time(f, arg->number);
        break;
    case PG_ARG_UUID:
        pg_put_uuid(f, arg->array);
        break;
    case PG_ARG_TEXTS:
        pg_put_text_array(f, arg->array, arg->count);
        break;
    case PG_ARG_I64S:
        pg_put_i64_array(f, arg->array, arg->count);
        break;
    case PG_ARG_END:
        break;
    }
}

bool pg_query(struct pg_session *pg, const char *sql, const struct pg_arg *args, struct pg_rows **rows,
              struct err *err)
{
    struct pg_fields fields;
    pg_fields_init(&fields);
    for (; args->kind != PG_ARG_END; args++)
        put(&fields, args);
    bool ok = pg_session_query(pg, sql, &fields, rows, err);
    pg_fields_free(&fields);
    return ok;
}
