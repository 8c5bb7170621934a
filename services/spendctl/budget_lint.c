/* budget_lint: what budgets say that cannot be meant. It asks the API, and changes nothing. */
#include "budget.h"

#include "base/clock.h"
#include "budget_words.h"
#include "ledger_client.h"
#include "progress.h"
#include "table_print.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_US       (86400 * US_PER_SECOND)
#define VALUES_MANY  90000 /* of 100,000, the default of --budget-values */
#define DETAIL_BYTES 1000

/* In the order in which they are told. */
static const struct {
    const char *name;
    const char *fine; /* what is so when nothing was found */
} checks[] = {
    {"never_matched", "every budget older than a day has matched a call"},
    {"unknown_value", "every account, key, user and team that a budget names is registered"},
    {"zero_limit", "no hard limit is 0"},
    {"pointless_limit", "no limit is hidden behind a lower one on the same"},
    {"no_thresholds", "every budget with a limit has thresholds"},
    {"many_values", "no each comes near the most values that have windows"},
};
enum check { NEVER_MATCHED, UNKNOWN_VALUE, ZERO_LIMIT, POINTLESS_LIMIT, NO_THRESHOLDS, MANY_VALUES, CHECKS };
_Static_assert(sizeof checks / sizeof checks[0] == CHECKS, "a name for each check");

struct lint {
    json_t *found[CHECKS];
    json_t *groups; /* hard limits on the same: an array each */
    json_t *users;  /* whom keys are registered for, once they were read */
    json_t *teams;
    bool is_failing;
};

static void find(struct lint *l, enum check check, bool fails, const json_t *budget, const char *detail,
                 const char *hint, ...) __attribute__((format(printf, 6, 7)));

/* detail: as it stands; hint: the command that mends it. */
static void find(struct lint *l, enum check check, bool fails, const json_t *budget, const char *detail,
                 const char *hint, ...)
{
    char text[DETAIL_BYTES];
    va_list args;
    va_start(args, hint);
    (void)vsnprintf(text, sizeof text, hint, args);
    va_end(args);
    text[sv_utf8_prefix(sv_of(text))] = '\0';
    json_array_append_new(l->found[check],
                          json_pack("{s:s, s:s, s:O, s:s, s:s}", "name", checks[check].name, "status",
                                    fails ? "fail" : "warn", "budget", json_object_get(budget, "budget_id"),
                                    "detail", detail, "hint", text));
    l->is_failing = l->is_failing || fails;
}

static bool is_older_than_a_day(const json_t *budget)
{
    /* another revision began at a change, which may be the last one */
    const char *since = ledger_number(budget, "revision") == 1 ? "created_at" : "changed_at";
    int64_t at;
    return clock_parse(sv_of(ledger_text(budget, since)), &at) && clock_now_us() - at > DAY_US;
}

static void check_matched(struct lint *l, const json_t *budget, const char *name)
{
    char words[BUDGET_WORDS_MAX];
    char detail[DETAIL_BYTES];
    bool each = json_is_null(json_object_get(budget, "value"));
    if (!is_older_than_a_day(budget) || (each ? ledger_number(budget, "values") > 0
                                              : json_is_string(json_object_get(budget, "last_matched_at"))))
        return;
    (void)snprintf(detail, sizeof detail, "no call has ever been of %s", budget_about(budget, words));
    find(l, NEVER_MATCHED, true, budget, detail, "spendctl budget set %s %s --begin-anew", name,
         each ? "--each WHAT_CALLS_HAVE" : "--value WHAT_CALLS_HAVE");
}

/* Whom keys are registered for, in any version. false: said. */
static bool read_keys(struct lint *l)
{
    size_t i;
    size_t j;
    const json_t *key;
    const json_t *version;
    if (l->users != NULL)
        return true;
    json_t *list = ledger_list("/v1/keys", INT64_MAX);
    l->users = json_object();
    l->teams = json_object();
    json_array_foreach(json_object_get(list, "items"), i, key)
    {
        json_array_foreach(json_object_get(key, "versions"), j, version)
        {
            json_object_set_new(l->users, ledger_text(version, "user"), json_true());
            json_object_set_new(l->teams, ledger_text(version, "team"), json_true());
        }
    }
    json_decref(list);
    return list != NULL;
}

