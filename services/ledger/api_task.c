#include "api_task.h"

#include "api_config.h"
#include "api_view.h"
#include "base/money.h"
#include "pg_session.h"

#define RECENT_CALLS "20"

struct task {
    struct strview id;
    struct strview account_id;
    struct strview conversation_id;
    bool registered;
    struct opt_i64 recorded_at;
    struct opt_i64 finished_at;
};

static bool load(struct api_request *r, struct task *t, struct err *err)
{
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    t->id = r->param[0];
    pg_fields_init(&args);
    pg_put_text(&args, t->id);
    bool ok = pg_session_query(
        r->pg, "SELECT account_id, conversation_id, recorded_at, finished_at FROM task WHERE task_id = $1",
        &args, &rows, err);
    t->registered = ok && pg_rows_count(rows) > 0;
    if (t->registered) {
        ok = arena_dup(r->arena, pg_get(rows, 0, 0), &t->account_id) &&
             arena_dup(r->arena, pg_get(rows, 0, 1), &t->conversation_id);
        t->recorded_at = pg_get_opt_time(rows, 0, 2);
        t->finished_at = pg_get_opt_time(rows, 0, 3);
    }
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

static bool refuse_missing(struct api_request *r)
{
    return api_refuse(r, 404, "not_found",
                      "register it with PUT /v1/tasks/{id}; a label that calls carry needs ?account_id=",
                      "there is no task \"" SV_FMT "\"", SV_ARG(r->param[0]));
}

static void view(struct json_write *w, const struct task *t)
{
    api_view_text(w, "task_id", t->id);
    api_view_text(w, "account_id", t->account_id);
    api_view_text(w, "conversation_id", t->conversation_id);
    api_view_time(w, "recorded_at", t->recorded_at);
    api_view_time(w, "finished_at", t->finished_at);
}

static bool get(struct api_request *r, struct err *err)
{
    struct task t = {.registered = false};
    if (!load(r, &t, err))
        return false;
    if (!t.registered)
        return refuse_missing(r);
    json_write_open(&r->json, '{');
    view(&r->json, &t);
    json_write_close(&r->json, '}');
    return true;
}

bool api_task_get(struct api_request *r, struct err *err)
{
    return api_query_end(r) && get(r, err);
}

/* Finishing moves no money and is no configuration: the first time stays. */
bool api_task_finish(struct api_request *r, struct err *err)
{
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    if (!api_query_end(r) || !pg_session_begin(r->pg, err))
        return false;
    pg_fields_init(&args);
    pg_put_text(&args, r->param[0]);
    bool ok = pg_session_query(r->pg,
                               "UPDATE task SET finished_at = clock_timestamp()"
                               " WHERE task_id = $1 AND finished_at IS NULL",
                               &args, &rows, err);
    if (ok && pg_rows_affected(rows) > 0)
        ok = config_write_audit(r->pg, api_role_name(r->role), "finish task", r->param[0], SV_NULL, err) &&
             pg_session_commit(r->pg, err);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok && get(r, err);
}

static void view_calls(struct json_write *w, const struct pg_rows *rows)
{
    char id[UUID_TEXT_LEN + 1];
    json_write_key(w, "recent");
    json_write_open(w, '[');
    for (size_t i = 0; i < pg_rows_count(rows); i++) {
        struct uuid call = pg_get_uuid(rows, i, 0);
        uuid_format(&call, id);
        json_write_open(w, '{');
        api_view_text(w, "call_id", sv_of(id));
        api_view_time(w, "admitted_at", pg_get_opt_time(rows, i, 1));
        api_view_text(w, "model", pg_get(rows, i, 2));
        api_view_text(w, "outcome", pg_get(rows, i, 3));
        api_view_usd(w, "raw", pg_get_opt_i64(rows, i, 4));
        api_view_usd(w, "billed", pg_get_opt_i64(rows, i, 5));
        json_write_close(w, '}');
    }
    json_write_close(w, ']');
}

/* A task that has ended without a call is the sign of an outage, so it has a word of its own. */
static const char *status_of(const struct task *t, int64_t calls)
{
    if (!t->finished_at.has)
        return "open";
    return calls > 0 ? "complete" : "no_spend";
}

static bool view_bill(struct api_request *r, const struct task *t, const struct pg_rows *sums,
                      const struct pg_rows *calls, struct err *err)
{
    struct json_write *w = &r->json;
    int64_t carry = 0;
    int64_t cents;
    int64_t count = pg_get_i64(sums, 0, 0);
    int64_t billed = pg_get_i64(sums, 0, 2);
    if (!t->registered && count == 0)
        return refuse_missing(r);
    if (!money_to_cents(billed, &carry, &cents))
        return err_set(err, ERR_OVERFLOW, FATE_FATAL, "task: its bill is out of range");
    json_write_open(w, '{');
    view(w, t);
    api_view_text(w, "status", sv_of(status_of(t, count)));
    json_write_key(w, "calls");
    json_write_i64(w, count);
    api_view_usd(w, "raw", OPT_I64(pg_get_i64(sums, 0, 1)));
    api_view_usd(w, "billed", OPT_I64(billed));
    json_write_key(w, "cents");
    json_write_i64(w, cents);
    api_view_time(w, "first_at", pg_get_opt_time(sums, 0, 3));
    api_view_time(w, "last_at", pg_get_opt_time(sums, 0, 4));
    view_calls(w, calls);
    json_write_close(w, '}');
    return true;
}

bool api_task_bill(struct api_request *r, struct err *err)
{
    static const char sum[] =
        "SELECT count(*), coalesce(sum(c.raw_nanos), 0)::bigint, coalesce(sum(c.billed_nanos), 0)::bigint,"
        " min(c.admitted_at), max(c.admitted_at) FROM call AS c JOIN account AS a ON a.id = c.account"
        " WHERE c.task = $1 AND a.account_id = $2::text AND c.reason IS NULL";
    static const char list[] = "SELECT c.call_id, c.admitted_at, coalesce(c.model_replied, "
                               "c.model_requested), c.outcome, c.raw_nanos,"
                               " c.billed_nanos FROM call AS c JOIN account AS a ON a.id = c.account"
                               " WHERE c.task = $1 AND a.account_id = $2::text AND c.reason IS NULL"
                               " ORDER BY c.admitted_at DESC, c.call_id LIMIT " RECENT_CALLS;
    struct task t = {.registered = false};
    struct strview account = api_query_get(r, "account_id");
    if (!api_query_end(r) || !load(r, &t, err))
        return false;
    if (!t.registered && sv_is_empty(account))
        return refuse_missing(r);
    if (t.registered && !sv_is_empty(account) && !sv_eq(account, t.account_id))
        return api_refuse(r, 409, "conflict", "leave account_id out for a registered task",
                          "task \"" SV_FMT "\" belongs to another account", SV_ARG(t.id));
    if (!t.registered)
        t.account_id = account;
    struct pg_fields args;
    pg_fields_init(&args);
    pg_put_text(&args, t.id);
    pg_put_text(&args, t.account_id);
    struct pg_step steps[] = {{.sql = sum, .args = &args}, {.sql = list, .args = &args}};
    bool ok = pg_session_run(r->pg, steps, 2, err) && view_bill(r, &t, steps[0].rows, steps[1].rows, err);
    pg_steps_free(steps, 2);
    pg_fields_free(&args);
    return ok;
}
