/*
 * json_scan: one strict pass over JSON text (RFC 8259, UTF-8 checked, depth limited), as a pull reader of
 * spans. Numbers stay text, so money is never a float. Nothing is copied; strings are raw spans until
 * unescaped. Accepts and refuses exactly what jansson does with JSON_REJECT_DUPLICATES off, JSON_DECODE_ANY
 * on, but: numbers past int64 or double are fine here (text), and \u0000 in strings is accepted as a span and
 * refused by json_scan_unescape. A NUL byte is always refused (jansson 2.14 runs over one behind a
 * number). `lax` takes what Python's reader takes besides: for callers' bodies, never for money. Depth counts
 * open containers.
 */
#ifndef SPEND_BASE_JSON_SCAN_H
#define SPEND_BASE_JSON_SCAN_H

#include "base/arena.h"
#include "base/err.h"
#include "base/strview.h"

#include <string.h>

enum json_kind {
    JSON_KIND_OBJECT, /* { opened: members follow */
    JSON_KIND_ARRAY,  /* [ opened: items follow */
    JSON_KIND_STRING,
    JSON_KIND_NUMBER,
    JSON_KIND_TRUE,
    JSON_KIND_FALSE,
    JSON_KIND_NULL,
};

struct json_scan {
    const char *at;
    const char *end;
    const char *begin;
    int depth;
    int depth_max;
    bool lax; /* set behind json_scan_init: NaN, Infinity, -Infinity are numbers, half a surrogate pair is
                 U+FFFD */
    bool any_bytes; /* set behind json_scan_init: strings may hold bytes that are no UTF-8; theirs to judge
                       who keep one */
    bool failed;
    struct err err;
};

struct json_value {
    enum json_kind kind;
    struct strview
        raw; /* a scalar's text: a string's inside without quotes, still escaped; a container's '{' or '[' */
    bool escaped; /* the string holds a backslash */
};

/* depth_max: LIMIT_JSON_DEPTH as a rule. */
void json_scan_init(struct json_scan *s, struct strview text, int depth_max);

/* The next value. After an object or array was returned, read it with _member/_item until they return false,
 * or skip it. */
bool json_scan_value(struct json_scan *s, struct json_value *out) NODISCARD;
/* Inside an object: the next key (raw span) and its value. false at '}' or on error (s->failed). */
bool json_scan_member(struct json_scan *s, struct json_value *key, struct json_value *value) NODISCARD;
/* Inside an array. false at ']' or on error. */
bool json_scan_item(struct json_scan *s, struct json_value *value) NODISCARD;
/* Reads over the value just returned: a container up to its end, nothing for a scalar. *whole (may be NULL):
 * its full text. */
bool json_scan_skip(struct json_scan *s, const struct json_value *value, struct strview *whole) NODISCARD;
/* Only blanks are left. */
bool json_scan_end(struct json_scan *s) NODISCARD;
/* All of a text not yet begun is one good value of this kind. */
bool json_scan_whole(struct json_scan *s, enum json_kind kind) NODISCARD;

/* The string's bytes, halves of surrogate pairs as U+FFFD (only a lax scan lets them through): the span
 * itself when it has no escape, else a copy in the arena. false: \u0000, or arena full. */
bool json_scan_unescape(const struct json_value *v, struct arena *a, struct strview *out) NODISCARD;
/* A key or string equals text once unescaped. */
static inline bool json_scan_text_is(const struct json_value *v, struct strview text);
bool json_scan_escaped_is(const struct json_value *v,
                          struct strview text); /* the same, for one with escapes */
/* A JSON integer (no fraction, no exponent) that fits int64. */
bool json_scan_i64(const struct json_value *v, int64_t *out) NODISCARD;

static inline bool json_scan_text_is(const struct json_value *v, struct strview text)
{
    if (v->kind != JSON_KIND_STRING || text.ptr == NULL)
        return false;
    if (v->escaped)
        return json_scan_escaped_is(v, text);
    return v->raw.len == text.len && memcmp(v->raw.ptr, text.ptr, text.len) == 0;
}

#endif
