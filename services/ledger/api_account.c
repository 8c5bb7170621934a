#include "api_account.h"

#include "pg_session.h"

const char api_account_rows[] =
    "SELECT json_build_object('account_id', a.account_id, 'name', a.name, 'tier', t.tier, 'markup', "
    "factor(m.markup_ppm),"
    " 'overdraft_limit', usd(a.overdraft_limit_nanos), 'balance', usd(b.amount_nanos), 'held', "
    "usd(b.held_nanos),"
    " 'entries', b.seq, 'created_at', rfc3339(a.created_at), 'versions', (SELECT json_agg(json_build_object("
    "'effective_from', rfc3339(v.effective_from), 'recorded_at', rfc3339(v.recorded_at), 'tier', v.tier)"
    " ORDER BY v.config_version) FROM account_version AS v WHERE v.account = a.id))::text, a.account_id"
    " FROM account AS a JOIN balance AS b ON b.account = a.id"
    " CROSS JOIN LATERAL (SELECT v.tier FROM account_version AS v WHERE v.account = a.id"
    " AND v.effective_from <= clock_timestamp() ORDER BY v.effective_from DESC, v.recorded_at DESC LIMIT 1) "
    "AS t"
    " CROSS JOIN LATERAL (SELECT x.markup_ppm FROM tier AS x WHERE x.name = t.tier"
    " AND x.effective_from <= clock_timestamp() ORDER BY x.effective_from DESC, x.recorded_at DESC LIMIT 1) "
    "AS m"
    " WHERE ($1::text IS NULL OR a.account_id = $1) AND ($2::text IS NULL OR a.account_id COLLATE \"C\" > $2)"
    " ORDER BY a.account_id COLLATE \"C\" LIMIT $3::bigint";

bool api_account_find(struct api_request *r, int64_t *account, struct err *err)
{
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    pg_fields_init(&args);
    pg_put_text(&args, r->param[0]);
    bool ok = pg_session_query(r->pg, "SELECT id FROM account WHERE account_id = $1", &args, &rows, err);
    if (ok && pg_rows_count(rows) == 0)
        ok = api_refuse(r, 404, "not_found", API_ACCOUNT_HINT, "there is no account \"" SV_FMT "\"",
                        SV_ARG(r->param[0]));
    if (ok)
        *account = pg_get_i64(rows, 0, 0);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}
