#include "registry_rows.h"

#include "config_write.h"
#include "pg_query.h"
#include <string.h>

/* Room for whatever config_write let in: each text takes its bytes and a NUL where the record has its bytes
 * and a length of at least one, and a view if it stands in one of a version's three lists. */
#define LISTS ((size_t)3)
#define ROWS_ARENA_BYTES                                                                                     \
    (CONFIG_RECORD_BYTES + LIMIT_REGISTRY_VERSIONS * (sizeof(struct registry_version) +                      \
                                                      LISTS * LIMIT_TAGS * sizeof(struct strview)))

#define TEXTS(list)                                                                                          \
    "ARRAY(SELECT jsonb_array_elements_text(coalesce(nullif(f.tag_policy->'" list "', 'null'), '[]')))"
#define COLUMNS                                                                                              \
    "f.kind, f.id, f.config_version, f.effective_from, f.recorded_at, f.account_id, f.tier, f.markup_ppm, "  \
    "f.user_id,"                                                                                             \
    " f.team, f.price_key, f.conversation_id, f.account, f.tags, f.tag_policy->>'trust', " TEXTS(            \
        "require") ", " TEXTS("accounts") ", f.tag_policy IS NOT NULL"

_Static_assert(REGISTRY_ACCOUNT == 0 && REGISTRY_KEY == 1 && REGISTRY_TIER == 2 && REGISTRY_TASK == 3 &&
                   REGISTRY_CONVERSATION == 4 && REGISTRY_MODEL == 5,
               "the view fact numbers the kinds as enum registry_kind does");

enum column {
    COL_KIND,
    COL_ID,
    COL_CONFIG_VERSION,
    COL_EFFECTIVE_FROM,
    COL_RECORDED_AT,
    COL_ACCOUNT,
    COL_TIER,
    COL_MARKUP,
    COL_USER,
    COL_TEAM,
    COL_PRICE_KEY,
    COL_CONVERSATION,
    COL_SURROGATE,
    COL_TAGS,
    COL_TRUST,
    COL_REQUIRE,
    COL_ACCOUNTS,
    COL_HAS_POLICY,
};

static bool no_room(struct err *err)
{
    return err_set(err, ERR_FULL, FATE_FATAL, "registry: a fact's history does not fit %zu bytes",
                   ROWS_ARENA_BYTES);
}

static bool dup(const struct pg_rows *rows, size_t row, int column, struct arena *a, struct strview *out)
{
    return arena_dup(a, pg_get(rows, row, column), out);
}

static bool read_texts(const struct pg_rows *rows, size_t row, int column, struct arena *a,
                       struct strview **out, size_t *count)
{
    struct pg_array items = pg_get_array(rows, row, column);
    struct strview item;
    if (items.count == 0)
        return true;
    *out = arena_alloc(a, items.count * sizeof **out);
    while (*out != NULL && pg_array_next(&items, &item)) {
        if (!arena_dup(a, item, &(*out)[(*count)++]))
            return false;
    }
    return *out != NULL;
}

static bool read_policy(const struct pg_rows *rows, size_t row, struct arena *a, struct tag_policy *out)
{
    struct strview trust = pg_get(rows, row, COL_TRUST);
    out->has = pg_get_bool(rows, row, COL_HAS_POLICY);
    if (!sv_is_null(trust) && !tag_trust_parse(trust, &out->trust))
        return false;
    return read_texts(rows, row, COL_REQUIRE, a, &out->require, &out->require_count) &&
           read_texts(rows, row, COL_ACCOUNTS, a, &out->accounts, &out->account_count);
}

static bool read_version(const struct pg_rows *rows, size_t row, struct arena *a, struct registry_version *v,
                         struct err *err)
{
    *v = (struct registry_version){
        .effective_from = pg_get_time(rows, row, COL_EFFECTIVE_FROM),
        .recorded_at = pg_get_time(rows, row, COL_RECORDED_AT),
        .markup_ppm = pg_get_opt_i64(rows, row, COL_MARKUP),
    };
    return (dup(rows, row, COL_ACCOUNT, a, &v->account_id) && dup(rows, row, COL_TIER, a, &v->tier) &&
            dup(rows, row, COL_USER, a, &v->user) && dup(rows, row, COL_TEAM, a, &v->team) &&
            dup(rows, row, COL_PRICE_KEY, a, &v->price_key) &&
            dup(rows, row, COL_CONVERSATION, a, &v->conversation_id) &&
            read_texts(rows, row, COL_TAGS, a, &v->tags, &v->tag_count) &&
            read_policy(rows, row, a, &v->tag_policy)) ||
           no_room(err);
}

