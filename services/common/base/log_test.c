#include "base/log.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char text[1 << 20];
static int saved = -1;
static FILE *file;

/* stderr goes into a file until captured() gives its text back. */
static void capture(void)
{
    file = tmpfile();
    assert_non_null(file);
    saved = dup(STDERR_FILENO);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
}

static const char *captured(void)
{
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    rewind(file);
    size_t len = fread(text, 1, sizeof text - 1, file);
    text[len] = '\0';
    (void)fclose(file);
    return text;
}

static int64_t counted(const char *ev)
{
    return metric_value(metric_counter("spend_log_events_total", "", "ev", ev));
}

static void test_a_line_has_time_level_service_event_and_fields(void **state)
{
    (void)state;
    struct err err;
    err_set(&err, ERR_IO, FATE_RETRY, "disk full");
    log_open("test", LOG_LEVEL_INFO);
    capture();
    log_warn("thing_parked", LOG_STR("reason", "untagged"), LOG_INT("offset", -9912),
             LOG_SV("id", sv_of("018f")), LOG_ERR(&err), LOG_END);
    int64_t us = 0;
    assert_memory_equal(captured(), "ts=", 3);
    assert_true(clock_parse(sv_of_bytes(text + 3, 27), &us));
    assert_string_equal(text + 30, " lvl=warn svc=test ev=thing_parked reason=untagged offset=-9912 id=018f "
                                   "err=\"disk full\"\n");
    assert_int_equal(counted("thing_parked"), 1);
}

static void test_no_value_can_forge_a_field_or_a_line(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        const char *shown;
    } cases[] = {
        {"", "\"\""},
        {NULL, "null"},
        {"a=b", "\"a=b\""},
        {"a b", "\"a b\""},
        {"a\nlvl=error", "\"a\\u000alvl=error\""},
        {"say \"x\" \\", "\"say \\\"x\\\" \\\\\""},
        {"\x1b[31m\x7f", "\"\\u001b[31m\\u007f\""},
        {"\xc2\x9b!", "\"\\u009b!\""},
        {"caf\xc3\xa9 \xf0\x9f\x98\x80", "\"caf\xc3\xa9 \xf0\x9f\x98\x80\""},
        {"\xff\xc3", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"plain/1.2:3,4-x", "plain/1.2:3,4-x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char want[100];
        capture();
        log_info("e", LOG_STR("v", cases[i].value), LOG_END);
        (void)snprintf(want, sizeof want, " v=%s\n", cases[i].shown);
        const char *got = strstr(captured(), " v=");
        assert_non_null(got);
        assert_string_equal(got, want);
    }
}

static void test_levels_below_are_not_shown_but_counted(void **state)
{
    (void)state;
    enum log_level level = LOG_LEVEL_DEBUG;
    assert_true(log_level_parse(sv_of("error"), &level));
    assert_int_equal(level, LOG_LEVEL_ERROR);
    assert_false(log_level_parse(sv_of("loud"), &level));
    log_open("test", level);
    capture();
    log_warn("hidden", LOG_END);
    log_debug("hidden_debug", LOG_END);
    log_error("seen", LOG_END);
    assert_null(strstr(captured(), "hidden"));
    assert_non_null(strstr(text, "ev=seen\n"));
    assert_int_equal(counted("hidden"), 1);
    assert_int_equal(counted("hidden_debug"), 0);
    log_open("test", LOG_LEVEL_DEBUG);
    capture();
    log_debug("hidden_debug", LOG_END);
    assert_non_null(strstr(captured(), "lvl=debug svc=test ev=hidden_debug\n"));
}

static void test_a_long_line_is_cut_and_says_so(void **state)
{
    (void)state;
    log_open("test", LOG_LEVEL_INFO);
    static char big[6000];
    static const char fill[] = {'x', ' ', '"', '\n'};
    for (size_t i = 0; i < sizeof fill; i++) {
        for (size_t len = 3900; len < 4100; len++) {
            memset(big, fill[i], len);
            big[len] = '\0';
            capture();
            log_info("long", LOG_STR("v", big), LOG_INT("n", 7), LOG_END);
            (void)captured();
            size_t all = strlen(text);
            assert_true(all <= 4096);
            assert_ptr_equal(strchr(text, '\n'), text + all - 1);
            bool whole = strstr(text, " n=7\n") != NULL;
            assert_int_not_equal(whole, strstr(text, " cut=true\n") != NULL);
            if (fill[i] == ' ' && !whole)
                assert_non_null(strstr(text, "\" cut=true\n"));
        }
    }
}

static void *talk(void *name)
{
    for (int i = 0; i < 500; i++)
        log_info("talk", LOG_STR("who", name), LOG_INT("i", i), LOG_END);
    return NULL;
}

static void test_lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    static char names[4][60];
    pthread_t thread[4];
    capture();
    for (size_t i = 0; i < 4; i++) {
        memset(names[i], 'a' + (int)i, sizeof names[i] - 1);
        assert_int_equal(pthread_create(&thread[i], NULL, talk, names[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    int lines = 0;
    struct strview rest = sv_of(captured());
    while (rest.len > 0) {
        struct strview line = sv_cut(rest, '\n', &rest);
        assert_true(sv_starts_with(line, sv_of("ts=")));
        size_t who = sv_find(line, '=') + 1 + 27 + strlen(" lvl=info svc=test ev=talk who=");
        for (size_t k = 0; k < 59; k++)
            assert_int_equal(line.ptr[who + k], line.ptr[who]);
        lines++;
    }
    assert_int_equal(lines, 2000);
}

static void test_a_closed_stderr_is_survived(void **state)
{
    (void)state;
    saved = dup(STDERR_FILENO);
    (void)close(STDERR_FILENO);
    log_error("nobody_listens", LOG_END);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    assert_int_equal(counted("nobody_listens"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_has_time_level_service_event_and_fields),
        cmocka_unit_test(test_no_value_can_forge_a_field_or_a_line),
        cmocka_unit_test(test_levels_below_are_not_shown_but_counted),
        cmocka_unit_test(test_a_long_line_is_cut_and_says_so),
        cmocka_unit_test(test_lines_of_threads_do_not_mix),
        cmocka_unit_test(test_a_closed_stderr_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
