#include "api_call.h"

#include "api_entry.h"
#include "api_rows.h"
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

/* A tag's origin bits (enum tag_origin) as words. */
#define ORIGINS                                                                                              \
    "(SELECT coalesce(json_agg((SELECT coalesce(json_agg(w.word ORDER BY w.bit), '[]') FROM "                \
    "unnest(ARRAY['header',"                                                                                 \
    "'root','metadata','litellm_metadata','user','key','event']) WITH ORDINALITY AS w(word, bit)"            \
    " WHERE (o.bits >> (w.bit - 1)::int) & 1 = 1) ORDER BY o.n), '[]')"                                      \
    " FROM unnest(c.tag_origins) WITH ORDINALITY AS o(bits, n))"
#define USAGE                                                                                                \
    "json_build_object('input', c.usage_input, 'cache_read', c.usage_cache_read, 'cache_write_5m',"          \
    " c.usage_cache_write_5m, 'cache_write_1h', c.usage_cache_write_1h, 'output', c.usage_output, "          \
    "'reasoning',"                                                                                           \
    " c.usage_reasoning, 'audio_in', c.usage_audio_in, 'audio_out', c.usage_audio_out, 'image_in', "         \
    "c.usage_image_in,"                                                                                      \
    " 'image_out', c.usage_image_out, 'images', c.usage_images, 'characters', c.usage_characters, "          \
    "'seconds_milli',"                                                                                       \
    " c.usage_seconds_milli, 'requests', c.usage_requests)"
/* By time, for the table's own index on it: a call knows when its entries were posted. */
#define ENTRIES                                                                                              \
    "(SELECT coalesce(json_agg(" API_ENTRY_JSON " ORDER BY e.posted_at, e.account, e.account_seq), '[]')"    \
    " FROM entry AS e JOIN account AS a ON a.id = e.account"                                                 \
    " WHERE e.posted_at = ANY (c.posted_at) AND e.call_id = c.call_id)"

static const char call_sql[] =
    "SELECT (SELECT row_to_json(x)::text FROM (SELECT c.call_id,"
    " CASE WHEN c.reason IS NULL THEN 'billed' ELSE 'dead' END AS state, c.reason, c.detail,"
    " rfc3339(c.first_seen) AS first_seen, c.conflicted, c.source, c.source_id, c.operation, c.stream,"
    " c.model_requested, c.model_replied, c.provider, c.service_tier, c.outcome, c.quality, "
    "c.upstream_status,"
    " c.key_hash, rfc3339(c.admitted_at) AS admitted_at, rfc3339(c.received_at) AS received_at, "
    "c.tags, " ORIGINS
    " AS tag_origins, a.account_id, c.task, c.conversation, c.user_id AS user, c.team, c.route, " USAGE
    " AS usage, usd(c.raw_nanos) AS raw, usd(c.billed_nanos) AS billed, factor(c.markup_ppm) AS markup,"
    " usd(c.reported_cost_nanos) AS reported_cost, c.rating, c.price_version, c.price_key, c.rater_version, "
    "c.revision, " ENTRIES " AS entries,"
    " json_build_object('topic', c.origin_topic, 'partition', c.origin_partition, 'offset', c.origin_offset) "
    "AS origin,"
    " json_build_object('topic', c.record_topic, 'partition', c.record_partition, 'offset', c.record_offset) "
    "AS record"
    ") AS x), c.reason, c.raw_nanos, c.price_version, c.price_key, c.provider, c.service_tier, c.outcome,"
    " ARRAY[c.usage_input, c.usage_cache_read, c.usage_cache_write_5m, c.usage_cache_write_1h, "
    "c.usage_output,"
    " c.usage_reasoning, c.usage_audio_in, c.usage_audio_out, c.usage_image_in, c.usage_image_out, "
    "c.usage_images,"
    " c.usage_characters, c.usage_seconds_milli, c.usage_requests]"
    " FROM call AS c JOIN account AS a ON a.id = c.account WHERE c.call_id = $1";

enum column {
    COL_MEMBERS,
    COL_REASON,
    COL_RAW,
    COL_PRICE_VERSION,
    COL_PRICE_KEY,
    COL_PROVIDER,
    COL_SERVICE_TIER,
    COL_OUTCOME,
    COL_USAGE,
};

/* units x femtos as exact decimal USD. */
static struct strview exact_usd(int128 femtos, char out[AMOUNT_BYTES])
{
    int64_t whole = (int64_t)(femtos / FEMTOS_PER_USD);
    int64_t part = (int64_t)(femtos % FEMTOS_PER_USD);
    size_t end = (size_t)snprintf(out, AMOUNT_BYTES, "%" PRId64 ".%015" PRId64, whole, part);
    while (out[end - 1] == '0')
        end--;
    if (out[end - 1] == '.')
        end--;
    return (struct strview){out, end};
}