/* The rows from `first` up to `end` are one fact's, oldest first. */
static bool read_fact(const struct pg_rows *rows, size_t first, size_t end, struct arena *a,
                      struct registry_fact *out, struct err *err)
{
    size_t count = end - first;
    *out = (struct registry_fact){.dropped =
                                      count > LIMIT_REGISTRY_VERSIONS ? count - LIMIT_REGISTRY_VERSIONS : 0,
                                  .config_version = pg_get_i64(rows, end - 1, COL_CONFIG_VERSION),
                                  .account = pg_get_i64(rows, first, COL_SURROGATE)};
    struct registry_record *record = &out->record;
    record->kind = (enum registry_kind)pg_get_i64(rows, first, COL_KIND);
    record->version_count = count - out->dropped;
    record->versions = arena_alloc(a, record->version_count * sizeof *record->versions);
    if (record->versions == NULL || !dup(rows, first, COL_ID, a, &record->id))
        return no_room(err);
    for (size_t i = 0; i < record->version_count; i++) {
        if (!read_version(rows, first + out->dropped + i, a, &record->versions[i], err))
            return false;
    }
    return true;
}

static size_t fact_end(const struct pg_rows *rows, size_t first)
{
    size_t end = first + 1;
    while (end < pg_rows_count(rows) &&
           pg_get_i64(rows, end, COL_KIND) == pg_get_i64(rows, first, COL_KIND) &&
           sv_eq(pg_get(rows, end, COL_ID), pg_get(rows, first, COL_ID)))
        end++;
    return end;
}

static bool each_fact(const struct pg_rows *rows, struct arena *a, registry_fact_fn *each, void *arg,
                      struct err *err)
{
    struct registry_fact fact;
    size_t end;
    for (size_t row = 0; row < pg_rows_count(rows); row = end) {
        end = fact_end(rows, row);
        arena_reset(a);
        if (!read_fact(rows, row, end, a, &fact, err) || !each(arg, &fact, err))
            return false;
    }
    return true;
}

bool registry_rows_changed(struct pg_session *pg, int64_t after, registry_fact_fn *each, void *arg,
                           struct err *err)
{
    /* one index look-up a kind for each changed id: joining whole tables would scan every task there ever was
     */
    static const char all[] = "SELECT " COLUMNS " FROM fact AS f WHERE f.config_version > $1::bigint"
                              " ORDER BY f.kind, f.id, f.config_version";
    static const char some[] =
        "SELECT " COLUMNS " FROM (SELECT DISTINCT kind, id FROM fact"
        " WHERE config_version > $1::bigint) AS c CROSS JOIN LATERAL (SELECT * FROM fact AS y"
        " WHERE y.kind = c.kind AND y.id = c.id) AS f ORDER BY f.kind, f.id, f.config_version";
    struct pg_rows *rows = NULL;
    struct arena a;
    arena_init(&a, ROWS_ARENA_BYTES);
    bool ok = pg_query(pg, after == 0 ? all : some, PG_ARGS(PG_I64(after)), &rows, err) &&
              each_fact(rows, &a, each, arg, err);
    pg_rows_free(rows);
    arena_free(&a);
    return ok;
}

bool registry_rows_one(struct pg_session *pg, enum registry_kind kind, struct strview id, struct arena *a,
                       struct registry_fact *out, bool *found, struct err *err)
{
    static const char sql[] =
        "SELECT " COLUMNS
        " FROM fact AS f WHERE f.kind = $1::int AND f.id = $2::text ORDER BY f.config_version";
    struct pg_rows *rows = NULL;
    bool ok = pg_query(pg, sql, PG_ARGS(PG_I32(kind), PG_TEXT(id)), &rows, err);
    *found = ok && pg_rows_count(rows) > 0;
    if (*found)
        ok = read_fact(rows, 0, pg_rows_count(rows), a, out, err);
    pg_rows_free(rows);
    return ok;
}
