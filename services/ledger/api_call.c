#include "api_call.h"

#include "api_entry.h"
#include "api_view.h"
#include "base/log.h"
#include "base/money.h"
#include "pg_session.h"
#include "price_store.h"
#include "spend/dead_letter.h"
#include "spend/rater.h"
#include <inttypes.h>
#include <stdio.h>

#define FEMTOS_PER_USD 1000000000000000LL
#define AMOUNT_BYTES   64

#define COLUMNS                                                                                              \
    "a.account_id, c.raw_nanos, c.billed_nanos, c.markup_ppm, c.revision, c.conflicted, c.admitted_at, "     \
    "c.received_at,"                                                                                         \
    " c.source, c.source_id, c.operation, c.model_requested, c.key_hash, c.stream, c.tags, c.tag_origins, "  \
    "c.outcome,"                                                                                             \
    " c.quality, c.model_replied, c.provider, c.service_tier, c.upstream_status, c.reported_cost_nanos, "    \
    "c.rating,"                                                                                              \
    " c.price_version, c.price_key, c.rater_version, c.task, c.conversation, c.user_id, c.team, c.route, "   \
    "c.reason,"                                                                                              \
    " c.detail, c.first_seen, c.origin_topic, c.origin_partition, c.origin_offset, c.record_topic, "         \
    "c.record_partition,"                                                                                    \
    " c.record_offset, c.usage_input, c.usage_cache_read, c.usage_cache_write_5m, c.usage_cache_write_1h,"   \
    " c.usage_output, c.usage_reasoning, c.usage_audio_in, c.usage_audio_out, c.usage_image_in, "            \
    "c.usage_image_out,"                                                                                     \
    " c.usage_images, c.usage_characters, c.usage_seconds_milli, c.usage_requests"

enum column {
    COL_ACCOUNT,
    COL_RAW,
    COL_BILLED,
    COL_MARKUP,
    COL_REVISION,
    COL_CONFLICTED,
    COL_ADMITTED,
    COL_RECEIVED,
    COL_SOURCE,
    COL_SOURCE_ID,
    COL_OPERATION,
    COL_MODEL_REQUESTED,
    COL_KEY_HASH,
    COL_STREAM,
    COL_TAGS,
    COL_TAG_ORIGINS,
    COL_OUTCOME,
    COL_QUALITY,
    COL_MODEL_REPLIED,
    COL_PROVIDER,
    COL_SERVICE_TIER,
    COL_UPSTREAM_STATUS,
    COL_REPORTED_COST,
    COL_RATING,
    COL_PRICE_VERSION,
    COL_PRICE_KEY,
    COL_RATER_VERSION,
    COL_TASK,
    COL_CONVERSATION,
    COL_USER,
    COL_TEAM,
    COL_ROUTE,
    COL_REASON,
    COL_DETAIL,
    COL_FIRST_SEEN,
    COL_ORIGIN_TOPIC,
    COL_ORIGIN_PARTITION,
    COL_ORIGIN_OFFSET,
    COL_RECORD_TOPIC,
    COL_RECORD_PARTITION,
    COL_RECORD_OFFSET,
    COL_USAGE, /* the first of USAGE_COUNT */
};

static void view_int(struct json_write *w, const char *key, struct opt_i64 n)
{
    json_write_key(w, key);
    if (n.has)
        json_write_i64(w, n.v);
    else
        json_write_null(w);
}

static void view_texts(struct json_write *w, const struct pg_rows *row, const enum column *columns,
                       const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        api_view_text(w, names[i], pg_get(row, 0, (int)columns[i]));
}

/* "tags": the set as it came; "tag_origins": where each stood. */
static void view_tags(struct json_write *w, const struct pg_rows *row)
{
    struct pg_array tags = pg_get_array(row, 0, COL_TAGS);
    struct pg_array origins = pg_get_array(row, 0, COL_TAG_ORIGINS);
    struct strview tag, bits;
    json_write_key(w, "tags");
    json_write_open(w, '[');
    while (pg_array_next(&tags, &tag))
        json_write_sv(w, tag);
    json_write_close(w, ']');
    json_write_key(w, "tag_origins");
    json_write_open(w, '[');
    while (pg_array_next(&origins, &bits)) {
        int64_t set = pg_value_i64(bits);
        json_write_open(w, '[');
        for (unsigned i = 0; i < TAG_ORIGIN_COUNT; i++) {
            if ((set & (1LL << i)) != 0)
                json_write_str(w, tag_origin_name(1U << i));
        }
        json_write_close(w, ']');
    }
    json_write_close(w, ']');
}

static void view_offset(struct json_write *w, const struct pg_rows *row, const char *key, enum column topic)
{
    json_write_key(w, key);
    json_write_open(w, '{');
    api_view_text(w, "topic", pg_get(row, 0, (int)topic));
    view_int(w, "partition", pg_get_opt_i64(row, 0, (int)topic + 1));
    view_int(w, "offset", pg_get_opt_i64(row, 0, (int)topic + 2));
    json_write_close(w, '}');
}

