#include "explain.h"

#include "base/uuid.h"
#include "command.h"
#include "ledger_client.h"
#include <stdio.h>
#include <string.h>

static int say(const struct invocation *in, json_t *document, int (*tell)(const json_t *))
{
    const char *status = ledger_text(document, "status");
    bool mend = strcmp(ledger_text(document, "state"), "dead") == 0 || strcmp(status, "no_spend") == 0;
    int code;
    if (in->json) {
        code = ledger_print(document);
        return code == EXIT_FINE && mend ? EXIT_MEND : code;
    }
    code = tell(document);
    json_decref(document);
    return code;
}

static int missing_call(const char *id)
{
    (void)fprintf(
        stderr,
        "spendctl: %s is neither a call nor a task that the ledger knows\n"
        "  a call is known a moment after it has ended: if it stays away, look at the services' /readyz\n",
        id);
    return EXIT_FAILED;
}

int explain(const struct invocation *in)
{
    char path[LEDGER_PATH_BYTES];
    const char *id = in->operand[0];
    const char *account = command_value(in, "account");
    struct uuid uuid;
    bool missing = false;
    bool is_call = uuid_parse(sv_of(id), &uuid) && command_value(in, "task") == NULL && account == NULL;
    json_t *found = is_call ? ledger_find(ledger_path(path, "/v1/calls/{}", id, NULL), &missing) : NULL;
    if (found != NULL)
        return say(in, found, explain_call);
    if (is_call && !missing)
        return EXIT_FAILED;
    if (account != NULL)
        ledger_path(path, "/v1/tasks/{}/bill?account_id={}", id, account, NULL);
    else
        ledger_path(path, "/v1/tasks/{}/bill", id, NULL);
    found = is_call ? ledger_find(path, &missing) : ledger_get(path);
    if (found != NULL)
        return say(in, found, explain_task);
    return missing ? missing_call(id) : EXIT_FAILED;
}
