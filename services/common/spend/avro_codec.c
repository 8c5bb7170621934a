/*
 * avro_codec: the frame around the codec: magic, fingerprint, size, and one function a record.
 * A codec of our own, by tables over a closed set of schemas, and not avro-c, in both directions:
 * avro-c 1.11.1 trusts lengths (so a second parser would have to run before it), keeps its last error in one
 * place for all threads, and its schema resolution refuses the one change our schemas make, a nullable field
 * added with a default ("Reader field .. doesn't appear in writer"). The tests decode and encode again with
 * avro-c, as a second opinion.
 */
#include "spend/avro_codec.h"

#include <stdlib.h>
#include <string.h>

#include "schemas/embedded.h"
#include "spend/avro_map.h"

#define MAGIC_0           0xC3
#define MAGIC_1           0x01
#define FRAME_BYTES       10
#define FINGERPRINT_BYTES 8
#define SHAPE_BYTES       (32 << 10)
#define BOOK_ARENA_BYTES  (64 << 20)

static const struct embedded_schema *schema_find(const char *name)
{
    for (size_t i = 0; i < embedded_schema_count; i++) {
        if (strcmp(embedded_schemas[i].name, name) == 0)
            return &embedded_schemas[i];
    }
    return NULL;
}

static const struct embedded_schema *schema_of(enum avro_record record)
{
    return schema_find(avro_maps[record].name);
}

static bool shape_check(const struct avro_map *map, const struct embedded_schema *schema,
                        struct buffer *shape, struct err *err)
{
    if (schema == NULL)
        return err_set(err, ERR_NOT_FOUND, FATE_FATAL, "avro: no schema is embedded for %s", map->name);
    buffer_clear(shape);
    if (!avro_map_shape(map, shape))
        return err_set(err, ERR_FULL, FATE_FATAL, "avro: the shape of %s does not fit", map->name);
    if (!sv_eq(buffer_view(shape), sv_of(schema->shape)))
        return err_set(err, ERR_INVALID, FATE_FATAL, "avro: the table of %s is not its schema's", map->name);
    return true;
}

bool avro_codec_open(struct err *err)
{
    struct buffer shape;
    buffer_init(&shape, SHAPE_BYTES);
    bool ok = true;
    for (unsigned i = 0; ok && i < AVRO_RECORD_COUNT; i++)
        ok = shape_check(&avro_maps[i], schema_of((enum avro_record)i), &shape, err);
    buffer_free(&shape);
    return ok;
}

const char *avro_codec_schema(enum avro_record record)
{
    return schema_of(record)->text;
}

uint64_t avro_codec_fingerprint(enum avro_record record)
{
    return schema_of(record)->fingerprint;
}

static bool full(const struct avro_map *map, struct err *err)
{
    return err_set(err, ERR_FULL, FATE_DEAD_LETTER, "%s: the record is too large", map->name);
}

static bool frame_put(enum avro_record record, struct buffer *out, struct err *err)
{
    uint64_t print = avro_codec_fingerprint(record);
    uint8_t frame[FRAME_BYTES] = {MAGIC_0, MAGIC_1};
    for (unsigned i = 0; i < FINGERPRINT_BYTES; i++)
        frame[FRAME_BYTES - FINGERPRINT_BYTES + i] = (uint8_t)(print >> (8 * i));
    return buffer_append(out, frame, sizeof frame) || full(&avro_maps[record], err);
}

/* ok: all was put behind start. */
static bool encoded(const struct avro_map *map, bool ok, size_t start, struct buffer *out, struct err *err)
{
    if (!ok)
        (void)err_wrap(err, "%s", map->name);
    else if (out->len - start > map->most_bytes)
        ok = err_set(err, ERR_FULL, FATE_DEAD_LETTER, "%s: %zu bytes, the most is %zu", map->name,
                     out->len - start, map->most_bytes);
    if (!ok)
        out->len = start;
    return ok;
}

