#include "api_server.h"

#include "api_route.h"
#include "api_worker.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/sha256.h"
#include "run/health.h"
#include "run/listen_address.h"
#include "worker.h"
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
#define ARENA_BYTES  (256 << 10)
#define BEAT_SECONDS 1
#define LOOP_AGE_US  (10 * US_PER_SECOND)
#define JOBS_MAX     256         /* that wait for the worker */
#define WAITING_MAX  (128 << 20) /* bytes of bodies that wait for either */
#define ALL_METHODS                                                                                          \
    (EVHTTP_REQ_GET | EVHTTP_REQ_PUT | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_DELETE |               \
     EVHTTP_REQ_PATCH | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT)

struct token {
    enum api_role role;
    bool given;
    uint8_t digest[SHA256_LEN];
};

/* Who answers. */
enum api_desk { API_DESK_WORKER, API_DESK_GATE, API_DESKS };

struct api_server {
    struct api_server_options options;
    struct api_worker_options worker_options;
    struct token tokens[3];
    struct event_base *base;
    struct evhttp *http;
    struct evhttp_bound_socket *bound;
    struct event *stop_event;
    struct event *beat_event;
    struct event *answer_event;
    struct health_loop *loop;
    int stop_fd;
    int answer_fd;
    uint16_t port;
    pthread_t thread;
    bool running;
    bool stopping;
    size_t under_way; /* exchanges */
    struct api_queue *queue[API_DESKS];
    struct worker *worker[API_DESKS];
    struct arena arena; /* of a request until it is handed on */
    struct buffer reply;
    struct metric *done[3]; /* by status class */
    struct metric *took;
    struct metric *gate_full;
};

/* A request that somebody else answers, until its reply is sent or its connection has ended. libevent leaves
 * a request whose connection ends before the reply to us: evhttp_send_reply frees it. */
struct exchange {
    struct api_server *server;
    struct evhttp_request *request;
    struct api_job *job; /* NULL: answered */
    bool closed;
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

/* The route of a request that may be answered. NULL: refused. */
static const struct api_route *admit(const struct api_server *s, struct api_request *r,
                                     struct evkeyvalq *headers, struct strview path, size_t body_len)
{
    if (!framing_is_plain(headers)) {
        api_refuse(r, 400, "invalid", "send one Content-Length", "several Content-Length lines");
        return NULL;
    }
    const struct api_route *route = api_route_find(r, path);
    if (route == NULL || !api_route_allows(r, route))
        return NULL;
    if (body_len > (size_t)(route->body_cap != 0 ? route->body_cap : API_BODY_BYTES)) {
        api_refuse(r, 413, "too_large", "send less", "the body is larger than this path takes");
        return NULL;
    }
    if (s->stopping) {
        api_refuse(r, 503, "unavailable", "send the same request again in a moment",
                   "the ledger is stopping");
        return NULL;
    }
    return route;
}

static void answer(struct api_server *s, struct evhttp_request *req, int status, const struct buffer *reply,
                   int64_t asked_us)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    struct evbuffer *body = evbuffer_new();
    evhttp_add_header(headers, "Content-Type", "application/json");
    evhttp_add_header(headers, "Cache-Control", "no-store");
    if (status == 401)
        evhttp_add_header(headers, "WWW-Authenticate", "Bearer");
    if (body == NULL || evbuffer_add(body, reply->data, reply->len) != 0)
        evhttp_send_reply(req, 503, NULL, NULL);
    else
        evhttp_send_reply(req, status, NULL, body);
    if (body != NULL)
        evbuffer_free(body);
    metric_add(s->done[status >= 500 ? 2 : status >= 400 ? 1 : 0], 1);
    metric_observe_us(s->took, clock_mono_us() - asked_us);
}

static void exchange_end(struct exchange *x)
{
    struct api_server *s = x->server;
    free(x);
    if (--s->under_way == 0 && s->stopping)
        event_base_loopbreak(s->base);
}

static void on_sent(struct evhttp_request *req, void *arg)
{
    evhttp_connection_set_closecb(evhttp_request_get_connection(req), NULL, NULL);
    exchange_end(arg);
}

static void on_close(struct evhttp_connection *connection, void *arg)
{
    struct exchange *x = arg;
    (void)connection;
    x->closed = true;
    if (x->job == NULL)
        exchange_end(x);
}

