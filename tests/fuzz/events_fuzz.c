/*
 * events: a byte for the mode, header lines up to a line "%%", a body. An event that is accepted is a record
 * that an honest one could be, under the id that its source and id make; one that is not says why.
 */
#include "fuzz.h"

#include "ingest/events_api.h"
#include "spend/avro_codec.h"

#define NOW        1795000000000000LL
#define ITEMS      16
#define ARENA_ROOM ((size_t)1 << 20)

static void item_check(const struct foreign_item *item)
{
    const struct spend_call *call = &item->call;
    struct uuid due;
    struct buffer record;
    struct err err = {0};
    assert(item->status == FOREIGN_ACCEPTED || item->status == FOREIGN_INVALID);
    assert((item->status == FOREIGN_INVALID) == (item->why[0] != '\0'));
    if (item->status == FOREIGN_INVALID)
        return;
    due = uuid_v8_of(call->upstream, call->source_id);
    assert(uuid_cmp(&due, &call->call_id) == 0);
    assert(sv_eq(item->id, call->source_id) && !sv_is_empty(item->id));
    assert(call->source == SOURCE_EVENTS_API && call->admitted_at <= NOW + 60000000);
    assert(call->operation < OPERATION_BATCH && !sv_is_empty(call->model_requested));
    assert(call->quality == QUALITY_FINAL || usage_is_empty(&call->usage));
    assert(sv_is_null(call->dispute) && !item->matched);
    buffer_init(&record, LIMIT_CALL_BYTES);
    assert(spend_call_check(call, &err) && avro_encode_spend_call(call, &record, &err));
    buffer_free(&record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {"application/cloudevents+json", "application/cloudevents-batch+json",
                                        "application/json"};
    static struct http_headers headers;
    struct strview in = {(const char *)data, size};
    struct arena arena;
    struct events_reader r;
    struct http_refusal why;
    struct foreign_item item;
    struct err err;
    enum err_code code;
    unsigned mode = fuzz_byte(&in) % 3;
    struct strview lines = fuzz_part(&in);
    char head[8192];
    char *body = fuzz_copy(in);
    int len = snprintf(head, sizeof head, "Content-Type: %s\r\n%.*s", types[mode], (int)(lines.len % 4096),
                       lines.ptr);
    assert(avro_codec_open(&err));
    arena_init(&arena, ARENA_ROOM);
    size_t count = 0;
    if (http_headers_parse((struct strview){head, (size_t)len}, &headers, &code) == NULL &&
        events_open(&r, &headers, (struct strview){body, in.len}, ITEMS, &why)) {
        for (; events_next(&r, NOW, &arena, &item); count++) {
            item_check(&item);
            arena_reset(&arena);
        }
        assert(count <= ITEMS && (r.is_batch || count == 1));
    }
    arena_free(&arena);
    free(body);
    return 0;
}