static bool encode(enum avro_record record, const void *value, struct buffer *out, struct err *err)
{
    const struct avro_map *map = &avro_maps[record];
    size_t start = out->len;
    return frame_put(record, out, err) && encoded(map, avro_map_write(map, value, out, err), start, out, err);
}

/* The fields from `from` on, as a map of their own. */
static struct avro_map part_of(const struct avro_map *map, size_t from, size_t count)
{
    struct avro_map part = *map;
    part.fields += from;
    part.count = count;
    return part;
}

bool avro_encode_spend_call_again(const struct spend_call *v, struct strview *tags, struct buffer *out,
                                  struct err *err)
{
    const struct avro_map *map = &avro_maps[AVRO_SPEND_CALL];
    size_t at = 0;
    while (map->fields[at].at != offsetof(struct spend_call, tags))
        at++;
    struct avro_map before = part_of(map, 0, at);
    struct avro_map field = part_of(map, at, 1);
    struct avro_map after = part_of(map, at + 1, map->count - at - 1);
    size_t start = out->len;
    if (!frame_put(AVRO_SPEND_CALL, out, err))
        return false;
    bool ok = avro_map_write(&before, v, out, err);
    size_t begin = out->len;
    if (ok && sv_is_null(*tags))
        ok = avro_map_write(&field, v, out, err);
    else
        ok = ok && (buffer_append_sv(out, *tags) || full(map, err));
    size_t end = out->len;
    ok = encoded(map, ok && avro_map_write(&after, v, out, err), start, out, err);
    if (ok && sv_is_null(*tags))
        *tags = (struct strview){out->data + begin, end - begin};
    return ok;
}

/* What records of earlier generations begin with. */
static const struct {
    enum avro_record record;
    unsigned generation;
    uint64_t print;
} earlier[] = {
    {AVRO_SPEND_CALL, 0, 0x0c59d1e53223d735ULL},
    {AVRO_ATTRIBUTED_CALL, 0, 0x1598206ea94dce16ULL},
    {AVRO_DEAD_LETTER, 0, 0xfbf2c8b6afbcb9b7ULL},
};

static bool generation_of(enum avro_record record, uint64_t print, unsigned *generation)
{
    *generation = AVRO_GENERATION;
    for (size_t i = 0; i < sizeof earlier / sizeof earlier[0]; i++) {
        if (earlier[i].record == record && earlier[i].print == print) {
            *generation = earlier[i].generation;
            return true;
        }
    }
    return print == avro_codec_fingerprint(record);
}

static bool unknown_print(const struct avro_map *map, uint64_t print, struct err *err)
{
    for (unsigned i = 0; i < AVRO_RECORD_COUNT; i++) {
        if (avro_codec_fingerprint((enum avro_record)i) == print)
            return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "%s: the bytes are of %s", map->name,
                           avro_maps[i].name);
    }
    return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "%s: unknown schema fingerprint %016llx", map->name,
                   (unsigned long long)print);
}

/* What follows the frame of this very record. */
static bool body_of(enum avro_record record, struct strview bytes, unsigned *generation, struct strview *body,
                    struct err *err)
{
    const struct avro_map *map = &avro_maps[record];
    if (bytes.len > map->most_bytes)
        return err_set(err, ERR_FULL, FATE_DEAD_LETTER, "%s: %zu bytes, the most is %zu", map->name,
                       bytes.len, map->most_bytes);
    if (bytes.len < FRAME_BYTES)
        return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "%s: %zu bytes are no record", map->name,
                       bytes.len);
    if ((uint8_t)bytes.ptr[0] != MAGIC_0 || (uint8_t)bytes.ptr[1] != MAGIC_1)
        return err_set(err, ERR_INVALID, FATE_DEAD_LETTER,
                       "%s: no single-object encoding (it begins with C3 01)", map->name);
    uint64_t print = 0;
    for (unsigned i = 0; i < FINGERPRINT_BYTES; i++)
        print |= (uint64_t)(uint8_t)bytes.ptr[FRAME_BYTES - FINGERPRINT_BYTES + i] << (8 * i);
    if (!generation_of(record, print, generation))
        return unknown_print(map, print, err);
    *body = (struct strview){bytes.ptr + FRAME_BYTES, bytes.len - FRAME_BYTES};
    return true;
}

