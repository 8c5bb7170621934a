#include "api_facts.h"

#include "api_body.h"
#include "api_task.h"
#include "base/sha256.h"
#include "pg_session.h"

#define COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))
#define HINT_ACCOUNT  "make the account first: PUT /v1/accounts/{id}"
#define NAME_BYTES    200

/* Runs a write whose parameters stand in *args, and lets them go. */
static bool run(struct api_request *r, const char *sql, struct pg_fields *args, struct err *err)
{
    bool ok = pg_session_query(r->pg, sql, args, NULL, err);
    pg_fields_free(args);
    return ok;
}

static struct opt_i64 time_of(const struct api_value *v)
{
    return (struct opt_i64){.has = v->present, .v = v->number};
}

static bool account_exists(struct api_request *r, struct strview id, struct err *err)
{
    struct registry_fact fact;
    return api_config_find(r, REGISTRY_ACCOUNT, id, 400, HINT_ACCOUNT, &fact, err);
}

/* A tier's or model's name is not an account's id, but it is kept to the same plain text. */
static bool read_name(struct api_request *r, const char *what, struct strview *out)
{
    *out = r->param[0];
    if (out->len == 0 || out->len > NAME_BYTES || sv_has_control(*out))
        return api_refuse(r, 400, "invalid", "use 1 to 200 bytes of printable UTF-8",
                          "the %s's name is malformed", what);
    return true;
}

/* Tiers */

