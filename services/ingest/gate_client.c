/*
 * gate_client: a lane takes from the front of a list as many tickets as fit into one POST, and puts back what
 * was not answered. Each thing said can be said again.
 */
#include "ingest/gate_inside.h"

#include "base/clock.h"
#include "base/log.h"
#include "ingest/meter.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define PULSE_US       50000
#define PROBE_US       250000
#define TELL_WAIT_US   (5 * US_PER_SECOND)
#define POST_MAX_US    (10 * US_PER_SECOND) /* a stop waits for one that is under way */
#define BODY_BYTES     (7 << 20)            /* the ledger takes 8 MiB */
#define RENEW_AGAIN_US US_PER_SECOND
#define REFUSED_MOST   3 /* places refused one after the other: it is not them */

static bool lane_write(struct lane *lane, const struct gate_ticket *t, struct buffer *out)
{
    switch (lane->say) {
    case SAY_PLACE:
    case SAY_FORCE:
        return buffer_append_sv(out, buffer_view(&t->place));
    case SAY_CAPTURE:
        return buffer_append_sv(out, buffer_view(&t->ending));
    case SAY_VOID:
    case SAY_RENEW:
    case SAY_COUNT:
        break;
    }
    return gate_wire_id(&t->call_id, out);
}

static const char *path_of(const struct lane *lane)
{
    static const char *const paths[SAY_COUNT] = {[SAY_PLACE] = "/v1/holds",
                                                 [SAY_FORCE] = "/v1/holds",
                                                 [SAY_CAPTURE] = "/v1/holds/capture",
                                                 [SAY_VOID] = "/v1/holds/void",
                                                 [SAY_RENEW] = "/v1/holds/renew"};
    bool observe = lane->say == SAY_PLACE && lane->client->options.observe;
    return observe ? "/v1/holds?observe=true" : paths[lane->say];
}

/* Takes what is to be said from the front of a list, as many as one POST may carry. */
static void lane_take(struct lane *lane, enum say say, int64_t now_us)
{
    struct gate_client *g = lane->client;
    size_t most = lane->alone[say] > 0 ? 1 : GATE_AT_ONCE;
    struct gate_ticket *next;
    lane->say = say;
    for (struct gate_ticket *t = g->list[say]; t != NULL && lane->count < most; t = next) {
        size_t len = g->body.len;
        next = t->next;
        if (say == SAY_RENEW && t->renew_us > now_us)
            break;
        if (t->again_us > now_us)
            continue;
        if (!buffer_append_byte(&g->body, lane->count == 0 ? '[' : ',') || !lane_write(lane, t, &g->body) ||
            g->body.len > BODY_BYTES - GATE_CALL_BYTES) {
            g->body.len = len;
            break;
        }
        gate_list_drop(t);
        t->in_flight = true;
        lane->item[lane->count++] = t;
    }
}

/* In turn, so that none has to wait until nothing else is left to say. */
static void tell_take(struct lane *lane, int64_t now_us)
{
    for (int turn = SAY_FORCE; turn < SAY_COUNT && lane->count == 0; turn++)
        lane_take(lane, lane->say + 1 < SAY_COUNT ? lane->say + 1 : SAY_FORCE, now_us);
}

void gate_lane_next(struct lane *lane)
{
    struct gate_client *g = lane->client;
    int64_t now = clock_mono_us();
    if (ledger_post_is_busy(lane->post) || g->handing_out || now < lane->not_before_us)
        return;
    buffer_clear(&g->body);
    lane->is_probe = false;
    if (lane == &g->place) {
        if (!g->health.away)
            lane_take(lane, SAY_PLACE, now);
        lane->is_probe =
            lane->count == 0 && gate_health_is_doubtful(&g->health) && now - g->probed_us > PROBE_US;
        if (lane->is_probe)
            g->probed_us = now;
    } else {
        tell_take(lane, now);
    }
    if (lane->count == 0 && !lane->is_probe)
        return;
    bool ok = (lane->count > 0 || buffer_append_byte(&g->body, '[')) && buffer_append_byte(&g->body, ']');
    if (!ok) /* its room was kept free */
        abort();
    ledger_post_send(lane->post, path_of(lane), &g->body);
}

/* What the ledger now holds for a call that was asked for. */
static void place_answered(struct gate_ticket *t, const struct gate_reply *reply)
{
    bool waits = t->stage == STAGE_ASKED;
    t->maybe_held = false;
    t->renew_us = clock_mono_us() + t->client->options.renew_us;
    if (reply->state == GATE_REPLY_PLACED)
        t->stage = STAGE_HELD; /* also one that was let through meanwhile: as good as told */
    else if (waits)
        t->stage = STAGE_UNHELD;
    if (t->stage != STAGE_FORCED)
        buffer_free(&t->place);
    if (!waits || !t->left) /* else it goes with its answer */
        gate_ticket_settle(t);
    if (waits)
        gate_ticket_answer(t, false, reply);
}