/* *known: something is registered by that value; tasks, conversations, tags and models need not be, calls
 * name them. false: said. */
static bool is_known(struct lint *l, const char *scope, const char *value, bool *known)
{
    char path[LEDGER_PATH_BYTES];
    const char *pattern = strcmp(scope, "account") == 0 ? "/v1/accounts/{}"
                          : strcmp(scope, "key") == 0   ? "/v1/keys/{}"
                                                        : NULL;
    bool user = strcmp(scope, "user") == 0;
    bool missing = false;
    *known = true;
    if (pattern != NULL) {
        json_t *found = ledger_find(ledger_path(path, pattern, value, NULL), &missing);
        *known = found != NULL;
        json_decref(found);
        return *known || missing;
    }
    if (user || strcmp(scope, "team") == 0) {
        if (!read_keys(l))
            return false;
        *known = json_object_get(user ? l->users : l->teams, value) != NULL;
    }
    return true;
}

static bool check_value(struct lint *l, const json_t *budget)
{
    const char *scope = ledger_text(budget, "scope");
    const char *value = json_string_value(json_object_get(budget, "value"));
    bool key = strcmp(scope, "key") == 0;
    char detail[DETAIL_BYTES];
    char word[BUDGET_WORDS_MAX];
    bool known = true;
    if (value != NULL && !is_known(l, scope, value, &known))
        return false;
    if (known)
        return true;
    (void)snprintf(detail, sizeof detail, "nothing is registered as %s", budget_about(budget, word));
    if (strcmp(scope, "account") == 0) {
        find(l, UNKNOWN_VALUE, false, budget, detail, "spendctl account set %s", budget_quote(value, word));
        return true;
    }
    json_t *binding = key ? json_pack("{s:s}", "account_id", "ACCOUNT") : json_pack("{s:s}", scope, value);
    char *text = json_dumps(binding, JSON_COMPACT);
    find(
        l, UNKNOWN_VALUE, false, budget, detail,
        "curl -X PUT -H \"authorization: Bearer $SPEND_LEDGER_TOKEN\" -d %s \"$SPEND_LEDGER_URL/v1/keys/%s\"",
        budget_quote(text == NULL ? "" : text, word), key ? value : "SHA256_OF_THE_KEY");
    json_decref(binding);
    free(text);
    return true;
}

/* Hard limits on the same go to one group. */
static void group(struct lint *l, json_t *budget)
{
    json_t *same = json_pack("[O, O, O, O, O]", json_object_get(budget, "scope"),
                             json_object_get(budget, "value"), json_object_get(budget, "each"),
                             json_object_get(budget, "measure"), json_object_get(budget, "window"));
    char *key = json_dumps(same, JSON_COMPACT | JSON_SORT_KEYS);
    if (key == NULL)
        abort();
    json_t *members = json_object_get(l->groups, key);
    if (members == NULL) {
        members = json_array();
        json_object_set_new(l->groups, key, members);
    }
    json_array_append(members, budget);
    json_decref(same);
    free(key);
}

static void check_limit(struct lint *l, json_t *budget, const char *name)
{
    int64_t limit;
    bool hard = strcmp(ledger_text(budget, "mode"), "hard") == 0;
    if (!budget_nanos(budget, "limit", &limit))
        return;
    if (json_array_size(json_object_get(budget, "thresholds")) == 0)
        find(l, NO_THRESHOLDS, true, budget,
             "it has a limit and no thresholds: nobody is told before it is reached",
             "spendctl budget set %s --thresholds 50,80,100", name);
    if (!hard)
        return;
    if (limit == 0)
        find(l, ZERO_LIMIT, true, budget, "its limit is 0 and hard: nothing passes",
             "spendctl budget set %s --limit USD, or --limit none, or --mode shadow", name);
    group(l, budget);
}

static void check_values(struct lint *l, const json_t *budget, const char *name)
{
    char detail[DETAIL_BYTES];
    int64_t values = ledger_number(budget, "values");
    if (json_is_null(json_object_get(budget, "each")) || values <= VALUES_MANY)
        return;
    (void)snprintf(detail, sizeof detail,
                   "it has seen %" PRId64
                   " values; past --budget-values of the ledger (100,000 without) those that "
                   "come later share the value ~other",
                   values);
    find(l, MANY_VALUES, true, budget, detail,
         "SPEND_BUDGET_VALUES=1000000 for spend-ledger; or a tag with fewer values: spendctl budget set %s "
         "--each KEY "
         "--begin-anew",
         name);
}

