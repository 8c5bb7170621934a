/*
 * avro: a byte for the kind of record, and the body of one. What decodes can be written, and what was written
 * decodes to the same bytes again; nothing else is read than the bytes.
 */
#include "fuzz.h"

#include "spend/avro_codec.h"

#define ARENA_ROOM ((size_t)4 << 20)

union record {
    struct spend_call call;
    struct attributed_call attributed;
    struct dead_letter dead;
    struct ledger_entry entry;
    struct registry_record registry;
    struct instance instance;
    struct budget_state budget;
    struct price_book *book;
};

static bool decode(enum avro_record kind, struct strview in, struct arena *a, union record *out,
                   struct err *err)
{
    switch (kind) {
    case AVRO_SPEND_CALL:
        return avro_decode_spend_call(in, a, &out->call, err);
    case AVRO_ATTRIBUTED_CALL:
        return avro_decode_attributed_call(in, a, &out->attributed, err);
    case AVRO_DEAD_LETTER:
        return avro_decode_dead_letter(in, a, &out->dead, err);
    case AVRO_LEDGER_ENTRY:
        return avro_decode_ledger_entry(in, a, &out->entry, err);
    case AVRO_REGISTRY_RECORD:
        return avro_decode_registry_record(in, a, &out->registry, err);
    case AVRO_PRICE_BOOK:
        return avro_decode_price_book(in, &out->book, err);
    case AVRO_INSTANCE:
        return avro_decode_instance(in, a, &out->instance, err);
    case AVRO_BUDGET_STATE:
        return avro_decode_budget_state(in, a, &out->budget, err);
    case AVRO_RECORD_COUNT:
        break;
    }
    return false;
}

static bool encode(enum avro_record kind, const union record *v, struct buffer *out, struct err *err)
{
    switch (kind) {
    case AVRO_SPEND_CALL:
        return avro_encode_spend_call(&v->call, out, err);
    case AVRO_ATTRIBUTED_CALL:
        return avro_encode_attributed_call(&v->attributed, out, err);
    case AVRO_DEAD_LETTER:
        return avro_encode_dead_letter(&v->dead, out, err);
    case AVRO_LEDGER_ENTRY:
        return avro_encode_ledger_entry(&v->entry, out, err);
    case AVRO_REGISTRY_RECORD:
        return avro_encode_registry_record(&v->registry, out, err);
    case AVRO_PRICE_BOOK:
        return avro_encode_price_book(v->book, out, err);
    case AVRO_INSTANCE:
        return avro_encode_instance(&v->instance, out, err);
    case AVRO_BUDGET_STATE:
        return avro_encode_budget_state(&v->budget, out, err);
    case AVRO_RECORD_COUNT:
        break;
    }
    return false;
}

static void record_free(enum avro_record kind, const union record *v)
{
    if (kind == AVRO_PRICE_BOOK)
        price_book_free(v->book);
}

/* in -> record -> out; false: it is no record. */
static bool again(enum avro_record kind, struct strview in, struct buffer *out)
{
    union record record;
    struct arena a;
    struct err err = {0};
    arena_init(&a, ARENA_ROOM);
    bool ok = decode(kind, in, &a, &record, &err);
    assert(ok || err.fate == FATE_DEAD_LETTER);
    if (ok) {
        if (!encode(kind, &record, out, &err))
            fuzz_fail(err.text);
        record_free(kind, &record);
    }
    arena_free(&a);
    return ok;
}

/* A kind that came later has the last bytes to itself, so that the corpus stays what it is. */
static enum avro_record kind_of(unsigned byte)
{
    return byte >= 0xf8 ? AVRO_BUDGET_STATE : (enum avro_record)(byte % AVRO_BUDGET_STATE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct strview in = {(const char *)data, size};
    enum avro_record kind = kind_of(fuzz_byte(&in));
    struct buffer one;
    struct buffer two;
    size_t len = 10 + in.len;
    char *framed = malloc(len);
    uint64_t fingerprint = avro_codec_fingerprint(kind);
    framed[0] = (char)0xc3;
    framed[1] = 0x01;
    memcpy(framed + 2, &fingerprint, sizeof fingerprint);
    if (in.len > 0)
        memcpy(framed + 10, in.ptr, in.len);
    buffer_init(&one, LIMIT_PRICE_BOOK_BYTES);
    buffer_init(&two, LIMIT_PRICE_BOOK_BYTES);
    if (again(kind, (struct strview){framed, len}, &one)) {
        assert(again(kind, buffer_view(&one), &two));
        assert(sv_eq(buffer_view(&one), buffer_view(&two)));
    }
    (void)again(kind, (struct strview){framed + 10, in.len}, &two); /* the frame is the caller's, too */
    buffer_free(&one);
    buffer_free(&two);
    free(framed);
    return 0;
}
