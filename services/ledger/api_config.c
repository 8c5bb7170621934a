#include "api_config.h"

#include "api_view.h"
#include "base/clock.h"
#include "pg_session.h"
#include <string.h>

#define KEEP_US (API_CONFIG_KEEP_DAYS * 86400 * US_PER_SECOND)

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

bool api_config_find(struct api_request *r, enum registry_kind kind, struct strview id, int status,
                     const char *hint, struct registry_fact *fact, struct err *err)
{
    bool found;
    if (!registry_rows_one(r->pg, kind, id, r->arena, fact, &found, err))
        return false;
    return found || api_refuse(r, status, status == 404 ? "not_found" : "invalid", hint,
                               "there is no %s \"" SV_FMT "\"", registry_kind_name(kind), SV_ARG(id));
}

bool api_config_effective(struct api_request *r, int64_t recorded_at, struct opt_i64 wanted,
                          int64_t *effective_from)
{
    char text[CLOCK_TEXT_MAX];
    int64_t soonest = recorded_at + r->config_lead_us;
    *effective_from = wanted.has ? wanted.v : soonest;
    if (*effective_from >= soonest)
        return true;
    clock_format(soonest, text);
    return api_refuse(
        r, 400, "too_early",
        "leave effective_from out for as soon as possible; calls of the past are billed anew with "
        "spendctl rebill",
        "a change holds from %s at the earliest", text);
}

/* What stands, and whether the request would change anything. */
struct standing {
    struct registry_fact fact;
    bool found;
    bool same_value;
    bool same; /* nothing at all would change */
};

static bool look(struct api_request *r, const struct api_config_kind *kind, struct api_wanted *w,
                 struct standing *now, struct err *err)
{
    bool same_rest = true;
    if (!registry_rows_one(r->pg, kind->kind, w->id, r->arena, &now->fact, &now->found, err))
        return false;
    if (kind->complete != NULL)
        kind->complete(w, now->found ? &now->fact : NULL);
    const struct registry_record *record = &now->fact.record;
    now->same_value = now->found && same_value(&record->versions[record->version_count - 1], &w->value);
    if (now->same_value && kind->same != NULL && !kind->same(r, w, &same_rest, err))
        return false;
    now->same = now->same_value && same_rest;
    return true;
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
                "this fact has changed %d times in %d days", LIMIT_REGISTRY_VERSIONS, API_CONFIG_KEEP_DAYS);
        old++;
        keep--;
    }
    struct registry_version *all = arena_alloc(r->arena, (keep + 1) * sizeof *all);
    if (all == NULL)
        return err_set(err, ERR_MEMORY, FATE_RETRY, "config: no room for a fact's history");
    if (keep > 0)
        memcpy(all, old, keep * sizeof *all);
    all[keep] = *value;
    record->versions = all;
    record->version_count = keep + 1;
    return true;
}

static bool new_version(struct api_request *r, const struct api_config_kind *kind, struct api_wanted *w,
                        struct standing *now, int64_t recorded_at, struct err *err)
{
    if (now->found && kind->set_once)
        return api_refuse(
            r, 409, "conflict", "use a new id: where a task or conversation belongs is set once",
            "%s \"" SV_FMT "\" is set to another value", registry_kind_name(kind->kind), SV_ARG(w->id));
    w->value.recorded_at = recorded_at;
    if (now->found && !api_config_effective(r, recorded_at, w->effective_from, &w->value.effective_from))
        return false;
    if (!now->found)
        now->fact.record = (struct registry_record){.kind = kind->kind, .id = w->id};
    return append(r, &now->fact.record, &w->value, err);
}

/* Under the lock. */
static bool write(struct api_request *r, const struct api_config_kind *kind, struct api_wanted *w,
                  struct standing *now, const struct config_stamp *stamp, struct err *err)
{
    char action[40] = "put ";
    bool version = !now->same_value;
    memcpy(action + 4, registry_kind_name(kind->kind), strlen(registry_kind_name(kind->kind)) + 1);
    if (version && !new_version(r, kind, w, now, stamp->recorded_at, err))
        return false;
    return kind->write(r, w, stamp, version, err) &&
           config_write_audit(r->pg, api_role_name(r->role), action, w->id,
                              sv_is_empty(r->body) ? SV_NULL : r->body, err) &&
           (!version || config_write_record(r->pg, stamp, &now->fact.record, err)) &&
           pg_session_commit(r->pg, err);
}

bool api_config_put(struct api_request *r, const struct api_config_kind *kind, struct err *err)
{
    struct api_wanted w = {.id = SV_NULL};
    struct standing now = {.found = false};
    struct config_stamp stamp;
    if (!api_query_end(r) || !kind->read(r, &w, err) || !pg_session_begin(r->pg, err) ||
        !look(r, kind, &w, &now, err))
        return false;
    if (!now.same) {
        /* somebody may have written between the look and the lock */
        if (!config_write_begin(r->pg, &stamp, err) || !look(r, kind, &w, &now, err))
            return false;
        if (!now.same && !write(r, kind, &w, &now, &stamp, err))
            return false;
    }
    pg_session_rollback(r->pg);
    return kind->view(r, w.id, err);
}

bool api_config_view(struct api_request *r, enum registry_kind kind, struct strview id, struct err *err)
{
    struct registry_fact fact;
    if (!api_query_end(r) ||
        !api_config_find(r, kind, id, 404, "make it with PUT on the same path", &fact, err))
        return false;
    api_view_fact(&r->json, &fact);
    return true;
}

struct list {
    struct api_request *r;
    int64_t left;
    struct strview last;
};

static bool list_one(void *arg, const struct registry_fact *fact, struct err *err)
{
    struct list *list = arg;
    (void)err;
    if (list->left-- > 0) {
        api_view_fact(&list->r->json, fact);
        list->last = fact->record.id;
    }
    return true;
}

bool api_config_list(struct api_request *r, enum registry_kind kind, struct err *err)
{
    struct api_page page;
    const char *name = registry_kind_name(kind);
    if (!api_page_read(r, name, &page) || !api_query_end(r))
        return false;
    struct list list = {.r = r, .left = page.limit};
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "items");
    json_write_open(&r->json, '[');
    if (!registry_rows_list(r->pg, kind, page.after, page.limit + 1, r->arena, list_one, &list, err))
        return false;
    json_write_close(&r->json, ']');
    api_page_next(r, name, list.last, list.left < 0);
    json_write_close(&r->json, '}');
    return true;
}
