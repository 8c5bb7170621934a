#include "api_server.h"

#include "api_route.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/sha256.h"
#include "hold.h"
#include "pg_session.h"
#include "price_store.h"
#include "run/health.h"
#include "run/listen_address.h"
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER_BYTES (16 << 10)
#define READ_BYTES   (32 << 20) /* more is cut off by libevent; up to here our own 413 tells what to do */
#define IDLE_SECONDS 30
#define ARENA_BYTES  (32 << 20)
#define BEAT_SECONDS 1
#define LOOP_AGE_US  (60 * US_PER_SECOND) /* a price file's import blocks the loop for a second or two */
#define ALL_METHODS                                                                                          \
    (EVHTTP_REQ_GET | EVHTTP_REQ_PUT | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_DELETE |               \
     EVHTTP_REQ_PATCH | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT)

struct token {
    enum api_role role;
    bool given;
    uint8_t digest[SHA256_LEN];
};

struct api_server {
    struct api_server_options options;
    struct token tokens[3];
    struct event_base *base;
    struct evhttp *http;
    struct event *stop_event;
    struct event *beat_event;
    struct health_loop *loop;
    int stop_fd;
    uint16_t port;
    pthread_t thread;
    bool running;
    struct pg_session *pg;
    struct price_store *prices;
    struct pg_session *gate_pg; /* plans as the apply session's */
    struct gate *gate;
    struct hold *holds;
    struct arena arena;
    struct buffer reply;
    struct metric *done[3]; /* by status class */
    struct metric *took;
};

/* Every token is compared, whichever fits, by digests of equal length: time tells nothing about a token. */
static enum api_role role_of(const struct api_server *s, struct evkeyvalq *headers)
{
    const struct strview scheme = SV_LIT("Bearer ");
    enum api_role role = API_NOBODY;
    uint8_t digest[SHA256_LEN];
    struct strview given = sv_of(evhttp_find_header(headers, "Authorization"));
    if (given.len <= scheme.len || !sv_eq_nocase((struct strview){given.ptr, scheme.len}, scheme))
        return API_NOBODY;
    sha256_of(sv_trim((struct strview){given.ptr + scheme.len, given.len - scheme.len}), digest);
    for (size_t i = 0; i < sizeof s->tokens / sizeof s->tokens[0]; i++) {
        if (s->tokens[i].given && sha256_equal(digest, s->tokens[i].digest, SHA256_LEN) &&
            s->tokens[i].role > role)
            role = s->tokens[i].role;
    }
    return role;
}

static enum api_method method_of(struct evhttp_request *req)
{
    enum evhttp_cmd_type command = evhttp_request_get_command(req);
    if (command == EVHTTP_REQ_GET)
        return API_GET;
    if (command == EVHTTP_REQ_PUT)
        return API_PUT;
    return command == EVHTTP_REQ_POST ? API_POST : API_OTHER;
}

/* libevent 2.1.12 takes the first of several Content-Length lines; somebody in front of us may take another.
 */
static bool framing_is_plain(struct evkeyvalq *headers)
{
    int lengths = 0;
    for (const struct evkeyval *h = headers->tqh_first; h != NULL; h = h->next.tqe_next) {
        if (strcasecmp(h->key, "Content-Length") == 0)
            lengths++;
    }
    return lengths <= 1;
}

static void dispatch(struct api_request *r, const struct evhttp_uri *uri)
{
    struct err err = {0};
    const struct api_route *route = api_route_find(r, sv_of(uri == NULL ? NULL : evhttp_uri_get_path(uri)));
    if (route == NULL || !api_route_allows(r, route))
        return;
    if (r->body.len > (size_t)(route->body_cap != 0 ? route->body_cap : API_BODY_BYTES)) {
        api_refuse(r, 413, "too_large", "send less", "the body is larger than this path takes");
        return;
    }
    if (!api_query_read(r, sv_of(evhttp_uri_get_query(uri))))
        return;
    if (!pg_session_ready(r->pg, &err)) {
        api_fail(r, &err);
        return;
    }
    r->fact = route->fact;
    bool ok = route->handle(r, &err);
    if (ok && !json_write_ok(&r->json))
        ok = err_set(&err, ERR_FULL, FATE_FATAL, "api: the reply does not fit %lld bytes", API_REPLY_BYTES);
    /* a refusal in mid-transaction leaves nothing behind */
    pg_session_rollback(r->pg);
    if (!ok && !r->refused)
        api_fail(r, &err);
}

