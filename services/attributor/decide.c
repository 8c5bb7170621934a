/*
 * decide: read and check the record, wait for its configuration, attribute, rate, encode.
 * An output over its topic's limit is made smaller in steps that cost no money; a record must always end
 * somewhere.
 */
#include "decide.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "spend/avro_codec.h"

#define ARENA_BYTES (4U << 20)
/* Room in a dead letter for all but the original: a larger one is cut (it is whole at its origin). */
#define ORIGINAL_ROOM (LIMIT_DEAD_LETTER_BYTES - 4096)

/* How far an output was made smaller. */
enum shrink { SHRINK_NOT, SHRINK_USAGE, SHRINK_TAGS, SHRINK_STEPS };

struct decider {
    struct attribute_rules rules;
    struct sha256 *sha;
    struct arena arena;
    struct buffer out;
    /* of the record at hand */
    struct spend_call call;
    struct attribution attribution;
    struct rate_result rate;
    struct attributed_call attributed;
    struct dead_letter dead;
    struct tag tags[2 * LIMIT_TAGS];
};

const char *decide_verdict_name(enum decide_verdict verdict)
{
    assert(verdict < DECIDE_VERDICTS);
    switch (verdict) {
    case DECIDE_WAIT:
        return "wait";
    case DECIDE_ATTRIBUTED:
        return "attributed";
    case DECIDE_UNTAGGED:
    case DECIDE_UNKNOWN:
    case DECIDE_CONFLICT:
    case DECIDE_UNPRICED:
    case DECIDE_MALFORMED:
        return dead_reasons[verdict - DECIDE_UNTAGGED].name;
    case DECIDE_VERDICTS:
        break;
    }
    return "";
}

bool decider_new(struct decider **out, const struct attribute_rules *rules, struct err *err)
{
    struct decider *d = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "decide: out of memory");
    d->rules = *rules;
    d->sha = sha256_new();
    arena_init(&d->arena, ARENA_BYTES);
    buffer_init(&d->out, LIMIT_DEAD_LETTER_BYTES);
    *out = d;
    return true;
}

void decider_free(struct decider *d)
{
    if (d == NULL)
        return;
    sha256_free(d->sha);
    arena_free(&d->arena);
    buffer_free(&d->out);
    free(d);
}

static bool refuse(struct err *why, const char *text)
{
    return err_set(why, ERR_INVALID, FATE_DEAD_LETTER, "%s", text);
}

/* The call, if an honest record can look like this. */
static bool read_call(struct decider *d, const struct decide_record *record, struct err *why)
{
    if (sv_is_null(record->value))
        return refuse(why, "the record has no value");
    if (record->value.len > LIMIT_CALL_BYTES)
        return refuse(why, "the record is longer than a call may be");
    if (!avro_decode_spend_call(record->value, &d->arena, &d->call, why) || !spend_call_check(&d->call, why))
        return false;
    if (d->call.admitted_at > record->append_us + DECIDE_APPEND_SLACK_US)
        return refuse(why, "admitted_at is more than 60 s after the broker took the record");
    return true;
}

/* Puts into d->call what `step` leaves of it. */
static void shrink_call(struct decider *d, const struct spend_call *whole, enum shrink step,
                        struct decision *out)
{
    d->call = *whole;
    out->left_out = 0;
    if (step >= SHRINK_USAGE && !sv_is_null(whole->provider_usage)) {
        /* not null: whether the provider reported usage is part of a record's rank */
        d->call.provider_usage =
            arena_printf(&d->arena, "{\"spend_left_out_bytes\":%zu}", whole->provider_usage.len);
        out->left_out += whole->provider_usage.len;
    }
    if (step < SHRINK_TAGS)
        return;
    d->call.tags = d->tags;
    d->call.tag_count = 0;
    for (size_t i = 0; i < whole->tag_count; i++) {
        if (whole->tags[i].origins == TAG_ORIGIN_KEY)
            out->left_out += whole->tags[i].raw.len;
        else
            d->tags[d->call.tag_count++] = whole->tags[i];
    }
}

static bool encode_dead(struct decider *d, struct err *err)
{
    d->dead.call = d->call;
    return avro_encode_dead_letter(&d->dead, &d->out, err);
}

