/*
 * spend_call: the words of the schema, the hash that tells a repeat from news, and what no honest record
 * holds. The hash's layout is docs/records.md; a twin in another language reads that page and must agree to
 * the byte.
 */
#include "spend/spend_call.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "spend/tag_set.h"

#define HASH_VERSION    "spend.call/1"
#define YEAR_2020_US    1577836800000000LL
#define YEAR_2200_US    7258118400000000LL
#define CALL_TAGS_LIMIT ((size_t)2 * LIMIT_TAGS) /* the caller's and those bound to the key */

static const char *const sources[SOURCE_COUNT] = {
    [SOURCE_PROXY_LOG] = "proxy_log",
    [SOURCE_EVENTS_API] = "events_api",
    [SOURCE_GATEWAY] = "gateway",
};

static const char *const outcomes[OUTCOME_COUNT] = {
    [OUTCOME_REJECTED] = "rejected", [OUTCOME_FAILED] = "failed",       [OUTCOME_UNKNOWN] = "unknown",
    [OUTCOME_ABORTED] = "aborted",   [OUTCOME_COMPLETED] = "completed",
};

static const char *const qualities[QUALITY_COUNT] = {
    [QUALITY_UNKNOWN] = "unknown",
    [QUALITY_ESTIMATED] = "estimated",
    [QUALITY_PARTIAL] = "partial",
    [QUALITY_FINAL] = "final",
};

static const char *const gates[GATE_COUNT] = {
    [GATE_OFF] = "off",
    [GATE_OBSERVE] = "observe",
    [GATE_HELD] = "held",
    [GATE_FORCED] = "forced",
};

static const char *const operations[OPERATION_COUNT] = {
    [OPERATION_CHAT] = "chat",
    [OPERATION_COMPLETION] = "completion",
    [OPERATION_RESPONSES] = "responses",
    [OPERATION_MESSAGES] = "messages",
    [OPERATION_EMBEDDINGS] = "embeddings",
    [OPERATION_RERANK] = "rerank",
    [OPERATION_IMAGE] = "image",
    [OPERATION_SPEECH] = "speech",
    [OPERATION_TRANSCRIPTION] = "transcription",
    [OPERATION_BATCH] = "batch",
    [OPERATION_FINE_TUNE] = "fine_tune",
    [OPERATION_OTHER] = "other",
};

static const char *const origins[TAG_ORIGIN_COUNT] = {
    "header", "root", "metadata", "litellm_metadata", "user", "key", "event",
};

static const char *const usage_classes[USAGE_COUNT] = {
    [USAGE_INPUT] = "input",
    [USAGE_CACHE_READ] = "cache_read",
    [USAGE_CACHE_WRITE_5M] = "cache_write_5m",
    [USAGE_CACHE_WRITE_1H] = "cache_write_1h",
    [USAGE_OUTPUT] = "output",
    [USAGE_REASONING] = "reasoning",
    [USAGE_AUDIO_IN] = "audio_in",
    [USAGE_AUDIO_OUT] = "audio_out",
    [USAGE_IMAGE_IN] = "image_in",
    [USAGE_IMAGE_OUT] = "image_out",
    [USAGE_IMAGES] = "images",
    [USAGE_CHARACTERS] = "characters",
    [USAGE_SECONDS_MILLI] = "seconds_milli",
    [USAGE_REQUESTS] = "requests",
};

const char *spend_source_name(enum spend_source source)
{
    assert((size_t)source < SOURCE_COUNT);
    return sources[source];
}

const char *spend_outcome_name(enum spend_outcome outcome)
{
    assert((size_t)outcome < OUTCOME_COUNT);
    return outcomes[outcome];
}

const char *spend_quality_name(enum spend_quality quality)
{
    assert((size_t)quality < QUALITY_COUNT);
    return qualities[quality];
}

const char *spend_gate_name(enum spend_gate gate)
{
    assert((size_t)gate < GATE_COUNT);
    return gates[gate];
}

const char *spend_operation_name(enum spend_operation operation)
{
    assert((size_t)operation < OPERATION_COUNT);
    return operations[operation];
}

/* The number of a word; -1: it is none of them. */
static int word_find(struct strview text, const char *const *words, int count)
{
    for (int i = 0; i < count; i++) {
        if (sv_eq(text, sv_of(words[i])))
            return i;
    }
    return -1;
}

bool spend_operation_parse(struct strview text, enum spend_operation *out)
{
    int found = word_find(text, operations, OPERATION_COUNT);
    if (found >= 0)
        *out = (enum spend_operation)found;
    return found >= 0;
}

