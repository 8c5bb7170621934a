/*
 * gate_client: a ticket stands in one list at a time, by what is to be said of it next; a lane takes from the
 * front of a list as many as fit into one POST, and puts back what was not answered. Each thing said can be
 * said again.
 */
#include "ingest/gate_client.h"

#include "base/clock.h"
#include "base/log.h"
#include "ingest/gate_health.h"
#include "ingest/ledger_post.h"
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

/* What is to be said of a ticket. */
enum say { SAY_PLACE, SAY_FORCE, SAY_CAPTURE, SAY_VOID, SAY_RENEW, SAY_COUNT };

enum stage {
    STAGE_ASKED,  /* waits for its answer */
    STAGE_UNHELD, /* answered; nothing is held, as far as we know */
    STAGE_FORCED, /* let through, to be told */
    STAGE_HELD,
};

struct gate_ticket {
    struct gate_client *client;
    struct uuid call_id;
    enum stage stage;
    bool in_flight;  /* a lane has it: in no list */
    bool maybe_held; /* a POST that asked for it had no answer */
    bool over;       /* the call is; the ticket is nobody's */
    bool left;       /* so it is, but the answer is wanted */
    bool listed;
    enum say list;              /* .. and in which it is */
    gate_answered_fn *answered; /* NULL: nobody waits */
    void *arg;
    int64_t asked_us;
    int64_t renew_us;     /* when it is due */
    struct buffer place;  /* its JSON, until it was answered */
    struct buffer ending; /* of a capture; empty: void */
    struct gate_ticket *prev;
    struct gate_ticket *next;
};

struct lane {
    struct gate_client *client;
    struct ledger_post *post;
    enum say say; /* the last */
    struct gate_ticket *item[GATE_AT_ONCE];
    size_t count;
    bool is_probe;
    size_t alone; /* so many more go one by one: one of a request was refused */
    int64_t not_before_us;
};

struct gate_client {
    struct gate_client_options options;
    struct event *pulse;
    struct lane place;
    struct lane tell;
    struct gate_ticket *list[SAY_COUNT];
    size_t untold;    /* tickets that are over */
    bool handing_out; /* answers: nothing is sent in between */
    struct buffer body;
    struct gate_reply reply[GATE_AT_ONCE];
    struct gate_health health; /* by the answers to places */
    int refused;               /* places alone, since one was answered */
    int64_t probed_us;
};

static void lane_next(struct lane *lane);

static void list_add(struct gate_ticket *t, enum say say, bool front)
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

static void list_drop(struct gate_ticket *t)
{
    if (!t->listed)
        return;
    t->listed = false;
    DL_DELETE(t->client->list[t->list], t);
}

static struct gate_ticket *list_pop(struct gate_client *g, enum say say)
{
    struct gate_ticket *t = g->list[say];
    t->listed = false;
    DL_DELETE(g->list[say], t);
    return t;
}

static void ticket_free(struct gate_ticket *t)
{
    struct gate_client *g = t->client;
    list_drop(t);
    g->untold -= t->over ? 1 : 0;
    meter_set(METER_GATE_UNTOLD, (int64_t)g->untold);
    buffer_free(&t->place);
    buffer_free(&t->ending);
    free(t);
}

/* Where a ticket goes that no lane has. */
static void ticket_settle(struct gate_ticket *t)
{
    struct gate_client *g = t->client;
    if (t->in_flight)
        return;
    list_drop(t);
    if (t->stage == STAGE_FORCED)
        list_add(t, SAY_FORCE, false);
    else if (t->over && (t->stage == STAGE_HELD || t->maybe_held))
        list_add(t, t->ending.len > 0 && t->stage == STAGE_HELD ? SAY_CAPTURE : SAY_VOID, false);
    else if (t->over || t->left)
        ticket_free(t);
    else if (t->stage == STAGE_HELD)
        list_add_renewal(t);
    lane_next(&g->tell);
}

/* The asker may end it. */
static void ticket_answer(struct gate_ticket *t, bool away, const struct gate_reply *reply)
{
    gate_answered_fn *answered = t->answered;
    t->answered = NULL;
    meter_add(METER_GATE_WAITING, -1);
    meter_observe(METER_GATE_WAIT, clock_mono_us() - t->asked_us);
    meter_add(t->client->health.away_for, away ? 1 : 0);
    bool left = t->left;
    answered(t->arg, away, reply);
    if (left)
        ticket_settle(t);
}

/* Nobody waits for it any longer. It may be in flight. */
static void ticket_give_up(struct gate_ticket *t)
{
    static const struct gate_reply none = {.state = GATE_REPLY_OVER};
    t->stage = STAGE_UNHELD;
    list_drop(t);
    ticket_answer(t, true, &none);
}

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
    size_t most = lane->alone > 0 ? 1 : GATE_AT_ONCE;
    lane->say = say;
    while (lane->count < most && g->list[say] != NULL) {
        struct gate_ticket *t = g->list[say];
        size_t len = g->body.len;
        if (say == SAY_RENEW && t->renew_us > now_us)
            break;
        if (!buffer_append_byte(&g->body, lane->count == 0 ? '[' : ',') || !lane_write(lane, t, &g->body) ||
            g->body.len > BODY_BYTES - GATE_CALL_BYTES) {
            g->body.len = len;
            break;
        }
        t->in_flight = true;
        lane->item[lane->count++] = list_pop(g, say);
    }
}

