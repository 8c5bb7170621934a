/*
 * call_fold: what a record changes in its call's row, and the bill that follows. Pure, order does not matter.
 * Identity, measurement and attribution are copied from the record that raised them, each by itself.
 */
#ifndef SPEND_LEDGER_CALL_FOLD_H
#define SPEND_LEDGER_CALL_FOLD_H

#include "bill_record.h"
#include "call_row.h"

/*
 * Folds the record into the row (all zero but call_id: nothing seen yet). *changes: bits of enum fold_change.
 * position: where the record lies in the ledger's input. false: the arena is full.
 */
bool call_fold(struct call_row *row, const struct bill_record *record, const struct record_origin *position,
               struct arena *a, unsigned *changes, struct err *err) NODISCARD;

/* Sets markup, billed amount and reason from what stands in the row. FATE_DEAD_LETTER on overflow. */
bool call_bill(struct call_row *row, int64_t markup_ppm, struct err *err) NODISCARD;

/* What the row charges now, for bill_difference. */
struct bill call_bill_of(const struct call_row *row);

#endif