bool spend_outcome_parse(struct strview text, enum spend_outcome *out)
{
    int found = word_find(text, outcomes, OUTCOME_COUNT);
    if (found >= 0)
        *out = (enum spend_outcome)found;
    return found >= 0;
}

const char *tag_origin_name(unsigned bit)
{
    unsigned i = 0;
    while (i < TAG_ORIGIN_COUNT && bit != 1U << i)
        i++;
    assert(i < TAG_ORIGIN_COUNT);
    return origins[i];
}

bool tag_origin_parse(struct strview text, unsigned *bit)
{
    for (unsigned i = 0; i < TAG_ORIGIN_COUNT; i++) {
        if (sv_eq(text, sv_of(origins[i]))) {
            *bit = 1U << i;
            return true;
        }
    }
    return false;
}

const char *usage_class_name(enum usage_class c)
{
    assert((size_t)c < USAGE_COUNT);
    return usage_classes[c];
}

bool usage_is_empty(const struct usage *u)
{
    for (int i = 0; i < USAGE_COUNT; i++) {
        if (u->units[i].has)
            return false;
    }
    return true;
}

/* The hash */

static void hash_u32(struct sha256 *sha, uint32_t n)
{
    uint8_t bytes[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    sha256_update(sha, bytes, sizeof bytes);
}

static void hash_text(struct sha256 *sha, struct strview v)
{
    if (sv_is_null(v)) {
        hash_u32(sha, UINT32_MAX);
        return;
    }
    hash_u32(sha, (uint32_t)v.len);
    sha256_update(sha, v.ptr, v.len);
}

static void hash_long(struct sha256 *sha, struct opt_i64 n)
{
    uint8_t bytes[9] = {n.has ? 1 : 0};
    uint64_t v = n.has ? (uint64_t)n.v : 0;
    for (int i = 0; i < 8; i++)
        bytes[1 + i] = (uint8_t)(v >> (56 - 8 * i));
    sha256_update(sha, bytes, sizeof bytes);
}

/* The tags the caller sent, sorted by their bytes: neither order nor what the key adds makes a record another
 * one. */
static size_t sort_own_tags(const struct spend_call *call, const struct tag **sorted)
{
    size_t count = 0;
    for (size_t i = 0; i < call->tag_count; i++) {
        const struct tag *tag = &call->tags[i];
        if (tag->origins == TAG_ORIGIN_KEY)
            continue;
        assert(count < CALL_TAGS_LIMIT); /* spend_call_check comes first */
        size_t at = count++;
        while (at > 0 && sv_cmp(sorted[at - 1]->raw, tag->raw) > 0) {
            sorted[at] = sorted[at - 1];
            at--;
        }
        sorted[at] = tag;
    }
    return count;
}

void spend_call_hash(const struct spend_call *call, struct sha256 *sha, uint8_t out[SHA256_LEN])
{
    const struct tag *tags[CALL_TAGS_LIMIT];
    size_t tag_count = sort_own_tags(call, tags);

    sha256_begin(sha);
    hash_text(sha, SV_LIT(HASH_VERSION));
    hash_text(sha, sv_of(spend_source_name(call->source)));
    hash_text(sha, call->source_id);
    hash_long(sha, OPT_I64(call->admitted_at));
    hash_text(sha, sv_of(spend_operation_name(call->operation)));
    hash_text(sha, call->model_requested);
    hash_text(sha, call->model_replied);
    hash_text(sha, call->provider);
    hash_text(sha, call->service_tier);
    hash_text(sha, sv_of(spend_outcome_name(call->outcome)));
    hash_text(sha, sv_of(spend_quality_name(call->quality)));
    for (int i = 0; i < USAGE_COUNT; i++)
        hash_long(sha, call->usage.units[i]);
    hash_long(sha, call->reported_cost_nanos);
    hash_text(sha, call->key_hash);
    hash_long(sha, OPT_I64((int64_t)tag_count));
    for (size_t i = 0; i < tag_count; i++)
        hash_text(sha, tags[i]->raw);
    if (!sv_is_null(call->variant))
        hash_text(sha, call->variant);
    sha256_end(sha, out);
}

/* The check */

static bool refuse(struct err *err, const char *field, const char *why)
{
    return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "spend_call: %s %s", field, why);
}

