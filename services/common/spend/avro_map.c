/*
 * avro_map: the tables, one row a field, and their shape as text.
 * A row's macro names the C type it expects, so a member of another type does not compile.
 */
#include "spend/avro_map.h"

#include <string.h>

#define MOST_TAGS            ((size_t)2 * LIMIT_TAGS) /* the caller's and those bound to the key */
#define MOST_ORIGINS         16
#define MOST_POLICY_ACCOUNTS 1024
#define MOST_PRICE_ENTRIES   65536
#define MOST_RATES           256
#define MOST_ENTRY_BYTES     (16 << 10)
#define MOST_REGISTRY_BYTES  (1000 << 10) /* within the broker's own 1 MiB */
#define MOST_INSTANCE_BYTES  (4 << 10)
#define MOST_BUDGET_BYTES    (16 << 10)
#define MOST_ATTRIBUTED_BYTES                                                                                \
    ((size_t)2 * LIMIT_CALL_BYTES) /* a call of the largest size, and what we add                            \
                                    */

/* offsetof, and a compile error when the member has another type. */
#define AT(s, m, type) _Generic(((struct s *)0)->m, type: offsetof(struct s, m))

#define LONG(s, m)     .name = #m, .kind = AVRO_LONG, .at = AT(s, m, int64_t)
#define OPT_LONG(s, m) .name = #m, .kind = AVRO_LONG, .nullable = true, .at = AT(s, m, struct opt_i64)
#define INT(s, m)      .name = #m, .kind = AVRO_INT, .at = AT(s, m, int32_t)
#define OPT_INT(s, m)  .name = #m, .kind = AVRO_INT, .nullable = true, .at = AT(s, m, struct opt_i64)
#define BOOL(s, m)     .name = #m, .kind = AVRO_BOOL, .at = AT(s, m, bool)
#define TEXT(s, m)     .name = #m, .kind = AVRO_TEXT, .at = AT(s, m, struct strview)
#define OPT_TEXT(s, m) .name = #m, .kind = AVRO_TEXT, .nullable = true, .at = AT(s, m, struct strview)
#define BYTES(s, m)    .name = #m, .kind = AVRO_BYTES, .at = AT(s, m, struct strview)
#define FIXED(s, m)                                                                                          \
    .name = #m, .kind = AVRO_FIXED, .at = offsetof(struct s, m), .size = sizeof((struct s *)0)->m
#define OPT_FIXED(s, m, flag)                                                                                \
    .name = #m, .kind = AVRO_FIXED, .nullable = true, .at = offsetof(struct s, m), .has = AT(s, flag, bool), \
    .size = sizeof((struct s *)0)->m
#define ENUM(s, m, type, words, fn)                                                                          \
    .name = #m, .kind = AVRO_ENUM, .at = AT(s, m, enum type), .size = (words), .word = (fn)
#define WORD(s, m, type, words, fn)                                                                          \
    .name = #m, .kind = AVRO_WORD, .at = AT(s, m, enum type), .size = (words), .word = (fn)
#define RECORD(s, m, type, inner) .name = #m, .kind = AVRO_RECORD, .at = AT(s, m, struct type), .map = (inner)
#define OPT_RECORD(s, m, type, flag, inner)                                                                  \
    .name = #m, .kind = AVRO_RECORD, .nullable = true, .at = AT(s, m, struct type),                          \
    .has = AT(s, flag, bool), .map = (inner)
#define RECORDS(s, m, type, n, most, inner)                                                                  \
    .name = #m, .kind = AVRO_RECORDS, .at = AT(s, m, struct type *), .has = AT(s, n, size_t),                \
    .size = (most), .map = (inner)
#define TEXTS(s, m, n, most)                                                                                 \
    .name = #m, .kind = AVRO_TEXTS, .at = AT(s, m, struct strview *), .has = AT(s, n, size_t), .size = (most)

#define ROWS(table)  .fields = (table), .count = sizeof(table) / sizeof((table)[0])
#define MAP(s, rows) .name = #s, .c_size = sizeof(struct s), ROWS(rows)

_Static_assert(sizeof(enum spend_source) == sizeof(unsigned), "enums are read and written as unsigned");

