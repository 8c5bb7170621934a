/*
 * budget_store: rules by what they are about: (scope, value), or (scope, each).
 */
#include "budget_store.h"

#include "pg_query.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM          1
#define uthash_nonfatal_oom(entry) ((entry)->lost = true)
#include <uthash.h>

#define KEY_BYTES (2 + LIMIT_TEXT_BYTES) /* scope, each or value, the text */

/* All that is said about one value, or about each of one kind. */
struct topic {
    UT_hash_handle hh;
    bool lost;
    struct budget_rule **rule; /* by budget, revision */
    size_t count;
    size_t key_len;
    char key[KEY_BYTES];
};

/* A budget's rules, to take them out again. */
struct owner {
    UT_hash_handle hh;
    bool lost;
    int64_t budget;
    struct budget_rule *rule;
    struct topic **topic; /* beside rule; NULL: not added yet */
    size_t count;
};

struct budget_store {
    struct topic *topics;
    struct owner *owners;
    int64_t version;
};

static bool no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_FATAL, "budget_store: out of memory");
}

bool budget_store_new(struct budget_store **out, struct err *err)
{
    *out = calloc(1, sizeof **out);
    return *out != NULL || no_memory(err);
}

static void owner_free(struct owner *o)
{
    free((void *)o->topic);
    free(o->rule);
    free(o);
}

void budget_store_free(struct budget_store *s)
{
    struct topic *next_topic;
    struct owner *next_owner;
    if (s == NULL)
        return;
    /* clearing frees the tables alone; what was in them stays linked in the order it came */
    struct topic *t = s->topics;
    struct owner *o = s->owners;
    HASH_CLEAR(hh, s->topics);
    HASH_CLEAR(hh, s->owners);
    for (; t != NULL; t = next_topic) {
        next_topic = t->hh.next;
        free((void *)t->rule);
        free(t);
    }
    for (; o != NULL; o = next_owner) {
        next_owner = o->hh.next;
        owner_free(o);
    }
    free(s);
}

static size_t key_make(char out[KEY_BYTES], enum scope_kind scope, bool each, struct strview text)
{
    size_t len = text.len < LIMIT_TEXT_BYTES ? text.len : LIMIT_TEXT_BYTES;
    out[0] = (char)scope;
    out[1] = each ? 1 : 0;
    if (len > 0)
        memcpy(out + 2, text.ptr, len);
    return len + 2;
}

static struct topic *topic_find(const struct budget_store *s, enum scope_kind scope, bool each,
                                struct strview text)
{
    char key[KEY_BYTES];
    struct topic *found = NULL;
    size_t len = key_make(key, scope, each, text);
    HASH_FIND(hh, s->topics, key, len, found);
    return found;
}

static bool topic_add(struct budget_store *s, struct strview text, bool each, struct budget_rule *rule,
                      struct topic **out, struct err *err)
{
    struct topic *t = topic_find(s, rule->scope, each, text);
    if (t == NULL) {
        t = calloc(1, sizeof *t);
        if (t == NULL)
            return no_memory(err);
        t->key_len = key_make(t->key, rule->scope, each, text);
        HASH_ADD(hh, s->topics, key, t->key_len, t);
        if (t->lost) {
            free(t);
            return no_memory(err);
        }
    }
    struct budget_rule **more = realloc(t->rule, (t->count + 1) * sizeof(struct budget_rule *));
    if (more == NULL)
        return no_memory(err);
    t->rule = more;
    size_t at = t->count++;
    for (; at > 0 && more[at - 1]->budget > rule->budget; at--)
        more[at] = more[at - 1];
    more[at] = rule;
    *out = t;
    return true;
}

static void topic_drop(struct topic *t, const struct budget_rule *rule)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->count; i++)
        if (t->rule[i] != rule)
            t->rule[kept++] = t->rule[i];
    t->count = kept; /* an empty one stays: it will be spoken of again, or never looked at */
}

static void owner_drop(struct budget_store *s, struct owner *o)
{
    for (size_t i = 0; i < o->count; i++)
        if (o->topic[i] != NULL)
            topic_drop(o->topic[i], &o->rule[i]);
    HASH_DELETE(hh, s->owners, o);
    owner_free(o);
}

enum column { COL_BUDGET, COL_REVISION, COL_SCOPE, COL_TEXT, COL_EACH, COL_BILLED, COL_FROM, COL_TO };

static const char sql[] =
    "SELECT r.budget, r.revision, r.scope, coalesce(r.value, r.each), r.value IS NULL, r.measure = 'billed',"
    " r.effective_from, nullif(r.effective_to, 'infinity') FROM budget AS b JOIN budget_revision AS r ON"
    " r.budget = b.id WHERE b.config_version > $1::bigint ORDER BY r.budget, r.revision";

