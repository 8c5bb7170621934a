#include "api_call.h"

#include "api_rows.h"
#include "base/log.h"
#include "base/money.h"
#include "pg_query.h"
#include "price_store.h"
#include "spend/dead_letter.h"
#include "spend/rater.h"
#include <inttypes.h>
#include <stdio.h>

#define ATTOS_PER_USD 1000000000000000000LL /* a femto in RATE_PER_MAX parts */
#define AMOUNT_BYTES  64

static const char call_sql[] =
    "SELECT j.json::text, c.reason, c.raw_nanos, c.price_version, c.price_key, c.provider, c.service_tier, "
    "c.variant, "
    "c.outcome,"
    " ARRAY[c.usage_input, c.usage_cache_read, c.usage_cache_write_5m, c.usage_cache_write_1h, "
    "c.usage_output,"
    " c.usage_reasoning, c.usage_audio_in, c.usage_audio_out, c.usage_image_in, c.usage_image_out, "
    "c.usage_images,"
    " c.usage_characters, c.usage_seconds_milli, c.usage_requests]"
    " FROM call AS c JOIN call_json AS j ON j.call_id = c.call_id WHERE c.call_id = $1";

enum column {
    COL_MEMBERS,
    COL_REASON,
    COL_RAW,
    COL_PRICE_VERSION,
    COL_PRICE_KEY,
    COL_PROVIDER,
    COL_SERVICE_TIER,
    COL_VARIANT,
    COL_OUTCOME,
    COL_USAGE,
};

/* attos (1e-18) as exact decimal USD. */
static struct strview exact_usd(int128 attos, char out[AMOUNT_BYTES])
{
    int64_t whole = (int64_t)(attos / ATTOS_PER_USD);
    int64_t part = (int64_t)(attos % ATTOS_PER_USD);
    size_t end = (size_t)snprintf(out, AMOUNT_BYTES, "%" PRId64 ".%018" PRId64, whole, part);
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
    json_write_sv(w, exact_usd((int128)line->femtos * (RATE_PER_MAX / line->per), text));
    json_write_key(w, "amount");
    json_write_sv(w, exact_usd((int128)line->units * line->femtos * (RATE_PER_MAX / line->per), text));
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
                                .variant = pg_get(row, 0, COL_VARIANT),
                                .outcome = OUTCOME_COMPLETED};
    (void)spend_outcome_parse(pg_get(row, 0, COL_OUTCOME), &call->outcome);
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
    struct pg_rows *rows = NULL;
    enum dead_reason reason;
    if (!api_query_end(r))
        return false;
    if (!uuid_parse(r->param[0], &id))
        return api_refuse(r, 404, "not_found",
                          "take the id from the reply's x-spend-call-id header: it is a UUID",
                          "this call is not known");
    if (!pg_query(r->pg, call_sql, PG_ARGS(PG_UUID(&id)), &rows, err))
        return false;
    bool ok =
        pg_rows_count(rows) > 0 ||
        api_refuse(
            r, 404, "not_found",
            "a call is known a moment after it has ended; if it stays away, look at the attributor's and "
            "the ledger's /readyz",
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
    return ok;
}
