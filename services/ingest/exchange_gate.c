/*
 * exchange_gate: one ticket a call; in observe mode the call does not wait for it.
 */
#include "ingest/exchange_gate.h"

#include "base/log.h"
#include "ingest/clock_probe.h"
#include "ingest/meter.h"

static const struct http_refusal body_unparsed = {
    400, "body_unparsed", "the request's body is no JSON that can be read: budgets cannot be checked"};
static const struct http_refusal tags_refused = {
    400, "too_many_tags",
    "a call may have 64 tags of 256 bytes each, without control characters: budgets cannot be checked"};
static const struct http_refusal ledger_away = {503, "ledger_unavailable",
                                                "budgets cannot be checked now, so no call is let through"};
static const struct http_refusal unpriced = {400, "unpriced_model",
                                             "the model has no price, so no budget can be held for it"};
static const struct http_refusal conflict = {403, "conflict", "the call names accounts that do not agree"};
static const struct http_refusal over_budget = {400, "budget_exceeded", "Budget has been exceeded!"};

const struct http_refusal *exchange_gate_unreadable(const struct gateway *g,
                                                    const struct tag_capture *capture, size_t body_bytes)
{
    if (g->gate_mode != GATE_HELD)
        return NULL;
    if (capture->body_unparsed && body_bytes > 0) {
        meter_add(METER_REFUSED_BODY, 1);
        return &body_unparsed;
    }
    if (capture->tags.fault == TAG_FAULT_NONE)
        return NULL;
    meter_add(METER_REFUSED_TAGS, 1);
    return &tags_refused;
}

static void decide(struct exchange *x, bool passes)
{
    void (*decided)(struct exchange *x, bool passes) = x->decided;
    x->decided = NULL;
    decided(x, passes);
}

static void refuse(struct exchange *x, const struct http_refusal *why, enum meter counted)
{
    meter_add(counted, 1);
    meter_add(METER_GATE_REFUSED, 1);
    x->answer = why;
    decide(x, false);
}

/* Nobody answered: --on-ledger-down. */
static void go_without(struct exchange *x)
{
    if (!x->gateway->gate_allows) {
        refuse(x, &ledger_away, METER_REFUSED_LEDGER);
        return;
    }
    meter_add(METER_GATE_FORCED, 1);
    x->call.gate = GATE_FORCED;
    if (x->ticket != NULL)
        gate_ticket_force(x->ticket, x->call.admitted_at);
    decide(x, true);
}

static void refuse_budget(struct exchange *x, const struct gate_reply *reply)
{
    const struct gateway *g = x->gateway;
    if (!gate_refusal_budget(reply->blocking, g->budget_status, clock_probe_now_us(), &x->refusal))
        log_error("refusal_unreadable", LOG_STR("call_id", x->call_id), LOG_END);
    refuse(x, &over_budget, METER_REFUSED_BUDGET);
}

static void on_enforced(void *arg, bool away, const struct gate_reply *reply)
{
    struct exchange *x = arg;
    if (away || reply->state == GATE_REPLY_OVER || reply->state == GATE_REPLY_OBSERVED) {
        go_without(x);
        return;
    }
    meter_add(METER_GATE_WARNED, reply->warns ? 1 : 0);
    meter_add(METER_GATE_UNPRICED, reply->priced ? 0 : 1);
    if (!sv_is_null(reply->conflict)) {
        if (!gate_refusal_conflict(reply->conflict, &x->refusal))
            log_error("refusal_unreadable", LOG_STR("call_id", x->call_id), LOG_END);
        refuse(x, &conflict, METER_REFUSED_CONFLICT);
    } else if (reply->state == GATE_REPLY_REFUSED) {
        refuse_budget(x, reply);
    } else if (!reply->priced && x->gateway->gate_needs_price) {
        refuse(x, &unpriced, METER_REFUSED_UNPRICED);
    } else {
        meter_add(METER_GATE_HELD, 1);
        x->call.admitted_at = reply->admitted_at;
        decide(x, true);
    }
}

/* true: the call would not have passed. */
static bool observed(bool away, const struct gate_reply *reply)
{
    meter_add(METER_GATE_WARNED, reply->warns ? 1 : 0);
    meter_add(METER_GATE_UNPRICED, away || reply->priced ? 0 : 1);
    bool blocks = reply->state == GATE_REPLY_REFUSED || !sv_is_null(reply->conflict);
    meter_add(away ? METER_GATE_UNOBSERVED : blocks ? METER_GATE_WOULD_BLOCK : METER_GATE_WOULD_PASS, 1);
    return blocks;
}

/* The call was over before. */
static void on_observed_late(void *arg, bool away, const struct gate_reply *reply)
{
    (void)arg;
    (void)observed(away, reply);
}

/* What would have been, for a header of the reply if that has not begun. */
static void on_observed(void *arg, bool away, const struct gate_reply *reply)
{
    struct exchange *x = arg;
    struct buffer names;
    if (!observed(away, reply))
        return;
    buffer_init(&names, REPLY_HEAD_BYTES_MAX);
    bool ok = sv_is_null(reply->blocking) ? buffer_append_sv(&names, SV_LIT("~conflict"))
                                          : gate_refusal_names(reply->blocking, &names);
    if (!ok || !arena_dup(&x->arena, buffer_view(&names), &x->would_block))
        x->would_block = SV_NULL;
    buffer_free(&names);
}

void exchange_gate_ask(struct exchange *x, void (*decided)(struct exchange *x, bool passes))
{
    struct gateway *g = x->gateway;
    x->decided = decided;
    if (!x->is_call || g->gate_mode == GATE_OFF) {
        decide(x, true);
        return;
    }
    bool observe = g->gate_mode == GATE_OBSERVE;
    x->ticket = gate_client_ask(g->gate, &x->call, &x->size, observe ? on_observed : on_enforced, x);
    if (observe) {
        meter_add(METER_GATE_UNOBSERVED, x->ticket == NULL ? 1 : 0);
        decide(x, true);
    } else if (x->ticket == NULL) {
        go_without(x);
    }
}

void exchange_gate_finish(struct exchange *x)
{
    struct gate_ticket *t = x->ticket;
    x->ticket = NULL;
    x->decided = NULL;
    if (t == NULL)
        return;
    if (x->gateway->gate_mode == GATE_OBSERVE)
        gate_ticket_leave(t, on_observed_late);
    else if (x->call.outcome == OUTCOME_REJECTED)
        gate_ticket_void(t);
    else
        gate_ticket_capture(t, &x->call);
}

void exchange_gate_drop(struct exchange *x)
{
    if (x->ticket != NULL)
        gate_ticket_void(x->ticket);
    x->ticket = NULL;
    buffer_free(&x->refusal.body);
}
