/*
 * registry: one hash table a kind, one allocation a fact: the fact, its versions, their lists, their texts.
 */
#include "spend/registry.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM         1
#define uthash_nonfatal_oom(fact) ((fact)->lost = true)
#include <uthash.h>

struct fact {
    UT_hash_handle hh;
    bool lost; /* the table had no room for it */
    struct strview id;
    struct registry_version *versions;
    size_t version_count;
};

struct registry {
    struct fact *facts[REGISTRY_HEARTBEAT];
    int64_t watermark;
    int64_t price_version;
};

static const char *const kinds[REGISTRY_KIND_COUNT] = {
    [REGISTRY_ACCOUNT] = "account",
    [REGISTRY_KEY] = "key",
    [REGISTRY_TIER] = "tier",
    [REGISTRY_TASK] = "task",
    [REGISTRY_CONVERSATION] = "conversation",
    [REGISTRY_MODEL] = "model",
    [REGISTRY_HEARTBEAT] = "heartbeat",
};

static const char *const trusts[] = {
    [TRUST_DEFAULT] = "default",
    [TRUST_OWN_ACCOUNT] = "own_account",
    [TRUST_ANY] = "any",
    [TRUST_LIST] = "list",
};
#define TRUST_COUNT (sizeof trusts / sizeof trusts[0])

const char *registry_kind_name(enum registry_kind kind)
{
    assert((size_t)kind < REGISTRY_KIND_COUNT);
    return kinds[kind];
}

const char *tag_trust_name(enum tag_trust trust)
{
    assert((size_t)trust < TRUST_COUNT);
    return trusts[trust];
}

bool tag_trust_parse(struct strview text, enum tag_trust *out)
{
    for (size_t i = 0; i < TRUST_COUNT; i++) {
        if (sv_eq(text, sv_of(trusts[i]))) {
            *out = (enum tag_trust)i;
            return true;
        }
    }
    return false;
}

bool registry_new(struct registry **out, struct err *err)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "registry: out of memory");
    return true;
}

void registry_free(struct registry *r)
{
    if (r == NULL)
        return;
    for (size_t kind = 0; kind < REGISTRY_HEARTBEAT; kind++) {
        struct fact *fact = r->facts[kind];
        HASH_CLEAR(hh, r->facts[kind]); /* the table; the facts stay linked */
        while (fact != NULL) {
            struct fact *next = fact->hh.next;
            free(fact);
            fact = next;
        }
    }
    free(r);
}

/* Copying. First the room is summed with `lists` and `texts` at NULL, then the same walk copies. */

struct packer {
    struct strview *lists;
    char *texts;
    size_t list_count;
    size_t text_bytes;
};

static struct strview pack_text(struct packer *p, struct strview v)
{
    size_t at = p->text_bytes;
    p->text_bytes += v.len;
    if (p->texts == NULL || v.ptr == NULL)
        return v;
    if (v.len > 0)
        memcpy(p->texts + at, v.ptr, v.len);
    return sv_of_bytes(p->texts + at, v.len);
}

static struct strview *pack_list(struct packer *p, struct strview *list, size_t count)
{
    size_t at = p->list_count;
    p->list_count += count;
    if (p->lists == NULL) {
        for (size_t i = 0; i < count; i++)
            (void)pack_text(p, list[i]);
        return list;
    }
    for (size_t i = 0; i < count; i++)
        p->lists[at + i] = pack_text(p, list[i]);
    return p->lists + at;
}

static struct registry_version pack_version(struct packer *p, const struct registry_version *v)
{
    struct registry_version copy = *v;
    copy.account_id = pack_text(p, v->account_id);
    copy.tier = pack_text(p, v->tier);
    copy.user = pack_text(p, v->user);
    copy.team = pack_text(p, v->team);
    copy.price_key = pack_text(p, v->price_key);
    copy.conversation_id = pack_text(p, v->conversation_id);
    copy.tags = pack_list(p, v->tags, v->tag_count);
    copy.tag_policy.require = pack_list(p, v->tag_policy.require, v->tag_policy.require_count);
    copy.tag_policy.accounts = pack_list(p, v->tag_policy.accounts, v->tag_policy.account_count);
    return copy;
}

