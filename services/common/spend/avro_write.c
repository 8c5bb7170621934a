/*
 * avro_write: a C struct to Avro's binary form, by its map.
 * A text that is no UTF-8, or has a NUL, is written with U+FFFD for each bad byte: a header in Latin-1 must
 * not cost us the call.
 */
#include <string.h>

#include "spend/avro_map.h"

#define REPLACEMENT     "\xEF\xBF\xBD"
#define REPLACEMENT_LEN 3
#define VARINT_MOST     10
#define VARINT_SHORT    64 /* numbers below it take one byte */

static uint64_t zigzag_of(int64_t value)
{
    return ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0);
}

/* Into room for VARINT_MOST bytes; returns the end of what it took. */
static char *varint_write(char *at, uint64_t zigzag)
{
    for (; zigzag >= 0x80; zigzag >>= 7)
        *at++ = (char)(uint8_t)(zigzag | 0x80);
    *at++ = (char)(uint8_t)zigzag;
    return at;
}

static bool put_varint(struct buffer *out, uint64_t zigzag)
{
    char bytes[VARINT_MOST];
    return buffer_append(out, bytes, (size_t)(varint_write(bytes, zigzag) - bytes));
}

static inline bool put_long(struct buffer *out, int64_t value)
{
    uint64_t zigzag = zigzag_of(value);
    return zigzag < 0x80 ? buffer_append_byte(out, (uint8_t)zigzag) : put_varint(out, zigzag);
}

static bool put_bytes(struct buffer *out, struct strview v)
{
    char *at = buffer_reserve(out, VARINT_MOST + v.len);
    if (at == NULL || v.len == 0) /* near the cap it may fit all the same */
        return put_long(out, (int64_t)v.len) && buffer_append_sv(out, v);
    char *text = varint_write(at, zigzag_of((int64_t)v.len));
    memcpy(text, v.ptr, v.len);
    buffer_grew(out, (size_t)(text - at) + v.len);
    return true;
}

/* The good bytes at the front of v: neither NUL nor broken. */
static size_t good_prefix(struct strview v)
{
    size_t len = sv_utf8_prefix(v);
    const char *nul = memchr(v.ptr, '\0', len);
    return nul == NULL ? len : (size_t)(nul - v.ptr);
}

static struct strview after(struct strview v, size_t len)
{
    return (struct strview){v.ptr + len, v.len - len};
}

static bool put_repaired(struct buffer *out, struct strview v)
{
    size_t len = 0;
    for (struct strview rest = v; rest.len > 0;) {
        size_t good = good_prefix(rest);
        len += good;
        rest = after(rest, good);
        if (rest.len > 0) {
            len += REPLACEMENT_LEN;
            rest = after(rest, 1);
        }
    }
    bool ok = put_long(out, (int64_t)len);
    for (struct strview rest = v; ok && rest.len > 0;) {
        size_t good = good_prefix(rest);
        ok = buffer_append(out, rest.ptr, good);
        rest = after(rest, good);
        if (ok && rest.len > 0) {
            ok = buffer_append(out, REPLACEMENT, REPLACEMENT_LEN);
            rest = after(rest, 1);
        }
    }
    return ok;
}

static inline bool put_text(struct buffer *out, struct strview v)
{
    char *at = v.len < VARINT_SHORT ? buffer_reserve(out, 1 + v.len) : NULL;
    if (at != NULL && v.len > 0 && sv_is_plain(v)) { /* as most are */
        at[0] = (char)(v.len << 1);
        memcpy(at + 1, v.ptr, v.len);
        buffer_grew(out, 1 + v.len);
        return true;
    }
    return v.len == 0 || sv_is_plain(v) || good_prefix(v) == v.len ? put_bytes(out, v) : put_repaired(out, v);
}

static bool full(struct err *err)
{
    return err_set(err, ERR_FULL, FATE_DEAD_LETTER, "the record is too large");
}

static bool invalid(const struct avro_field *f, const char *why, struct err *err)
{
    return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "%s: %s", f->name, why);
}

static bool check(bool ok, struct err *err)
{
    return ok || full(err);
}

static bool put_number(const struct avro_field *f, const char *at, struct buffer *out, struct err *err)
{
    int64_t value = 0;
    if (f->nullable) {
        struct opt_i64 opt;
        memcpy(&opt, at, sizeof opt);
        value = opt.v;
    } else if (f->kind == AVRO_LONG) {
        memcpy(&value, at, sizeof value);
    } else {
        int32_t narrow;
        memcpy(&narrow, at, sizeof narrow);
        value = narrow;
    }
    if (f->kind == AVRO_INT && (value < INT32_MIN || value > INT32_MAX))
        return invalid(f, "does not fit 32 bits", err);
    return check(put_long(out, value), err);
}

