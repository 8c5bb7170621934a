/*
 * The codec as its callers see it: every record with nothing, everything and extremes set, there and back,
 * and read once more by avro-c as a second opinion (only ever given what we wrote: it trusts lengths). Then
 * damage of every kind.
 */
#include <avro.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "spend/avro_codec.h"

#define MOST_TAGS ((size_t)2 * LIMIT_TAGS)
#define FRAME     10
#define ARENA_CAP (4 << 20)
#define ROOM      (16 << 20)
#define TEXT_OF(s)                                                                                           \
    {                                                                                                        \
        (s), sizeof(s) - 1                                                                                   \
    } /* SV_LIT is no constant initializer */

enum fill { FILL_NOTHING, FILL_ALL, FILL_EXTREMES, FILL_COUNT };

union any {
    struct spend_call call;
    struct attributed_call attributed;
    struct dead_letter dead;
    struct ledger_entry entry;
    struct registry_record registry;
    struct price_book book;
    struct instance instance;
    struct budget_state budget;
};

static int64_t number(enum fill fill, int64_t usual)
{
    return fill == FILL_EXTREMES ? (usual % 2 == 0 ? INT64_MIN : INT64_MAX) : usual;
}

static struct opt_i64 maybe(enum fill fill, int64_t usual)
{
    return fill == FILL_NOTHING ? (struct opt_i64){0} : OPT_I64(number(fill, usual));
}

static struct opt_i64 maybe_int(enum fill fill, int usual)
{
    if (fill == FILL_EXTREMES)
        return OPT_I64(usual % 2 == 0 ? INT32_MIN : INT32_MAX);
    return fill == FILL_NOTHING ? (struct opt_i64){0} : OPT_I64(usual);
}

static struct strview text(enum fill fill, const char *usual)
{
    return fill == FILL_EXTREMES ? sv_of("") : sv_of(usual);
}

static struct strview maybe_text(enum fill fill, const char *usual)
{
    return fill == FILL_NOTHING ? SV_NULL : text(fill, usual);
}

static struct uuid id_of(unsigned char byte)
{
    struct uuid id;
    memset(id.byte, byte, sizeof id.byte);
    return id;
}

static struct tag tags[MOST_TAGS];

static void call_fill(struct spend_call *v, enum fill fill)
{
    for (size_t i = 0; i < MOST_TAGS; i++)
        tags[i] = (struct tag){.raw = SV_LIT("\xc3\xa9=1"),
                               .key = SV_LIT("\xc3\xa9"),
                               .value = SV_LIT("1"),
                               .origins = 1U << i % TAG_ORIGIN_COUNT};
    tags[1] = (struct tag){.raw = SV_LIT("bare"), .origins = (1U << TAG_ORIGIN_COUNT) - 1};
    static const size_t tag_counts[FILL_COUNT] = {0, 2, MOST_TAGS};
    *v = (struct spend_call){
        .call_id = id_of(fill == FILL_NOTHING ? 0 : 0xa5),
        .source = fill == FILL_NOTHING ? SOURCE_PROXY_LOG : SOURCE_GATEWAY,
        .source_id = maybe_text(fill, "source-id"),
        .instance = maybe_text(fill, "0193-instance"),
        .boot = maybe(fill, 3),
        .seq = maybe(fill, 44),
        .admitted_at = number(fill, 1700000000000001),
        .received_at = number(fill, 1700000000000002),
        .finished_at = maybe(fill, 1700000000000003),
        .operation = fill == FILL_NOTHING ? OPERATION_CHAT : OPERATION_OTHER,
        .path = text(fill, "/v1/chat/completions"),
        .upstream = text(fill, "127.0.0.1:4000"),
        .model_requested = maybe_text(fill, "gpt-4o"),
        .model_replied = maybe_text(fill, "gpt-4o-2024"),
        .provider = maybe_text(fill, "openai"),
        .service_tier = maybe_text(fill, "flex"),
        .stream = fill != FILL_NOTHING,
        .tags = tags,
        .tag_count = tag_counts[fill],
        .tags_truncated = fill != FILL_NOTHING,
        .body_unparsed = fill == FILL_EXTREMES,
        .key_hash = maybe_text(fill, "00ff"),
        .user_agent = maybe_text(fill, "curl/7"),
        .gate = fill == FILL_NOTHING ? GATE_OFF : GATE_FORCED,
        .upstream_call_id = maybe_text(fill, "up-1"),
        .upstream_status = maybe_int(fill, 200),
        .upstream_retries = maybe_int(fill, 1),
        .upstream_fallbacks = maybe_int(fill, 2),
        .outcome = fill == FILL_NOTHING ? OUTCOME_REJECTED : OUTCOME_COMPLETED,
        .provider_usage = maybe_text(fill, "{\"prompt_tokens\":1}"),
        .quality = fill == FILL_NOTHING ? QUALITY_UNKNOWN : QUALITY_FINAL,
        .reported_cost_nanos = maybe(fill, 12345),
        .ttfb_us = maybe(fill, 6),
        .duration_us = maybe(fill, 7),
        .request_bytes = number(fill, 8),
        .reply_bytes = number(fill, 9),
        .dispute = maybe_text(fill, "not ours"),
        .variant = maybe_text(fill, "hd/1024-x-1792"),
    };
    for (int i = 0; i < USAGE_COUNT; i++)
        v->usage.units[i] = maybe(fill, 100 + i);
}

