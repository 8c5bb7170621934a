/*
 * avro_read: Avro's binary form to a C struct, by its map. The bytes are hostile until proven otherwise:
 * every length is within the bytes left and every count within its limit before anything is allocated or
 * copied, and nothing may be left over.
 */
#include <string.h>

#include "spend/avro_map.h"

#define VARINT_MOST_SHIFT 63

struct reader {
    const char *at;
    const char *end;
    struct arena *arena;
    const struct avro_field *field; /* the innermost one that was begun */
    struct err *err;
    unsigned generation;
};

static bool read_record(struct reader *r, const struct avro_map *map, char *base);

static bool malformed(struct reader *r, const char *why)
{
    return err_set(r->err, ERR_INVALID, FATE_DEAD_LETTER, "%s: %s",
                   r->field == NULL ? "record" : r->field->name, why);
}

static size_t left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}

static bool read_long(struct reader *r, int64_t *out)
{
    uint64_t zigzag = 0;
    for (unsigned shift = 0; shift <= VARINT_MOST_SHIFT; shift += 7) {
        if (left(r) == 0)
            return malformed(r, "the bytes end inside a number");
        uint8_t byte = (uint8_t)*r->at++;
        if (shift == VARINT_MOST_SHIFT && byte > 1)
            return malformed(r, "a number over 64 bits");
        zigzag |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *out = (int64_t)(zigzag >> 1) ^ -(int64_t)(zigzag & 1);
            return true;
        }
    }
    return malformed(r, "a number over 64 bits");
}

static bool read_bytes(struct reader *r, struct strview *out)
{
    int64_t len = 0;
    if (!read_long(r, &len))
        return false;
    if (len < 0 || (uint64_t)len > left(r))
        return malformed(r, "a length that is negative or past the end");
    *out = (struct strview){r->at, (size_t)len};
    r->at += len;
    return true;
}

static bool read_text(struct reader *r, struct strview *out)
{
    if (!read_bytes(r, out))
        return false;
    if (!sv_is_utf8(*out) || sv_find(*out, '\0') < out->len)
        return malformed(r, "a text that is no UTF-8, or has a NUL");
    return true;
}

static bool read_byte(struct reader *r, uint8_t *out)
{
    if (left(r) == 0)
        return malformed(r, "the bytes end");
    *out = (uint8_t)*r->at++;
    return true;
}

/* One block of an array: its count, and where it must end when its size was given too. 0 items: the array is
 * over. */
static bool read_block(struct reader *r, size_t *count, const char **block_end)
{
    int64_t n = 0;
    int64_t size = 0;
    *block_end = NULL;
    if (!read_long(r, &n))
        return false;
    if (n == INT64_MIN)
        return malformed(r, "a count that no array has");
    if (n < 0) {
        n = -n;
        if (!read_long(r, &size))
            return false;
        if (size < 0 || (uint64_t)size > left(r))
            return malformed(r, "a block size that is negative or past the end");
        *block_end = r->at + size;
    }
    if ((uint64_t)n > left(r)) /* every item takes a byte at least */
        return malformed(r, "a count past the end");
    *count = (size_t)n;
    return true;
}

/* What an array becomes: items in the arena, or the bits of their words. */
struct items {
    char *at;
    size_t count;
    size_t room;
    size_t size; /* of one, 0 for bits */
    unsigned bits;
};

/* Room for more items behind those there are; the array grows by doubling, in the arena. */
static bool items_grow(struct reader *r, struct items *items, size_t more)
{
    if (more > r->field->size || items->count > r->field->size - more)
        return malformed(r, "more items than its limit");
    if (items->size == 0 || items->count + more <= items->room)
        return true;
    size_t room = items->room * 2 > items->count + more ? items->room * 2 : items->count + more;
    char *grown = arena_alloc(r->arena, room * items->size);
    if (grown == NULL)
        return err_set(r->err, ERR_FULL, FATE_DEAD_LETTER, "%s: no room for %zu items", r->field->name, room);
    if (items->count > 0)
        memcpy(grown, items->at, items->count * items->size);
    items->at = grown;
    items->room = room;
    return true;
}

static bool read_item(struct reader *r, const struct avro_field *f, struct items *items)
{
    struct strview text = SV_NULL;
    unsigned bit = 0;
    if (f->kind == AVRO_RECORDS)
        return read_record(r, f->map, items->at + items->count * items->size);
    if (!read_text(r, &text))
        return false;
    if (f->kind == AVRO_TEXTS)
        memcpy(items->at + items->count * items->size, &text, sizeof text);
    else if (!tag_origin_parse(text, &bit))
        return malformed(r, "an unknown word");
    items->bits |= bit;
    return true;
}

static bool read_items(struct reader *r, const struct avro_field *f, struct items *items)
{
    for (;;) {
        size_t more = 0;
        const char *block_end = NULL;
        if (!read_block(r, &more, &block_end))
            return false;
        if (more == 0 && block_end == NULL)
            return true;
        if (!items_grow(r, items, more))
            return false;
        for (size_t i = 0; i < more; i++, items->count++) {
            if (!read_item(r, f, items))
                return false;
            r->field = f; /* a record's last field stood there */
        }
        if (block_end != NULL && block_end != r->at)
            return malformed(r, "a block of another size than it says");
    }
}

