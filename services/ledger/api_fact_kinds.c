#include "api_account.h"
#include "api_fact.h"
#include "fact_body.h"

#define BIT(field) (1U << FACT_##field)

/* The parameters of every write, by name. */
#define WANTED                                                                                               \
    " FROM (SELECT $1::text AS id, $2::timestamptz AS effective_from, $3::timestamptz AS recorded_at,"       \
    " $4::bigint AS config_version, $5::text AS account_id, $6::text AS tier, $7::bigint AS markup_ppm,"     \
    " $8::text AS user_id, $9::text AS team, $10::text[] AS tags, $11::jsonb AS tag_policy, $12::text AS "   \
    "price_key,"                                                                                             \
    " $13::text AS conversation_id, $14::text AS name, $15::bigint AS overdraft, $16::boolean AS "           \
    "has_overdraft) AS w"

/* The newest version of a fact with its history, for api_rows. */
#define FACT_ROWS(table, id, members)                                                                        \
    "SELECT json_build_object('" id "', x." id ", " members(                                                 \
        x) ", 'effective_from', rfc3339(x.effective_from),"                                                  \
           " 'recorded_at', rfc3339(x.recorded_at), 'versions', (SELECT json_agg(json_build_object("         \
           "'effective_from', rfc3339(y.effective_from), 'recorded_at', rfc3339(y.recorded_at), " members(   \
               y) ")"                                                                                        \
                  " ORDER BY y.config_version) FROM " table " AS y WHERE y." id " = x." id "))::text, x." id \
                  " FROM (SELECT DISTINCT ON (" id " COLLATE \"C\") * FROM " table                           \
                  " WHERE ($1::text IS NULL OR " id " = $1)"                                                 \
                  " AND ($2::text IS NULL OR " id " COLLATE \"C\" > $2) ORDER BY " id                        \
                  " COLLATE \"C\", config_version DESC"                                                      \
                  " LIMIT $3::bigint) AS x ORDER BY x." id " COLLATE \"C\""

#define TIER_MEMBERS(v) "'markup', factor(" #v ".markup_ppm)"
#define KEY_MEMBERS(v)                                                                                       \
    "'account_id', " #v ".account_id, 'user', " #v ".user_id, 'team', " #v ".team, 'tags', " #v              \
    ".tags, 'tag_policy', " #v ".tag_policy"
#define MODEL_MEMBERS(v) "'price_key', " #v ".price_key"

const struct api_fact_kind api_facts[REGISTRY_HEARTBEAT] = {
    [REGISTRY_ACCOUNT] =
        {.kind = REGISTRY_ACCOUNT,
         .of = "an account",
         .optional = BIT(NAME) | BIT(TIER) | BIT(OVERDRAFT) | BIT(EFFECTIVE_FROM),
         .attributes =
             "INSERT INTO account AS a (account_id, name, overdraft_limit_nanos, config_version)"
             " SELECT w.id, coalesce(w.name, ''), w.overdraft, w.config_version" WANTED
             " ON CONFLICT (account_id) DO UPDATE SET name = coalesce($14::text, a.name),"
             " overdraft_limit_nanos = CASE WHEN $16::boolean THEN $15::bigint ELSE a.overdraft_limit_nanos"
             " END, config_version = $4::bigint",
         .version = "INSERT INTO account_version (account, effective_from, recorded_at, tier, config_version)"
                    " SELECT a.id, w.effective_from, w.recorded_at, w.tier, w.config_version" WANTED
                    " JOIN account AS a ON a.account_id = w.id",
         .rows = api_account_rows,
         .hint = API_ACCOUNT_HINT},
    [REGISTRY_KEY] =
        {.kind = REGISTRY_KEY,
         .of = "a key",
         .optional = BIT(ACCOUNT) | BIT(USER) | BIT(TEAM) | BIT(TAGS) | BIT(POLICY) | BIT(EFFECTIVE_FROM),
         .version =
             "INSERT INTO api_key (key_hash, effective_from, recorded_at, account_id, user_id, team, tags,"
             " tag_policy, config_version) SELECT w.id, w.effective_from, w.recorded_at, w.account_id, "
             "w.user_id,"
             " w.team, w.tags, w.tag_policy, w.config_version" WANTED,
         .rows = FACT_ROWS("api_key", "key_hash", KEY_MEMBERS),
         .hint = "bind it with PUT /v1/keys/{sha256} {\"account_id\": ..}"},
    [REGISTRY_TIER] =
        {.kind = REGISTRY_TIER,
         .of = "a tier",
         .required = BIT(MARKUP),
         .optional = BIT(EFFECTIVE_FROM),
         .version = "INSERT INTO tier (name, effective_from, recorded_at, markup_ppm, config_version)"
                    " SELECT w.id, w.effective_from, w.recorded_at, w.markup_ppm, w.config_version" WANTED,
         .rows = FACT_ROWS("tier", "name", TIER_MEMBERS),
         .hint = "make it with PUT /v1/tiers/{name} {\"markup\": \"1.30\"}"},
    [REGISTRY_TASK] =
        {.kind = REGISTRY_TASK,
         .of = "a task",
         .required = BIT(ACCOUNT),
         .optional = BIT(CONVERSATION),
         .set_once = true,
         .version = "INSERT INTO task (task_id, account_id, conversation_id, recorded_at, config_version)"
                    " SELECT w.id, w.account_id, w.conversation_id, w.recorded_at, w.config_version" WANTED,
         .rows = "SELECT json_build_object('task_id', task_id, 'account_id', account_id, 'conversation_id',"
                 " conversation_id, 'recorded_at', rfc3339(recorded_at), 'finished_at', "
                 "rfc3339(finished_at))::text,"
                 " task_id FROM task WHERE ($1::text IS NULL OR task_id = $1)"
                 " AND ($2::text IS NULL OR task_id COLLATE \"C\" > $2) ORDER BY task_id COLLATE \"C\" LIMIT "
                 "$3::bigint",
         .hint = "register it with PUT /v1/tasks/{id} {\"account_id\": ..}"},
    [REGISTRY_CONVERSATION] =
        {.kind = REGISTRY_CONVERSATION,
         .of = "a conversation",
         .required = BIT(ACCOUNT),
         .set_once = true,
         .version = "INSERT INTO conversation (conversation_id, account_id, recorded_at, config_version)"
                    " SELECT w.id, w.account_id, w.recorded_at, w.config_version" WANTED,
         .rows = "SELECT json_build_object('conversation_id', conversation_id, 'account_id', account_id,"
                 " 'recorded_at', rfc3339(recorded_at))::text, conversation_id FROM conversation"
                 " WHERE ($1::text IS NULL OR conversation_id = $1)"
                 " AND ($2::text IS NULL OR conversation_id COLLATE \"C\" > $2)"
                 " ORDER BY conversation_id COLLATE \"C\" LIMIT $3::bigint",
         .hint = "register it with PUT /v1/conversations/{id} {\"account_id\": ..}"},
    [REGISTRY_MODEL] = {.kind = REGISTRY_MODEL,
                        .of = "a model alias",
                        .required = BIT(PRICE_KEY),
                        .optional = BIT(EFFECTIVE_FROM),
                        .version =
                            "INSERT INTO model_alias (alias, effective_from, recorded_at, price_key,"
                            " config_version) SELECT w.id, w.effective_from, w.recorded_at, w.price_key,"
                            " w.config_version" WANTED,
                        .rows = FACT_ROWS("model_alias", "alias", MODEL_MEMBERS),
                        .hint = "make it with PUT /v1/models/{alias} {\"price_key\": \"gpt-4o\"}"},
};
