#include "budget.h"

#include "base/clock.h"
#include "budget_words.h"
#include "ledger_client.h"
#include "table_print.h"
#include "zone.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What it is about and how it counts: another one begins anew. */
static const char *const counted[] = {"scope", "value", "each", "measure", "window"};
static const char *const kept[] = {"scope",   "value", "each",       "limit",
                                   "measure", "mode",  "thresholds", "window"};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static bool refuse(const char *what, const char *which, const char *hint)
{
    (void)fprintf(stderr, "spendctl: %s%s\n  %s\n", what, which, hint);
    return false;
}

/* --scope, --value, --each. A value takes the place of an each, and the other way about. */
static bool put_subject(const struct invocation *in, json_t *body)
{
    const char *value = command_value(in, "value");
    const char *each = command_value(in, "each");
    if (value != NULL && each != NULL)
        return refuse("both --value and --each", "",
                      "give --value for one, or --each for a window of its own for every one");
    ledger_put(body, "scope", command_value(in, "scope"));
    if (each != NULL)
        json_object_set_new(body, "value", json_null());
    if (value != NULL)
        json_object_set_new(body, "each", json_null());
    ledger_put(body, "each", each);
    if (value != NULL) {
        json_t *text = budget_value(ledger_text(body, "scope"), value);
        if (text == NULL)
            return false;
        json_object_set_new(body, "value", text);
    }
    return true;
}

static bool put_thresholds(const struct invocation *in, json_t *body)
{
    const char *text = command_value(in, "thresholds");
    json_t *thresholds = text == NULL ? NULL : budget_read_thresholds(text);
    if (text != NULL && thresholds == NULL)
        return refuse("these are no thresholds: ", text, "give percentages: --thresholds 50,80,100, or none");
    if (thresholds != NULL)
        json_object_set_new(body, "thresholds", thresholds);
    return true;
}

/* --anchor, in the words that stand when it is the same instant. */
static bool put_anchor(const char *anchor, json_t *window)
{
    int64_t wanted;
    int64_t standing;
    const char *old = json_string_value(json_object_get(window, "anchor"));
    if (!clock_parse(sv_of(anchor), &wanted))
        return refuse("no time: --anchor ", anchor, "write it like 2026-12-01T00:00:00Z");
    if (old == NULL || !clock_parse(sv_of(old), &standing) || standing != wanted)
        ledger_put(window, "anchor", anchor);
    return true;
}

/* --window, --tz, --anchor over the window that stands. */
static bool put_window(const struct invocation *in, json_t *body)
{
    const char *text = command_value(in, "window");
    const char *anchor = command_value(in, "anchor");
    json_t *window = json_object_get(body, "window");
    if (window == NULL) {
        window = json_object();
        json_object_set_new(body, "window", window);
    }
    if (text != NULL && !budget_read_window(text, window))
        return refuse("no window: --window ", text,
                      "use lifetime, hour, day, week, month, quarter, year, or seconds like 2592000s");
    if (strcmp(ledger_text(window, "kind"), "interval") != 0)
        json_object_set_new(window, "anchor", json_null());
    ledger_put(window, "tz", command_value(in, "tz"));
    return anchor == NULL || put_anchor(anchor, window);
}

/* What it shall be, of what it is and what is asked for. NULL: said. */
static json_t *wish(const struct invocation *in, const json_t *before)
{
    json_t *body = json_object();
    const char *limit = command_value(in, "limit");
    for (size_t i = 0; before != NULL && i < COUNT(kept); i++)
        json_object_set_new(body, kept[i], json_deep_copy(json_object_get(before, kept[i])));
    if (limit != NULL && strcmp(limit, "none") == 0)
        json_object_set_new(body, "limit", json_null());
    else
        ledger_put(body, "limit", limit);
    ledger_put(body, "measure", command_value(in, "measure"));
    ledger_put(body, "mode", command_value(in, "mode"));
    if (put_subject(in, body) && put_thresholds(in, body) && put_window(in, body))
        return body;
    json_decref(body);
    return NULL;
}