static void said(enum say say, struct gate_ticket *t, const struct gate_reply *reply)
{
    t->in_flight = false;
    switch (say) {
    case SAY_PLACE:
        place_answered(t, reply);
        break;
    case SAY_FORCE:
        t->maybe_held = false;
        t->stage = reply->state == GATE_REPLY_PLACED ? STAGE_HELD : STAGE_UNHELD;
        t->renew_us = clock_mono_us(); /* it may have been placed long ago */
        buffer_free(&t->place);
        gate_ticket_settle(t);
        break;
    case SAY_CAPTURE:
    case SAY_VOID:
        gate_ticket_free(t);
        break;
    case SAY_RENEW:
        if (reply->state == GATE_REPLY_OVER && !t->over) {
            meter_add(METER_HOLDS_LAPSED, 1);
            t->stage = STAGE_UNHELD;
        }
        t->renew_us = clock_mono_us() + t->client->options.renew_us;
        gate_ticket_settle(t);
        break;
    case SAY_COUNT:
        break;
    }
}

/* It was not said, or nobody knows whether it was. alone: what it waits for may be its own, so that it goes
 * behind the others. */
static void unsaid(enum say say, struct gate_ticket *t, bool maybe, bool alone)
{
    bool asks = say == SAY_PLACE || say == SAY_FORCE;
    t->in_flight = false;
    t->maybe_held = t->maybe_held || (asks && maybe && !t->client->options.observe);
    if (say == SAY_RENEW && alone)
        t->renew_us = clock_mono_us() + PULSE_US;
    if (t->stage == STAGE_ASKED)
        gate_list_add(t, SAY_PLACE, !alone);
    else
        gate_ticket_settle(t);
}

/* The ledger will not take it. Of what it is not told the bill ends the hold, or that expires. */
static void refused(enum say say, struct gate_ticket *t, bool maybe)
{
    meter_add(METER_GATE_INVALID, 1);
    t->in_flight = false;
    if (t->stage == STAGE_ASKED) {
        t->maybe_held = maybe && !t->client->options.observe;
        t->client->health.away_for = METER_GATE_AWAY_ERROR;
        gate_ticket_give_up(t);
        return;
    }
    if (say == SAY_PLACE)
        t->maybe_held = t->maybe_held || (maybe && !t->client->options.observe);
    t->renew_us = clock_mono_us() + RENEW_AGAIN_US;
    meter_add(METER_GATE_DROPPED, say == SAY_RENEW || say == SAY_PLACE ? 0 : 1);
    if (say == SAY_CAPTURE || say == SAY_VOID) {
        gate_ticket_free(t);
        return;
    }
    if (say == SAY_FORCE) {
        t->stage = STAGE_UNHELD;
        t->maybe_held = false;
    }
    gate_ticket_settle(t);
}

/* Answers stand in the order of the calls. */
static bool replies_fit(const struct lane *lane, size_t count)
{
    if (count != lane->count)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct gate_reply *reply = &lane->client->reply[i];
        bool undated = lane->say == SAY_PLACE && reply->state == GATE_REPLY_PLACED && reply->admitted_at == 0;
        if (undated || uuid_cmp(&lane->item[i]->call_id, &reply->call_id) != 0)
            return false;
    }
    return true;
}

/* It may be something in the request: another one may be taken. Any other status is not the ledger's, or says
 * that it cannot now. */
static bool is_refusal(int status)
{
    return status == 400 || status == 413 || status == 500;
}

/* What an answer, or none, means to each call that was in the request. */
static void hand_out(struct lane *lane, int status, bool ok)
{
    struct gate_client *g = lane->client;
    bool is_refused = is_refusal(status);
    size_t count = lane->count;
    lane->count = 0;
    size_t *alone = &lane->alone[lane->say];
    /* which of them it was shows when they go one by one; a place says itself which of its calls are busy */
    if ((is_refused || (status == 503 && lane == &g->tell)) && count > 1)
        *alone = count;
    else
        *alone -= *alone > 0 ? 1 : 0;
    g->handing_out = true;
    for (size_t i = 0; i < count; i++) {
        struct gate_ticket *t = lane->item[ok ? i : count - 1 - i]; /* those put back keep their order */
        if (ok && g->reply[i].state == GATE_REPLY_BUSY) {
            t->again_us = clock_mono_us() + PULSE_US;
            unsaid(lane->say, t, false, true);
        } else if (ok) {
            said(lane->say, t, &g->reply[i]);
        } else if (is_refused && count == 1) {
            refused(lane->say, t, status != 400 && status != 413);
        } else {
            unsaid(lane->say, t, status != 400 && status != 413, count == 1 && status == 503);
        }
    }
    g->handing_out = false;
}

