#include "api_time.h"

#include "pg_session.h"

bool api_time_get(struct api_request *r, struct err *err)
{
    struct pg_rows *rows = NULL;
    if (!api_query_end(r) || !pg_session_query(r->pg, "SELECT clock_timestamp()", NULL, &rows, err))
        return false;
    int64_t now = pg_get_time(rows, 0, 0);
    pg_rows_free(rows);
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "time");
    json_write_time(&r->json, now);
    json_write_key(&r->json, "time_us");
    json_write_i64(&r->json, now);
    json_write_close(&r->json, '}');
    return true;
}
