/*
 * call_row: one row of table call as a value, and its way into and out of Postgres. One table names the
 * columns, so that COPY, SELECT and UPDATE cannot disagree. Owns nothing: texts are views into records,
 * results or the batch's arena.
 */
#ifndef SPEND_LEDGER_CALL_ROW_H
#define SPEND_LEDGER_CALL_ROW_H

#include "pg_session.h"
#include "spend/rank_fold.h"

struct call_tags {
    struct strview *raw;
    int32_t *origins;
    size_t count;
};

struct call_times {
    int64_t *utc_us;
    size_t count;
};

/* Ids of budget windows. */
struct call_ids {
    int64_t *id;
    size_t count;
};

/* What the gate had let through of it when it settled; only ever less. The rest is ungated. */
struct call_gate {
    struct call_ids windows; /* of those that it is charged to: in these */
    struct opt_i64 raw_nanos;
    struct opt_i64 billed_nanos;
    bool away; /* nobody was asked: the ledger was away */
};

struct call_row {
    struct uuid call_id;
    struct call_ranks ranks;
    int32_t revision;
    bool conflicted;

    int64_t account;
    struct opt_i64 raw_nanos;
    struct opt_i64 billed_nanos;
    int64_t markup_ppm;
    struct call_times posted_at;
    struct call_ids windows_raw;    /* what it was charged to: of budgets that measure raw, .. */
    struct call_ids windows_billed; /* .. and billed amounts */
    struct call_gate gate;

    int64_t admitted_at;
    int64_t received_at;
    struct strview source;
    struct strview source_id;
    struct strview operation;
    struct strview model_requested;
    struct strview key_hash;
    bool stream;
    struct call_tags tags;

    uint8_t hash[SHA256_LEN];
    struct strview outcome;
    struct strview quality;
    struct strview model_replied;
    struct strview provider;
    struct strview service_tier;
    struct strview variant;
    struct opt_i64 upstream_status;
    struct opt_i64 reported_cost_nanos;
    struct strview rating;
    struct opt_i64 price_version;
    struct strview price_key;
    struct opt_i64 rater_version;
    struct usage usage;
    struct record_origin origin;

    struct strview task;
    struct strview conversation;
    struct strview user;
    struct strview team;
    struct strview route;
    struct redrive redrive;
    struct strview reason;
    struct strview detail;
    struct opt_i64 first_seen;
    struct record_origin record;
};

