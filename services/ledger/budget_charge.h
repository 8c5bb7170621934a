/*
 * budget_charge: in which budget windows the calls of a batch count, and what that changes: the difference
 * between what stood and what stands, taken out of the windows that a call was charged to and put into those
 * that it counts in now. A window that is not in memory is missing: it is opened between two attempts, never
 * within one. Reads budgets, windows and registry; writes rows of the fold. Owns nothing.
 */
#ifndef SPEND_LEDGER_BUDGET_CHARGE_H
#define SPEND_LEDGER_BUDGET_CHARGE_H

#include "batch_fold.h"
#include "spend/attribute.h"
#include "window_charge.h"
#include "window_map.h"

struct budget_charge {
    const struct budget_store *budgets;
    struct window_map *map;
    const struct registry_store *registry;
    const struct attribute_rules *rules;
    struct arena *arena; /* of one attempt */
    struct window_charge charge;
    struct window_wanted *missing;
    size_t missing_count; /* 0: all are there */
    size_t missing_room;
};

/* Notes as missing what the records alone will need and is not in memory. Before the transaction. */
bool budget_charge_foresee(struct budget_charge *c, const struct bill_record *records, size_t count,
                           struct err *err) NODISCARD;
/* After batch_fold_run: the windows of every changed row, and the sums. With some missing none of it
 * holds. An amount that does not fit: FATE_DEAD_LETTER. */
bool budget_charge_fold(struct budget_charge *c, struct batch_fold *f, struct err *err) NODISCARD;
/* Opens what is missing. Outside a transaction, and before the next refresh of the budgets. */
bool budget_charge_open(struct budget_charge *c, struct pg_session *pg, struct err *err) NODISCARD;

#endif
