#include "run/http_client.h"

#include "base/clock.h"
#include "base/log.h"
#include "run/admin_http.h"
#include "run/health.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A server of one connection: reads a request until `until` was seen, says `says`, closes; or says nothing
 * and waits. */
struct one_shot {
    int listener;
    int port;
    const char *until;
    const char *says; /* NULL: nothing, until the client leaves */
    char heard[8192];
    pthread_t thread;
};

static void *one_shot_serve(void *arg)
{
    struct one_shot *s = arg;
    int fd = accept(s->listener, NULL, NULL);
    size_t len = 0;
    ssize_t n = 0;
    while (len + 1 < sizeof s->heard && (n = recv(fd, s->heard + len, sizeof s->heard - 1 - len, 0)) > 0) {
        len += (size_t)n;
        s->heard[len] = '\0';
        if (s->says != NULL && strstr(s->heard, s->until) != NULL)
            break;
    }
    if (s->says != NULL)
        (void)send(fd, s->says, strlen(s->says), MSG_NOSIGNAL);
    (void)close(fd);
    return NULL;
}

static void one_shot_start(struct one_shot *s, const char *until, const char *says)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    *s = (struct one_shot){.until = until, .says = says};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(s->listener, 4), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&at, &len), 0);
    s->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, one_shot_serve, s), 0);
}

static void one_shot_end(struct one_shot *s)
{
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    (void)close(s->listener);
}

static const char *url_of(int port, const char *path)
{
    static char url[100];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, path);
    return url;
}

static struct http_client *client;

static void test_statuses_and_bodies_of_a_real_server(void **state)
{
    (void)state;
    struct err err;
    struct http_reply reply;
    health_reset();
    assert_true(admin_http_start("127.0.0.1:0", &err));
    for (int round = 0; round < 3; round++) {
        struct http_request request = {.url = url_of(admin_http_port(), "/healthz")};
        assert_true(http_client_send(client, &request, &reply, &err));
        assert_int_equal(reply.status, 200);
        assert_true(sv_eq(buffer_view(&reply.body), sv_of("ok\n")));
        http_reply_free(&reply);
        request.url = url_of(admin_http_port(), "/readyz");
        assert_true(http_client_send(client, &request, &reply, &err));
        assert_int_equal(reply.status, 503);
        http_reply_free(&reply);
        request.method = "DELETE";
        assert_true(http_client_send(client, &request, &reply, &err));
        assert_int_equal(reply.status, 405);
        http_reply_free(&reply);
        request.method = "HEAD";
        request.url = url_of(admin_http_port(), "/metrics");
        assert_true(http_client_send(client, &request, &reply, &err));
        assert_int_equal(reply.status, 200);
        assert_int_equal(reply.body.len, 0);
        http_reply_free(&reply);
    }
    admin_http_stop();
}