/* The words of each enum behind one signature. */
#define WORDS(fn, name, type)                                                                                \
    static const char *fn(unsigned value)                                                                    \
    {                                                                                                        \
        return name((enum type)value);                                                                       \
    }
WORDS(source_word, spend_source_name, spend_source)
WORDS(outcome_word, spend_outcome_name, spend_outcome)
WORDS(quality_word, spend_quality_name, spend_quality)
WORDS(gate_word, spend_gate_name, spend_gate)
WORDS(operation_word, spend_operation_name, spend_operation)
WORDS(route_word, spend_route_name, spend_route)
WORDS(rating_word, spend_rating_name, spend_rating)
WORDS(entry_kind_word, entry_kind_name, entry_kind)
WORDS(entry_cause_word, entry_cause_name, entry_cause)
WORDS(registry_kind_word, registry_kind_name, registry_kind)
WORDS(trust_word, tag_trust_name, tag_trust)
WORDS(scope_word, scope_name, scope_kind)
WORDS(measure_word, budget_measure_name, budget_measure)
WORDS(mode_word, budget_mode_name, budget_mode)

static const char *dead_kind_word(unsigned value)
{
    return value == DEAD_KIND_CALL ? "call" : "notice";
}

static const char *instance_state_word(unsigned value)
{
    return value == 0 ? "alive" : "closed";
}

static const struct avro_field tag_rows[] = {
    {TEXT(tag, raw)},
    {OPT_TEXT(tag, key)},
    {OPT_TEXT(tag, value)},
    {.name = "origins", .kind = AVRO_ORIGINS, .at = AT(tag, origins, unsigned), .size = MOST_ORIGINS},
};
static const struct avro_map tag_map = {MAP(tag, tag_rows)};

#define USAGE(word, c)                                                                                       \
    .name = word, .kind = AVRO_LONG, .nullable = true,                                                       \
    .at = offsetof(struct usage, units) + (c) * sizeof(struct opt_i64)
static const struct avro_field usage_rows[USAGE_COUNT] = {
    {USAGE("input", USAGE_INPUT)},
    {USAGE("cache_read", USAGE_CACHE_READ)},
    {USAGE("cache_write_5m", USAGE_CACHE_WRITE_5M)},
    {USAGE("cache_write_1h", USAGE_CACHE_WRITE_1H)},
    {USAGE("output", USAGE_OUTPUT)},
    {USAGE("reasoning", USAGE_REASONING)},
    {USAGE("audio_in", USAGE_AUDIO_IN)},
    {USAGE("audio_out", USAGE_AUDIO_OUT)},
    {USAGE("image_in", USAGE_IMAGE_IN)},
    {USAGE("image_out", USAGE_IMAGE_OUT)},
    {USAGE("images", USAGE_IMAGES)},
    {USAGE("characters", USAGE_CHARACTERS)},
    {USAGE("seconds_milli", USAGE_SECONDS_MILLI)},
    {USAGE("requests", USAGE_REQUESTS)},
};
static const struct avro_map usage_map = {MAP(usage, usage_rows)};

