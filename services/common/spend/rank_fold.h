/*
 * rank_fold: how many records of one call become one bill, whatever their order and repetition. Pure.
 * Four independent maxima: identity by (source, hash); measurement by (quality, outcome, source, hash,
 * priced); attribution by (class, redrive time, redrive id, source, hash); rating by revision. Records that
 * are the same in all of it differ in received_at at most, and with it in the configuration they were decided
 * by: the earlier counts.
 */
#ifndef SPEND_SPEND_RANK_FOLD_H
#define SPEND_SPEND_RANK_FOLD_H

#include "spend/dead_letter.h"

enum attribution_class { CLASS_SUSPENSE, CLASS_ATTRIBUTED, CLASS_REDRIVE };

#define RANK_TIME_LEN        8
#define RANK_IDENTITY_LEN    (1 + SHA256_LEN + RANK_TIME_LEN)
#define RANK_MEASUREMENT_LEN (3 + SHA256_LEN + 1 + RANK_TIME_LEN)
#define RANK_ATTRIBUTION_LEN (1 + RANK_TIME_LEN + 16 + 1 + SHA256_LEN + RANK_TIME_LEN)

/* Keys that memcmp orders; all zero = nothing seen yet. */
struct call_ranks {
    uint8_t identity[RANK_IDENTITY_LEN];
    uint8_t measurement[RANK_MEASUREMENT_LEN];
    uint8_t attribution[RANK_ATTRIBUTION_LEN];
};

/* One record of a call as the ledger sees it: an AttributedCall, or a DeadLetter that carries money. */
struct call_record {
    const struct spend_call *call;
    const uint8_t *hash;
    enum attribution_class attribution_class;
    struct redrive redrive;
    bool priced; /* it brings a raw cost */
};

void call_record_of_attributed(const struct attributed_call *a, struct call_record *out);
/* class suspense. The dead letter must have call and hash. */
void call_record_of_dead_letter(const struct dead_letter *d, struct call_record *out);

/* What a record changed: bits. */
enum fold_change {
    FOLD_NOTHING = 0,
    FOLD_IDENTITY = 1 << 0,
    FOLD_MEASUREMENT = 1 << 1,
    FOLD_ATTRIBUTION = 1 << 2,
    FOLD_CONFLICT = 1 << 3, /* same measurement rank (quality, outcome, source) as the one standing, other
                               hash: worth one notice */
};

/*
 * Raises the ranks that the record beats and says which. Commutative, associative, idempotent over records,
 * but for FOLD_CONFLICT, which depends on what stood before. The caller copies the fields of each raised
 * maximum.
 */
unsigned rank_fold(struct call_ranks *ranks, const struct call_record *record);

/*
 * A foreign record may not claim more than it can know: a foreign `failed` or `rejected`, and a foreign
 * stream without provider usage, count as at most `estimated`; a foreign `failed` never beats a gateway
 * outcome. These are the quality and outcome that rank.
 */
enum spend_quality fold_quality(const struct spend_call *call);

/* The movements a changed bill makes: at most two. */
struct bill {
    bool has_account; /* false: no bill yet */
    int64_t account;  /* surrogate or index, compared only */
    bool has_amount;  /* false: unpriced, nothing to pay */
    int64_t billed_nanos;
};
struct movement {
    int64_t account;
    int64_t amount_nanos; /* signed change of the balance: spend is negative */
    enum { MOVE_DEDUCTION, MOVE_ADJUSTMENT, MOVE_REVERSAL } kind;
};
/* Zero amounts make no movement. false: overflow. */
bool bill_difference(const struct bill *before, const struct bill *after, struct movement out[2],
                     size_t *count) NODISCARD;

#endif
