#include "ingest/stream_filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HEAD                                                                                                 \
    ": ping\n\ndata: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"abcd\"}}],\"usage\":null}\n\n"
#define USAGE                                                                                                \
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\n"
#define FIRST "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n"
#define DONE  "data: [DONE]\n\n"

static bool is_done(const char *text, size_t len)
{
    struct stream_filter f;
    struct usage_reader reader;
    struct arena scratch;
    struct buffer out;
    arena_init(&scratch, 1 << 20);
    buffer_init(&out, 1 << 20);
    usage_reader_init(&reader, OPERATION_RESPONSES, SV_NULL);
    stream_filter_init(&f, &reader, &scratch, 4096, false);
    assert_true(stream_filter_feed(&f, (struct strview){text, len}, &out));
    assert_true(stream_filter_end(&f, &out));
    bool done = f.done;
    stream_filter_free(&f);
    usage_reader_free(&reader);
    arena_free(&scratch);
    buffer_free(&out);
    return done;
}

static void test_a_stream_is_done_once_its_last_event_is_whole_and_no_byte_before(void **state)
{
    (void)state;
    static const char *const lasts[] = {
        "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":7}}}",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}", "data: [DONE]"};
    for (size_t i = 0; i < sizeof lasts / sizeof lasts[0]; i++)
        for (size_t len = 0; len <= strlen(lasts[i]); len++)
            if (is_done(lasts[i], len) != (len == strlen(lasts[i])))
                fail_msg("%.*s", (int)len, lasts[i]);
}

static void run(struct strview text, size_t step, bool filters, struct buffer *out,
                struct usage_reader *reader)
{
    struct stream_filter f;
    struct arena scratch;
    arena_init(&scratch, 1 << 20);
    buffer_init(out, 1 << 20);
    usage_reader_init(reader, OPERATION_CHAT, SV_NULL);
    stream_filter_init(&f, reader, &scratch, 4096, filters);
    for (size_t at = 0; at < text.len; at += step)
        assert_true(stream_filter_feed(
            &f, (struct strview){text.ptr + at, text.len - at < step ? text.len - at : step}, out));
    assert_true(stream_filter_end(&f, out));
    stream_filter_free(&f);
    arena_free(&scratch);
}

static void check(const char *in, const char *wanted)
{
    struct strview text = sv_of(in);
    for (size_t step = 1; step <= text.len; step++) {
        struct buffer out;
        struct usage_reader reader;
        run(text, step, true, &out, &reader);
        if (!sv_eq(buffer_view(&out), sv_of(wanted)))
            fail_msg("step %zu gave \"" SV_FMT "\"", step, SV_ARG(buffer_view(&out)));
        assert_true(reader.has_usage);
        assert_int_equal(reader.value[0].v, 7);
        assert_int_equal(reader.text_bytes, 4);
        assert_true(sv_eq(reader.model, SV_LIT("m")));
        usage_reader_free(&reader);
        buffer_free(&out);
    }
}

static void test_the_usage_chunk_goes_and_nothing_else_whatever_the_split(void **state)
{
    (void)state;
    check(FIRST HEAD USAGE DONE, FIRST HEAD DONE);
}

static void test_its_line_ends_go_with_it(void **state)
{
    (void)state;
    check("data: {\"choices\":[{\"delta\":{\"content\":\"abcd\"}}],\"model\":\"m\"}\r\n\r\n"
          "data: {\"choices\":[],\r\ndata: \"usage\":{\"prompt_tokens\":7}}\r\n\r\ndata: [DONE]\r\n\r\n",
          "data: {\"choices\":[{\"delta\":{\"content\":\"abcd\"}}],\"model\":\"m\"}\r\n\r\ndata: "
          "[DONE]\r\n\r\n");
}

static void test_the_usage_chunk_as_litellm_writes_it_goes_too(void **state)
{
    (void)state;
    check(HEAD "data: {\"choices\":[{\"index\":0,\"delta\":{}}],\"usage\":{\"prompt_tokens\":7}}\n\n" DONE,
          HEAD DONE);
    check(HEAD
          "data: {\"usage\":{\"prompt_tokens\":7},\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":"
          "{\"content\":null},\"logprobs\":null}]}\n\n" DONE,
          HEAD DONE);
    const char *last = HEAD "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],"
                            "\"usage\":{\"prompt_tokens\":7}}\n\n" DONE;
    check(last, last);
}

static void test_usage_beside_choices_stays(void **state)
{
    (void)state;
    const char *text = "data: "
                       "{\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"abcd\"}}],\"usage\":{"
                       "\"prompt_tokens\":7}}\n\n" DONE;
    check(text, text);
}

static void test_without_filtering_nothing_is_held_or_written(void **state)
{
    (void)state;
    struct buffer out;
    struct usage_reader reader;
    run(sv_of(HEAD USAGE DONE), 5, false, &out, &reader);
    assert_int_equal(out.len, 0);
    assert_int_equal(reader.value[0].v, 7);
    usage_reader_free(&reader);
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_usage_chunk_goes_and_nothing_else_whatever_the_split),
        cmocka_unit_test(test_its_line_ends_go_with_it),
        cmocka_unit_test(test_the_usage_chunk_as_litellm_writes_it_goes_too),
        cmocka_unit_test(test_usage_beside_choices_stays),
        cmocka_unit_test(test_a_stream_is_done_once_its_last_event_is_whole_and_no_byte_before),
        cmocka_unit_test(test_without_filtering_nothing_is_held_or_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
