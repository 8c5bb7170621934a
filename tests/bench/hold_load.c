/*
 * hold_load: asks the gate for holds as ingest does, and tells how long it took.
 *   spend-bench-hold-load PORT CONNECTIONS CALLS 0 SECONDS      requests of so many calls, one behind the
 * other spend-bench-hold-load PORT 1 CALLS RATE SECONDS             calls arrive evenly; the next request
 * goes when the last has answered, with all that wait, CALLS at most Its token is SPEND_INGEST_TOKEN. One
 * line of JSON; the times are those from a call's arrival to its answer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CALLS_MAX       256
#define CONNECTIONS_MAX 64
#define CALL_BYTES      512
#define HEAD_BYTES      512
#define REPLY_BYTES     (1 << 20)
#define SECOND_NS       1000000000LL
#define TENANTS         20
#define KEY             "6b23c0d5f35d1b11f9b683f0b0a617355deb11277d91ae091d399c655b87940d"

struct caller {
    const char *token;
    uint16_t port;
    size_t calls;
    double rate; /* 0: as fast as it goes */
    double seconds;
    uint64_t id[2];
    int64_t *took_ns;
    size_t count;
    size_t room;
    size_t requests, placed, refused, bad;
    int64_t ran_ns;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "hold_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int connect_to(uint16_t port)
{
    const int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* A call as ingest tells of it: a UUIDv7, one of 20 tenants. */
static size_t write_call(struct caller *c, char *at)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    uint64_t n = ++c->id[0];
    return (size_t)snprintf(at, CALL_BYTES,
                            "{\"call_id\":\"%08x-%04x-7%03x-8%03x-%06x%06x\",\"operation\":\"chat\","
                            "\"model\":\"gpt-4o\",\"tags\":"
                            "[\"tenant=t%02u\",\"feature=summary\",\"end_user=user-42\"],\"key_hash\":\"" KEY
                            "\",\"body_bytes\":1300,\"max_tokens\":500}",
                            (unsigned)(ms >> 16), (unsigned)(ms & 0xffff), (unsigned)(n >> 24 & 0xfff),
                            (unsigned)(n >> 12 & 0xfff), (unsigned)(c->id[1] & 0xffffff),
                            (unsigned)((n & 0xfff) << 12 | (c->id[1] >> 24 & 0xfff)),
                            (unsigned)(n % TENANTS));
}

static void send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            fail("send");
        text += n;
        len -= (size_t)n;
    }
}

static size_t count_of(const char *text, size_t len, const char *what)
{
    size_t n = 0;
    const char *end = text + len;
    while ((text = memmem(text, (size_t)(end - text), what, strlen(what))) != NULL) {
        text += strlen(what);
        n++;
    }
    return n;
}

/* One reply with a Content-Length. */
static void read_reply(struct caller *c, int fd, char *reply)
{
    size_t len = 0;
    size_t whole = 0;
    while (whole == 0 || len < whole) {
        ssize_t n = recv(fd, reply + len, REPLY_BYTES - 1 - len, 0);
        if (n <= 0)
            fail("recv");
        len += (size_t)n;
        reply[len] = '\0';
        const char *body = whole == 0 ? strstr(reply, "\r\n\r\n") : NULL;
        const char *length = body == NULL ? NULL : strstr(reply, "Content-Length: ");
        if (length != NULL)
            whole = (size_t)(body + 4 - reply) + strtoul(length + 16, NULL, 10);
    }
    if (strncmp(reply, "HTTP/1.1 200", 12) != 0)
        c->bad++;
    c->placed += count_of(reply, len, "\"state\":\"placed\"");
    c->refused += count_of(reply, len, "\"state\":\"refused\"");
    c->requests++;
}

static void ask(struct caller *c, int fd, size_t calls, char *reply)
{
    static _Thread_local char text[HEAD_BYTES + CALLS_MAX * (CALL_BYTES + 1) + 2];
    char head[HEAD_BYTES];
    char *body = text + HEAD_BYTES;
    size_t len = 0;
    for (size_t i = 0; i < calls; i++) {
        body[len++] = i == 0 ? '[' : ',';
        len += write_call(c, body + len);
    }
    body[len++] = ']';
    size_t head_len = (size_t)snprintf(head, sizeof head,
                                       "POST /v1/holds HTTP/1.1\r\nHost: gate\r\nContent-Type: "
                                       "application/json\r\nAuthorization: Bearer %s\r\n"
                                       "Content-Length: %zu\r\n\r\n",
                                       c->token, len);
    memcpy(body - head_len, head, head_len);
    send_all(fd, body - head_len, head_len + len);
    read_reply(c, fd, reply);
}

