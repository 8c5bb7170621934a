#include "base/metrics.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char text[65536];

static const char *rendered(void)
{
    struct buffer b;
    buffer_init(&b, sizeof text - 1);
    assert_true(metrics_render(&b));
    memcpy(text, b.data, b.len);
    text[b.len] = '\0';
    buffer_free(&b);
    return text;
}

static void test_same_name_and_value_is_the_same_series(void **state)
{
    (void)state;
    struct metric *a = metric_counter("same_total", "h", "reason", "x");
    assert_ptr_equal(a, metric_counter("same_total", "h", "reason", "x"));
    assert_ptr_not_equal(a, metric_counter("same_total", "h", "reason", "y"));
    assert_ptr_equal(metric_gauge("same_gauge", "h", NULL, NULL),
                     metric_gauge("same_gauge", "h", NULL, NULL));
}

static void test_text_is_sorted_with_one_head_a_family(void **state)
{
    (void)state;
    metric_add(metric_counter("b_total", "counts b", "reason", "zz"), 3);
    metric_set(metric_gauge("c_gauge", "line\none \\ two", NULL, NULL), -7);
    metric_add(metric_gauge("c_gauge", "", NULL, NULL), 2);
    metric_add(metric_counter("b_total", "", "reason", "a\"\\\n"), 4);
    metric_add(metric_counter("b2_total", NULL, NULL, NULL), 0);
    const char *b = strstr(rendered(), "# HELP b_total");
    assert_non_null(b);
    static const char want[] = "# HELP b_total counts b\n# TYPE b_total counter\n"
                               "b_total{reason=\"a\\\"\\\\\\n\"} 4\nb_total{reason=\"zz\"} 3\n"
                               "# HELP c_gauge line\\none \\\\ two\n# TYPE c_gauge gauge\nc_gauge -5\n";
    assert_memory_equal(b, want, sizeof want - 1);

    assert_non_null(strstr(text, "# HELP b2_total \n# TYPE b2_total counter\nb2_total 0\n# HELP b_total"));
}