static bool rule_read(const struct pg_rows *rows, size_t row, struct budget_rule *out, struct err *err)
{
    struct opt_i64 to = pg_get_opt_time(rows, row, COL_TO);
    *out = (struct budget_rule){.budget = pg_get_i64(rows, row, COL_BUDGET),
                                .revision = (int32_t)pg_get_i64(rows, row, COL_REVISION),
                                .billed = pg_get_bool(rows, row, COL_BILLED),
                                .from = pg_get_time(rows, row, COL_FROM),
                                .to = to.has ? to.v : INT64_MAX};
    return scope_parse(pg_get(rows, row, COL_SCOPE), &out->scope) ||
           err_set(err, ERR_INVALID, FATE_FATAL,
                   "budget %lld has a scope that is none: the database was tampered with",
                   (long long)out->budget);
}

/* Rows from `first` to `end` are one budget's. */
static bool owner_put(struct budget_store *s, const struct pg_rows *rows, size_t first, size_t end,
                      struct err *err)
{
    struct owner *o = NULL;
    int64_t budget = pg_get_i64(rows, first, COL_BUDGET);
    HASH_FIND(hh, s->owners, &budget, sizeof budget, o);
    if (o != NULL)
        owner_drop(s, o);
    o = calloc(1, sizeof *o);
    if (o == NULL)
        return no_memory(err);
    o->budget = budget;
    o->count = end - first;
    o->rule = calloc(o->count, sizeof *o->rule);
    o->topic = calloc(o->count, sizeof(struct topic *));
    if (o->rule != NULL && o->topic != NULL)
        HASH_ADD(hh, s->owners, budget, sizeof o->budget, o);
    if (o->rule == NULL || o->topic == NULL || o->lost) {
        free((void *)o->topic);
        free(o->rule);
        free(o);
        return no_memory(err);
    }
    for (size_t i = 0; i < o->count; i++)
        if (!rule_read(rows, first + i, &o->rule[i], err) ||
            !topic_add(s, pg_get(rows, first + i, COL_TEXT), pg_get_bool(rows, first + i, COL_EACH),
                       &o->rule[i], &o->topic[i], err))
            return false;
    return true;
}

bool budget_store_refresh(struct budget_store *s, struct pg_session *pg, int64_t version, struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = pg_query(pg, sql, PG_ARGS(PG_I64(s->version)), &rows, err);
    size_t count = ok ? pg_rows_count(rows) : 0;
    size_t end = 0;
    for (size_t first = 0; ok && first < count; first = end) {
        for (end = first + 1;
             end < count && pg_get_i64(rows, end, COL_BUDGET) == pg_get_i64(rows, first, COL_BUDGET);)
            end++;
        ok = owner_put(s, rows, first, end, err);
    }
    pg_rows_free(rows);
    if (ok)
        s->version = version;
    return ok;
}

int64_t budget_store_version(const struct budget_store *s)
{
    return s->version;
}

struct finder {
    int64_t at;
    struct arena *arena;
    struct budget_match *match;
    size_t count;
    size_t room;
};

static bool match_add(struct finder *f, const struct topic *t, struct strview value)
{
    for (size_t i = 0; t != NULL && i < t->count; i++) {
        const struct budget_rule *rule = t->rule[i];
        if (f->at < rule->from || f->at >= rule->to)
            continue;
        if (f->count == f->room) {
            size_t room = f->room == 0 ? 16 : f->room * 2;
            struct budget_match *more = arena_alloc(f->arena, room * sizeof *more);
            if (more == NULL)
                return false;
            if (f->count > 0)
                memcpy(more, f->match, f->count * sizeof *more);
            f->match = more;
            f->room = room;
        }
        f->match[f->count++] = (struct budget_match){rule, value};
    }
    return true;
}

bool budget_store_match(const struct budget_store *s, const struct scope_subject *subject, int64_t at,
                        struct arena *a, struct budget_match **out, size_t *count, struct err *err)
{
    struct finder f = {.at = at, .arena = a};
    struct scope_value value[SCOPE_VALUES_MAX];
    size_t values = s->topics == NULL ? 0 : scope_values(subject, value);
    bool ok = true;
    for (size_t i = 0; ok && i < values; i++) {
        const struct scope_value *v = &value[i];
        struct strview each = v->kind == SCOPE_TAG ? v->key : sv_of(scope_name(v->kind));
        ok = match_add(&f, topic_find(s, v->kind, false, v->value), v->value) &&
             (sv_is_empty(each) || match_add(&f, topic_find(s, v->kind, true, each), v->value));
    }
    *out = f.match;
    *count = f.count;
    return ok || err_set(err, ERR_MEMORY, FATE_FATAL, "budget_store: the arena is full");
}
