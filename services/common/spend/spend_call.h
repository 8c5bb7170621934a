/*
 * spend_call: what was seen of one call (schemas/spend_call.avsc), as an open value.
 * Strings are views into memory the maker owns (an arena as a rule); a null view is null.
 */
#ifndef SPEND_SPEND_SPEND_CALL_H
#define SPEND_SPEND_SPEND_CALL_H

#include "base/arena.h"
#include "base/limits.h"
#include "base/sha256.h"
#include "base/uuid.h"

struct opt_i64 {
    int64_t v;
    bool has;
};
#define OPT_I64(n) ((struct opt_i64){.v = (n), .has = true})

/* In rank order, as in the schema. */
enum spend_source { SOURCE_PROXY_LOG, SOURCE_EVENTS_API, SOURCE_GATEWAY, SOURCE_COUNT };
enum spend_outcome {
    OUTCOME_REJECTED,
    OUTCOME_FAILED,
    OUTCOME_UNKNOWN,
    OUTCOME_ABORTED,
    OUTCOME_COMPLETED,
    OUTCOME_COUNT
};
enum spend_quality { QUALITY_UNKNOWN, QUALITY_ESTIMATED, QUALITY_PARTIAL, QUALITY_FINAL, QUALITY_COUNT };
enum spend_gate { GATE_OFF, GATE_OBSERVE, GATE_HELD, GATE_FORCED, GATE_COUNT };

enum spend_operation {
    OPERATION_CHAT,
    OPERATION_COMPLETION,
    OPERATION_RESPONSES,
    OPERATION_MESSAGES,
    OPERATION_EMBEDDINGS,
    OPERATION_RERANK,
    OPERATION_IMAGE,
    OPERATION_SPEECH,
    OPERATION_TRANSCRIPTION,
    OPERATION_BATCH,
    OPERATION_FINE_TUNE,
    OPERATION_OTHER, /* a call path without a usage table: recorded, unpriced */
    OPERATION_COUNT
};

/* Where a tag stood: bits of tag.origins. */
enum tag_origin {
    TAG_ORIGIN_HEADER = 1 << 0,
    TAG_ORIGIN_ROOT = 1 << 1,
    TAG_ORIGIN_METADATA = 1 << 2,
    TAG_ORIGIN_LITELLM_METADATA = 1 << 3,
    TAG_ORIGIN_USER = 1 << 4,
    TAG_ORIGIN_KEY = 1 << 5,
    TAG_ORIGIN_EVENT = 1 << 6,
};
#define TAG_ORIGIN_COUNT 7

struct tag {
    struct strview raw;
    struct strview key;   /* null without separator */
    struct strview value; /* null without separator */
    unsigned origins;     /* bits of enum tag_origin */
};

/* Disjoint classes, in the schema's order. */
enum usage_class {
    USAGE_INPUT,
    USAGE_CACHE_READ,
    USAGE_CACHE_WRITE_5M,
    USAGE_CACHE_WRITE_1H,
    USAGE_OUTPUT,
    USAGE_REASONING,
    USAGE_AUDIO_IN,
    USAGE_AUDIO_OUT,
    USAGE_IMAGE_IN,
    USAGE_IMAGE_OUT,
    USAGE_IMAGES,
    USAGE_CHARACTERS,
    USAGE_SECONDS_MILLI,
    USAGE_REQUESTS,
    USAGE_COUNT
};

struct usage {
    struct opt_i64 units[USAGE_COUNT];
};

struct spend_call {
    struct uuid call_id;
    enum spend_source source;
    struct strview source_id;
    struct strview instance;
    struct opt_i64 boot;
    struct opt_i64 seq;
    int64_t admitted_at; /* UTC micros, as every time here */
    int64_t received_at;
    struct opt_i64 finished_at;
    enum spend_operation operation;
    struct strview path;
    struct strview upstream;
    struct strview model_requested;
    struct strview model_replied;
    struct strview provider;
    struct strview service_tier;
    bool stream;
    struct tag *tags;
    size_t tag_count;
    bool tags_truncated;
    bool body_unparsed;
    struct strview key_hash;
    struct strview user_agent;
    enum spend_gate gate;
    struct strview upstream_call_id;
    struct opt_i64 upstream_status;
    struct opt_i64 upstream_retries;
    struct opt_i64 upstream_fallbacks;
    enum spend_outcome outcome;
    struct usage usage;
    struct strview provider_usage;
    enum spend_quality quality;
    struct opt_i64 reported_cost_nanos;
    struct opt_i64 ttfb_us;
    struct opt_i64 duration_us;
    int64_t request_bytes;
    int64_t reply_bytes;
    struct strview variant; /* of an image, as price keys have it: "standard/1024-x-1024" */
    struct strview dispute; /* not null: why it is not to be believed; its cost goes to suspense */
};

/* The words of the schema. _parse is false on any other word. */
const char *spend_source_name(enum spend_source source);
const char *spend_outcome_name(enum spend_outcome outcome);
const char *spend_quality_name(enum spend_quality quality);
const char *spend_gate_name(enum spend_gate gate);
const char *spend_operation_name(enum spend_operation operation);
bool spend_operation_parse(struct strview text, enum spend_operation *out);
bool spend_outcome_parse(struct strview text, enum spend_outcome *out);
const char *tag_origin_name(unsigned bit); /* one bit */
bool tag_origin_parse(struct strview text, unsigned *bit);
const char *usage_class_name(enum usage_class c);

bool usage_is_empty(const struct usage *u); /* no class has a value */

/*
 * SHA-256 of what the record says: source, source_id, admitted_at, operation, models, provider, service tier,
 * outcome, quality, usage, reported cost, variant, tags (those of origin key alone left out), key_hash. Not
 * seq, instance, durations. The same hash is a repeat. Layout: docs/records.md. `sha` is scratch, reused.
 */
void spend_call_hash(const struct spend_call *call, struct sha256 *sha, uint8_t out[SHA256_LEN]);

/*
 * Refuses what no honest record holds: negative units, sizes or durations, a key_hash that is not 64 hex
 * digits, tags over the limits or with control bytes, texts over LIMIT_TEXT_BYTES, admitted_at before 2020.
 * *err says which field.
 */
bool spend_call_check(const struct spend_call *call, struct err *err) NODISCARD;
/* The same of a call whose tags and key_hash have passed it and stayed as they are. */
bool spend_call_check_again(const struct spend_call *call, struct err *err) NODISCARD;

#endif