static void note(struct caller *c, int64_t took_ns)
{
    if (c->count == c->room) {
        c->room = c->room == 0 ? 1 << 16 : c->room * 2;
        c->took_ns = realloc(c->took_ns, c->room * sizeof *c->took_ns);
        if (c->took_ns == NULL)
            fail("memory");
    }
    c->took_ns[c->count++] = took_ns;
}

static void run_closed(struct caller *c, int fd, char *reply, int64_t began, int64_t end)
{
    int64_t at = began;
    while (at < end) {
        ask(c, fd, c->calls, reply);
        int64_t now = now_ns();
        note(c, now - at);
        at = now;
    }
}

static void run_open(struct caller *c, int fd, char *reply, int64_t began, int64_t end)
{
    size_t all = (size_t)(c->rate * c->seconds);
    double step = (double)SECOND_NS / c->rate;
    for (size_t next = 0; next < all && now_ns() < end + 5 * SECOND_NS;) {
        int64_t due = began + (int64_t)((double)next * step);
        const struct timespec until = {.tv_sec = due / SECOND_NS, .tv_nsec = due % SECOND_NS};
        while (now_ns() < due)
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        size_t arrived = (size_t)((double)(now_ns() - began) / step) + 1;
        size_t calls = (arrived < all ? arrived : all) - next;
        calls = calls < c->calls ? calls : c->calls;
        ask(c, fd, calls, reply);
        int64_t now = now_ns();
        for (size_t i = 0; i < calls; i++, next++)
            note(c, now - began - (int64_t)((double)next * step));
    }
}

static void *run(void *arg)
{
    struct caller *c = arg;
    int fd = connect_to(c->port);
    char *reply = malloc(REPLY_BYTES);
    if (reply == NULL)
        fail("memory");
    int64_t began = now_ns();
    (c->rate > 0 ? run_open : run_closed)(c, fd, reply, began,
                                          began + (int64_t)(c->seconds * (double)SECOND_NS));
    c->ran_ns = now_ns() - began;
    free(reply);
    close(fd);
    return NULL;
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static struct caller caller[CONNECTIONS_MAX];
    pthread_t thread[CONNECTIONS_MAX];
    struct caller sum = {0};
    const char *token = getenv("SPEND_INGEST_TOKEN");
    size_t connections = argc == 6 ? strtoul(argv[2], NULL, 10) : 0;
    size_t calls = argc == 6 ? strtoul(argv[3], NULL, 10) : 0;
    if (token == NULL || connections < 1 || connections > CONNECTIONS_MAX || calls < 1 || calls > CALLS_MAX) {
        fputs("usage: SPEND_INGEST_TOKEN=.. spend-bench-hold-load PORT CONNECTIONS CALLS RATE SECONDS\n",
              stderr);
        return 2;
    }
    for (size_t i = 0; i < connections; i++) {
        caller[i] = (struct caller){.token = token,
                                    .port = (uint16_t)strtoul(argv[1], NULL, 10),
                                    .calls = calls,
                                    .rate = strtod(argv[4], NULL),
                                    .seconds = strtod(argv[5], NULL)};
        if (getrandom(caller[i].id, sizeof caller[i].id, 0) != sizeof caller[i].id ||
            pthread_create(&thread[i], NULL, run, &caller[i]) != 0)
            fail("begin");
    }
    for (size_t i = 0; i < connections; i++) {
        pthread_join(thread[i], NULL);
        for (size_t k = 0; k < caller[i].count; k++)
            note(&sum, caller[i].took_ns[k]);
        free(caller[i].took_ns);
        sum.requests += caller[i].requests;
        sum.placed += caller[i].placed;
        sum.refused += caller[i].refused;
        sum.bad += caller[i].bad;
        sum.ran_ns = caller[i].ran_ns > sum.ran_ns ? caller[i].ran_ns : sum.ran_ns;
    }
    if (sum.count == 0)
        return 1;
    qsort(sum.took_ns, sum.count, sizeof *sum.took_ns, by_time);
    printf("{\"seconds\": %.3f, \"requests\": %zu, \"placed\": %zu, \"refused\": %zu, \"bad\": %zu, "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
           (double)sum.ran_ns / (double)SECOND_NS, sum.requests, sum.placed, sum.refused, sum.bad,
           (double)sum.took_ns[sum.count / 2] / 1e6, (double)sum.took_ns[sum.count * 99 / 100] / 1e6);
    free(sum.took_ns);
    return 0;
}