/* To the thread that answers it. false: r holds the refusal. */
static bool hand_on(struct api_server *s, struct evhttp_request *req, struct api_request *r,
                    const struct api_ask *ask)
{
    struct evbuffer *input = evhttp_request_get_input_buffer(req);
    size_t length = evbuffer_get_length(input);
    enum api_desk desk = ask->route->gate ? API_DESK_GATE : API_DESK_WORKER;
    char *body;
    struct exchange *x = malloc(sizeof *x);
    struct api_job *job = api_job_new(ask, length, &body);
    if (x != NULL && job != NULL && evbuffer_remove(input, body, length) == (int)length) {
        *x = (struct exchange){.server = s, .request = req, .job = job};
        job->asker = x;
        if (api_queue_put(s->queue[desk], job)) {
            s->under_way++;
            evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_close, x);
            return true;
        }
        metric_add(s->gate_full, desk == API_DESK_GATE ? 1 : 0);
    }
    free(x);
    api_job_free(job);
    return api_refuse(r, 503, "unavailable", "send the same request again in a moment",
                      "too many requests wait already");
}

static void on_request(struct evhttp_request *req, void *arg)
{
    struct api_server *s = arg;
    int64_t asked_us = clock_mono_us();
    struct evkeyvalq *headers = evhttp_request_get_input_headers(req);
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    struct api_ask ask = {.role = role_of(s, headers),
                          .path = sv_of(uri == NULL ? NULL : evhttp_uri_get_path(uri)),
                          .query = sv_of(uri == NULL ? NULL : evhttp_uri_get_query(uri))};
    struct api_request r = {
        .method = method_of(req), .role = ask.role, .arena = &s->arena, .status = 200, .reply = &s->reply};
    arena_reset(&s->arena);
    buffer_clear(&s->reply);
    json_write_init(&r.json, r.reply);
    ask.route = admit(s, &r, headers, ask.path, evbuffer_get_length(evhttp_request_get_input_buffer(req)));
    if (ask.route == NULL || !hand_on(s, req, &r, &ask))
        answer(s, req, r.status, r.reply, asked_us);
}

static void send_answer(struct api_server *s, struct api_job *job)
{
    struct exchange *x = job->asker;
    x->job = NULL;
    if (!x->closed)
        evhttp_request_set_on_complete_cb(x->request, on_sent, x);
    answer(s, x->request, job->status, &job->reply, job->asked_us);
    api_job_free(job);
    if (x->closed)
        exchange_end(x);
}

