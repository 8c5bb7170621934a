#include "pg_plan.h"

#include <stdlib.h>
#include <string.h>

#define NODES_MAX 4 /* of a plan, from its top: more do not matter */

const char *const pg_plan_probes[PG_PLAN_PROBES] = {
    "SELECT call_id FROM hold WHERE call_id = ANY ($1::uuid[]) ORDER BY call_id FOR UPDATE",
    "DELETE FROM hold AS h USING unnest($1::uuid[]) AS x (call_id) WHERE h.call_id = x.call_id",
};

static bool begins(struct strview text, const char *word)
{
    struct strview w = sv_of(word);
    return text.len >= w.len && memcmp(text.ptr, w.ptr, w.len) == 0;
}

static bool locks(const char *sql)
{
    return strstr(sql, "FOR UPDATE") != NULL && strstr(sql, "SKIP LOCKED") == NULL;
}

static bool changes_by_array(const char *sql)
{
    struct strview text = sv_of(sql);
    return (begins(text, "UPDATE ") || begins(text, "DELETE ")) && strstr(sql, "unnest(") != NULL;
}

bool pg_plan_matters(const char *sql)
{
    return locks(sql) || changes_by_array(sql);
}

/* The names of the nodes from the top: "LockRows", "Sort", .. Other lines tell about the node above them. */
static size_t nodes_of(struct strview plan, struct strview *node)
{
    size_t count = 0;
    bool first = true;
    for (struct strview rest = plan; !sv_is_null(rest) && count < NODES_MAX; first = false) {
        struct strview line = sv_trim(sv_cut(rest, '\n', &rest));
        if (begins(line, "->"))
            node[count++] = sv_trim((struct strview){line.ptr + 2, line.len - 2});
        else if (first)
            node[count++] = line;
    }
    return count;
}

/* What comes by an index or behind a Sort comes in order; so does a Nested Loop's outer side. */
static bool is_ordered(const struct strview *node, size_t count)
{
    if (count > 1 && begins(node[0], "Nested Loop"))
        return is_ordered(node + 1, count - 1);
    return count > 0 &&
           (begins(node[0], "Sort") || begins(node[0], "Index Scan") || begins(node[0], "Index Only Scan"));
}

bool pg_plan_check(const char *sql, struct strview plan, struct err *err)
{
    struct strview node[NODES_MAX];
    size_t count = nodes_of(plan, node);
    bool ok = true;
    if (locks(sql))
        ok = strstr(sql, "ORDER BY") != NULL && count > 1 && begins(node[0], "LockRows") &&
             is_ordered(node + 1, count - 1);
    else if (changes_by_array(sql))
        ok = count > 2 && begins(node[1], "Nested Loop") && begins(node[2], "Function Scan");
    return ok || err_set(err, ERR_STATE, FATE_FATAL,
                         "postgres would lock rows out of order (%.60s..: " SV_FMT " over " SV_FMT
                         "): are planner settings forced on the role or the database?",
                         sql, SV_ARG(count > 0 ? node[0] : plan), SV_ARG(count > 1 ? node[1] : SV_NULL));
}

size_t pg_plan_parameters(const char *sql)
{
    size_t most = 0;
    for (const char *at = sql; (at = strchr(at, '$')) != NULL;) {
        size_t n = strtoul(++at, NULL, 10);
        most = n > most ? n : most;
    }
    return most;
}
