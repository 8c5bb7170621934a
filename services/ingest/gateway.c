/*
 * gateway: listener, time-outs, drain.
 */
#include "ingest/gateway.h"

#include "base/clock.h"
#include "base/log.h"
#include "ingest/client.h"
#include "ingest/exchange.h"
#include "ingest/intake.h"
#include "ingest/meter.h"
#include "run/listen_address.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG     4096
#define TICK_US     250000
#define SCRATCH_MAX (4 << 20)

/* There may be room, and descriptors, again. */
static void accept_go_on(struct gateway *g)
{
    if (g->listener != NULL && !g->draining && g->client_count < (size_t)g->options->connections)
        (void)evconnlistener_enable(g->listener);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct gateway *g = arg;
    int64_t now = clock_mono_us();
    for (struct client *c = g->clients, *next; c != NULL; c = next) {
        next = c->newer;
        client_tick(c, now);
    }
    /* an exchange that ends may close its client, and the other way round, but neither ends a second exchange
     */
    for (struct exchange *x = g->exchanges, *next; x != NULL; x = next) {
        next = x->newer;
        exchange_tick(x, now);
    }
    intake_tick(g, now);
    upstream_tick(g->upstream, now);
    accept_go_on(g);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from, int len,
                      void *arg)
{
    (void)from;
    (void)len;
    struct gateway *g = arg;
    client_accept(g, fd);
    if (g->client_count < (size_t)g->options->connections)
        return;
    (void)evconnlistener_disable(listener);
    meter_add(METER_CLIENTS_LIMIT, 1);
}

/* accept failed, out of descriptors as a rule: the next client to leave, or the next tick, lets it go on. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
    (void)arg;
    log_warn("accept_failed", LOG_STR("err", strerror(errno)), LOG_END);
    (void)evconnlistener_disable(listener);
    meter_add(METER_CLIENTS_LIMIT, 1);
}

void gateway_client_left(struct gateway *g)
{
    accept_go_on(g);
}

static bool scratch_new(struct gateway *g)
{
    g->sha = sha256_new();
    arena_init(&g->scratch, SCRATCH_MAX);
    buffer_init(&g->piece, (size_t)g->options->sse_event_bytes * 2 + GATEWAY_READ_BYTES);
    buffer_init(&g->record, LIMIT_CALL_BYTES);
    g->capture = calloc(1, sizeof *g->capture);
    g->read_room = malloc(GATEWAY_READ_BYTES);
    return g->capture != NULL && g->read_room != NULL;
}

static void foreign_open(struct gateway *g, const struct ingest_options *o)
{
    const char *const tokens[GATEWAY_TOKENS] = {o->operator_token, o->ledger_token};
    for (size_t i = 0; i < GATEWAY_TOKENS; i++)
        if (tokens[i] != NULL)
            sha256_of(sv_of(tokens[i]), g->token[g->token_count++]);
    /* a secret made up at the start has not signed what was sent before it, or by others */
    g->litellm_rules = (struct litellm_rules){sv_of(o->spend_log_secret), strcmp(o->proxy_log, "bill") == 0,
                                              (size_t)o->events_batch};
}

static void gate_open(struct gateway *g, const struct ingest_options *o)
{
    g->gate_mode = strcmp(o->gate, "off") == 0       ? GATE_OFF
                   : strcmp(o->gate, "observe") == 0 ? GATE_OBSERVE
                                                     : GATE_HELD;
    g->gate_allows = strcmp(o->on_ledger_down, "allow") == 0;
    g->gate_needs_price = strcmp(o->on_unpriced, "deny") == 0;
    g->budget_status = (int)strtol(o->budget_status, NULL, 10);
}

