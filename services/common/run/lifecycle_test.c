#include "run/lifecycle.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* The checks run in a child, since a stop cannot be taken back. Returns its exit status. */
static int in_child(int (*body)(void))
{
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        exit(lifecycle_start(NULL) ? body() : 99);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int stops_by(int number)
{
    if (lifecycle_is_stopping() || readable(lifecycle_stop_fd()) || lifecycle_wait_us(1000))
        return 1;
    (void)raise(SIGPIPE);
    if (lifecycle_is_stopping() || lifecycle_wait_us(0))
        return 2;
    (void)raise(number);
    (void)raise(number);
    if (!lifecycle_is_stopping() || !readable(lifecycle_stop_fd()) || !lifecycle_wait_us(60 * US_PER_SECOND))
        return 3;
    return 0;
}

static int stops_by_sigterm(void)
{
    return stops_by(SIGTERM);
}

static int stops_by_sigint(void)
{
    return stops_by(SIGINT);
}

static void *stop_from_here(void *arg)
{
    lifecycle_stop();
    return arg;
}

static int wakes_a_waiter(void)
{
    pthread_t thread;
    int64_t start_us = clock_mono_us();
    if (pthread_create(&thread, NULL, stop_from_here, NULL) != 0)
        return 1;
    bool stopped = lifecycle_wait_us(100 * US_PER_SECOND);
    (void)pthread_join(thread, NULL);
    return stopped && clock_mono_us() - start_us < 50 * US_PER_SECOND ? 0 : 2;
}

static int leaves_no_core(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#else
    struct rlimit limit = {1, 1};
    bool none = getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0 && limit.rlim_max == 0;
    return none && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : 1;
#endif
}

static int says_which_build(void)
{
    return metric_value(metric_gauge("spend_build_info", "", "version", SPEND_VERSION)) == 1 ? 0 : 1;
}

static void test_signals_stop_once_and_for_all(void **state)
{
    (void)state;
    assert_int_equal(in_child(stops_by_sigterm), 0);
    assert_int_equal(in_child(stops_by_sigint), 0);
}

static void test_a_stop_from_inside_wakes_a_waiter(void **state)
{
    (void)state;
    assert_int_equal(in_child(wakes_a_waiter), 0);
}

static void test_memory_is_not_dumped_and_the_build_is_named(void **state)
{
    (void)state;
    assert_int_equal(in_child(leaves_no_core), 0);
    assert_int_equal(in_child(says_which_build), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals_stop_once_and_for_all),
        cmocka_unit_test(test_a_stop_from_inside_wakes_a_waiter),
        cmocka_unit_test(test_memory_is_not_dumped_and_the_build_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
