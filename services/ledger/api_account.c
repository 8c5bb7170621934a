#include "api_account.h"

#include "api_body.h"
#include "api_config.h"
#include "api_view.h"
#include "pg_session.h"

#define DEFAULT_TIER SV_LIT("default")
#define HINT_MAKE    "make it with PUT /v1/accounts/{id}, and encode ids in paths as %XX"

/* Columns of the account resource; tier and markup are those in force now. */
#define COLUMNS                                                                                              \
    "a.account_id, a.name, t.tier, m.markup_ppm, a.overdraft_limit_nanos, b.amount_nanos, b.held_nanos, "    \
    "b.seq,"                                                                                                 \
    " a.created_at, a.id"
#define FROM                                                                                                 \
    " FROM account AS a JOIN balance AS b ON b.account = a.id"                                               \
    " CROSS JOIN LATERAL (SELECT v.tier FROM account_version AS v WHERE v.account = a.id"                    \
    " AND v.effective_from <= clock_timestamp() ORDER BY v.effective_from DESC, v.recorded_at DESC LIMIT "   \
    "1) AS t"                                                                                                \
    " CROSS JOIN LATERAL (SELECT x.markup_ppm FROM tier AS x WHERE x.name = t.tier"                          \
    " AND x.effective_from <= clock_timestamp() ORDER BY x.effective_from DESC, x.recorded_at DESC LIMIT "   \
    "1) AS m"

enum column {
    COL_ID,
    COL_NAME,
    COL_TIER,
    COL_MARKUP,
    COL_OVERDRAFT,
    COL_BALANCE,
    COL_HELD,
    COL_SEQ,
    COL_CREATED,
    COL_KEY
};

static void view(struct json_write *w, const struct pg_rows *rows, size_t row)
{
    api_view_text(w, "account_id", pg_get(rows, row, COL_ID));
    api_view_text(w, "name", pg_get(rows, row, COL_NAME));
    api_view_text(w, "tier", pg_get(rows, row, COL_TIER));
    api_view_markup(w, "markup", pg_get_i64(rows, row, COL_MARKUP));
    api_view_usd(w, "overdraft_limit", pg_get_opt_i64(rows, row, COL_OVERDRAFT));
    api_view_usd(w, "balance", pg_get_opt_i64(rows, row, COL_BALANCE));
    api_view_usd(w, "held", pg_get_opt_i64(rows, row, COL_HELD));
    json_write_key(w, "entries");
    json_write_i64(w, pg_get_i64(rows, row, COL_SEQ));
    api_view_time(w, "created_at", pg_get_opt_time(rows, row, COL_CREATED));
}