/* A new one has nothing to go by. */
static bool says_enough(const struct invocation *in, const json_t *before)
{
    bool enough = command_value(in, "scope") != NULL && command_value(in, "limit") != NULL &&
                  command_value(in, "window") != NULL &&
                  (command_value(in, "value") != NULL || command_value(in, "each") != NULL);
    return before != NULL || enough ||
           refuse(
               "there is no budget ", in->operand[0],
               "to make it, give --scope, --value or --each, --limit and --window; all there are: spendctl "
               "budget list");
}

/* It would count from nothing: only when that is asked for. */
static bool may_begin_anew(const struct invocation *in, const json_t *before, const json_t *body)
{
    bool anew = false;
    for (size_t i = 0; before != NULL && i < COUNT(counted); i++)
        anew = anew || !json_equal(json_object_get(before, counted[i]), json_object_get(body, counted[i]));
    if (!anew || command_value(in, "begin-anew") != NULL)
        return true;
    const char *spent = json_string_value(json_object_get(before, "spent"));
    (void)fprintf(
        stderr,
        "spendctl: this makes revision %" PRId64 " of %s, which begins with nothing spent; revision %" PRId64
        " keeps %s%s; nothing was changed\n"
        "  if that is meant, say so: --begin-anew. A change of limit, mode or thresholds keeps what is "
        "spent\n",
        ledger_number(before, "revision") + 1, in->operand[0], ledger_number(before, "revision"),
        spent == NULL ? "what its values have spent" : spent, spent == NULL ? "" : " USD");
    return false;
}

static void print_change(const char *label, const char *from, const char *to)
{
    if (strcmp(from, to) != 0)
        table_fact(label, "%s -> %s", from, to);
}

/* What is another than it was. */
static void print_changes(const json_t *before, const json_t *after)
{
    static const struct {
        const char *label;
        const char *(*words)(const json_t *, char[BUDGET_WORDS_MAX]);
    } facts[] = {{"about", budget_about}, {"limit", budget_limit}, {"window", budget_window}};
    char from[BUDGET_WORDS_MAX];
    char to[BUDGET_WORDS_MAX];
    for (size_t i = 0; i < COUNT(facts); i++)
        print_change(facts[i].label, facts[i].words(before, from), facts[i].words(after, to));
    if (strcmp(from, to) == 0) /* the window's words do not tell it of every kind */
        print_change("tz", ledger_text(json_object_get(before, "window"), "tz"),
                     ledger_text(json_object_get(after, "window"), "tz"));
    print_change("measure", ledger_text(before, "measure"), ledger_text(after, "measure"));
    print_change("mode", ledger_text(before, "mode"), ledger_text(after, "mode"));
    if (!json_equal(json_object_get(before, "thresholds"), json_object_get(after, "thresholds")))
        print_change("thresholds", budget_thresholds(before, from), budget_thresholds(after, to));
    if (!json_equal(json_object_get(before, "revision"), json_object_get(after, "revision")))
        table_fact("revision", "%" PRId64 " -> %" PRId64 ": it begins anew, with nothing spent",
                   ledger_number(before, "revision"), ledger_number(after, "revision"));
}

static int print_set(const struct invocation *in, const json_t *before, json_t *after)
{
    if (in->json)
        return ledger_print(after);
    if (before == NULL)
        puts("Made:");
    else if (json_equal(json_object_get(before, "changed_at"), json_object_get(after, "changed_at")))
        puts("It is so already: nothing was changed.");
    else {
        puts("Changed:");
        print_changes(before, after);
    }
    puts("");
    budget_print(after);
    json_decref(after);
    return EXIT_FINE;
}

int budget_set(const struct invocation *in)
{
    char path[LEDGER_PATH_BYTES];
    bool missing = false;
    bool made;
    int code = EXIT_FAILED;
    json_t *body = NULL;
    if (!in->json && !zone_use(NULL))
        return EXIT_FAILED;
    json_t *before = ledger_find(ledger_path(path, "/v1/budgets/{}", in->operand[0], NULL), &missing);
    if (before == NULL && !missing)
        return EXIT_FAILED;
    if (says_enough(in, before))
        body = wish(in, before);
    if (body != NULL && may_begin_anew(in, before, body)) {
        json_t *after = ledger_send_json("PUT", path, json_incref(body), &made);
        if (after != NULL)
            code = print_set(in, before, after);
    }
    json_decref(body);
    json_decref(before);
    return code;
}
