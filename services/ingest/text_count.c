/*
 * text_count: recursion is bounded by the scanner's depth.
 */
#include "ingest/text_count.h"

#include <string.h>

static const struct strview text_keys[] = {
    SV_INIT("content"),   SV_INIT("text"),         SV_INIT("input"),
    SV_INIT("prompt"),    SV_INIT("system"),       SV_INIT("arguments"),
    SV_INIT("refusal"),   SV_INIT("reasoning"),    SV_INIT("reasoning_content"),
    SV_INIT("thinking"),  SV_INIT("delta"),        SV_INIT("query"),
    SV_INIT("documents"), SV_INIT("instructions"), SV_INIT("partial_json"),
};

static bool is_text_key(const struct json_value *key)
{
    for (size_t i = 0; i < sizeof text_keys / sizeof text_keys[0]; i++)
        if (json_scan_text_is(key, text_keys[i]))
            return true;
    return false;
}

static bool is_unit(const char *p, const char *end)
{
    return end - p >= 6 && p[0] == '\\' && p[1] == 'u';
}

/* UTF-8 bytes of a string once unescaped. */
static uint64_t text_len(const struct json_value *v)
{
    if (!v->escaped)
        return v->raw.len;
    uint64_t len = 0;
    const char *end = v->raw.ptr + v->raw.len;
    for (const char *p = v->raw.ptr; p < end;) {
        if (*p != '\\') {
            len++;
            p++;
        } else if (!is_unit(p, end)) {
            len++;
            p += 2;
        } else if ((p[2] == 'd' || p[2] == 'D') && p[3] >= '8') {
            len += 2; /* half of a pair */
            p += 6;
        } else {
            bool ascii = p[2] == '0' && p[3] == '0' && p[4] < '8';
            bool two = p[2] == '0' && p[3] < '8';
            len += ascii ? 1 : two ? 2 : 3;
            p += 6;
        }
    }
    return len;
}

static bool count(struct json_scan *s, const struct json_value *value, bool is_text, uint64_t *bytes)
{
    struct json_value key;
    struct json_value item;
    if (value->kind == JSON_KIND_STRING && is_text)
        *bytes += text_len(value);
    if (value->kind == JSON_KIND_ARRAY) {
        while (json_scan_item(s, &item))
            if (!count(s, &item, is_text, bytes))
                return false;
    } else if (value->kind == JSON_KIND_OBJECT) {
        while (json_scan_member(s, &key, &item))
            if (!count(s, &item, is_text_key(&key), bytes))
                return false;
    }
    return !s->failed;
}

bool text_count(struct json_scan *s, const struct json_value *key, const struct json_value *value,
                uint64_t *bytes)
{
    return count(s, value, key != NULL && is_text_key(key), bytes);
}

/* What Python's str.isspace says of one character. */
static bool is_blank(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

/* Cuts one character off the front of well-formed UTF-8. */
static uint32_t utf8_cut(struct strview *v)
{
    uint8_t lead = (uint8_t)v->ptr[0];
    size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t c = lead < 0x80 ? lead : lead & (0xffU >> (len + 1));
    len = len < v->len ? len : v->len;
    for (size_t k = 1; k < len; k++)
        c = c << 6 | ((uint8_t)v->ptr[k] & 0x3f);
    *v = (struct strview){v->ptr + len, v->len - len};
    return c;
}

/* The same of an escape sequence; the second half of a pair is a blank to us, so that a pair counts once. */
static uint32_t escape_cut(struct strview *v)
{
    uint32_t c = 0;
    bool unit = is_unit(v->ptr, v->ptr + v->len);
    for (size_t k = 2; unit && k < 6; k++)
        c = c << 4 | (uint32_t)sv_hex_digit(v->ptr[k]);
    if (!unit && v->len > 1)
        c = strchr("ntrf", v->ptr[1]) != NULL ? ' ' : (uint8_t)v->ptr[1];
    size_t len = unit ? 6 : v->len > 1 ? 2 : 1;
    *v = (struct strview){v->ptr + len, v->len - len};
    return unit && c >= 0xdc00 && c < 0xe000 ? ' ' : c;
}

int64_t text_characters(const struct json_value *string)
{
    int64_t count = 0;
    struct strview rest = string->raw;
    while (rest.len > 0)
        count += is_blank(rest.ptr[0] == '\\' ? escape_cut(&rest) : utf8_cut(&rest)) ? 0 : 1;
    return count;
}

int64_t text_tokens(uint64_t bytes)
{
    return (int64_t)((bytes + 3) / 4);
}
