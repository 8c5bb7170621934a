#include "api_prices.h"

#include "api_fact.h"
#include "api_rows.h"
#include "base/clock.h"
#include "pg_query.h"
#include "price_import.h"
#include "price_store.h"
#include "registry_rows.h"
#include "spend/price_key.h"

#define SOURCE_BYTES 200

/* The book that holds at a time, as things are written now (NULL: none does), and the newest version. */
static bool in_force(struct api_request *r, int64_t at, const struct price_book **out, int64_t *newest,
                     struct err *err)
{
    struct pg_rows *rows = NULL;
    *out = NULL;
    if (!pg_query(r->pg,
                  "SELECT coalesce((SELECT version FROM price_book WHERE effective_from <= $1"
                  " ORDER BY effective_from DESC, recorded_at DESC LIMIT 1), 0), coalesce(max(version), 0)"
                  " FROM price_book",
                  PG_ARGS(PG_TIME(at)), &rows, err))
        return false;
    int64_t version = pg_get_i64(rows, 0, 0);
    *newest = pg_get_i64(rows, 0, 1);
    pg_rows_free(rows);
    return version == 0 || price_store_book(r->prices, r->pg, version, out, err);
}

static bool clock_read(struct api_request *r, int64_t *now, struct err *err)
{
    struct pg_rows *rows = NULL;
    if (!pg_session_query(r->pg, "SELECT clock_timestamp()", NULL, &rows, err))
        return false;
    *now = pg_get_time(rows, 0, 0);
    pg_rows_free(rows);
    return true;
}

struct wish {
    bool dry_run;
    struct strview source;
    struct opt_i64 effective_from;
};

static bool read_wish(struct api_request *r, struct wish *wish)
{
    struct strview dry = api_query_get(r, "dry_run");
    struct strview from = api_query_get(r, "effective_from");
    wish->source = api_query_get(r, "source");
    if (sv_is_null(wish->source))
        wish->source = SV_LIT("");
    if (!api_query_end(r))
        return false;
    wish->dry_run = sv_eq(dry, SV_LIT("true"));
    if (!sv_is_null(dry) && !wish->dry_run && !sv_eq(dry, SV_LIT("false")))
        return api_refuse(r, 400, "invalid", "use true or false", "dry_run is neither true nor false");
    if (wish->source.len > SOURCE_BYTES || sv_has_control(wish->source))
        return api_refuse(r, 400, "invalid", "use at most 200 bytes of printable UTF-8",
                          "source is malformed");
    wish->effective_from.has = !sv_is_null(from);
    if (wish->effective_from.has && !clock_parse(from, &wish->effective_from.v))
        return api_refuse(r, 400, "invalid", "give a time like 2026-11-23T07:00:00Z, with + encoded as %2B",
                          "effective_from is no RFC 3339 time");
    return true;
}

static void view_import(struct api_request *r, const struct price_import_draft *draft, int64_t version,
                        struct opt_i64 effective_from, bool dry_run)
{
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "version");
    json_write_i64(&r->json, version);
    json_write_key(&r->json, "effective_from");
    if (effective_from.has)
        json_write_time(&r->json, effective_from.v);
    else
        json_write_null(&r->json);
    json_write_key(&r->json, "dry_run");
    json_write_bool(&r->json, dry_run);
    json_write_key(&r->json, "unchanged");
    json_write_bool(&r->json, draft->same);
    price_import_view(&r->json, draft);
    json_write_close(&r->json, '}');
}

/* The file against the book that holds from when it is wanted; from a time that has passed, it must hold
 * still. */
static bool compare(struct api_request *r, struct price_import_draft *draft, int64_t now, int64_t wanted,
                    const struct price_book **stands, struct err *err)
{
    int64_t newest = 0;
    int64_t soonest = now + r->config_lead_us;
    const struct price_book *still;
    if (!in_force(r, wanted, stands, &newest, err) ||
        !in_force(r, wanted < soonest ? soonest : wanted, &still, &newest, err))
        return false;
    if (!price_import_compare(draft, *stands, newest, err))
        return false;
    draft->same = draft->same && still == *stands;
    return true;
}

/* Under the lock, so that no other import comes between. */
static bool put(struct api_request *r, struct price_import_draft *draft, const struct wish *wish,
                struct err *err)
{
    struct config_stamp stamp;
    const struct price_book *stands;
    if (!pg_session_begin(r->pg, err) || !config_write_begin(r->pg, &stamp, err))
        return false;
    int64_t effective_from = api_fact_wanted(r, stamp.recorded_at, wish->effective_from);
    if (!compare(r, draft, stamp.recorded_at, effective_from, &stands, err))
        return false;
    if (stands != NULL && draft->same) {
        view_import(r, draft, stands->version, OPT_I64(stands->effective_from), false);
        return true;
    }
    if (draft->before == 0)
        effective_from = 0; /* a first book holds from the start */
    else if (!api_fact_allowed(r, stamp.recorded_at, effective_from))
        return false;
    if (!price_import_put(r->pg, draft, &stamp, effective_from, wish->source, api_role_name(r->role), err) ||
        !pg_session_commit(r->pg, err))
        return false;
    view_import(r, draft, draft->book->version, OPT_I64(effective_from), false);
    return true;
}