static bool view_one(struct api_request *r, struct strview id, struct err *err)
{
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    struct registry_fact fact;
    bool found = false;
    pg_fields_init(&args);
    pg_put_text(&args, id);
    bool ok =
        pg_session_query(r->pg, "SELECT " COLUMNS FROM " WHERE a.account_id = $1::text", &args, &rows, err) &&
        registry_rows_one(r->pg, REGISTRY_ACCOUNT, id, r->arena, &fact, &found, err);
    if (ok && (!found || pg_rows_count(rows) == 0))
        ok = api_refuse(r, 404, "not_found", HINT_MAKE, "there is no account \"" SV_FMT "\"", SV_ARG(id));
    if (ok) {
        json_write_open(&r->json, '{');
        view(&r->json, rows, 0);
        api_view_history(&r->json, &fact);
        json_write_close(&r->json, '}');
    }
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

bool api_account_get(struct api_request *r, struct err *err)
{
    return api_query_end(r) && view_one(r, r->param[0], err);
}

bool api_account_list(struct api_request *r, struct err *err)
{
    static const char sql[] =
        "SELECT " COLUMNS FROM " WHERE $1::text IS NULL OR a.account_id COLLATE \"C\" > $1"
        " ORDER BY a.account_id COLLATE \"C\" LIMIT $2::bigint";
    struct api_page page;
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    if (!api_page_read(r, "accounts", &page) || !api_query_end(r))
        return false;
    pg_fields_init(&args);
    pg_put_text(&args, page.after);
    pg_put_i64(&args, page.limit + 1);
    bool ok = pg_session_query(r->pg, sql, &args, &rows, err);
    if (ok) {
        size_t count = pg_rows_count(rows);
        bool more = count > (size_t)page.limit;
        json_write_open(&r->json, '{');
        json_write_key(&r->json, "items");
        json_write_open(&r->json, '[');
        count = more ? (size_t)page.limit : count;
        for (size_t i = 0; i < count; i++) {
            json_write_open(&r->json, '{');
            view(&r->json, rows, i);
            json_write_close(&r->json, '}');
        }
        json_write_close(&r->json, ']');
        api_page_next(r, "accounts", count == 0 ? SV_NULL : pg_get(rows, count - 1, COL_ID), more);
        json_write_close(&r->json, '}');
    }
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

bool api_account_find(struct api_request *r, int64_t *account, struct err *err)
{
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    pg_fields_init(&args);
    pg_put_text(&args, r->param[0]);
    bool ok = pg_session_query(r->pg, "SELECT id FROM account WHERE account_id = $1", &args, &rows, err);
    if (ok && pg_rows_count(rows) == 0)
        ok = api_refuse(r, 404, "not_found", HINT_MAKE, "there is no account \"" SV_FMT "\"",
                        SV_ARG(r->param[0]));
    if (ok)
        *account = pg_get_i64(rows, 0, 0);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

/* Writing one */

static bool read(struct api_request *r, struct api_wanted *w, struct err *err)
{
    enum { NAME, TIER, OVERDRAFT, EFFECTIVE_FROM, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [NAME] = {"name", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [TIER] = {"tier", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [OVERDRAFT] = {"overdraft_limit", API_FIELD_MONEY, API_FIELD_OPTIONAL},
        [EFFECTIVE_FROM] = {"effective_from", API_FIELD_TIME, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    struct registry_fact tier;
    w->id = r->param[0];
    if (!api_id_check(r, "account", w->id) || !api_body_read(r, "an account", r->body, fields, FIELDS, v))
        return false;
    if (v[OVERDRAFT].present && v[OVERDRAFT].number < 0)
        return api_refuse(r, 400, "invalid",
                          "give how far below zero the balance may fall, as a positive amount",
                          "overdraft_limit is negative");
    w->name = v[NAME].text;
    w->value.tier = v[TIER].text;
    w->has_overdraft = v[OVERDRAFT].given;
    w->overdraft_nanos = (struct opt_i64){.has = v[OVERDRAFT].present, .v = v[OVERDRAFT].number};
    w->effective_from = (struct opt_i64){.has = v[EFFECTIVE_FROM].present, .v = v[EFFECTIVE_FROM].number};
    return !v[TIER].present ||
           api_config_find(r, REGISTRY_TIER, v[TIER].text, 400,
                           "make the tier first: PUT /v1/tiers/{name} {\"markup\": \"1.30\"}", &tier, err);
}

static void complete(struct api_wanted *w, const struct registry_fact *fact)
{
    if (!sv_is_null(w->value.tier))
        return;
    w->value.tier = fact == NULL ? DEFAULT_TIER : fact->record.versions[fact->record.version_count - 1].tier;
}

static bool same(struct api_request *r, const struct api_wanted *w, bool *out, struct err *err)
{
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    pg_fields_init(&args);
    pg_put_text(&args, w->id);
    bool ok = pg_session_query(r->pg, "SELECT name, overdraft_limit_nanos FROM account WHERE account_id = $1",
                               &args, &rows, err);
    if (ok) {
        struct opt_i64 overdraft = pg_get_opt_i64(rows, 0, 1);
        *out = (sv_is_null(w->name) || sv_eq(w->name, pg_get(rows, 0, 0))) &&
               (!w->has_overdraft ||
                (overdraft.has == w->overdraft_nanos.has && overdraft.v == w->overdraft_nanos.v));
    }
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

static bool write_version(struct api_request *r, const struct api_wanted *w, const struct config_stamp *stamp,
                          struct err *err)
{
    struct pg_fields args;
    pg_fields_init(&args);
    pg_put_text(&args, w->id);
    pg_put_time(&args, w->value.effective_from);
    pg_put_time(&args, stamp->recorded_at);
    pg_put_text(&args, w->value.tier);
    pg_put_i64(&args, stamp->version);
    bool ok = pg_session_query(
        r->pg,
        "INSERT INTO account_version (account, effective_from, recorded_at, tier, config_version)"
        " SELECT id, $2, $3, $4, $5 FROM account WHERE account_id = $1",
        &args, NULL, err);
    pg_fields_free(&args);
    return ok;
}

static bool write(struct api_request *r, const struct api_wanted *w, const struct config_stamp *stamp,
                  bool version, struct err *err)
{
    static const char sql[] =
        "INSERT INTO account AS a (account_id, name, overdraft_limit_nanos, config_version)"
        " VALUES ($1, coalesce($2::text, ''), $3::bigint, $5) ON CONFLICT (account_id) DO UPDATE SET"
        " name = coalesce($2, a.name), config_version = $5,"
        " overdraft_limit_nanos = CASE WHEN $4::boolean THEN $3 ELSE a.overdraft_limit_nanos END";
    struct pg_fields args;
    pg_fields_init(&args);
    pg_put_text(&args, w->id);
    pg_put_text(&args, w->name);
    pg_put_opt_i64(&args, w->overdraft_nanos);
    pg_put_bool(&args, w->has_overdraft);
    pg_put_i64(&args, stamp->version);
    bool ok = pg_session_query(r->pg, sql, &args, NULL, err);
    pg_fields_free(&args);
    return ok && (!version || write_version(r, w, stamp, err));
}

bool api_account_put(struct api_request *r, struct err *err)
{
    static const struct api_config_kind kind = {.kind = REGISTRY_ACCOUNT,
                                                .read = read,
                                                .complete = complete,
                                                .same = same,
                                                .write = write,
                                                .view = view_one};
    return api_config_put(r, &kind, err);
}
