#include "api_budget.h"

#include "api_body.h"
#include "api_rows.h"
#include "base/metrics.h"
#include "base/sha256.h"
#include "config_write.h"
#include "pg_query.h"
#include "spend/scope.h"
#include "window_charge.h"

#include <string.h>

#define HINT          "make it with PUT /v1/budgets/{id} {\"scope\": .., \"value\": .., \"limit\": .., \"window\": ..}"
#define SECONDS_MAX   (100LL * 366 * 86400)
#define PERCENT_MAX   1000
#define REASON_BYTES  500
#define THRESHOLD_MAX 16

static const int64_t thresholds_default[] = {50, 80, 100};

struct window_wish {
    struct strview kind;
    struct strview period;
    struct opt_i64 seconds;
    struct strview tz;
    struct opt_i64 anchor;
};

struct budget_wish {
    enum scope_kind scope;
    struct strview value;
    struct strview each;
    struct opt_i64 limit_nanos;
    struct strview measure;
    bool hard;
    const int64_t *thresholds;
    size_t threshold_count;
    struct window_wish window;
};

static bool is_one_of(struct strview text, const char *const *words)
{
    for (; *words != NULL; words++)
        if (sv_eq(text, sv_of(*words)))
            return true;
    return false;
}

/* Postgres takes more for a zone than its names: offsets, rules, abbreviations that many places share. */
static bool check_zone(struct api_request *r, struct strview tz, struct err *err)
{
    struct pg_rows *rows = NULL;
    if (!pg_query(r->pg, "SELECT count(*) FROM pg_timezone_names WHERE name = $1", PG_ARGS(PG_TEXT(tz)),
                  &rows, err))
        return false;
    bool known = pg_get_i64(rows, 0, 0) > 0;
    pg_rows_free(rows);
    return known || api_refuse(r, 400, "invalid", "name an IANA zone like \"Europe/Berlin\"",
                               "there is no time zone \"" SV_FMT "\"", SV_ARG(tz));
}

