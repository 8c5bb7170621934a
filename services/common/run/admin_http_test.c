#include "run/admin_http.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "run/health.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static char answer[1 << 20];

static int connected(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(admin_http_port())};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval limit = {.tv_sec = 20};
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* Sends bytes, reads the answer to its end, returns the status. */
static int ask(const char *bytes)
{
    int fd = connected();
    size_t len = 0;
    ssize_t n = 0;
    assert_int_equal(send(fd, bytes, strlen(bytes), MSG_NOSIGNAL), strlen(bytes));
    while ((n = recv(fd, answer + len, sizeof answer - 1 - len, 0)) > 0)
        len += (size_t)n;
    (void)close(fd);
    answer[len] = '\0';
    int status = 0;
    (void)sscanf(answer, "HTTP/1.%*d %d", &status); /* NOLINT(cert-err34-c): 0 when it is no status line */
    return status;
}

static int get(const char *path)
{
    char request[200];
    (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    return ask(request);
}

static const char *body(void)
{
    const char *end = strstr(answer, "\r\n\r\n");
    return end == NULL ? "" : end + 4;
}

static int setup(void **state)
{
    (void)state;
    struct err err;
    health_reset();
    assert_true(admin_http_start("127.0.0.1:0", &err));
    assert_int_not_equal(admin_http_port(), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    admin_http_stop();
    assert_int_equal(admin_http_port(), 0);
    return 0;
}

static void test_healthz_follows_the_loops(void **state)
{
    (void)state;
    assert_int_equal(get("/healthz"), 200);
    assert_string_equal(body(), "ok\n");
    struct health_loop *loop = health_loop_start("main", -1); /* already too old */
    assert_int_equal(get("/healthz"), 503);
    assert_memory_equal(body(), "main: no turn for ", 18);
    health_loop_end(loop);
    assert_int_equal(get("/healthz"), 200);
}

static void test_readyz_gives_its_reasons(void **state)
{
    (void)state;
    assert_int_equal(get("/readyz"), 503);
    health_ready("kafka", false, "connecting");
    assert_int_equal(get("/readyz?verbose"), 503);
    assert_string_equal(body(), "kafka: connecting\n");
    health_ready("kafka", true, NULL);
    assert_int_equal(get("/readyz"), 200);
    assert_non_null(strstr(answer, "Content-Type: text/plain"));
}

static void test_metrics_are_prometheus_text(void **state)
{
    (void)state;
    metric_add(metric_counter("admin_test_total", "for this test", "kind", "a"), 41);
    assert_int_equal(get("/metrics"), 200);
    assert_non_null(strstr(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_non_null(strstr(body(), "# TYPE admin_test_total counter\nadmin_test_total{kind=\"a\"} 41\n"));
}

static void test_all_else_is_refused(void **state)
{
    (void)state;
    assert_int_equal(get("/"), 404);
    assert_int_equal(get("/healthz/"), 404);
    assert_string_equal(body(), "try GET /healthz, /readyz or /metrics\n");
    assert_int_equal(ask("POST /healthz HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"), 405);
    assert_int_equal(ask("HEAD /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"), 200);
    assert_string_equal(body(), "");
    char big[3000];
    int len =
        snprintf(big, sizeof big, "POST /x HTTP/1.1\r\nContent-Length: 2000\r\nConnection: close\r\n\r\n");
    memset(big + len, 'x', 2000);
    big[len + 2000] = '\0';
    assert_int_equal(ask(big), 413);
    static char head[20000];
    len = snprintf(head, sizeof head, "GET /healthz HTTP/1.1\r\nX: ");
    memset(head + len, 'x', 9000);
    (void)snprintf(head + len + 9000, 10, "\r\n\r\n");
    assert_int_equal(ask(head), 400);
}

static void test_a_connection_left_open_does_not_hold_the_stop(void **state)
{
    (void)state;
    int fd = connected();
    assert_int_equal(send(fd, "GET /heal", 9, MSG_NOSIGNAL), 9);
    int64_t start_us = clock_mono_us();
    admin_http_stop();
    assert_true(clock_mono_us() - start_us < 5 * US_PER_SECOND);
    (void)close(fd);
}

static void test_addresses(void **state)
{
    (void)state;
    struct err err;
    static const char *const bad[] = {"",           "4101",        ":4101",           "localhost",
                                      "localhost:", "localhost:x", "localhost:65536", "localhost:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(admin_http_start(bad[i], &err));
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.text, "give host:port"));
    }
    char host[400];
    memset(host, 'h', sizeof host);
    (void)snprintf(host + 300, 10, ":1");
    assert_false(admin_http_start(host, &err));
    assert_true(admin_http_start("127.0.0.1:0", &err));
    char taken[32];
    (void)snprintf(taken, sizeof taken, "127.0.0.1:%d", admin_http_port());
    int fd = connected(); /* so that the port is known to be in use */
    (void)close(fd);
    admin_http_stop();
    admin_http_stop();

    int holder = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(holder, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(holder, 1), 0);
    assert_int_equal(getsockname(holder, (struct sockaddr *)&at, &len), 0);
    (void)snprintf(taken, sizeof taken, "127.0.0.1:%d", ntohs(at.sin_port));
    assert_false(admin_http_start(taken, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.text, "cannot listen"));
    (void)close(holder);
    if (admin_http_start("[::1]:0", &err)) { /* where there is IPv6 */
        assert_int_not_equal(admin_http_port(), 0);
        admin_http_stop();
    }
}

int main(void)
{
    log_open("test", LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_healthz_follows_the_loops, setup, teardown),
        cmocka_unit_test_setup_teardown(test_readyz_gives_its_reasons, setup, teardown),
        cmocka_unit_test_setup_teardown(test_metrics_are_prometheus_text, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_else_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_connection_left_open_does_not_hold_the_stop, setup, teardown),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
