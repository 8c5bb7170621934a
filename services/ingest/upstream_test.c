/*
 * upstream: a name with several addresses is reached as long as one of them answers. The name is resolved by
 * the getaddrinfo below.
 */
#include "ingest/upstream.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ADDRESSES 3
#define LINKS     64

static struct sockaddr_in address[ADDRESSES]; /* 127.0.0.1, .2, .3: only those that listen answer */
static struct addrinfo found[ADDRESSES];
static int listener[ADDRESSES];
static struct event_base *base;
static struct upstream *u;
static struct upstream_link *held[LINKS];
static size_t reached;
static size_t failed;
static bool keeps; /* what has connected */

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
    (void)node;
    (void)service;
    (void)hints;
    *res = found;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    (void)list;
}

static void on_connected(void *arg, bool ok)
{
    struct upstream_link **l = arg;
    *(ok ? &reached : &failed) += 1;
    if (keeps)
        return;
    upstream_drop(*l);
    *l = NULL;
}

static void on_other(void *arg)
{
    (void)arg;
}

static const struct upstream_events events = {on_connected, on_other, on_other};

/* A port that is free on every address; only the last one of `count` listens when it is asked to. */
static void addresses_make(size_t count, bool last_listens)
{
    in_port_t port = 0;
    for (size_t i = count; i-- > 0;) {
        address[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
        address[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)i);
        socklen_t size = sizeof address[i];
        listener[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listener[i], (const struct sockaddr *)&address[i], size), 0);
        assert_int_equal(getsockname(listener[i], (struct sockaddr *)&address[i], &size), 0);
        port = address[i].sin_port;
        found[i] = (struct addrinfo){.ai_family = AF_INET,
                                     .ai_addrlen = size,
                                     .ai_addr = (struct sockaddr *)&address[i],
                                     .ai_next = i + 1 < count ? &found[i + 1] : NULL};
    }
    if (last_listens)
        assert_int_equal(listen(listener[count - 1], LINKS), 0);
}

static void open_with(size_t count, bool last_listens)
{
    struct upstream_address to = {.host = "twin", .port = "1", .name = "twin:1"};
    struct err err = {0};
    addresses_make(count, last_listens);
    base = event_base_new();
    assert_true(upstream_new(&u, base, &to, 1000000, &err));
}

static int tear_down(void **state)
{
    (void)state;
    upstream_free(u);
    event_base_free(base);
    for (size_t i = 0; i < ADDRESSES; i++)
        if (listener[i] > 0)
            (void)close(listener[i]);
    memset(listener, 0, sizeof listener);
    reached = failed = 0;
    keeps = false;
    return 0;
}

static void take(size_t count)
{
    bool reused = false;
    for (size_t i = 0; i < count; i++) {
        held[i] = upstream_take(u, &events, &held[i], false, &reused);
        failed += held[i] == NULL ? 1 : 0;
        assert_false(reused);
    }
}

static void wait_for(size_t count)
{
    while (reached + failed < count)
        assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
}

static void test_many_at_once_reach_the_one_address_that_answers(void **state)
{
    (void)state;
    for (size_t count = 1; count <= ADDRESSES; count++) {
        open_with(count, true);
        take(LINKS);
        wait_for(LINKS);
        assert_int_equal(reached, LINKS);
        (void)tear_down(NULL);
    }
    open_with(1, true);
}

static void test_each_address_is_tried_once_before_a_link_fails(void **state)
{
    (void)state;
    open_with(ADDRESSES, false);
    take(LINKS);
    wait_for(LINKS);
    assert_int_equal(failed, LINKS);
}

static void test_an_address_that_is_silent_for_too_long_is_left_for_the_next(void **state)
{
    (void)state;
    open_with(2, true);
    take(2); /* under way to the first address: nothing was heard yet */
    assert_true(upstream_try_next(held[0]));
    assert_true(upstream_try_next(held[1]));
    assert_false(upstream_try_next(held[1]));
    upstream_drop(held[1]);
    wait_for(1);
    assert_int_equal(reached, 1);
    take(1); /* begins at the address that answered last, and has one more */
    assert_true(upstream_try_next(held[0]));
    assert_false(upstream_try_next(held[0]));
    upstream_drop(held[0]);
}

static void test_a_link_is_quiet_until_the_upstream_speaks_or_hangs_up(void **state)
{
    (void)state;
    bool quiet[3];
    int peer[3];
    open_with(1, true);
    keeps = true;
    take(3);
    wait_for(3);
    assert_int_equal(reached, 3);
    for (int i = 0; i < 3; i++)
        peer[i] = accept(listener[0], NULL, NULL);
    upstream_quiet(held, 3, quiet);
    assert_true(quiet[0] && quiet[1] && quiet[2]);
    assert_int_equal(send(peer[0], "H", 1, 0), 1);
    (void)close(peer[1]);
    upstream_quiet(held, 3, quiet);
    int unquiet = !quiet[0] + !quiet[1] + !quiet[2]; /* which is whose is accept's order */
    assert_int_equal(unquiet, 2);
    (void)close(peer[0]);
    (void)close(peer[2]);
    for (int i = 0; i < 3; i++)
        upstream_drop(held[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_many_at_once_reach_the_one_address_that_answers, tear_down),
        cmocka_unit_test_teardown(test_each_address_is_tried_once_before_a_link_fails, tear_down),
        cmocka_unit_test_teardown(test_an_address_that_is_silent_for_too_long_is_left_for_the_next,
                                  tear_down),
        cmocka_unit_test_teardown(test_a_link_is_quiet_until_the_upstream_speaks_or_hangs_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