static bool encode_attributed(struct decider *d, struct err *err)
{
    d->attributed.call = d->call;
    return avro_encode_attributed_call(&d->attributed, &d->out, err);
}

/* Encodes into d->out within the limit. false with ERR_FULL: no step helped. */
static bool encode_within(struct decider *d, bool (*encode)(struct decider *, struct err *), size_t limit,
                          struct decision *out, struct err *err)
{
    const struct spend_call whole = d->call;
    for (int step = SHRINK_NOT; step < SHRINK_STEPS; step++) {
        shrink_call(d, &whole, (enum shrink)step, out);
        buffer_clear(&d->out);
        err_clear(err);
        if (!encode(d, err)) {
            if (err->code != ERR_FULL)
                return false;
        } else if (d->out.len <= limit) {
            out->value = buffer_view(&d->out);
            return true;
        }
    }
    d->call = whole;
    return err_set(err, ERR_FULL, FATE_DEAD_LETTER, "what was made of the record is over %zu bytes", limit);
}

/* The parts that every dead letter has. A record's key can be of any length: it is cut, or a record could be
 * made whose dead letter no broker takes. */
static void dead_begin(struct decider *d, const struct decide_record *record, enum dead_reason reason,
                       const char *detail, struct decision *out)
{
    out->verdict = (enum decide_verdict)(DECIDE_UNTAGGED + (int)reason);
    out->topic = dead_reasons[reason].topic;
    out->type = "spend.dead_letter";
    out->key = record->key;
    if (out->key.len > LIMIT_TEXT_BYTES)
        out->key.len = LIMIT_TEXT_BYTES;
    struct strview text = sv_of(detail);
    text.len = text.len > LIMIT_DETAIL_BYTES ? LIMIT_DETAIL_BYTES : text.len;
    text.len = sv_utf8_prefix(text);
    if (!arena_dup(&d->arena, text, &out->detail))
        out->detail = SV_LIT("");
    d->dead = (struct dead_letter){
        .kind = DEAD_KIND_CALL,
        .reason = sv_of(dead_reasons[reason].name),
        .detail = out->detail,
        .original = sv_is_null(record->value) ? SV_LIT("") : record->value,
        .origin = record->origin,
        .first_seen = record->append_us,
        .attempts = 1,
    };
}

static bool dead_malformed(struct decider *d, const struct decide_record *record, const char *detail,
                           struct decision *out, struct err *err)
{
    dead_begin(d, record, DEAD_MALFORMED, detail, out);
    out->left_out = 0;
    if (d->dead.original.len > ORIGINAL_ROOM) {
        d->dead.detail = arena_printf(
            &d->arena, "%s (%zu bytes, of which the first %d are kept: the rest lies at the origin)", detail,
            d->dead.original.len, ORIGINAL_ROOM);
        out->left_out = d->dead.original.len - ORIGINAL_ROOM;
        d->dead.original.len = ORIGINAL_ROOM;
    }
    buffer_clear(&d->out);
    if (!avro_encode_dead_letter(&d->dead, &d->out, err)) {
        err->fate = FATE_FATAL; /* the largest possible one fits: only memory can be missing */
        return false;
    }
    out->value = buffer_view(&d->out);
    return true;
}

/* A call with its money, if known: the ledger charges it to suspense. */
static bool dead_call(struct decider *d, const struct decide_record *record, enum dead_reason reason,
                      const char *detail, struct decision *out, struct err *err)
{
    dead_begin(d, record, reason, detail, out);
    struct dead_letter *dead = &d->dead;
    bool is_rated = d->rate.verdict == RATE_OK;
    dead->has_call_id = true;
    dead->call_id = d->call.call_id;
    dead->has_call = true;
    dead->has_hash = true;
    memcpy(dead->hash, d->attributed.hash, sizeof dead->hash);
    if (is_rated)
        dead->raw_nanos = OPT_I64(d->rate.raw_nanos);
    dead->estimated = is_rated && d->call.quality == QUALITY_ESTIMATED;
    if (d->rate.price_version > 0)
        dead->price_version = OPT_I64(d->rate.price_version);
    dead->rater_version = OPT_I64(RATER_VERSION);
    if (encode_within(d, encode_dead, LIMIT_DEAD_LETTER_BYTES, out, err))
        return true;
    return err->code == ERR_FULL && dead_malformed(d, record, err->text, out, err);
}

