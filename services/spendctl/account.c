#include "command.h"

#include "ledger_client.h"
#include "table_print.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LIMIT_DEFAULT 100

int account_list(const struct invocation *in)
{
    int64_t limit = LIMIT_DEFAULT;
    json_t *list = command_limit(in, INT64_MAX, &limit) ? ledger_list("/v1/accounts", limit) : NULL;
    if (list == NULL)
        return EXIT_FAILED;
    if (in->json)
        return ledger_print(list);
    struct table t;
    size_t i;
    json_t *account;
    table_begin(&t, "account", "name", "tier", ">markup", ">balance", ">held", NULL);
    json_array_foreach(json_object_get(list, "items"), i, account) table_row(
        &t, ledger_text(account, "account_id"), ledger_text(account, "name"), ledger_text(account, "tier"),
        ledger_text(account, "markup"), ledger_text(account, "balance"), ledger_text(account, "held"));
    table_end(&t);
    if (json_is_string(json_object_get(list, "next")))
        printf("  .. and more: --limit %" PRId64 "\n", limit * 10);
    json_decref(list);
    return EXIT_FINE;
}

static int print_account(const struct invocation *in, json_t *account)
{
    const json_t *versions = json_object_get(account, "versions");
    size_t i;
    json_t *version;
    if (in->json)
        return ledger_print(account);
    printf("Account %s\n", ledger_text(account, "account_id"));
    table_fact("name", "%s", ledger_text(account, "name"));
    table_fact("balance", "%s USD", ledger_text(account, "balance"));
    table_fact("held", "%s USD", ledger_text(account, "held"));
    table_fact("tier", "%s: raw cost x %s", ledger_text(account, "tier"), ledger_text(account, "markup"));
    if (json_is_null(json_object_get(account, "overdraft_limit")))
        table_fact("overdraft", "no limit");
    else
        table_fact("overdraft", "%s USD", ledger_text(account, "overdraft_limit"));
    table_fact("entries", "%" PRId64, ledger_number(account, "entries"));
    table_fact("made at", "%s", ledger_text(account, "created_at"));
    if (json_array_size(versions) > 1) {
        struct table t;
        puts("\nTiers");
        table_begin(&t, "holds from", "tier", "recorded at", NULL);
        json_array_foreach(versions, i, version)
            table_row(&t, ledger_text(version, "effective_from"), ledger_text(version, "tier"),
                      ledger_text(version, "recorded_at"));
        table_end(&t);
    }
    json_decref(account);
    return EXIT_FINE;
}

int account_show(const struct invocation *in)
{
    char path[LEDGER_PATH_BYTES];
    json_t *account = ledger_get(ledger_path(path, "/v1/accounts/{}", in->operand[0], NULL));
    return account == NULL ? EXIT_FAILED : print_account(in, account);
}

int account_set(const struct invocation *in)
{
    char path[LEDGER_PATH_BYTES];
    const char *overdraft = command_value(in, "overdraft");
    bool made;
    json_t *body = json_object();
    ledger_put(body, "name", command_value(in, "name"));
    ledger_put(body, "tier", command_value(in, "tier"));
    ledger_put(body, "effective_from", command_value(in, "effective-from"));
    if (overdraft != NULL && strcmp(overdraft, "none") == 0)
        json_object_set_new(body, "overdraft_limit", json_null());
    else
        ledger_put(body, "overdraft_limit", overdraft);
    json_t *account =
        ledger_send_json("PUT", ledger_path(path, "/v1/accounts/{}", in->operand[0], NULL), body, &made);
    return account == NULL ? EXIT_FAILED : print_account(in, account);
}

int account_credit(const struct invocation *in)
{
    char path[LEDGER_PATH_BYTES];
    const char *kind = command_value(in, "kind");
    bool made;
    json_t *body = json_object();
    ledger_put(body, "external_id", command_value(in, "external-id"));
    ledger_put(body, "amount", command_value(in, "amount"));
    ledger_put(body, "kind", kind == NULL ? "top_up" : kind);
    ledger_put(body, "note", command_value(in, "note"));
    json_t *credit = ledger_send_json(
        "POST", ledger_path(path, "/v1/accounts/{}/credits", in->operand[0], NULL), body, &made);
    if (credit == NULL)
        return EXIT_FAILED;
    if (in->json)
        return ledger_print(credit);
    printf("%s of %s USD to %s: entry %" PRId64 ", balance %s USD after it\n", ledger_text(credit, "kind"),
           ledger_text(credit, "amount"), ledger_text(credit, "account_id"),
           ledger_number(credit, "account_seq"), ledger_text(credit, "balance_after"));
    if (!made)
        puts("It was posted before, with this external id: nothing was added.");
    json_decref(credit);
    return EXIT_FINE;
}
