/*
 * ledger_entry: the words of its schema.
 */
#include "spend/ledger_entry.h"

#include <assert.h>

static const char *const kinds[ENTRY_KIND_COUNT] = {
    [ENTRY_DEDUCTION] = "deduction", [ENTRY_ADJUSTMENT] = "adjustment", [ENTRY_REVERSAL] = "reversal",
    [ENTRY_TOP_UP] = "top_up",       [ENTRY_GRANT] = "grant",           [ENTRY_REFUND] = "refund",
    [ENTRY_OPENING] = "opening",
};

const char *entry_kind_name(enum entry_kind kind)
{
    assert((size_t)kind < ENTRY_KIND_COUNT);
    return kinds[kind];
}

bool entry_kind_parse(struct strview text, enum entry_kind *out)
{
    for (int i = 0; i < ENTRY_KIND_COUNT; i++) {
        if (sv_eq(text, sv_of(kinds[i]))) {
            *out = (enum entry_kind)i;
            return true;
        }
    }
    return false;
}

const char *entry_cause_name(enum entry_cause cause)
{
    static const char *const names[CAUSE_COUNT] = {
        [CAUSE_CALL] = "call",     [CAUSE_CORRECTION] = "correction", [CAUSE_REDRIVE] = "redrive",
        [CAUSE_REBILL] = "rebill", [CAUSE_CREDIT] = "credit",
    };
    assert((size_t)cause < CAUSE_COUNT);
    return names[cause];
}
