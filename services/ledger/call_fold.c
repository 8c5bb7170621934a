/*
 * call_fold: rank_fold decides, this copies.
 */
#include "call_fold.h"

#include "base/money.h"
#include <string.h>

static bool copy_tags(struct call_row *row, const struct spend_call *call, struct arena *a)
{
    struct call_tags tags = {
        .raw = arena_alloc(a, call->tag_count * sizeof *tags.raw + 1),
        .origins = arena_alloc(a, call->tag_count * sizeof *tags.origins + 1),
        .count = call->tag_count,
    };
    if (tags.raw == NULL || tags.origins == NULL)
        return false;
    for (size_t i = 0; i < call->tag_count; i++) {
        tags.raw[i] = call->tags[i].raw;
        tags.origins[i] = (int32_t)call->tags[i].origins;
    }
    row->tags = tags;
    return true;
}

static bool copy_identity(struct call_row *row, const struct spend_call *call, struct arena *a)
{
    row->admitted_at = call->admitted_at;
    row->received_at = call->received_at;
    row->source = sv_of(spend_source_name(call->source));
    row->source_id = call->source_id;
    row->operation = sv_of(spend_operation_name(call->operation));
    row->model_requested = call->model_requested;
    row->key_hash = call->key_hash;
    row->stream = call->stream;
    return copy_tags(row, call, a);
}

static void copy_measurement(struct call_row *row, const struct bill_record *record)
{
    const struct spend_call *call = record->fold.call;
    memcpy(row->hash, record->fold.hash, sizeof row->hash);
    row->outcome = sv_of(spend_outcome_name(call->outcome));
    row->quality = sv_of(spend_quality_name(call->quality));
    row->model_replied = call->model_replied;
    row->provider = call->provider;
    row->service_tier = call->service_tier;
    row->variant = call->variant;
    row->upstream_status = call->upstream_status;
    row->reported_cost_nanos = call->reported_cost_nanos;
    row->usage = call->usage;
    row->origin = record->origin;
    row->raw_nanos = record->raw_nanos;
    row->rating = record->rating;
    row->price_version = record->price_version;
    row->price_key = record->price_key;
    row->rater_version = record->rater_version;
}

static void copy_attribution(struct call_row *row, const struct bill_record *record,
                             const struct record_origin *position)
{
    row->account = record->account;
    row->task = record->task;
    row->conversation = record->conversation;
    row->user = record->user;
    row->team = record->team;
    row->route = record->route;
    row->redrive = record->fold.redrive;
    row->reason = record->reason;
    row->detail = record->detail;
    row->first_seen = record->first_seen;
    row->record = *position;
}

bool call_fold(struct call_row *row, const struct bill_record *record, const struct record_origin *position,
               struct arena *a, unsigned *changes, struct err *err)
{
    *changes = rank_fold(&row->ranks, &record->fold);
    if ((*changes & FOLD_IDENTITY) != 0 && !copy_identity(row, record->fold.call, a))
        return err_set(err, ERR_MEMORY, FATE_FATAL, "call_fold: the arena is full");
    if ((*changes & FOLD_MEASUREMENT) != 0)
        copy_measurement(row, record);
    if ((*changes & FOLD_ATTRIBUTION) != 0)
        copy_attribution(row, record, position);
    return true;
}

bool call_bill(struct call_row *row, int64_t markup_ppm, struct err *err)
{
    const struct strview unpriced = sv_of(dead_reasons[DEAD_UNPRICED].name);
    bool suspended = row->ranks.attribution[0] == CLASS_SUSPENSE + 1;
    row->markup_ppm = markup_ppm;
    row->billed_nanos = (struct opt_i64){.has = row->raw_nanos.has};
    /* the reason of a dead letter is its own; an attributed call is dead only while nothing prices it */
    if (!suspended)
        row->reason = row->raw_nanos.has ? SV_NULL : unpriced;
    if (row->raw_nanos.has && !money_mark_up(row->raw_nanos.v, markup_ppm, &row->billed_nanos.v))
        return err_set(err, ERR_OVERFLOW, FATE_DEAD_LETTER, "its billed amount does not fit int64 nanos");
    return true;
}

struct bill call_bill_of(const struct call_row *row)
{
    return (struct bill){
        .has_account = row->ranks.attribution[0] != 0,
        .account = row->account,
        .has_amount = row->billed_nanos.has,
        .billed_nanos = row->billed_nanos.v,
    };
}