static bool try_dry(struct api_request *r, struct price_import_draft *draft, const struct wish *wish,
                    struct err *err)
{
    const struct price_book *stands;
    int64_t now = 0;
    if (!clock_read(r, &now, err) ||
        !compare(r, draft, now, api_fact_wanted(r, now, wish->effective_from), &stands, err))
        return false;
    if (stands != NULL && draft->same)
        view_import(r, draft, stands->version, OPT_I64(stands->effective_from), true);
    else
        view_import(r, draft, draft->before + 1, wish->effective_from, true);
    return true;
}

bool api_prices_post(struct api_request *r, struct err *err)
{
    struct wish wish = {.dry_run = false};
    struct price_import_draft draft = {.book = NULL};
    struct err why = {0};
    if (!read_wish(r, &wish))
        return false;
    bool ok = false;
    if (!price_import_read(&draft, r->body, &why))
        api_refuse(r, 400, "invalid_prices",
                   "send a LiteLLM price file, unchanged; nothing of this one was taken", "%s", why.text);
    else
        ok = wish.dry_run ? try_dry(r, &draft, &wish, err) : put(r, &draft, &wish, err);
    if (!ok && !r->refused && err->fate == FATE_DEAD_LETTER)
        api_refuse(r, 400, "invalid_prices", "send a smaller price file; nothing of this one was taken", "%s",
                   err->text);
    price_import_free(&draft);
    return ok;
}

bool api_prices_list(struct api_request *r, struct err *err)
{
    static const char sql[] = "SELECT b.json::text, b.id::text FROM price_book_json AS b"
                              " WHERE $1::text IS NULL AND b.id > coalesce($2::text::bigint, 0)"
                              " ORDER BY b.id LIMIT $3::bigint";
    return api_rows_list(r, sql, SV_NULL, "prices", err);
}

/* The entry a call of this model would be priced by, if its provider is not known: through the alias, as the
 * rater. */
static const struct price_entry *find_entry(const struct price_book *book, struct strview alias,
                                            struct strview model)
{
    const struct price_entry *entry = sv_is_null(alias) ? NULL : price_book_find(book, alias);
    if (entry == NULL && !sv_is_null(alias))
        entry = price_key_find(book, OPERATION_CHAT, SV_NULL, alias);
    return entry != NULL ? entry : price_key_find(book, OPERATION_CHAT, SV_NULL, model);
}

static bool find_book(struct api_request *r, int64_t now, const struct price_book **book, struct err *err)
{
    int64_t version;
    *book = NULL;
    if (sv_eq(r->param[0], SV_LIT("current")))
        return in_force(r, now, book, &version, err);
    if (!sv_to_i64(r->param[0], &version) || version < 1)
        return api_refuse(r, 400, "invalid", "use a version of GET /v1/prices, or current",
                          "the version is malformed");
    return price_store_book(r->prices, r->pg, version, book, err) || err->code == ERR_NOT_FOUND;
}

bool api_prices_get_model(struct api_request *r, struct err *err)
{
    const struct price_book *book;
    struct registry_fact fact;
    struct strview alias = SV_NULL;
    bool aliased;
    int64_t now = 0;
    if (!api_query_end(r) || !clock_read(r, &now, err) || !find_book(r, now, &book, err) ||
        !registry_rows_one(r->pg, REGISTRY_MODEL, r->param[1], r->arena, &fact, &aliased, err))
        return false;
    if (book == NULL)
        return api_refuse(r, 404, "not_found", "GET /v1/prices lists what there is",
                          "there is no such price book");
    const struct registry_version *holds = NULL;
    if (aliased)
        holds = registry_in_force(fact.record.versions, fact.record.version_count, now, INT64_MAX);
    if (holds != NULL)
        alias = holds->price_key;
    const struct price_entry *entry = find_entry(book, alias, r->param[1]);
    if (entry == NULL)
        return api_refuse(
            r, 404, "not_found",
            "give the model an alias: PUT /v1/models/{alias} {\"price_key\": ..}, or import a newer file",
            "price book %lld has no price for \"" SV_FMT "\"", (long long)book->version, SV_ARG(r->param[1]));
    struct pg_rows *rows = NULL;
    if (!pg_query(r->pg, "SELECT json::text FROM price_json WHERE version = $1 AND key = $2",
                  PG_ARGS(PG_I64(book->version), PG_TEXT(entry->key)), &rows, err))
        return false;
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "model");
    json_write_sv(&r->json, r->param[1]);
    json_write_key(&r->json, "alias_of");
    json_write_sv(&r->json, alias);
    api_rows_members(&r->json, pg_get(rows, 0, 0));
    json_write_close(&r->json, '}');
    pg_rows_free(rows);
    return true;
}
