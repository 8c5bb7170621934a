#include "api_fact.h"

#include "api_rows.h"
#include "base/clock.h"
#include "config_write.h"
#include "fact_body.h"
#include "pg_query.h"
#include "registry_rows.h"
#include <string.h>

#define KEEP_US      (API_FACT_KEEP_DAYS * 86400 * US_PER_SECOND)
#define DEFAULT_TIER SV_LIT("default")

#define BIT(field) (1U << FACT_##field)

const struct api_fact_kind api_facts[REGISTRY_HEARTBEAT] = {
    [REGISTRY_ACCOUNT] = {.kind = REGISTRY_ACCOUNT,
                          .of = "an account",
                          .optional = BIT(NAME) | BIT(TIER) | BIT(OVERDRAFT) | BIT(EFFECTIVE_FROM),
                          .rows = API_ROWS("account_json"),
                          .hint = "make it with PUT /v1/accounts/{id}; ids in paths are percent-encoded"},
    [REGISTRY_KEY] = {.kind = REGISTRY_KEY,
                      .of = "a key",
                      .optional = BIT(ACCOUNT) | BIT(USER) | BIT(TEAM) | BIT(TAGS) | BIT(POLICY) |
                                  BIT(EFFECTIVE_FROM),
                      .rows = API_ROWS("api_key_json"),
                      .hint = "bind it with PUT /v1/keys/{sha256} {\"account_id\": ..}"},
    [REGISTRY_TIER] = {.kind = REGISTRY_TIER,
                       .of = "a tier",
                       .required = BIT(MARKUP),
                       .optional = BIT(EFFECTIVE_FROM),
                       .rows = API_ROWS("tier_json"),
                       .hint = "make it with PUT /v1/tiers/{name} {\"markup\": \"1.30\"}"},
    [REGISTRY_TASK] = {.kind = REGISTRY_TASK,
                       .of = "a task",
                       .required = BIT(ACCOUNT),
                       .optional = BIT(CONVERSATION),
                       .set_once = true,
                       .rows = API_ROWS("task_json"),
                       .hint = "register it with PUT /v1/tasks/{id} {\"account_id\": ..}"},
    [REGISTRY_CONVERSATION] = {.kind = REGISTRY_CONVERSATION,
                               .of = "a conversation",
                               .required = BIT(ACCOUNT),
                               .set_once = true,
                               .rows = API_ROWS("conversation_json"),
                               .hint = "register it with PUT /v1/conversations/{id} {\"account_id\": ..}"},
    [REGISTRY_MODEL] = {.kind = REGISTRY_MODEL,
                        .of = "a model alias",
                        .required = BIT(PRICE_KEY),
                        .optional = BIT(EFFECTIVE_FROM),
                        .rows = API_ROWS("model_alias_json"),
                        .hint = "make it with PUT /v1/models/{alias} {\"price_key\": \"gpt-4o\"}"},
};

static bool same_texts(const struct strview *a, size_t a_count, const struct strview *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++) {
        if (!sv_eq(a[i], b[i]))
            return false;
    }
    return true;
}

static bool same_policy(const struct tag_policy *a, const struct tag_policy *b)
{
    return a->has == b->has && a->trust == b->trust &&
           same_texts(a->require, a->require_count, b->require, b->require_count) &&
           same_texts(a->accounts, a->account_count, b->accounts, b->account_count);
}

static bool same_value(const struct registry_version *a, const struct registry_version *b)
{
    return sv_eq(a->account_id, b->account_id) && sv_eq(a->tier, b->tier) &&
           a->markup_ppm.has == b->markup_ppm.has && a->markup_ppm.v == b->markup_ppm.v &&
           sv_eq(a->user, b->user) && sv_eq(a->team, b->team) && sv_eq(a->price_key, b->price_key) &&
           sv_eq(a->conversation_id, b->conversation_id) &&
           same_texts(a->tags, a->tag_count, b->tags, b->tag_count) &&
           same_policy(&a->tag_policy, &b->tag_policy);
}

int64_t api_fact_wanted(const struct api_request *r, int64_t recorded_at, struct opt_i64 wanted)
{
    return wanted.has ? wanted.v : recorded_at + r->config_lead_us;
}