static const struct avro_field spend_call_rows[] = {
    {FIXED(spend_call, call_id)},
    {ENUM(spend_call, source, spend_source, SOURCE_COUNT, source_word)},
    {OPT_TEXT(spend_call, source_id)},
    {OPT_TEXT(spend_call, instance)},
    {OPT_LONG(spend_call, boot)},
    {OPT_LONG(spend_call, seq)},
    {LONG(spend_call, admitted_at)},
    {LONG(spend_call, received_at)},
    {OPT_LONG(spend_call, finished_at)},
    {WORD(spend_call, operation, spend_operation, OPERATION_COUNT, operation_word)},
    {TEXT(spend_call, path)},
    {TEXT(spend_call, upstream)},
    {OPT_TEXT(spend_call, model_requested)},
    {OPT_TEXT(spend_call, model_replied)},
    {OPT_TEXT(spend_call, provider)},
    {OPT_TEXT(spend_call, service_tier)},
    {BOOL(spend_call, stream)},
    {RECORDS(spend_call, tags, tag, tag_count, MOST_TAGS, &tag_map)},
    {BOOL(spend_call, tags_truncated)},
    {BOOL(spend_call, body_unparsed)},
    {OPT_TEXT(spend_call, key_hash)},
    {OPT_TEXT(spend_call, user_agent)},
    {ENUM(spend_call, gate, spend_gate, GATE_COUNT, gate_word)},
    {OPT_TEXT(spend_call, upstream_call_id)},
    {OPT_INT(spend_call, upstream_status)},
    {OPT_INT(spend_call, upstream_retries)},
    {OPT_INT(spend_call, upstream_fallbacks)},
    {ENUM(spend_call, outcome, spend_outcome, OUTCOME_COUNT, outcome_word)},
    {RECORD(spend_call, usage, usage, &usage_map)},
    {OPT_TEXT(spend_call, provider_usage)},
    {ENUM(spend_call, quality, spend_quality, QUALITY_COUNT, quality_word)},
    {OPT_LONG(spend_call, reported_cost_nanos)},
    {OPT_LONG(spend_call, ttfb_us)},
    {OPT_LONG(spend_call, duration_us)},
    {LONG(spend_call, request_bytes)},
    {LONG(spend_call, reply_bytes)},
    {OPT_TEXT(spend_call, dispute), .since = 1},
    {OPT_TEXT(spend_call, variant), .since = 1},
};
static const struct avro_map spend_call_map = {MAP(spend_call, spend_call_rows)};

static const struct avro_field origin_rows[] = {
    {TEXT(record_origin, topic)},
    {INT(record_origin, partition)},
    {LONG(record_origin, offset)},
};
static const struct avro_map origin_map = {MAP(record_origin, origin_rows)};

static const struct avro_field redrive_rows[] = {
    {FIXED(redrive, id)},
    {LONG(redrive, at)},
    {OPT_TEXT(redrive, set)},
};
static const struct avro_map redrive_map = {MAP(redrive, redrive_rows)};

static const struct avro_field attributed_call_rows[] = {
    {RECORD(attributed_call, call, spend_call, &spend_call_map)},
    {FIXED(attributed_call, hash)},
    {RECORD(attributed_call, origin, record_origin, &origin_map)},
    {TEXT(attributed_call, account_id)},
    {OPT_TEXT(attributed_call, task_id)},
    {OPT_TEXT(attributed_call, conversation_id)},
    {OPT_TEXT(attributed_call, user)},
    {OPT_TEXT(attributed_call, team)},
    {ENUM(attributed_call, route, spend_route, ROUTE_COUNT, route_word)},
    {OPT_RECORD(attributed_call, redrive, redrive, redrive.has, &redrive_map)},
    {OPT_LONG(attributed_call, raw_nanos)},
    {ENUM(attributed_call, rating, spend_rating, RATING_COUNT, rating_word)},
    {OPT_LONG(attributed_call, price_version)},
    {OPT_TEXT(attributed_call, price_key)},
    {INT(attributed_call, rater_version)},
    {LONG(attributed_call, config_watermark)},
};

static const struct avro_field dead_letter_rows[] = {
    {ENUM(dead_letter, kind, dead_kind, 2, dead_kind_word)},
    {TEXT(dead_letter, reason)},
    {TEXT(dead_letter, detail)},
    {OPT_FIXED(dead_letter, call_id, has_call_id)},
    {BYTES(dead_letter, original)},
    {RECORD(dead_letter, origin, record_origin, &origin_map)},
    {LONG(dead_letter, first_seen)},
    {INT(dead_letter, attempts)},
    {OPT_RECORD(dead_letter, call, spend_call, has_call, &spend_call_map)},
    {OPT_FIXED(dead_letter, hash, has_hash)},
    {OPT_LONG(dead_letter, raw_nanos)},
    {BOOL(dead_letter, estimated)},
    {OPT_LONG(dead_letter, price_version)},
    {OPT_INT(dead_letter, rater_version)},
    {OPT_RECORD(dead_letter, redrive, redrive, redrive.has, &redrive_map)},
};