static void view_usage(struct json_write *w, const struct pg_rows *row)
{
    json_write_key(w, "usage");
    json_write_open(w, '{');
    for (int i = 0; i < USAGE_COUNT; i++)
        view_int(w, usage_class_name((enum usage_class)i), pg_get_opt_i64(row, 0, COL_USAGE + i));
    json_write_close(w, '}');
}

/* units x femtos as exact decimal USD; an int128 has 39 digits at most. */
static struct strview exact_usd(int128 femtos, char out[AMOUNT_BYTES])
{
    int64_t whole = (int64_t)(femtos / FEMTOS_PER_USD);
    int64_t part = (int64_t)(femtos % FEMTOS_PER_USD);
    int len = snprintf(out, AMOUNT_BYTES, "%" PRId64 ".%015" PRId64, whole, part);
    size_t end = (size_t)len;
    while (out[end - 1] == '0')
        end--;
    if (out[end - 1] == '.')
        end--;
    return (struct strview){out, end};
}

static void view_line(struct json_write *w, const struct rate_line *line)
{
    char price[MONEY_TEXT_MAX];
    char amount[AMOUNT_BYTES];
    size_t len = money_format_scaled(line->femtos, 15, price);
    json_write_open(w, '{');
    api_view_text(w, "class", sv_of(usage_class_name(line->usage_class)));
    view_int(w, "units", OPT_I64(line->units));
    api_view_text(w, "price", (struct strview){price, len});
    api_view_text(w, "amount", exact_usd((int128)line->units * line->femtos, amount));
    api_view_text(w, "rate", sv_of(line->rate_name));
    json_write_key(w, "assumed");
    json_write_bool(w, line->assumed);
    json_write_close(w, '}');
}

static bool outcome_of(struct strview name, enum spend_outcome *out)
{
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if (sv_eq(name, sv_of(spend_outcome_name((enum spend_outcome)i)))) {
            *out = (enum spend_outcome)i;
            return true;
        }
    }
    return false;
}

/* Rates the stored inputs again with the book that priced them. *ok: the result is the stored amount. */
static bool rate_again(struct api_request *r, const struct pg_rows *row, struct rate_result *out, bool *ok,
                       struct err *err)
{
    struct spend_call call = {.provider = pg_get(row, 0, COL_PROVIDER),
                              .service_tier = pg_get(row, 0, COL_SERVICE_TIER),
                              .model_requested = pg_get(row, 0, COL_MODEL_REQUESTED),
                              .model_replied = pg_get(row, 0, COL_MODEL_REPLIED)};
    const struct price_book *book;
    *ok = false;
    for (int i = 0; i < USAGE_COUNT; i++)
        call.usage.units[i] = pg_get_opt_i64(row, 0, COL_USAGE + i);
    if (pg_is_null(row, 0, COL_RAW) || pg_is_null(row, 0, COL_PRICE_VERSION) ||
        pg_is_null(row, 0, COL_PRICE_KEY) || !outcome_of(pg_get(row, 0, COL_OUTCOME), &call.outcome))
        return true;
    if (!price_store_book(r->prices, r->pg, pg_get_i64(row, 0, COL_PRICE_VERSION), &book, err))
        return err->code == ERR_NOT_FOUND;
    const struct price_entry *entry = price_book_find(book, pg_get(row, 0, COL_PRICE_KEY));
    struct err why;
    *ok = entry != NULL && rater_rate_with(&call, book, entry, out, &why) && out->verdict == RATE_OK &&
          out->raw_nanos == pg_get_i64(row, 0, COL_RAW);
    if (!*ok)
        log_warn("api_lines_differ", LOG_INT("price_version", book->version),
                 LOG_INT("raw_nanos", pg_get_i64(row, 0, COL_RAW)), LOG_END);
    return true;
}

/* "lines": what the raw cost is made of, to the femto; null when there is none, or when it does not add up.
 */
static bool view_lines(struct api_request *r, const struct pg_rows *row, struct err *err)
{
    struct rate_result *rated = arena_alloc(r->arena, sizeof *rated);
    bool adds_up;
    if (rated == NULL)
        return err_set(err, ERR_MEMORY, FATE_RETRY, "call: out of memory");
    if (!rate_again(r, row, rated, &adds_up, err))
        return false;
    json_write_key(&r->json, "lines");
    if (!adds_up) {
        json_write_null(&r->json);
        return true;
    }
    json_write_open(&r->json, '[');
    for (size_t i = 0; i < rated->line_count; i++)
        view_line(&r->json, &rated->lines[i]);
    json_write_close(&r->json, ']');
    api_view_text(&r->json, "rating_detail", rated->detail[0] == '\0' ? SV_NULL : sv_of(rated->detail));
    return true;
}

