#include "registry_rows.h"

#include "base/json_scan.h"
#include "base/json_write.h"
#include "pg_session.h"
#include <string.h>

#define ROWS_ARENA_BYTES (1 << 20)
#define POLICY_BYTES     (64 << 10)

/* Every kind's versions in one shape; kind is enum registry_kind. A fact set once holds from the start. */
#define FACTS                                                                                                \
    "(SELECT 0 AS kind, a.account_id AS id, v.config_version, v.effective_from, v.recorded_at, NULL::text "  \
    "AS account,"                                                                                            \
    " v.tier, NULL::bigint AS markup_ppm, NULL::text AS user_id, NULL::text AS team, NULL::text[] AS tags,"  \
    " NULL::jsonb AS tag_policy, NULL::text AS price_key, NULL::text AS conversation, a.id AS surrogate"     \
    " FROM account_version AS v JOIN account AS a ON a.id = v.account"                                       \
    " UNION ALL SELECT 1, key_hash, config_version, effective_from, recorded_at, account_id, NULL, NULL, "   \
    "user_id,"                                                                                               \
    " team, tags, tag_policy, NULL, NULL, NULL FROM api_key"                                                 \
    " UNION ALL SELECT 2, name, config_version, effective_from, recorded_at, NULL, NULL, markup_ppm, NULL, " \
    "NULL, NULL,"                                                                                            \
    " NULL, NULL, NULL, NULL FROM tier"                                                                      \
    " UNION ALL SELECT 3, task_id, config_version, 'epoch'::timestamptz, recorded_at, account_id, NULL, "    \
    "NULL, NULL,"                                                                                            \
    " NULL, NULL, NULL, NULL, conversation_id, NULL FROM task"                                               \
    " UNION ALL SELECT 4, conversation_id, config_version, 'epoch'::timestamptz, recorded_at, account_id, "  \
    "NULL, NULL,"                                                                                            \
    " NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM conversation"                                            \
    " UNION ALL SELECT 5, alias, config_version, effective_from, recorded_at, NULL, NULL, NULL, NULL, "      \
    "NULL, NULL,"                                                                                            \
    " NULL, price_key, NULL, NULL FROM model_alias)"
#define COLUMNS                                                                                              \
    "f.kind, f.id, f.config_version, f.effective_from, f.recorded_at, f.account, f.tier, f.markup_ppm, "     \
    "f.user_id,"                                                                                             \
    " f.team, f.tags, f.tag_policy, f.price_key, f.conversation, f.surrogate"

_Static_assert(REGISTRY_ACCOUNT == 0 && REGISTRY_KEY == 1 && REGISTRY_TIER == 2 && REGISTRY_TASK == 3 &&
                   REGISTRY_CONVERSATION == 4 && REGISTRY_MODEL == 5,
               "FACTS numbers the kinds as enum registry_kind does");

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
    COL_TAGS,
    COL_TAG_POLICY,
    COL_PRICE_KEY,
    COL_CONVERSATION,
    COL_SURROGATE,
};

static bool no_room(struct err *err)
{
    return err_set(err, ERR_FULL, FATE_FATAL, "registry: a fact's history does not fit %d bytes",
                   ROWS_ARENA_BYTES);
}

static bool read_texts(struct json_scan *scan, const struct json_value *list, struct arena *a,
                       struct strview **out, size_t *count)
{
    struct json_value item;
    if (list->kind != JSON_KIND_ARRAY)
        return false;
    *out = arena_alloc(a, LIMIT_TAGS * sizeof **out);
    while (*out != NULL && json_scan_item(scan, &item)) {
        if (item.kind != JSON_KIND_STRING || *count == LIMIT_TAGS ||
            !json_scan_unescape(&item, a, &(*out)[*count]))
            return false;
        ++*count;
    }
    return *out != NULL && !scan->failed;
}