static void answer(struct evhttp_request *req, const struct api_request *r)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    struct evbuffer *body = evbuffer_new();
    evhttp_add_header(headers, "Content-Type", "application/json");
    evhttp_add_header(headers, "Cache-Control", "no-store");
    if (r->status == 401)
        evhttp_add_header(headers, "WWW-Authenticate", "Bearer");
    if (body == NULL || evbuffer_add(body, r->reply->data, r->reply->len) != 0)
        evhttp_send_reply(req, 503, NULL, NULL);
    else
        evhttp_send_reply(req, r->status, NULL, body);
    if (body != NULL)
        evbuffer_free(body);
}

static void on_request(struct evhttp_request *req, void *arg)
{
    struct api_server *s = arg;
    int64_t began = clock_mono_us();
    struct evkeyvalq *headers = evhttp_request_get_input_headers(req);
    struct evbuffer *input = evhttp_request_get_input_buffer(req);
    size_t length = evbuffer_get_length(input);
    arena_reset(&s->arena);
    buffer_clear(&s->reply);
    struct api_request r = {
        .method = method_of(req),
        .role = role_of(s, headers),
        .body = sv_of_bytes(length > 0 ? evbuffer_pullup(input, -1) : NULL, length),
        .arena = &s->arena,
        .pg = s->pg,
        .prices = s->prices,
        .holds = s->holds,
        .config_lead_us = s->options.config_lead_us,
        .status = 200,
        .reply = &s->reply,
    };
    json_write_init(&r.json, r.reply);
    if (framing_is_plain(headers))
        dispatch(&r, evhttp_request_get_evhttp_uri(req));
    else
        api_refuse(&r, 400, "invalid", "send one Content-Length", "several Content-Length lines");
    answer(req, &r);
    metric_add(s->done[r.status >= 500 ? 2 : r.status >= 400 ? 1 : 0], 1);
    metric_observe_us(s->took, clock_mono_us() - began);
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    health_beat(arg);
}

static void *run(void *arg)
{
    struct api_server *s = arg;
    event_base_dispatch(s->base);
    return NULL;
}

static bool open_port(struct api_server *s, struct err *err)
{
    char host[LISTEN_HOST_BYTES];
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (!listen_address_split(s->options.listen, host, &s->port, err))
        return err_wrap(err, "api");
    evhttp_set_max_headers_size(s->http, HEADER_BYTES);
    evhttp_set_max_body_size(s->http, READ_BYTES);
    evhttp_set_timeout(s->http, IDLE_SECONDS);
    evhttp_set_allowed_methods(s->http, ALL_METHODS);
    evhttp_set_gencb(s->http, on_request, s);
    struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(s->http, host, s->port);
    if (bound == NULL ||
        getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&address, &size) != 0)
        return err_set(err, ERR_IO, FATE_FATAL, "api: cannot listen on %s: is the port taken?",
                       s->options.listen);
    uint16_t net;
    /* the port stands at the same place in both families */
    memcpy(&net, (const char *)&address + offsetof(struct sockaddr_in, sin_port), sizeof net);
    s->port = ntohs(net);
    return true;
}

static bool open_loop(struct api_server *s, struct err *err)
{
    const struct timeval second = {.tv_sec = BEAT_SECONDS};
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->base = event_base_new();
    if (s->stop_fd < 0 || s->base == NULL)
        return err_set(err, ERR_IO, FATE_FATAL, "api: no event loop");
    s->http = evhttp_new(s->base);
    s->loop = health_loop_start("api", LOOP_AGE_US);
    s->stop_event = event_new(s->base, s->stop_fd, EV_READ, on_stop, s->base);
    s->beat_event = event_new(s->base, -1, EV_PERSIST, on_beat, s->loop);
    if (s->http == NULL || s->stop_event == NULL || s->beat_event == NULL ||
        event_add(s->stop_event, NULL) != 0 || event_add(s->beat_event, &second) != 0)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "api: no event loop");
    return true;
}

