#include "budget.h"

#include "base/sha256.h"
#include "budget_words.h"
#include "ledger_client.h"
#include "progress.h"
#include "spend/scope.h"
#include "table_print.h"
#include "zone.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_SHOWN 20
#define VALUES_MAX   100000
#define KEY_SHOWN    12

/* Is it one that budgets have? A wrong one would show an empty list. */
static bool check_scope(const char *scope)
{
#define SCOPE_NAME(kind, name, label, values, member) name,
    static const char *const names[] = {SCOPES(SCOPE_NAME)};
#undef SCOPE_NAME
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(scope, names[i]) == 0)
            return true;
    }
    (void)fprintf(
        stderr,
        "spendctl: a budget's scope is not \"%s\"\n  use key, user, team, account, task, conversation, "
        "tag or model\n",
        scope);
    return false;
}

/* When what is spent begins again from nothing. */
static const char *next_reset(const json_t *budget, char out[ZONE_TIME_MAX])
{
    const char *end = json_string_value(json_object_get(budget, "window_end"));
    return budget_is_lifetime(budget) ? "never" : zone_time(end, out);
}

static void list_row(struct table *t, const json_t *budget)
{
    char time[ZONE_TIME_MAX];
    char value[TABLE_CELL_MAX];
    const char *each = json_string_value(json_object_get(budget, "each"));
    const char *limit = json_string_value(json_object_get(budget, "limit"));
    const char *scope = ledger_text(budget, "scope");
    if (each != NULL)
        (void)snprintf(value, sizeof value, "each %s", each);
    else if (strcmp(scope, "key") == 0)
        (void)snprintf(value, sizeof value, "%.*s..", KEY_SHOWN, ledger_text(budget, "value"));
    else
        (void)snprintf(value, sizeof value, "%s", ledger_text(budget, "value"));
    table_row(t, ledger_text(budget, "budget_id"), scope, value, ledger_text(budget, "mode"),
              limit == NULL ? "none" : limit, ledger_text(budget, "spent"), ledger_text(budget, "held"),
              ledger_text(budget, "remaining"), next_reset(budget, time));
}

/* Times are shown in --tz, or the reader's own zone; programs get the ledger's. false: said. */
static bool use_zone(const struct invocation *in)
{
    const char *tz = command_value(in, "tz");
    return (tz == NULL && in->json) || zone_use(tz);
}

int budget_list(const struct invocation *in)
{
    const char *scope = command_value(in, "scope");
    if ((scope != NULL && !check_scope(scope)) || !use_zone(in))
        return EXIT_FAILED;
    json_t *list = ledger_list("/v1/budgets", INT64_MAX);
    if (list == NULL)
        return EXIT_FAILED;
    json_t *budgets = json_object_get(list, "items");
    for (size_t n = json_array_size(budgets); scope != NULL && n-- > 0;) {
        if (strcmp(ledger_text(json_array_get(budgets, n), "scope"), scope) != 0)
            json_array_remove(budgets, n);
    }
    if (in->json)
        return ledger_print(list);
    struct table t;
    size_t i;
    const json_t *budget;
    table_begin(&t, "budget", "scope", "value", "mode", ">limit", ">spent", ">held", ">remaining",
                "next reset", NULL);
    json_array_foreach(budgets, i, budget) list_row(&t, budget);
    table_end(&t);
    json_decref(list);
    return EXIT_FINE;
}

/* Its window of now and what is in it. */
static void print_window(const json_t *budget)
{
    char time[ZONE_TIME_MAX];
    const char *matched = json_string_value(json_object_get(budget, "last_matched_at"));
    table_fact("from", "%s", zone_time(ledger_text(budget, "window_start"), time));
    table_fact("to", "%s", next_reset(budget, time));
    table_fact("spent", "%s USD", ledger_text(budget, "spent"));
    table_fact("held", "%s USD", ledger_text(budget, "held"));
    if (!json_is_null(json_object_get(budget, "remaining")))
        table_fact("remaining", "%s USD", ledger_text(budget, "remaining"));
    table_fact("ungated", "%s USD of what is spent: no hold stood for it", ledger_text(budget, "ungated"));
    table_fact("last matched", "%s", matched == NULL ? "no call yet" : zone_time(matched, time));
}

