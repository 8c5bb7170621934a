#include "explain.h"

#include "command.h"
#include "ledger_client.h"
#include "table_print.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LIST_BYTES   200
#define AMOUNT_BYTES 64

static bool has(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value != NULL && !json_is_null(value);
}

/* The texts of an array as "a, b". */
static const char *joined(const json_t *array, char out[LIST_BYTES])
{
    size_t i;
    size_t len = 0;
    const json_t *item;
    out[0] = '\0';
    json_array_foreach(array, i, item)
    {
        int more = snprintf(out + len, LIST_BYTES - len, "%s%s", i == 0 ? "" : ", ", json_string_value(item));
        if (more < 0 || len + (size_t)more >= LIST_BYTES)
            break;
        len += (size_t)more;
    }
    return out;
}

/* The tag whose value is `value`, or NULL. */
static const char *tag_with_value(const json_t *call, const char *value)
{
    size_t i;
    const json_t *tag;
    json_array_foreach(json_object_get(call, "tags"), i, tag)
    {
        const char *text = json_string_value(tag);
        const char *at = text == NULL ? NULL : strpbrk(text, "=:");
        if (at != NULL && strcmp(at + 1, value) == 0)
            return text;
    }
    return NULL;
}

static void tell_account(const json_t *call)
{
    const char *account = ledger_text(call, "account_id");
    const char *route = ledger_text(call, "route");
    const char *tag = tag_with_value(call, account);
    if (strcmp(ledger_text(call, "state"), "dead") == 0)
        table_fact("account", "%s: %s", account, ledger_text(call, "detail"));
    else if (strcmp(route, "tag") == 0)
        table_fact("account", "%s, named by the tag %s", account, tag == NULL ? "(see below)" : tag);
    else if (strcmp(route, "task") == 0)
        table_fact("account", "%s, the account of task %s", account, ledger_text(call, "task"));
    else if (strcmp(route, "conversation") == 0)
        table_fact("account", "%s, the account of conversation %s", account,
                   ledger_text(call, "conversation"));
    else if (strcmp(route, "key") == 0)
        table_fact("account", "%s, the account of the key %.12s..", account, ledger_text(call, "key_hash"));
    else
        table_fact("account", "%s (%s)", account, route);
}

static void tell_request(const json_t *call)
{
    table_fact("admitted at", "%s by %s", ledger_text(call, "admitted_at"), ledger_text(call, "source"));
    table_fact("request", "%s, model %s%s", ledger_text(call, "operation"),
               ledger_text(call, "model_requested"),
               json_is_true(json_object_get(call, "stream")) ? ", streamed" : "");
    if (has(call, "upstream_status"))
        table_fact("reply", "model %s, provider %s, service tier %s, status %" PRId64,
                   ledger_text(call, "model_replied"), ledger_text(call, "provider"),
                   ledger_text(call, "service_tier"), ledger_number(call, "upstream_status"));
    else
        table_fact("reply", strcmp(ledger_text(call, "outcome"), "unknown") == 0
                                ? "not known: ingest was cut off"
                                : "none came");
    if (has(call, "variant"))
        table_fact("variant", "%s", ledger_text(call, "variant"));
    table_fact("outcome", "%s; usage is %s", ledger_text(call, "outcome"), ledger_text(call, "quality"));
    tell_account(call);
    table_fact("task", "%s", ledger_text(call, "task"));
    table_fact("conversation", "%s", ledger_text(call, "conversation"));
    if (has(call, "user") || has(call, "team"))
        table_fact("user, team", "%s, %s", ledger_text(call, "user"), ledger_text(call, "team"));
}

static void tell_tags(const json_t *call)
{
    char where[LIST_BYTES];
    struct table t;
    size_t i;
    const json_t *tag;
    const json_t *origins = json_object_get(call, "tag_origins");
    puts("\nTags");
    table_begin(&t, "tag", "stood in", NULL);
    json_array_foreach(json_object_get(call, "tags"), i, tag)
        table_row(&t, json_string_value(tag), joined(json_array_get(origins, i), where));
    table_end(&t);
}

/* Without lines the units are shown as they were reported. */
static void tell_usage(const json_t *call)
{
    struct table t;
    char units[24];
    const char *class;
    json_t *value;
    table_begin(&t, "class", ">units", NULL);
    json_object_foreach(json_object_get(call, "usage"), class, value)
    {
        if (json_is_null(value))
            continue;
        (void)snprintf(units, sizeof units, "%" PRId64, (int64_t)json_integer_value(value));
        table_row(&t, class, units);
    }
    table_end(&t);
}