static struct fact *fact_new(const struct registry_record *record)
{
    struct packer p = {0};
    (void)pack_text(&p, record->id);
    for (size_t i = 0; i < record->version_count; i++)
        (void)pack_version(&p, &record->versions[i]);
    size_t versions = record->version_count * sizeof(struct registry_version);
    size_t lists = p.list_count * sizeof(struct strview);
    /* One byte more, so that an empty text at the end still points inside. */
    struct fact *fact = calloc(1, sizeof *fact + versions + lists + p.text_bytes + 1);
    if (fact == NULL)
        return NULL;
    fact->versions = (struct registry_version *)(void *)(fact + 1);
    void *after = (char *)(fact + 1) + versions;
    p = (struct packer){.lists = after, .texts = (char *)after + lists};
    fact->id = pack_text(&p, record->id);
    fact->version_count = record->version_count;
    for (size_t i = 0; i < record->version_count; i++)
        fact->versions[i] = pack_version(&p, &record->versions[i]);
    return fact;
}

static struct fact *fact_find(const struct registry *r, enum registry_kind kind, struct strview id)
{
    struct fact *fact = NULL;
    HASH_FIND(hh, r->facts[kind], id.ptr, id.len, fact);
    return fact;
}

static bool record_check(const struct registry_record *record, struct err *err)
{
    if ((size_t)record->kind >= REGISTRY_HEARTBEAT || sv_is_empty(record->id))
        return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "registry: a record without kind or id");
    if (record->version_count > LIMIT_REGISTRY_VERSIONS)
        return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "registry: %zu versions, %d are allowed",
                       record->version_count, LIMIT_REGISTRY_VERSIONS);
    for (size_t i = 0; i < record->version_count; i++) {
        if (record->versions[i].tag_count > LIMIT_TAGS)
            return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "registry: %zu tags bound, %d are allowed",
                           record->versions[i].tag_count, LIMIT_TAGS);
    }
    return true;
}

bool registry_put(struct registry *r, const struct registry_record *record, struct err *err)
{
    if (record->kind == REGISTRY_HEARTBEAT) {
        if (record->watermark.has && record->watermark.v > r->watermark)
            r->watermark = record->watermark.v;
        if (record->price_version.has && record->price_version.v > r->price_version)
            r->price_version = record->price_version.v;
        return true;
    }
    if (!record_check(record, err))
        return false;
    struct fact *fact = fact_new(record);
    if (fact == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "registry: out of memory");
    struct fact *old = fact_find(r, record->kind, fact->id);
    if (old != NULL) {
        HASH_DEL(r->facts[record->kind], old);
        free(old);
    }
    HASH_ADD_KEYPTR(hh, r->facts[record->kind], fact->id.ptr, fact->id.len, fact);
    if (fact->lost) {
        free(fact);
        return err_set(err, ERR_MEMORY, FATE_FATAL, "registry: out of memory");
    }
    return true;
}

int64_t registry_watermark(const struct registry *r)
{
    return r->watermark;
}

int64_t registry_price_version(const struct registry *r)
{
    return r->price_version;
}

size_t registry_count(const struct registry *r, enum registry_kind kind)
{
    return kind == REGISTRY_HEARTBEAT ? 0 : HASH_COUNT(r->facts[kind]);
}

const struct registry_version *registry_in_force(const struct registry_version *versions, size_t count,
                                                 int64_t at, int64_t known_by)
{
    const struct registry_version *best = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct registry_version *v = &versions[i];
        if (v->effective_from > at || v->recorded_at > known_by)
            continue;
        if (best == NULL || v->effective_from > best->effective_from ||
            (v->effective_from == best->effective_from && v->recorded_at >= best->recorded_at))
            best = v;
    }
    return best;
}

const struct registry_version *registry_find(const struct registry *r, enum registry_kind kind,
                                             struct strview id, int64_t at, int64_t known_by)
{
    assert((size_t)kind < REGISTRY_HEARTBEAT);
    const struct fact *fact = sv_is_empty(id) ? NULL : fact_find(r, kind, id);
    return fact == NULL ? NULL : registry_in_force(fact->versions, fact->version_count, at, known_by);
}
