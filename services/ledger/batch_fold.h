/*
 * batch_fold: from the records of a batch and the call rows found to rows to write, amounts to post and
 * letters to send. Several records of one call fold here before anything is written. Pure but for the
 * registry it reads. Owns nothing: everything lies in the arena given.
 */
#ifndef SPEND_LEDGER_BATCH_FOLD_H
#define SPEND_LEDGER_BATCH_FOLD_H

#include "balance_post.h"
#include "bill_record.h"

struct registry_store;

struct folded_call {
    struct call_row row;
    struct call_row before; /* as it was found; all zero: nothing was */
    bool existed;
    bool changed; /* row is to be written */
    bool gated;   /* a record of it says that a hold was placed for it */
    bool forced;  /* .. after it had been let through while the ledger was away; or its hold says so */
    struct call_ids held; /* the windows of its hold, which ends here */
};

/* Its gateway has told of it and it has a price, which was not so before: what its hold stood for is known
 * from here on. Evidence of others may come while the call goes on, and ends nothing. */
bool folded_call_settles(const struct folded_call *call);

/* A record that leaves by the outbox. */
struct fold_letter {
    const struct bill_record *record;
    bool notice; /* else: parked */
    const char *why;
};

struct batch_fold {
    struct bill_record *record;
    size_t record_count;
    struct arena *arena;
    size_t *order; /* the records that bill, by call_id, then offset */
    size_t order_count;
    struct uuid *id;          /* ascending, each once */
    struct folded_call *call; /* beside id */
    size_t call_count;
    size_t new_count;
    size_t updated_count;
    struct posting *posting;
    size_t posting_count;
    struct fold_letter *letter;
    size_t letter_count;
    size_t notice_count; /* of the letters */
    size_t repeat_count;
    size_t correction_count;
    struct record_origin position; /* topic and partition */
};

/* Sorts and groups: fold->id is what to look for. */
bool batch_fold_open(struct batch_fold *f, struct bill_record *records, size_t count, struct arena *a,
                     struct err *err) NODISCARD;
/* rows: SELECT CALL_COLUMN_NAMES of those ids, ordered. Keep them while the fold is used. */
bool batch_fold_take(struct batch_fold *f, const struct pg_rows *rows, struct err *err) NODISCARD;
/* An amount that does not fit: FATE_DEAD_LETTER. */
bool batch_fold_run(struct batch_fold *f, const struct registry_store *store,
                    const struct record_origin *position, int64_t now_us, struct err *err) NODISCARD;
/* Letter i as a dead letter; views into the records. Returns where it goes. */
enum dead_reason batch_fold_letter(const struct batch_fold *f, size_t i, struct dead_letter *out);

#endif