void budget_print(const json_t *budget)
{
    char words[BUDGET_WORDS_MAX];
    int64_t limit = 1;
    bool raw = strcmp(ledger_text(budget, "measure"), "raw") == 0;
    bool hard = strcmp(ledger_text(budget, "mode"), "hard") == 0;
    bool nothing = hard && budget_nanos(budget, "limit", &limit) && limit == 0;
    printf("Budget %s\n", ledger_text(budget, "budget_id"));
    table_fact("about", "%s", budget_about(budget, words));
    table_fact("limit", "%s%s", budget_limit(budget, words), nothing ? ": nothing passes" : "");
    table_fact("measure", raw ? "raw: what the provider charges" : "billed: with the account's markup");
    table_fact("mode", hard ? "hard" : "shadow: it counts and tells, and refuses nothing");
    table_fact("thresholds", "%s", budget_thresholds(budget, words));
    table_fact("window", "%s", budget_window(budget, words));
    if (json_is_string(json_object_get(budget, "window_start")))
        print_window(budget);
    table_fact("revision", "%" PRId64, ledger_number(budget, "revision"));
}

json_t *budget_value(const char *scope, const char *value)
{
    uint8_t bytes[SHA256_LEN];
    char hex[SHA256_HEX_LEN + 1];
    if (strcmp(scope, "key") != 0)
        return json_string(value);
    if (sha256_from_hex(sv_of(value), bytes, sizeof bytes)) {
        sha256_to_hex(bytes, sizeof bytes, hex);
        return json_string(hex);
    }
    (void)fputs("spendctl: --value is not the hash of a key; nothing was sent\n"
                "  name a key by its SHA-256 in hex: printf %s \"$KEY\" | sha256sum; never the key itself\n",
                stderr);
    return NULL;
}

/* The budget, or one of its values; *value as it is asked for, null without one. NULL: said. */
static json_t *get_budget(const struct invocation *in, json_t **value)
{
    char path[LEDGER_PATH_BYTES];
    const char *id = in->operand[0];
    const char *wanted = command_value(in, "value");
    json_t *budget = ledger_get(ledger_path(path, "/v1/budgets/{}", id, NULL));
    *value = json_null();
    if (budget == NULL || wanted == NULL)
        return budget;
    *value = budget_value(ledger_text(budget, "scope"), wanted);
    json_decref(budget);
    return *value == NULL ? NULL
                          : ledger_get(ledger_path(path, "/v1/budgets/{}?value={}", id,
                                                   json_string_value(*value), NULL));
}

/* A value of an `each`, to be ordered. */
struct ranked {
    json_t *value;
    int64_t spent;
};

static int by_spent(const void *a, const void *b)
{
    const struct ranked *x = a;
    const struct ranked *y = b;
    if (x->spent != y->spent)
        return x->spent < y->spent ? 1 : -1;
    return strcmp(ledger_text(x->value, "value"), ledger_text(y->value, "value"));
}

/* The `limit` values with the most spent, largest first, of all there are: no more than a page of others is
 * held at a time. NULL: said. */
static json_t *largest_values(const char *budget, int64_t limit, int64_t count)
{
    char path[LEDGER_PATH_BYTES];
    json_t *top = json_array();
    json_t *next = NULL;
    size_t kept = 0;
    int64_t seen = 0;
    bool ok;
    struct ranked *rank = calloc((size_t)limit + LEDGER_PAGE, sizeof *rank);
    if (rank == NULL)
        abort();
    ledger_path(path, "/v1/budgets/{}/values", budget, NULL);
    do {
        json_t *page = ledger_page(path, LEDGER_PAGE, &next);
        size_t i;
        json_t *value;
        json_array_foreach(json_object_get(page, "items"), i, value)
        {
            rank[kept] = (struct ranked){json_incref(value), INT64_MIN};
            (void)budget_nanos(value, "spent", &rank[kept++].spent);
            seen++;
        }
        ok = page != NULL;
        json_decref(page);
        qsort(rank, kept, sizeof *rank, by_spent);
        while ((int64_t)kept > limit)
            json_decref(rank[--kept].value);
        if (count > LEDGER_PAGE)
            progress_say("read %" PRId64 " of %" PRId64 " values ..", seen, count);
    } while (next != NULL);
    progress_end();
    for (size_t i = 0; i < kept; i++)
        json_array_append_new(top, rank[i].value);
    free(rank);
    if (!ok)
        json_decref(top);
    return ok ? top : NULL;
}

static void print_values(const json_t *budget, const json_t *values)
{
    char time[2][ZONE_TIME_MAX];
    struct table t;
    size_t i;
    const json_t *value;
    int64_t count = ledger_number(budget, "values");
    if ((int64_t)json_array_size(values) < count)
        printf("\n%" PRId64 " values have a window of their own; the %zu with the most spent:\n", count,
               json_array_size(values));
    else
        printf("\n%" PRId64 " values have a window of their own\n", count);
    table_begin(&t, "value", ">spent", ">held", ">remaining", "last matched", "next reset", NULL);
    json_array_foreach(values, i, value)
        table_row(&t, ledger_text(value, "value"), ledger_text(value, "spent"), ledger_text(value, "held"),
                  ledger_text(value, "remaining"),
                  zone_time(json_string_value(json_object_get(value, "last_matched_at")), time[0]),
                  next_reset(value, time[1]));
    table_end(&t);
}

