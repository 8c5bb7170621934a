/*
 * outbox: what a transaction leaves behind for the publisher: ranges of entries, and records for spend.dlq.*.
 * Owns the rules of table outbox. Refuses nothing: a record that is too large for its topic is cut, and says
 * so.
 */
#ifndef SPEND_LEDGER_OUTBOX_H
#define SPEND_LEDGER_OUTBOX_H

#include "pg_session.h"
#include "spend/dead_letter.h"

#define OUTBOX_ORIGINAL_BYTES                                                                                \
    (LIMIT_DEAD_LETTER_BYTES - 4096) /* what is kept of an original that is too large */
#define OUTBOX_KEY_BYTES 4096

/* Parameters: accounts, first account_seqs, counts; three arrays of one length. Run it while the balances are
 * locked. */
extern const char outbox_entries_sql[];

/* COPY of records: begin, any number of _put, then pg_copy_end. */
bool outbox_copy_begin(struct pg_session *pg, struct err *err) NODISCARD;
/* The letter goes out under `key` (as the original came) to its reason's topic; `id` is its CloudEvents id.
 */
bool outbox_copy_put(struct pg_session *pg, struct pg_fields *scratch, const struct dead_letter *letter,
                     enum dead_reason reason, struct strview key, int64_t now_us, struct err *err) NODISCARD;

#endif