static const struct avro_field ledger_entry_rows[] = {
    {TEXT(ledger_entry, account_id)},
    {LONG(ledger_entry, account_seq)},
    {WORD(ledger_entry, kind, entry_kind, ENTRY_KIND_COUNT, entry_kind_word)},
    {LONG(ledger_entry, amount_nanos)},
    {LONG(ledger_entry, balance_after_nanos)},
    {OPT_FIXED(ledger_entry, call_id, has_call_id)},
    {OPT_TEXT(ledger_entry, external_id)},
    {OPT_TEXT(ledger_entry, task_id)},
    {OPT_TEXT(ledger_entry, conversation_id)},
    {OPT_TEXT(ledger_entry, model)},
    {OPT_LONG(ledger_entry, raw_nanos)},
    {OPT_LONG(ledger_entry, markup_ppm)},
    {OPT_LONG(ledger_entry, price_version)},
    {INT(ledger_entry, revision)},
    {OPT_LONG(ledger_entry, admitted_at)},
    {LONG(ledger_entry, posted_at)},
    {WORD(ledger_entry, cause, entry_cause, CAUSE_COUNT, entry_cause_word)},
};

static const struct avro_field tag_policy_rows[] = {
    {TEXTS(tag_policy, require, require_count, LIMIT_TAGS)},
    {WORD(tag_policy, trust, tag_trust, TRUST_LIST + 1, trust_word)},
    {TEXTS(tag_policy, accounts, account_count, MOST_POLICY_ACCOUNTS)},
};
static const struct avro_map tag_policy_map = {MAP(tag_policy, tag_policy_rows)};

static const struct avro_field registry_version_rows[] = {
    {LONG(registry_version, effective_from)},
    {LONG(registry_version, recorded_at)},
    {OPT_TEXT(registry_version, account_id)},
    {OPT_TEXT(registry_version, tier)},
    {OPT_LONG(registry_version, markup_ppm)},
    {OPT_TEXT(registry_version, user)},
    {OPT_TEXT(registry_version, team)},
    {TEXTS(registry_version, tags, tag_count, LIMIT_TAGS)},
    {OPT_RECORD(registry_version, tag_policy, tag_policy, tag_policy.has, &tag_policy_map)},
    {OPT_TEXT(registry_version, price_key)},
    {OPT_TEXT(registry_version, conversation_id)},
};
static const struct avro_map registry_version_map = {MAP(registry_version, registry_version_rows)};

static const struct avro_field registry_record_rows[] = {
    {WORD(registry_record, kind, registry_kind, REGISTRY_KIND_COUNT, registry_kind_word)},
    {TEXT(registry_record, id)},
    {RECORDS(registry_record, versions, registry_version, version_count, LIMIT_REGISTRY_VERSIONS,
             &registry_version_map)},
    {OPT_LONG(registry_record, watermark)},
    {OPT_LONG(registry_record, price_version)},
};

static const struct avro_field rate_rows[] = {
    {TEXT(price_rate, name)},
    {LONG(price_rate, femtos)},
};
static const struct avro_map rate_map = {MAP(price_rate, rate_rows)};

static const struct avro_field price_entry_rows[] = {
    {TEXT(price_entry, key)},
    {OPT_TEXT(price_entry, provider)},
    {OPT_TEXT(price_entry, mode)},
    {RECORDS(price_entry, rates, price_rate, rate_count, MOST_RATES, &rate_map)},
};
static const struct avro_map price_entry_map = {MAP(price_entry, price_entry_rows)};

static const struct avro_field price_book_rows[] = {
    {LONG(price_book, version)},
    {LONG(price_book, effective_from)},
    {LONG(price_book, recorded_at)},
    {TEXT(price_book, source)},
    {TEXT(price_book, sha256)},
    {RECORDS(price_book, entries, price_entry, entry_count, MOST_PRICE_ENTRIES, &price_entry_map)},
};

static const struct avro_field instance_rows[] = {
    {TEXT(instance, instance)},
    {LONG(instance, boot)},
    {LONG(instance, next_seq)},
    {LONG(instance, oldest_open_seq)},
    {.name = "state",
     .kind = AVRO_FLAG,
     .at = AT(instance, closed, bool),
     .size = 2,
     .word = instance_state_word},
    {LONG(instance, at)},
};

