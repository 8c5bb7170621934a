#include "ingest/sse_parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct seen {
    char raw[1024];
    size_t raw_len;
    char data[1024]; /* each event's data and a '|' */
    size_t data_len;
    size_t oversize;
};

static void note(void *arg, const struct sse_event *event)
{
    struct seen *s = arg;
    memcpy(s->raw + s->raw_len, event->raw.ptr, event->raw.len);
    s->raw_len += event->raw.len;
    s->oversize += event->oversize && !event->goes_on ? 1 : 0;
    if (sv_is_null(event->data))
        return;
    memcpy(s->data + s->data_len, event->data.ptr, event->data.len);
    s->data_len += event->data.len;
    s->data[s->data_len++] = '|';
}

static void run(struct strview text, size_t first, size_t step, size_t event_max, struct seen *out)
{
    struct sse_parser p;
    memset(out, 0, sizeof *out);
    sse_parser_init(&p, event_max, note, out);
    sse_parser_feed(&p, (struct strview){text.ptr, first});
    for (size_t at = first; at < text.len; at += step)
        sse_parser_feed(&p, (struct strview){text.ptr + at, text.len - at < step ? text.len - at : step});
    sse_parser_end(&p);
    assert_false(p.failed);
    sse_parser_free(&p);
}

static const char *const streams[] = {
    "data: {\"a\":1}\n\ndata: [DONE]\n\n",
    "data: one\r\n\r\nevent: x\r\ndata: two\r\ndata:three\r\n\r\n: comment\r\n\r\n",
    "data: one\r\rdata: two\r\r",
    ": ping\n\nid: 7\ndata\ndata:  two blanks\n\n\n\ndata: caf\xc3\xa9\n\n",
    "data: mixed\r\n\ndata: ends\n\r\ndatax: no\n\ndata: last without end",
    "\r\n\r\ndata: x\r\n\r\n",
    "\357\273\277data: one\n\n\357\273\277data: no\n\ndata: two\n\n",
    "\n\357\273\277data: no\n\ndata: yes\n\n",
};
static const char *const datas[] = {
    "{\"a\":1}|[DONE]|",
    "one|two\nthree|",
    "one|two|",
    "\n two blanks|caf\xc3\xa9|",
    "mixed|ends|last without end|",
    "x|",
    "one|two|",
    "yes|",
};

static void test_every_split_position_gives_equal_output(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        struct strview text = sv_of(streams[i]);
        struct seen seen;
        for (size_t first = 0; first <= text.len; first++) {
            run(text, first, text.len + 1, 4096, &seen);
            assert_int_equal(seen.raw_len, text.len);
            assert_memory_equal(seen.raw, text.ptr, text.len);
            if (strcmp(seen.data, datas[i]) != 0)
                fail_msg("stream %zu split at %zu: %s", i, first, seen.data);
        }
        run(text, 0, 1, 4096, &seen);
        assert_memory_equal(seen.raw, text.ptr, text.len);
        assert_string_equal(seen.data, datas[i]);
    }
}

static void test_an_event_past_its_limit_passes_unread_and_the_next_is_read(void **state)
{
    (void)state;
    struct strview text =
        SV_LIT("data: a\n\ndata: 0123456789012345678901234567890123456789\nid: 1\n\ndata: b\n\n");
    struct seen seen;
    for (size_t step = 1; step <= text.len; step++) {
        run(text, 0, step, 32, &seen);
        assert_int_equal(seen.raw_len, text.len);
        assert_memory_equal(seen.raw, text.ptr, text.len);
        assert_string_equal(seen.data, "a|b|");
        assert_int_equal(seen.oversize, 1);
    }
}

static void test_an_event_of_exactly_the_limit_is_read(void **state)
{
    (void)state;
    struct seen seen;
    run(SV_LIT("data: 012345\r\n\r\ndata: b\n\n"), 0, 1, 12, &seen);
    assert_string_equal(seen.data, "012345|b|");
    run(SV_LIT("data: 0123456\r\n\r\ndata: b\n\n"), 0, 1, 12, &seen);
    assert_string_equal(seen.data, "b|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_position_gives_equal_output),
        cmocka_unit_test(test_an_event_past_its_limit_passes_unread_and_the_next_is_read),
        cmocka_unit_test(test_an_event_of_exactly_the_limit_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
