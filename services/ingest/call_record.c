/*
 * call_record: null is "not known", zero is zero. An estimate says so in its quality.
 */
#include "ingest/call_record.h"

#include "base/money.h"
#include "ingest/meter.h"
#include "ingest/text_count.h"
#include "spend/avro_codec.h"

static void usage_estimate(struct spend_call *call, uint64_t request_text, uint64_t reply_text)
{
    call->usage = (struct usage){0};
    call->usage.units[USAGE_INPUT] = OPT_I64(text_tokens(request_text));
    call->usage.units[USAGE_OUTPUT] = OPT_I64(text_tokens(reply_text));
    call->quality = QUALITY_ESTIMATED;
}

bool call_record_start(const struct call_start *start, const struct tag_capture *capture, struct arena *a,
                       struct spend_call *out)
{
    *out = (struct spend_call){
        .call_id = start->call_id,
        .source = SOURCE_GATEWAY,
        .boot = OPT_I64((int64_t)start->boot),
        .seq = OPT_I64((int64_t)start->seq),
        .admitted_at = start->admitted_at,
        .received_at = start->received_at,
        .operation = start->operation,
        .instance = sv_of(start->instance),
        .upstream = sv_of(start->upstream),
        .provider = sv_of(start->provider),
        .stream = capture->stream,
        .body_unparsed = capture->body_unparsed,
        .gate = start->gate,
        .outcome = OUTCOME_UNKNOWN,
        .quality = QUALITY_UNKNOWN,
        .request_bytes = (int64_t)start->request_bytes,
    };
    if (usage_is_text(start->operation))
        usage_estimate(out, capture->text_bytes, 0);
    out->usage.units[USAGE_CHARACTERS] = capture->characters;
    if (capture->characters.has)
        out->quality = QUALITY_ESTIMATED;
    return tag_set_take(&capture->tags, a, out) && arena_dup(a, tag_capture_text(start->path), &out->path) &&
           arena_dup(a, capture->model, &out->model_requested) &&
           arena_dup(a, capture->key_hash, &out->key_hash) && arena_dup(a, capture->variant, &out->variant) &&
           arena_dup(a, capture->user_agent, &out->user_agent);
}

static struct opt_i64 small_number(const struct reply_head *head, struct strview name)
{
    int64_t n = 0;
    struct strview text = http_header_last(&head->headers, name);
    if (sv_is_empty(text) || !sv_to_i64(text, &n) || n < 0 || n > INT32_MAX)
        return (struct opt_i64){.has = false};
    return OPT_I64(n);
}

bool call_record_reply(struct spend_call *call, const struct reply_head *head, struct arena *a)
{
    call->upstream_status = OPT_I64(head->status);
    call->upstream_retries = small_number(head, SV_LIT("x-litellm-attempted-retries"));
    call->upstream_fallbacks = small_number(head, SV_LIT("x-litellm-attempted-fallbacks"));
    struct strview cost = http_header_last(&head->headers, SV_LIT("x-litellm-response-cost"));
    int64_t nanos = 0;
    if (!sv_is_empty(cost) && money_parse_decimal(cost, 9, &nanos, NULL, NULL) && nanos >= 0)
        call->reported_cost_nanos = OPT_I64(nanos);
    struct strview id = http_header_last(&head->headers, SV_LIT("x-litellm-call-id"));
    return arena_dup(a, tag_capture_text(id), &call->upstream_call_id);
}

/* A total that could not be read must not pass for none. */
static void side_estimate(struct spend_call *call, enum usage_class class, uint64_t text)
{
    call->usage.units[class] = OPT_I64(text_tokens(text));
    call->quality = QUALITY_ESTIMATED;
}

/* Sides that the provider named but told nothing good of. */
static void sides_mend(struct spend_call *call, const struct usage_reader *reader, const struct call_end *end,
                       uint64_t reply_text, bool paid)
{
    bool more_came = reader->output_is_first && text_tokens(reply_text) > call->usage.units[USAGE_OUTPUT].v;
    call->quality = end->reply_whole ? QUALITY_FINAL : QUALITY_PARTIAL;
    if (reader->input_unreadable && !call->usage.units[USAGE_INPUT].has)
        side_estimate(call, USAGE_INPUT, end->request_text);
    if (reader->output_unreadable || (more_came && paid))
        side_estimate(call, USAGE_OUTPUT, reply_text);
}

static void usage_reported(struct spend_call *call, const struct usage_reader *reader,
                           const struct call_end *end, uint64_t reply_text)
{
    bool paid = end->outcome != OUTCOME_FAILED || end->estimate_failed;
    usage_reader_result(reader, &call->usage);
    if (reader->provider_usage != NULL)
        call->provider_usage = (struct strview){reader->provider_usage, reader->provider_usage_len};
    if (usage_is_text(call->operation) && !call->usage.units[USAGE_INPUT].has &&
        !call->usage.units[USAGE_OUTPUT].has) { /* details of nothing, or totals that are no numbers */
        call->usage = (struct usage){0};
        if (paid)
            usage_estimate(call, end->request_text, reply_text);
    } else if (!usage_is_empty(&call->usage)) {
        sides_mend(call, reader, end, reply_text, paid);
    }
}

