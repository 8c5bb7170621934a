#include "api_dead_letter.h"

#include "api_view.h"
#include "pg_session.h"
#include "spend/dead_letter.h"
#include <stdio.h>
#include <string.h>

enum column { COL_CALL, COL_REASON, COL_DETAIL, COL_RAW, COL_FIRST_SEEN, COL_ADMITTED, COL_ACCOUNT };

static void view(struct json_write *w, const struct pg_rows *rows, size_t i)
{
    char id[UUID_TEXT_LEN + 1];
    struct uuid call = pg_get_uuid(rows, i, COL_CALL);
    enum dead_reason reason;
    bool known = dead_reason_parse(pg_get(rows, i, COL_REASON), &reason);
    uuid_format(&call, id);
    json_write_open(w, '{');
    api_view_text(w, "call_id", sv_of(id));
    api_view_text(w, "reason", pg_get(rows, i, COL_REASON));
    api_view_text(w, "detail", pg_get(rows, i, COL_DETAIL));
    api_view_usd(w, "raw", pg_get_opt_i64(rows, i, COL_RAW));
    api_view_time(w, "first_seen", pg_get_opt_time(rows, i, COL_FIRST_SEEN));
    api_view_time(w, "admitted_at", pg_get_opt_time(rows, i, COL_ADMITTED));
    api_view_text(w, "account_id", pg_get(rows, i, COL_ACCOUNT));
    api_view_text(w, "hint", sv_of(known ? dead_reasons[reason].remedy : NULL));
    json_write_close(w, '}');
}

/* A cursor's key is "reason/call_id", the list's order. */
static bool read_cursor(struct api_request *r, struct strview key, struct strview *reason, struct uuid *call)
{
    struct strview id;
    *reason = sv_cut(key, '/', &id);
    return sv_is_null(key) || uuid_parse(id, call) ||
           api_refuse(r, 400, "invalid", "pass the \"next\" of this very list, unchanged",
                      "the cursor is malformed");
}

static bool read_reason(struct api_request *r, struct strview reason)
{
    enum dead_reason known;
    if (sv_is_null(reason))
        return true;
    if (!dead_reason_parse(reason, &known))
        return api_refuse(r, 400, "invalid", "use untagged, unknown, conflict or unpriced",
                          "there is no reason \"" SV_FMT "\"", SV_ARG(reason));
    if (dead_reasons[known].account == NULL)
        return api_refuse(r, 400, "invalid",
                          "read the topic spend.dlq.malformed: such records name no call and no money",
                          "malformed records are not in the ledger");
    return true;
}

static void view_list(struct api_request *r, const struct pg_rows *rows, int64_t limit)
{
    char key[80] = "";
    bool more = pg_rows_count(rows) > (size_t)limit;
    size_t count = more ? (size_t)limit : pg_rows_count(rows);
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "items");
    json_write_open(&r->json, '[');
    for (size_t i = 0; i < count; i++)
        view(&r->json, rows, i);
    json_write_close(&r->json, ']');
    if (count > 0) {
        char id[UUID_TEXT_LEN + 1];
        struct uuid last = pg_get_uuid(rows, count - 1, COL_CALL);
        uuid_format(&last, id);
        snprintf(key, sizeof key, SV_FMT "/%s", SV_ARG(pg_get(rows, count - 1, COL_REASON)), id);
    }
    api_page_next(r, "dead-letters", sv_of(key), more);
    json_write_close(&r->json, '}');
}

bool api_dead_letter_list(struct api_request *r, struct err *err)
{
    static const char sql[] = "SELECT c.call_id, c.reason, c.detail, c.raw_nanos, c.first_seen, "
                              "c.admitted_at, a.account_id FROM call AS c"
                              " JOIN account AS a ON a.id = c.account WHERE c.reason IS NOT NULL AND "
                              "($1::text IS NULL OR c.reason = $1)"
                              " AND ($2::text IS NULL OR (c.reason, c.call_id) > ($2, $3::uuid))"
                              " ORDER BY c.reason, c.call_id LIMIT $4::bigint";
    struct api_page page;
    struct strview after;
    struct uuid after_call = {{0}};
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    struct strview reason = api_query_get(r, "reason");
    if (!api_page_read(r, "dead-letters", &page) || !api_query_end(r) || !read_reason(r, reason) ||
        !read_cursor(r, page.after, &after, &after_call))
        return false;
    pg_fields_init(&args);
    pg_put_text(&args, reason);
    pg_put_text(&args, after);
    pg_put_uuid(&args, &after_call);
    pg_put_i64(&args, page.limit + 1);
    bool ok = pg_session_query(r->pg, sql, &args, &rows, err);
    if (ok)
        view_list(r, rows, page.limit);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}