static bool check_text(struct strview v, const char *field, struct err *err)
{
    if (v.len > LIMIT_TEXT_BYTES)
        return refuse(err, field, "is too long");
    if (sv_is_plain(v))
        return true;
    if (!sv_is_utf8(v))
        return refuse(err, field, "is not UTF-8");
    if (sv_has_control(v))
        return refuse(err, field, "holds a control character");
    return true;
}

static bool check_texts(const struct spend_call *call, struct err *err)
{
    const struct {
        struct strview text;
        const char *field;
    } texts[] = {
        {call->source_id, "source_id"},
        {call->instance, "instance"},
        {call->path, "path"},
        {call->upstream, "upstream"},
        {call->model_requested, "model_requested"},
        {call->model_replied, "model_replied"},
        {call->provider, "provider"},
        {call->service_tier, "service_tier"},
        {call->user_agent, "user_agent"},
        {call->upstream_call_id, "upstream_call_id"},
        {call->dispute, "dispute"},
        {call->variant, "variant"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (!check_text(texts[i].text, texts[i].field, err))
            return false;
    }
    if (call->provider_usage.len > LIMIT_PROVIDER_USAGE_BYTES)
        return refuse(err, "provider_usage", "is too long");
    if (!sv_is_utf8(call->provider_usage) || sv_find(call->provider_usage, '\0') != call->provider_usage.len)
        return refuse(err, "provider_usage", "is not text");
    return true;
}

static bool check_key(const struct spend_call *call, struct err *err)
{
    uint8_t key[SHA256_LEN];
    return sv_is_null(call->key_hash) || sha256_from_hex(call->key_hash, key, sizeof key) ||
           refuse(err, "key_hash", "is not 64 hex digits");
}

static bool check_numbers(const struct spend_call *call, struct err *err)
{
    const struct {
        struct opt_i64 n;
        const char *field;
    } numbers[] = {
        {call->boot, "boot"},
        {call->seq, "seq"},
        {call->upstream_status, "upstream_status"},
        {call->upstream_retries, "upstream_retries"},
        {call->upstream_fallbacks, "upstream_fallbacks"},
        {call->ttfb_us, "ttfb_us"},
        {call->duration_us, "duration_us"},
        {OPT_I64(call->request_bytes), "request_bytes"},
        {OPT_I64(call->reply_bytes), "reply_bytes"},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i].n.has && numbers[i].n.v < 0)
            return refuse(err, numbers[i].field, "is negative");
    }
    for (int i = 0; i < USAGE_COUNT; i++) {
        if (call->usage.units[i].has && call->usage.units[i].v < 0)
            return refuse(err, usage_classes[i], "is negative");
    }
    return true;
}

/* Past the year 2200 a time no longer fits what Postgres and RFC 3339 can say of it with room for sums. */
static bool check_times(const struct spend_call *call, struct err *err)
{
    if (call->admitted_at < YEAR_2020_US || call->admitted_at >= YEAR_2200_US)
        return refuse(err, "admitted_at", "is not between 2020 and 2200");
    if (call->received_at < 0 || call->received_at >= YEAR_2200_US)
        return refuse(err, "received_at", "is not a time");
    if (call->finished_at.has && (call->finished_at.v < 0 || call->finished_at.v >= YEAR_2200_US))
        return refuse(err, "finished_at", "is not a time");
    return true;
}

static bool check_tags(const struct spend_call *call, struct err *err)
{
    size_t own = 0;
    for (size_t i = 0; i < call->tag_count; i++) {
        const struct tag *tag = &call->tags[i];
        struct strview key;
        struct strview value;
        tag_split(tag->raw, &key, &value);
        if (sv_is_empty(tag->raw) || tag->raw.len > LIMIT_TAG_BYTES)
            return refuse(err, "tags", "hold an empty or too long tag");
        if (!sv_is_plain(tag->raw) && (!sv_is_utf8(tag->raw) || sv_has_control(tag->raw)))
            return refuse(err, "tags", "hold bytes no tag may have");
        if (!sv_eq(key, tag->key) || !sv_eq(value, tag->value))
            return refuse(err, "tags", "hold a key or value that is not the tag's");
        own += tag->origins != TAG_ORIGIN_KEY;
    }
    if (own > LIMIT_TAGS || call->tag_count > CALL_TAGS_LIMIT)
        return refuse(err, "tags", "are too many");
    return true;
}

bool spend_call_check_again(const struct spend_call *call, struct err *err)
{
    return check_times(call, err) && check_numbers(call, err) && check_texts(call, err);
}

bool spend_call_check(const struct spend_call *call, struct err *err)
{
    return spend_call_check_again(call, err) && check_key(call, err) && check_tags(call, err);
}
