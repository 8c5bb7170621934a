/*
 * price_tiers: prices by ranges of tokens, graduated: each token costs what the range it falls in says. A
 * price file's tiered_pricing is kept in an entry as prices named "tiered_pricing.from_32000.<price>". Pure.
 */
#ifndef SPEND_SPEND_PRICE_TIERS_H
#define SPEND_SPEND_PRICE_TIERS_H

#include "spend/price_book.h"

#define PRICE_TIERS_PREFIX "tiered_pricing.from_"
#define PRICE_TIERS_MAX    8

struct price_tiers {
    int64_t
        from[PRICE_TIERS_MAX]; /* where each begins, in tokens, ascending; it ends where the next begins */
    size_t count;
};

/* false: more than PRICE_TIERS_MAX, or ranges this cannot read. count 0: the entry has none. */
bool price_tiers_read(const struct price_entry *entry, struct price_tiers *out) NODISCARD;
/* The price of that name in tier i. */
bool price_tiers_rate(const struct price_entry *entry, const struct price_tiers *tiers, size_t i,
                      const char *name, int64_t *femtos);
/* How many of `units` tokens fall into tier i. */
int64_t price_tiers_slice(const struct price_tiers *tiers, size_t i, int64_t units);

#endif