static bool tier_read(struct api_request *r, struct api_wanted *w, struct err *err)
{
    enum { MARKUP, EFFECTIVE_FROM, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [MARKUP] = {"markup", API_FIELD_MARKUP, API_FIELD_REQUIRED},
        [EFFECTIVE_FROM] = {"effective_from", API_FIELD_TIME, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    (void)err;
    if (!read_name(r, "tier", &w->id) || !api_body_read(r, "a tier", r->body, fields, COUNT(fields), v))
        return false;
    w->value.markup_ppm = OPT_I64(v[MARKUP].number);
    w->effective_from = time_of(&v[EFFECTIVE_FROM]);
    return true;
}

static bool tier_write(struct api_request *r, const struct api_wanted *w, const struct config_stamp *stamp,
                       bool version, struct err *err)
{
    struct pg_fields args;
    (void)version;
    pg_fields_init(&args);
    pg_put_text(&args, w->id);
    pg_put_time(&args, w->value.effective_from);
    pg_put_time(&args, stamp->recorded_at);
    pg_put_i64(&args, w->value.markup_ppm.v);
    pg_put_i64(&args, stamp->version);
    return run(r,
               "INSERT INTO tier (name, effective_from, recorded_at, markup_ppm, config_version)"
               " VALUES ($1, $2, $3, $4, $5)",
               &args, err);
}

/* Keys */

bool api_key_hash(struct api_request *r, struct strview *hash)
{
    uint8_t bytes[SHA256_LEN];
    char *hex = arena_alloc(r->arena, SHA256_HEX_LEN + 1);
    if (hex == NULL || !sha256_from_hex(r->param[0], bytes, sizeof bytes))
        return api_refuse(
            r, 400, "invalid",
            "name a key by the SHA-256 of it in hex: printf %s \"$KEY\" | sha256sum; never send the key",
            "the path's last part is not 64 hex digits%s",
            sv_starts_with(r->param[0], SV_LIT("sk-")) ? ": it looks like the key itself" : "");
    sha256_to_hex(bytes, sizeof bytes, hex);
    *hash = (struct strview){hex, SHA256_HEX_LEN};
    return true;
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
    if (!api_body_read(r, "a tag_policy", json, fields, COUNT(fields), v))
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
        if (!account_exists(r, policy->accounts[i], err))
            return false;
    }
    return true;
}

static bool key_read(struct api_request *r, struct api_wanted *w, struct err *err)
{
    enum { ACCOUNT, USER, TEAM, TAGS, POLICY, EFFECTIVE_FROM, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [ACCOUNT] = {"account_id", API_FIELD_ID, API_FIELD_OPTIONAL},
        [USER] = {"user", API_FIELD_ID, API_FIELD_OPTIONAL},
        [TEAM] = {"team", API_FIELD_ID, API_FIELD_OPTIONAL},
        [TAGS] = {"tags", API_FIELD_TEXTS, API_FIELD_OPTIONAL},
        [POLICY] = {"tag_policy", API_FIELD_OBJECT, API_FIELD_OPTIONAL},
        [EFFECTIVE_FROM] = {"effective_from", API_FIELD_TIME, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    if (!api_key_hash(r, &w->id) || !api_body_read(r, "a key", r->body, fields, COUNT(fields), v))
        return false;
    w->value.account_id = v[ACCOUNT].text;
    w->value.user = v[USER].text;
    w->value.team = v[TEAM].text;
    w->value.tags = v[TAGS].texts;
    w->value.tag_count = v[TAGS].text_count;
    w->effective_from = time_of(&v[EFFECTIVE_FROM]);
    if (v[ACCOUNT].present && !account_exists(r, v[ACCOUNT].text, err))
        return false;
    return !v[POLICY].present || read_policy(r, v[POLICY].text, &w->value.tag_policy, err);
}

static bool key_write(struct api_request *r, const struct api_wanted *w, const struct config_stamp *stamp,
                      bool version, struct err *err)
{
    struct pg_fields args;
    (void)version;
    pg_fields_init(&args);
    pg_put_text(&args, w->id);
    pg_put_time(&args, w->value.effective_from);
    pg_put_time(&args, stamp->recorded_at);
    pg_put_text(&args, w->value.account_id);
    pg_put_text(&args, w->value.user);
    pg_put_text(&args, w->value.team);
    pg_put_text_array(&args, w->value.tags, w->value.tag_count);
    pg_put_json(&args, registry_rows_policy_write(&w->value.tag_policy, r->arena));
    pg_put_i64(&args, stamp->version);
    return run(r,
               "INSERT INTO api_key (key_hash, effective_from, recorded_at, account_id, user_id, team, tags, "
               "tag_policy,"
               " config_version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
               &args, err);
}

/* Tasks and conversations */

static bool task_read(struct api_request *r, struct api_wanted *w, struct err *err)
{
    enum { ACCOUNT, CONVERSATION, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [ACCOUNT] = {"account_id", API_FIELD_ID, API_FIELD_REQUIRED},
        [CONVERSATION] = {"conversation_id", API_FIELD_ID, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    struct registry_fact conversation;
    bool found = false;
    w->id = r->param[0];
    if (!api_id_check(r, "task", w->id) || !api_body_read(r, "a task", r->body, fields, COUNT(fields), v) ||
        !account_exists(r, v[ACCOUNT].text, err))
        return false;
    w->value.account_id = v[ACCOUNT].text;
    w->value.conversation_id = v[CONVERSATION].text;
    if (v[CONVERSATION].present && !registry_rows_one(r->pg, REGISTRY_CONVERSATION, v[CONVERSATION].text,
                                                      r->arena, &conversation, &found, err))
        return false;
    if (found && !sv_eq(conversation.record.versions[0].account_id, v[ACCOUNT].text))
        return api_refuse(r, 409, "conflict", "name a conversation of the task's own account",
                          "conversation \"" SV_FMT "\" belongs to another account",
                          SV_ARG(v[CONVERSATION].text));
    return true;
}

/* A conversation left out of a repeated PUT is the one that stands. */
static void task_complete(struct api_wanted *w, const struct registry_fact *fact)
{
    if (fact != NULL && sv_is_null(w->value.conversation_id))
        w->value.conversation_id = fact->record.versions[0].conversation_id;
}

static bool task_write(struct api_request *r, const struct api_wanted *w, const struct config_stamp *stamp,
                       bool version, struct err *err)
{
    struct pg_fields args;
    (void)version;
    pg_fields_init(&args);
    pg_put_text(&args, w->id);
    pg_put_text(&args, w->value.account_id);
    pg_put_text(&args, w->value.conversation_id);
    pg_put_time(&args, stamp->recorded_at);
    pg_put_i64(&args, stamp->version);
    return run(r,
               "INSERT INTO task (task_id, account_id, conversation_id, recorded_at, config_version)"
               " VALUES ($1, $2, $3, $4, $5)",
               &args, err);
}

static bool task_view(struct api_request *r, struct strview id, struct err *err)
{
    (void)id;
    return api_task_get(r, err);
}

static bool conversation_read(struct api_request *r, struct api_wanted *w, struct err *err)
{
    static const struct api_field fields[] = {{"account_id", API_FIELD_ID, API_FIELD_REQUIRED}};
    struct api_value v[COUNT(fields)];
    w->id = r->param[0];
    if (!api_id_check(r, "conversation", w->id) ||
        !api_body_read(r, "a conversation", r->body, fields, COUNT(fields), v) ||
        !account_exists(r, v[0].text, err))
        return false;
    w->value.account_id = v[0].text;
    return true;
}

static bool conversation_write(struct api_request *r, const struct api_wanted *w,
                               const struct config_stamp *stamp, bool version, struct err *err)
{
    struct pg_fields args;
    (void)version;
    pg_fields_init(&args);
    pg_put_text(&args, w->id);
    pg_put_text(&args, w->value.account_id);
    pg_put_time(&args, stamp->recorded_at);
    pg_put_i64(&args, stamp->version);
    return run(r,
               "INSERT INTO conversation (conversation_id, account_id, recorded_at, config_version)"
               " VALUES ($1, $2, $3, $4)",
               &args, err);
}

/* Model aliases */

static bool model_read(struct api_request *r, struct api_wanted *w, struct err *err)
{
    enum { PRICE_KEY, EFFECTIVE_FROM, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [PRICE_KEY] = {"price_key", API_FIELD_TEXT, API_FIELD_REQUIRED},
        [EFFECTIVE_FROM] = {"effective_from", API_FIELD_TIME, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    (void)err;
    if (!read_name(r, "model", &w->id) ||
        !api_body_read(r, "a model alias", r->body, fields, COUNT(fields), v))
        return false;
    if (v[PRICE_KEY].text.len == 0 || v[PRICE_KEY].text.len > NAME_BYTES)
        return api_refuse(r, 400, "invalid", "give the name of an entry of the price file, like gpt-4o",
                          "price_key must have 1 to %d bytes", NAME_BYTES);
    w->value.price_key = v[PRICE_KEY].text;
    w->effective_from = time_of(&v[EFFECTIVE_FROM]);
    return true;
}

static bool model_write(struct api_request *r, const struct api_wanted *w, const struct config_stamp *stamp,
                        bool version, struct err *err)
{
    struct pg_fields args;
    (void)version;
    pg_fields_init(&args);
    pg_put_text(&args, w->id);
    pg_put_time(&args, w->value.effective_from);
    pg_put_time(&args, stamp->recorded_at);
    pg_put_text(&args, w->value.price_key);
    pg_put_i64(&args, stamp->version);
    return run(r,
               "INSERT INTO model_alias (alias, effective_from, recorded_at, price_key, config_version)"
               " VALUES ($1, $2, $3, $4, $5)",
               &args, err);
}

/* The kinds, and what the routes call. */

static bool tier_view(struct api_request *r, struct strview id, struct err *err)
{
    return api_config_view(r, REGISTRY_TIER, id, err);
}

static bool key_view(struct api_request *r, struct strview id, struct err *err)
{
    return api_config_view(r, REGISTRY_KEY, id, err);
}

static bool conversation_view(struct api_request *r, struct strview id, struct err *err)
{
    return api_config_view(r, REGISTRY_CONVERSATION, id, err);
}

static bool model_view(struct api_request *r, struct strview id, struct err *err)
{
    return api_config_view(r, REGISTRY_MODEL, id, err);
}

bool api_tier_put(struct api_request *r, struct err *err)
{
    static const struct api_config_kind kind = {
        .kind = REGISTRY_TIER, .read = tier_read, .write = tier_write, .view = tier_view};
    return api_config_put(r, &kind, err);
}

bool api_key_put(struct api_request *r, struct err *err)
{
    static const struct api_config_kind kind = {
        .kind = REGISTRY_KEY, .read = key_read, .write = key_write, .view = key_view};
    return api_config_put(r, &kind, err);
}

bool api_task_put(struct api_request *r, struct err *err)
{
    static const struct api_config_kind kind = {.kind = REGISTRY_TASK,
                                                .set_once = true,
                                                .read = task_read,
                                                .complete = task_complete,
                                                .write = task_write,
                                                .view = task_view};
    return api_config_put(r, &kind, err);
}

bool api_conversation_put(struct api_request *r, struct err *err)
{
    static const struct api_config_kind kind = {.kind = REGISTRY_CONVERSATION,
                                                .set_once = true,
                                                .read = conversation_read,
                                                .write = conversation_write,
                                                .view = conversation_view};
    return api_config_put(r, &kind, err);
}

bool api_model_put(struct api_request *r, struct err *err)
{
    static const struct api_config_kind kind = {
        .kind = REGISTRY_MODEL, .read = model_read, .write = model_write, .view = model_view};
    return api_config_put(r, &kind, err);
}

bool api_tier_get(struct api_request *r, struct err *err)
{
    return tier_view(r, r->param[0], err);
}

bool api_key_get(struct api_request *r, struct err *err)
{
    struct strview hash;
    return api_key_hash(r, &hash) && key_view(r, hash, err);
}

bool api_conversation_get(struct api_request *r, struct err *err)
{
    return conversation_view(r, r->param[0], err);
}

bool api_model_get(struct api_request *r, struct err *err)
{
    return model_view(r, r->param[0], err);
}

bool api_tier_list(struct api_request *r, struct err *err)
{
    return api_config_list(r, REGISTRY_TIER, err);
}

bool api_key_list(struct api_request *r, struct err *err)
{
    return api_config_list(r, REGISTRY_KEY, err);
}

bool api_task_list(struct api_request *r, struct err *err)
{
    return api_config_list(r, REGISTRY_TASK, err);
}

bool api_conversation_list(struct api_request *r, struct err *err)
{
    return api_config_list(r, REGISTRY_CONVERSATION, err);
}

bool api_model_list(struct api_request *r, struct err *err)
{
    return api_config_list(r, REGISTRY_MODEL, err);
}
