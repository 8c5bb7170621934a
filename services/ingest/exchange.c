/*
 * exchange: connects the two sides, and ends each once; the call itself is exchange_call's.
 */
#include "ingest/exchange.h"

#include "base/clock.h"
#include "base/log.h"
#include "ingest/clock_probe.h"
#include "ingest/exchange_call.h"
#include "ingest/exchange_gate.h"
#include "ingest/meter.h"
#include "ingest/reply_relay.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define READS_A_TURN   8
#define BACKLOG_HIGH   (256 << 10)
#define SPARE_IN_BYTES (16 << 10)

static const struct http_refusal unreachable = {502, "upstream_unreachable",
                                                "the upstream cannot be reached"};
static const struct http_refusal broke_off = {502, "upstream_failed",
                                              "the upstream closed without a whole reply"};
static const struct http_refusal too_slow = {504, "upstream_timeout", "the upstream did not answer in time"};

static void on_connected(void *arg, bool ok);
static void on_readable(void *arg);
static void on_writable(void *arg);
static void on_disk_answer(void *arg, bool on_disk);
static const struct upstream_events link_events = {on_connected, on_readable, on_writable};

static struct exchange *exchange_new(struct gateway *g, struct client *c)
{
    struct exchange *x = g->spare_exchanges;
    struct arena arena;
    arena_init(&arena, 128 << 10);
    if (x == NULL) {
        x = calloc(1, sizeof *x);
    } else {
        g->spare_exchanges = x->newer;
        g->spare_count--;
        arena = x->arena;
        memset(x, 0, sizeof *x);
    }
    if (x == NULL)
        return NULL;
    x->arena = arena;
    x->gateway = g;
    x->client = c;
    x->started_us = clock_mono_us();
    x->wait.done = on_disk_answer;
    x->wait.arg = x;
    buffer_init(&x->reply_in, REPLY_HEAD_BYTES_MAX + GATEWAY_READ_BYTES);
    x->newer = g->exchanges;
    if (x->newer != NULL)
        x->newer->older = x;
    g->exchanges = x;
    g->exchange_count++;
    meter_add(METER_EXCHANGES, 1);
    return x;
}

static void due_drop(struct exchange *x)
{
    if (!x->is_due)
        return;
    x->is_due = false;
    DL_DELETE2(x->gateway->due_exchanges, x, due_before, due_after);
}

static void due_add(struct exchange *x)
{
    x->is_due = true;
    x->is_looked_at = false;
    DL_APPEND2(x->gateway->due_exchanges, x, due_before, due_after);
}

/* Memory of requests goes round: given back to malloc it would be taken apart and put together each time. */
static void in_free(struct gateway *g, struct buffer *in)
{
    if (in->room == 0 || in->room > SPARE_IN_BYTES || g->spare_in_count == GATEWAY_SPARES) {
        buffer_free(in);
        return;
    }
    buffer_clear(in);
    g->spare_in[g->spare_in_count++] = *in;
    buffer_init(in, in->cap);
}

static void request_free(struct exchange *x)
{
    in_free(x->gateway, &x->request.head);
    in_free(x->gateway, &x->in);
    upstream_request_free(&x->request);
    buffer_free(&x->body);
}

static void exchange_free(struct exchange *x)
{
    struct gateway *g = x->gateway;
    due_drop(x);
    *(x->older == NULL ? &g->exchanges : &x->older->newer) = x->newer;
    if (x->newer != NULL)
        x->newer->older = x->older;
    g->exchange_count--;
    meter_add(METER_EXCHANGES, -1);
    upstream_drop(x->link);
    journal_sync_drop(g->sync, &x->wait);
    exchange_gate_drop(x);
    request_free(x);
    buffer_free(&x->reply_in);
    if (x->is_call)
        reply_watch_free(&x->watch);
    if (g->spare_count < GATEWAY_SPARES && !g->draining) {
        arena_reset(&x->arena);
        x->newer = g->spare_exchanges;
        g->spare_exchanges = x;
        g->spare_count++;
        return;
    }
    arena_free(&x->arena);
    free(x);
}

