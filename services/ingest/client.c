/*
 * client: a small machine a connection. Closing one tells its exchange, which may end by it.
 */
#include "ingest/client.h"

#include "base/clock.h"
#include "base/json_write.h"
#include "ingest/exchange.h"
#include "ingest/intake.h"
#include "ingest/meter.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define PIPELINE_BYTES (64 << 10) /* waiting behind the request under way */
#define KEEP_BYTES     (16 << 10) /* a buffer larger than that is given back when it is empty */
#define BACKLOG_LOW    (64 << 10)
#define LINGER_US      (2 * US_PER_SECOND)
#define RETRY_AFTER_S  1

const struct http_refusal client_no_memory = {503, "overloaded", "out of memory"};

static void want_read(struct client *c, bool want)
{
    if (want == c->reading)
        return;
    c->reading = want;
    (void)(want ? event_add(&c->read_event, NULL) : event_del(&c->read_event));
}

static void want_write(struct client *c, bool want)
{
    if (want == c->writing)
        return;
    c->writing = want;
    if (want)
        c->moved_us = clock_coarse_us();
    (void)(want ? event_add(&c->write_event, NULL) : event_del(&c->write_event));
}

static void due_drop(struct client *c)
{
    if (!c->is_due)
        return;
    c->is_due = false;
    DL_DELETE2(c->gateway->due_clients, c, due_before, due_after);
}

void client_flush_later(struct client *c)
{
    if (c->is_due)
        return;
    c->is_due = true;
    DL_APPEND2(c->gateway->due_clients, c, due_before, due_after);
}

void client_close(struct client *c)
{
    due_drop(c);
    struct gateway *g = c->gateway;
    struct exchange *x = c->exchange;
    struct intake *intake = c->intake;
    *(c->older == NULL ? &g->clients : &c->older->newer) = c->newer;
    if (c->newer != NULL)
        c->newer->older = c->older;
    g->client_count--;
    meter_add(METER_CLIENTS, -1);
    want_read(c, false);
    want_write(c, false);
    (void)close(c->fd);
    buffer_free(&c->in);
    buffer_free(&c->body);
    buffer_free(&c->out);
    c->state = CLIENT_GONE;
    c->exchange = NULL;
    c->intake = NULL;
    if (!c->processing)
        free(c);
    if (x != NULL)
        exchange_client_gone(x);
    if (intake != NULL)
        intake_client_gone(intake);
    gateway_client_left(g);
}

void client_write(struct client *c, struct strview bytes)
{
    if (!buffer_append_sv(&c->out, bytes))
        c->broken = true;
}

size_t client_backlog(const struct client *c)
{
    return c->out.len;
}

static void enter(struct client *c, enum client_state state)
{
    c->state = state;
    c->since_us = clock_coarse_us();
}

/* Everything is written. */
static void flushed(struct client *c)
{
    want_write(c, false);
    if (c->out.room > KEEP_BYTES)
        buffer_free(&c->out);
    if (c->state == CLIENT_HEAD) /* only now is it the caller's turn */
        c->since_us = clock_coarse_us();
    if (c->state == CLIENT_HEAD && c->in.len == 0 && c->gateway->draining)
        enter(c, CLIENT_FLUSH); /* its last request was answered while the stop began */
    if (c->state != CLIENT_FLUSH)
        return;
    (void)shutdown(c->fd, SHUT_WR);
    enter(c, CLIENT_LINGER);
    want_read(c, true);
}

bool client_flush(struct client *c)
{
    size_t sent = 0;
    size_t free_to_go = c->held && c->out.len > 0 ? c->out.len - 1 : c->out.len;
    due_drop(c);
    while (!c->broken && sent < free_to_go) {
        ssize_t n = send(c->fd, c->out.data + sent, free_to_go - sent, MSG_NOSIGNAL);
        if (n > 0) {
            sent += (size_t)n;
            continue;
        }
        c->broken = errno != EAGAIN && errno != EINTR;
        break;
    }
    if (c->broken) {
        client_close(c);
        return false;
    }
    if (sent > 0 && c->writing)
        c->moved_us = clock_coarse_us();
    buffer_consume(&c->out, sent);
    if (c->out.len == 0)
        flushed(c);
    else
        want_write(c, sent < free_to_go);
    return true;
}

