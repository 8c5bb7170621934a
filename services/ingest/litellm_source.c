/*
 * litellm_source: two tables of what is sought, for payload and metadata. Usage is LiteLLM's own object, in
 * chat's words whatever the operation, but where the reply's says more.
 */
#include "ingest/litellm_source.h"

#include "base/clock.h"
#include "base/money.h"
#include "ingest/tag_capture.h"
#include "ingest/text_count.h"
#include "ingest/upstream_request.h"
#include "spend/price_key.h"

#include <inttypes.h>
#include <string.h>

#define OWN_TAGS "User-Agent:" /* LiteLLM's own, on every call */
#define REDACTED "redacted-by-litellm"
#define CLAIM_US (600 * US_PER_SECOND) /* between a call's id and when LiteLLM says that it began */

enum {
    ID,
    CALL_ID,
    REQUEST_ID,
    CALL_TYPE,
    STATUS,
    STREAM,
    PROVIDER,
    START,
    END,
    FIRST,
    MODEL,
    GROUP,
    METADATA,
    COST,
    SPEND,
    TAGS,
    END_USER,
    RESPONSE,
    MESSAGES,
    API_KEY,
    QUALITY,
    SIZE,
    REPLY_QUALITY,
    REPLY_SIZE,
    TIER,
    REPLY_TIER,
    CACHE_HIT,
    MEMBERS
};
enum { KEY_HASH, CLAIM, USAGE, ROUTE, HEADER_TAGS, AGENT, METADATA_MEMBERS };

struct payload {
    struct json_pick at[MEMBERS];
    struct json_pick meta[METADATA_MEMBERS];
    struct arena *arena;
};

static struct strview text_at(const struct payload *p, int member)
{
    return tag_capture_text(json_pick_text(&p->at[member], p->arena));
}

static struct strview first_text(const struct payload *p, int first, int second)
{
    struct strview v = text_at(p, first);
    return sv_is_empty(v) ? text_at(p, second) : v;
}

static bool payload_read(struct payload *p, struct strview text, struct arena *a)
{
    *p = (struct payload){
        .at = {[ID] = {.path = "id"},
               [CALL_ID] = {.path = "litellm_call_id"},
               [REQUEST_ID] = {.path = "request_id"},
               [CALL_TYPE] = {.path = "call_type"},
               [STATUS] = {.path = "status"},
               [STREAM] = {.path = "stream"},
               [PROVIDER] = {.path = "custom_llm_provider"},
               [START] = {.path = "startTime"},
               [END] = {.path = "endTime"},
               [FIRST] = {.path = "completionStartTime"},
               [MODEL] = {.path = "model"},
               [GROUP] = {.path = "model_group"},
               [METADATA] = {.path = "metadata"},
               [COST] = {.path = "response_cost"},
               [SPEND] = {.path = "spend"},
               [TAGS] = {.path = "request_tags"},
               [END_USER] = {.path = "end_user"},
               [RESPONSE] = {.path = "response"},
               [MESSAGES] = {.path = "messages"},
               [API_KEY] = {.path = "api_key"},
               [QUALITY] = {.path = "model_parameters.quality"},
               [SIZE] = {.path = "model_parameters.size"},
               [REPLY_QUALITY] = {.path = "response.quality"},
               [REPLY_SIZE] = {.path = "response.size"},
               [TIER] = {.path = "model_parameters.service_tier"},
               [REPLY_TIER] = {.path = "response.service_tier"},
               [CACHE_HIT] = {.path = "cache_hit"}},
        .meta = {[KEY_HASH] = {.path = "user_api_key_hash"},
                 [CLAIM] = {.path = "spend_logs_metadata.spend_call_id"},
                 [USAGE] = {.path = "usage_object"},
                 [ROUTE] = {.path = "user_api_key_request_route"},
                 [HEADER_TAGS] = {.path = "requester_metadata.headers.x-litellm-tags"},
                 [AGENT] = {.path = "user_agent"}},
        .arena = a,
    };
    if (!json_pick(text, p->at, MEMBERS))
        return false;
    const struct json_pick *told = &p->at[METADATA];
    struct strview metadata = json_pick_object(told, a);
    if (sv_is_null(metadata)) /* none, or a text too large to be read: our call id may stand in it */
        return !told->found || told->value.kind != JSON_KIND_STRING || !sv_is_null(json_pick_text(told, a));
    return json_pick(metadata, p->meta, METADATA_MEMBERS);
}