void call_record_end(struct spend_call *call, const struct call_end *end, const struct reply_watch *watch)
{
    const struct usage_reader *reader = &watch->reader;
    call->outcome = end->outcome;
    call->finished_at = OPT_I64(end->finished_at);
    call->duration_us = OPT_I64(end->duration_us);
    if (end->ttfb_us >= 0)
        call->ttfb_us = OPT_I64(end->ttfb_us);
    call->reply_bytes = (int64_t)end->reply_bytes;
    call->model_replied = tag_capture_text(reader->model);
    if (!sv_is_null(end->stamp) && (sv_is_empty(end->stamp) || sv_eq(end->stamp, call->model_replied)))
        call->model_replied = SV_NULL; /* it may be but the request's own word, sent back */
    call->service_tier = tag_capture_text(reader->service_tier);
    if (sv_eq_nocase(call->service_tier,
                     SV_LIT("batch"))) /* no batch is answered at once: its price is not ours */
        call->service_tier = SV_NULL;
    call->usage = (struct usage){0};
    call->quality = QUALITY_UNKNOWN;
    uint64_t reply_text = reply_watch_text(watch);
    bool ended_well = end->outcome == OUTCOME_COMPLETED || end->outcome == OUTCOME_ABORTED;
    bool broke_after_output = end->outcome == OUTCOME_FAILED && reply_text > 0 && end->estimate_failed;
    bool spoken = call->operation == OPERATION_SPEECH && ended_well; /* its text, as it came, is charged */
    if (reader->has_usage || spoken)
        usage_reported(call, reader, end, reply_text);
    else if (usage_is_text(call->operation) && (ended_well || broke_after_output))
        usage_estimate(call, end->request_text, reply_text);
}

static const enum meter outcome_meters[OUTCOME_COUNT] = {
    [OUTCOME_REJECTED] = METER_OUTCOME_REJECTED,   [OUTCOME_FAILED] = METER_OUTCOME_FAILED,
    [OUTCOME_UNKNOWN] = METER_OUTCOME_UNKNOWN,     [OUTCOME_ABORTED] = METER_OUTCOME_ABORTED,
    [OUTCOME_COMPLETED] = METER_OUTCOME_COMPLETED,
};

static const enum meter quality_meters[QUALITY_COUNT] = {
    [QUALITY_UNKNOWN] = METER_QUALITY_UNKNOWN,
    [QUALITY_ESTIMATED] = METER_QUALITY_ESTIMATED,
    [QUALITY_PARTIAL] = METER_QUALITY_PARTIAL,
    [QUALITY_FINAL] = METER_QUALITY_FINAL,
};

void call_record_count(const struct spend_call *call)
{
    meter_add(outcome_meters[call->outcome], 1);
    meter_add(quality_meters[call->quality], 1);
    if (call->duration_us.has)
        meter_observe(METER_CALL_DURATION, call->duration_us.v);
    if (call->ttfb_us.has)
        meter_observe(METER_CALL_TTFB, call->ttfb_us.v);
}

bool call_record_encode(const struct spend_call *call, struct strview *tags, struct buffer *out,
                        struct err *err)
{
    bool ok = sv_is_null(*tags) ? spend_call_check(call, err) : spend_call_check_again(call, err);
    return ok && avro_encode_spend_call_again(call, tags, out, err);
}

/* progress of a call that the gate decides, from its lowest bits: whether it has passed, and was forced; how
 * far its hold's admission lies from when it came, 2^29 for not at all; its reply's text. */
#define PASSED        1U
#define PASSED_FORCED 2U
#define PASSED_BITS   2
#define APART_BITS    30
#define APART_ZERO    (1LL << (APART_BITS - 1)) /* micros: 9 minutes either way, and none beyond */
#define TEXT_SHIFT    (PASSED_BITS + APART_BITS)
#define TEXT_MOST     (UINT64_MAX >> TEXT_SHIFT)

uint64_t call_record_progress(const struct spend_call *call, uint64_t reply_text)
{
    int64_t apart = call->admitted_at - call->received_at;
    if (call->gate != GATE_HELD && call->gate != GATE_FORCED)
        return reply_text;
    if (apart <= -APART_ZERO || apart >= APART_ZERO)
        apart = 0;
    return (reply_text < TEXT_MOST ? reply_text : TEXT_MOST) << TEXT_SHIFT |
           (uint64_t)(APART_ZERO + apart) << PASSED_BITS | PASSED |
           (call->gate == GATE_FORCED ? PASSED_FORCED : 0);
}

/* false: the gate had not let it pass. */
static bool passage_read(struct spend_call *call, uint64_t progress, uint64_t *reply_text)
{
    *reply_text = progress;
    if (call->gate != GATE_HELD)
        return true;
    *reply_text = progress >> TEXT_SHIFT;
    if ((progress & PASSED) == 0)
        return false;
    if ((progress & PASSED_FORCED) != 0)
        call->gate = GATE_FORCED;
    call->admitted_at += (int64_t)(progress >> PASSED_BITS & ((1ULL << APART_BITS) - 1)) - APART_ZERO;
    return true;
}

bool call_record_recover(struct strview head, uint64_t progress, bool estimate, struct arena *a,
                         struct buffer *out, struct err *err)
{
    struct spend_call call;
    struct strview tags = SV_NULL;
    uint64_t reply_text;
    if (!avro_decode_spend_call(head, a, &call, err))
        return err_wrap(err, "an open call's head");
    if (!passage_read(&call, progress, &reply_text)) {
        call.outcome = OUTCOME_REJECTED;
        call.usage = (struct usage){0};
        call.quality = QUALITY_UNKNOWN;
    } else if (!estimate && usage_map(call.operation, SV_NULL).count > 0) {
        call.usage = (struct usage){0};
        call.usage.units[USAGE_INPUT] = OPT_I64(0);
        call.usage.units[USAGE_OUTPUT] = OPT_I64(0);
        call.quality = QUALITY_UNKNOWN;
    } else if (call.usage.units[USAGE_OUTPUT].has) {
        call.usage.units[USAGE_OUTPUT] = OPT_I64(text_tokens(reply_text));
    }
    if (!call_record_encode(&call, &tags, out, err))
        return false;
    call_record_count(&call);
    return true;
}