/* No more requests: the last bytes go out, then the connection ends. */
static void finish(struct client *c)
{
    enter(c, CLIENT_FLUSH);
    want_read(c, false);
    (void)client_flush(c);
}

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } rows[] = {{202, "Accepted"},
                {400, "Bad Request"},
                {401, "Unauthorized"},
                {402, "Payment Required"},
                {403, "Forbidden"},
                {404, "Not Found"},
                {405, "Method Not Allowed"},
                {408, "Request Timeout"},
                {415, "Unsupported Media Type"},
                {413, "Content Too Large"},
                {417, "Expectation Failed"},
                {429, "Too Many Requests"},
                {431, "Request Header Fields Too Large"},
                {500, "Internal Server Error"},
                {501, "Not Implemented"},
                {502, "Bad Gateway"},
                {503, "Service Unavailable"},
                {504, "Gateway Timeout"},
                {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].status == status)
            return rows[i].reason;
    return "Error";
}

/* A whole reply of ours. */
static void reply_write(struct client *c, int status, struct strview json, const char *call_id,
                        int64_t retry_after_s)
{
    bool ok =
        buffer_printf(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n",
                      status, reason_of(status), json.len) &&
        (call_id == NULL || buffer_printf(&c->out, "x-spend-call-id: %s\r\n", call_id)) &&
        (retry_after_s == 0 || buffer_printf(&c->out, "Retry-After: %lld\r\n", (long long)retry_after_s)) &&
        (!c->close_after || buffer_printf(&c->out, "Connection: close\r\n")) &&
        buffer_printf(&c->out, "\r\n") && (c->head_request || buffer_append_sv(&c->out, json));
    c->broken = c->broken || !ok;
}

static void answer_write(struct client *c, const struct http_refusal *why, const char *call_id)
{
    struct buffer body;
    struct json_write json;
    buffer_init(&body, 4096);
    json_write_init(&json, &body);
    json_write_open(&json, '{');
    json_write_key(&json, "error");
    json_write_open(&json, '{');
    json_write_key(&json, "message");
    json_write_str(&json, why->message);
    json_write_key(&json, "type");
    json_write_str(&json, why->type);
    json_write_key(&json, "param");
    json_write_null(&json);
    json_write_key(&json, "code");
    char code[16];
    (void)snprintf(code, sizeof code, "%d", why->status);
    json_write_str(&json, code);
    json_write_close(&json, '}');
    json_write_close(&json, '}');
    c->broken = c->broken || !json_write_ok(&json);
    reply_write(c, why->status, buffer_view(&body), call_id, why->status == 503 ? RETRY_AFTER_S : 0);
    buffer_free(&body);
}

void client_answer(struct client *c, const struct http_refusal *why, const char *call_id)
{
    c->close_after = c->close_after || c->gateway->draining;
    answer_write(c, why, call_id);
    client_exchange_done(c, true);
}

void client_reply(struct client *c, int status, struct strview json)
{
    c->close_after = c->close_after || c->gateway->draining;
    reply_write(c, status, json, NULL, status == 503 ? RETRY_AFTER_S : 0);
    client_exchange_done(c, true);
}

void client_refuse(struct client *c, const struct gate_refusal *why, const char *call_id)
{
    c->close_after = c->close_after || c->gateway->draining;
    reply_write(c, why->status, buffer_view(&why->body), call_id, why->retry_after_s);
    client_exchange_done(c, true);
}

static void refuse(struct client *c, const struct http_refusal *why)
{
    enum meter m = why->status == 413   ? METER_REFUSED_BODY_LIMIT
                   : why->status == 431 ? METER_REFUSED_HEADER_LIMIT
                   : why->status == 408 ? METER_REFUSED_SLOW
                   : why->status == 501 ? METER_REFUSED_NOT_METERED
                                        : METER_REFUSED_FRAMING;
    meter_add(m, 1);
    c->close_after = true;
    answer_write(c, why, NULL);
    finish(c);
}