void exchange_spares_free(struct gateway *g)
{
    for (struct exchange *x = g->spare_exchanges, *next; x != NULL; x = next) {
        next = x->newer;
        arena_free(&x->arena);
        free(x);
    }
    while (g->spare_in_count > 0)
        buffer_free(&g->spare_in[--g->spare_in_count]);
}

static void in_take(struct gateway *g, struct buffer *in, size_t cap)
{
    buffer_init(in, cap);
    if (g->spare_in_count == 0)
        return;
    *in = g->spare_in[--g->spare_in_count];
    in->cap = cap;
}

static bool pass_open(struct exchange *x, const struct http_request_head *head, struct strview body,
                      struct http_refusal *why)
{
    struct body_edit none = {.needed = false};
    struct err err;
    *why = (struct http_refusal){431, "headers_too_large", "the request's headers are too large to pass on"};
    return upstream_request_make(&x->request, upstream_address(x->gateway->upstream), head, body, &none, NULL,
                                 &err);
}

/* The client's buffers become the exchange's; what follows the request stays. Views into them stay good. */
static bool request_take(struct exchange *x, struct client *c, size_t len)
{
    struct buffer rest;
    in_take(x->gateway, &rest, c->in.cap);
    if (!buffer_append(&rest, c->in.data + len, c->in.len - len)) {
        in_free(x->gateway, &rest);
        return false;
    }
    x->in = c->in;
    x->body = c->body;
    c->in = rest;
    buffer_init(&c->body, x->body.cap);
    return true;
}

/* next goes on once the disk has answered for what the journal holds of the call; x may be gone afterwards.
 */
static void when_on_disk(struct exchange *x, void (*next)(struct exchange *x, bool on_disk))
{
    x->then = next;
    if (!journal_sync_wait(x->gateway->sync, x->round, &x->wait))
        next(x, journal_sync_has(x->gateway->sync, x->round));
    else if (x->client != NULL)
        (void)client_flush(x->client); /* all but the byte that is held */
}

static void on_disk_answer(void *arg, bool on_disk)
{
    struct exchange *x = arg;
    x->then(x, on_disk);
}

/* Lets go of the caller. A record that the disk refused goes to Kafka all the same: nowhere else is it safe.
 */
static void exchange_close(struct exchange *x, bool on_disk)
{
    struct client *c = x->client;
    const struct http_refusal *answer = x->answer;
    bool whole = x->whole;
    char call_id[UUID_TEXT_LEN + 1];
    bool is_call = x->is_call;
    memcpy(call_id, x->call_id, sizeof call_id);
    meter_add(METER_NOT_ON_DISK, on_disk ? 0 : 1);
    struct gate_refusal refusal = x->refusal;
    x->refusal.body = (struct buffer){0};
    exchange_free(x);
    if (c != NULL) {
        c->exchange = NULL;
        c->held = false;
        if (refusal.body.len > 0)
            client_refuse(c, &refusal, call_id);
        else if (answer != NULL)
            client_answer(c, answer, is_call ? call_id : NULL);
        else
            client_exchange_done(c, whole);
    }
    buffer_free(&refusal.body);
}

/* Over. answer NULL: the reply is complete when `whole`, else cut. */
static void exchange_end(struct exchange *x, const struct http_refusal *answer, bool whole)
{
    x->answer = answer;
    x->whole = whole;
    due_drop(x);
    upstream_drop(x->link); /* nothing more may come of it while the disk is waited for */
    x->link = NULL;
    if (x->client != NULL)
        x->client->held = x->replying;
    when_on_disk(x, exchange_close);
}

static void exchange_complete(struct exchange *x, bool over)
{
    bool all = reply_relay_rest(x);
    enum spend_outcome outcome = x->client == NULL && !x->had_all ? OUTCOME_ABORTED : OUTCOME_COMPLETED;
    if (x->status >= 300 || (x->is_call && x->watch.reader.has_error && !x->watch.reader.has_usage))
        outcome = OUTCOME_FAILED;
    exchange_call_finish(x, outcome, true);
    reply_relay_finish(x);
    if (!over && !x->upstream_closes && x->request_sent) {
        upstream_give_back(x->link, clock_coarse_us());
        x->link = NULL;
    }
    exchange_end(x, NULL, all);
}