static enum spend_operation operation_of(struct strview call_type)
{
    static const struct {
        struct strview word;
        enum spend_operation operation;
    } rows[] = {{SV_INIT("completion"), OPERATION_CHAT},
                {SV_INIT("text_completion"), OPERATION_COMPLETION},
                {SV_INIT("responses"), OPERATION_RESPONSES},
                {SV_INIT("anthropic_messages"), OPERATION_MESSAGES},
                {SV_INIT("embedding"), OPERATION_EMBEDDINGS},
                {SV_INIT("rerank"), OPERATION_RERANK},
                {SV_INIT("image_generation"), OPERATION_IMAGE},
                {SV_INIT("image_edit"), OPERATION_IMAGE},
                {SV_INIT("speech"), OPERATION_SPEECH},
                {SV_INIT("transcription"), OPERATION_TRANSCRIPTION},
                {SV_INIT("create_batch"), OPERATION_BATCH},
                {SV_INIT("create_fine_tuning_job"), OPERATION_FINE_TUNE}};
    if (sv_starts_with(call_type, SV_LIT("a")) && !sv_eq(call_type, SV_LIT("anthropic_messages")))
        call_type = (struct strview){call_type.ptr + 1, call_type.len - 1}; /* asynchronous */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (sv_eq(call_type, rows[i].word))
            return rows[i].operation;
    }
    return OPERATION_OTHER;
}

/* Seconds since 1970 with a fraction, or "2026-11-22T10:37:36.101" without a zone: UTC. */
static bool time_read(const struct payload *p, int member, int64_t *us)
{
    const struct json_pick *pick = &p->at[member];
    struct err ignored;
    if (pick->found && pick->value.kind == JSON_KIND_NUMBER)
        return money_parse_decimal(pick->whole, 6, us, NULL, &ignored) && *us >= 0;
    struct strview text = json_pick_text(pick, p->arena);
    char room[64];
    if (text.len < 19 || text.len + 2 > sizeof room)
        return false;
    memcpy(room, text.ptr, text.len);
    room[10] = 'T';
    room[text.len] = 'Z';
    return (clock_parse(text, us) || clock_parse((struct strview){room, text.len + 1}, us)) && *us >= 0;
}

static bool times_read(const struct payload *p, struct foreign_item *item)
{
    struct spend_call *call = &item->call;
    int64_t end = 0;
    int64_t first = 0;
    if (!time_read(p, START, &call->admitted_at))
        return foreign_refuse(item, "startTime is needed: seconds since 1970, or ISO 8601 in UTC");
    bool ended = time_read(p, END, &end) && end >= call->admitted_at;
    bool begun = time_read(p, FIRST, &first) && first >= call->admitted_at;
    call->finished_at = (struct opt_i64){.v = end, .has = ended};
    call->duration_us = (struct opt_i64){.v = end - call->admitted_at, .has = ended};
    call->ttfb_us = (struct opt_i64){.v = first - call->admitted_at, .has = begun};
    return true;
}

/* LiteLLM counts a stream's tokens itself where the provider told none, and says so only by what is missing.
 */
static bool is_guess(const struct spend_call *call, struct strview usage)
{
    struct json_pick details = {.path = "prompt_tokens_details"};
    return call->stream && (!json_pick(usage, &details, 1) || !details.found);
}

