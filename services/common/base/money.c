/*
 * money: integer arithmetic in 128 bits, checked on the way back to 64. The only two roundings are named
 * here.
 */
#include "base/money.h"

#include <assert.h>
#include <string.h>

#define DIGITS_MAX   40
#define INT64_DIGITS 19
#define EXPONENT_MAX 100000 /* further out is overflow or nothing in any scale */

bool money_add(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

bool money_sub(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_sub_overflow(a, b, out);
}

static bool fit(int128 n, int64_t *out)
{
    if (n > INT64_MAX || n < INT64_MIN)
        return false;
    *out = (int64_t)n;
    return true;
}

int128 money_div_half_even(int128 n, int128 d)
{
    assert(d > 0);
    int128 quotient = n / d; /* towards zero */
    int128 left = n % d;     /* the sign of n */
    int128 distance = left < 0 ? -left : left;
    int128 beyond = d - distance; /* compared so, because 2 x distance may not fit */
    bool away = distance > beyond || (distance == beyond && quotient % 2 != 0);
    if (!away)
        return quotient;
    return n < 0 ? quotient - 1 : quotient + 1;
}

bool money_from_femtos(int128 sum, int64_t parts, int64_t *nanos)
{
    return fit(money_div_half_even(sum, (int128)FEMTOS_PER_NANO * parts), nanos);
}

bool money_mark_up(int64_t raw_nanos, int64_t markup_ppm, int64_t *billed_nanos)
{
    if (markup_ppm < 0)
        return false;
    return fit(money_div_half_even((int128)raw_nanos * markup_ppm, MARKUP_ONE_PPM), billed_nanos);
}

bool money_to_cents(int64_t nanos, int64_t *carry_nanos, int64_t *cents)
{
    const int64_t nanos_per_cent = NANOS_PER_USD / 100;
    int128 all = (int128)nanos + *carry_nanos;
    int128 whole = money_div_half_even(all, nanos_per_cent);
    if (!fit(whole, cents))
        return false;
    *carry_nanos = (int64_t)(all - whole * nanos_per_cent); /* at most half a cent */
    return true;
}

/* A decimal number as text, taken apart: 0.digits x 10^point. */
struct decimal {
    bool negative;
    bool has_exponent;
    int decimals; /* digits written after the point */
    int count;
    int64_t point;
    uint8_t digit[DIGITS_MAX]; /* no leading zeros */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits from *at on; false when there is none or they are too many. Leading zeros only move the point. */
static bool read_digits(struct strview text, size_t *at, bool after_point, struct decimal *d, int *written)
{
    size_t start = *at;
    for (; *at < text.len && is_digit(text.ptr[*at]); (*at)++) {
        if (++*written > DIGITS_MAX)
            return false;
        uint8_t digit = (uint8_t)(text.ptr[*at] - '0');
        bool leading = d->count == 0 && digit == 0;
        if (!leading)
            d->digit[d->count++] = digit;
        if (after_point)
            d->decimals++;
        if (leading && after_point)
            d->point--;
        else if (!leading && !after_point)
            d->point++;
    }
    return *at > start;
}

static bool read_exponent(struct strview text, size_t *at, struct decimal *d)
{
    bool negative = *at < text.len && text.ptr[*at] == '-';
    if (*at < text.len && (text.ptr[*at] == '-' || text.ptr[*at] == '+'))
        (*at)++;
    size_t start = *at;
    int64_t n = 0;
    for (; *at < text.len && is_digit(text.ptr[*at]); (*at)++) {
        n = n * 10 + (text.ptr[*at] - '0');
        if (n > EXPONENT_MAX)
            n = EXPONENT_MAX;
    }
    d->has_exponent = true;
    d->point += negative ? -n : n;
    return *at > start;
}

static bool decimal_read(struct strview text, struct decimal *d)
{
    *d = (struct decimal){0};
    size_t at = 0;
    int written = 0;
    if (text.len > 0 && text.ptr[0] == '-') {
        d->negative = true;
        at++;
    }
    if (!read_digits(text, &at, false, d, &written))
        return false;
    if (at < text.len && text.ptr[at] == '.') {
        at++;
        if (!read_digits(text, &at, true, d, &written))
            return false;
    }
    if (at < text.len && (text.ptr[at] == 'e' || text.ptr[at] == 'E')) {
        at++;
        if (!read_exponent(text, &at, d))
            return false;
    }
    return at == text.len;
}

/* The digits from `from` on are dropped: does the number go up, and was anything lost? */
static bool goes_up(const struct decimal *d, int64_t from, bool odd, bool *lost)
{
    bool tail = false;
    for (int64_t i = from < 0 ? 0 : from + 1; i < d->count; i++)
        tail = tail || d->digit[i] != 0;
    if (from < 0) {
        *lost = tail;
        return false;
    }
    uint8_t first = from < d->count ? d->digit[from] : 0;
    *lost = tail || first != 0;
    return first > 5 || (first == 5 && (tail || odd));
}

static bool decimal_scale(const struct decimal *d, int scale, int64_t *out, bool *lost)
{
    *lost = false;
    *out = 0;
    if (d->count == 0)
        return true;
    int64_t whole_digits = d->point + scale;
    if (whole_digits > INT64_DIGITS)
        return false;
    int128 n = 0;
    for (int64_t i = 0; i < whole_digits; i++)
        n = n * 10 + (i < d->count ? d->digit[i] : 0);
    if (goes_up(d, whole_digits, n % 2 != 0, lost))
        n++;
    return fit(d->negative ? -n : n, out);
}

/* Enough of a bad text to find it again. */
static struct strview shown(struct strview text)
{
    return (struct strview){text.ptr == NULL ? "" : text.ptr, text.len > 48 ? 48 : text.len};
}

static bool refuse(struct err *err, enum err_code code, struct strview text, const char *why)
{
    struct strview v = shown(text);
    return err_set(err, code, FATE_DEAD_LETTER, "\"" SV_FMT "\" %s", SV_ARG(v), why);
}

bool money_parse_decimal(struct strview text, int scale, int64_t *out, bool *rounded, struct err *err)
{
    assert(scale >= 0 && scale <= 18);
    struct decimal d;
    bool lost = false;
    if (!decimal_read(text, &d))
        return refuse(err, ERR_INVALID, text, "is not a decimal number");
    if (!decimal_scale(&d, scale, out, &lost))
        return refuse(err, ERR_OVERFLOW, text, "is too large");
    if (rounded != NULL)
        *rounded = lost;
    return true;
}

/* Exact: no exponent, no more decimals than the scale. */
static bool parse_exact(struct strview text, int scale, const char *too_fine, int64_t *out, struct err *err)
{
    struct decimal d;
    bool lost = false;
    if (!decimal_read(text, &d) || d.has_exponent)
        return refuse(err, ERR_INVALID, text, "is not a plain decimal number such as \"12.50\"");
    if (d.decimals > scale)
        return refuse(err, ERR_INVALID, text, too_fine);
    if (!decimal_scale(&d, scale, out, &lost))
        return refuse(err, ERR_OVERFLOW, text, "is too large");
    return true;
}

bool money_parse_usd(struct strview text, int64_t *nanos, struct err *err)
{
    return parse_exact(text, 9, "has more than 9 decimals; the smallest amount is 0.000000001 USD", nanos,
                       err);
}

bool money_parse_markup(struct strview text, int64_t *ppm, struct err *err)
{
    if (text.len > 0 && text.ptr[0] == '-')
        return refuse(err, ERR_INVALID, text, "is negative; a markup is 0 or more, \"1\" bills the raw cost");
    return parse_exact(text, 6, "has more than 6 decimals; a markup has at most 6", ppm, err);
}

size_t money_format_scaled(int64_t value, int scale, char out[MONEY_TEXT_MAX])
{
    assert(scale >= 0 && scale <= 18);
    char reversed[MONEY_TEXT_MAX];
    size_t len = 0;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    bool shown_any = false; /* trailing zeros behind the point are left out */
    for (int i = 0; i < scale; i++, left /= 10) {
        char digit = (char)('0' + left % 10);
        shown_any = shown_any || digit != '0';
        if (shown_any)
            reversed[len++] = digit;
    }
    if (shown_any)
        reversed[len++] = '.';
    do {
        reversed[len++] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (value < 0)
        reversed[len++] = '-';
    for (size_t i = 0; i < len; i++)
        out[i] = reversed[len - 1 - i];
    out[len] = '\0';
    return len;
}

size_t money_format_usd(int64_t nanos, char out[MONEY_TEXT_MAX])
{
    return money_format_scaled(nanos, 9, out);
}