static void redrive_fill(struct redrive *v, enum fill fill)
{
    *v = (struct redrive){0};
    if (fill != FILL_NOTHING)
        *v = (struct redrive){
            .has = true, .id = id_of(7), .at = number(fill, 77), .set = maybe_text(fill, "account_id=b")};
}

static struct record_origin origin_of(enum fill fill)
{
    return (struct record_origin){text(fill, "spend.calls"), fill == FILL_EXTREMES ? INT32_MAX : 3,
                                  number(fill, 1001)};
}

static void attributed_fill(struct attributed_call *v, enum fill fill)
{
    *v = (struct attributed_call){
        .origin = origin_of(fill),
        .account_id = text(fill, "acme"),
        .task_id = maybe_text(fill, "task-1"),
        .conversation_id = maybe_text(fill, "conv-1"),
        .user = maybe_text(fill, "user-1"),
        .team = maybe_text(fill, "team-1"),
        .route = fill == FILL_NOTHING ? ROUTE_TAG : ROUTE_REDRIVE,
        .raw_nanos = maybe(fill, 999),
        .rating = fill == FILL_NOTHING ? RATING_EXACT : RATING_FREE,
        .price_version = maybe(fill, 2),
        .price_key = maybe_text(fill, "openai/gpt-4o"),
        .rater_version = fill == FILL_EXTREMES ? INT32_MIN : 1,
        .config_watermark = number(fill, 1700000000000004),
    };
    call_fill(&v->call, fill);
    redrive_fill(&v->redrive, fill);
    memset(v->hash, fill == FILL_NOTHING ? 0 : 0x5a, sizeof v->hash);
}

static void dead_fill(struct dead_letter *v, enum fill fill)
{
    *v = (struct dead_letter){
        .kind = fill == FILL_NOTHING ? DEAD_KIND_CALL : DEAD_KIND_NOTICE,
        .reason = text(fill, "untagged"),
        .detail = text(fill, "no tag names an account"),
        .has_call_id = fill != FILL_NOTHING,
        .original = fill == FILL_NOTHING ? sv_of("") : SV_LIT("\0\xff\x01raw"),
        .origin = origin_of(fill),
        .first_seen = number(fill, 1700000000000005),
        .attempts = fill == FILL_EXTREMES ? INT32_MAX : 1,
        .has_call = fill != FILL_NOTHING,
        .has_hash = fill != FILL_NOTHING,
        .raw_nanos = maybe(fill, 31),
        .estimated = fill != FILL_NOTHING,
        .price_version = maybe(fill, 5),
        .rater_version = maybe_int(fill, 1),
    };
    if (fill == FILL_NOTHING)
        return;
    v->call_id = id_of(0xa5);
    call_fill(&v->call, fill);
    redrive_fill(&v->redrive, fill);
    memset(v->hash, 0x5b, sizeof v->hash);
}

static void entry_fill(struct ledger_entry *v, enum fill fill)
{
    *v = (struct ledger_entry){
        .account_id = text(fill, "acme"),
        .account_seq = number(fill, 17),
        .kind = fill == FILL_NOTHING ? ENTRY_DEDUCTION : ENTRY_OPENING,
        .amount_nanos = number(fill, -500),
        .balance_after_nanos = number(fill, 9500),
        .has_call_id = fill != FILL_NOTHING,
        .external_id = maybe_text(fill, "invoice-1"),
        .task_id = maybe_text(fill, "task-1"),
        .conversation_id = maybe_text(fill, "conv-1"),
        .model = maybe_text(fill, "gpt-4o"),
        .raw_nanos = maybe(fill, 400),
        .markup_ppm = maybe(fill, 1250000),
        .price_version = maybe(fill, 2),
        .revision = fill == FILL_EXTREMES ? INT32_MIN : 0,
        .admitted_at = maybe(fill, 1700000000000006),
        .posted_at = number(fill, 1700000000000007),
        .cause = fill == FILL_NOTHING ? CAUSE_CALL : CAUSE_CREDIT,
    };
    if (v->has_call_id)
        v->call_id = id_of(0xa6);
}