static bool read_array(struct reader *r, const struct avro_field *f, char *base)
{
    struct items items = {0};
    if (f->kind != AVRO_ORIGINS)
        items.size = f->kind == AVRO_RECORDS ? f->map->c_size : sizeof(struct strview);
    if (!read_items(r, f, &items))
        return false;
    if (f->kind == AVRO_ORIGINS) {
        memcpy(base + f->at, &items.bits, sizeof items.bits);
        return true;
    }
    memcpy(base + f->at, &items.at, sizeof items.at);
    memcpy(base + f->has, &items.count, sizeof items.count);
    return true;
}

static bool read_number(struct reader *r, const struct avro_field *f, char *at)
{
    int64_t value = 0;
    if (!read_long(r, &value))
        return false;
    if (f->kind == AVRO_INT && (value < INT32_MIN || value > INT32_MAX))
        return malformed(r, "does not fit 32 bits");
    const struct opt_i64 opt = OPT_I64(value);
    const int32_t narrow = (int32_t)value;
    if (f->nullable)
        memcpy(at, &opt, sizeof opt);
    else if (f->kind == AVRO_LONG)
        memcpy(at, &value, sizeof value);
    else
        memcpy(at, &narrow, sizeof narrow);
    return true;
}

static bool read_enum(struct reader *r, const struct avro_field *f, char *at)
{
    int64_t value = 0;
    if (!read_long(r, &value))
        return false;
    if (value < 0 || (uint64_t)value >= f->size)
        return malformed(r, "a number without a word");
    const unsigned number = (unsigned)value;
    const bool flag = value != 0;
    if (f->kind == AVRO_FLAG)
        memcpy(at, &flag, sizeof flag);
    else
        memcpy(at, &number, sizeof number);
    return true;
}

static bool read_word(struct reader *r, const struct avro_field *f, char *at)
{
    struct strview word = SV_NULL;
    if (!read_text(r, &word))
        return false;
    for (unsigned i = 0; i < f->size; i++) {
        if (sv_eq(word, sv_of(f->word(i)))) {
            memcpy(at, &i, sizeof i);
            return true;
        }
    }
    return malformed(r, "an unknown word");
}

static bool read_bool(struct reader *r, char *at)
{
    uint8_t byte = 0;
    if (!read_byte(r, &byte))
        return false;
    if (byte > 1)
        return malformed(r, "neither true nor false");
    const bool flag = byte == 1;
    memcpy(at, &flag, sizeof flag);
    return true;
}

static bool read_fixed(struct reader *r, const struct avro_field *f, char *at)
{
    if (left(r) < f->size)
        return malformed(r, "the bytes end");
    memcpy(at, r->at, f->size);
    r->at += f->size;
    return true;
}

static bool read_field(struct reader *r, const struct avro_field *f, char *base)
{
    char *at = base + f->at;
    struct strview text = SV_NULL;
    switch (f->kind) {
    case AVRO_LONG:
    case AVRO_INT:
        return read_number(r, f, at);
    case AVRO_BOOL:
        return read_bool(r, at);
    case AVRO_TEXT:
    case AVRO_BYTES:
        if (!(f->kind == AVRO_TEXT ? read_text(r, &text) : read_bytes(r, &text)))
            return false;
        memcpy(at, &text, sizeof text);
        return true;
    case AVRO_FIXED:
        return read_fixed(r, f, at);
    case AVRO_ENUM:
    case AVRO_FLAG:
        return read_enum(r, f, at);
    case AVRO_WORD:
        return read_word(r, f, at);
    case AVRO_RECORD:
        return read_record(r, f->map, at);
    case AVRO_RECORDS:
    case AVRO_TEXTS:
    case AVRO_ORIGINS:
        return read_array(r, f, base);
    }
    return malformed(r, "has no kind");
}

/* [null, value]: what is null stays as the zeroed struct has it. */
static bool read_nullable(struct reader *r, const struct avro_field *f, char *base)
{
    static const bool yes = true;
    int64_t branch = 0;
    if (!read_long(r, &branch))
        return false;
    if (branch != 0 && branch != 1)
        return malformed(r, "a union branch that is not there");
    if (branch == 0)
        return true;
    if (!read_field(r, f, base))
        return false;
    if (f->kind == AVRO_FIXED || f->kind == AVRO_RECORD)
        memcpy(base + f->has, &yes, sizeof yes);
    return true;
}

static bool read_record(struct reader *r, const struct avro_map *map, char *base)
{
    for (size_t i = 0; i < map->count; i++) {
        const struct avro_field *f = &map->fields[i];
        if (f->since > r->generation)
            continue;
        r->field = f;
        if (!(f->nullable ? read_nullable(r, f, base) : read_field(r, f, base)))
            return false;
    }
    return true;
}

bool avro_map_read(const struct avro_map *map, unsigned generation, struct strview body, struct arena *a,
                   void *value, struct err *err)
{
    struct reader r = {
        .at = body.ptr, .end = body.ptr + body.len, .arena = a, .err = err, .generation = generation};
    memset(value, 0, map->c_size);
    if (!read_record(&r, map, value))
        return false;
    r.field = NULL;
    return r.at == r.end || malformed(&r, "bytes are left over");
}