static bool read_window(struct api_request *r, struct strview json, struct window_wish *w, struct err *err)
{
    enum { KIND, PERIOD, SECONDS, TZ, ANCHOR, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [KIND] = {"kind", API_FIELD_TEXT, API_FIELD_REQUIRED},
        [PERIOD] = {"period", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [SECONDS] = {"seconds", API_FIELD_INTEGER, API_FIELD_OPTIONAL},
        [TZ] = {"tz", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [ANCHOR] = {"anchor", API_FIELD_TIME, API_FIELD_OPTIONAL},
    };
    static const char *const kinds[] = {"lifetime", "calendar", "interval", NULL};
    static const char *const periods[] = {"hour", "day", "week", "month", "quarter", "year", NULL};
    struct api_value v[FIELDS];
    if (!api_body_read(r, "a window", json, fields, FIELDS, v))
        return false;
    *w = (struct window_wish){.kind = v[KIND].text,
                              .period = v[PERIOD].text,
                              .seconds = {.has = v[SECONDS].present, .v = v[SECONDS].number},
                              .tz = v[TZ].present ? v[TZ].text : SV_LIT("UTC"),
                              .anchor = {.has = v[ANCHOR].present, .v = v[ANCHOR].number}};
    bool calendar = sv_eq(w->kind, SV_LIT("calendar"));
    bool interval = sv_eq(w->kind, SV_LIT("interval"));
    if (!is_one_of(w->kind, kinds))
        return api_refuse(r, 400, "invalid", "use lifetime, calendar or interval",
                          "a window's kind is not \"" SV_FMT "\"", SV_ARG(w->kind));
    if (calendar ? !is_one_of(w->period, periods) : v[PERIOD].present)
        return api_refuse(
            r, 400, "invalid",
            "give a calendar window a period: hour, day, week, month, quarter or year; no other",
            "window.period does not fit");
    if (interval != w->seconds.has || (interval && (w->seconds.v < 1 || w->seconds.v > SECONDS_MAX)))
        return api_refuse(r, 400, "invalid", "give an interval seconds, from 1 to 100 years; no other window",
                          "window.seconds does not fit");
    if (w->anchor.has && !interval)
        return api_refuse(r, 400, "invalid", "only an interval has an anchor", "window.anchor does not fit");
    return check_zone(r, w->tz, err);
}

static bool lower_hex(struct api_request *r, struct strview *value)
{
    uint8_t bytes[SHA256_LEN];
    char *hex = arena_alloc(r->arena, SHA256_HEX_LEN + 1);
    if (hex == NULL || !sha256_from_hex(*value, bytes, sizeof bytes))
        return api_refuse(
            r, 400, "invalid",
            "name a key by its SHA-256 in hex: printf %s \"$KEY\" | sha256sum; never the key itself",
            "the key's value is not 64 hex digits");
    sha256_to_hex(bytes, sizeof bytes, hex);
    *value = (struct strview){hex, SHA256_HEX_LEN};
    return true;
}

/* Which calls it is about. */
static bool check_scope(struct api_request *r, struct strview scope, struct budget_wish *w)
{
    if (!scope_parse(scope, &w->scope))
        return api_refuse(r, 400, "invalid", "use key, user, team, account, task, conversation, tag or model",
                          "a budget's scope is not \"" SV_FMT "\"", SV_ARG(scope));
    if (sv_is_null(w->value) == sv_is_null(w->each))
        return api_refuse(r, 400, "invalid",
                          "give value for one, or each for a window of its own for every one",
                          "a budget has either value or each");
    size_t most = w->scope == SCOPE_TAG     ? LIMIT_TAG_BYTES
                  : w->scope == SCOPE_MODEL ? LIMIT_TEXT_BYTES
                                            : LIMIT_ID_BYTES;
    struct strview text = sv_is_null(w->value) ? w->each : w->value;
    if (text.len == 0 || text.len > most)
        return api_refuse(r, 400, "invalid", "give the value that calls have, byte for byte",
                          "value and each have 1 to %zu bytes here", most);
    if (!sv_is_null(w->value))
        return w->scope != SCOPE_KEY || lower_hex(r, &w->value);
    if (w->scope == SCOPE_TAG ? sv_find(w->each, '=') < w->each.len : !sv_eq(w->each, scope))
        return api_refuse(
            r, 400, "invalid",
            "each is a tag's key (what stands before the first =), of any other scope the scope itself",
            "each \"" SV_FMT "\" does not fit", SV_ARG(w->each));
    return true;
}

static bool check_thresholds(struct api_request *r, const struct budget_wish *w)
{
    bool ok = w->threshold_count <= THRESHOLD_MAX;
    for (size_t i = 0; ok && i < w->threshold_count; i++)
        ok = w->thresholds[i] >= 1 && w->thresholds[i] <= PERCENT_MAX &&
             (i == 0 || w->thresholds[i] > w->thresholds[i - 1]);
    return ok || api_refuse(r, 400, "invalid",
                            "give at most 16 percentages from 1 to 1000, ascending: [50, 80, 100]",
                            "thresholds do not fit");
}

static bool read_budget(struct api_request *r, struct budget_wish *w, struct err *err)
{
    enum { SCOPE, VALUE, EACH, LIMIT, MEASURE, WINDOW, MODE, THRESHOLDS, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [SCOPE] = {"scope", API_FIELD_TEXT, API_FIELD_REQUIRED},
        [VALUE] = {"value", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [EACH] = {"each", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [LIMIT] = {"limit", API_FIELD_MONEY, API_FIELD_OPTIONAL},
        [MEASURE] = {"measure", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [WINDOW] = {"window", API_FIELD_OBJECT, API_FIELD_REQUIRED},
        [MODE] = {"mode", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [THRESHOLDS] = {"thresholds", API_FIELD_INTEGERS, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    if (!api_id_check(r, "budget", r->param[0]) || !api_body_read(r, "a budget", r->body, fields, FIELDS, v))
        return false;
    *w = (struct budget_wish){.value = v[VALUE].text,
                              .each = v[EACH].text,
                              .limit_nanos = {.has = v[LIMIT].present, .v = v[LIMIT].number},
                              .measure = v[MEASURE].present ? v[MEASURE].text : SV_LIT("raw"),
                              .hard = !v[MODE].present || sv_eq(v[MODE].text, SV_LIT("hard")),
                              .thresholds = thresholds_default,
                              .threshold_count = sizeof thresholds_default / sizeof thresholds_default[0]};
    if (v[THRESHOLDS].present) {
        w->thresholds = v[THRESHOLDS].integers;
        w->threshold_count = v[THRESHOLDS].integer_count;
    }
    if (!v[LIMIT].given) /* a forgotten limit would let everything pass */
        return api_refuse(r, 400, "invalid", "give limit in USD, or null for none",
                          "a budget needs \"limit\"");
    if (w->limit_nanos.v < 0)
        return api_refuse(r, 400, "invalid", "give 0 to let nothing pass, null for no limit",
                          "limit is negative");
    if (!w->hard && !sv_eq(v[MODE].text, SV_LIT("shadow")))
        return api_refuse(r, 400, "invalid", "use hard or shadow", "a budget's mode is not \"" SV_FMT "\"",
                          SV_ARG(v[MODE].text));
    if (!sv_eq(w->measure, SV_LIT("raw")) && !sv_eq(w->measure, SV_LIT("billed")))
        return api_refuse(r, 400, "invalid",
                          "use raw (what the provider charges) or billed (with the markup)",
                          "a budget's measure is not \"" SV_FMT "\"", SV_ARG(w->measure));
    return check_scope(r, v[SCOPE].text, w) && check_thresholds(r, w) &&
           read_window(r, v[WINDOW].text, &w->window, err);
}

/* Inside the transaction: its windows' states are published, a lower limit marks them. */
static bool tell(struct api_request *r, int64_t *crossed, struct err *err)
{
    struct pg_rows *rows = NULL;
    if (!pg_query(r->pg, "SELECT budget_tell($1)", PG_ARGS(PG_TEXT(r->param[0])), &rows, err))
        return false;
    *crossed = pg_get_i64(rows, 0, 0);
    pg_rows_free(rows);
    return true;
}

static bool write(struct api_request *r, const struct budget_wish *w, bool *changed, struct err *err)
{
    static const char sql[] = "SELECT budget_put($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
                              " $13::bigint[]::int[], $14, $15)";
    struct config_stamp stamp;
    struct pg_rows *rows = NULL;
    int64_t crossed = 0;
    if (!config_write_begin(r->pg, &stamp, err) ||
        !pg_query(r->pg, sql,
                  PG_ARGS(PG_TEXT(r->param[0]), PG_STR(scope_name(w->scope)), PG_TEXT(w->value),
                          PG_TEXT(w->each), PG_OPT_I64(w->limit_nanos), PG_TEXT(w->measure),
                          PG_TEXT(w->window.kind), PG_TEXT(w->window.period), PG_OPT_I64(w->window.seconds),
                          PG_TEXT(w->window.tz), PG_OPT_TIME(w->window.anchor), PG_BOOL(w->hard),
                          PG_I64S(w->thresholds, w->threshold_count), PG_TIME(stamp.recorded_at),
                          PG_I64(stamp.version)),
                  &rows, err))
        return false;
    *changed = pg_get_bool(rows, 0, 0);
    pg_rows_free(rows);
    if (*changed &&
        (!tell(r, &crossed, err) ||
         !config_write_audit(r->pg, api_role_name(r->role), "put budget", r->param[0], r->body, err) ||
         !pg_session_commit(r->pg, err)))
        return false;
    metric_add(window_mark_metric(), crossed);
    return true;
}

/* The windows that are due are opened, whoever looks. */
static bool roll(struct api_request *r, struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = pg_session_query(r->pg, "SELECT count(*) FROM window_roll(1000)", NULL, &rows, err);
    pg_rows_free(rows);
    return ok;
}

static const char budgets_sql[] =
    "SELECT json::text, id FROM budget_json WHERE is_whole AND ($1::text IS NULL OR id = $1)"
    " AND ($2::text IS NULL OR id > $2) ORDER BY id LIMIT $3::bigint";

static bool exists(struct api_request *r, struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok =
        pg_query(r->pg, "SELECT FROM budget WHERE budget_id = $1", PG_ARGS(PG_TEXT(r->param[0])), &rows, err);
    if (ok && pg_rows_count(rows) == 0)
        ok = api_refuse(r, 404, "not_found", HINT, "there is no budget \"" SV_FMT "\"", SV_ARG(r->param[0]));
    pg_rows_free(rows);
    return ok;
}

/* One value of an `each`, in its window of now. */
static bool view_value(struct api_request *r, struct strview value, struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = exists(r, err) && pg_query(r->pg, "SELECT json::text FROM budget_now($1, $2) AS json",
                                         PG_ARGS(PG_TEXT(r->param[0]), PG_TEXT(value)), &rows, err);
    if (ok && pg_rows_count(rows) == 0)
        ok = api_refuse(r, 404, "not_found", "see GET /v1/budgets/{id}/values for what it has seen",
                        "no call has had the value \"" SV_FMT "\"", SV_ARG(value));
    if (ok)
        json_write_raw(&r->json, pg_get(rows, 0, 0));
    pg_rows_free(rows);
    return ok;
}

static bool view(struct api_request *r, struct err *err)
{
    return api_rows_get(r, budgets_sql, r->param[0], "budget", HINT, err);
}

bool api_budget_put(struct api_request *r, struct err *err)
{
    struct budget_wish w;
    bool changed = false;
    if (!api_query_end(r) || !read_budget(r, &w, err) || !pg_session_begin(r->pg, err) ||
        !write(r, &w, &changed, err))
        return false;
    pg_session_rollback(r->pg);
    return roll(r, err) && view(r, err);
}

bool api_budget_get(struct api_request *r, struct err *err)
{
    struct strview value = api_query_get(r, "value");
    return api_query_end(r) && roll(r, err) && (sv_is_null(value) ? view(r, err) : view_value(r, value, err));
}

bool api_budget_list(struct api_request *r, struct err *err)
{
    return roll(r, err) && api_rows_list(r, budgets_sql, SV_NULL, "budgets", err);
}

bool api_budget_values(struct api_request *r, struct err *err)
{
    static const char sql[] =
        "SELECT json::text, value FROM budget_json WHERE id = $1::text AND value IS NOT NULL"
        " AND ($2::text IS NULL OR value > $2) ORDER BY value LIMIT $3::bigint";
    return exists(r, err) && roll(r, err) && api_rows_list(r, sql, r->param[0], "values", err);
}

bool api_budget_resets(struct api_request *r, struct err *err)
{
    static const char sql[] = "SELECT json::text, key FROM budget_reset_json WHERE id = $1::text"
                              " AND ($2::text IS NULL OR key > $2) ORDER BY key LIMIT $3::bigint";
    return exists(r, err) && roll(r, err) && api_rows_list(r, sql, r->param[0], "resets", err);
}

static bool read_reset(struct api_request *r, struct strview *reason, struct strview *value)
{
    enum { REASON, VALUE, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [REASON] = {"reason", API_FIELD_TEXT, API_FIELD_REQUIRED},
        [VALUE] = {"value", API_FIELD_TEXT, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    if (!api_body_read(r, "a reset", r->body, fields, FIELDS, v))
        return false;
    *reason = v[REASON].text;
    *value = v[VALUE].text;
    return (reason->len > 0 && reason->len <= REASON_BYTES) ||
           api_refuse(r, 400, "invalid", "say why, in at most 500 bytes: it is kept with the reset",
                      "the reason is empty or too long");
}

bool api_budget_reset(struct api_request *r, struct err *err)
{
    struct strview reason;
    struct strview value;
    struct pg_rows *rows = NULL;
    if (!api_query_end(r) || !read_reset(r, &reason, &value) || !exists(r, err) ||
        !pg_session_begin(r->pg, err) ||
        !pg_query(
            r->pg, "SELECT budget_reset($1, $2, $3, $4)",
            PG_ARGS(PG_TEXT(r->param[0]), PG_TEXT(value), PG_STR(api_role_name(r->role)), PG_TEXT(reason)),
            &rows, err))
        return false;
    bool done = pg_rows_count(rows) > 0;
    pg_rows_free(rows);
    if (!done)
        return api_refuse(r, 404, "not_found", "name one of GET /v1/budgets/{id}/values in \"value\"",
                          "this budget has no such value, or has each and no value was named");
    return config_write_audit(r->pg, api_role_name(r->role), "reset budget", r->param[0], r->body, err) &&
           pg_session_commit(r->pg, err) && (sv_is_null(value) ? view(r, err) : view_value(r, value, err));
}