static void view_line(struct json_write *w, const struct rate_line *line)
{
    char text[AMOUNT_BYTES];
    json_write_open(w, '{');
    json_write_key(w, "class");
    json_write_str(w, usage_class_name(line->usage_class));
    json_write_key(w, "units");
    json_write_i64(w, line->units);
    json_write_key(w, "price");
    json_write_sv(w, exact_usd(line->femtos, text));
    json_write_key(w, "amount");
    json_write_sv(w, exact_usd((int128)line->units * line->femtos, text));
    json_write_key(w, "rate");
    json_write_str(w, line->rate_name);
    json_write_key(w, "assumed");
    json_write_bool(w, line->assumed);
    json_write_close(w, '}');
}

static void read_call(const struct pg_rows *row, struct spend_call *call)
{
    struct pg_array usage = pg_get_array(row, 0, COL_USAGE);
    struct strview units;
    *call = (struct spend_call){.provider = pg_get(row, 0, COL_PROVIDER),
                                .service_tier = pg_get(row, 0, COL_SERVICE_TIER),
                                .outcome = OUTCOME_COMPLETED};
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if (sv_eq(pg_get(row, 0, COL_OUTCOME), sv_of(spend_outcome_name((enum spend_outcome)i))))
            call->outcome = (enum spend_outcome)i;
    }
    for (int i = 0; i < USAGE_COUNT && pg_array_next(&usage, &units); i++) {
        if (!sv_is_null(units))
            call->usage.units[i] = OPT_I64(pg_value_i64(units));
    }
}

/* Rates the stored inputs again with the book that priced them. *ok: the result is the stored amount, to the
 * nano. */
static bool rate_again(struct api_request *r, const struct pg_rows *row, struct rate_result *out, bool *ok,
                       struct err *err)
{
    struct spend_call call;
    const struct price_book *book;
    struct err why;
    *ok = false;
    if (pg_is_null(row, 0, COL_RAW) || pg_is_null(row, 0, COL_PRICE_VERSION) ||
        pg_is_null(row, 0, COL_PRICE_KEY))
        return true;
    if (!price_store_book(r->prices, r->pg, pg_get_i64(row, 0, COL_PRICE_VERSION), &book, err))
        return err->code == ERR_NOT_FOUND;
    const struct price_entry *entry = price_book_find(book, pg_get(row, 0, COL_PRICE_KEY));
    read_call(row, &call);
    *ok = entry != NULL && rater_rate_with(&call, book, entry, out, &why) && out->verdict == RATE_OK &&
          out->raw_nanos == pg_get_i64(row, 0, COL_RAW);
    if (!*ok)
        log_warn("api_lines_differ", LOG_INT("price_version", book->version),
                 LOG_SV("price_key", pg_get(row, 0, COL_PRICE_KEY)), LOG_END);
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
    json_write_key(&r->json, "rating_detail");
    json_write_sv(&r->json, !adds_up || rated->detail[0] == '\0' ? SV_NULL : sv_of(rated->detail));
    json_write_key(&r->json, "lines");
    if (!adds_up) {
        json_write_null(&r->json);
        return true;
    }
    json_write_open(&r->json, '[');
    for (size_t i = 0; i < rated->line_count; i++)
        view_line(&r->json, &rated->lines[i]);
    json_write_close(&r->json, ']');
    return true;
}

bool api_call_get(struct api_request *r, struct err *err)
{
    struct uuid id;
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    enum dead_reason reason;
    if (!api_query_end(r))
        return false;
    if (!uuid_parse(r->param[0], &id))
        return api_refuse(r, 400, "invalid", "take it from the reply's x-spend-call-id header",
                          "a call id is a UUID");
    pg_fields_init(&args);
    pg_put_uuid(&args, &id);
    bool ok = pg_session_query(r->pg, call_sql, &args, &rows, err);
    if (ok && pg_rows_count(rows) == 0)
        ok = api_refuse(
            r, 404, "not_found",
            "a call is known a moment after it has ended; if it stays away, look at the attributor's and the "
            "ledger's /readyz",
            "this call is not known yet");
    if (ok) {
        json_write_open(&r->json, '{');
        api_rows_members(&r->json, pg_get(rows, 0, COL_MEMBERS));
        json_write_key(&r->json, "hint");
        bool dead = dead_reason_parse(pg_get(rows, 0, COL_REASON), &reason);
        json_write_str(&r->json, dead ? dead_reasons[reason].remedy : NULL);
        ok = view_lines(r, rows, err);
        json_write_close(&r->json, '}');
    }
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}