bool api_fact_allowed(struct api_request *r, int64_t recorded_at, int64_t effective_from)
{
    char text[CLOCK_TEXT_MAX];
    int64_t soonest = recorded_at + r->config_lead_us;
    if (effective_from >= soonest)
        return true;
    clock_format(soonest, text);
    return api_refuse(
        r, 400, "too_early",
        "leave effective_from out for as soon as possible; this release cannot bill calls of the past anew",
        "a change holds from %s at the earliest", text);
}

/* What stands, and how far the request would change it. */
struct standing {
    struct registry_fact fact;
    bool found;
    bool same_value;
    bool same; /* nothing at all would change */
};

/* What a body leaves out is what stands: an account's tier, a task's conversation. */
static void complete(struct fact_wanted *w, enum registry_kind kind, const struct registry_version *now)
{
    if (kind == REGISTRY_ACCOUNT && sv_is_null(w->value.tier))
        w->value.tier = now == NULL ? DEFAULT_TIER : now->tier;
    if (kind == REGISTRY_TASK && sv_is_null(w->value.conversation_id) && now != NULL)
        w->value.conversation_id = now->conversation_id;
}

/* An account's name and overdraft have no history. */
static bool same_attributes(struct api_request *r, const struct fact_wanted *w, bool *same, struct err *err)
{
    struct pg_rows *rows = NULL;
    if (!pg_query(r->pg,
                  "SELECT name = coalesce($2::text, name) AND NOT ($3::boolean AND overdraft_limit_nanos"
                  " IS DISTINCT FROM $4::bigint) FROM account WHERE account_id = $1",
                  PG_ARGS(PG_TEXT(w->id), PG_TEXT(w->name), PG_BOOL(w->has_overdraft),
                          PG_OPT_I64(w->overdraft_nanos)),
                  &rows, err))
        return false;
    *same = pg_get_bool(rows, 0, 0);
    pg_rows_free(rows);
    return true;
}

static bool write_attributes(struct api_request *r, const struct fact_wanted *w,
                             const struct config_stamp *stamp, struct err *err)
{
    return pg_query(
        r->pg,
        "INSERT INTO account AS a (account_id, name, overdraft_limit_nanos, config_version)"
        " VALUES ($1, coalesce($2::text, ''), $3::bigint, $5) ON CONFLICT (account_id) DO UPDATE SET"
        " name = coalesce($2, a.name), config_version = $5,"
        " overdraft_limit_nanos = CASE WHEN $4::boolean THEN $3 ELSE a.overdraft_limit_nanos END",
        PG_ARGS(PG_TEXT(w->id), PG_TEXT(w->name), PG_OPT_I64(w->overdraft_nanos), PG_BOOL(w->has_overdraft),
                PG_I64(stamp->version)),
        NULL, err);
}

/* Under the lock. The same value is what already holds from when the request wants it: then writing it again
 * would change nothing, whatever else is planned for later. Wanted from a time that has passed, it must have
 * held ever since: what held once and was replaced is a change, and too early. */
static bool look(struct api_request *r, struct fact_wanted *w, int64_t recorded_at, struct standing *now,
                 struct err *err)
{
    if (!registry_rows_one(r->pg, r->fact->kind, w->id, r->arena, &now->fact, &now->found, err))
        return false;
    const struct registry_record *record = &now->fact.record;
    int64_t soonest = recorded_at + r->config_lead_us;
    int64_t wanted = api_fact_wanted(r, recorded_at, w->effective_from);
    const struct registry_version *stands =
        registry_in_force(record->versions, record->version_count, wanted, INT64_MAX);
    const struct registry_version *still = registry_in_force(record->versions, record->version_count,
                                                             wanted < soonest ? soonest : wanted, INT64_MAX);
    complete(w, r->fact->kind, stands);
    now->same_value = stands != NULL && stands == still && same_value(stands, &w->value);
    now->same = now->same_value;
    return !now->same || r->fact->kind != REGISTRY_ACCOUNT || same_attributes(r, w, &now->same, err);
}

