/*
 * text_count: recursion is bounded by the scanner's depth.
 */
#include "ingest/text_count.h"

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

int64_t text_characters(struct strview text)
{
    int64_t count = 0;
    for (size_t i = 0; i < text.len;) {
        uint8_t lead = (uint8_t)text.ptr[i];
        size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        uint32_t c = lead < 0x80 ? lead : lead & (0xffU >> (len + 1));
        for (size_t k = 1; k < len && i + k < text.len; k++)
            c = c << 6 | ((uint8_t)text.ptr[i + k] & 0x3f);
        count += is_blank(c) ? 0 : 1;
        i += len;
    }
    return count;
}

int64_t text_tokens(uint64_t bytes)
{
    return (int64_t)((bytes + 3) / 4);
}