static const struct avro_field budget_state_rows[] = {
    {TEXT(budget_state, budget_id)},
    {WORD(budget_state, scope, scope_kind, SCOPE_KIND_COUNT, scope_word)},
    {TEXT(budget_state, value)},
    {INT(budget_state, revision)},
    {LONG(budget_state, window_start)},
    {OPT_LONG(budget_state, window_end)},
    {LONG(budget_state, n)},
    {OPT_LONG(budget_state, limit_nanos)},
    {WORD(budget_state, measure, budget_measure, MEASURE_COUNT, measure_word)},
    {WORD(budget_state, mode, budget_mode, MODE_COUNT, mode_word)},
    {LONG(budget_state, spent_nanos)},
    {LONG(budget_state, held_nanos)},
    {OPT_INT(budget_state, threshold_crossed)},
};

#define TOP(record, s, rows, most)                                                                           \
    .name = (record), .c_size = sizeof(struct s), ROWS(rows), .most_bytes = (most)
const struct avro_map avro_maps[AVRO_RECORD_COUNT] = {
    [AVRO_SPEND_CALL] = {TOP("SpendCall", spend_call, spend_call_rows, LIMIT_CALL_BYTES)},
    [AVRO_ATTRIBUTED_CALL] = {TOP("AttributedCall", attributed_call, attributed_call_rows,
                                  MOST_ATTRIBUTED_BYTES)},
    [AVRO_DEAD_LETTER] = {TOP("DeadLetter", dead_letter, dead_letter_rows, LIMIT_DEAD_LETTER_BYTES)},
    [AVRO_LEDGER_ENTRY] = {TOP("LedgerEntry", ledger_entry, ledger_entry_rows, MOST_ENTRY_BYTES)},
    [AVRO_REGISTRY_RECORD] = {TOP("RegistryRecord", registry_record, registry_record_rows,
                                  MOST_REGISTRY_BYTES)},
    [AVRO_PRICE_BOOK] = {TOP("PriceBook", price_book, price_book_rows, LIMIT_PRICE_BOOK_BYTES)},
    [AVRO_INSTANCE] = {TOP("Instance", instance, instance_rows, MOST_INSTANCE_BYTES)},
    [AVRO_BUDGET_STATE] = {TOP("BudgetState", budget_state, budget_state_rows, MOST_BUDGET_BYTES)},
};

static bool words_shape(const struct avro_field *f, struct buffer *out)
{
    bool ok = buffer_append(out, "enum(", 5);
    for (unsigned i = 0; ok && i < f->size; i++)
        ok = buffer_printf(out, "%s%s", i == 0 ? "" : ",", f->word(i));
    return ok && buffer_append_byte(out, ')');
}

static bool field_shape(const struct avro_field *f, struct buffer *out)
{
    static const char *const plain[] = {
        [AVRO_LONG] = "long",      [AVRO_INT] = "int",          [AVRO_BOOL] = "boolean",
        [AVRO_TEXT] = "string",    [AVRO_BYTES] = "bytes",      [AVRO_WORD] = "string",
        [AVRO_TEXTS] = "[string]", [AVRO_ORIGINS] = "[string]",
    };
    if (!buffer_printf(out, "%s:%s", f->name, f->nullable ? "?" : ""))
        return false;
    if (f->kind == AVRO_FIXED)
        return buffer_printf(out, "fixed%zu", f->size);
    if (f->kind == AVRO_ENUM || f->kind == AVRO_FLAG)
        return words_shape(f, out);
    if (f->kind == AVRO_RECORD)
        return avro_map_shape(f->map, out);
    if (f->kind == AVRO_RECORDS)
        return buffer_append_byte(out, '[') && avro_map_shape(f->map, out) && buffer_append_byte(out, ']');
    return buffer_append_sv(out, sv_of(plain[f->kind]));
}

bool avro_map_shape(const struct avro_map *map, struct buffer *out)
{
    bool ok = buffer_append_byte(out, '{');
    for (size_t i = 0; ok && i < map->count; i++)
        ok = (i == 0 || buffer_append_byte(out, ',')) && field_shape(&map->fields[i], out);
    return ok && buffer_append_byte(out, '}');
}
