/*
 * rater: what a call costs the provider's customer, in nano-USD, from disjoint usage and a price book. Pure.
 * The sum over classes is made in femtos (int128) and rounded half-even once.
 */
#ifndef SPEND_SPEND_RATER_H
#define SPEND_SPEND_RATER_H

#include "spend/attributed_call.h"
#include "spend/price_book.h"
#include "spend/registry.h"

#define RATER_VERSION 2

enum rate_verdict {
    RATE_OK,       /* raw_nanos holds */
    RATE_UNPRICED, /* no price, or usage that no price covers: raw is null, never 0 */
};

/* One line of a bill, for explain. */
#define RATE_LINES_MAX 48   /* ranges of four kinds of tokens, and a class each */
#define RATE_PER_MAX   1000 /* a multiple of every `per` */

/* units x femtos / per. */
struct rate_line {
    enum usage_class usage_class;
    int64_t units;
    int64_t femtos;        /* for `per` units */
    int64_t per;           /* 1; 1000: a second's price and milliseconds; 2: half of a price */
    const char *rate_name; /* of the price file; static */
    bool assumed;
};

struct rate_result {
    enum rate_verdict verdict;
    int64_t raw_nanos;
    enum spend_rating rating;
    int64_t price_version;    /* 0 = no book was needed or there */
    struct strview price_key; /* view into the book */
    struct rate_line lines[RATE_LINES_MAX];
    size_t line_count;
    char detail[LIMIT_DETAIL_BYTES]; /* why unpriced, or what was assumed */
};

/*
 * The model priced is the replied one, else the requested one, each through its alias (registry kind model;
 * NULL registry: none), looked up as docs/prices.md says. at/known_by as in registry_find. failed and
 * rejected without usage: 0, free. false only on overflow: FATE_DEAD_LETTER.
 */
bool rater_rate(const struct spend_call *call, const struct registry *registry,
                const struct price_list *prices, int64_t known_by, struct rate_result *out,
                struct err *err) NODISCARD;

/* The same against one given entry and book: for vectors and rebills. */
bool rater_rate_with(const struct spend_call *call, const struct price_book *book,
                     const struct price_entry *entry, struct rate_result *out, struct err *err) NODISCARD;

#endif