bool gateway_new(struct gateway **out, const struct ingest_options *options,
                 const struct gateway_parts *parts, struct err *err)
{
    struct upstream_address address;
    struct timeval tick = {.tv_usec = TICK_US};
    struct gateway *g = calloc(1, sizeof *g);
    if (g == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "gateway: out of memory");
    g->options = options;
    g->base = parts->base;
    g->journal = parts->journal;
    g->delivery = parts->delivery;
    g->sync = parts->sync;
    g->gate = parts->gate;
    g->secret = parts->secret;
    g->litellm = strcmp(options->upstream_kind, "litellm") == 0;
    g->include_usage = strcmp(options->include_usage, "on") == 0;
    gate_open(g, options);
    g->fail_open = strcmp(options->capture, "fail_open") == 0 ||
                   (strcmp(options->capture, "auto") == 0 && g->gate_mode == GATE_OBSERVE);
    g->estimate_failed = strcmp(options->on_upstream_error, "estimate") == 0;
    g->routes = (struct route_table){options->call_path.item, options->call_path.count, NULL};
    g->limits = (struct watch_limits){(size_t)options->reply_bytes, (size_t)options->sse_event_bytes};
    foreign_open(g, options);
    if (!scratch_new(g)) {
        (void)err_set(err, ERR_MEMORY, FATE_FATAL, "gateway: out of memory");
        goto failed;
    }
    if (!upstream_address_parse(options->upstream_url, &address, err) ||
        !upstream_new(&g->upstream, g->base, &address, options->upstream_idle_us, err))
        goto failed;
    g->routes.prefix = upstream_address(g->upstream)->prefix;
    g->tick = event_new(g->base, -1, EV_PERSIST, on_tick, g);
    if (g->tick == NULL || event_add(g->tick, &tick) != 0) {
        (void)err_set(err, ERR_MEMORY, FATE_FATAL, "gateway: no timer");
        goto failed;
    }
    *out = g;
    return true;
failed:
    gateway_free(g);
    return false;
}

void gateway_cut(struct gateway *g)
{
    while (g->exchanges != NULL)
        exchange_cut(g->exchanges);
    while (g->clients != NULL)
        client_close(g->clients);
}

void gateway_free(struct gateway *g)
{
    if (g == NULL)
        return;
    g->draining = true;
    if (g->listener != NULL)
        evconnlistener_free(g->listener);
    g->listener = NULL;
    gateway_cut(g);
    exchange_spares_free(g);
    intake_forget(g);
    if (g->tick != NULL)
        event_free(g->tick);
    upstream_free(g->upstream);
    sha256_free(g->sha);
    arena_free(&g->scratch);
    buffer_free(&g->piece);
    buffer_free(&g->record);
    free(g->capture);
    free(g->read_room);
    free(g);
}

bool gateway_listen(struct gateway *g, bool shared, struct err *err)
{
    struct sockaddr_storage address;
    socklen_t len;
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE |
                     (shared ? LEV_OPT_REUSEABLE_PORT : 0);
    const char *text = g->options->listen;
    if (!listen_address_find(text, &address, &len, err))
        return false;
    g->listener =
        evconnlistener_new_bind(g->base, on_accept, g, flags, BACKLOG, (struct sockaddr *)&address, (int)len);
    if (g->listener == NULL)
        return err_set(err, ERR_IO, FATE_FATAL, "cannot listen on %s: %s", text, strerror(errno));
    evconnlistener_set_error_cb(g->listener, on_accept_error);
    log_info("listening", LOG_STR("address", text), LOG_STR("upstream", upstream_address(g->upstream)->name),
             LOG_END);
    return true;
}

void gateway_send_due(struct gateway *g)
{
    while (g->due_exchanges != NULL || g->due_clients != NULL) {
        exchange_send_due(g);
        client_flush_due(g);
    }
}

void gateway_drain(struct gateway *g)
{
    g->draining = true;
    if (g->listener != NULL)
        evconnlistener_free(g->listener);
    g->listener = NULL;
    for (struct client *c = g->clients, *next; c != NULL; c = next) {
        next = c->newer;
        client_drain(c);
    }
}

bool gateway_is_idle(const struct gateway *g)
{
    return g->exchange_count == 0 && g->client_count == 0;
}