static void take_tokens(struct api_server *s)
{
    const struct {
        enum api_role role;
        const char *text;
    } given[] = {{API_OPERATOR, s->options.operator_token},
                 {API_READER, s->options.reader_token},
                 {API_INGEST, s->options.ingest_token}};
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        s->tokens[i].role = given[i].role;
        s->tokens[i].given = given[i].text != NULL && given[i].text[0] != '\0';
        if (s->tokens[i].given)
            sha256_of(sv_of(given[i].text), s->tokens[i].digest);
    }
}

static void take_metrics(struct api_server *s)
{
    static const char *const class[] = {"2xx", "4xx", "5xx"};
    for (size_t i = 0; i < sizeof class / sizeof class[0]; i++)
        s->done[i] = metric_counter("spend_ledger_api_requests_total",
                                    "API requests answered, by status class.", "class", class[i]);
    s->took = metric_histogram_us("spend_ledger_api_request_seconds",
                                  "Time from a whole request to its reply.", NULL, NULL);
}

static bool open_gate(struct api_server *s, struct err *err)
{
    const struct pg_session_options session = {
        .url = s->options.database_url,
        .name = "spend-ledger/gate",
        .settings = "SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '3s'",
        .sorted_plans = true};
    const struct gate_options gate = {
        .rules = s->options.rules, .values_max = s->options.values_max, .output_cap = s->options.output_cap};
    if (!pg_session_new(&s->gate_pg, &session, err) || !gate_new(&s->gate, &gate, err))
        return false;
    const struct hold_options hold = {
        .pg = s->gate_pg, .gate = s->gate, .lifetime_us = s->options.hold_lifetime_us};
    return hold_new(&s->holds, &hold, err);
}

bool api_server_start(struct api_server **out, const struct api_server_options *options, struct err *err)
{
    bool ok = false;
    const struct pg_session_options session = {.url = options->database_url, .name = "spend-ledger/api"};
    struct api_server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "api: out of memory");
    s->options = *options;
    s->stop_fd = -1;
    arena_init(&s->arena, ARENA_BYTES);
    buffer_init(&s->reply, (size_t)API_REPLY_BYTES);
    take_tokens(s);
    take_metrics(s);
    if (!pg_session_new(&s->pg, &session, err) || !price_store_new(&s->prices, err) || !open_gate(s, err) ||
        !open_loop(s, err) || !open_port(s, err))
        goto done;
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        err_set(err, ERR_IO, FATE_FATAL, "api: no thread");
        goto done;
    }
    s->running = true;
    log_info("api_listening", LOG_STR("address", options->listen), LOG_INT("port", s->port), LOG_END);
    *out = s;
    s = NULL;
    ok = true;
done:
    api_server_stop(s);
    return ok;
}

uint16_t api_server_port(const struct api_server *s)
{
    return s->port;
}

void api_server_stop(struct api_server *s)
{
    if (s == NULL)
        return;
    if (s->running) {
        const uint64_t one = 1;
        if (write(s->stop_fd, &one, sizeof one) == (ssize_t)sizeof one)
            pthread_join(s->thread, NULL);
    }
    health_loop_end(s->loop);
    if (s->stop_event != NULL)
        event_free(s->stop_event);
    if (s->beat_event != NULL)
        event_free(s->beat_event);
    if (s->http != NULL)
        evhttp_free(s->http);
    if (s->base != NULL)
        event_base_free(s->base);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    hold_free(s->holds);
    gate_free(s->gate);
    pg_session_free(s->gate_pg);
    price_store_free(s->prices);
    pg_session_free(s->pg);
    arena_free(&s->arena);
    buffer_free(&s->reply);
    free(s);
}
