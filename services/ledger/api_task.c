#include "api_task.h"

#include "api_fact.h"
#include "api_rows.h"
#include "base/money.h"
#include "config_write.h"
#include "pg_query.h"

/* Finishing moves no money and is no configuration: the first time stays. */
bool api_task_finish(struct api_request *r, struct err *err)
{
    const struct api_fact_kind *kind = &api_facts[REGISTRY_TASK];
    struct pg_rows *rows = NULL;
    if (!api_query_end(r) || !pg_session_begin(r->pg, err) ||
        !pg_query(
            r->pg,
            "UPDATE task SET finished_at = clock_timestamp() WHERE task_id = $1 AND finished_at IS NULL",
            PG_ARGS(PG_TEXT(r->param[0])), &rows, err))
        return false;
    bool changed = pg_rows_affected(rows) > 0;
    pg_rows_free(rows);
    if (changed &&
        (!config_write_audit(r->pg, api_role_name(r->role), "finish task", r->param[0], SV_NULL, err) ||
         !pg_session_commit(r->pg, err)))
        return false;
    return api_rows_get(r, kind->rows, r->param[0], "task", kind->hint, err);
}

/* A task that has ended without a call is the sign of an outage, so it has a word of its own. */
static const char *status_of(bool finished, int64_t calls)
{
    if (!finished)
        return "open";
    return calls > 0 ? "complete" : "no_spend";
}

enum column { COL_REGISTERED, COL_ACCOUNT, COL_FINISHED, COL_CALLS, COL_BILLED, COL_JSON };

static bool view_bill(struct api_request *r, struct strview account, const struct pg_rows *row,
                      struct err *err)
{
    int64_t carry = 0;
    int64_t cents;
    if (pg_rows_count(row) == 0)
        return api_refuse(r, 404, "not_found",
                          "register it with PUT /v1/tasks/{id}; a label that calls carry needs ?account_id=",
                          "there is no task \"" SV_FMT "\"", SV_ARG(r->param[0]));
    if (!sv_is_null(account) && !sv_eq(account, pg_get(row, 0, COL_ACCOUNT)))
        return api_refuse(r, 409, "conflict", "leave account_id out for a registered task",
                          "task \"" SV_FMT "\" belongs to another account", SV_ARG(r->param[0]));
    if (!money_to_cents(pg_get_i64(row, 0, COL_BILLED), &carry, &cents))
        return err_set(err, ERR_OVERFLOW, FATE_FATAL, "task: its bill is out of range");
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "status");
    json_write_str(&r->json, status_of(pg_get_bool(row, 0, COL_FINISHED), pg_get_i64(row, 0, COL_CALLS)));
    json_write_key(&r->json, "calls");
    json_write_i64(&r->json, pg_get_i64(row, 0, COL_CALLS));
    json_write_key(&r->json, "cents");
    json_write_i64(&r->json, cents);
    api_rows_members(&r->json, pg_get(row, 0, COL_JSON));
    json_write_close(&r->json, '}');
    return true;
}

bool api_task_bill(struct api_request *r, struct err *err)
{
    struct strview account = api_query_get(r, "account_id");
    struct pg_rows *rows = NULL;
    if (!api_query_end(r))
        return false;
    bool ok =
        pg_query(
            r->pg,
            "SELECT registered, account_id, finished, calls, billed_nanos, json::text FROM task_bill($1, $2)",
            PG_ARGS(PG_TEXT(r->param[0]), PG_TEXT(account)), &rows, err) &&
        view_bill(r, account, rows, err);
    pg_rows_free(rows);
    return ok;
}
