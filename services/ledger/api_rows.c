#include "api_rows.h"

#include "pg_query.h"
#include <assert.h>

bool api_rows_get(struct api_request *r, const char *sql, struct strview id, const char *what,
                  const char *hint, struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = pg_query(r->pg, sql, PG_ARGS(PG_TEXT(id), PG_TEXT(SV_NULL), PG_I64(1)), &rows, err);
    if (ok && pg_rows_count(rows) == 0)
        ok = api_refuse(r, 404, "not_found", hint, "there is no %s \"" SV_FMT "\"", what, SV_ARG(id));
    if (ok)
        json_write_raw(&r->json, pg_get(rows, 0, 0));
    pg_rows_free(rows);
    return ok;
}

bool api_rows_list(struct api_request *r, const char *sql, struct strview filter, const char *list,
                   struct err *err)
{
    struct api_page page;
    struct pg_rows *rows = NULL;
    if (!api_page_read(r, list, &page) || !api_query_end(r) ||
        !pg_query(r->pg, sql, PG_ARGS(PG_TEXT(filter), PG_TEXT(page.after), PG_I64(page.limit + 1)), &rows,
                  err))
        return false;
    bool more = pg_rows_count(rows) > (size_t)page.limit;
    size_t count = more ? (size_t)page.limit : pg_rows_count(rows);
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "items");
    json_write_open(&r->json, '[');
    for (size_t i = 0; i < count; i++)
        json_write_raw(&r->json, pg_get(rows, i, 0));
    json_write_close(&r->json, ']');
    api_page_next(r, list, count == 0 ? SV_NULL : pg_get(rows, count - 1, 1), more);
    json_write_close(&r->json, '}');
    pg_rows_free(rows);
    return true;
}

void api_rows_members(struct json_write *w, struct strview object)
{
    struct strview inside = sv_trim(object);
    assert(inside.len > 2 && inside.ptr[0] == '{' && inside.ptr[inside.len - 1] == '}');
    json_write_raw(w, (struct strview){inside.ptr + 1, inside.len - 2});
}