/* What came of a reply that is not whole may still say what it cost; the caller gets no more of it. */
static void reply_read_rest(struct exchange *x)
{
    struct strview ignored;
    if (x->is_call && !reply_watch_end(&x->watch, &x->gateway->piece, &ignored))
        log_warn("reply_rest_unread", LOG_STR("call_id", x->call_id), LOG_END);
}

/* The stream said that it is done: nothing of it is missing, whatever becomes of its framing. */
static bool stream_is_done(const struct exchange *x)
{
    const struct usage_reader *reader = &x->watch.reader;
    return x->is_call && x->watch.mode == WATCH_SSE && x->watch.filter.done &&
           !(reader->has_error && !reader->has_usage);
}

/* Finishes a call whose reply broke off. */
static void call_break(struct exchange *x, enum spend_outcome outcome)
{
    reply_read_rest(x);
    bool whole = stream_is_done(x);
    exchange_call_finish(x, whole && (x->client != NULL || x->had_all) ? OUTCOME_COMPLETED : outcome, whole);
}

static void exchange_fail(struct exchange *x, const struct http_refusal *answer, enum meter counted)
{
    meter_add(counted, 1);
    bool aborted = x->client == NULL && x->replying && x->status < 300;
    call_break(x, aborted ? OUTCOME_ABORTED : OUTCOME_FAILED);
    exchange_end(x, x->replying ? NULL : answer, false);
}

static void link_start(struct exchange *x, bool fresh);

/* A kept connection may have been closed under us. Sent again only where nobody can be charged twice. */
static bool retry(struct exchange *x)
{
    if (!x->reused || x->replying || x->reply_in.len > 0 || (x->request.begun && !x->safe))
        return false;
    meter_add(METER_UPSTREAM_RETRIED, 1);
    upstream_drop(x->link);
    x->link = NULL;
    x->request_sent = false;
    upstream_request_rewind(&x->request);
    link_start(x, true);
    return true;
}

static void exchange_broken(struct exchange *x, const struct err *err)
{
    if (retry(x))
        return;
    log_warn("upstream_reply_failed", LOG_STR("call_id", x->is_call ? x->call_id : "-"), LOG_ERR(err),
             LOG_END);
    exchange_fail(x, &broke_off, x->replying ? METER_UPSTREAM_CUT : METER_UPSTREAM_MALFORMED);
}

static void request_send(struct exchange *x)
{
    struct err err = {0};
    switch (upstream_request_send(&x->request, x->link)) {
    case 1:
        x->request_sent = true;
        upstream_want_write(x->link, false);
        if (!(x->reused && x->safe)) /* else it may be needed once more */
            request_free(x);
        break;
    case 0:
        upstream_want_write(x->link, true);
        break;
    default:
        upstream_want_write(x->link, false);
        if (x->request.begun) /* it may have answered before it had read all: the end of the link tells */
            break;
        (void)err_set(&err, ERR_HTTP, FATE_RETRY, "the connection broke before the request was sent");
        exchange_broken(x, &err);
        break;
    }
}

static void link_start(struct exchange *x, bool fresh)
{
    due_drop(x);
    x->heard_us = clock_coarse_us();
    x->link = upstream_take(x->gateway->upstream, &link_events, x, fresh, &x->reused);
    if (x->link == NULL) {
        exchange_fail(x, &unreachable, METER_UPSTREAM_UNREACHABLE);
        return;
    }
    x->connecting = !x->reused;
    if (x->reused)
        due_add(x);
}

/* Many connections with one look, right before they are used. */
static void due_look(struct gateway *g)
{
    struct upstream_link *link[UPSTREAM_QUIET_MAX];
    bool quiet[UPSTREAM_QUIET_MAX];
    size_t count = 0;
    for (struct exchange *x = g->due_exchanges; x != NULL && count < UPSTREAM_QUIET_MAX; x = x->due_after)
        link[count++] = x->link;
    upstream_quiet(link, count, quiet);
    struct exchange *x = g->due_exchanges;
    for (size_t i = 0; i < count; i++, x = x->due_after) {
        x->is_looked_at = true;
        x->is_quiet = quiet[i];
    }
}