static void on_answers(evutil_socket_t fd, short what, void *arg)
{
    struct api_server *s = arg;
    eventfd_t ignored;
    (void)what;
    (void)eventfd_read(fd, &ignored);
    for (size_t i = 0; i < API_DESKS; i++) {
        for (struct api_job *job = api_queue_answered(s->queue[i]), *next; job != NULL; job = next) {
            next = job->next;
            send_answer(s, job);
        }
    }
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
    struct api_server *s = arg;
    (void)fd;
    (void)what;
    s->stopping = true;
    evhttp_del_accept_socket(s->http, s->bound);
    if (s->under_way == 0)
        event_base_loopbreak(s->base);
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
    const int one = 1;
    if (!listen_address_split(s->options.listen, host, &s->port, err))
        return err_wrap(err, "api");
    evhttp_set_max_headers_size(s->http, HEADER_BYTES);
    evhttp_set_max_body_size(s->http, READ_BYTES);
    evhttp_set_timeout(s->http, IDLE_SECONDS);
    evhttp_set_allowed_methods(s->http, ALL_METHODS);
    evhttp_set_gencb(s->http, on_request, s);
    s->bound = evhttp_bind_socket_with_handle(s->http, host, s->port);
    if (s->bound == NULL ||
        getsockname(evhttp_bound_socket_get_fd(s->bound), (struct sockaddr *)&address, &size) != 0)
        return err_set(err, ERR_IO, FATE_FATAL, "api: cannot listen on %s: is the port taken?",
                       s->options.listen);
    /* connections inherit it: libevent writes 16 KiB at a time, and Nagle would keep a reply's end for 40 ms
     */
    if (setsockopt(evhttp_bound_socket_get_fd(s->bound), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0)
        return err_set(err, ERR_IO, FATE_FATAL, "api: no TCP_NODELAY");
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
    s->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->base = event_base_new();
    if (s->stop_fd < 0 || s->answer_fd < 0 || s->base == NULL)
        return err_set(err, ERR_IO, FATE_FATAL, "api: no event loop");
    s->http = evhttp_new(s->base);
    s->loop = health_loop_start("api", LOOP_AGE_US);
    s->stop_event = event_new(s->base, s->stop_fd, EV_READ, on_stop, s);
    s->answer_event = event_new(s->base, s->answer_fd, EV_READ | EV_PERSIST, on_answers, s);
    s->beat_event = event_new(s->base, -1, EV_PERSIST, on_beat, s->loop);
    if (s->http == NULL || s->stop_event == NULL || s->beat_event == NULL || s->answer_event == NULL ||
        event_add(s->stop_event, NULL) != 0 || event_add(s->answer_event, NULL) != 0 ||
        event_add(s->beat_event, &second) != 0)
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
    s->gate_full = metric_counter("spend_ledger_gate_refused_total",
                                  "Requests about holds that the gate did not look at.", "reason", "full");
}

static bool open_desks(struct api_server *s, struct err *err)
{
    struct metric *waiting = metric_gauge("spend_ledger_gate_waiting",
                                          "Requests about holds that wait or are decided.", NULL, NULL);
    const struct api_queue_options worker = {
        .jobs_max = JOBS_MAX, .bytes_max = WAITING_MAX, .wake_fd = s->answer_fd};
    const struct api_queue_options gate = {.jobs_max = (size_t)s->options.gate.jobs_max,
                                           .bytes_max = WAITING_MAX,
                                           .wake_fd = s->answer_fd,
                                           .waiting = waiting};
    if (!api_queue_new(&s->queue[API_DESK_WORKER], &worker, err) ||
        !api_queue_new(&s->queue[API_DESK_GATE], &gate, err))
        return false;
    s->worker_options = (struct api_worker_options){.database_url = s->options.database_url,
                                                    .config_lead_us = s->options.config_lead_us,
                                                    .queue = s->queue[API_DESK_WORKER]};
    s->options.gate.queue = s->queue[API_DESK_GATE];
    return worker_start(&s->worker[API_DESK_WORKER], "api", api_worker_run, &s->worker_options, err) &&
           worker_start(&s->worker[API_DESK_GATE], "gate", hold_queue_run, &s->options.gate, err);
}

bool api_server_start(struct api_server **out, const struct api_server_options *options, struct err *err)
{
    bool ok = false;
    struct api_server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "api: out of memory");
    s->options = *options;
    s->stop_fd = s->answer_fd = -1;
    arena_init(&s->arena, ARENA_BYTES);
    buffer_init(&s->reply, (size_t)API_REPLY_BYTES);
    take_tokens(s);
    take_metrics(s);
    if (!open_loop(s, err) || !open_port(s, err) || !open_desks(s, err))
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
    (void)api_server_stop(s);
    return ok;
}

uint16_t api_server_port(const struct api_server *s)
{
    return s->port;
}

bool api_server_stop(struct api_server *s)
{
    bool ok = true;
    if (s == NULL)
        return true;
    if (s->running) {
        const uint64_t one = 1;
        if (write(s->stop_fd, &one, sizeof one) == (ssize_t)sizeof one)
            pthread_join(s->thread, NULL);
    }
    for (size_t i = 0; i < API_DESKS; i++)
        api_queue_end(s->queue[i]);
    for (size_t i = 0; i < API_DESKS; i++)
        ok = worker_join(s->worker[i]) && ok;
    health_loop_end(s->loop);
    if (s->stop_event != NULL)
        event_free(s->stop_event);
    if (s->beat_event != NULL)
        event_free(s->beat_event);
    if (s->answer_event != NULL)
        event_free(s->answer_event);
    if (s->http != NULL)
        evhttp_free(s->http);
    if (s->base != NULL)
        event_base_free(s->base);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    if (s->answer_fd >= 0)
        close(s->answer_fd);
    for (size_t i = 0; i < API_DESKS; i++)
        api_queue_free(s->queue[i]);
    arena_free(&s->arena);
    buffer_free(&s->reply);
    free(s);
    return ok;
}