/* In turn, so that none has to wait until nothing else is left to say. */
static void tell_take(struct lane *lane, int64_t now_us)
{
    for (int turn = SAY_FORCE; turn < SAY_COUNT && lane->count == 0; turn++)
        lane_take(lane, lane->say + 1 < SAY_COUNT ? lane->say + 1 : SAY_FORCE, now_us);
}

static void lane_next(struct lane *lane)
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
            lane->count == 0 && (g->health.away || !g->health.answered_once) && now - g->probed_us > PROBE_US;
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
        ticket_settle(t);
    if (waits)
        ticket_answer(t, false, reply);
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
        ticket_settle(t);
        break;
    case SAY_CAPTURE:
    case SAY_VOID:
        ticket_free(t);
        break;
    case SAY_RENEW:
        if (reply->state == GATE_REPLY_OVER && !t->over) {
            meter_add(METER_HOLDS_LAPSED, 1);
            t->stage = STAGE_UNHELD;
        }
        t->renew_us = clock_mono_us() + t->client->options.renew_us;
        ticket_settle(t);
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
        list_add(t, SAY_PLACE, !alone);
    else
        ticket_settle(t);
}

/* The ledger will not take it. Of what it is not told the bill ends the hold, or that expires. */
static void refused(enum say say, struct gate_ticket *t, bool maybe)
{
    meter_add(METER_GATE_INVALID, 1);
    t->in_flight = false;
    if (t->stage == STAGE_ASKED) {
        t->maybe_held = maybe && !t->client->options.observe;
        t->client->health.away_for = METER_GATE_AWAY_ERROR;
        ticket_give_up(t);
        return;
    }
    if (say == SAY_PLACE)
        t->maybe_held = t->maybe_held || (maybe && !t->client->options.observe);
    t->renew_us = clock_mono_us() + RENEW_AGAIN_US;
    meter_add(METER_GATE_DROPPED, say == SAY_RENEW || say == SAY_PLACE ? 0 : 1);
    if (say == SAY_CAPTURE || say == SAY_VOID) {
        ticket_free(t);
        return;
    }
    if (say == SAY_FORCE) {
        t->stage = STAGE_UNHELD;
        t->maybe_held = false;
    }
    ticket_settle(t);
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
    if ((is_refused || status == 503) && count > 1) /* which of them it was shows when they go one by one */
        lane->alone = count;
    else
        lane->alone -= lane->alone > 0 ? 1 : 0;
    g->handing_out = true;
    for (size_t i = 0; i < count; i++) {
        struct gate_ticket *t = lane->item[ok ? i : count - 1 - i]; /* those put back keep their order */
        if (ok && g->reply[i].state == GATE_REPLY_BUSY) {
            lane->not_before_us = clock_mono_us() + PULSE_US;
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
        if (!is_refusal(status) || g->refused >= REFUSED_MOST)
            gate_health_failed(&g->health, status, why);
    }
    hand_out(lane, status, ok);
    lane_next(&g->place);
    lane_next(&g->tell);
}

static bool is_late(const struct gate_ticket *t, int64_t now_us)
{
    return t->stage == STAGE_ASKED && now_us - t->asked_us >= t->client->options.wait_us;
}

/* They wait in no order of their time: what is tried alone goes behind. */
static struct gate_ticket *first_late(const struct gate_client *g, int64_t now_us)
{
    struct gate_ticket *t;
    DL_FOREACH(g->list[SAY_PLACE], t)
    if (g->health.away || is_late(t, now_us))
        return t;
    return NULL;
}

/* Nobody waits longer than is allowed, nor at all while the ledger is known to be away. */
static void give_up_late(struct gate_client *g)
{
    int64_t now = clock_mono_us();
    for (size_t i = 0; i < g->place.count; i++) {
        if (!is_late(g->place.item[i], now))
            continue;
        g->health.away_for = METER_GATE_AWAY_SLOW;
        ticket_give_up(g->place.item[i]);
    }
    for (struct gate_ticket *t = first_late(g, now); t != NULL; t = first_late(g, now))
        ticket_give_up(t);
}

static void on_pulse(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct gate_client *g = arg;
    gate_health_check(&g->health);
    give_up_late(g);
    lane_next(&g->place);
    lane_next(&g->tell);
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
    gate_health_init(&g->health, options->ledger_url, options->wait_us);
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
    lane_next(&g->place); /* is it there? */
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
            ticket_free(lane->item[i]);
    for (enum say say = SAY_PLACE; say < SAY_COUNT; say++)
        while (g->list[say] != NULL)
            ticket_free(list_pop(g, say));
    buffer_free(&g->body);
    free(g);
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
        ticket_free(t);
        return NULL;
    }
    meter_add(METER_GATE_WAITING, 1);
    list_add(t, SAY_PLACE, false);
    if (g->health.away)
        event_active(g->pulse, EV_TIMEOUT, 0);
    else
        lane_next(&g->place);
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
    ticket_settle(t);
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
        ticket_free(t);
        return;
    }
    ticket_settle(t);
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
        ticket_settle(t);
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
