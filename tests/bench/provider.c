/*
 * spend-bench-provider PORT CHUNKS PAUSE_MS: a provider that costs next to nothing: one thread, one epoll. A
 * request with "stream": true gets CHUNKS server-sent events, each by a send of its own, and one with usage
 * at the end; anything else one completion. With PAUSE_MS 0 every open stream gets one event a turn of the
 * loop, so that streams interleave; else one event each PAUSE_MS.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FDS_MAX     65536
#define ROOM        65536
#define TURN_EVENTS 1024

#define USAGE                                                                                                \
    "\"usage\":{\"prompt_tokens\":321,\"completion_tokens\":50,\"total_tokens\":371,"                        \
    "\"prompt_tokens_details\":{\"cached_tokens\":64},\"completion_tokens_details\":{\"reasoning_tokens\":"  \
    "0}}"
#define COMPLETION                                                                                           \
    "{\"id\":\"chatcmpl-bench0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1764000000,"      \
    "\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"        \
    "\"The quick brown fox jumps over the lazy dog, and then it does so once more.\"},"                      \
    "\"finish_reason\":\"stop\"}]," USAGE "}"
#define EVENT                                                                                                \
    "data: {\"id\":\"chatcmpl-bench0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":"     \
    "1764000000,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"}}]}\n\n"
#define LAST                                                                                                 \
    "data: {\"id\":\"chatcmpl-bench0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":"     \
    "1764000000,\"model\":\"gpt-4o\",\"choices\":[]," USAGE "}\n\ndata: [DONE]\n\n"
#define STREAM_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

struct peer {
    char *in; /* NULL: nothing waits */
    size_t len;
    long left; /* events to come; 0: no stream */
    bool streams;
};

static struct peer peers[FDS_MAX];
static int streaming[FDS_MAX]; /* their descriptors */
static size_t streaming_count;
static char reply[2048];
static char event[512];
static char last[1024];
static int poll_fd;
static long chunks;
static long pause_ms;

static long now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void peer_close(int fd)
{
    free(peers[fd].in);
    if (peers[fd].streams)
        for (size_t i = 0; i < streaming_count; i++)
            if (streaming[i] == fd)
                streaming[i] = streaming[--streaming_count];
    peers[fd] = (struct peer){0};
    (void)close(fd);
}

/* Nothing here is larger than a socket's buffer: a send that does not go whole ends the connection. */
static bool put(int fd, const char *text)
{
    size_t len = strlen(text);
    return send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* The length of the request at the front; 0 while it is not whole. */
static size_t request_length(const struct peer *p)
{
    const char *end = memmem(p->in, p->len, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    size_t head = (size_t)(end - p->in) + 4;
    size_t body = 0;
    for (const char *at = p->in; at < end; at = (const char *)memchr(at, '\n', head) + 1)
        if (strncasecmp(at, "content-length:", 15) == 0)
            body = strtoul(at + 15, NULL, 10);
    return p->len < head + body ? 0 : head + body;
}

static bool is_stream(const char *text, size_t len)
{
    return memmem(text, len, "\"stream\":true", 13) != NULL ||
           memmem(text, len, "\"stream\": true", 14) != NULL;
}

static bool answer(int fd, size_t len)
{
    struct peer *p = &peers[fd];
    bool stream = is_stream(p->in, len);
    p->len -= len;
    memmove(p->in, p->in + len, p->len);
    if (p->len == 0) {
        free(p->in);
        p->in = NULL;
    }
    if (!stream)
        return put(fd, reply);
    p->left = chunks;
    p->streams = true;
    streaming[streaming_count++] = fd;
    return put(fd, STREAM_HEAD);
}

/* One event of one stream. false: the stream is over, or its reader is gone. */
static bool event_send(int fd)
{
    struct peer *p = &peers[fd];
    bool ok = put(fd, p->left > 0 ? event : last);
    bool over = p->left-- == 0;
    if (ok && !over)
        return true;
    p->streams = false;
    if (!ok)
        peer_close(fd);
    return false;
}

/* Of the streams, those whose turn it is: all, or one in `pause` milliseconds. */
static void streams_go_on(long turn)
{
    for (size_t i = 0; i < streaming_count;) {
        int fd = streaming[i];
        bool due = pause_ms == 0 || fd % pause_ms == turn % pause_ms;
        if (due && !event_send(fd))
            streaming[i] = streaming[--streaming_count];
        else
            i++;
    }
}

static void peer_read(int fd)
{
    struct peer *p = &peers[fd];
    static char room[ROOM];
    ssize_t n = recv(fd, room, sizeof room, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    char *in = n <= 0 ? NULL : realloc(p->in, p->len + (size_t)n);
    if (in == NULL) {
        peer_close(fd);
        return;
    }
    memcpy(in + p->len, room, (size_t)n);
    p->in = in;
    p->len += (size_t)n;
    for (size_t len; p->in != NULL && !p->streams && (len = request_length(p)) > 0;) {
        if (!answer(fd, len)) {
            peer_close(fd);
            return;
        }
    }
}

static void peers_accept(int listener)
{
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        int on = 1;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (fd >= FDS_MAX || epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e) != 0)
            (void)close(fd);
    }
}

static int listener_open(const char *port)
{
    int on = 1;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr any;
    memcpy(&any, &to, sizeof to);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 0 || bind(fd, &any, sizeof to) != 0 || listen(fd, 4096) != 0 ||
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e) != 0)
        return -1;
    return fd;
}

static void texts_make(void)
{
    (void)snprintf(reply, sizeof reply,
                   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                   sizeof COMPLETION - 1, COMPLETION);
    (void)snprintf(event, sizeof event, "%zx\r\n%s\r\n", sizeof EVENT - 1, EVENT);
    (void)snprintf(last, sizeof last, "%zx\r\n%s\r\n0\r\n\r\n", sizeof LAST - 1, LAST);
}

int main(int argc, char **argv)
{
    static struct epoll_event found[TURN_EVENTS];
    struct rlimit most;
    if (argc != 4)
        return 2;
    chunks = strtol(argv[2], NULL, 10);
    pause_ms = strtol(argv[3], NULL, 10);
    if (getrlimit(RLIMIT_NOFILE, &most) == 0) {
        most.rlim_cur = most.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &most);
    }
    texts_make();
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listener_open(argv[1]);
    if (listener < 0)
        return 1;
    long turn = now_ms();
    for (;;) {
        int wait = streaming_count == 0 ? -1 : pause_ms == 0 ? 0 : 1;
        int count = epoll_wait(poll_fd, found, TURN_EVENTS, wait);
        for (int i = 0; i < count; i++) {
            if (found[i].data.fd == listener)
                peers_accept(listener);
            else
                peer_read(found[i].data.fd);
        }
        if (pause_ms == 0)
            streams_go_on(0);
        else
            for (long now = now_ms(); turn < now; turn++)
                streams_go_on(turn);
    }
}