static bool body_begin(struct client *c, const struct http_request_head *head)
{
    static const struct http_refusal too_large = {413, "body_too_large", "the request's body is too large"};
    c->head_bytes = head->bytes;
    c->body_bytes = head->headers.chunked                              ? HTTP_LENGTH_NONE
                    : head->headers.content_length == HTTP_LENGTH_NONE ? 0
                                                                       : head->headers.content_length;
    http_chunk_init(&c->chunk, false);
    buffer_clear(&c->body);
    c->head_request = sv_eq(head->method, SV_LIT("HEAD"));
    c->close_after = head->headers.close;
    enter(c, CLIENT_BODY);
    if (c->body_bytes <= c->gateway->options->body_bytes)
        return true;
    if (intake_is_ours(head->path))
        intake_refused(head->path, too_large.status, too_large.message);
    refuse(c, &too_large);
    return false;
}

/* Decodes what is there; only the head and what follows the body stay in c->in. true: the body is whole. */
static bool chunks_read(struct client *c)
{
    static const struct http_refusal malformed = {400, "bad_request",
                                                  "malformed chunk in the request's body"};
    static const struct http_refusal too_large = {413, "body_too_large", "the request's body is too large"};
    struct strview in = {c->in.data + c->head_bytes, c->in.len - c->head_bytes};
    struct strview data;
    enum chunk_step step;
    while ((step = http_chunk_next(&c->chunk, &in, &data)) == CHUNK_DATA) {
        if (!buffer_append_sv(&c->body, data)) {
            refuse(c, &too_large);
            return false;
        }
    }
    if (step == CHUNK_BAD) {
        refuse(c, &malformed);
        return false;
    }
    memmove(c->in.data + c->head_bytes, in.ptr, in.len);
    c->in.len = c->head_bytes + in.len;
    return step == CHUNK_END;
}

static bool body_read(struct client *c)
{
    if (c->body_bytes == HTTP_LENGTH_NONE)
        return chunks_read(c);
    return c->in.len - c->head_bytes >= (size_t)c->body_bytes;
}

