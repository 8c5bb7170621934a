/*
 * bill_record: decoding and the checks that keep a bad value out of the batch.
 */
#include "bill_record.h"

#include "spend/avro_codec.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

#define YEAR_2200_US 7258118400000000LL /* as in spend_call: later times fit no sum and no RFC 3339 text */

void input_record_sha256(const struct input_record *record, uint8_t out[SHA256_LEN])
{
    struct sha256 *sha = sha256_new();
    const uint64_t key_len = record->key.len;
    sha256_begin(sha);
    sha256_update(sha, &key_len, sizeof key_len);
    sha256_update(sha, record->key.ptr, record->key.len);
    sha256_update(sha, record->value.ptr, record->value.len);
    sha256_end(sha, out);
    sha256_free(sha);
}

void bill_record_poison(struct bill_record *r, const char *why)
{
    r->state = RECORD_POISON;
    (void)snprintf(r->why, sizeof r->why, "%s", why);
}

/* Postgres holds any UTF-8 but NUL. */
static bool is_storable(struct strview v)
{
    return sv_is_null(v) || (memchr(v.ptr, '\0', v.len) == NULL && sv_is_utf8(v));
}

static bool refuse(struct err *err, const char *field, const char *why)
{
    return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "%s %s", field, why);
}

/* The texts around the call; those in it are spend_call_check's. An index holds no text of any length. */
static bool check_texts(const struct bill_record *r, struct err *err)
{
    const struct {
        struct strview text;
        size_t most;
        const char *field;
    } texts[] = {
        {r->origin.topic, LIMIT_TEXT_BYTES, "origin.topic"},
        {r->account_id, LIMIT_ID_BYTES, "account_id"},
        {r->price_key, LIMIT_TEXT_BYTES, "price_key"},
        {r->task, LIMIT_TAG_BYTES, "task_id"},
        {r->conversation, LIMIT_TAG_BYTES, "conversation_id"},
        {r->user, LIMIT_ID_BYTES, "user"},
        {r->team, LIMIT_ID_BYTES, "team"},
        {r->detail, LIMIT_DETAIL_BYTES, "detail"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].text.len > texts[i].most)
            return refuse(err, texts[i].field, "is too long");
        if (!is_storable(texts[i].text))
            return refuse(err, texts[i].field, "holds a NUL byte or is no UTF-8");
    }
    return true;
}

static bool check_time(struct opt_i64 time, const char *field, struct err *err)
{
    return !time.has || (time.v >= 0 && time.v < YEAR_2200_US) ||
           refuse(err, field, "is not between 1970 and 2200");
}

/* What no attributor writes: an account of ours in an attributed call, a cost below zero. */
static bool is_honest(const struct bill_record *r, struct err *err)
{
    const struct redrive *redrive = &r->fold.redrive;
    const struct opt_i64 redriven_at = {.v = redrive->at, .has = redrive->has};
    assert(r->fold.call != NULL); /* a record that bills has one */
    if (!spend_call_check(r->fold.call, err) || !check_time(r->first_seen, "first_seen", err) ||
        !check_time(redriven_at, "redrive.at", err) ||
        !check_time(r->config_watermark, "config_watermark", err))
        return false;
    if (r->raw_nanos.has && r->raw_nanos.v < 0)
        return refuse(err, "raw_nanos", "is below zero");
    if (sv_is_null(r->reason) && (sv_is_empty(r->account_id) || r->account_id.len > LIMIT_ID_BYTES ||
                                  sv_starts_with(r->account_id, SV_LIT("~"))))
        return refuse(err, "account_id", "is none a call can be attributed to");
    return check_texts(r, err);
}

static bool read_attributed(struct bill_record *r, struct arena *a, struct err *err)
{
    struct attributed_call *v = arena_alloc(a, sizeof *v);
    if (v == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "no room for a record");
    if (!avro_decode_attributed_call(r->input->value, a, v, err))
        return false;
    call_record_of_attributed(v, &r->fold);
    r->origin = v->origin;
    r->account_id = v->account_id;
    r->raw_nanos = v->raw_nanos;
    r->rating = v->raw_nanos.has ? sv_of(spend_rating_name(v->rating)) : SV_NULL;
    r->price_version = v->price_version;
    r->price_key = v->price_key;
    r->rater_version = OPT_I64(v->rater_version);
    r->config_watermark = OPT_I64(v->config_watermark);
    r->task = v->task_id;
    r->conversation = v->conversation_id;
    r->user = v->user;
    r->team = v->team;
    r->route = sv_of(spend_route_name(v->route));
    r->state = RECORD_BILLS;
    return true;
}

/* Of what the attributor could not read, the key may tell: ingest's is the call's id. What the ledger parked
 * itself it has dealt with. */
static bool find_call_id(const struct dead_letter *v, struct strview key, struct uuid *out)
{
    return sv_eq(v->origin.topic, SV_LIT("spend.calls")) && uuid_parse(key, out);
}

static bool read_dead(struct bill_record *r, struct arena *a, struct err *err)
{
    enum dead_reason reason;
    struct dead_letter *v = arena_alloc(a, sizeof *v);
    if (v == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "no room for a record");
    if (!avro_decode_dead_letter(r->input->value, a, v, err))
        return false;
    if (v->kind == DEAD_KIND_NOTICE) {
        r->state = RECORD_NOTHING;
        return true;
    }
    if (dead_reason_parse(v->reason, &reason) && reason == DEAD_MALFORMED) {
        r->state = find_call_id(v, r->input->key, &r->call_id) ? RECORD_ENDS : RECORD_NOTHING;
        return true;
    }
    if (!v->has_call || !v->has_hash)
        return err_set(err, ERR_INVALID, FATE_DEAD_LETTER,
                       "a dead letter of kind call has no call or no hash");
    if (!dead_reason_parse(v->reason, &reason) || dead_reasons[reason].account == NULL)
        return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "a dead letter's reason has no suspense account");
    call_record_of_dead_letter(v, &r->fold);
    r->origin = v->origin;
    r->account_id = sv_of(dead_reasons[reason].account);
    r->raw_nanos = v->raw_nanos;
    r->price_version = v->price_version;
    r->rater_version = v->rater_version;
    r->reason = sv_of(dead_reasons[reason].name);
    r->detail = v->detail;
    r->first_seen = OPT_I64(v->first_seen);
    r->state = RECORD_BILLS;
    return true;
}

bool bill_record_read(const struct input_record *input, bool dead, struct arena *a, struct bill_record *out,
                      struct err *err)
{
    *out = (struct bill_record){.input = input};
    bool ok =
        !sv_is_null(input->value) || err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "the record has no value");
    ok = ok && (dead ? read_dead(out, a, err) : read_attributed(out, a, err));
    ok = ok && (out->state != RECORD_BILLS || is_honest(out, err));
    if (!ok && err->fate == FATE_FATAL)
        return false;
    if (!ok)
        bill_record_poison(out, err->text);
    return true;
}
