/*
 * rank_fold: the three ranks as byte keys, and the movements between two bills. Layout: docs/records.md.
 */
#include "spend/rank_fold.h"

#include <assert.h>
#include <string.h>

#include "base/money.h"

/* Bytes of a measurement rank that say what was measured and by whom; the hash after them breaks ties. */
#define MEASUREMENT_WORDS 3
#define MEASUREMENT_HASH  (MEASUREMENT_WORDS + SHA256_LEN)

void call_record_of_attributed(const struct attributed_call *a, struct call_record *out)
{
    *out = (struct call_record){
        .call = &a->call,
        .hash = a->hash,
        .attribution_class = a->redrive.has ? CLASS_REDRIVE : CLASS_ATTRIBUTED,
        .redrive = a->redrive,
        .priced = a->raw_nanos.has,
    };
}

void call_record_of_dead_letter(const struct dead_letter *d, struct call_record *out)
{
    assert(d->has_call && d->has_hash);
    *out = (struct call_record){
        .call = &d->call,
        .hash = d->hash,
        .attribution_class = CLASS_SUSPENSE,
        .redrive = d->redrive,
        .priced = d->raw_nanos.has,
    };
}

static bool is_foreign(const struct spend_call *call)
{
    return call->source != SOURCE_GATEWAY;
}

/* Somebody else's word that nothing came of the call: it may be one failed attempt of several. */
static bool is_foreign_failure(const struct spend_call *call)
{
    return is_foreign(call) && (call->outcome == OUTCOME_FAILED || call->outcome == OUTCOME_REJECTED);
}

enum spend_quality fold_quality(const struct spend_call *call)
{
    if (is_foreign_failure(call))
        return QUALITY_UNKNOWN;
    if (is_foreign(call) && call->stream && sv_is_null(call->provider_usage) &&
        call->quality > QUALITY_ESTIMATED)
        return QUALITY_ESTIMATED;
    return call->quality;
}

/* With the lowest quality and the lowest outcome a foreign failure can never stand above what the gateway
 * saw. */
static enum spend_outcome fold_outcome(const struct spend_call *call)
{
    return is_foreign_failure(call) ? OUTCOME_REJECTED : call->outcome;
}

/* Enums rank from 1, so that all zero means: nothing seen. */
static uint8_t *put_rank(uint8_t *at, int rank)
{
    *at = (uint8_t)(rank + 1);
    return at + 1;
}

static uint8_t *put_bytes(uint8_t *at, const uint8_t *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

static uint8_t *put_time(uint8_t *at, int64_t time)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)((uint64_t)time >> (56 - 8 * i));
    return at + 8;
}

/* The earlier is the greater. */
static uint8_t *put_earlier(uint8_t *at, int64_t time)
{
    return put_time(at, INT64_MAX - time);
}

static void rank_record(const struct call_record *record, struct call_ranks *out)
{
    static const uint8_t no_redrive[8 + 16];
    const struct spend_call *call = record->call;

    uint8_t *at = put_rank(out->identity, (int)call->source);
    at = put_bytes(at, record->hash, SHA256_LEN);
    put_earlier(at, call->received_at);

    at = put_rank(out->measurement, (int)fold_quality(call));
    at = put_rank(at, (int)fold_outcome(call));
    at = put_rank(at, (int)call->source);
    at = put_bytes(at, record->hash, SHA256_LEN);
    at = put_rank(at, record->priced);
    put_earlier(at, call->received_at);

    at = put_rank(out->attribution, (int)record->attribution_class);
    if (record->redrive.has) {
        at = put_time(at, record->redrive.at);
        at = put_bytes(at, record->redrive.id.byte, sizeof record->redrive.id.byte);
    } else {
        at = put_bytes(at, no_redrive, sizeof no_redrive);
    }
    at = put_rank(at, (int)call->source);
    at = put_bytes(at, record->hash, SHA256_LEN);
    put_earlier(at, call->received_at);
}

static bool raise_to(uint8_t *standing, const uint8_t *seen, size_t len)
{
    if (memcmp(seen, standing, len) <= 0)
        return false;
    memcpy(standing, seen, len);
    return true;
}

unsigned rank_fold(struct call_ranks *ranks, const struct call_record *record)
{
    struct call_ranks seen;
    unsigned changes = FOLD_NOTHING;
    rank_record(record, &seen);
    if (memcmp(seen.measurement, ranks->measurement, MEASUREMENT_WORDS) == 0 &&
        memcmp(seen.measurement, ranks->measurement, MEASUREMENT_HASH) != 0)
        changes |= FOLD_CONFLICT;
    if (raise_to(ranks->identity, seen.identity, sizeof seen.identity))
        changes |= FOLD_IDENTITY;
    if (raise_to(ranks->measurement, seen.measurement, sizeof seen.measurement))
        changes |= FOLD_MEASUREMENT;
    if (raise_to(ranks->attribution, seen.attribution, sizeof seen.attribution))
        changes |= FOLD_ATTRIBUTION;
    return changes;
}

static int64_t posted(const struct bill *bill)
{
    return bill->has_account && bill->has_amount ? bill->billed_nanos : 0;
}

bool bill_difference(const struct bill *before, const struct bill *after, struct movement out[2],
                     size_t *count)
{
    int64_t was = posted(before);
    int64_t is = posted(after);
    *count = 0;
    if (was != 0 && is != 0 && before->account == after->account) {
        if (was == is)
            return true;
        out[0] = (struct movement){.account = after->account, .kind = MOVE_ADJUSTMENT};
        *count = 1;
        return money_sub(was, is, &out[0].amount_nanos);
    }
    if (was != 0) {
        bool to_zero = after->has_account && after->has_amount && before->account == after->account;
        out[(*count)++] = (struct movement){.account = before->account,
                                            .amount_nanos = was,
                                            .kind = to_zero ? MOVE_ADJUSTMENT : MOVE_REVERSAL};
    }
    if (is != 0) {
        struct movement *m = &out[(*count)++];
        *m = (struct movement){.account = after->account, .kind = MOVE_DEDUCTION};
        return money_sub(0, is, &m->amount_nanos);
    }
    return true;
}