static void test_histogram_buckets_are_cumulative_in_seconds(void **state)
{
    (void)state;
    struct metric *m = metric_histogram_us("h_seconds", "h", "path", "p");
    static const int64_t seen[] = {-3, 0, 100, 101, 5000, 5001, 100000000, 100000001, 999000000};
    for (size_t i = 0; i < sizeof seen / sizeof seen[0]; i++)
        metric_observe_us(m, seen[i]);
    assert_int_equal(metric_value(m), 9);
    (void)rendered();
    static const char *const lines[] = {
        "# TYPE h_seconds histogram\n",
        "h_seconds_bucket{path=\"p\",le=\"0.0001\"} 3\n",
        "h_seconds_bucket{path=\"p\",le=\"0.0002\"} 4\n",
        "h_seconds_bucket{path=\"p\",le=\"0.005\"} 5\n",
        "h_seconds_bucket{path=\"p\",le=\"0.01\"} 6\n",
        "h_seconds_bucket{path=\"p\",le=\"50\"} 6\n",
        "h_seconds_bucket{path=\"p\",le=\"100\"} 7\n",
        "h_seconds_bucket{path=\"p\",le=\"+Inf\"} 9\n",
        "h_seconds_sum{path=\"p\"} 1199.010203\n",
        "h_seconds_count{path=\"p\"} 9\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_non_null(strstr(text, lines[i]));
    metric_observe_us(metric_histogram_us("plain_seconds", "h", NULL, NULL), 7);
    (void)rendered();
    assert_non_null(strstr(text, "plain_seconds_bucket{le=\"0.0001\"} 1\n"));
    assert_non_null(strstr(text, "plain_seconds_sum 0.000007\nplain_seconds_count 1\n"));
}

static void test_a_buffer_too_small_is_an_error_at_any_size(void **state)
{
    (void)state;
    size_t whole = strlen(rendered());
    for (size_t cap = 0; cap < whole; cap++) {
        struct buffer b;
        buffer_init(&b, cap);
        assert_false(metrics_render(&b));
        buffer_free(&b);
    }
}

static void *add_many(void *arg)
{
    (void)arg;
    struct metric *m = metric_counter("threads_total", "h", NULL, NULL);
    for (int i = 0; i < 10000; i++) {
        metric_add(m, 1);
        if (i % 100 == 0) {
            char value[16];
            (void)snprintf(value, sizeof value, "v%d", i / 100);
            metric_add(metric_counter("threads_labelled_total", "h", "v", value), 1);
        }
    }
    return NULL;
}

static void test_threads_add_without_loss(void **state)
{
    (void)state;
    pthread_t thread[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, add_many, NULL), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(metric_value(metric_counter("threads_total", "h", NULL, NULL)), 40000);
    for (int i = 0; i < 100; i++) {
        char value[16];
        (void)snprintf(value, sizeof value, "v%d", i);
        assert_int_equal(metric_value(metric_counter("threads_labelled_total", "h", "v", value)), 4);
    }
}

static void second_type(void)
{
    (void)metric_counter("twice", "h", NULL, NULL);
    (void)metric_gauge("twice", "h", NULL, NULL);
}

static void second_label(void)
{
    (void)metric_counter("relabelled", "h", "a", "x");
    (void)metric_counter("relabelled", "h", "b", "x");
}

static void unbounded(void)
{
    for (int i = 0; i < 5000; i++) {
        char value[16];
        (void)snprintf(value, sizeof value, "v%d", i);
        (void)metric_counter("unbounded_total", "h", "tag", value);
    }
}

static void bad_name(void)
{
    (void)metric_counter("bad-name", "h", NULL, NULL);
}

static void digit_first(void)
{
    (void)metric_counter("1st", "h", NULL, NULL);
}

static void null_name(void)
{
    (void)metric_counter(NULL, "h", NULL, NULL);
}

static void bad_label(void)
{
    (void)metric_counter("fine", "h", "bad label", "x");
}

static void value_is_not_utf8(void)
{
    (void)metric_counter("fine", "h", "label", "\xff");
}

static void label_without_value(void)
{
    (void)metric_counter("fine", "h", "label", NULL);
}

static void counter_goes_down(void)
{
    metric_add(metric_counter("down_total", "h", NULL, NULL), -1);
}

static void test_our_bugs_abort(void **state)
{
    (void)state;
    static void (*const bugs[])(void) = {
        second_type, second_label,      unbounded,           bad_name,          digit_first, null_name,
        bad_label,   value_is_not_utf8, label_without_value, counter_goes_down,
    };
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        (void)fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            (void)signal(SIGABRT, SIG_DFL);
            (void)close(STDERR_FILENO); /* the message is expected */
            bugs[i]();
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

/* In a child: counts in its place, and leaves as a killed process does. */
static void count_in(size_t place, const char *worker, int64_t calls)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        metrics_enter(place, worker);
        metric_add(metric_counter("shared_calls_total", "calls", "kind", "a"), calls);
        metric_set(metric_gauge("shared_open", "open", NULL, NULL), calls);
        metric_observe_us(metric_histogram_us("shared_seconds", "", NULL, NULL), 100);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* The last one: from then on the process shares. */
static void test_forked_processes_are_shown_together_each_with_its_label(void **state)
{
    (void)state;
    struct err err = {0};
    struct buffer b;
    buffer_init(&b, 1 << 20);
    metric_add(metric_counter("shared_calls_total", "calls", "kind", "a"), 1);
    assert_true(metrics_share(3, &err));
    count_in(0, "0", 5);
    count_in(1, "1", 7);
    count_in(1, "1", 2); /* the place of a dead one: its counters go on */
    metrics_left(1);     /* .. and nothing of it is open any more */
    assert_true(metrics_render(&b) && buffer_append_byte(&b, 0));
    assert_non_null(strstr(b.data, "# HELP shared_calls_total calls\n# TYPE shared_calls_total counter\n"
                                   "shared_calls_total{kind=\"a\"} 1\n"
                                   "shared_calls_total{worker=\"0\",kind=\"a\"} 5\n"
                                   "shared_calls_total{worker=\"1\",kind=\"a\"} 9\n"));
    assert_non_null(strstr(b.data, "shared_open{worker=\"0\"} 5\nshared_open{worker=\"1\"} 0\n"));
    assert_non_null(strstr(b.data, "shared_seconds_bucket{worker=\"1\",le=\"0.0001\"} 2\n"));
    assert_non_null(strstr(b.data, "shared_seconds_count{worker=\"0\"} 1\n"));
    buffer_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_name_and_value_is_the_same_series),
        cmocka_unit_test(test_text_is_sorted_with_one_head_a_family),
        cmocka_unit_test(test_histogram_buckets_are_cumulative_in_seconds),
        cmocka_unit_test(test_a_buffer_too_small_is_an_error_at_any_size),
        cmocka_unit_test(test_threads_add_without_loss),
        cmocka_unit_test(test_our_bugs_abort),
        cmocka_unit_test(test_forked_processes_are_shown_together_each_with_its_label),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