static void view_fate(struct json_write *w, const struct pg_rows *row)
{
    enum dead_reason reason;
    bool dead = !pg_is_null(row, 0, COL_REASON);
    api_view_text(w, "state", sv_of(dead ? "dead" : "billed"));
    api_view_text(w, "reason", pg_get(row, 0, COL_REASON));
    api_view_text(w, "detail", pg_get(row, 0, COL_DETAIL));
    if (dead && dead_reason_parse(pg_get(row, 0, COL_REASON), &reason))
        api_view_text(w, "hint", sv_of(dead_reasons[reason].remedy));
    else
        api_view_text(w, "hint", SV_NULL);
    api_view_time(w, "first_seen", pg_get_opt_time(row, 0, COL_FIRST_SEEN));
    json_write_key(w, "conflicted");
    json_write_bool(w, pg_get_bool(row, 0, COL_CONFLICTED));
}

static void view_seen(struct json_write *w, const struct pg_rows *row)
{
    static const enum column texts[] = {
        COL_SOURCE,   COL_SOURCE_ID,    COL_OPERATION, COL_MODEL_REQUESTED, COL_MODEL_REPLIED,
        COL_PROVIDER, COL_SERVICE_TIER, COL_OUTCOME,   COL_QUALITY,         COL_KEY_HASH};
    static const char *const names[] = {"source",        "source_id", "operation",    "model_requested",
                                        "model_replied", "provider",  "service_tier", "outcome",
                                        "quality",       "key_hash"};
    view_texts(w, row, texts, names, sizeof texts / sizeof texts[0]);
    json_write_key(w, "stream");
    json_write_bool(w, pg_get_bool(row, 0, COL_STREAM));
    view_int(w, "upstream_status", pg_get_opt_i64(row, 0, COL_UPSTREAM_STATUS));
    api_view_time(w, "admitted_at", pg_get_opt_time(row, 0, COL_ADMITTED));
    api_view_time(w, "received_at", pg_get_opt_time(row, 0, COL_RECEIVED));
}

static void view_bill(struct json_write *w, const struct pg_rows *row)
{
    static const enum column texts[] = {COL_ACCOUNT, COL_TASK,  COL_CONVERSATION, COL_USER,
                                        COL_TEAM,    COL_ROUTE, COL_RATING,       COL_PRICE_KEY};
    static const char *const names[] = {"account_id", "task",  "conversation", "user",
                                        "team",       "route", "rating",       "price_key"};
    view_texts(w, row, texts, names, sizeof texts / sizeof texts[0]);
    api_view_usd(w, "raw", pg_get_opt_i64(row, 0, COL_RAW));
    api_view_usd(w, "billed", pg_get_opt_i64(row, 0, COL_BILLED));
    api_view_usd(w, "reported_cost", pg_get_opt_i64(row, 0, COL_REPORTED_COST));
    api_view_markup(w, "markup", pg_get_i64(row, 0, COL_MARKUP));
    view_int(w, "price_version", pg_get_opt_i64(row, 0, COL_PRICE_VERSION));
    view_int(w, "rater_version", pg_get_opt_i64(row, 0, COL_RATER_VERSION));
    view_int(w, "revision", pg_get_opt_i64(row, 0, COL_REVISION));
}

static bool view(struct api_request *r, const struct uuid *id, const struct pg_rows *row, struct err *err)
{
    struct json_write *w = &r->json;
    char text[UUID_TEXT_LEN + 1];
    uuid_format(id, text);
    json_write_open(w, '{');
    api_view_text(w, "call_id", sv_of(text));
    view_fate(w, row);
    view_seen(w, row);
    view_tags(w, row);
    view_usage(w, row);
    view_bill(w, row);
    if (!view_lines(r, row, err) || !api_entry_view_call(r, id, err))
        return false;
    view_offset(w, row, "origin", COL_ORIGIN_TOPIC);
    view_offset(w, row, "record", COL_RECORD_TOPIC);
    json_write_close(w, '}');
    return true;
}

bool api_call_get(struct api_request *r, struct err *err)
{
    struct uuid id;
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    if (!api_query_end(r))
        return false;
    if (!uuid_parse(r->param[0], &id))
        return api_refuse(r, 400, "invalid", "take it from the reply's x-spend-call-id header",
                          "a call id is a UUID");
    pg_fields_init(&args);
    pg_put_uuid(&args, &id);
    bool ok = pg_session_query(
        r->pg, "SELECT " COLUMNS " FROM call AS c JOIN account AS a ON a.id = c.account WHERE c.call_id = $1",
        &args, &rows, err);
    if (ok && pg_rows_count(rows) == 0)
        ok = api_refuse(
            r, 404, "not_found",
            "a call is known a moment after it has ended; if it stays away, look at the attributor's and the "
            "ledger's /readyz",
            "this call is not known yet");
    ok = ok && view(r, &id, rows, err);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}