/* One request off the front of c->in. false: more bytes are needed, or the connection has ended. */
static bool request_next(struct client *c)
{
    struct http_request_head *head = &c->gateway->head;
    struct http_refusal why;
    bool fresh = c->state == CLIENT_HEAD;
    if (fresh) {
        if (c->in.len == 0)
            return false;
        switch (http_guard(buffer_view(&c->in), &c->scanned, (size_t)c->gateway->options->header_bytes, head,
                           &why)) {
        case GUARD_MORE:
            return false;
        case GUARD_REFUSED:
            refuse(c, &why);
            return false;
        case GUARD_OK:
            break;
        }
        if (!body_begin(c, head))
            return false;
    }
    if (!body_read(c)) {
        if (fresh && c->state == CLIENT_BODY && head->expect_continue) {
            client_write(c, SV_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
            (void)client_flush(c);
        }
        return false;
    }
    c->scanned = 0;
    if (!fresh && http_guard(buffer_view(&c->in), &c->scanned, SIZE_MAX, head, &why) != GUARD_OK)
        abort(); /* it was good before its body came */
    c->scanned = 0;
    size_t len = c->head_bytes + (c->body_bytes > 0 ? (size_t)c->body_bytes : 0);
    if (intake_is_ours(head->path))
        intake_begin(c, head, len);
    else
        exchange_begin(c, head, len);
    return true;
}

/* Requests that are whole, one after the other. The client may be gone afterwards. */
static void process(struct client *c)
{
    if (c->processing)
        return;
    c->processing = true;
    while ((c->state == CLIENT_HEAD || c->state == CLIENT_BODY) && c->out.len < BACKLOG_LOW &&
           request_next(c)) {
    }
    c->processing = false;
    if (c->state == CLIENT_GONE)
        free(c);
}

void client_flush_due(struct gateway *g)
{
    while (g->due_clients != NULL) {
        struct client *c = g->due_clients;
        if (client_flush(c) && c->out.len < BACKLOG_LOW)
            process(c); /* what had to wait behind it */
    }
}

void client_exchange_done(struct client *c, bool whole)
{
    c->exchange = NULL;
    if (c->close_after || !whole || c->gateway->draining) {
        finish(c);
        return;
    }
    enter(c, CLIENT_HEAD);
    c->head_request = false;
    if (c->in.len == 0 && c->in.room > KEEP_BYTES)
        buffer_free(&c->in);
    if (c->broken) {
        client_close(c);
        return;
    }
    client_flush_later(c);
    want_read(c, true);
    process(c);
}

/* Bytes into c->in: straight there while a body of known length comes. -1: nothing now, 0: the caller is
 * gone. */
static ssize_t receive(struct client *c)
{
    struct gateway *g = c->gateway;
    size_t wanted = GATEWAY_READ_BYTES;
    char *room = g->read_room;
    bool straight = c->state == CLIENT_BODY && c->body_bytes > GATEWAY_READ_BYTES;
    if (straight) {
        wanted = c->head_bytes + (size_t)c->body_bytes - c->in.len;
        room = buffer_reserve(&c->in, wanted);
        if (room == NULL)
            return 0;
    }
    ssize_t n = recv(c->fd, room, wanted, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    if (straight)
        buffer_grew(&c->in, (size_t)n);
    else if (c->state != CLIENT_LINGER && n > 0 && !buffer_append(&c->in, room, (size_t)n))
        return 0;
    return n;
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct client *c = arg;
    bool idle = c->state == CLIENT_HEAD && c->in.len == 0;
    ssize_t n = receive(c);
    if (n == 0)
        client_close(c);
    if (n <= 0 || c->state == CLIENT_LINGER)
        return;
    if (idle)
        c->since_us = clock_coarse_us();
    if (c->state == CLIENT_BUSY && c->in.len > PIPELINE_BYTES)
        want_read(c, false);
    process(c);
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct client *c = arg;
    if (!client_flush(c) || c->out.len >= BACKLOG_LOW)
        return;
    if (c->exchange != NULL)
        exchange_client_drained(c->exchange);
    else
        process(c);
}

void client_accept(struct gateway *g, int fd)
{
    struct client *c = calloc(1, sizeof *c);
    if (c == NULL) {
        (void)close(fd);
        return;
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->gateway = g;
    c->fd = fd;
    size_t request = (size_t)(g->options->header_bytes + g->options->body_bytes);
    buffer_init(&c->in, request + GATEWAY_READ_BYTES + PIPELINE_BYTES);
    buffer_init(&c->body, (size_t)g->options->body_bytes);
    buffer_init(&c->out, (size_t)g->options->sse_event_bytes * 2 + (2U << 20));
    (void)event_assign(&c->read_event, g->base, fd, EV_READ | EV_PERSIST, on_read, c);
    (void)event_assign(&c->write_event, g->base, fd, EV_WRITE | EV_PERSIST, on_write, c);
    enter(c, CLIENT_HEAD);
    c->newer = g->clients;
    if (c->newer != NULL)
        c->newer->older = c;
    g->clients = c;
    g->client_count++;
    meter_add(METER_CLIENTS, 1);
    want_read(c, true);
}

static bool body_is_slow(const struct client *c, int64_t spent_us)
{
    int64_t got = (int64_t)(c->in.len - c->head_bytes + c->body.len);
    return spent_us > c->gateway->options->header_time_us &&
           got < c->gateway->options->body_rate * (spent_us / US_PER_SECOND);
}

void client_tick(struct client *c, int64_t now_us)
{
    static const struct http_refusal slow = {408, "request_timeout", "the request came too slowly"};
    const struct ingest_options *o = c->gateway->options;
    int64_t spent_us = now_us - c->since_us;
    bool stuck = c->writing && now_us - c->moved_us > o->idle_time_us;
    bool waiting =
        c->state == CLIENT_HEAD && c->out.len == 0; /* for a request, not for its last reply to go */
    bool idle = waiting && c->in.len == 0 && spent_us > o->idle_time_us;
    if (stuck || idle || (c->state == CLIENT_LINGER && spent_us > LINGER_US))
        client_close(c);
    else if ((waiting && c->in.len > 0 && spent_us > o->header_time_us) ||
             (c->state == CLIENT_BODY && body_is_slow(c, spent_us)))
        refuse(c, &slow);
}

void client_drain(struct client *c)
{
    if (c->state == CLIENT_HEAD && c->in.len == 0 && c->out.len == 0)
        client_close(c);
}
