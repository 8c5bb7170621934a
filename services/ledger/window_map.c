/*
 * window_map: (budget, revision, value) to the windows seen, the newest first. It is emptied when it has
 * grown too large: Postgres knows them all.
 */
#include "window_map.h"

#include "base/metrics.h"
#include "pg_query.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM          1
#define uthash_nonfatal_oom(entry) ((entry)->lost = true)
#include <uthash.h>

#define WINDOWS_KEPT 1000000 /* of all values: some 300 MB at most */
#define OPEN_AT_ONCE 200
#define KEY_BYTES    (sizeof(int64_t) + sizeof(int32_t) + LIMIT_TEXT_BYTES)

struct window {
    int64_t id;
    int64_t start;
    int64_t end;
};

struct value {
    UT_hash_handle hh;
    bool lost;
    struct window *window; /* the last one seen last */
    size_t count;
    size_t room;
    size_t key_len;
    char key[];
};

struct window_map {
    struct value *values;
    size_t window_count;
    int64_t values_max;
    struct metric *asked;
};

bool window_map_new(struct window_map **out, int64_t values_max, struct err *err)
{
    struct window_map *m = calloc(1, sizeof *m);
    if (m == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "window_map: out of memory");
    m->values_max = values_max;
    m->asked = metric_counter("spend_ledger_windows_asked_total",
                              "windows that were not in memory: found in Postgres, or opened", NULL, NULL);
    *out = m;
    return true;
}

void window_map_clear(struct window_map *m)
{
    struct value *next;
    struct value *v = m->values;
    m->window_count = 0;
    HASH_CLEAR(hh, m->values); /* the values stay linked in the order they came */
    for (; v != NULL; v = next) {
        next = v->hh.next;
        free(v->window);
        free(v);
    }
}

void window_map_free(struct window_map *m)
{
    if (m == NULL)
        return;
    window_map_clear(m);
    free(m);
}

int64_t window_map_values_max(const struct window_map *m)
{
    return m->values_max;
}

static size_t key_make(char out[KEY_BYTES], const struct budget_match *match)
{
    size_t len = match->value.len < LIMIT_TEXT_BYTES ? match->value.len : LIMIT_TEXT_BYTES;
    memcpy(out, &match->rule->budget, sizeof(int64_t));
    memcpy(out + sizeof(int64_t), &match->rule->revision, sizeof(int32_t));
    memcpy(out + sizeof(int64_t) + sizeof(int32_t), match->value.ptr, len);
    return sizeof(int64_t) + sizeof(int32_t) + len;
}

static struct value *value_find(const struct window_map *m, const struct budget_match *match)
{
    char key[KEY_BYTES];
    struct value *found = NULL;
    size_t len = key_make(key, match);
    HASH_FIND(hh, m->values, key, len, found);
    return found;
}

int64_t window_map_find(const struct window_map *m, const struct budget_match *match, int64_t at)
{
    const struct value *v = value_find(m, match);
    for (size_t i = v == NULL ? 0 : v->count; i > 0; i--)
        if (at >= v->window[i - 1].start && at < v->window[i - 1].end)
            return v->window[i - 1].id;
    return 0;
}

static bool value_put(struct window_map *m, const struct budget_match *match, const struct window *w)
{
    struct value *v = value_find(m, match);
    if (v == NULL) {
        char key[KEY_BYTES];
        size_t len = key_make(key, match);
        v = calloc(1, sizeof *v + len);
        if (v == NULL)
            return false;
        v->key_len = len;
        memcpy(v->key, key, len);
        HASH_ADD(hh, m->values, key, len, v);
        if (v->lost) {
            free(v);
            return false;
        }
    }
    if (v->count == v->room) {
        size_t room = v->room == 0 ? 2 : v->room * 2;
        struct window *more = realloc(v->window, room * sizeof *more);
        if (more == NULL)
            return false;
        v->window = more;
        v->room = room;
    }
    v->window[v->count++] = *w;
    m->window_count++;
    return true;
}

/* Two that open windows lock their revisions in one order. */
static int by_match(const void *a, const void *b)
{
    const struct window_wanted *x = a;
    const struct window_wanted *y = b;
    if (x->match.rule->budget != y->match.rule->budget)
        return x->match.rule->budget < y->match.rule->budget ? -1 : 1;
    if (x->match.rule->revision != y->match.rule->revision)
        return x->match.rule->revision < y->match.rule->revision ? -1 : 1;
    int order = sv_cmp(x->match.value, y->match.value);
    return order != 0 ? order : (x->at > y->at) - (x->at < y->at);
}

/* One statement, one transaction. */
static bool open_some(struct window_map *m, struct pg_session *pg, const struct window_wanted *const *wanted,
                      size_t count, struct err *err)
{
    static const char sql[] =
        "SELECT o.id, o.window_start, nullif(o.window_end, 'infinity')"
        " FROM unnest($1::bigint[], $2::int[], $3::text[], $4::timestamptz[]) WITH ORDINALITY"
        " AS x (budget, revision, value, at, n)"
        " CROSS JOIN LATERAL window_open(x.budget, x.revision, x.value, x.at, $5::bigint) AS o ORDER BY x.n";
    int64_t budget[OPEN_AT_ONCE];
    int32_t revision[OPEN_AT_ONCE];
    struct strview value[OPEN_AT_ONCE];
    int64_t at[OPEN_AT_ONCE];
    for (size_t i = 0; i < count; i++) {
        budget[i] = wanted[i]->match.rule->budget;
        revision[i] = wanted[i]->match.rule->revision;
        value[i] = wanted[i]->match.value;
        at[i] = wanted[i]->at;
    }
    struct pg_rows *rows = NULL;
    struct pg_fields args;
    pg_fields_init(&args);
    pg_put_i64_array(&args, budget, count);
    pg_put_i32_array(&args, revision, count);
    pg_put_text_array(&args, value, count);
    pg_put_time_array(&args, at, count);
    pg_put_i64(&args, m->values_max);
    bool ok = pg_session_query(pg, sql, &args, &rows, err) || err_wrap(err, "window_open");
    for (size_t i = 0; ok && i < count; i++) {
        struct opt_i64 end = pg_get_opt_time(rows, i, 2);
        const struct window w = {pg_get_i64(rows, i, 0), pg_get_time(rows, i, 1),
                                 end.has ? end.v : INT64_MAX};
        ok = value_put(m, &wanted[i]->match, &w) ||
             err_set(err, ERR_MEMORY, FATE_FATAL, "window_map: out of memory");
    }
    metric_add(m->asked, (int64_t)count);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

bool window_map_open(struct window_map *m, struct pg_session *pg, struct window_wanted *wanted, size_t count,
                     struct err *err)
{
    const struct window_wanted *some[OPEN_AT_ONCE];
    size_t n = 0;
    if (m->window_count > WINDOWS_KEPT)
        window_map_clear(m);
    if (count > 1)
        qsort(wanted, count, sizeof *wanted, by_match);
    for (size_t i = 0; i < count; i++) {
        if (window_map_find(m, &wanted[i].match, wanted[i].at) != 0 ||
            (n > 0 && by_match(some[n - 1], &wanted[i]) == 0))
            continue;
        some[n++] = &wanted[i];
        if (n == OPEN_AT_ONCE) {
            if (!open_some(m, pg, some, n, err))
                return false;
            n = 0;
        }
    }
    return n == 0 || open_some(m, pg, some, n, err);
}