static struct registry_version versions[LIMIT_REGISTRY_VERSIONS];
static struct strview words[LIMIT_TAGS];

static void registry_fill(struct registry_record *v, enum fill fill)
{
    for (size_t i = 0; i < LIMIT_TAGS; i++)
        words[i] = sv_of(i % 2 == 0 ? "tag=a" : "");
    for (size_t i = 0; i < LIMIT_REGISTRY_VERSIONS; i++) {
        versions[i] = (struct registry_version){
            .effective_from = number(fill, (int64_t)i),
            .recorded_at = number(fill, 1000 + (int64_t)i),
            .account_id = maybe_text(fill, "acme"),
            .tier = maybe_text(fill, "gold"),
            .markup_ppm = maybe(fill, 1100000),
            .user = maybe_text(fill, "u"),
            .team = maybe_text(fill, "t"),
            .tags = words,
            .tag_count = fill == FILL_EXTREMES ? LIMIT_TAGS
                         : fill == FILL_ALL    ? 2
                                               : 0,
            .tag_policy = {.has = fill != FILL_NOTHING,
                           .trust = TRUST_LIST,
                           .require = words,
                           .require_count = 1,
                           .accounts = words,
                           .account_count = 2},
            .price_key = maybe_text(fill, "p"),
            .conversation_id = maybe_text(fill, "c"),
        };
        if (fill == FILL_NOTHING)
            versions[i].tag_policy = (struct tag_policy){0};
    }
    static const size_t version_counts[FILL_COUNT] = {0, 2, LIMIT_REGISTRY_VERSIONS};
    *v = (struct registry_record){
        .kind = fill == FILL_NOTHING ? REGISTRY_ACCOUNT : REGISTRY_HEARTBEAT,
        .id = text(fill, "acme"),
        .versions = versions,
        .version_count = version_counts[fill],
        .watermark = maybe(fill, 1700000000000008),
        .price_version = maybe(fill, 3),
    };
}

static void book_fill(struct price_book *v, enum fill fill)
{
    static struct price_rate rates[] = {{TEXT_OF("input_cost_per_token"), 2500000},
                                        {TEXT_OF("output_cost_per_token"), INT64_MAX},
                                        {TEXT_OF("z"), 0}};
    static struct price_entry entries[] = {
        {.key = TEXT_OF("")},
        {.key = TEXT_OF("gpt-4o"),
         .provider = TEXT_OF("openai"),
         .mode = TEXT_OF("chat"),
         .rates = rates,
         .rate_count = 3},
        {.key = TEXT_OF("gpt-4o-mini"), .rates = rates, .rate_count = 1},
    };
    *v = (struct price_book){
        .version = number(fill, 1),
        .effective_from = number(fill, 0),
        .recorded_at = number(fill, 1700000000000009),
        .source = text(fill, "litellm"),
        .sha256 = text(fill, "ab12"),
        .entries = entries,
        .entry_count = fill == FILL_NOTHING ? 0 : 3,
    };
}

static void instance_fill(struct instance *v, enum fill fill)
{
    *v = (struct instance){text(fill, "0193-instance"),
                           number(fill, 1),
                           number(fill, 20),
                           number(fill, 19),
                           fill != FILL_NOTHING,
                           number(fill, 1700000000000010)};
}

static void budget_fill(struct budget_state *v, enum fill fill)
{
    *v = (struct budget_state){
        .budget_id = text(fill, "acme-daily"),
        .scope = fill == FILL_NOTHING ? SCOPE_KEY : SCOPE_MODEL,
        .value = text(fill, "gpt-4o"),
        .revision = fill == FILL_EXTREMES ? INT32_MAX : 2,
        .window_start = number(fill, 1700000000000011),
        .window_end = maybe(fill, 1700000000000012),
        .n = number(fill, 13),
        .limit_nanos = maybe(fill, 14),
        .measure = fill == FILL_NOTHING ? MEASURE_RAW : MEASURE_BILLED,
        .mode = fill == FILL_NOTHING ? MODE_HARD : MODE_SHADOW,
        .spent_nanos = number(fill, 15),
        .held_nanos = number(fill, 16),
        .threshold_crossed = maybe_int(fill, 80),
    };
}

