/*
 * callback: a byte for the rules, a body of LiteLLM's. Whatever a payload says, what is recorded of it is a
 * record that an honest one could be; nobody without the secret tells a call id of ours; by default nothing
 * is accepted.
 */
#include "fuzz.h"

#include "ingest/litellm_source.h"
#include "ingest/upstream_request.h"
#include "spend/avro_codec.h"

#define NOW        1795000000000000LL
#define ITEMS      16
#define ARENA_ROOM ((size_t)1 << 20)
#define SECRET     "s3cret"

static bool tells_of_us(struct strview body, const struct uuid *call_id)
{
    char signature[SPEND_CALL_ID_LEN + 1];
    upstream_request_sign(call_id, SV_LIT(SECRET), signature);
    return body.len > SPEND_CALL_ID_LEN && memmem(body.ptr, body.len, signature + UUID_TEXT_LEN, 33) != NULL;
}

static void item_check(const struct foreign_item *item, const struct litellm_rules *rules,
                       struct strview body)
{
    const struct spend_call *call = &item->call;
    struct buffer record;
    struct err err = {0};
    assert(item->status < FOREIGN_STATUSES && item->status != FOREIGN_DUPLICATE);
    assert((item->status == FOREIGN_INVALID) == (item->why[0] != '\0'));
    if (item->status == FOREIGN_INVALID)
        return;
    assert(rules->bill || item->status != FOREIGN_ACCEPTED);
    assert((item->status == FOREIGN_CONFLICT) == !sv_is_null(call->dispute));
    assert(!(item->matched && item->status == FOREIGN_CONFLICT));
    assert(!item->matched || (!sv_is_null(rules->secret) && tells_of_us(body, &call->call_id)));
    assert(call->source == SOURCE_PROXY_LOG && !sv_is_empty(item->id));
    assert(call->admitted_at <= NOW || item->matched);
    assert(call->outcome == OUTCOME_COMPLETED || usage_is_empty(&call->usage));
    buffer_init(&record, LIMIT_CALL_BYTES);
    assert(spend_call_check(call, &err) && avro_encode_spend_call(call, &record, &err));
    buffer_free(&record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct strview in = {(const char *)data, size};
    struct arena arena;
    struct litellm_reader r;
    struct http_refusal why;
    struct foreign_item item;
    struct err err;
    unsigned flags = fuzz_byte(&in);
    struct litellm_rules rules = {(flags & 1) != 0 ? SV_LIT(SECRET) : SV_NULL, (flags & 2) != 0, ITEMS};
    char *copy = fuzz_copy(in);
    struct strview body = {copy, in.len};
    assert(avro_codec_open(&err));
    arena_init(&arena, ARENA_ROOM);
    size_t count = 0;
    if (litellm_open(&r, &rules, body, &why)) {
        for (; litellm_next(&r, NOW, &arena, &item); count++) {
            item_check(&item, &rules, body);
            arena_reset(&arena);
        }
        assert(count <= ITEMS);
    }
    arena_free(&arena);
    free(copy);
    return 0;
}
