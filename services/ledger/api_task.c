#include "api_task.h"

#include "api_fact.h"
#include "api_rows.h"
#include "base/money.h"
#include "config_write.h"
#include "pg_session.h"

static bool refuse_missing(struct api_request *r)
{
    return api_refuse(r, 404, "not_found",
                      "register it with PUT /v1/tasks/{id}; a label that calls carry needs ?account_id=",
                      "there is no task \"" SV_FMT "\"", SV_ARG(r->param[0]));
}

/* Finishing moves no money and is no configuration: the first time stays. */
bool api_task_finish(struct api_request *r, struct err *err)
{
    const struct api_fact_kind *kind = &api_facts[REGISTRY_TASK];
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    if (!api_query_end(r) || !pg_session_begin(r->pg, err))
        return false;
    pg_fields_init(&args);
    pg_put_text(&args, r->param[0]);
    bool ok = pg_session_query(
        r->pg, "UPDATE task SET finished_at = clock_timestamp() WHERE task_id = $1 AND finished_at IS NULL",
        &args, &rows, err);
    if (ok && pg_rows_affected(rows) > 0)
        ok = config_write_audit(r->pg, api_role_name(r->role), "finish task", r->param[0], SV_NULL, err) &&
             pg_session_commit(r->pg, err);
    pg_rows_free(rows);
    pg_fields_free(&args);
    pg_session_rollback(r->pg);
    return ok && api_rows_get(r, kind->rows, r->param[0], "task", kind->hint, err);
}

/* The task's members, its sums, and its latest calls; a label's account is $2. */
static const char bill_sql[] =
    "SELECT t.task_id IS NOT NULL, t.account_id = $2::text, t.finished_at IS NOT NULL, s.calls, s.billed,"
    " json_build_object('task_id', $1::text, 'account_id', a.account_id, 'conversation_id', "
    "t.conversation_id,"
    " 'finished_at', rfc3339(t.finished_at), 'raw', usd(s.raw), 'billed', usd(s.billed),"
    " 'first_at', rfc3339(s.first_at), 'last_at', rfc3339(s.last_at), 'recent', coalesce(l.recent, "
    "'[]'))::text"
    " FROM (SELECT $1) AS one LEFT JOIN task AS t ON t.task_id = $1"
    " LEFT JOIN account AS a ON a.account_id = coalesce(t.account_id, $2)"
    " CROSS JOIN LATERAL (SELECT count(*) AS calls, coalesce(sum(c.raw_nanos), 0)::bigint AS raw,"
    " coalesce(sum(c.billed_nanos), 0)::bigint AS billed, min(c.admitted_at) AS first_at, max(c.admitted_at) "
    "AS last_at"
    " FROM call AS c WHERE c.task = $1 AND c.account = a.id AND c.reason IS NULL) AS s"
    " CROSS JOIN LATERAL (SELECT json_agg(json_build_object('call_id', c.call_id, 'admitted_at',"
    " rfc3339(c.admitted_at), 'model', coalesce(c.model_replied, c.model_requested), 'outcome', c.outcome,"
    " 'raw', usd(c.raw_nanos), 'billed', usd(c.billed_nanos))) AS recent"
    " FROM (SELECT * FROM call AS k WHERE k.task = $1 AND k.account = a.id AND k.reason IS NULL"
    " ORDER BY k.admitted_at DESC, k.call_id LIMIT 20) AS c) AS l";

enum column { COL_REGISTERED, COL_SAME_ACCOUNT, COL_FINISHED, COL_CALLS, COL_BILLED, COL_MEMBERS };

/* A task that has ended without a call is the sign of an outage, so it has a word of its own. */
static const char *status_of(bool finished, int64_t calls)
{
    if (!finished)
        return "open";
    return calls > 0 ? "complete" : "no_spend";
}

static bool view_bill(struct api_request *r, const struct pg_rows *row, struct err *err)
{
    int64_t carry = 0;
    int64_t cents;
    int64_t calls = pg_get_i64(row, 0, COL_CALLS);
    struct strview members = pg_get(row, 0, COL_MEMBERS);
    if (!pg_get_bool(row, 0, COL_REGISTERED) && calls == 0)
        return refuse_missing(r);
    if (!pg_is_null(row, 0, COL_SAME_ACCOUNT) && !pg_get_bool(row, 0, COL_SAME_ACCOUNT))
        return api_refuse(r, 409, "conflict", "leave account_id out for a registered task",
                          "task \"" SV_FMT "\" belongs to another account", SV_ARG(r->param[0]));
    if (!money_to_cents(pg_get_i64(row, 0, COL_BILLED), &carry, &cents))
        return err_set(err, ERR_OVERFLOW, FATE_FATAL, "task: its bill is out of range");
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "status");
    json_write_str(&r->json, status_of(pg_get_bool(row, 0, COL_FINISHED), calls));
    json_write_key(&r->json, "calls");
    json_write_i64(&r->json, calls);
    json_write_key(&r->json, "cents");
    json_write_i64(&r->json, cents);
    api_rows_members(&r->json, members);
    json_write_close(&r->json, '}');
    return true;
}

bool api_task_bill(struct api_request *r, struct err *err)
{
    struct strview account = api_query_get(r, "account_id");
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    if (!api_query_end(r))
        return false;
    pg_fields_init(&args);
    pg_put_text(&args, r->param[0]);
    pg_put_text(&args, account);
    bool ok = pg_session_query(r->pg, bill_sql, &args, &rows, err) && view_bill(r, rows, err);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}