static struct opt_i64 characters_of(const struct payload *p)
{
    struct json_scan scan;
    struct json_value value;
    struct json_pick content = {.path = "content"};
    struct strview first = SV_NULL;
    json_scan_init(&scan, p->at[MESSAGES].found ? p->at[MESSAGES].whole : SV_LIT("[]"),
                   LIMIT_REPLY_JSON_DEPTH);
    scan.lax = true;
    if (!json_scan_value(&scan, &value) || value.kind != JSON_KIND_ARRAY || !json_scan_item(&scan, &value) ||
        !json_scan_skip(&scan, &value, &first) || !json_pick(first, &content, 1) || !content.found ||
        content.value.kind != JSON_KIND_STRING || sv_eq(content.whole, SV_LIT(REDACTED)))
        return (struct opt_i64){.has = false};
    return OPT_I64(text_characters(&content.value));
}

/* LiteLLM answered out of its own cache: no provider was asked, and none charges. */
static bool is_cache_hit(const struct payload *p)
{
    const struct json_pick *hit = &p->at[CACHE_HIT];
    return hit->found && (hit->value.kind == JSON_KIND_TRUE || sv_eq(hit->whole, SV_LIT("True")));
}

/* Failures tell zeros, whatever came of the call: nothing is known of it. */
static void usage_read(const struct payload *p, struct spend_call *call)
{
    struct strview usage = json_pick_object(&p->meta[USAGE], p->arena);
    struct strview reply = json_pick_object(&p->at[RESPONSE], p->arena);
    bool own_words = call->operation == OPERATION_IMAGE || call->operation == OPERATION_TRANSCRIPTION ||
                     call->operation == OPERATION_RERANK;
    if (call->outcome != OUTCOME_COMPLETED)
        return;
    if (is_cache_hit(p)) {
        call->usage.units[USAGE_INPUT] = call->usage.units[USAGE_OUTPUT] = OPT_I64(0);
        call->quality = QUALITY_FINAL;
        return;
    }
    if (call->operation == OPERATION_SPEECH) {
        call->usage.units[USAGE_CHARACTERS] = characters_of(p);
        call->quality = call->usage.units[USAGE_CHARACTERS].has ? QUALITY_FINAL : QUALITY_UNKNOWN;
        return;
    }
    if (own_words && !sv_is_null(reply) && foreign_usage_take(call, call->operation, reply, true, p->arena))
        return;
    if (call->operation >= OPERATION_RERANK && call->operation != OPERATION_TRANSCRIPTION)
        return; /* LiteLLM's zeros tell nothing here */
    if (sv_is_null(usage) || !foreign_usage_take(call, OPERATION_CHAT, usage, false, p->arena) ||
        !is_guess(call, usage))
        return;
    call->provider_usage = SV_NULL;
    call->quality = QUALITY_ESTIMATED;
}

static void cost_read(const struct payload *p, struct spend_call *call)
{
    const struct json_pick *cost = p->at[COST].found ? &p->at[COST] : &p->at[SPEND];
    struct err ignored;
    int64_t nanos = 0;
    if (cost->found && money_parse_decimal(cost->whole, 9, &nanos, NULL, &ignored) && nanos >= 0)
        call->reported_cost_nanos = OPT_I64(nanos);
}

static bool tags_read(const struct payload *p, struct spend_call *call)
{
    struct tag_set set;
    tag_set_init(&set);
    foreign_tags_add(&set, &p->at[TAGS], SV_LIT(OWN_TAGS), p->arena);
    struct strview header = json_pick_text(&p->meta[HEADER_TAGS], p->arena);
    if (!sv_is_null(header))
        tag_set_add_list(&set, header, TAG_ORIGIN_HEADER);
    struct strview user = json_pick_text(&p->at[END_USER], p->arena);
    if (!sv_is_empty(user))
        tag_set_add_user(&set, user, p->arena);
    return tag_set_take(&set, p->arena, call);
}