static void any_fill(enum avro_record record, union any *v, enum fill fill)
{
    switch (record) {
    case AVRO_SPEND_CALL:
        call_fill(&v->call, fill);
        break;
    case AVRO_ATTRIBUTED_CALL:
        attributed_fill(&v->attributed, fill);
        break;
    case AVRO_DEAD_LETTER:
        dead_fill(&v->dead, fill);
        break;
    case AVRO_LEDGER_ENTRY:
        entry_fill(&v->entry, fill);
        break;
    case AVRO_REGISTRY_RECORD:
        registry_fill(&v->registry, fill);
        break;
    case AVRO_PRICE_BOOK:
        book_fill(&v->book, fill);
        break;
    case AVRO_INSTANCE:
        instance_fill(&v->instance, fill);
        break;
    case AVRO_BUDGET_STATE:
        budget_fill(&v->budget, fill);
        break;
    case AVRO_RECORD_COUNT:
        fail();
    }
}

static bool any_encode(enum avro_record record, const union any *v, struct buffer *out, struct err *err)
{
    switch (record) {
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
        return avro_encode_price_book(&v->book, out, err);
    case AVRO_INSTANCE:
        return avro_encode_instance(&v->instance, out, err);
    case AVRO_BUDGET_STATE:
        return avro_encode_budget_state(&v->budget, out, err);
    case AVRO_RECORD_COUNT:
        break;
    }
    return false;
}

/* A book's memory is in v->book.arena, everything else's in *a. */
static bool any_decode(enum avro_record record, struct strview bytes, struct arena *a, union any *v,
                       struct err *err)
{
    struct price_book *book = NULL;
    switch (record) {
    case AVRO_SPEND_CALL:
        return avro_decode_spend_call(bytes, a, &v->call, err);
    case AVRO_ATTRIBUTED_CALL:
        return avro_decode_attributed_call(bytes, a, &v->attributed, err);
    case AVRO_DEAD_LETTER:
        return avro_decode_dead_letter(bytes, a, &v->dead, err);
    case AVRO_LEDGER_ENTRY:
        return avro_decode_ledger_entry(bytes, a, &v->entry, err);
    case AVRO_REGISTRY_RECORD:
        return avro_decode_registry_record(bytes, a, &v->registry, err);
    case AVRO_PRICE_BOOK:
        if (!avro_decode_price_book(bytes, &book, err))
            return false;
        v->book = *book;
        free(book); /* the shell: the arena went along */
        return true;
    case AVRO_INSTANCE:
        return avro_decode_instance(bytes, a, &v->instance, err);
    case AVRO_BUDGET_STATE:
        return avro_decode_budget_state(bytes, a, &v->budget, err);
    case AVRO_RECORD_COUNT:
        break;
    }
    return false;
}

static void any_done(enum avro_record record, struct arena *a, union any *v)
{
    arena_reset(a);
    if (record == AVRO_PRICE_BOOK)
        arena_free(&v->book.arena);
}

static struct buffer encoded(enum avro_record record, enum fill fill)
{
    struct err err;
    struct buffer out;
    union any v;
    buffer_init(&out, ROOM);
    any_fill(record, &v, fill);
    if (!any_encode(record, &v, &out, &err))
        fail_msg("%s", err.text);
    return out;
}

static void test_the_tables_fit_the_schemas(void **state)
{
    (void)state;
    struct err err;
    if (!avro_codec_open(&err))
        fail_msg("%s", err.text);
    for (unsigned i = 0; i < AVRO_RECORD_COUNT; i++) {
        assert_non_null(strstr(avro_codec_schema((enum avro_record)i), "\"record\""));
        for (unsigned k = 0; k < i; k++)
            assert_true(avro_codec_fingerprint((enum avro_record)i) !=
                        avro_codec_fingerprint((enum avro_record)k));
    }
}

