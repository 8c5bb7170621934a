#include "base/strview.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_null_and_empty_are_two_things(void **state)
{
    (void)state;
    assert_true(sv_is_null(sv_of(NULL)));
    assert_false(sv_is_null(sv_of("")));
    assert_true(sv_is_empty(SV_NULL));
    assert_true(sv_is_empty(sv_of("")));
    assert_false(sv_is_empty(sv_of("a")));
    assert_true(sv_eq(SV_NULL, SV_NULL));
    assert_false(sv_eq(SV_NULL, sv_of("")));
    assert_false(sv_eq(sv_of(""), SV_NULL));
    assert_true(sv_eq(sv_of(""), SV_LIT("")));
}

static void test_equality_is_by_bytes_or_by_ascii_letters(void **state)
{
    (void)state;
    assert_true(sv_eq(sv_of("abc"), sv_of_bytes("abcd", 3)));
    assert_false(sv_eq(sv_of("abc"), sv_of("abC")));
    assert_false(sv_eq(sv_of("abc"), sv_of("abcd")));
    assert_true(sv_eq_nocase(sv_of("X-LiteLLM-Tags"), sv_of("x-litellm-tags")));
    assert_false(sv_eq_nocase(sv_of("ab"), sv_of("abc")));
    assert_false(sv_eq_nocase(sv_of("a@"), sv_of("a`")));
    assert_false(sv_eq_nocase(SV_NULL, sv_of("")));
    assert_true(sv_eq_nocase(SV_NULL, SV_NULL));
}

static void test_order_is_memcmp_with_null_first(void **state)
{
    (void)state;
    static const struct strview sorted[] = {
        {NULL, 0}, {"", 0}, {"a", 1}, {"a\0", 2}, {"a\0b", 3}, {"ab", 2}, {"b", 1}, {"\xff", 1},
    };
    size_t count = sizeof sorted / sizeof sorted[0];
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++)
            assert_int_equal(sv_cmp(sorted[i], sorted[j]), (i > j) - (i < j));
    }
}

static void test_prefix(void **state)
{
    (void)state;
    assert_true(sv_starts_with(sv_of("/v1/chat"), sv_of("/v1/")));
    assert_true(sv_starts_with(sv_of("x"), sv_of("")));
    assert_false(sv_starts_with(sv_of("/v"), sv_of("/v1/")));
    assert_false(sv_starts_with(SV_NULL, sv_of("")));
    assert_false(sv_starts_with(sv_of("a"), SV_NULL));
}

static void test_trim_takes_blanks_and_tabs_only(void **state)
{
    (void)state;
    assert_true(sv_eq(sv_trim(sv_of(" \t a b\t ")), sv_of("a b")));
    assert_true(sv_eq(sv_trim(sv_of("\na\n")), sv_of("\na\n")));
    assert_true(sv_eq(sv_trim(sv_of("  \t")), sv_of("")));
    assert_true(sv_is_null(sv_trim(SV_NULL)));
}

static void test_cut_at_the_first_separator(void **state)
{
    (void)state;
    struct strview rest;
    assert_true(sv_eq(sv_cut(sv_of("a=b=c"), '=', &rest), sv_of("a")));
    assert_true(sv_eq(rest, sv_of("b=c")));
    assert_true(sv_eq(sv_cut(sv_of("a="), '=', &rest), sv_of("a")));
    assert_true(sv_eq(rest, sv_of("")));
    assert_true(sv_eq(sv_cut(sv_of("a"), '=', &rest), sv_of("a")));
    assert_true(sv_is_null(rest));
    assert_true(sv_is_null(sv_cut(SV_NULL, '=', &rest)));
    assert_true(sv_is_null(rest));
    assert_int_equal(sv_find(sv_of("abc"), 'c'), 2);
    assert_int_equal(sv_find(sv_of("abc"), 'x'), 3);
    assert_int_equal(sv_find(SV_NULL, 'x'), 0);
}

static void test_i64_takes_the_whole_text_or_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        int64_t n;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"007", true, 7},
        {"-12", true, -12},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1.0", false, 0},
        {"0x1", false, 0},
        {"1e3", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t n = 0;
        assert_int_equal(sv_to_i64(sv_of(cases[i].text), &n), cases[i].ok);
        assert_int_equal(n, cases[i].n);
    }
    int64_t n = 0;
    assert_false(sv_to_i64(SV_NULL, &n));
    assert_false(sv_to_i64(sv_of_bytes("1\0", 2), &n));
}

static void test_durations_and_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t duration_us; /* -1: refused */
        int64_t size;
    } cases[] = {
        {"0", 0, 0},
        {"90", 90000000, 90},
        {"50us", 50, -1},
        {"250ms", 250000, -1},
        {"5s", 5000000, -1},
        {"10m", 600000000, -1},
        {"2h", 7200000000, -1},
        {"1d", 86400000000, -1},
        {"64KiB", -1, 65536},
        {"32MiB", -1, 33554432},
        {"1GiB", -1, 1073741824},
        {"7B", -1, 7},
        {"", -1, -1},
        {"s", -1, -1},
        {"-5s", -1, -1},
        {"5 s", -1, -1},
        {"1.5s", -1, -1},
        {"5S", -1, -1},
        {"5kb", -1, -1},
        {"9223372036854775807d", -1, -1},
        {"9223372036854775807GiB", -1, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t n = -1;
        assert_int_equal(sv_to_duration_us(sv_of(cases[i].text), &n), cases[i].duration_us >= 0);
        if (cases[i].duration_us >= 0)
            assert_int_equal(n, cases[i].duration_us);
        assert_int_equal(sv_to_size(sv_of(cases[i].text), &n), cases[i].size >= 0);
        if (cases[i].size >= 0)
            assert_int_equal(n, cases[i].size);
    }
}