static struct strview key_read(const struct payload *p)
{
    uint8_t hash[SHA256_LEN];
    struct strview key = json_pick_text(&p->meta[KEY_HASH], p->arena);
    if (sv_is_empty(key))
        key = json_pick_text(&p->at[API_KEY], p->arena);
    return sha256_from_hex(key, hash, sizeof hash) ? key : SV_NULL;
}

/* Callers choose the call id, LiteLLM makes it the payload's where the provider told none, and providers give
 * ids twice: with when it began and whose key it was, no two calls tell the same, and no repeat another. */
static bool id_read(const struct payload *p, struct foreign_item *item)
{
    struct strview call_id = first_text(p, CALL_ID, REQUEST_ID);
    struct strview id = text_at(p, ID);
    item->id = sv_is_empty(call_id) ? id : call_id;
    if (sv_is_empty(item->id))
        return foreign_refuse(item, "litellm_call_id, id or request_id is needed");
    struct strview all = arena_printf(p->arena, SV_FMT "/" SV_FMT "/%" PRId64 "/" SV_FMT, SV_ARG(item->id),
                                      SV_ARG(id), item->call.admitted_at, SV_ARG(item->call.key_hash));
    item->call.call_id = uuid_v8_of(SV_LIT("litellm"), all);
    item->call.source_id = tag_capture_text(item->id);
    return true;
}

/* Our own call id, if its signature is ours. */
static bool is_ours(struct strview claim, struct strview secret, struct uuid *call_id)
{
    char due[SPEND_CALL_ID_LEN + 1];
    if (claim.len != SPEND_CALL_ID_LEN || !uuid_parse((struct strview){claim.ptr, UUID_TEXT_LEN}, call_id))
        return false;
    upstream_request_sign(call_id, secret, due);
    return sha256_equal((const uint8_t *)due, (const uint8_t *)claim.ptr, SPEND_CALL_ID_LEN);
}

/* Which call this is: ours, its own, or one that is not to be believed. */
static void claim_read(const struct litellm_rules *rules, const struct payload *p, struct foreign_item *item)
{
    struct spend_call *call = &item->call;
    struct uuid ours;
    struct strview claim = json_pick_text(&p->meta[CLAIM], p->arena);
    item->status = rules->bill ? FOREIGN_ACCEPTED : FOREIGN_EVIDENCE;
    if (!p->meta[CLAIM].found || sv_is_null(rules->secret))
        return;
    bool signed_by_us = is_ours(claim, rules->secret, &ours);
    int64_t apart_us = signed_by_us ? call->admitted_at - uuid_v7_ms(&ours) * 1000 : 0;
    if (!signed_by_us || apart_us > CLAIM_US || apart_us < -CLAIM_US) {
        item->status = FOREIGN_CONFLICT;
        call->dispute =
            signed_by_us ? SV_LIT("spend_call_id is of a call of another time: told again")
                         : SV_LIT("spend_call_id is not signed by us: another --spend-log-secret, or forged");
        return;
    }
    item->matched = true;
    call->call_id = ours;
    call->admitted_at =
        uuid_v7_ms(&ours) * 1000; /* the call's own time: neither LiteLLM's clock nor its attempts */
}

static bool is_whole(struct strview text, enum json_kind kind)
{
    struct json_scan scan;
    json_scan_init(&scan, text, LIMIT_REPLY_JSON_DEPTH);
    scan.lax = true;
    return json_scan_whole(&scan, kind);
}

/* The text of the next payload, null or not. */
static bool text_next(struct litellm_reader *r, struct strview *text)
{
    struct json_value value;
    if (r->is_array)
        return json_scan_item(&r->array, &value) && json_scan_skip(&r->array, &value, text);
    do {
        if (sv_is_null(r->lines))
            return false;
        *text = sv_trim(sv_cut(r->lines, r->is_one ? '\0' : '\n', &r->lines));
    } while (sv_is_empty(*text) || sv_eq(*text, SV_LIT("\r")));
    return true;
}

