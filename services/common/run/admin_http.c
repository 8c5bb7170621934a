/*
 * admin_http: an evhttp on its own thread. It shares nothing with the service but health and metrics; an
 * eventfd ends it, so libevent needs no locks, and the service's own event loop pays for none.
 */
#include "run/admin_http.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "run/health.h"
#include "run/listen_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define HEADER_BYTES 8192
#define BODY_BYTES   1024
#define PAGE_BYTES   (4 << 20)
#define IDLE_SECONDS 10
#define ALL_THE_COMMON                                                                                       \
    (EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE)

struct admin {
    struct event_base *base;
    struct evhttp *http;
    struct event *stop;
    int stop_fd;
    uint16_t port;
    bool running;
    pthread_t thread;
};

static struct admin admin = {.stop_fd = -1};

static void on_libevent_log(int severity, const char *text)
{
    if (severity >= EVENT_LOG_WARN)
        log_warn("libevent", LOG_STR("text", text), LOG_END);
}

static void reply(struct evhttp_request *request, int status, const char *type, struct strview page)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    (void)evhttp_add_header(headers, "Content-Type", type);
    (void)evhttp_add_header(headers, "Cache-Control", "no-store");
    struct evbuffer *body = evhttp_request_get_output_buffer(request);
    if (evhttp_request_get_command(request) != EVHTTP_REQ_HEAD)
        (void)evbuffer_add(body, page.ptr, page.len);
    evhttp_send_reply(request, status, NULL, NULL);
}

/* The page for a path; its status. */
static int page_of(const char *path, struct buffer *page, const char **type)
{
    *type = "text/plain; charset=utf-8";
    if (strcmp(path, "/healthz") == 0)
        return health_is_live(clock_mono_us(), page) ? 200 : 503;
    if (strcmp(path, "/readyz") == 0)
        return health_is_ready(page) ? 200 : 503;
    if (strcmp(path, "/metrics") == 0) {
        *type = "text/plain; version=0.0.4; charset=utf-8";
        return metrics_render(page) ? 200 : 500;
    }
    return 404;
}

static void on_request(struct evhttp_request *request, void *arg)
{
    (void)arg;
    struct buffer page;
    const char *type = NULL;
    enum evhttp_cmd_type command = evhttp_request_get_command(request);
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
    buffer_init(&page, PAGE_BYTES);
    int status = page_of(path == NULL ? "" : path, &page, &type);
    if (status != 404 && command != EVHTTP_REQ_GET && command != EVHTTP_REQ_HEAD) {
        buffer_clear(&page);
        status = 405;
    }
    if (page.len == 0 && status != 200) {
        bool fits = buffer_append_sv(&page, SV_LIT("try GET /healthz, /readyz or /metrics\n"));
        (void)fits;
    }
    reply(request, status, type, buffer_view(&page));
    buffer_free(&page);
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)event_base_loopbreak(arg);
}

static void *serve(void *arg)
{
    (void)event_base_dispatch(arg);
    return NULL;
}

static uint16_t bound_port(evutil_socket_t fd)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        return 0;
    if (address.ss_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, &address, sizeof six);
        return ntohs(six.sin6_port);
    }
    struct sockaddr_in four;
    memcpy(&four, &address, sizeof four);
    return ntohs(four.sin_port);
}

static bool open_server(struct admin *a, const char *host, uint16_t port)
{
    a->base = event_base_new();
    a->http = a->base == NULL ? NULL : evhttp_new(a->base);
    a->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->http == NULL || a->stop_fd < 0)
        return false;
    a->stop = event_new(a->base, a->stop_fd, EV_READ, on_stop, a->base);
    if (a->stop == NULL || event_add(a->stop, NULL) != 0)
        return false;
    evhttp_set_max_headers_size(a->http, HEADER_BYTES);
    evhttp_set_max_body_size(a->http, BODY_BYTES);
    evhttp_set_timeout(a->http, IDLE_SECONDS);
    evhttp_set_allowed_methods(a->http, ALL_THE_COMMON);
    evhttp_set_gencb(a->http, on_request, NULL);
    struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(a->http, host, port);
    if (bound == NULL)
        return false;
    a->port = bound_port(evhttp_bound_socket_get_fd(bound));
    return true;
}

bool admin_http_start(const char *listen, struct err *err)
{
    char host[LISTEN_HOST_BYTES];
    uint16_t port = 0;
    event_set_log_callback(on_libevent_log);
    if (!listen_address_split(listen, host, &port, err))
        return err_wrap(err, "admin");
    errno = 0;
    if (!open_server(&admin, host, port)) {
        err_set(err, ERR_IO, FATE_FATAL, "admin: cannot listen on %s: %s", listen,
                errno == 0 ? "no such address" : strerror(errno));
        admin_http_stop();
        return false;
    }
    int failed = pthread_create(&admin.thread, NULL, serve, admin.base);
    admin.running = failed == 0;
    if (!admin.running) {
        admin_http_stop();
        return err_set(err, ERR_IO, FATE_FATAL, "admin: cannot start a thread: %s", strerror(failed));
    }
    log_info("admin_listening", LOG_STR("address", host), LOG_INT("port", admin.port), LOG_END);
    return true;
}

uint16_t admin_http_port(void)
{
    return admin.port;
}

void admin_http_stop(void)
{
    const uint64_t one = 1;
    if (admin.running && write(admin.stop_fd, &one, sizeof one) == (ssize_t)sizeof one)
        (void)pthread_join(admin.thread, NULL);
    if (admin.http != NULL)
        evhttp_free(admin.http);
    if (admin.stop != NULL)
        event_free(admin.stop);
    if (admin.base != NULL)
        event_base_free(admin.base);
    if (admin.stop_fd >= 0)
        (void)close(admin.stop_fd);
    admin = (struct admin){.stop_fd = -1};
}
