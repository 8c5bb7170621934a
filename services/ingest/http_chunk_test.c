#include "ingest/http_chunk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Feeds in pieces of `step` bytes; the body in out. */
static enum chunk_step decode(struct strview text, size_t step, bool lenient, char *out, size_t *len,
                              size_t *left)
{
    struct http_chunk c;
    http_chunk_init(&c, lenient);
    *len = 0;
    enum chunk_step last = CHUNK_MORE;
    for (size_t at = 0; at < text.len && last == CHUNK_MORE; at += step) {
        struct strview in = {text.ptr + at, text.len - at < step ? text.len - at : step};
        struct strview data;
        while ((last = http_chunk_next(&c, &in, &data)) == CHUNK_DATA) {
            memcpy(out + *len, data.ptr, data.len);
            *len += data.len;
        }
        *left = text.len - at - (size_t)((in.ptr + in.len) - (text.ptr + at)) + in.len;
    }
    return last;
}

static void test_any_split_gives_the_same_body(void **state)
{
    (void)state;
    struct strview text = SV_LIT("5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\nnext");
    for (size_t step = 1; step <= text.len; step++) {
        char out[64];
        size_t len = 0;
        size_t left = 0;
        assert_int_equal(decode(text, step, false, out, &len, &left), CHUNK_END);
        assert_int_equal(len, 15);
        assert_memory_equal(out, "hello0123456789", 15);
    }
}

static void test_what_no_strict_reader_takes_is_refused(void **state)
{
    (void)state;
    const char *bad[] = {"0x5\r\nhello\r\n0\r\n\r\n",
                         "+5\r\nhello\r\n0\r\n\r\n",
                         " 5\r\nhello\r\n0\r\n\r\n",
                         "5 \r\nhello\r\n0\r\n\r\n",
                         "5;a=b\r\nhello\r\n0\r\n\r\n",
                         "5\nhello\r\n0\r\n\r\n",
                         "5\r\nhello\n0\r\n\r\n",
                         "5\r\nhelloX0\r\n\r\n",
                         "\r\nhello\r\n0\r\n\r\n",
                         "-5\r\nhello\r\n0\r\n\r\n",
                         "g\r\nhello\r\n0\r\n\r\n",
                         "0\r\nX: y\r\n\r\n",
                         "123456789\r\n",
                         "0\r\n\n",
                         "5\r\nhello\r\n0\r\n\rX"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char out[64];
        size_t len = 0;
        size_t left = 0;
        if (decode(sv_of(bad[i]), 1, false, out, &len, &left) != CHUNK_BAD)
            fail_msg("accepted: %s", bad[i]);
    }
}

static void test_a_reply_may_have_extensions_and_trailers(void **state)
{
    (void)state;
    char out[64];
    size_t len = 0;
    size_t left = 0;
    struct strview text = SV_LIT("5;n=v\r\nhello\r\n0 \r\nX-T: 1\r\nY: 2\r\n\r\n");
    for (size_t step = 1; step <= text.len; step++) {
        assert_int_equal(decode(text, step, true, out, &len, &left), CHUNK_END);
        assert_int_equal(len, 5);
    }
    assert_int_equal(decode(SV_LIT("5\r\nhello\r\n0\r\nX\n\r\n"), 1, true, out, &len, &left), CHUNK_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_split_gives_the_same_body),
        cmocka_unit_test(test_what_no_strict_reader_takes_is_refused),
        cmocka_unit_test(test_a_reply_may_have_extensions_and_trailers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
