/*
 * strview: comparing, cutting and reading views. Nothing here allocates or writes to the bytes.
 */
#include "base/strview.h"

#include <string.h>

struct strview sv_of(const char *text)
{
    return text == NULL ? SV_NULL : (struct strview){text, strlen(text)};
}

struct strview sv_of_bytes(const void *ptr, size_t len)
{
    return (struct strview){ptr, len};
}

static char lower(char c)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    if (c >= 'A' && c <= 'Z')
        return letters[c - 'A'];
    return c;
}

bool sv_same_nocase(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (a[i] != b[i] && lower(a[i]) != lower(b[i]))
            return false;
    }
    return true;
}

int sv_cmp(struct strview a, struct strview b)
{
    if (a.ptr == NULL || b.ptr == NULL)
        return (a.ptr != NULL) - (b.ptr != NULL);
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = memcmp(a.ptr, b.ptr, shorter);
    if (order != 0)
        return order < 0 ? -1 : 1;
    return (a.len > b.len) - (a.len < b.len);
}

bool sv_starts_with(struct strview v, struct strview prefix)
{
    if (v.ptr == NULL || prefix.ptr == NULL)
        return false;
    return v.len >= prefix.len && memcmp(v.ptr, prefix.ptr, prefix.len) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct strview sv_trim(struct strview v)
{
    if (v.ptr == NULL)
        return v;
    while (v.len > 0 && is_blank(v.ptr[0])) {
        v.ptr++;
        v.len--;
    }
    while (v.len > 0 && is_blank(v.ptr[v.len - 1]))
        v.len--;
    return v;
}

size_t sv_find(struct strview v, char c)
{
    const char *hit = v.len == 0 ? NULL : memchr(v.ptr, c, v.len);
    return hit == NULL ? v.len : (size_t)(hit - v.ptr);
}

struct strview sv_cut(struct strview v, char sep, struct strview *rest)
{
    size_t at = sv_find(v, sep);
    *rest = at == v.len ? SV_NULL : (struct strview){v.ptr + at + 1, v.len - at - 1};
    return (struct strview){v.ptr, at};
}

bool sv_to_i64(struct strview v, int64_t *out)
{
    if (sv_is_empty(v))
        return false;
    bool negative = v.ptr[0] == '-';
    size_t i = negative ? 1 : 0;
    if (i == v.len)
        return false;
    int64_t n = 0;
    for (; i < v.len; i++) {
        if (v.ptr[i] < '0' || v.ptr[i] > '9')
            return false;
        int64_t digit = v.ptr[i] - '0';
        /* Counted downwards: INT64_MIN has no positive twin. */
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_sub_overflow(n, digit, &n))
            return false;
    }
    if (!negative && n == INT64_MIN)
        return false;
    *out = negative ? n : -n;
    return true;
}

struct unit {
    const char *name;
    int64_t factor;
};

/* Digits, then one of the units; the first unit stands for none. */
static bool to_scaled(struct strview v, const struct unit *units, size_t count, int64_t *out)
{
    size_t digits = 0;
    while (digits < v.len && v.ptr[digits] >= '0' && v.ptr[digits] <= '9')
        digits++;
    int64_t n = 0;
    if (!sv_to_i64((struct strview){v.ptr, digits}, &n))
        return false;
    struct strview unit = {v.ptr + digits, v.len - digits};
    for (size_t i = 0; i < count; i++) {
        if (sv_eq(unit, sv_of(units[i].name)))
            return !__builtin_mul_overflow(n, units[i].factor, out);
    }
    return false;
}

bool sv_to_duration_us(struct strview v, int64_t *out)
{
    static const struct unit units[] = {
        {"", 1000000},
        {"us", 1},
        {"ms", 1000},
        {"s", 1000000},
        {"m", 60LL * 1000000},
        {"h", 3600000000L},
        {"d", 24 * 3600000000L},
    };
    return to_scaled(v, units, sizeof units / sizeof units[0], out);
}

bool sv_to_size(struct strview v, int64_t *out)
{
    static const struct unit units[] = {
        {"", 1}, {"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
    };
    return to_scaled(v, units, sizeof units / sizeof units[0], out);
}

/* Length of the well-formed sequence at p (RFC 3629), 0 when there is none. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || left < len)
        return 0;
    /* The second byte's range keeps out overlong forms, surrogates and what lies past U+10FFFF. */
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

/* Bytes at the front that are printable ASCII: eight at a time, so that some may follow. */
static size_t plain_prefix(struct strview v)
{
    size_t at = 0;
    for (; v.len - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
        if (sv_odd_bytes(v.ptr + at) != 0)
            return at;
    }
    /* the last eight, some of them once more */
    return at > 0 && sv_odd_bytes(v.ptr + v.len - sizeof(uint64_t)) == 0 ? v.len : at;
}

bool sv_is_plain_long(struct strview v)
{
    return plain_prefix(v) == v.len;
}

size_t sv_utf8_prefix(struct strview v)
{
    const unsigned char *p = (const unsigned char *)v.ptr;
    size_t at = plain_prefix(v);
    while (at < v.len) {
        size_t len = utf8_length(p + at, v.len - at);
        if (len == 0)
            break;
        at += len;
    }
    return at;
}

bool sv_is_utf8(struct strview v)
{
    return sv_utf8_prefix(v) == v.len;
}

bool sv_has_control(struct strview v)
{
    for (size_t i = plain_prefix(v); i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];
        if (c < 0x20 || c == 0x7f)
            return true;
        if (c == 0xc2 && i + 1 < v.len && (unsigned char)v.ptr[i + 1] >= 0x80 &&
            (unsigned char)v.ptr[i + 1] <= 0x9f)
            return true;
    }
    return false;
}

int sv_hex_digit(char c)
{
    unsigned digit = (unsigned)(unsigned char)c - '0';
    unsigned letter = ((unsigned char)c | 0x20U) - 'a'; /* of either case */
    return digit < 10 ? (int)digit : letter < 6 ? (int)letter + 10 : -1;
}
