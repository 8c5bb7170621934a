#include "explain.h"

#include "command.h"
#include "ledger_client.h"
#include "table_print.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *meaning(const char *status)
{
    if (strcmp(status, "open") == 0)
        return "open: more calls may come";
    if (strcmp(status, "complete") == 0)
        return "complete: it is finished, and its calls are billed";
    return "NO SPEND: it is finished, and no call of it was billed";
}

int explain_task(const json_t *bill)
{
    const char *status = ledger_text(bill, "status");
    bool none = strcmp(status, "no_spend") == 0;
    int64_t calls = ledger_number(bill, "calls");
    struct table t;
    size_t i;
    const json_t *call;
    printf("Task %s: %s\n", ledger_text(bill, "task_id"), meaning(status));
    table_fact("account", "%s", ledger_text(bill, "account_id"));
    table_fact("conversation", "%s", ledger_text(bill, "conversation_id"));
    table_fact("calls", "%" PRId64, calls);
    table_fact("raw cost", "%s USD", ledger_text(bill, "raw"));
    table_fact("billed", "%s USD (%" PRId64 " cents)", ledger_text(bill, "billed"),
               ledger_number(bill, "cents"));
    table_fact("first, last", "%s, %s", ledger_text(bill, "first_at"), ledger_text(bill, "last_at"));
    if (none)
        table_fact("what to do",
                   "do its calls carry task=%s? GET /v1/dead-letters lists the calls that were not billed",
                   ledger_text(bill, "task_id"));
    puts("\nLatest calls");
    table_begin(&t, "call", "admitted at", "model", "outcome", ">raw", ">billed", NULL);
    json_array_foreach(json_object_get(bill, "recent"), i, call) table_row(
        &t, ledger_text(call, "call_id"), ledger_text(call, "admitted_at"), ledger_text(call, "model"),
        ledger_text(call, "outcome"), ledger_text(call, "raw"), ledger_text(call, "billed"));
    table_end(&t);
    if (calls > (int64_t)json_array_size(json_object_get(bill, "recent")))
        printf("  .. the latest of %" PRId64 "\n", calls);
    return none ? EXIT_MEND : EXIT_FINE;
}
