/*
 * scope: what a budget can be set on, in one table: a scope without all of its cells does not compile. One
 * function tells which values a call has, whoever asks: the gate before the call, the deduction after it. So
 * a tag counts whatever carried it, and a scope that is gated is deducted. Pure. Owns nothing.
 */
#ifndef SPEND_SPEND_SCOPE_H
#define SPEND_SPEND_SCOPE_H

#include "spend/spend_call.h"

struct registry_version;

/* What of a call decides its scopes. Views; null: it has none. */
struct scope_subject {
    struct strview key_hash;
    struct strview user;
    struct strview team;
    struct strview account_id; /* null while nothing leads to an account, and for suspense */
    struct strview task;
    struct strview conversation;
    struct strview model;   /* as requested: the reply's is not known at the gate */
    const struct tag *tags; /* the call's and those bound to its key */
    size_t tag_count;
};

/* name of kind, its name in the API, in refusals (LiteLLM's words), where its value stands in a subject. */
#define SCOPES(X)                                                                                            \
    X(KEY, "key", "Key", scope_one, key_hash)                                                                \
    X(USER, "user", "User", scope_one, user)                                                                 \
    X(TEAM, "team", "Team", scope_one, team)                                                                 \
    X(ACCOUNT, "account", "Account", scope_one, account_id)                                                  \
    X(TASK, "task", "Task", scope_one, task)                                                                 \
    X(CONVERSATION, "conversation", "Conversation", scope_one, conversation)                                 \
    X(TAG, "tag", "Tag", scope_tags, tags)                                                                   \
    X(MODEL, "model", "Model", scope_one, model)

#define SCOPE_KIND(kind, name, label, values, member) SCOPE_##kind,
enum scope_kind { SCOPES(SCOPE_KIND) SCOPE_KIND_COUNT };

const char *scope_name(enum scope_kind kind);  /* "tag" */
const char *scope_label(enum scope_kind kind); /* "Tag" */
bool scope_parse(struct strview name, enum scope_kind *out);

/* One value that a call has of one scope. key: of a tag the part by which `each` takes it, else null. */
struct scope_value {
    enum scope_kind kind;
    struct strview value; /* a tag's: the raw tag, byte for byte */
    struct strview key;
};

/* Every scope has one at most, but tags. */
#define SCOPE_VALUES_MAX (SCOPE_KIND_COUNT + 2 * LIMIT_TAGS)

/* All of them, each once, in the table's order. Returns how many. A subject has at most 2 * LIMIT_TAGS tags
 * (the rest is not looked at). Empty values are none. */
size_t scope_values(const struct scope_subject *subject, struct scope_value out[SCOPE_VALUES_MAX]);

#endif
