#include "fact_body.h"

#include "api_body.h"
#include "base/sha256.h"
#include "pg_query.h"
#include "registry_rows.h"

static const struct api_field all_fields[FACT_FIELDS] = {
    [FACT_NAME] = {"name", API_FIELD_TEXT, API_FIELD_OPTIONAL},
    [FACT_TIER] = {"tier", API_FIELD_ID, API_FIELD_OPTIONAL},
    [FACT_OVERDRAFT] = {"overdraft_limit", API_FIELD_MONEY, API_FIELD_OPTIONAL},
    [FACT_MARKUP] = {"markup", API_FIELD_MARKUP, API_FIELD_OPTIONAL},
    [FACT_ACCOUNT] = {"account_id", API_FIELD_ID, API_FIELD_OPTIONAL},
    [FACT_USER] = {"user", API_FIELD_ID, API_FIELD_OPTIONAL},
    [FACT_TEAM] = {"team", API_FIELD_ID, API_FIELD_OPTIONAL},
    [FACT_TAGS] = {"tags", API_FIELD_TEXTS, API_FIELD_OPTIONAL},
    [FACT_POLICY] = {"tag_policy", API_FIELD_OBJECT, API_FIELD_OPTIONAL},
    [FACT_CONVERSATION] = {"conversation_id", API_FIELD_ID, API_FIELD_OPTIONAL},
    [FACT_PRICE_KEY] = {"price_key", API_FIELD_TEXT, API_FIELD_OPTIONAL},
    [FACT_EFFECTIVE_FROM] = {"effective_from", API_FIELD_TIME, API_FIELD_OPTIONAL},
};

static bool read_key_hash(struct api_request *r, struct strview *id)
{
    uint8_t bytes[SHA256_LEN];
    char *hex = arena_alloc(r->arena, SHA256_HEX_LEN + 1);
    if (hex == NULL || !sha256_from_hex(r->param[0], bytes, sizeof bytes))
        return api_refuse(
            r, 400, "invalid",
            "name a key by its SHA-256 in hex: printf %s \"$KEY\" | sha256sum; never send the key itself",
            "the path's last part is not 64 hex digits%s",
            sv_starts_with(r->param[0], SV_LIT("sk-")) ? ": it looks like the key itself" : "");
    sha256_to_hex(bytes, sizeof bytes, hex);
    *id = (struct strview){hex, SHA256_HEX_LEN};
    return true;
}

bool fact_id_read(struct api_request *r, struct strview *id)
{
    if (r->fact->kind == REGISTRY_KEY)
        return read_key_hash(r, id);
    *id = r->param[0];
    return true;
}

/* What the body names must be there: a misspelt account would park every call of the key or task. */
static bool exists(struct api_request *r, enum registry_kind kind, struct strview id, struct err *err)
{
    struct registry_fact fact;
    bool found = true;
    if (!sv_is_null(id) && !registry_rows_one(r->pg, kind, id, r->arena, &fact, &found, err))
        return false;
    return found || api_refuse(r, 400, "invalid", api_facts[kind].hint, "there is no %s \"" SV_FMT "\"",
                               registry_kind_name(kind), SV_ARG(id));
}