static void test_every_record_comes_back_as_it_went(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, ARENA_CAP);
    for (unsigned r = 0; r < AVRO_RECORD_COUNT; r++) {
        for (unsigned fill = 0; fill < FILL_COUNT; fill++) {
            struct err err;
            union any v;
            struct buffer first = encoded((enum avro_record)r, (enum fill)fill);
            struct buffer second;
            buffer_init(&second, ROOM);
            if (!any_decode((enum avro_record)r, buffer_view(&first), &a, &v, &err))
                fail_msg("record %u, fill %u: %s", r, fill, err.text);
            if (!any_encode((enum avro_record)r, &v, &second, &err))
                fail_msg("record %u, fill %u: %s", r, fill, err.text);
            assert_true(sv_eq(buffer_view(&first), buffer_view(&second)));
            any_done((enum avro_record)r, &a, &v);
            buffer_free(&first);
            buffer_free(&second);
        }
    }
    arena_free(&a);
}

/* The tags of the first encoding, the rest as it is now: the bytes are those of the whole. */
static void test_a_call_is_written_again_with_its_tags_bytes(void **state)
{
    (void)state;
    for (unsigned fill = 0; fill < FILL_COUNT; fill++) {
        union any v;
        struct strview bytes = SV_NULL;
        struct err err = {0};
        struct buffer first;
        struct buffer again;
        struct buffer want;
        buffer_init(&first, ROOM);
        buffer_init(&again, ROOM);
        buffer_init(&want, ROOM);
        any_fill(AVRO_SPEND_CALL, &v, (enum fill)fill);
        assert_true(avro_encode_spend_call_again(&v.call, &bytes, &first, &err));
        assert_false(sv_is_null(bytes));
        v.call.reply_bytes = 4711;
        v.call.finished_at = OPT_I64(1795421625000000);
        v.call.model_replied = SV_LIT("another");
        v.call.provider_usage = SV_NULL;
        assert_true(avro_encode_spend_call(&v.call, &want, &err));
        assert_true(avro_encode_spend_call_again(&v.call, &bytes, &again, &err));
        assert_true(sv_eq(buffer_view(&again), buffer_view(&want)));
        assert_false(sv_eq(buffer_view(&again), buffer_view(&first)));
        struct buffer small;
        buffer_init(&small, want.len - 1);
        assert_false(avro_encode_spend_call_again(&v.call, &bytes, &small, &err));
        assert_int_equal(small.len, 0);
        buffer_free(&small);
        buffer_free(&first);
        buffer_free(&again);
        buffer_free(&want);
    }
}

static void test_what_was_set_is_where_it_was_set(void **state)
{
    (void)state;
    struct err err;
    struct arena a;
    struct dead_letter in;
    struct dead_letter out;
    arena_init(&a, ARENA_CAP);
    dead_fill(&in, FILL_ALL);
    struct buffer bytes = encoded(AVRO_DEAD_LETTER, FILL_ALL);
    assert_true(avro_decode_dead_letter(buffer_view(&bytes), &a, &out, &err));
    assert_int_equal(out.kind, DEAD_KIND_NOTICE);
    assert_true(sv_eq(out.original, in.original));
    assert_true(out.has_call_id && uuid_cmp(&out.call_id, &in.call_id) == 0);
    assert_true(out.has_hash && memcmp(out.hash, in.hash, sizeof out.hash) == 0);
    assert_int_equal(out.origin.partition, 3);
    assert_true(out.rater_version.has && out.rater_version.v == 1);
    assert_true(out.redrive.has && sv_eq(out.redrive.set, sv_of("account_id=b")));
    assert_true(out.has_call);
    assert_int_equal(out.call.tag_count, 2);
    assert_true(sv_eq(out.call.tags[0].key, sv_of("\xc3\xa9")));
    assert_int_equal(out.call.tags[0].origins, TAG_ORIGIN_HEADER);
    assert_true(sv_is_null(out.call.tags[1].key));
    assert_int_equal(out.call.tags[1].origins, 0x7f);
    assert_int_equal(out.call.usage.units[USAGE_REQUESTS].v, 100 + USAGE_REQUESTS);
    assert_int_equal(out.call.upstream_status.v, 200);
    assert_int_equal(out.call.operation, OPERATION_OTHER);
    assert_int_equal(out.call.gate, GATE_FORCED);
    buffer_free(&bytes);
    bytes = encoded(AVRO_DEAD_LETTER, FILL_NOTHING);
    assert_true(avro_decode_dead_letter(buffer_view(&bytes), &a, &out, &err));
    assert_false(out.has_call || out.has_hash || out.has_call_id || out.redrive.has || out.raw_nanos.has);
    assert_true(!sv_is_null(out.original) && out.original.len == 0);
    buffer_free(&bytes);
    arena_free(&a);
}