void exchange_send_due(struct gateway *g)
{
    while (g->due_exchanges != NULL) {
        struct exchange *x = g->due_exchanges;
        struct err err = {0};
        if (!x->is_looked_at)
            due_look(g);
        due_drop(x);
        if (x->is_quiet) {
            request_send(x);
            continue;
        }
        (void)err_set(&err, ERR_HTTP, FATE_RETRY, "the kept connection was closed, or spoke out of turn");
        exchange_broken(x, &err);
    }
}

static void on_connected(void *arg, bool ok)
{
    struct exchange *x = arg;
    x->connecting = false;
    x->heard_us = clock_coarse_us();
    if (ok)
        request_send(x);
    else
        exchange_fail(x, &unreachable, METER_UPSTREAM_UNREACHABLE);
}

static void on_writable(void *arg)
{
    struct exchange *x = arg;
    x->heard_us = clock_coarse_us();
    request_send(x);
}

/* One read. false: the exchange has ended. */
static bool reply_read(struct exchange *x, bool *more)
{
    struct gateway *g = x->gateway;
    struct err err = {0};
    bool over = false;
    ssize_t n = upstream_recv(x->link, g->read_room, GATEWAY_READ_BYTES);
    *more = n == GATEWAY_READ_BYTES;
    if (n == -1)
        return true;
    x->heard_us = clock_coarse_us();
    if (n > 0 && x->request.begun && x->first_us == 0)
        x->first_us = clock_mono_us();
    enum relay_step step = RELAY_BAD;
    if (n > 0 && !x->request.begun)
        (void)err_set(&err, ERR_HTTP, FATE_RETRY, "the upstream replied before it was asked");
    else if (n > 0)
        step = reply_relay_feed(x, (struct strview){g->read_room, (size_t)n}, &over, &err);
    else
        step = reply_relay_close(x, &err);
    if (n == -2 && step == RELAY_DONE) {
        step = RELAY_BAD;
        (void)err_set(&err, ERR_HTTP, FATE_RETRY, "the connection was reset in the middle of a reply");
    }
    if (step == RELAY_DONE)
        exchange_complete(x, over);
    else if (step == RELAY_BAD)
        exchange_broken(x, &err);
    return step == RELAY_MORE;
}

static void on_readable(void *arg)
{
    struct exchange *x = arg;
    bool more = true;
    for (int turn = 0; more && turn < READS_A_TURN; turn++) {
        if (!reply_read(x, &more))
            return;
        if (x->client != NULL && client_backlog(x->client) > BACKLOG_HIGH)
            more = false;
    }
    struct client *c = x->client;
    if (c == NULL)
        return;
    if (client_backlog(c) <= BACKLOG_HIGH)
        client_flush_later(c);
    else if (client_flush(c) && client_backlog(c) > BACKLOG_HIGH) /* one that closed has told the exchange */
        upstream_want_read(x->link, false);
}

static void on_decided(struct exchange *x, bool passes)
{
    if (passes) {
        if (x->entry != NULL)
            journal_progress(x->entry, call_record_progress(&x->call, 0));
        link_start(x, false);
        return;
    }
    exchange_call_finish(x, OUTCOME_REJECTED, false);
    exchange_end(x, x->answer, false);
}

/* `open` is on disk, or the disk refused it. */
static void request_begin(struct exchange *x, bool on_disk)
{
    if (on_disk || x->gateway->fail_open) {
        meter_add(METER_NOT_ON_DISK, on_disk ? 0 : 1);
        exchange_gate_ask(x, on_decided);
        return;
    }
    meter_add(METER_REFUSED_DISK, 1);
    exchange_call_finish(x, OUTCOME_REJECTED, false);
    x->answer = &exchange_call_not_on_disk;
    exchange_close(x, true);
}

/* It was answered, or is about to be: it must not stand in front of the next one any more. */
static void request_drop(struct client *c, size_t len)
{
    buffer_consume(&c->in, len);
    buffer_clear(&c->body);
}

static const struct http_refusal health_asks = {
    501, "not_metered",
    "LiteLLM's /health asks models for money that nobody would be billed for: ask /health/liveliness or "
    "/health/readiness, or LiteLLM itself"};

