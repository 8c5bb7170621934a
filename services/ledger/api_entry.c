#include "api_entry.h"

#include "api_account.h"
#include "api_view.h"
#include "pg_session.h"
#include <inttypes.h>
#include <stdio.h>

#define COLUMNS                                                                                              \
    "e.account_seq, e.kind, e.amount_nanos, e.balance_after_nanos, e.call_id, e.external_id, e.task, "       \
    "e.conversation,"                                                                                        \
    " e.model, e.raw_nanos, e.markup_ppm, e.price_version, e.revision, e.cause, e.admitted_at, "             \
    "e.posted_at, a.account_id"

enum column {
    COL_SEQ,
    COL_KIND,
    COL_AMOUNT,
    COL_BALANCE,
    COL_CALL,
    COL_EXTERNAL,
    COL_TASK,
    COL_CONVERSATION,
    COL_MODEL,
    COL_RAW,
    COL_MARKUP,
    COL_PRICE_VERSION,
    COL_REVISION,
    COL_CAUSE,
    COL_ADMITTED,
    COL_POSTED,
    COL_ACCOUNT,
};

static void view_int(struct json_write *w, const char *key, struct opt_i64 n)
{
    json_write_key(w, key);
    if (n.has)
        json_write_i64(w, n.v);
    else
        json_write_null(w);
}

static void view(struct json_write *w, const struct pg_rows *rows, size_t i)
{
    char call_id[UUID_TEXT_LEN + 1];
    struct opt_i64 markup = pg_get_opt_i64(rows, i, COL_MARKUP);
    json_write_open(w, '{');
    api_view_text(w, "account_id", pg_get(rows, i, COL_ACCOUNT));
    view_int(w, "account_seq", pg_get_opt_i64(rows, i, COL_SEQ));
    json_write_key(w, "call_id");
    if (pg_is_null(rows, i, COL_CALL)) {
        json_write_null(w);
    } else {
        struct uuid id = pg_get_uuid(rows, i, COL_CALL);
        uuid_format(&id, call_id);
        json_write_str(w, call_id);
    }
    api_view_text(w, "kind", pg_get(rows, i, COL_KIND));
    api_view_text(w, "cause", pg_get(rows, i, COL_CAUSE));
    api_view_usd(w, "amount", pg_get_opt_i64(rows, i, COL_AMOUNT));
    api_view_usd(w, "balance_after", pg_get_opt_i64(rows, i, COL_BALANCE));
    api_view_text(w, "external_id", pg_get(rows, i, COL_EXTERNAL));
    api_view_text(w, "task", pg_get(rows, i, COL_TASK));
    api_view_text(w, "conversation", pg_get(rows, i, COL_CONVERSATION));
    api_view_text(w, "model", pg_get(rows, i, COL_MODEL));
    api_view_usd(w, "raw", pg_get_opt_i64(rows, i, COL_RAW));
    if (markup.has)
        api_view_markup(w, "markup", markup.v);
    else
        api_view_text(w, "markup", SV_NULL);
    view_int(w, "price_version", pg_get_opt_i64(rows, i, COL_PRICE_VERSION));
    view_int(w, "revision", pg_get_opt_i64(rows, i, COL_REVISION));
    api_view_time(w, "admitted_at", pg_get_opt_time(rows, i, COL_ADMITTED));
    api_view_time(w, "posted_at", pg_get_opt_time(rows, i, COL_POSTED));
    json_write_close(w, '}');
}

bool api_entry_list(struct api_request *r, struct err *err)
{
    static const char sql[] =
        "SELECT " COLUMNS " FROM entry AS e JOIN account AS a ON a.id = e.account"
        " WHERE e.account = $1 AND e.account_seq > $2 ORDER BY e.account_seq LIMIT $3::bigint";
    struct api_page page;
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    int64_t account = 0;
    int64_t after = 0;
    char key[32];
    if (!api_page_read(r, "entries", &page) || !api_query_end(r) || !api_account_find(r, &account, err))
        return false;
    if (!sv_is_null(page.after) && !sv_to_i64(page.after, &after))
        return api_refuse(r, 400, "invalid", "pass the \"next\" of this very list, unchanged",
                          "the cursor is malformed");
    pg_fields_init(&args);
    pg_put_i64(&args, account);
    pg_put_i64(&args, after);
    pg_put_i64(&args, page.limit + 1);
    bool ok = pg_session_query(r->pg, sql, &args, &rows, err);
    if (ok) {
        bool more = pg_rows_count(rows) > (size_t)page.limit;
        size_t count = more ? (size_t)page.limit : pg_rows_count(rows);
        json_write_open(&r->json, '{');
        json_write_key(&r->json, "items");
        json_write_open(&r->json, '[');
        for (size_t i = 0; i < count; i++)
            view(&r->json, rows, i);
        json_write_close(&r->json, ']');
        int len =
            snprintf(key, sizeof key, "%" PRId64, count == 0 ? 0 : pg_get_i64(rows, count - 1, COL_SEQ));
        api_page_next(r, "entries", (struct strview){key, (size_t)len}, more);
        json_write_close(&r->json, '}');
    }
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

bool api_entry_view_call(struct api_request *r, const struct uuid *call_id, struct err *err)
{
    /* by time, for the table's own index on it: a call knows when its entries were posted */
    static const char sql[] =
        "SELECT " COLUMNS " FROM call AS c JOIN entry AS e ON e.posted_at = ANY (c.posted_at)"
        " AND e.call_id = c.call_id JOIN account AS a ON a.id = e.account"
        " WHERE c.call_id = $1 ORDER BY e.posted_at, e.account, e.account_seq";
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    pg_fields_init(&args);
    pg_put_uuid(&args, call_id);
    bool ok = pg_session_query(r->pg, sql, &args, &rows, err);
    json_write_key(&r->json, "entries");
    json_write_open(&r->json, '[');
    for (size_t i = 0; i < pg_rows_count(rows); i++)
        view(&r->json, rows, i);
    json_write_close(&r->json, ']');
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}