static bool read_policy(struct api_request *r, struct strview json, struct tag_policy *policy,
                        struct err *err)
{
    enum { REQUIRE, TRUST, ACCOUNTS, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [REQUIRE] = {"require", API_FIELD_TEXTS, API_FIELD_OPTIONAL},
        [TRUST] = {"trust", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [ACCOUNTS] = {"accounts", API_FIELD_TEXTS, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    if (!api_body_read(r, "a tag_policy", json, fields, FIELDS, v))
        return false;
    *policy = (struct tag_policy){.has = true,
                                  .require = v[REQUIRE].texts,
                                  .require_count = v[REQUIRE].text_count,
                                  .accounts = v[ACCOUNTS].texts,
                                  .account_count = v[ACCOUNTS].text_count};
    if (v[TRUST].present && !tag_trust_parse(v[TRUST].text, &policy->trust))
        return api_refuse(r, 400, "invalid", "use own_account, any or list",
                          "tag_policy.trust \"" SV_FMT "\" is unknown", SV_ARG(v[TRUST].text));
    if ((policy->trust == TRUST_LIST) != (policy->account_count > 0))
        return api_refuse(r, 400, "invalid", "give accounts with trust \"list\", and only then",
                          "tag_policy.accounts and trust do not fit");
    for (size_t i = 0; i < policy->account_count; i++) {
        if (!exists(r, REGISTRY_ACCOUNT, policy->accounts[i], err))
            return false;
    }
    return true;
}

/* The values of the fields that the kind has, by enum fact_field; those it has not are not present. */
static bool read_fields(struct api_request *r, struct api_value values[FACT_FIELDS])
{
    struct api_field fields[FACT_FIELDS];
    struct api_value found[FACT_FIELDS];
    size_t count = 0;
    for (unsigned f = 0; f < FACT_FIELDS; f++) {
        if (((r->fact->required | r->fact->optional) & 1U << f) == 0)
            continue;
        fields[count] = all_fields[f];
        fields[count++].need = (r->fact->required & 1U << f) != 0 ? API_FIELD_REQUIRED : API_FIELD_OPTIONAL;
    }
    if (!api_body_read(r, r->fact->of, r->body, fields, count, found))
        return false;
    count = 0;
    for (unsigned f = 0; f < FACT_FIELDS; f++) {
        bool has = ((r->fact->required | r->fact->optional) & 1U << f) != 0;
        values[f] = has ? found[count++] : (struct api_value){.given = false};
    }
    return true;
}

bool fact_body_read(struct api_request *r, struct fact_wanted *w, struct err *err)
{
    struct api_value v[FACT_FIELDS];
    if (!fact_id_read(r, &w->id) || !api_id_check(r, registry_kind_name(r->fact->kind), w->id) ||
        !read_fields(r, v))
        return false;
    if (v[FACT_OVERDRAFT].number < 0)
        return api_refuse(r, 400, "invalid",
                          "give how far below zero the balance may fall, as a positive amount",
                          "overdraft_limit is negative");
    if (v[FACT_PRICE_KEY].text.len > LIMIT_TEXT_BYTES)
        return api_refuse(r, 400, "invalid", "name an entry of the price file", "price_key is over %d bytes",
                          LIMIT_TEXT_BYTES);
    w->name = v[FACT_NAME].text;
    w->has_overdraft = v[FACT_OVERDRAFT].given;
    w->overdraft_nanos = (struct opt_i64){.has = v[FACT_OVERDRAFT].present, .v = v[FACT_OVERDRAFT].number};
    w->effective_from =
        (struct opt_i64){.has = v[FACT_EFFECTIVE_FROM].present, .v = v[FACT_EFFECTIVE_FROM].number};
    w->policy = v[FACT_POLICY].text;
    w->value = (struct registry_version){
        .account_id = v[FACT_ACCOUNT].text,
        .tier = v[FACT_TIER].text,
        .markup_ppm = {.has = v[FACT_MARKUP].present, .v = v[FACT_MARKUP].number},
        .user = v[FACT_USER].text,
        .team = v[FACT_TEAM].text,
        .tags = v[FACT_TAGS].texts,
        .tag_count = v[FACT_TAGS].text_count,
        .price_key = v[FACT_PRICE_KEY].text,
        .conversation_id = v[FACT_CONVERSATION].text,
    };
    return exists(r, REGISTRY_ACCOUNT, w->value.account_id, err) &&
           exists(r, REGISTRY_TIER, w->value.tier, err) &&
           (!v[FACT_POLICY].present || read_policy(r, w->policy, &w->value.tag_policy, err));
}

/* Seen from the task; a conversation nobody registered is a label. */
static bool conversation_fits(struct api_request *r, const struct registry_version *task, struct err *err)
{
    struct registry_fact fact;
    bool found = false;
    if (sv_is_null(task->conversation_id))
        return true;
    if (!registry_rows_one(r->pg, REGISTRY_CONVERSATION, task->conversation_id, r->arena, &fact, &found, err))
        return false;
    return !found || sv_eq(fact.record.versions[0].account_id, task->account_id) ||
           api_refuse(r, 409, "conflict", "name a conversation of the task's own account",
                      "conversation \"" SV_FMT "\" belongs to another account",
                      SV_ARG(task->conversation_id));
}

/* Seen from the conversation: tasks may have named it while it was a label. */
static bool tasks_fit(struct api_request *r, const struct fact_wanted *w, struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = pg_query(r->pg,
                       "SELECT task_id FROM task WHERE conversation_id = $1 AND account_id <> $2"
                       " ORDER BY task_id LIMIT 1",
                       PG_ARGS(PG_TEXT(w->id), PG_TEXT(w->value.account_id)), &rows, err);
    if (ok && pg_rows_count(rows) > 0)
        ok = api_refuse(r, 409, "conflict",
                        "register it for the account of the tasks that name it, or use a new id",
                        "task \"" SV_FMT "\" of another account names conversation \"" SV_FMT "\"",
                        SV_ARG(pg_get(rows, 0, 0)), SV_ARG(w->id));
    pg_rows_free(rows);
    return ok;
}

bool fact_body_fits(struct api_request *r, const struct fact_wanted *w, struct err *err)
{
    if (r->fact->kind == REGISTRY_TASK)
        return conversation_fits(r, &w->value, err);
    return r->fact->kind != REGISTRY_CONVERSATION || tasks_fit(r, w, err);
}