static void test_a_budgets_state_comes_back_value_by_value(void **state)
{
    (void)state;
    struct err err;
    struct arena a;
    struct budget_state in;
    struct budget_state out;
    arena_init(&a, ARENA_CAP);
    budget_fill(&in, FILL_ALL);
    struct buffer bytes = encoded(AVRO_BUDGET_STATE, FILL_ALL);
    assert_true(avro_decode_budget_state(buffer_view(&bytes), &a, &out, &err));
    assert_true(sv_eq(out.budget_id, in.budget_id) && sv_eq(out.value, in.value));
    assert_true(out.scope == in.scope && out.measure == in.measure && out.mode == in.mode);
    assert_true(out.revision == in.revision && out.window_start == in.window_start && out.n == in.n);
    assert_true(out.window_end.has && out.window_end.v == in.window_end.v);
    assert_true(out.limit_nanos.has && out.limit_nanos.v == in.limit_nanos.v);
    assert_true(out.spent_nanos == in.spent_nanos && out.held_nanos == in.held_nanos);
    buffer_free(&bytes);
    bytes = encoded(AVRO_BUDGET_STATE, FILL_NOTHING);
    assert_true(avro_decode_budget_state(buffer_view(&bytes), &a, &out, &err));
    assert_false(out.window_end.has || out.limit_nanos.has);
    assert_true(out.scope == SCOPE_KEY && out.measure == MEASURE_RAW && out.mode == MODE_HARD);
    buffer_free(&bytes);
    arena_free(&a);
}

/* avro-c reads the body by the schema's text and writes it again. */
static void assert_avro_c_agrees(enum avro_record record, struct strview body)
{
    avro_schema_t schema;
    const char *schema_text = avro_codec_schema(record);
    assert_int_equal(avro_schema_from_json_length(schema_text, strlen(schema_text), &schema), 0);
    avro_value_iface_t *type = avro_generic_class_from_schema(schema);
    avro_value_t value;
    assert_int_equal(avro_generic_value_new(type, &value), 0);
    avro_reader_t reader = avro_reader_memory(body.ptr, (int64_t)body.len);
    if (avro_value_read(reader, &value) != 0)
        fail_msg("%s", avro_strerror());
    char *again = test_malloc(body.len + 1);
    avro_writer_t writer = avro_writer_memory(again, (int64_t)body.len + 1);
    assert_int_equal(avro_value_write(writer, &value), 0);
    assert_int_equal(avro_writer_tell(writer), body.len);
    assert_memory_equal(again, body.ptr, body.len);
    test_free(again);
    avro_writer_free(writer);
    avro_reader_free(reader);
    avro_value_decref(&value);
    avro_value_iface_decref(type);
    avro_schema_decref(schema);
}

static void test_avro_c_reads_and_writes_the_same_bytes(void **state)
{
    (void)state;
    for (unsigned r = 0; r < AVRO_RECORD_COUNT; r++) {
        for (unsigned fill = 0; fill < FILL_COUNT; fill++) {
            struct buffer bytes = encoded((enum avro_record)r, (enum fill)fill);
            assert_avro_c_agrees((enum avro_record)r,
                                 (struct strview){bytes.data + FRAME, bytes.len - FRAME});
            buffer_free(&bytes);
        }
    }
}

static void test_the_frame_is_magic_and_fingerprint(void **state)
{
    (void)state;
    struct buffer bytes = encoded(AVRO_INSTANCE, FILL_ALL);
    assert_memory_equal(bytes.data, "\xC3\x01", 2);
    uint64_t print = avro_codec_fingerprint(AVRO_INSTANCE);
    for (int i = 0; i < 8; i++)
        assert_int_equal((uint8_t)bytes.data[2 + i], (uint8_t)(print >> (8 * i)));
    buffer_free(&bytes);
}

static void assert_dead(enum avro_record record, struct strview bytes, const char *word)
{
    struct err err;
    struct arena a;
    union any v;
    arena_init(&a, ARENA_CAP);
    assert_false(any_decode(record, bytes, &a, &v, &err));
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    if (strstr(err.text, word) == NULL)
        fail_msg("'%s' does not speak of %s", err.text, word);
    arena_free(&a);
}

