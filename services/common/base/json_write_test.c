#include "base/json_write.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_commas_stand_between_items_only(void **state)
{
    (void)state;
    struct buffer b;
    struct json_write w;
    buffer_init(&b, 1000);
    json_write_init(&w, &b);
    json_write_open(&w, '{');
    json_write_key(&w, "a");
    json_write_open(&w, '[');
    json_write_i64(&w, 1);
    json_write_i64(&w, INT64_MIN);
    json_write_open(&w, '{');
    json_write_close(&w, '}');
    json_write_open(&w, '[');
    json_write_close(&w, ']');
    json_write_close(&w, ']');
    json_write_key(&w, "b");
    json_write_bool(&w, true);
    json_write_key(&w, "c");
    json_write_bool(&w, false);
    json_write_key(&w, "d");
    json_write_null(&w);
    json_write_key(&w, "f");
    json_write_time(&w, 1);
    json_write_key(&w, "g");
    json_write_raw(&w, SV_LIT("{\"x\":[]}"));
    json_write_key(&w, "h");
    json_write_str(&w, NULL);
    json_write_key(&w, "i");
    json_write_sv(&w, SV_LIT(""));
    json_write_close(&w, '}');
    assert_true(json_write_ok(&w));
    assert_true(
        sv_eq(buffer_view(&b),
              sv_of("{\"a\":[1,-9223372036854775808,{},[]],\"b\":true,\"c\":false,\"d\":null,"
                    "\"f\":\"1970-01-01T00:00:00.000001Z\",\"g\":{\"x\":[]},\"h\":null,\"i\":\"\"}")));
    buffer_free(&b);
}

static void test_every_byte_reads_back_or_becomes_the_replacement(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        char text[4] = {'a', (char)c, 'b', '\0'};
        struct buffer b;
        struct json_write w;
        buffer_init(&b, 100);
        json_write_init(&w, &b);
        json_write_str(&w, text);
        assert_true(json_write_ok(&w));
        json_t *back = json_loadb(b.data, b.len, JSON_DECODE_ANY, NULL);
        assert_non_null(back);
        assert_string_equal(json_string_value(back), c < 0x80 ? text : "a\xef\xbf\xbd\x62");
        json_decref(back);
        buffer_free(&b);
    }
}

static void test_escapes_are_the_short_ones(void **state)
{
    (void)state;
    struct buffer b;
    struct json_write w;
    buffer_init(&b, 200);
    json_write_init(&w, &b);
    json_write_sv(&w, sv_of_bytes("\"\\\b\f\n\r\t\0\x1f\x7f/\xc3\xa9\xff\xf0\x9f", 16));
    assert_true(sv_eq(buffer_view(&b), sv_of("\"\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\\u007f/\xc3\xa9"
                                             "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"")));
    buffer_free(&b);
}

static void test_a_full_buffer_sticks(void **state)
{
    (void)state;
    for (size_t cap = 0; cap < 12; cap++) {
        struct buffer b;
        struct json_write w;
        buffer_init(&b, cap);
        json_write_init(&w, &b);
        json_write_open(&w, '[');
        json_write_str(&w, "abc");
        json_write_i64(&w, 123);
        json_write_close(&w, ']');
        assert_int_equal(json_write_ok(&w), cap == 11);
        size_t len = b.len;
        json_write_raw(&w, SV_LIT(""));
        assert_true(json_write_ok(&w) == false);
        assert_int_equal(b.len, len);
        buffer_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commas_stand_between_items_only),
        cmocka_unit_test(test_every_byte_reads_back_or_becomes_the_replacement),
        cmocka_unit_test(test_escapes_are_the_short_ones),
        cmocka_unit_test(test_a_full_buffer_sticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