/* The definition: decode, encode the shortest way, compare. */
static size_t utf8_slow_one(const unsigned char *p, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code = p[0];
    size_t len = 1;
    if (code >= 0x80) {
        len = (code & 0xe0) == 0xc0 ? 2 : (code & 0xf0) == 0xe0 ? 3 : (code & 0xf8) == 0xf0 ? 4 : 99;
        if (len > left)
            return 0;
        code &= 0x7fu >> len;
    }
    for (size_t k = 1; k < len; k++) {
        if ((p[k] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (p[k] & 0x3f);
    }
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    return code < least[len] || code > 0x10ffff || surrogate ? 0 : len;
}

static bool utf8_slow(const unsigned char *p, size_t len)
{
    size_t i = 0;
    while (i < len) {
        size_t one = utf8_slow_one(p + i, len - i);
        if (one == 0)
            return false;
        i += one;
    }
    return true;
}

static void test_utf8_agrees_with_the_definition_on_edge_bytes(void **state)
{
    (void)state;
    static const unsigned char edge[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                         0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
                                         0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff};
    size_t n = sizeof edge;
    size_t good = 0;
    for (size_t i = 0; i < n * n * n * n; i++) {
        unsigned char t[4] = {edge[i % n], edge[i / n % n], edge[i / n / n % n], edge[i / n / n / n]};
        for (size_t len = 1; len <= 4; len++) {
            bool want = utf8_slow(t, len);
            assert_int_equal(sv_is_utf8(sv_of_bytes(t, len)), want);
            good += want;
        }
    }
    assert_true(good > 1000);
    assert_true(sv_is_utf8(SV_NULL));
}

static void test_utf8_prefix_is_where_a_text_may_be_cut(void **state)
{
    (void)state;
    assert_int_equal(sv_utf8_prefix(sv_of("a\xc3\xa9")), 3);
    assert_int_equal(sv_utf8_prefix(sv_of_bytes("a\xc3\xa9", 2)), 1);
    assert_int_equal(sv_utf8_prefix(sv_of("\xff")), 0);
}

static void test_controls_are_c0_del_and_c1(void **state)
{
    (void)state;
    assert_true(sv_has_control(sv_of("a\tb")));
    assert_true(sv_has_control(sv_of_bytes("\0", 1)));
    assert_true(sv_has_control(sv_of("\x7f")));
    assert_true(sv_has_control(sv_of("\xc2\x80")));
    assert_true(sv_has_control(sv_of("\xc2\x9f")));
    assert_false(sv_has_control(sv_of("\xc2\xa0")));
    assert_false(sv_has_control(sv_of("a b\xc3\x80")));
    assert_false(sv_has_control(sv_of("\xc2")));
    assert_false(sv_has_control(SV_NULL));
}

/* Texts are looked over eight bytes at a time: no length and no place may hide an odd byte. */
static void test_an_odd_byte_is_seen_wherever_it_stands(void **state)
{
    (void)state;
    unsigned char t[27];
    for (size_t len = 1; len <= sizeof t; len++) {
        for (size_t at = 0; at < len; at++) {
            for (int c = 0; c < 256; c++) {
                memset(t, 'a' + (int)at % 20, len);
                t[at] = (unsigned char)c;
                struct strview v = sv_of_bytes(t, len);
                assert_int_equal(sv_is_plain(v), c >= 0x20 && c < 0x7f);
                assert_int_equal(sv_has_control(v), c < 0x20 || c == 0x7f);
                assert_int_equal(sv_utf8_prefix(v), c < 0x80 ? len : at);
            }
        }
    }
    assert_true(sv_is_plain(SV_NULL));
}

static void test_a_hex_digit_is_of_either_case(void **state)
{
    (void)state;
    static const char digits[] = "0123456789abcdef";
    for (int c = 0; c < 128; c++) {
        const char *at = c == 0 ? NULL : strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c);
        assert_int_equal(sv_hex_digit((char)c), at == NULL ? -1 : at - digits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_null_and_empty_are_two_things),
        cmocka_unit_test(test_equality_is_by_bytes_or_by_ascii_letters),
        cmocka_unit_test(test_order_is_memcmp_with_null_first),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_trim_takes_blanks_and_tabs_only),
        cmocka_unit_test(test_cut_at_the_first_separator),
        cmocka_unit_test(test_i64_takes_the_whole_text_or_nothing),
        cmocka_unit_test(test_durations_and_sizes),
        cmocka_unit_test(test_utf8_agrees_with_the_definition_on_edge_bytes),
        cmocka_unit_test(test_utf8_prefix_is_where_a_text_may_be_cut),
        cmocka_unit_test(test_controls_are_c0_del_and_c1),
        cmocka_unit_test(test_an_odd_byte_is_seen_wherever_it_stands),
        cmocka_unit_test(test_a_hex_digit_is_of_either_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
