/*
 * bill_record: decoding and the checks that keep a bad value out of the batch.
 */
#include "bill_record.h"

#include "spend/avro_codec.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

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

static bool are_storable(const struct bill_record *r)
{
    const struct spend_call *call = r->fold.call;
    assert(call != NULL); /* a record that bills has one */
    const struct strview texts[] = {
        call->source_id,
        call->model_requested,
        call->model_replied,
        call->provider,
        call->service_tier,
        call->key_hash,
        r->origin.topic,
        r->account_id,
        r->price_key,
        r->task,
        r->conversation,
        r->user,
        r->team,
        r->detail,
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (!is_storable(texts[i]))
            return false;
    }
    for (size_t i = 0; i < call->tag_count; i++) {
        if (!is_storable(call->tags[i].raw))
            return false;
    }
    return true;
}

/* What no attributor writes: an account of ours in an attributed call, a cost below zero. */
static bool is_honest(const struct bill_record *r, struct err *err)
{
    if (!spend_call_check(r->fold.call, err))
        return false;
    if (r->raw_nanos.has && r->raw_nanos.v < 0)
        return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "raw_nanos is below zero");
    if (sv_is_null(r->reason) && (sv_is_empty(r->account_id) || r->account_id.len > LIMIT_ID_BYTES ||
                                  sv_starts_with(r->account_id, SV_LIT("~"))))
        return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "account_id is none a call can be attributed to");
    if (!are_storable(r))
        return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "a text holds a NUL byte or is no UTF-8");
    return true;
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
    r->task = v->task_id;
    r->conversation = v->conversation_id;
    r->user = v->user;
    r->team = v->team;
    r->route = sv_of(spend_route_name(v->route));
    r->state = RECORD_BILLS;
    return true;
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
