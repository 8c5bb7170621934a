/*
 * upstream: one read event a link, armed once; a write event only while connecting or after EAGAIN. A link
 * that connects goes through the addresses by itself, each once.
 */
#include "ingest/upstream.h"

#include "base/log.h"
#include "ingest/meter.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/http.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct upstream_link {
    struct upstream *home;
    int fd;                    /* -1: between two addresses */
    const struct addrinfo *to; /* the address it was last sent to */
    size_t tried;              /* addresses so far */
    bool connecting;
    bool reading;
    bool writing;
    const struct upstream_events *events; /* NULL while idle */
    void *arg;
    struct event read_event;
    struct event write_event;
    int64_t idle_since_us;
    struct upstream_link *below; /* in the pool */
};

struct upstream {
    struct event_base *base;
    struct upstream_address address;
    struct addrinfo *found;
    const struct addrinfo *next; /* where new links begin: the one that last answered */
    size_t addresses;
    int64_t idle_us;
    struct upstream_link *idle; /* the latest on top */
};

static bool part_copy(struct strview v, char *out, size_t room)
{
    if (v.len >= room || sv_has_control(v))
        return false;
    memcpy(out, v.ptr, v.len);
    out[v.len] = '\0';
    return true;
}

bool upstream_address_parse(const char *url, struct upstream_address *out, struct err *err)
{
    struct evhttp_uri *uri = evhttp_uri_parse(url);
    const char *scheme = uri == NULL ? NULL : evhttp_uri_get_scheme(uri);
    const char *host = uri == NULL ? NULL : evhttp_uri_get_host(uri);
    bool ok = scheme != NULL && host != NULL && host[0] != '\0' && strcmp(scheme, "http") == 0 &&
              evhttp_uri_get_userinfo(uri) == NULL && evhttp_uri_get_query(uri) == NULL;
    if (ok) {
        int port = evhttp_uri_get_port(uri) < 0 ? 80 : evhttp_uri_get_port(uri);
        struct strview path = sv_of(evhttp_uri_get_path(uri));
        while (path.len > 0 && path.ptr[path.len - 1] == '/')
            path.len--;
        struct strview bare = sv_of(host);
        if (bare.ptr[0] == '[')
            bare = (struct strview){host + 1, bare.len - 2};
        ok = part_copy(bare, out->host, sizeof out->host) &&
             part_copy(path, out->prefix, sizeof out->prefix) && strpbrk(out->prefix, "%;") == NULL &&
             strstr(out->prefix, "//") == NULL && strstr(out->prefix, "/.") == NULL;
        (void)snprintf(out->port, sizeof out->port, "%d", port);
        (void)snprintf(out->name, sizeof out->name, "%s:%d", host, port);
    }
    if (uri != NULL)
        evhttp_uri_free(uri);
    return ok ||
           err_set(
               err, ERR_INVALID, FATE_FATAL,
               "--upstream-url must be http://host:port[/prefix], the prefix without escapes, parameters, "
               "empty or dot segments; for TLS put a sidecar in between");
}

bool upstream_new(struct upstream **out, struct event_base *base, const struct upstream_address *address,
                  int64_t idle_us, struct err *err)
{
    struct upstream *u = calloc(1, sizeof *u);
    if (u == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "upstream: out of memory");
    u->base = base;
    u->address = *address;
    u->idle_us = idle_us;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int failed = getaddrinfo(address->host, address->port, &hints, &u->found);
    if (failed != 0) {
        free(u);
        return err_set(err, ERR_HTTP, FATE_FATAL, "upstream: cannot resolve %s: %s", address->host,
                       gai_strerror(failed));
    }
    u->next = u->found;
    for (const struct addrinfo *a = u->found; a != NULL; a = a->ai_next)
        u->addresses++;
    *out = u;
    return true;
}

const struct upstream_address *upstream_address(const struct upstream *u)
{
    return &u->address;
}

static void socket_close(struct upstream_link *link)
{
    if (link->fd < 0)
        return;
    upstream_want_read(link, false);
    upstream_want_write(link, false);
    (void)close(link->fd);
    link->fd = -1;
}

static void link_close(struct upstream_link *link)
{
    socket_close(link);
    free(link);
}

void upstream_free(struct upstream *u)
{
    if (u == NULL)
        return;
    while (u->idle != NULL) {
        struct upstream_link *link = u->idle;
        u->idle = link->below;
        link_close(link);
    }
    freeaddrinfo(u->found);
    free(u);
}

static void idle_remove(struct upstream_link *link)
{
    struct upstream_link **at = &link->home->idle;
    while (*at != link)
        at = &(*at)->below;
    *at = link->below;
    meter_add(METER_UPSTREAM_IDLE, -1);
}