static void test_a_wrong_frame_is_named(void **state)
{
    (void)state;
    struct buffer bytes = encoded(AVRO_INSTANCE, FILL_ALL);
    assert_dead(AVRO_SPEND_CALL, buffer_view(&bytes), "the bytes are of Instance");
    assert_dead(AVRO_INSTANCE, (struct strview){bytes.data, 9}, "9 bytes are no record");
    assert_dead(AVRO_INSTANCE, SV_NULL, "0 bytes are no record");
    bytes.data[5] ^= 1;
    assert_dead(AVRO_INSTANCE, buffer_view(&bytes), "unknown schema fingerprint");
    bytes.data[1] = 2;
    assert_dead(AVRO_INSTANCE, buffer_view(&bytes), "C3 01");
    buffer_free(&bytes);
}

static void test_a_record_over_its_limit_is_refused_both_ways(void **state)
{
    (void)state;
    struct err err;
    struct buffer out;
    struct instance v;
    size_t len = 5000;
    char *large = test_malloc(len);
    memset(large, 'x', len);
    instance_fill(&v, FILL_ALL);
    v.instance = (struct strview){large, len};
    buffer_init(&out, ROOM);
    assert_true(buffer_append(&out, "before", 6));
    assert_false(avro_encode_instance(&v, &out, &err));
    assert_int_equal(err.code, ERR_FULL);
    assert_int_equal(out.len, 6);
    assert_dead(AVRO_INSTANCE, (struct strview){large, len}, "the most is 4096");
    test_free(large);
    buffer_free(&out);
}

static void test_nothing_is_appended_when_the_buffer_is_full(void **state)
{
    (void)state;
    struct err err;
    struct spend_call v;
    call_fill(&v, FILL_ALL);
    struct buffer whole = encoded(AVRO_SPEND_CALL, FILL_ALL);
    for (size_t cap = 3; cap < whole.len + 3; cap++) {
        struct buffer out;
        buffer_init(&out, cap);
        assert_true(buffer_append(&out, "abc", 3));
        assert_false(avro_encode_spend_call(&v, &out, &err));
        assert_int_equal(err.code, ERR_FULL);
        assert_int_equal(out.len, 3);
        buffer_free(&out);
    }
    buffer_free(&whole);
}

static void test_every_cut_is_refused(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, ARENA_CAP);
    for (unsigned r = 0; r < AVRO_RECORD_COUNT; r++) {
        struct buffer bytes = encoded((enum avro_record)r, FILL_ALL);
        for (size_t len = 0; len < bytes.len; len++) {
            struct err err;
            union any v;
            char *cut =
                test_malloc(len + 1); /* an allocation of its own: the sanitizer sees a read past it */
            memcpy(cut, bytes.data, len);
            assert_false(any_decode((enum avro_record)r, (struct strview){cut, len}, &a, &v, &err));
            assert_int_equal(err.fate, FATE_DEAD_LETTER);
            arena_reset(&a);
            test_free(cut);
        }
        buffer_free(&bytes);
    }
    arena_free(&a);
}

/* Whatever decodes must be a value that encodes and decodes to itself. */
static bool assert_refused_or_stable(enum avro_record record, struct strview bytes, struct arena *a)
{
    struct err err;
    union any v;
    if (!any_decode(record, bytes, a, &v, &err)) {
        assert_int_equal(err.fate, FATE_DEAD_LETTER);
        arena_reset(a);
        return false;
    }
    struct buffer first;
    struct buffer second;
    union any w;
    buffer_init(&first, ROOM);
    buffer_init(&second, ROOM);
    assert_true(any_encode(record, &v, &first, &err));
    assert_true(any_decode(record, buffer_view(&first), a, &w, &err));
    assert_true(any_encode(record, &w, &second, &err));
    assert_true(sv_eq(buffer_view(&first), buffer_view(&second)));
    if (record == AVRO_PRICE_BOOK)
        arena_free(&w.book.arena);
    any_done(record, a, &v);
    buffer_free(&first);
    buffer_free(&second);
    return true;
}

static void test_every_flipped_bit_is_refused_or_a_value(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, ARENA_CAP);
    size_t refused = 0;
    size_t values = 0;
    for (unsigned r = 0; r < AVRO_RECORD_COUNT; r++) {
        struct buffer bytes = encoded((enum avro_record)r, FILL_ALL);
        for (size_t bit = 0; bit < bytes.len * 8; bit++) {
            bytes.data[bit / 8] = (char)(bytes.data[bit / 8] ^ (1 << bit % 8));
            if (assert_refused_or_stable((enum avro_record)r, buffer_view(&bytes), &a))
                values++;
            else
                refused++;
            bytes.data[bit / 8] = (char)(bytes.data[bit / 8] ^ (1 << bit % 8));
        }
        buffer_free(&bytes);
    }
    assert_true(refused > 1000);
    assert_true(values > 1000);
    arena_free(&a);
}

