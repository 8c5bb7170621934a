/*
 * hold_settle: a call's hold ends in the transaction in which its gateway's record has a price, billed or
 * dead: what it held goes back to balances and windows, the row goes, and the call's row is the tombstone.
 * For a call whose hold was not there, its POST perhaps under way, a closed row is left. A call that nothing
 * prices keeps its hold; one whose record is parked, or was malformed, loses it. Owns nothing: everything
 * lies in the arena given.
 */
#ifndef SPEND_LEDGER_HOLD_SETTLE_H
#define SPEND_LEDGER_HOLD_SETTLE_H

#include "batch_fold.h"
#include "window_charge.h"

struct hold_settle {
    struct release *release;
    size_t release_count;
};

/* Inside the transaction, after the fold and before balances and windows. Notes where the calls were held,
 * adds to charge what windows get back. */
bool hold_settle_run(struct hold_settle *s, struct pg_session *pg, struct batch_fold *f,
                     struct window_charge *charge, struct arena *a, struct err *err) NODISCARD;

#endif