static void test_method_headers_and_body_go_out_as_given(void **state)
{
    (void)state;
    struct one_shot server;
    struct err err;
    struct http_reply reply;
    one_shot_start(&server, "{\"a\":1}", "HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ndone");
    static const char *const headers[] = {"Authorization: Bearer t", "Content-Type: application/json"};
    struct http_request request = {
        .method = "PUT",
        .url = url_of(server.port, "/v1/accounts/a%2Fb?x=1"),
        .header = headers,
        .header_count = 2,
        .body = sv_of("{\"a\":1}"),
    };
    assert_true(http_client_send(client, &request, &reply, &err));
    one_shot_end(&server);
    assert_int_equal(reply.status, 201);
    assert_true(sv_eq(buffer_view(&reply.body), sv_of("done")));
    http_reply_free(&reply);
    assert_memory_equal(server.heard, "PUT /v1/accounts/a%2Fb?x=1 HTTP/1.1\r\n", 37);
    assert_non_null(strstr(server.heard, "\r\nAuthorization: Bearer t\r\n"));
    assert_non_null(strstr(server.heard, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(server.heard, "\r\nContent-Length: 7\r\n"));
    assert_null(strstr(server.heard, "Expect"));
}

static void test_a_post_without_body_says_so(void **state)
{
    (void)state;
    struct one_shot server;
    struct err err;
    struct http_reply reply;
    one_shot_start(&server, "\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n");
    struct http_request request = {.method = "POST", .url = url_of(server.port, "/x")};
    assert_true(http_client_send(client, &request, &reply, &err));
    one_shot_end(&server);
    assert_int_equal(reply.status, 204);
    assert_non_null(strstr(server.heard, "\r\nContent-Length: 0\r\n"));
    http_reply_free(&reply);
}

static void test_redirects_are_answers_and_proxies_are_not_asked(void **state)
{
    (void)state;
    struct one_shot server;
    struct err err;
    struct http_reply reply;
    (void)setenv("http_proxy", "http://127.0.0.1:1", 1);
    one_shot_start(&server, "\r\n\r\n",
                   "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    struct http_request request = {.url = url_of(server.port, "/")};
    assert_true(http_client_send(client, &request, &reply, &err));
    one_shot_end(&server);
    assert_int_equal(reply.status, 302);
    http_reply_free(&reply);
    (void)unsetenv("http_proxy");
}

static void test_an_answer_past_its_cap_is_refused(void **state)
{
    (void)state;
    struct err err;
    struct http_reply reply;
    for (size_t cap = 4; cap <= 5; cap++) {
        struct one_shot server;
        one_shot_start(&server, "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345");
        struct http_request request = {.url = url_of(server.port, "/"), .reply_cap = cap};
        assert_int_equal(http_client_send(client, &request, &reply, &err), cap == 5);
        one_shot_end(&server);
        if (cap == 4) {
            assert_int_equal(err.code, ERR_FULL);
            assert_int_equal(reply.status, 0);
            assert_null(reply.body.data);
        }
        http_reply_free(&reply);
    }
}

static void test_silence_ends_in_a_timeout(void **state)
{
    (void)state;
    struct one_shot server;
    struct err err;
    struct http_reply reply;
    one_shot_start(&server, "", NULL);
    struct http_request request = {.url = url_of(server.port, "/"), .timeout_ms = 100};
    int64_t start_us = clock_mono_us();
    assert_false(http_client_send(client, &request, &reply, &err));
    assert_true(clock_mono_us() - start_us < 10 * US_PER_SECOND);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_int_equal(err.fate, FATE_RETRY);
    one_shot_end(&server);
}

static void test_half_an_answer_and_no_server_are_errors(void **state)
{
    (void)state;
    struct one_shot server;
    struct err err;
    struct http_reply reply;
    one_shot_start(&server, "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf");
    struct http_request request = {.url = url_of(server.port, "/")};
    assert_false(http_client_send(client, &request, &reply, &err));
    one_shot_end(&server);
    assert_int_equal(err.code, ERR_HTTP);
    assert_null(reply.body.data);
    request.url = url_of(server.port, "/"); /* closed by now */
    assert_false(http_client_send(client, &request, &reply, &err));
    assert_int_equal(err.code, ERR_HTTP);
    assert_memory_equal(err.text, "http GET: ", 10);
}

static void test_bad_urls_protocols_and_headers_are_refused(void **state)
{
    (void)state;
    struct err err;
    struct http_reply reply;
    static const char *const urls[] = {"", "file:///etc/hostname", "gopher://127.0.0.1/", "http://",
                                       "http://a b/"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct http_request request = {.url = urls[i]};
        assert_false(http_client_send(client, &request, &reply, &err));
        assert_int_equal(err.code, ERR_INVALID);
    }
    static const char *const headers[] = {"X: a\r\nY: b"};
    struct http_request request = {.url = "http://127.0.0.1:1/", .header = headers, .header_count = 1};
    assert_false(http_client_send(client, &request, &reply, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_null(reply.body.data);
}

static int setup(void **state)
{
    (void)state;
    log_open("test", LOG_LEVEL_ERROR);
    client = http_client_new();
    return client == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    http_client_free(client);
    http_client_free(NULL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statuses_and_bodies_of_a_real_server),
        cmocka_unit_test(test_method_headers_and_body_go_out_as_given),
        cmocka_unit_test(test_a_post_without_body_says_so),
        cmocka_unit_test(test_redirects_are_answers_and_proxies_are_not_asked),
        cmocka_unit_test(test_an_answer_past_its_cap_is_refused),
        cmocka_unit_test(test_silence_ends_in_a_timeout),
        cmocka_unit_test(test_half_an_answer_and_no_server_are_errors),
        cmocka_unit_test(test_bad_urls_protocols_and_headers_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