int budget_show(const struct invocation *in)
{
    int64_t limit = VALUES_SHOWN;
    json_t *value = NULL;
    json_t *values = NULL;
    if (!command_limit(in, VALUES_MAX, &limit) || !use_zone(in))
        return EXIT_FAILED;
    json_t *budget = get_budget(in, &value);
    json_decref(value);
    if (budget == NULL)
        return EXIT_FAILED;
    if (json_is_null(json_object_get(budget, "value"))) {
        values = largest_values(in->operand[0], limit, ledger_number(budget, "values"));
        if (values == NULL) {
            json_decref(budget);
            return EXIT_FAILED;
        }
    }
    if (in->json) {
        if (values != NULL)
            json_object_set_new(budget, "largest", values);
        return ledger_print(budget);
    }
    budget_print(budget);
    if (values != NULL)
        print_values(budget, values);
    json_decref(values);
    json_decref(budget);
    return EXIT_FINE;
}

/* What was closed: the window of a moment ago, up to where the next begins. NULL: it had ended by itself
 * before. */
static json_t *closed_window(const json_t *before, const json_t *after)
{
    if (!json_equal(json_object_get(before, "window_end"), json_object_get(after, "window_end")) ||
        !json_equal(json_object_get(before, "revision"), json_object_get(after, "revision")))
        return NULL;
    return json_pack("{s:O, s:O, s:O, s:O}", "window_start", json_object_get(before, "window_start"),
                     "window_end", json_object_get(after, "window_start"), "spent",
                     json_object_get(before, "spent"), "held", json_object_get(before, "held"));
}

static int print_reset(const struct invocation *in, json_t *after, json_t *closed)
{
    char time[2][ZONE_TIME_MAX];
    char words[BUDGET_WORDS_MAX];
    if (in->json) {
        json_object_set_new(after, "closed", closed == NULL ? json_null() : closed);
        return ledger_print(after);
    }
    if (closed == NULL)
        puts("The window had just ended by itself; the one after it was closed as it began.");
    else
        printf("Closed: the window from %s to %s had spent %s USD.\n",
               zone_time(ledger_text(closed, "window_start"), time[0]),
               zone_time(ledger_text(closed, "window_end"), time[1]), ledger_text(closed, "spent"));
    printf("Calls that were admitted in it still settle in it: spendctl budget resets %s\n\n",
           budget_quote(in->operand[0], words));
    budget_print(after);
    json_decref(closed);
    json_decref(after);
    return EXIT_FINE;
}

int budget_reset(const struct invocation *in)
{
    char path[LEDGER_PATH_BYTES];
    json_t *value = NULL;
    bool made;
    if (!in->json && !zone_use(NULL))
        return EXIT_FAILED;
    json_t *before = get_budget(in, &value);
    if (before == NULL) {
        json_decref(value);
        return EXIT_FAILED;
    }
    json_t *body = json_pack("{s:s, s:o}", "reason", command_value(in, "reason"), "value", value);
    json_t *after = ledger_send_json("POST", ledger_path(path, "/v1/budgets/{}/reset", in->operand[0], NULL),
                                     body, &made);
    json_t *closed = after == NULL ? NULL : closed_window(before, after);
    json_decref(before);
    return after == NULL ? EXIT_FAILED : print_reset(in, after, closed);
}

int budget_resets(const struct invocation *in)
{
    char path[LEDGER_PATH_BYTES];
    if (!use_zone(in))
        return EXIT_FAILED;
    json_t *list = ledger_list(ledger_path(path, "/v1/budgets/{}/resets", in->operand[0], NULL), INT64_MAX);
    if (list == NULL)
        return EXIT_FAILED;
    if (in->json)
        return ledger_print(list);
    char time[2][ZONE_TIME_MAX];
    struct table t;
    size_t i;
    const json_t *reset;
    table_begin(&t, "value", "from", "to", ">spent", "by", "why", NULL);
    json_array_foreach(json_object_get(list, "items"), i, reset)
        table_row(&t, ledger_text(reset, "value"), zone_time(ledger_text(reset, "window_start"), time[0]),
                  zone_time(ledger_text(reset, "window_end"), time[1]), ledger_text(reset, "spent"),
                  ledger_text(reset, "actor"), ledger_text(reset, "reason"));
    table_end(&t);
    json_decref(list);
    return EXIT_FINE;
}