static bool decode(enum avro_record record, struct strview bytes, struct arena *a, void *out, struct err *err)
{
    const struct avro_map *map = &avro_maps[record];
    struct strview body = SV_NULL;
    struct strview copy = SV_NULL;
    unsigned generation = AVRO_GENERATION;
    if (!body_of(record, bytes, &generation, &body, err))
        return false;
    /* One copy of all: the record's texts are views of it. */
    if (!arena_dup(a, body, &copy))
        return err_set(err, ERR_FULL, FATE_DEAD_LETTER, "%s: no room for %zu bytes", map->name, body.len);
    return avro_map_read(map, generation, copy, a, out, err) || err_wrap(err, "%s", map->name);
}

#define ENCODE(name, record)                                                                                 \
    bool avro_encode_##name(const struct name *v, struct buffer *out, struct err *err)                       \
    {                                                                                                        \
        return encode(record, v, out, err);                                                                  \
    }
#define DECODE(name, record)                                                                                 \
    bool avro_decode_##name(struct strview bytes, struct arena *a, struct name *out, struct err *err)        \
    {                                                                                                        \
        return decode(record, bytes, a, out, err);                                                           \
    }
ENCODE(spend_call, AVRO_SPEND_CALL)
ENCODE(attributed_call, AVRO_ATTRIBUTED_CALL)
ENCODE(dead_letter, AVRO_DEAD_LETTER)
ENCODE(ledger_entry, AVRO_LEDGER_ENTRY)
ENCODE(registry_record, AVRO_REGISTRY_RECORD)
ENCODE(price_book, AVRO_PRICE_BOOK)
ENCODE(instance, AVRO_INSTANCE)
ENCODE(budget_state, AVRO_BUDGET_STATE)
DECODE(spend_call, AVRO_SPEND_CALL)
DECODE(attributed_call, AVRO_ATTRIBUTED_CALL)
DECODE(dead_letter, AVRO_DEAD_LETTER)
DECODE(ledger_entry, AVRO_LEDGER_ENTRY)
DECODE(registry_record, AVRO_REGISTRY_RECORD)
DECODE(instance, AVRO_INSTANCE)
DECODE(budget_state, AVRO_BUDGET_STATE)

/* Look-ups in a book are binary searches: an order that is wrong would look like a missing price. */
static bool is_sorted(const struct price_book *b)
{
    for (size_t i = 0; i < b->entry_count; i++) {
        const struct price_entry *e = &b->entries[i];
        if (i > 0 && sv_cmp(b->entries[i - 1].key, e->key) >= 0)
            return false;
        for (size_t k = 1; k < e->rate_count; k++) {
            if (sv_cmp(e->rates[k - 1].name, e->rates[k].name) >= 0)
                return false;
        }
    }
    return true;
}

bool avro_decode_price_book(struct strview bytes, struct price_book **out, struct err *err)
{
    struct price_book read = {0};
    struct arena arena;
    struct price_book *book = calloc(1, sizeof *book);
    if (book == NULL)
        return err_set(err, ERR_MEMORY, FATE_RETRY, "PriceBook: out of memory");
    arena_init(&arena, BOOK_ARENA_BYTES);
    bool ok = decode(AVRO_PRICE_BOOK, bytes, &arena, &read, err);
    if (ok && !is_sorted(&read))
        ok = err_set(err, ERR_INVALID, FATE_DEAD_LETTER,
                     "PriceBook: entries and rates are not in the order of their names");
    if (ok) {
        *book = read;
        book->arena = arena;
        *out = book;
        return true;
    }
    arena_free(&arena);
    free(book);
    return false;
}
