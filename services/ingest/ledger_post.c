/*
 * ledger_post: one slot: the loop fills it, the thread works on it, an eventfd brings it back. Whose turn it
 * is says who may touch it.
 */
#include "ingest/ledger_post.h"

#include "run/http_client.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define REPLY_BYTES (64 << 20)

enum turn { TURN_LOOP, TURN_POST, TURN_STOP };

struct ledger_post {
    struct ledger_post_options options;
    char url[1100];
    char header[600];
    struct http_client *client;
    int fd;
    struct event *event;
    pthread_t thread;
    bool running;
    bool busy; /* the loop's own: from send to done */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    enum turn turn; /* under the lock */
    /* the one under way: whose turn it is owns it */
    const char *path;
    struct buffer body;
    struct http_reply reply;
    struct err err;
    bool answered;
};

static void post(struct ledger_post *p)
{
    const char *const headers[] = {"Content-Type: application/json", p->header};
    char url[sizeof p->url + 64];
    (void)snprintf(url, sizeof url, "%s%s", p->url, p->path);
    struct http_request request = {.method = "POST",
                                   .url = url,
                                   .header = headers,
                                   .header_count = p->header[0] == '\0' ? 1 : 2,
                                   .body = buffer_view(&p->body),
                                   .timeout_ms = p->options.timeout_us / 1000,
                                   .reply_cap = REPLY_BYTES};
    err_clear(&p->err);
    p->answered = http_client_send(p->client, &request, &p->reply, &p->err);
}

static void *run(void *arg)
{
    struct ledger_post *p = arg;
    const uint64_t one = 1;
    (void)pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->turn == TURN_LOOP)
            (void)pthread_cond_wait(&p->wake, &p->lock);
        if (p->turn == TURN_STOP)
            break;
        (void)pthread_mutex_unlock(&p->lock);
        post(p);
        (void)pthread_mutex_lock(&p->lock);
        if (p->turn == TURN_STOP)
            break;
        p->turn = TURN_LOOP;
        while (write(p->fd, &one, sizeof one) < 0 && errno == EINTR) {
        }
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct ledger_post *p = arg;
    uint64_t count;
    if (read(fd, &count, sizeof count) != (ssize_t)sizeof count)
        return;
    (void)pthread_mutex_lock(&p->lock); /* what the thread wrote is seen behind it */
    (void)pthread_mutex_unlock(&p->lock);
    struct http_reply reply = p->reply;
    p->reply = (struct http_reply){0};
    struct err err = p->err;
    bool answered = p->answered; /* done may send the next: then all of this is the thread's again */
    p->busy = false;
    p->options.done(p->options.arg, answered ? reply.status : 0,
                    answered ? buffer_view(&reply.body) : SV_NULL, &err);
    if (answered)
        http_reply_free(&reply);
}

bool ledger_post_new(struct ledger_post **out, const struct ledger_post_options *options, struct err *err)
{
    struct ledger_post *p = calloc(1, sizeof *p);
    if (p == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "ledger_post: out of memory");
    p->options = *options;
    p->fd = -1;
    size_t len = strlen(options->url);
    while (len > 0 && options->url[len - 1] == '/')
        len--;
    (void)snprintf(p->url, sizeof p->url, "%.*s", (int)len, options->url);
    if (options->token != NULL)
        (void)snprintf(p->header, sizeof p->header, "Authorization: Bearer %s", options->token);
    buffer_init(&p->body, 0);
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->wake, NULL);
    p->client = http_client_new();
    p->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->client != NULL && p->fd >= 0)
        p->event = event_new(options->base, p->fd, EV_READ | EV_PERSIST, on_done, p);
    p->running =
        p->event != NULL && event_add(p->event, NULL) == 0 && pthread_create(&p->thread, NULL, run, p) == 0;
    if (!p->running) {
        ledger_post_free(p);
        return err_set(err, ERR_MEMORY, FATE_FATAL, "ledger_post: no thread");
    }
    *out = p;
    return true;
}

void ledger_post_free(struct ledger_post *p)
{
    if (p == NULL)
        return;
    if (p->running) {
        (void)pthread_mutex_lock(&p->lock);
        p->turn = TURN_STOP;
        (void)pthread_cond_signal(&p->wake);
        (void)pthread_mutex_unlock(&p->lock);
        (void)pthread_join(p->thread, NULL);
    }
    if (p->event != NULL)
        event_free(p->event);
    if (p->fd >= 0)
        (void)close(p->fd);
    if (p->reply.body.data != NULL)
        http_reply_free(&p->reply);
    buffer_free(&p->body);
    http_client_free(p->client);
    (void)pthread_cond_destroy(&p->wake);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

bool ledger_post_is_busy(const struct ledger_post *p)
{
    return p->busy;
}

void ledger_post_send(struct ledger_post *p, const char *path, struct buffer *body)
{
    buffer_free(&p->body);
    p->body = *body;
    buffer_init(body, p->body.cap);
    p->path = path;
    p->busy = true;
    (void)pthread_mutex_lock(&p->lock);
    p->turn = TURN_POST;
    (void)pthread_cond_signal(&p->wake);
    (void)pthread_mutex_unlock(&p->lock);
}
