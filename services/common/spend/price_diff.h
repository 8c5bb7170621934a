/*
 * price_diff: what one price book changes of the one before it. Pure.
 */
#ifndef SPEND_SPEND_PRICE_DIFF_H
#define SPEND_SPEND_PRICE_DIFF_H

#include "spend/price_book.h"

#define PRICE_CHANGES_MAX 1000 /* told one by one; more are only counted */

/* One price, or an entry that is new or gone (name null). */
struct price_change {
    struct strview key;
    struct strview name;
    struct opt_i64 from; /* femtos; none: it is new */
    struct opt_i64 to;   /* none: it is gone */
    bool is_new;         /* the whole entry */
};

struct price_diff {
    size_t added, changed, removed; /* entries; changed: any of its prices */
    struct price_change *changes;   /* in the arena; sorted by key and name */
    size_t change_count;
    size_t left_out; /* changes past PRICE_CHANGES_MAX */
};

/* from: NULL = no book, every entry is new. Texts are copied into the arena. false: it is full. */
bool price_diff_make(const struct price_book *from, const struct price_book *to, struct arena *a,
                     struct price_diff *out) NODISCARD;

#endif