static uint64_t noise(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return *seed >> 33;
}

static void test_overwritten_lengths_and_noise_never_harm(void **state)
{
    (void)state;
    static const struct strview lengths[] = {
        TEXT_OF("\x01"),                                     /* -1 */
        TEXT_OF("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), /* INT64_MIN */
        TEXT_OF("\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), /* INT64_MAX */
        TEXT_OF("\xfe\xff\xff\xff\x0f"),                     /* 2^31 - 1 */
        TEXT_OF("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"),
    };
    struct arena a;
    uint64_t seed = 20261123;
    arena_init(&a, ARENA_CAP);
    for (unsigned r = 0; r < AVRO_RECORD_COUNT; r++) {
        struct buffer good = encoded((enum avro_record)r, FILL_ALL);
        for (size_t at = FRAME; at < good.len; at++) {
            for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
                struct buffer bad;
                buffer_init(&bad, ROOM);
                assert_true(buffer_append(&bad, good.data, at) && buffer_append_sv(&bad, lengths[i]) &&
                            buffer_append(&bad, good.data + at, good.len - at));
                (void)assert_refused_or_stable((enum avro_record)r, buffer_view(&bad), &a);
                buffer_free(&bad);
            }
        }
        for (int round = 0; round < 5000; round++) {
            struct buffer bad;
            buffer_init(&bad, ROOM);
            size_t len = noise(&seed) % 300;
            assert_true(buffer_append(&bad, good.data, FRAME));
            for (size_t i = 0; i < len; i++)
                assert_true(buffer_append_byte(
                    &bad, (uint8_t)(noise(&seed) % 3 == 0 ? noise(&seed) : noise(&seed) % 6)));
            (void)assert_refused_or_stable((enum avro_record)r, buffer_view(&bad), &a);
            buffer_free(&bad);
        }
        buffer_free(&good);
    }
    arena_free(&a);
}

static void test_a_price_book_out_of_order_is_refused(void **state)
{
    (void)state;
    struct err err;
    struct price_rate rates[] = {{SV_LIT("b"), 1}, {SV_LIT("a"), 2}};
    struct price_entry entries[] = {{.key = SV_LIT("y")}, {.key = SV_LIT("x")}};
    struct price_book book = {
        .source = SV_LIT("s"), .sha256 = SV_LIT("h"), .entries = entries, .entry_count = 2};
    struct buffer out;
    buffer_init(&out, ROOM);
    assert_true(avro_encode_price_book(&book, &out, &err));
    assert_dead(AVRO_PRICE_BOOK, buffer_view(&out), "order");
    entries[0] = (struct price_entry){.key = SV_LIT("x"), .rates = rates, .rate_count = 2};
    book.entry_count = 1;
    buffer_clear(&out);
    assert_true(avro_encode_price_book(&book, &out, &err));
    assert_dead(AVRO_PRICE_BOOK, buffer_view(&out), "order");
    rates[1].name = SV_LIT("b"); /* twice the same is no order either */
    buffer_clear(&out);
    assert_true(avro_encode_price_book(&book, &out, &err));
    assert_dead(AVRO_PRICE_BOOK, buffer_view(&out), "order");
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_tables_fit_the_schemas),
        cmocka_unit_test(test_every_record_comes_back_as_it_went),
        cmocka_unit_test(test_a_call_is_written_again_with_its_tags_bytes),
        cmocka_unit_test(test_what_was_set_is_where_it_was_set),
        cmocka_unit_test(test_a_budgets_state_comes_back_value_by_value),
        cmocka_unit_test(test_avro_c_reads_and_writes_the_same_bytes),
        cmocka_unit_test(test_the_frame_is_magic_and_fingerprint),
        cmocka_unit_test(test_a_wrong_frame_is_named),
        cmocka_unit_test(test_a_record_over_its_limit_is_refused_both_ways),
        cmocka_unit_test(test_nothing_is_appended_when_the_buffer_is_full),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_every_flipped_bit_is_refused_or_a_value),
        cmocka_unit_test(test_overwritten_lengths_and_noise_never_harm),
        cmocka_unit_test(test_a_price_book_out_of_order_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