void upstream_tick(struct upstream *u, int64_t now_us)
{
    for (struct upstream_link **at = &u->idle; *at != NULL;) {
        struct upstream_link *link = *at;
        if (now_us - link->idle_since_us <= u->idle_us) {
            at = &link->below;
            continue;
        }
        *at = link->below;
        meter_add(METER_UPSTREAM_IDLE, -1);
        link_close(link);
    }
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct upstream_link *link = arg;
    if (link->events == NULL) {
        idle_remove(link);
        link_close(link);
        return;
    }
    if (!link->connecting)
        link->events->readable(link->arg);
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct upstream_link *link = arg;
    if (!link->connecting) {
        if (link->events != NULL)
            link->events->writable(link->arg);
        return;
    }
    int failed = 0;
    socklen_t size = sizeof failed;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) != 0)
        failed = errno;
    if (failed != 0) {
        log_warn("upstream_connect_failed", LOG_STR("upstream", link->home->address.name),
                 LOG_STR("err", strerror(failed)), LOG_END);
        if (!upstream_try_next(link))
            link->events->connected(link->arg, false);
        return;
    }
    link->connecting = false;
    link->home->next = link->to;
    upstream_want_write(link, false);
    upstream_want_read(link, true);
    link->events->connected(link->arg, true);
}

static bool link_dial(struct upstream_link *link)
{
    const struct addrinfo *to = link->to;
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, to->ai_addr, to->ai_addrlen) != 0 && errno != EINPROGRESS) {
        (void)close(fd);
        return false;
    }
    link->fd = fd;
    (void)event_assign(&link->read_event, link->home->base, fd, EV_READ | EV_PERSIST, on_read, link);
    (void)event_assign(&link->write_event, link->home->base, fd, EV_WRITE | EV_PERSIST, on_write, link);
    upstream_want_write(link, true);
    return true;
}

bool upstream_try_next(struct upstream_link *link)
{
    struct upstream *u = link->home;
    socket_close(link);
    while (link->tried < u->addresses) {
        const struct addrinfo *after = link->tried == 0 ? u->next : link->to->ai_next;
        link->to = after == NULL ? u->found : after;
        link->tried++;
        if (link_dial(link))
            return true;
    }
    return false;
}

static struct upstream_link *link_new(struct upstream *u)
{
    struct upstream_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return NULL;
    link->home = u;
    link->fd = -1;
    link->connecting = true;
    if (upstream_try_next(link))
        return link;
    link_close(link);
    return NULL;
}

void upstream_quiet(struct upstream_link *const *links, size_t count, bool *quiet)
{
    struct pollfd at[UPSTREAM_QUIET_MAX];
    assert(count <= UPSTREAM_QUIET_MAX);
    for (size_t i = 0; i < count; i++)
        at[i] = (struct pollfd){.fd = links[i]->fd, .events = POLLIN | POLLRDHUP};
    int found = poll(at, count, 0);
    for (size_t i = 0; i < count; i++) /* found < 0: not known, so none is */
        quiet[i] = found == 0 || (found > 0 && at[i].revents == 0);
}

bool upstream_has_bytes(const struct upstream_link *link)
{
    char byte;
    return recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

static struct upstream_link *idle_take(struct upstream *u)
{
    struct upstream_link *link = u->idle;
    if (link == NULL)
        return NULL;
    u->idle = link->below;
    meter_add(METER_UPSTREAM_IDLE, -1);
    return link;
}

struct upstream_link *upstream_take(struct upstream *u, const struct upstream_events *events, void *arg,
                                    bool fresh, bool *reused)
{
    struct upstream_link *link = fresh ? NULL : idle_take(u);
    *reused = link != NULL;
    if (link == NULL)
        link = link_new(u);
    if (link != NULL) {
        link->events = events;
        link->arg = arg;
    }
    return link;
}

void upstream_drop(struct upstream_link *link)
{
    if (link != NULL)
        link_close(link);
}

void upstream_give_back(struct upstream_link *link, int64_t now_us)
{
    struct upstream *u = link->home;
    upstream_want_write(link, false);
    upstream_want_read(link, true);
    link->events = NULL;
    link->arg = NULL;
    link->idle_since_us = now_us;
    link->below = u->idle;
    u->idle = link;
    meter_add(METER_UPSTREAM_IDLE, 1);
}

ssize_t upstream_send(struct upstream_link *link, struct iovec *piece, size_t count)
{
    struct msghdr message = {.msg_iov = piece, .msg_iovlen = count};
    ssize_t n = sendmsg(link->fd, &message, MSG_NOSIGNAL);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

ssize_t upstream_recv(struct upstream_link *link, void *room, size_t size)
{
    ssize_t n = recv(link->fd, room, size, 0);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR ? -1 : -2;
}

void upstream_want_write(struct upstream_link *link, bool want)
{
    if (want == link->writing)
        return;
    link->writing = want;
    (void)(want ? event_add(&link->write_event, NULL) : event_del(&link->write_event));
}

void upstream_want_read(struct upstream_link *link, bool want)
{
    if (want == link->reading)
        return;
    link->reading = want;
    (void)(want ? event_add(&link->read_event, NULL) : event_del(&link->read_event));
}