#define CALL_COLUMNS(X)                                                                                      \
    X(identity_rank, BYTES, ranks.identity)                                                                  \
    X(measurement_rank, BYTES, ranks.measurement)                                                            \
    X(attribution_rank, BYTES, ranks.attribution)                                                            \
    X(revision, I32, revision)                                                                               \
    X(conflicted, BOOL, conflicted)                                                                          \
    X(account, I64, account)                                                                                 \
    X(raw_nanos, OPT_I64, raw_nanos)                                                                         \
    X(billed_nanos, OPT_I64, billed_nanos)                                                                   \
    X(markup_ppm, I64, markup_ppm)                                                                           \
    X(posted_at, TIMES, posted_at)                                                                           \
    X(windows_raw, IDS, windows_raw)                                                                         \
    X(windows_billed, IDS, windows_billed)                                                                   \
    X(gate_windows, IDS, gate.windows)                                                                       \
    X(gate_raw_nanos, OPT_I64, gate.raw_nanos)                                                               \
    X(gate_billed_nanos, OPT_I64, gate.billed_nanos)                                                         \
    X(gate_away, BOOL, gate.away)                                                                            \
    X(admitted_at, TIME, admitted_at)                                                                        \
    X(received_at, TIME, received_at)                                                                        \
    X(source, TEXT, source)                                                                                  \
    X(source_id, TEXT, source_id)                                                                            \
    X(operation, TEXT, operation)                                                                            \
    X(model_requested, TEXT, model_requested)                                                                \
    X(key_hash, TEXT, key_hash)                                                                              \
    X(stream, BOOL, stream)                                                                                  \
    X(tags, TAGS, tags)                                                                                      \
    X(tag_origins, TAG_ORIGINS, tags)                                                                        \
    X(hash, BYTES, hash)                                                                                     \
    X(outcome, TEXT, outcome)                                                                                \
    X(quality, TEXT, quality)                                                                                \
    X(model_replied, TEXT, model_replied)                                                                    \
    X(provider, TEXT, provider)                                                                              \
    X(service_tier, TEXT, service_tier)                                                                      \
    X(variant, TEXT, variant)                                                                                \
    X(upstream_status, OPT_I32, upstream_status)                                                             \
    X(reported_cost_nanos, OPT_I64, reported_cost_nanos)                                                     \
    X(rating, TEXT, rating)                                                                                  \
    X(price_version, OPT_I64, price_version)                                                                 \
    X(price_key, TEXT, price_key)                                                                            \
    X(rater_version, OPT_I32, rater_version)                                                                 \
    X(usage_input, OPT_I64, usage.units[USAGE_INPUT])                                                        \
    X(usage_cache_read, OPT_I64, usage.units[USAGE_CACHE_READ])                                              \
    X(usage_cache_write_5m, OPT_I64, usage.units[USAGE_CACHE_WRITE_5M])                                      \
    X(usage_cache_write_1h, OPT_I64, usage.units[USAGE_CACHE_WRITE_1H])                                      \
    X(usage_output, OPT_I64, usage.units[USAGE_OUTPUT])                                                      \
    X(usage_reasoning, OPT_I64, usage.units[USAGE_REASONING])                                                \
    X(usage_audio_in, OPT_I64, usage.units[USAGE_AUDIO_IN])                                                  \
    X(usage_audio_out, OPT_I64, usage.units[USAGE_AUDIO_OUT])                                                \
    X(usage_image_in, OPT_I64, usage.units[USAGE_IMAGE_IN])                                                  \
    X(usage_image_out, OPT_I64, usage.units[USAGE_IMAGE_OUT])                                                \
    X(usage_images, OPT_I64, usage.units[USAGE_IMAGES])                                                      \
    X(usage_characters, OPT_I64, usage.units[USAGE_CHARACTERS])                                              \
    X(usage_seconds_milli, OPT_I64, usage.units[USAGE_SECONDS_MILLI])                                        \
    X(usage_requests, OPT_I64, usage.units[USAGE_REQUESTS])                                                  \
    X(origin_topic, TEXT, origin.topic)                                                                      \
    X(origin_partition, I32, origin.partition)                                                               \
    X(origin_offset, I64, origin.offset)                                                                     \
    X(task, TEXT, task)                                                                                      \
    X(conversation, TEXT, conversation)                                                                      \
    X(user_id, TEXT, user)                                                                                   \
    X(team, TEXT, team)                                                                                      \
    X(route, TEXT, route)                                                                                    \
    X(redrive_id, REDRIVE_ID, redrive)                                                                       \
    X(redrive_at, REDRIVE_AT, redrive)                                                                       \
    X(reason, TEXT, reason)                                                                                  \
    X(detail, TEXT, detail)                                                                                  \
    X(first_seen, OPT_TIME, first_seen)                                                                      \
    X(record_topic, TEXT, record.topic)                                                                      \
    X(record_partition, I32, record.partition)                                                               \
    X(record_offset, I64, record.offset)

#define CALL_COLUMN_NAME(name, kind, member) ", " #name
#define CALL_COLUMN_NAMES                    "call_id" CALL_COLUMNS(CALL_COLUMN_NAME)

/* call_id, then CALL_COLUMNS: a COPY row, or the parameters of call_row_update_sql. */
void call_row_put(const struct call_row *row, struct pg_fields *out);
/* Row i of a SELECT of CALL_COLUMN_NAMES. Texts are views into the result, arrays lie in the arena. */
bool call_row_get(const struct pg_rows *rows, size_t i, struct arena *a, struct call_row *out,
                  struct err *err) NODISCARD;
/* UPDATE call SET .. WHERE call_id = $1, with a NUL at the end. */
bool call_row_update_sql(struct buffer *out) NODISCARD;

#endif
