/*
 * recovery: the journals a starter finds. One becomes its own; every other unlocked one is adopted: what was
 * finished is produced again, what was open becomes `unknown` (written as finished first, so that a second
 * crash produces the same bytes), and when all of it is delivered the journal is beaten `closed` and removed.
 * One that could not be read whole is not beaten any more, and set aside instead: what it lost must ring.
 * Owns the adopted journals. Thread: the event loop's.
 */
#ifndef SPEND_INGEST_RECOVERY_H
#define SPEND_INGEST_RECOVERY_H

#include "ingest/delivery.h"

struct recovery;

/*
 * *own is the caller's. estimate: an open call is billed by an estimate from its text, else as zero.
 * false: no journal of our own could be opened or made.
 */
bool recovery_open(struct recovery **out, const struct journal_options *o, bool estimate, struct delivery *d,
                   struct journal **own, struct err *err) NODISCARD;
/* Finishes calls that were left, our own journal's too; closes and removes what is delivered; beats the
 * others.
 */
void recovery_tick(struct recovery *r, int64_t now_us, int64_t beat_every_us);
size_t recovery_left(const struct recovery *r); /* journals not removed yet */
/* What is left stays on disk for the next starter. NULL allowed. */
void recovery_free(struct recovery *r);

/* Finishes every open call of a journal; those it cannot finish are left. */
void recovery_finish_open(struct journal *j, bool estimate);
/* Tries again with the calls that were left, and sends them; delivery NULL: does not. */
void recovery_finish_left(struct journal *j, bool estimate, struct delivery *d);

#endif