/* The history with the new version at its end. false: refused, every version is still needed. */
static bool append(struct api_request *r, struct registry_record *record,
                   const struct registry_version *value, struct err *err)
{
    size_t keep = record->version_count;
    const struct registry_version *old = record->versions;
    if (keep == LIMIT_REGISTRY_VERSIONS) {
        if (old[1].effective_from > value->recorded_at - KEEP_US)
            return api_refuse(
                r, 409, "too_many_versions",
                "change it less often: each version is kept for 400 days, so that calls can be billed again",
                "this fact has changed %d times in %lld days", LIMIT_REGISTRY_VERSIONS, API_FACT_KEEP_DAYS);
        old++;
        keep--;
    }
    struct registry_version *all = arena_alloc(r->arena, (keep + 1) * sizeof *all);
    if (all == NULL)
        return err_set(err, ERR_MEMORY, FATE_RETRY, "fact: no room for a history");
    if (keep > 0)
        memcpy(all, old, keep * sizeof *all);
    all[keep] = *value;
    record->versions = all;
    record->version_count = keep + 1;
    return true;
}

static bool insert(struct api_request *r, const struct fact_wanted *w, const struct config_stamp *stamp,
                   struct err *err)
{
    const struct registry_version *v = &w->value;
    return pg_query(r->pg, "SELECT fact_add($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
                    PG_ARGS(PG_I32(r->fact->kind), PG_TEXT(w->id), PG_TIME(v->effective_from),
                            PG_TIME(stamp->recorded_at), PG_I64(stamp->version), PG_TEXT(v->account_id),
                            PG_TEXT(v->tier), PG_OPT_I64(v->markup_ppm), PG_TEXT(v->user), PG_TEXT(v->team),
                            PG_TEXT(v->price_key), PG_TEXT(v->conversation_id),
                            PG_TEXTS(v->tags, v->tag_count), PG_JSON(w->policy)),
                    NULL, err);
}

static bool add_version(struct api_request *r, struct fact_wanted *w, struct standing *now,
                        const struct config_stamp *stamp, struct err *err)
{
    if (now->found && r->fact->set_once)
        return api_refuse(
            r, 409, "conflict", "use a new id: where a task or conversation belongs is set once",
            "%s \"" SV_FMT "\" is set to another value", registry_kind_name(r->fact->kind), SV_ARG(w->id));
    if (!fact_body_fits(r, w, err))
        return false;
    w->value.recorded_at = stamp->recorded_at;
    if (now->found) {
        w->value.effective_from = api_fact_wanted(r, stamp->recorded_at, w->effective_from);
        if (!api_fact_allowed(r, stamp->recorded_at, w->value.effective_from))
            return false;
    } else {
        now->fact.record = (struct registry_record){.kind = r->fact->kind, .id = w->id};
    }
    return append(r, &now->fact.record, &w->value, err) && insert(r, w, stamp, err) &&
           config_write_record(r->pg, stamp, &now->fact.record, err);
}

static bool write(struct api_request *r, struct fact_wanted *w, struct standing *now,
                  const struct config_stamp *stamp, struct err *err)
{
    char action[40] = "put ";
    const char *kind = registry_kind_name(r->fact->kind);
    memcpy(action + 4, kind, strlen(kind) + 1);
    return (r->fact->kind != REGISTRY_ACCOUNT || write_attributes(r, w, stamp, err)) &&
           (now->same_value || add_version(r, w, now, stamp, err)) &&
           config_write_audit(r->pg, api_role_name(r->role), action, w->id,
                              sv_is_empty(r->body) ? SV_NULL : r->body, err) &&
           pg_session_commit(r->pg, err);
}

bool api_fact_put(struct api_request *r, struct err *err)
{
    struct fact_wanted w = {.id = SV_NULL};
    struct standing now = {.found = false};
    struct config_stamp stamp;
    if (!api_query_end(r) || !fact_body_read(r, &w, err) || !pg_session_begin(r->pg, err) ||
        !config_write_begin(r->pg, &stamp, err) || !look(r, &w, stamp.recorded_at, &now, err) ||
        (!now.same && !write(r, &w, &now, &stamp, err)))
        return false;
    pg_session_rollback(r->pg);
    return api_rows_get(r, r->fact->rows, w.id, registry_kind_name(r->fact->kind), r->fact->hint, err);
}

bool api_fact_get(struct api_request *r, struct err *err)
{
    struct strview id;
    return api_query_end(r) && fact_id_read(r, &id) &&
           api_rows_get(r, r->fact->rows, id, registry_kind_name(r->fact->kind), r->fact->hint, err);
}

bool api_fact_list(struct api_request *r, struct err *err)
{
    return api_rows_list(r, r->fact->rows, SV_NULL, registry_kind_name(r->fact->kind), err);
}