void exchange_begin(struct client *c, const struct http_request_head *head, size_t len)
{
    struct gateway *g = c->gateway;
    struct route route = route_find(&g->routes, head->method, head->path);
    struct strview body = head->headers.chunked
                              ? buffer_view(&c->body)
                              : (struct strview){c->in.data + head->bytes, len - head->bytes};
    struct http_refusal why = client_no_memory;
    if (g->litellm && route_is_unmetered(head->method, head->path)) {
        meter_add(METER_REFUSED_NOT_METERED, 1);
        request_drop(c, len);
        client_answer(c, &health_asks, NULL);
        return;
    }
    struct exchange *x = exchange_new(g, c);
    if (x == NULL) {
        request_drop(c, len);
        client_answer(c, &why, NULL);
        return;
    }
    meter_add(route.is_call ? METER_REQUESTS_CALL : METER_REQUESTS_OTHER, 1);
    in_take(g, &x->request.head, 0);
    x->to_head = sv_eq(head->method, SV_LIT("HEAD"));
    x->safe = !sv_eq(head->method, SV_LIT("POST")) && !sv_eq(head->method, SV_LIT("PATCH"));
    if (!(route.is_call ? exchange_call_open(x, head, body, &route, &why) : pass_open(x, head, body, &why))) {
        exchange_free(x);
        request_drop(c, len);
        client_answer(c, &why, NULL);
        return;
    }
    c->exchange = x;
    c->state = CLIENT_BUSY;
    if (request_take(x, c, len)) {
        when_on_disk(x, request_begin);
        return;
    }
    request_drop(c, len);
    exchange_fail(x, &client_no_memory, METER_UPSTREAM_UNREACHABLE);
}

/* The upstream has a request of ours, or answers what it has of it, perhaps unread by us yet. */
static bool is_asked(const struct exchange *x)
{
    return x->request_sent || x->replying || x->reply_in.len > 0 ||
           (x->request.begun && x->link != NULL && upstream_has_bytes(x->link));
}

void exchange_client_gone(struct exchange *x)
{
    x->client = NULL;
    x->left_us = clock_coarse_us();
    x->had_all = stream_is_done(x);
    if (!x->is_call || x->entry == NULL) {
        exchange_free(x);
    } else if (!is_asked(x)) {
        exchange_call_finish(x, OUTCOME_REJECTED, false);
        exchange_free(x);
    } else if (x->gateway->options->abort_drain_us == 0) {
        exchange_cut(x);
    } else {
        upstream_want_read(x->link, true);
    }
}

void exchange_client_drained(struct exchange *x)
{
    if (x->link != NULL && !x->connecting)
        upstream_want_read(x->link, true);
}

void exchange_cut(struct exchange *x)
{
    bool failed = x->replying && x->status >= 300;
    if (x->then != exchange_close) /* else it is over, and waits for the disk alone */
        call_break(x, failed                           ? OUTCOME_FAILED
                      : x->request_sent || x->replying ? OUTCOME_ABORTED
                                                       : OUTCOME_REJECTED);
    bool on_disk = journal_sync_has(x->gateway->sync, x->round);
    if (!on_disk && x->client != NULL) { /* its last byte would say that the call is safe */
        x->answer = NULL;
        x->whole = false;
        buffer_clear(&x->client->out);
    }
    exchange_close(x, on_disk);
}

static void connect_slow(struct exchange *x, int64_t now_us)
{
    x->heard_us = now_us;
    if (!upstream_try_next(x->link))
        exchange_fail(x, &unreachable, METER_UPSTREAM_UNREACHABLE);
}

void exchange_tick(struct exchange *x, int64_t now_us)
{
    const struct ingest_options *o = x->gateway->options;
    if (x->wait.round != 0 || x->decided != NULL) /* disk and gate have their own time */
        return;
    if (x->left_us != 0 && now_us - x->left_us > o->abort_drain_us)
        exchange_cut(x);
    else if (x->connecting && now_us - x->heard_us > o->connect_time_us)
        connect_slow(x, now_us);
    else if (!x->connecting && now_us - x->heard_us > o->upstream_time_us &&
             (x->client == NULL || client_backlog(x->client) == 0))
        exchange_fail(x, &too_slow, METER_UPSTREAM_TIMEOUT);
}
