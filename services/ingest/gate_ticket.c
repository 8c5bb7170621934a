/*
 * gate_ticket: in one list at a time, by what is to be said of it next; in none while a lane has it.
 */
#include "ingest/gate_inside.h"

#include "base/clock.h"
#include "base/log.h"
#include "ingest/meter.h"

#include <event2/event.h>
#include <stdlib.h>
#include <utlist.h>

void gate_list_add(struct gate_ticket *t, enum say say, bool front)
{
    struct gate_client *g = t->client;
    t->list = say;
    t->listed = true;
    if (front)
        DL_PREPEND(g->list[say], t);
    else
        DL_APPEND(g->list[say], t);
}

/* In the order in which they fall due. */
static void list_add_renewal(struct gate_ticket *t)
{
    struct gate_ticket **list = &t->client->list[SAY_RENEW];
    struct gate_ticket *before = *list == NULL ? NULL : (*list)->prev; /* the last */
    while (before != NULL && before->renew_us > t->renew_us)
        before = before == *list ? NULL : before->prev;
    t->list = SAY_RENEW;
    t->listed = true;
    if (before == NULL)
        DL_PREPEND(*list, t);
    else
        DL_APPEND_ELEM(*list, before, t);
}

void gate_list_drop(struct gate_ticket *t)
{
    if (!t->listed)
        return;
    t->listed = false;
    DL_DELETE(t->client->list[t->list], t);
}

void gate_ticket_free(struct gate_ticket *t)
{
    struct gate_client *g = t->client;
    gate_list_drop(t);
    g->untold -= t->over ? 1 : 0;
    meter_set(METER_GATE_UNTOLD, (int64_t)g->untold);
    buffer_free(&t->place);
    buffer_free(&t->ending);
    free(t);
}

void gate_ticket_settle(struct gate_ticket *t)
{
    struct gate_client *g = t->client;
    if (t->in_flight)
        return;
    gate_list_drop(t);
    if (t->stage == STAGE_FORCED)
        gate_list_add(t, SAY_FORCE, false);
    else if (t->over && (t->stage == STAGE_HELD || t->maybe_held))
        gate_list_add(t, t->ending.len > 0 && t->stage == STAGE_HELD ? SAY_CAPTURE : SAY_VOID, false);
    else if (t->over || t->left)
        gate_ticket_free(t);
    else if (t->stage == STAGE_HELD)
        list_add_renewal(t);
    gate_lane_next(&g->tell);
}

void gate_ticket_answer(struct gate_ticket *t, bool away, const struct gate_reply *reply)
{
    gate_answered_fn *answered = t->answered;
    t->answered = NULL;
    meter_add(METER_GATE_WAITING, -1);
    meter_observe(METER_GATE_WAIT, clock_mono_us() - t->asked_us);
    meter_add(t->client->health.away_for, away ? 1 : 0);
    bool left = t->left;
    answered(t->arg, away, reply);
    if (left)
        gate_ticket_settle(t);
}

void gate_ticket_give_up(struct gate_ticket *t)
{
    static const struct gate_reply none = {.state = GATE_REPLY_OVER};
    t->stage = STAGE_UNHELD;
    gate_list_drop(t);
    gate_ticket_answer(t, true, &none);
}

struct gate_ticket *gate_client_ask(struct gate_client *g, const struct spend_call *call,
                                    const struct gate_size *size, gate_answered_fn *answered, void *arg)
{
    struct gate_ticket *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->client = g;
    t->call_id = call->call_id;
    t->answered = answered;
    t->arg = arg;
    t->asked_us = clock_mono_us();
    buffer_init(&t->place, GATE_CALL_BYTES);
    buffer_init(&t->ending, GATE_CALL_BYTES);
    if (!gate_wire_place(call, size, &t->place)) {
        gate_ticket_free(t);
        return NULL;
    }
    meter_add(METER_GATE_WAITING, 1);
    gate_list_add(t, SAY_PLACE, false);
    if (g->health.away)
        event_active(g->pulse, EV_TIMEOUT, 0);
    else
        gate_lane_next(&g->place);
    return t;
}

void gate_ticket_force(struct gate_ticket *t, int64_t admitted_at)
{
    struct buffer place;
    buffer_init(&place, GATE_CALL_BYTES);
    if (t->place.len > 0 && gate_wire_force(buffer_view(&t->place), admitted_at, &place)) {
        buffer_free(&t->place);
        t->place = place;
        t->stage = STAGE_FORCED;
    } else { /* it is billed without */
        buffer_free(&place);
        meter_add(METER_GATE_DROPPED, 1);
    }
    gate_ticket_settle(t);
}

static void ticket_end(struct gate_ticket *t)
{
    struct gate_client *g = t->client;
    t->over = true;
    meter_set(METER_GATE_UNTOLD, (int64_t)++g->untold);
    if (t->answered != NULL) {
        t->answered = NULL;
        t->stage = STAGE_UNHELD;
        meter_add(METER_GATE_WAITING, -1);
    }
    if (g->untold > g->options.tickets_max && !t->in_flight) {
        meter_add(METER_GATE_DROPPED, t->stage != STAGE_UNHELD || t->maybe_held ? 1 : 0);
        gate_ticket_free(t);
        return;
    }
    gate_ticket_settle(t);
}

void gate_ticket_capture(struct gate_ticket *t, const struct spend_call *call)
{
    if (!gate_wire_capture(call, &t->ending)) {
        log_error("capture_too_large", LOG_INT("bytes", (int64_t)t->ending.len), LOG_END);
        meter_add(METER_GATE_DROPPED, 1); /* its bill ends the hold */
        t->stage = STAGE_UNHELD;
        t->maybe_held = false;
    }
    ticket_end(t);
}

void gate_ticket_void(struct gate_ticket *t)
{
    if (t->stage == STAGE_FORCED && !t->in_flight) /* it was never told */
        t->stage = STAGE_UNHELD;
    ticket_end(t);
}

void gate_ticket_leave(struct gate_ticket *t, gate_answered_fn *answered)
{
    t->left = true;
    t->arg = NULL;
    if (t->answered != NULL)
        t->answered = answered;
    else
        gate_ticket_settle(t);
}
