/*
 * attribute: docs/attribution.md in code. Steps, in this order: the effective tags, the sources, conflict,
 * require, untagged, unknown.
 */
#include "spend/attribute.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "spend/tag_set.h"

/* What names an account, in the order in which they become the route. */
enum source { BY_TAG, BY_TASK, BY_CONVERSATION, BY_KEY, SOURCES };

static const enum spend_route routes[SOURCES] = {
    [BY_TAG] = ROUTE_TAG,
    [BY_TASK] = ROUTE_TASK,
    [BY_CONVERSATION] = ROUTE_CONVERSATION,
    [BY_KEY] = ROUTE_KEY,
};

struct decision {
    const struct spend_call *call;
    const struct registry *registry;
    const struct attribute_rules *rules;
    int64_t known_by;
    const struct registry_version *key; /* NULL: no key, or one that nobody registered */
    struct strview accounts[SOURCES];   /* null: this source names none */
    struct attribution *out;
};

int64_t attribute_known_by(const struct spend_call *call)
{
    return call->received_at > call->admitted_at ? call->received_at : call->admitted_at;
}

static bool settle(struct attribution *out, enum attribute_verdict verdict, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* Returns true: the call is decided, and needs no further step. */
static bool settle(struct attribution *out, enum attribute_verdict verdict, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(out->detail, sizeof out->detail, fmt, args);
    va_end(args);
    if (len >= (int)sizeof out->detail) /* a cut must not split a character: the text becomes JSON and SQL */
        out->detail[sv_utf8_prefix(sv_of(out->detail))] = '\0';
    out->verdict = verdict;
    return true;
}

static const struct registry_version *find(const struct decision *d, enum registry_kind kind,
                                           struct strview id)
{
    return registry_find(d->registry, kind, id, d->call->admitted_at, d->known_by);
}

/*
 * The caller's tags and those bound to the key. What a record claims to be bound to the key is left out: it
 * is not part of the record's hash, and only the registry says it.
 */
static void take_tags(struct decision *d)
{
    struct attribution *out = d->out;
    for (size_t i = 0; i < d->call->tag_count && out->tag_count < LIMIT_TAGS; i++) {
        const struct tag *tag = &d->call->tags[i];
        if (tag->origins == TAG_ORIGIN_KEY)
            continue;
        out->tags[out->tag_count] = *tag;
        out->tags[out->tag_count++].origins &= ~(unsigned)TAG_ORIGIN_KEY;
    }
    for (size_t i = 0; d->key != NULL && i < d->key->tag_count; i++) {
        struct strview raw = d->key->tags[i];
        size_t at = 0;
        while (at < out->tag_count && !sv_eq(out->tags[at].raw, raw))
            at++;
        if (at == out->tag_count) {
            assert(at < sizeof out->tags / sizeof out->tags[0]); /* registry_put refuses more */
            out->tags[at] = (struct tag){.raw = raw};
            tag_split(raw, &out->tags[at].key, &out->tags[at].value);
            out->tag_count++;
        }
        out->tags[at].origins |= TAG_ORIGIN_KEY;
    }
}

/* The value of one reserved key. True: two values stand. */
static bool take_value(struct decision *d, struct strview key, struct strview *value)
{
    struct strview other;
    if (tag_find_value(d->out->tags, d->out->tag_count, key, value, &other) != TAG_VALUE_TWO)
        return false;
    return settle(d->out, ATTRIBUTE_CONFLICT, "two values for the tag " SV_FMT ": " SV_FMT " and " SV_FMT,
                  SV_ARG(key), SV_ARG(*value), SV_ARG(other));
}

static enum tag_trust trust_of(const struct registry_version *key)
{
    if (key->tag_policy.has && key->tag_policy.trust != TRUST_DEFAULT)
        return key->tag_policy.trust;
    return sv_is_null(key->account_id) ? TRUST_ANY : TRUST_OWN_ACCOUNT;
}

/* True: decided. */
static bool take_sources(struct decision *d)
{
    struct attribution *out = d->out;
    if (take_value(d, d->rules->tag_account, &d->accounts[BY_TAG]) ||
        take_value(d, d->rules->tag_task, &out->task_id) ||
        take_value(d, d->rules->tag_conversation, &out->conversation_id))
        return true;
    const struct registry_version *task = find(d, REGISTRY_TASK, out->task_id);
    if (task != NULL) {
        d->accounts[BY_TASK] = task->account_id;
        if (sv_is_null(out->conversation_id))
            out->conversation_id = task->conversation_id;
    }
    const struct registry_version *conversation = find(d, REGISTRY_CONVERSATION, out->conversation_id);
    if (conversation != NULL)
        d->accounts[BY_CONVERSATION] = conversation->account_id;
    if (d->key != NULL)
        d->accounts[BY_KEY] = d->key->account_id;
    return false;
}

static struct strview source_name(const struct decision *d, enum source source)
{
    switch (source) {
    case BY_TAG:
        return d->rules->tag_account;
    case BY_TASK:
        return SV_LIT("the task");
    case BY_CONVERSATION:
        return SV_LIT("the conversation");
    case BY_KEY:
    case SOURCES:
        break;
    }
    return SV_LIT("the key");
}

/* The first source that names an account; SOURCES: none. A key that trusts others is asked last, and only
 * then. */
static enum source first_source(const struct decision *d)
{
    for (enum source s = BY_TAG; s < SOURCES; s++) {
        if (!sv_is_null(d->accounts[s]))
            return s;
    }
    return SOURCES;
}

static bool is_listed(const struct tag_policy *policy, struct strview account)
{
    for (size_t i = 0; i < policy->account_count; i++) {
        if (sv_eq(policy->accounts[i], account))
            return true;
    }
    return false;
}

/* True: decided. All that are present agree; the key's own account takes part when its trust says so. */
static bool check_conflict(struct decision *d, enum source first)
{
    enum tag_trust trust = d->key == NULL ? TRUST_ANY : trust_of(d->key);
    for (enum source s = first; s < SOURCES; s++) {
        if (sv_is_null(d->accounts[s]) || sv_eq(d->accounts[s], d->accounts[first]) ||
            (s == BY_KEY && trust != TRUST_OWN_ACCOUNT))
            continue;
        return settle(d->out, ATTRIBUTE_CONFLICT,
                      SV_FMT " names the account " SV_FMT ", " SV_FMT " names " SV_FMT,
                      SV_ARG(source_name(d, first)), SV_ARG(d->accounts[first]), SV_ARG(source_name(d, s)),
                      SV_ARG(d->accounts[s]));
    }
    if (first < SOURCES && trust == TRUST_LIST && !is_listed(&d->key->tag_policy, d->accounts[first]))
        return settle(d->out, ATTRIBUTE_CONFLICT,
                      "the key's list of accounts does not hold " SV_FMT ", which " SV_FMT " names",
                      SV_ARG(d->accounts[first]), SV_ARG(source_name(d, first)));
    return false;
}

/* True: decided. */
static bool check_required(struct decision *d)
{
    if (d->key == NULL || !d->key->tag_policy.has)
        return false;
    for (size_t i = 0; i < d->key->tag_policy.require_count; i++) {
        struct strview wanted = d->key->tag_policy.require[i];
        struct strview value;
        struct strview other;
        if (tag_find_value(d->out->tags, d->out->tag_count, wanted, &value, &other) == TAG_VALUE_NONE)
            return settle(d->out, ATTRIBUTE_UNTAGGED,
                          "the key requires the tag " SV_FMT ", which the call lacks", SV_ARG(wanted));
    }
    return false;
}

static bool id_is_valid(struct strview id)
{
    return id.len > 0 && id.len <= LIMIT_ID_BYTES && id.ptr[0] != '~';
}

/* True: decided. */
static bool check_known(struct decision *d, enum source first)
{
    const struct attribution *out = d->out;
    const struct {
        struct strview id;
        const char *what;
    } ids[] = {
        {d->accounts[first], "account"}, {out->task_id, "task"}, {out->conversation_id, "conversation"}};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        if (!sv_is_null(ids[i].id) && !id_is_valid(ids[i].id))
            return settle(d->out, ATTRIBUTE_UNKNOWN, "no %s can have the id " SV_FMT, ids[i].what,
                          SV_ARG(ids[i].id));
    }
    if (find(d, REGISTRY_ACCOUNT, d->accounts[first]) == NULL)
        return settle(d->out, ATTRIBUTE_UNKNOWN,
                      "the account " SV_FMT ", which " SV_FMT " names, is not known",
                      SV_ARG(d->accounts[first]), SV_ARG(source_name(d, first)));
    return false;
}

void attribute(const struct spend_call *call, const struct registry *registry,
               const struct attribute_rules *rules, struct attribution *out)
{
    *out = (struct attribution){.verdict = ATTRIBUTE_UNTAGGED};
    struct decision d = {
        .call = call,
        .registry = registry,
        .rules = rules,
        .known_by = attribute_known_by(call),
        .out = out,
    };
    d.key = find(&d, REGISTRY_KEY, call->key_hash);
    take_tags(&d);
    if (d.key != NULL) { /* whatever becomes of the account */
        out->user = d.key->user;
        out->team = d.key->team;
    }
    if (take_sources(&d))
        return;
    enum source first = first_source(&d);
    if (check_conflict(&d, first) || check_required(&d))
        return;
    if (first == SOURCES) {
        (void)settle(out, ATTRIBUTE_UNTAGGED, "no tag, task, conversation or key names an account");
        return;
    }
    if (check_known(&d, first))
        return;
    out->verdict = ATTRIBUTE_ACCOUNT;
    out->account_id = d.accounts[first];
    out->route = routes[first];
}