static void on_said(void *arg, int status, struct strview body, const struct err *why)
{
    struct lane *lane = arg;
    struct gate_client *g = lane->client;
    size_t replies = 0;
    bool ok =
        status == 200 && gate_wire_read(body, g->reply, GATE_AT_ONCE, &replies) && replies_fit(lane, replies);
    if (is_refusal(status))
        log_error("gate_refused_request", LOG_INT("status", status), LOG_STR("path", path_of(lane)),
                  LOG_INT("calls", (int64_t)lane->count), LOG_END);
    else if (!ok)
        lane->not_before_us = clock_mono_us() + PULSE_US;
    if (lane == &g->place && ok && lane->is_probe) {
        gate_health_probed(&g->health);
    } else if (lane == &g->place && ok) {
        gate_health_answered(&g->health);
        g->refused = 0;
    } else if (lane == &g->place) {
        g->refused += lane->count == 1 ? 1 : 0;
        if (lane->is_probe || !is_refusal(status) || g->refused >= REFUSED_MOST)
            gate_health_failed(&g->health, status, why);
    }
    hand_out(lane, status, ok);
    gate_lane_next(&g->place);
    gate_lane_next(&g->tell);
}

static bool is_late(const struct gate_ticket *t, int64_t now_us)
{
    return t->stage == STAGE_ASKED && now_us - t->asked_us >= t->client->options.wait_us;
}

/* They wait in no order of their time: what is tried alone goes behind. */
static struct gate_ticket *first_late(const struct gate_client *g, int64_t now_us)
{
    struct gate_ticket *t = g->list[SAY_PLACE];
    while (t != NULL && !g->health.away && !is_late(t, now_us))
        t = t->next;
    return t;
}

/* Nobody waits longer than is allowed, nor at all while the ledger is known to be away. */
static void give_up_late(struct gate_client *g)
{
    int64_t now = clock_mono_us();
    for (size_t i = 0; i < g->place.count; i++) {
        if (!is_late(g->place.item[i], now))
            continue;
        gate_health_waited(&g->health);
        gate_ticket_give_up(g->place.item[i]);
    }
    for (struct gate_ticket *t = first_late(g, now); t != NULL; t = first_late(g, now)) {
        gate_health_waited(&g->health);
        gate_ticket_give_up(t);
    }
}

static void on_pulse(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct gate_client *g = arg;
    gate_health_check(&g->health);
    give_up_late(g);
    gate_lane_next(&g->place);
    gate_lane_next(&g->tell);
}

static bool lane_new(struct gate_client *g, struct lane *lane, int64_t timeout_us, struct err *err)
{
    const struct ledger_post_options post = {.base = g->options.base,
                                             .url = g->options.ledger_url,
                                             .token = g->options.ledger_token,
                                             .timeout_us = timeout_us,
                                             .done = on_said,
                                             .arg = lane};
    lane->client = g;
    return ledger_post_new(&lane->post, &post, err);
}

bool gate_client_new(struct gate_client **out, const struct gate_client_options *options, struct err *err)
{
    const struct timeval pulse = {.tv_usec = PULSE_US};
    struct gate_client *g = calloc(1, sizeof *g);
    if (g == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "gate_client: out of memory");
    g->options = *options;
    gate_health_init(&g->health, options->ledger_url, options->wait_us, options->trial_us);
    buffer_init(&g->body, BODY_BYTES);
    g->pulse = event_new(options->base, -1, EV_PERSIST, on_pulse, g);
    int64_t post_us = options->wait_us < POST_MAX_US ? options->wait_us : POST_MAX_US;
    bool ok = lane_new(g, &g->place, post_us, err) && lane_new(g, &g->tell, TELL_WAIT_US, err);
    if (ok && (g->pulse == NULL || event_add(g->pulse, &pulse) != 0))
        ok = err_set(err, ERR_MEMORY, FATE_FATAL, "gate_client: no timer");
    if (!ok) {
        gate_client_free(g);
        return false;
    }
    gate_lane_next(&g->place); /* is it there? */
    *out = g;
    return true;
}

void gate_client_free(struct gate_client *g)
{
    if (g == NULL)
        return;
    g->handing_out = true;
    ledger_post_free(g->place.post);
    ledger_post_free(g->tell.post);
    if (g->pulse != NULL)
        event_free(g->pulse);
    for (struct lane *lane = &g->place; lane != NULL; lane = lane == &g->place ? &g->tell : NULL)
        for (size_t i = 0; i < lane->count; i++)
            gate_ticket_free(lane->item[i]);
    for (enum say say = SAY_PLACE; say < SAY_COUNT; say++)
        while (g->list[say] != NULL)
            gate_ticket_free(g->list[say]);
    buffer_free(&g->body);
    free(g);
}

bool gate_client_is_well(const struct gate_client *g, const char **why)
{
    *why = g->health.answered_once ? "the ledger's gate does not answer"
                                   : "the ledger's gate has not answered yet";
    return g->health.answered_once && !g->health.away;
}

bool gate_client_is_told(const struct gate_client *g)
{
    return g->untold == 0;
}