static bool read_policy_member(struct json_scan *scan, const struct json_value *key,
                               const struct json_value *value, struct arena *a, struct tag_policy *out)
{
    struct strview word;
    if (json_scan_text_is(key, SV_LIT("require")))
        return read_texts(scan, value, a, &out->require, &out->require_count);
    if (json_scan_text_is(key, SV_LIT("accounts")))
        return read_texts(scan, value, a, &out->accounts, &out->account_count);
    return json_scan_text_is(key, SV_LIT("trust")) && value->kind == JSON_KIND_STRING &&
           json_scan_unescape(value, a, &word) && tag_trust_parse(word, &out->trust);
}

bool registry_rows_policy_read(struct strview json, struct arena *a, struct tag_policy *out, struct err *err)
{
    struct json_scan scan;
    struct json_value top, key, value;
    *out = (struct tag_policy){.has = true};
    json_scan_init(&scan, json, LIMIT_JSON_DEPTH);
    if (!json_scan_value(&scan, &top) || top.kind != JSON_KIND_OBJECT)
        return err_set(err, ERR_INVALID, FATE_FATAL, "registry: a tag policy is no JSON object");
    while (json_scan_member(&scan, &key, &value)) {
        if (!read_policy_member(&scan, &key, &value, a, out))
            return err_set(err, ERR_INVALID, FATE_FATAL, "registry: a tag policy's " SV_FMT " is malformed",
                           SV_ARG(key.raw));
    }
    return !scan.failed || err_set(err, ERR_INVALID, FATE_FATAL, "registry: a tag policy is malformed");
}

static void write_texts(struct json_write *w, const char *key, const struct strview *texts, size_t count)
{
    json_write_key(w, key);
    json_write_open(w, '[');
    for (size_t i = 0; i < count; i++)
        json_write_sv(w, texts[i]);
    json_write_close(w, ']');
}

struct strview registry_rows_policy_write(const struct tag_policy *policy, struct arena *a)
{
    struct strview out = SV_NULL;
    struct buffer text;
    struct json_write w;
    if (!policy->has)
        return SV_NULL;
    buffer_init(&text, POLICY_BYTES);
    json_write_init(&w, &text);
    json_write_open(&w, '{');
    write_texts(&w, "require", policy->require, policy->require_count);
    json_write_key(&w, "trust");
    json_write_str(&w, tag_trust_name(policy->trust));
    write_texts(&w, "accounts", policy->accounts, policy->account_count);
    json_write_close(&w, '}');
    if (!json_write_ok(&w) || !arena_dup(a, buffer_view(&text), &out))
        out = SV_NULL;
    buffer_free(&text);
    return out;
}

static bool dup(const struct pg_rows *rows, size_t row, int column, struct arena *a, struct strview *out)
{
    return arena_dup(a, pg_get(rows, row, column), out);
}

static bool read_tags(const struct pg_rows *rows, size_t row, struct arena *a, struct registry_version *v)
{
    struct pg_array tags = pg_get_array(rows, row, COL_TAGS);
    struct strview tag;
    if (tags.count == 0)
        return true;
    v->tags = arena_alloc(a, tags.count * sizeof *v->tags);
    while (v->tags != NULL && pg_array_next(&tags, &tag)) {
        if (!arena_dup(a, tag, &v->tags[v->tag_count++]))
            return false;
    }
    return v->tags != NULL;
}

