#include "run/health.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char text[20000];

static bool live_at(int64_t mono_us)
{
    struct buffer b;
    buffer_init(&b, sizeof text - 1);
    bool live = health_is_live(mono_us, &b);
    memcpy(text, b.data, b.len);
    text[b.len] = '\0';
    buffer_free(&b);
    return live;
}

static bool ready(void)
{
    struct buffer b;
    buffer_init(&b, sizeof text - 1);
    bool is_ready = health_is_ready(&b);
    memcpy(text, b.data, b.len);
    text[b.len] = '\0';
    buffer_free(&b);
    return is_ready;
}

static int setup(void **state)
{
    (void)state;
    health_reset();
    return 0;
}

static void test_a_loop_that_stops_turning_is_named(void **state)
{
    (void)state;
    int64_t now_us = clock_mono_us();
    assert_true(live_at(now_us));
    assert_string_equal(text, "ok\n");
    struct health_loop *apply = health_loop_start("apply", 2 * US_PER_SECOND);
    struct health_loop *watch = health_loop_start("watch", 60 * US_PER_SECOND);
    assert_true(live_at(clock_mono_us()));
    assert_false(live_at(clock_mono_us() + 5 * US_PER_SECOND));
    assert_memory_equal(text, "apply: no turn for ", 19);
    assert_non_null(strstr(text, "2000 ms are allowed\n"));
    assert_null(strstr(text, "watch"));
    assert_false(live_at(clock_mono_us() + 100 * US_PER_SECOND));
    assert_non_null(strstr(text, "watch: "));
    health_loop_end(apply);
    health_loop_end(watch);
    health_loop_end(NULL);
    assert_true(live_at(clock_mono_us() + 100 * US_PER_SECOND));
    assert_ptr_equal(health_loop_start("apply", US_PER_SECOND), apply);
    assert_false(live_at(clock_mono_us() + 5 * US_PER_SECOND));
    health_beat(apply);
    assert_true(live_at(clock_mono_us()));
}

static void test_ready_when_every_part_is_and_says_why_not(void **state)
{
    (void)state;
    assert_false(ready());
    assert_string_equal(text, "start: nothing is ready yet\n");
    health_ready("kafka", false, "connecting");
    health_ready("database", false, NULL);
    assert_false(ready());
    assert_string_equal(text, "kafka: connecting\ndatabase: not ready\n");
    health_ready("kafka", true, "ignored");
    assert_false(ready());
    assert_string_equal(text, "database: not ready\n");
    health_ready("database", true, NULL);
    assert_true(ready());
    assert_string_equal(text, "ok\n");
    assert_int_equal(metric_value(metric_gauge("spend_ready", "", "part", "kafka")), 1);
    health_ready("kafka", false, "broker gone");
    assert_false(ready());
    assert_string_equal(text, "kafka: broker gone\n");
    assert_int_equal(metric_value(metric_gauge("spend_ready", "", "part", "kafka")), 0);
    assert_int_equal(metric_value(metric_counter("spend_log_events_total", "", "ev", "part_ready")), 2);
    assert_int_equal(metric_value(metric_counter("spend_log_events_total", "", "ev", "part_not_ready")), 1);
}

static void test_a_page_without_room_still_decides(void **state)
{
    (void)state;
    struct buffer none;
    buffer_init(&none, 0);
    health_ready("kafka", false, "connecting");
    assert_false(health_is_ready(&none));
    health_ready("kafka", true, NULL);
    assert_true(health_is_ready(&none));
    assert_true(health_is_live(clock_mono_us(), &none));
    buffer_free(&none);
}

static void test_more_names_than_there_is_room_for_abort(void **state)
{
    (void)state;
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)close(STDERR_FILENO); /* the message is expected */
        static char names[HEALTH_MAX + 1][8];
        for (size_t i = 0; i <= HEALTH_MAX; i++) {
            (void)snprintf(names[i], sizeof names[i], "p%zu", i);
            health_ready(names[i], true, NULL);
        }
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* The last one: from then on the process shares. */
static void test_forked_processes_must_all_be_ready_and_are_named(void **state)
{
    (void)state;
    struct err err = {0};
    assert_true(health_share(2, &err));
    for (size_t i = 0; i < 2; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            health_enter(i);
            (void)health_loop_start("turn", 2 * US_PER_SECOND);
            health_ready("kafka", i == 0, "away");
            _exit(0);
        }
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    }
    assert_false(ready());
    assert_string_equal(text, "worker 1: kafka: away\n");
    assert_true(live_at(clock_mono_us()));
    health_left(1);
    assert_false(ready());
    assert_string_equal(text, "worker 1: start: nothing is ready yet\n");
    health_enter(1);
    health_ready("kafka", true, NULL);
    assert_true(ready());
    assert_string_equal(text, "ok\n");
    assert_false(live_at(clock_mono_us() + 5 * US_PER_SECOND));
    assert_memory_equal(text, "worker 0: turn: no turn", 23);
}

int main(void)
{
    log_open("test", LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_loop_that_stops_turning_is_named, setup),
        cmocka_unit_test_setup(test_ready_when_every_part_is_and_says_why_not, setup),
        cmocka_unit_test_setup(test_a_page_without_room_still_decides, setup),
        cmocka_unit_test_setup(test_more_names_than_there_is_room_for_abort, setup),
        cmocka_unit_test_setup(test_forked_processes_must_all_be_ready_and_are_named, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
