/*
 * strview: a view of bytes somebody else owns. ptr == NULL means "no value" (null), len == 0 with ptr != NULL
 * means the empty string. Never NUL-terminated by promise.
 */
#ifndef SPEND_BASE_STRVIEW_H
#define SPEND_BASE_STRVIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct strview {
    const char *ptr;
    size_t len;
};

#define SV_FMT    "%.*s"
#define SV_ARG(v) (int)(v).len, (v).ptr
#define SV_LIT(s) ((struct strview){(s), sizeof(s) - 1})
#define SV_INIT(s)                                                                                           \
    {                                                                                                        \
        (s), sizeof(s) - 1                                                                                   \
    } /* for static tables */
#define SV_NULL ((struct strview){NULL, 0})

struct strview sv_of(const char *text); /* NULL gives SV_NULL */
struct strview sv_of_bytes(const void *ptr, size_t len);

static inline bool sv_is_null(struct strview v);
static inline bool sv_is_empty(struct strview v);                    /* null or length 0 */
static inline bool sv_eq(struct strview a, struct strview b);        /* null equals null only */
static inline bool sv_eq_nocase(struct strview a, struct strview b); /* ASCII */
int sv_cmp(struct strview a, struct strview b);                      /* memcmp order, null first */
bool sv_starts_with(struct strview v, struct strview prefix);
struct strview sv_trim(struct strview v); /* blanks and tabs at both ends */

/* The part before the first `sep`; *rest is what follows it, or SV_NULL when there was none. */
struct strview sv_cut(struct strview v, char sep, struct strview *rest);
/* Index of the first c, or v.len. */
size_t sv_find(struct strview v, char c);

/* Whole-text decimal int64: optional '-', digits only. false on anything else or overflow. */
bool sv_to_i64(struct strview v, int64_t *out);
/* The value of a hex digit of either case, -1 of anything else. */
int sv_hex_digit(char c);
/* "50us" "250ms" "5s" "10m" "2h" "1d", or digits alone = seconds; to microseconds. false otherwise. */
bool sv_to_duration_us(struct strview v, int64_t *out);
/* "64" "64KiB" "32MiB" "1GiB". */
bool sv_to_size(struct strview v, int64_t *out);

/* True iff every byte sequence is well-formed UTF-8 (no surrogates, no overlong forms). */
bool sv_is_utf8(struct strview v);
/* Bytes of the longest well-formed UTF-8 prefix: v.len when all of it is. Also where a cut text may end. */
size_t sv_utf8_prefix(struct strview v);
/* True iff it is printable ASCII and nothing else: UTF-8 without a control, as most texts are. Fast. */
static inline bool sv_is_plain(struct strview v);
/* True iff it holds a byte < 0x20, 0x7f, or a C1 control (U+0080..U+009F) in UTF-8. */
bool sv_has_control(struct strview v);

/* What follows is here to be inlined: most texts that are compared differ in length, most others are short.
 */

bool sv_same_nocase(const char *a, const char *b, size_t len); /* of len bytes each */

static inline bool sv_is_null(struct strview v)
{
    return v.ptr == NULL;
}

static inline bool sv_is_empty(struct strview v)
{
    return v.ptr == NULL || v.len == 0;
}

static inline bool sv_eq(struct strview a, struct strview b)
{
    if (a.ptr == NULL || b.ptr == NULL)
        return a.ptr == b.ptr;
    return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

static inline bool sv_eq_nocase(struct strview a, struct strview b)
{
    if (a.ptr == NULL || b.ptr == NULL)
        return a.ptr == b.ptr;
    return a.len == b.len && sv_same_nocase(a.ptr, b.ptr, a.len);
}

/* Eight bytes: a top bit is set for the first that is no printable ASCII, perhaps for later ones too. */
static inline uint64_t sv_odd_bytes(const char *p)
{
    const uint64_t ones = 0x0101010101010101;
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return ((w - ones * 0x20) | w | ((w ^ (ones * 0x7f)) - ones)) & (ones * 0x80);
}

bool sv_is_plain_long(struct strview v); /* of eight bytes at least */

static inline bool sv_is_plain(struct strview v)
{
    char word[8] = "        ";
    if (v.len > 2 * sizeof word)
        return sv_is_plain_long(v);
    if (v.len >= sizeof word)
        return (sv_odd_bytes(v.ptr) | sv_odd_bytes(v.ptr + v.len - sizeof word)) == 0;
    if (v.len >= 4) { /* some of them twice */
        memcpy(word, v.ptr, 4);
        memcpy(word + 4, v.ptr + v.len - 4, 4);
    } else if (v.len > 0) {
        word[0] = v.ptr[0];
        word[1] = v.ptr[v.len / 2];
        word[2] = v.ptr[v.len - 1];
    }
    return sv_odd_bytes(word) == 0;
}

#endif