static bool attributed_call(struct decider *d, const struct decide_record *record,
                            const struct decide_config *config, struct decision *out, struct err *err)
{
    const struct attribution *named = &d->attribution;
    struct attributed_call *a = &d->attributed;
    a->origin = record->origin;
    a->account_id = named->account_id;
    a->task_id = named->task_id;
    a->conversation_id = named->conversation_id;
    a->user = named->user;
    a->team = named->team;
    a->route = named->route;
    a->redrive = (struct redrive){.has = false};
    a->raw_nanos = OPT_I64(d->rate.raw_nanos);
    a->rating = d->rate.rating;
    a->price_version = (struct opt_i64){.v = d->rate.price_version, .has = d->rate.price_version > 0};
    a->price_key = d->rate.price_key;
    a->rater_version = RATER_VERSION;
    a->config_watermark = config->watermark;
    out->verdict = DECIDE_ATTRIBUTED;
    out->assumed = a->rating == RATING_ASSUMED;
    out->topic = DECIDE_TOPIC_ATTRIBUTED;
    out->type = "spend.attributed_call";
    out->key = named->account_id;
    if (encode_within(d, encode_attributed, LIMIT_CALL_BYTES, out, err))
        return true;
    return err->code == ERR_FULL && dead_malformed(d, record, err->text, out, err);
}

/* A sum that does not fit is a cost nobody knows. */
static bool rate(struct decider *d, const struct spend_call *seen, const struct decide_config *config,
                 int64_t known_by, struct err *err)
{
    if (rater_rate(seen, config->registry, config->prices, known_by, &d->rate, err))
        return true;
    if (err->fate == FATE_FATAL)
        return false;
    int64_t price_version = d->rate.price_version;
    d->rate = (struct rate_result){.verdict = RATE_UNPRICED, .price_version = price_version};
    static_assert(sizeof d->rate.detail >= sizeof err->text, "an error's text fits a detail");
    memcpy(d->rate.detail, err->text, sizeof err->text);
    return true;
}

static bool decide_call(struct decider *d, const struct decide_config *config,
                        const struct decide_record *record, struct decision *out, struct err *err)
{
    /* A wild received_at must not make its partition wait for ever. */
    struct spend_call seen = d->call;
    if (seen.received_at > record->append_us + DECIDE_APPEND_SLACK_US)
        seen.received_at = record->append_us + DECIDE_APPEND_SLACK_US;
    out->known_by = attribute_known_by(&seen);
    if (out->known_by > config->watermark)
        return true;
    attribute(&seen, config->registry, &d->rules, &d->attribution);
    if (!rate(d, &seen, config, out->known_by, err))
        return false;
    spend_call_hash(&d->call, d->sha, d->attributed.hash);
    d->call.tags = d->attribution.tags;
    d->call.tag_count = d->attribution.tag_count;
    if (!sv_is_null(seen.dispute)) /* texts of a decoded record end in NUL */
        return dead_call(d, record, DEAD_CONFLICT, seen.dispute.ptr, out, err);
    switch (d->attribution.verdict) {
    case ATTRIBUTE_UNTAGGED:
        return dead_call(d, record, DEAD_UNTAGGED, d->attribution.detail, out, err);
    case ATTRIBUTE_UNKNOWN:
        return dead_call(d, record, DEAD_UNKNOWN, d->attribution.detail, out, err);
    case ATTRIBUTE_CONFLICT:
        return dead_call(d, record, DEAD_CONFLICT, d->attribution.detail, out, err);
    case ATTRIBUTE_ACCOUNT:
        break;
    }
    if (d->rate.verdict == RATE_UNPRICED)
        return dead_call(d, record, DEAD_UNPRICED, d->rate.detail, out, err);
    return attributed_call(d, record, config, out, err);
}

bool decide(struct decider *d, const struct decide_config *config, const struct decide_record *record,
            struct decision *out, struct err *err)
{
    *out = (struct decision){.verdict = DECIDE_WAIT};
    arena_reset(&d->arena);
    struct err why;
    err_clear(&why);
    if (read_call(d, record, &why))
        return decide_call(d, config, record, out, err);
    if (why.fate == FATE_FATAL) {
        *err = why;
        return false;
    }
    return dead_malformed(d, record, why.text, out, err);
}