/* Of each group the lowest limit is reached first: the others never are. */
static void check_groups(struct lint *l)
{
    const char *key;
    json_t *members;
    json_object_foreach(l->groups, key, members)
    {
        const json_t *lowest = NULL;
        int64_t least = INT64_MAX;
        int64_t limit = 0;
        size_t i;
        const json_t *budget;
        json_array_foreach(members, i, budget)
        {
            if (budget_nanos(budget, "limit", &limit) && limit < least) {
                least = limit;
                lowest = budget;
            }
        }
        json_array_foreach(members, i, budget)
        {
            char detail[DETAIL_BYTES];
            char name[BUDGET_WORDS_MAX];
            if (!budget_nanos(budget, "limit", &limit) || limit <= least)
                continue;
            (void)snprintf(
                detail, sizeof detail,
                "its limit of %s USD is never reached: %s lets %s USD pass on the same, in the same window",
                ledger_text(budget, "limit"), ledger_text(lowest, "budget_id"), ledger_text(lowest, "limit"));
            find(l, POINTLESS_LIMIT, true, budget, detail, "spendctl budget set %s --mode shadow",
                 budget_quote(ledger_text(budget, "budget_id"), name));
        }
    }
}

/* Everything found, and of what nothing was found, that it is fine. */
static json_t *all_checks(struct lint *l)
{
    json_t *all = json_array();
    for (size_t i = 0; i < CHECKS; i++) {
        if (json_array_size(l->found[i]) == 0)
            json_array_append_new(all, json_pack("{s:s, s:s, s:n, s:s, s:n}", "name", checks[i].name,
                                                 "status", "ok", "budget", "detail", checks[i].fine, "hint"));
        json_array_extend(all, l->found[i]);
    }
    return json_pack("{s:o}", "checks", all);
}

static void print_checks(const json_t *document, size_t budgets)
{
    size_t i;
    const json_t *check;
    printf("%zu budget%s\n", budgets, budgets == 1 ? "" : "s");
    json_array_foreach(json_object_get(document, "checks"), i, check)
    {
        const char *budget = json_string_value(json_object_get(check, "budget"));
        if (budget == NULL) {
            table_fact("ok", "%s", ledger_text(check, "detail"));
            continue;
        }
        table_fact(ledger_text(check, "status"), "%s: %s", budget, ledger_text(check, "detail"));
        table_fact("", "%s", ledger_text(check, "hint"));
    }
}

/* false: said. */
static bool check_all(struct lint *l, const json_t *budgets)
{
    size_t i;
    json_t *budget;
    json_array_foreach(budgets, i, budget)
    {
        char name[BUDGET_WORDS_MAX];
        budget_quote(ledger_text(budget, "budget_id"), name);
        if (json_array_size(budgets) > LEDGER_PAGE)
            progress_say("looked at %zu of %zu budgets ..", i, json_array_size(budgets));
        check_matched(l, budget, name);
        if (!check_value(l, budget))
            return false;
        check_limit(l, budget, name);
        check_values(l, budget, name);
    }
    check_groups(l);
    return true;
}

int budget_lint(const struct invocation *in)
{
    struct lint l = {.groups = json_object()};
    int code = EXIT_FAILED;
    json_t *list = ledger_list("/v1/budgets", INT64_MAX);
    const json_t *budgets = json_object_get(list, "items");
    for (size_t i = 0; i < CHECKS; i++)
        l.found[i] = json_array();
    bool done = list != NULL && check_all(&l, budgets);
    progress_end();
    if (done) {
        json_t *document = all_checks(&l);
        code = l.is_failing ? EXIT_MEND : EXIT_FINE;
        if (in->json) {
            if (ledger_print(document) != EXIT_FINE)
                code = EXIT_FAILED;
        } else {
            print_checks(document, json_array_size(budgets));
            json_decref(document);
        }
    }
    for (size_t i = 0; i < CHECKS; i++)
        json_decref(l.found[i]);
    json_decref(l.groups);
    json_decref(l.users);
    json_decref(l.teams);
    json_decref(list);
    return code;
}
