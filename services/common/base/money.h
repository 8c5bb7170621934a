/*
 * money: amounts in nano-USD, rates in femto-USD per unit, and the two roundings a bill has.
 * No float, no JSON real, ever. Overflow is an error (false), never a wrap.
 */
#ifndef SPEND_BASE_MONEY_H
#define SPEND_BASE_MONEY_H

#include "base/err.h"
#include "base/strview.h"

__extension__ typedef __int128 int128; /* the one typedef: -Wpedantic refuses it without __extension__ */

#define NANOS_PER_USD   1000000000LL
#define FEMTOS_PER_NANO 1000000LL
#define MARKUP_ONE_PPM  1000000LL /* markup 1.000000 */
#define MONEY_TEXT_MAX  32

bool money_add(int64_t a, int64_t b, int64_t *out) NODISCARD;
bool money_sub(int64_t a, int64_t b, int64_t *out) NODISCARD;

/* n / d, halves to the even neighbour, both signs right. d > 0. */
int128 money_div_half_even(int128 n, int128 d);

/* The sum of units x rate, in femtos of `parts` parts each (1, or 1,000 for milliseconds at a second's
 * price), to nanos: rounded half-even once. parts > 0. */
bool money_from_femtos(int128 sum, int64_t parts, int64_t *nanos) NODISCARD;

/* half-even(raw x markup_ppm / 1,000,000), once. markup_ppm >= 0. */
bool money_mark_up(int64_t raw_nanos, int64_t markup_ppm, int64_t *billed_nanos) NODISCARD;

/* Nanos to whole cents with a signed carry: cents = half-even((nanos + carry) / 1e7), *carry = what is left.
 */
bool money_to_cents(int64_t nanos, int64_t *carry_nanos, int64_t *cents) NODISCARD;

/*
 * Decimal text ("-12.5", "0.0000015", "1e-06", "2.5E-6") to an integer scaled by 10^scale.
 * Exact unless the text has more decimals than scale: then half-even, and *rounded (may be NULL) is set.
 * Refuses empty text, blanks, '+', nan, inf, hex, over 40 digits; ERR_OVERFLOW past int64.
 */
bool money_parse_decimal(struct strview text, int scale, int64_t *out, bool *rounded,
                         struct err *err) NODISCARD;

/* A USD amount from an API: at most 9 decimals, no exponent, else an error that says so. */
bool money_parse_usd(struct strview text, int64_t *nanos, struct err *err) NODISCARD;
/* "1.30" -> 1300000; at most 6 decimals, not negative. */
bool money_parse_markup(struct strview text, int64_t *ppm, struct err *err) NODISCARD;

/* The shortest decimal USD text: "0", "-0.0000015", "12.3". Returns its length, writes a NUL. */
size_t money_format_usd(int64_t nanos, char out[MONEY_TEXT_MAX]);
/* value / 10^scale as the shortest decimal text. */
size_t money_format_scaled(int64_t value, int scale, char out[MONEY_TEXT_MAX]);

#endif