static bool read_version(const struct pg_rows *rows, size_t row, struct arena *a, struct registry_version *v,
                         struct err *err)
{
    *v = (struct registry_version){
        .effective_from = pg_get_time(rows, row, COL_EFFECTIVE_FROM),
        .recorded_at = pg_get_time(rows, row, COL_RECORDED_AT),
        .markup_ppm = pg_get_opt_i64(rows, row, COL_MARKUP),
    };
    if (!dup(rows, row, COL_ACCOUNT, a, &v->account_id) || !dup(rows, row, COL_TIER, a, &v->tier) ||
        !dup(rows, row, COL_USER, a, &v->user) || !dup(rows, row, COL_TEAM, a, &v->team) ||
        !dup(rows, row, COL_PRICE_KEY, a, &v->price_key) ||
        !dup(rows, row, COL_CONVERSATION, a, &v->conversation_id) || !read_tags(rows, row, a, v))
        return no_room(err);
    return pg_is_null(rows, row, COL_TAG_POLICY) ||
           registry_rows_policy_read(pg_get_json(rows, row, COL_TAG_POLICY), a, &v->tag_policy, err);
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

static bool each_fact(const struct pg_rows *rows, struct arena *a, bool keep, registry_fact_fn *each,
                      void *arg, struct err *err)
{
    struct registry_fact fact;
    size_t end;
    for (size_t row = 0; row < pg_rows_count(rows); row = end) {
        end = fact_end(rows, row);
        if (!keep)
            arena_reset(a);
        if (!read_fact(rows, row, end, a, &fact, err) || !each(arg, &fact, err))
            return false;
    }
    return true;
}

bool registry_rows_changed(struct pg_session *pg, int64_t after, registry_fact_fn *each, void *arg,
                           struct err *err)
{
    /* one index look-up a kind for each changed id: joining the whole tables would scan every task there ever
     * was */
    static const char all[] = "SELECT " COLUMNS " FROM " FACTS " AS f WHERE f.config_version > $1::bigint"
                              " ORDER BY f.kind, f.id COLLATE \"C\", f.config_version";
    static const char some[] =
        "SELECT " COLUMNS " FROM (SELECT DISTINCT kind, id FROM " FACTS " AS x"
        " WHERE config_version > $1::bigint) AS c CROSS JOIN LATERAL (SELECT * FROM " FACTS
        " AS y WHERE y.kind = c.kind AND y.id = c.id) AS f"
        " ORDER BY f.kind, f.id COLLATE \"C\", f.config_version";
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    struct arena a;
    arena_init(&a, ROWS_ARENA_BYTES);
    pg_fields_init(&args);
    pg_put_i64(&args, after);
    bool ok = pg_session_query(pg, after == 0 ? all : some, &args, &rows, err) &&
              each_fact(rows, &a, false, each, arg, err);
    pg_rows_free(rows);
    pg_fields_free(&args);
    arena_free(&a);
    return ok;
}

bool registry_rows_one(struct pg_session *pg, enum registry_kind kind, struct strview id, struct arena *a,
                       struct registry_fact *out, bool *found, struct err *err)
{
    static const char sql[] = "SELECT " COLUMNS " FROM " FACTS
                              " AS f WHERE f.kind = $1::int AND f.id = $2::text ORDER BY f.config_version";
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    pg_fields_init(&args);
    pg_put_i32(&args, (int32_t)kind);
    pg_put_text(&args, id);
    bool ok = pg_session_query(pg, sql, &args, &rows, err);
    *found = ok && pg_rows_count(rows) > 0;
    if (*found)
        ok = read_fact(rows, 0, pg_rows_count(rows), a, out, err);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

bool registry_rows_list(struct pg_session *pg, enum registry_kind kind, struct strview after, int64_t limit,
                        struct arena *a, registry_fact_fn *each, void *arg, struct err *err)
{
    static const char sql[] =
        "SELECT " COLUMNS " FROM (SELECT DISTINCT id COLLATE \"C\" AS id FROM " FACTS
        " AS x WHERE x.kind = $1::int"
        " AND ($2::text IS NULL OR x.id COLLATE \"C\" > $2) ORDER BY 1 LIMIT $3::bigint) AS c"
        " CROSS JOIN LATERAL (SELECT * FROM " FACTS " AS y WHERE y.kind = $1 AND y.id = c.id) AS f"
        " ORDER BY f.id COLLATE \"C\", f.config_version";
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    pg_fields_init(&args);
    pg_put_i32(&args, (int32_t)kind);
    pg_put_text(&args, after);
    pg_put_i64(&args, limit);
    bool ok = pg_session_query(pg, sql, &args, &rows, err) && each_fact(rows, a, true, each, arg, err);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}