static void tell_lines(const json_t *lines)
{
    struct table t;
    char units[24];
    size_t i;
    const json_t *line;
    table_begin(&t, "class", ">units", ">USD a unit", ">USD", "price", NULL);
    json_array_foreach(lines, i, line)
    {
        (void)snprintf(units, sizeof units, "%" PRId64, ledger_number(line, "units"));
        table_row(&t, ledger_text(line, "class"), units, ledger_text(line, "price"),
                  ledger_text(line, "amount"),
                  json_is_true(json_object_get(line, "assumed")) ? "assumed" : ledger_text(line, "rate"));
    }
    table_end(&t);
}

static const char *usd(const json_t *call, const char *key, char out[AMOUNT_BYTES])
{
    if (!has(call, key))
        return "no amount";
    (void)snprintf(out, AMOUNT_BYTES, "%s USD", ledger_text(call, key));
    return out;
}

static void tell_price(const json_t *call)
{
    char amount[AMOUNT_BYTES];
    const json_t *lines = json_object_get(call, "lines");
    if (has(call, "price_key"))
        printf("\nPrice book %" PRId64 ", entry %s (%s)\n", ledger_number(call, "price_version"),
               ledger_text(call, "price_key"), ledger_text(call, "rating"));
    else if (has(call, "price_version"))
        printf("\nPrice book %" PRId64 "\n", ledger_number(call, "price_version"));
    else
        printf("\nNo price%s\n", has(call, "raw") ? " was needed" : "");
    if (json_is_array(lines) && json_array_size(lines) > 0)
        tell_lines(lines);
    else if (!json_is_array(lines))
        tell_usage(call);
    if (has(call, "rating_detail"))
        table_fact("note", "%s", ledger_text(call, "rating_detail"));
    table_fact("raw cost", "%s", usd(call, "raw", amount));
    if (strcmp(ledger_text(call, "state"), "dead") == 0)
        table_fact("in suspense", "%s, on %s", usd(call, "billed", amount), ledger_text(call, "account_id"));
    else
        table_fact("billed", "%s USD (raw cost x %s)", ledger_text(call, "billed"),
                   ledger_text(call, "markup"));
    if (has(call, "reported_cost"))
        table_fact("proxy's figure", "%s USD, compared only", ledger_text(call, "reported_cost"));
}

static void tell_entries(const json_t *call)
{
    struct table t;
    char seq[24];
    size_t i;
    const json_t *entry;
    puts("\nEntries");
    table_begin(&t, "account", ">no", "kind", "cause", ">USD", ">balance after", "posted at", NULL);
    json_array_foreach(json_object_get(call, "entries"), i, entry)
    {
        (void)snprintf(seq, sizeof seq, "%" PRId64, ledger_number(entry, "account_seq"));
        table_row(&t, ledger_text(entry, "account_id"), seq, ledger_text(entry, "kind"),
                  ledger_text(entry, "cause"), ledger_text(entry, "amount"),
                  ledger_text(entry, "balance_after"), ledger_text(entry, "posted_at"));
    }
    table_end(&t);
}

static void tell_record(const json_t *call, const char *label, const char *key)
{
    const json_t *at = json_object_get(call, key);
    table_fact(label, "%s, partition %" PRId64 ", offset %" PRId64, ledger_text(at, "topic"),
               ledger_number(at, "partition"), ledger_number(at, "offset"));
}

int explain_call(const json_t *call)
{
    bool dead = strcmp(ledger_text(call, "state"), "dead") == 0;
    bool rejected = strcmp(ledger_text(call, "outcome"), "rejected") == 0;
    printf("Call %s: %s\n", ledger_text(call, "call_id"),
           rejected ? (dead ? "REJECTED, and a dead letter" : "REJECTED: it cost nothing")
           : dead   ? "NOT BILLED, a dead letter"
                    : "billed");
    tell_request(call);
    if (rejected)
        table_fact(
            "why",
            "refused (its answer named each budget in the way), or its caller left before it was sent");
    if (json_is_true(json_object_get(call, "conflicted")))
        table_fact("notice",
                   "two records of equal rank disagree; one stands, the other is in spend.dlq.conflict");
    if (dead) {
        table_fact("reason", "%s", ledger_text(call, "reason"));
        table_fact("what mends it", "%s", ledger_text(call, "hint"));
    }
    tell_tags(call);
    tell_price(call);
    tell_entries(call);
    puts("\nRecords");
    tell_record(call, "as captured", "origin");
    tell_record(call, "as applied", "record");
    return dead ? EXIT_MEND : EXIT_FINE;
}