static bool put_word(const struct avro_field *f, const char *at, struct buffer *out, struct err *err)
{
    unsigned value;
    memcpy(&value, at, sizeof value);
    if (value >= f->size)
        return invalid(f, "is none of its words", err);
    return check(f->kind == AVRO_ENUM ? put_long(out, value) : put_bytes(out, sv_of(f->word(value))), err);
}

static bool put_origins(const struct avro_field *f, const char *at, struct buffer *out, struct err *err)
{
    unsigned bits;
    memcpy(&bits, at, sizeof bits);
    if (bits >> TAG_ORIGIN_COUNT != 0)
        return invalid(f, "has an unknown bit", err);
    bool many = (bits & (bits - 1)) != 0;
    bool ok = bits == 0 || put_long(out, many ? __builtin_popcount(bits) : 1);
    for (; ok && bits != 0; bits &= bits - 1) /* the lowest first */
        ok = put_bytes(out, sv_of(tag_origin_name(bits & -bits)));
    return check(ok && put_long(out, 0), err);
}

static bool put_array(const struct avro_field *f, const char *base, struct buffer *out, struct err *err)
{
    const char *items;
    size_t count;
    memcpy(&items, base + f->at, sizeof items);
    memcpy(&count, base + f->has, sizeof count);
    if (count > f->size)
        return invalid(f, "has more items than its limit", err);
    if (count > 0 && !put_long(out, (int64_t)count))
        return full(err);
    for (size_t i = 0; i < count; i++) {
        struct strview text;
        if (f->kind == AVRO_RECORDS) {
            if (!avro_map_write(f->map, items + i * f->map->c_size, out, err))
                return err_wrap(err, "%s", f->name);
            continue;
        }
        memcpy(&text, items + i * sizeof text, sizeof text);
        if (!put_text(out, text))
            return full(err);
    }
    return check(put_long(out, 0), err);
}

static bool is_present(const struct avro_field *f, const char *base)
{
    struct opt_i64 opt;
    struct strview text;
    bool has;
    if (f->kind == AVRO_TEXT) {
        memcpy(&text, base + f->at, sizeof text);
        return !sv_is_null(text);
    }
    if (f->kind == AVRO_LONG || f->kind == AVRO_INT) {
        memcpy(&opt, base + f->at, sizeof opt);
        return opt.has;
    }
    memcpy(&has, base + f->has, sizeof has);
    return has;
}

static bool put_field(const struct avro_field *f, const char *base, struct buffer *out, struct err *err)
{
    const char *at = base + f->at;
    struct strview text;
    bool flag;
    switch (f->kind) {
    case AVRO_LONG:
    case AVRO_INT:
        return put_number(f, at, out, err);
    case AVRO_BOOL:
    case AVRO_FLAG:
        memcpy(&flag, at, sizeof flag);
        return check(buffer_append_byte(out, f->kind == AVRO_BOOL ? flag : (uint8_t)(flag ? 2 : 0)), err);
    case AVRO_TEXT:
    case AVRO_BYTES:
        memcpy(&text, at, sizeof text);
        if (sv_is_null(text))
            return invalid(f, "has no value", err);
        return check(f->kind == AVRO_TEXT ? put_text(out, text) : put_bytes(out, text), err);
    case AVRO_FIXED:
        return check(buffer_append(out, at, f->size), err);
    case AVRO_ENUM:
    case AVRO_WORD:
        return put_word(f, at, out, err);
    case AVRO_RECORD:
        return avro_map_write(f->map, at, out, err) || err_wrap(err, "%s", f->name);
    case AVRO_RECORDS:
    case AVRO_TEXTS:
        return put_array(f, base, out, err);
    case AVRO_ORIGINS:
        return put_origins(f, at, out, err);
    }
    return invalid(f, "has no kind", err);
}

bool avro_map_write(const struct avro_map *map, const void *value, struct buffer *out, struct err *err)
{
    const char *base = value;
    for (size_t i = 0; i < map->count; i++) {
        const struct avro_field *f = &map->fields[i];
        if (f->nullable) {
            bool has = is_present(f, base);
            if (!buffer_append_byte(out, has ? 2 : 0)) /* the union's branch, zigzag */
                return full(err);
            if (!has)
                continue;
        }
        if (!put_field(f, base, out, err))
            return false;
    }
    return true;
}