bool litellm_open(struct litellm_reader *r, const struct litellm_rules *rules, struct strview body,
                  struct http_refusal *why)
{
    struct json_value root;
    struct strview text;
    *r = (struct litellm_reader){.rules = rules, .lines = body};
    r->is_array = is_whole(body, JSON_KIND_ARRAY);
    r->is_one = is_whole(body, JSON_KIND_OBJECT);
    json_scan_init(&r->array, body, LIMIT_REPLY_JSON_DEPTH);
    r->array.lax = true;
    bool ok = !r->is_array || json_scan_value(&r->array, &root);
    struct litellm_reader look = *r;
    size_t count = 0;
    bool first_is_one = r->is_array || r->is_one;
    for (; ok && text_next(&look, &text); count++)
        first_is_one = first_is_one || (count == 0 && is_whole(text, JSON_KIND_OBJECT));
    if (!first_is_one) {
        *why = (struct http_refusal){400, "bad_request",
                                     "the body must be a JSON array of payloads, one payload, or one a line"};
        return false;
    }
    *why = (struct http_refusal){413, "too_many_events",
                                 "too many payloads in one request: send fewer (--events-batch)"};
    return count <= rules->items_max;
}

bool litellm_next(struct litellm_reader *r, int64_t now_us, struct arena *a, struct foreign_item *item)
{
    struct payload p;
    struct strview text;
    struct err err = {0};
    do {
        if (!text_next(r, &text))
            return false;
    } while (sv_eq(text, SV_LIT("null")));
    *item = (struct foreign_item){.call = {.source = SOURCE_PROXY_LOG,
                                           .received_at = now_us,
                                           .upstream = SV_LIT("litellm"),
                                           .quality = QUALITY_UNKNOWN}};
    struct spend_call *call = &item->call;
    if (!payload_read(&p, text, a)) {
        (void)foreign_refuse(item, "a payload is a JSON object, its metadata another");
        return true;
    }
    call->key_hash = key_read(&p);
    if (!times_read(&p, item) || !id_read(&p, item))
        return true;
    /* its clock is ahead of Postgres's; the id keeps its word, as repeats do */
    if (call->admitted_at > now_us)
        call->admitted_at = now_us;
    call->operation = operation_of(text_at(&p, CALL_TYPE));
    call->outcome = sv_eq(text_at(&p, STATUS), SV_LIT("failure")) ? OUTCOME_FAILED : OUTCOME_COMPLETED;
    call->stream = p.at[STREAM].found && p.at[STREAM].value.kind == JSON_KIND_TRUE;
    call->provider = text_at(&p, PROVIDER);
    call->model_requested = first_text(&p, GROUP, MODEL);
    call->model_replied = text_at(&p, MODEL);
    call->service_tier = first_text(&p, TIER, REPLY_TIER);
    call->user_agent = tag_capture_text(json_pick_text(&p.meta[AGENT], a));
    struct strview route = tag_capture_text(json_pick_text(&p.meta[ROUTE], a));
    call->path = sv_is_empty(route) ? SV_LIT(LITELLM_PATH) : route;
    if (call->operation == OPERATION_IMAGE)
        call->variant =
            price_key_variant(first_text(&p, QUALITY, REPLY_QUALITY), first_text(&p, SIZE, REPLY_SIZE), a);
    usage_read(&p, call);
    if (sv_eq_nocase(call->service_tier, SV_LIT("batch"))) /* as of a reply through ingest */
        call->service_tier = SV_NULL;
    cost_read(&p, call);
    claim_read(r->rules, &p, item);
    if (!tags_read(&p, call) || !spend_call_check(call, &err))
        (void)foreign_refuse(item, "%s", err.text[0] == '\0' ? "too long" : err.text);
    return true;
}
