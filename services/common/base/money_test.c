#include "base/money.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed;

/* splitmix64: the same numbers in each run. */
static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* Numbers of all sizes, edges often. */
static int64_t next_amount(void)
{
    static const int64_t edge[] = {0, 1, -1, 5, -5, 4999999, 5000000, 5000001, INT64_MAX, INT64_MIN};
    uint64_t pick = next_random();
    if (pick % 8 == 0)
        return edge[pick / 8 % (sizeof edge / sizeof edge[0])];
    return (int64_t)next_random() >> (pick / 8 % 64);
}

static void test_add_and_sub_refuse_overflow(void **state)
{
    (void)state;
    int64_t out = 0;
    assert_true(money_add(INT64_MAX - 1, 1, &out));
    assert_int_equal(out, INT64_MAX);
    assert_false(money_add(INT64_MAX, 1, &out));
    assert_false(money_add(INT64_MIN, -1, &out));
    assert_true(money_sub(-1, INT64_MAX, &out));
    assert_int_equal(out, INT64_MIN);
    assert_false(money_sub(0, INT64_MIN, &out));
}

static void test_halves_go_to_the_even_neighbour(void **state)
{
    (void)state;
    static const struct {
        int n;
        int d;
        int want;
    } cases[] = {
        {0, 2, 0},     {1, 2, 0},   {3, 2, 2},   {5, 2, 2},   {7, 2, 4},   {-1, 2, 0},  {-3, 2, -2},
        {-5, 2, -2},   {-7, 2, -4}, {25, 10, 2}, {35, 10, 4}, {24, 10, 2}, {26, 10, 3}, {-25, 10, -2},
        {-26, 10, -3}, {1, 3, 0},   {2, 3, 1},   {-2, 3, -1}, {10, 5, 2},  {7, 1, 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal((int)money_div_half_even(cases[i].n, cases[i].d), cases[i].want);
}

/* The definition: q is the nearest; of two equally near the even one. Looked for around the floor. */
static int128 half_even_slow(int128 n, int128 d)
{
    int128 floor = n / d;
    while (floor * d > n)
        floor--;
    int128 below = n - floor * d;
    int128 above = (floor + 1) * d - n;
    if (below != above)
        return below < above ? floor : floor + 1;
    return floor % 2 == 0 ? floor : floor + 1;
}

static void test_division_agrees_with_the_definition(void **state)
{
    (void)state;
    seed = 1;
    int ties = 0;
    for (int i = 0; i < 200000; i++) {
        int128 d = (int128)(next_random() >> (next_random() % 64)) + 1;
        int128 n = (int128)next_amount() * (int64_t)(next_random() % 1000000);
        if (i % 4 == 0) /* a tie */
            n = d * (next_amount() >> 2) + d / 2;
        int128 want = half_even_slow(n, d);
        assert_true(money_div_half_even(n, d) == want);
        assert_true(money_div_half_even(-n, d) == -want);
        ties += d % 2 == 0 && n % d == d / 2;
    }
    assert_true(ties > 10000);
}

static void test_division_holds_at_the_edge_of_128_bits(void **state)
{
    (void)state;
    int128 half = (int128)1 << 126;
    int128 most = half - 1 + half;
    assert_true(money_div_half_even(most, most) == 1);
    assert_true(money_div_half_even(most - 1, most) == 1);
    assert_true(money_div_half_even(most / 2, most) == 0);
    assert_true(money_div_half_even(most / 2 + 1, most) == 1);
    assert_true(money_div_half_even(-most - 1, 1) == -most - 1);
}

static void test_femtos_become_nanos_once(void **state)
{
    (void)state;
    int64_t nanos = 0;
    assert_true(money_from_femtos((int128)150000 * 1000, 1, &nanos)); /* 1000 tokens at 0.15 USD a million */
    assert_int_equal(nanos, 150);
    assert_true(money_from_femtos(500000, 1, &nanos));
    assert_int_equal(nanos, 0);
    assert_true(money_from_femtos(1500000, 1, &nanos));
    assert_int_equal(nanos, 2);
    assert_true(money_from_femtos((int128)INT64_MAX * 1000000 + 499999, 1, &nanos));
    assert_int_equal(nanos, INT64_MAX);
    assert_false(money_from_femtos((int128)INT64_MAX * 1000000 + 500000, 1, &nanos));
    assert_true(money_from_femtos(2500000000, 1000, &nanos)); /* 2.5 nanos in thousandths of a femto */
    assert_int_equal(nanos, 2);
}

static void test_mark_up_rounds_once_and_refuses_overflow(void **state)
{
    (void)state;
    int64_t billed = 0;
    assert_true(money_mark_up(1000, 1300000, &billed));
    assert_int_equal(billed, 1300);
    assert_true(money_mark_up(5, 500000, &billed));
    assert_int_equal(billed, 2);
    assert_true(money_mark_up(-7, 500000, &billed));
    assert_int_equal(billed, -4);
    assert_true(money_mark_up(INT64_MIN, MARKUP_ONE_PPM, &billed));
    assert_int_equal(billed, INT64_MIN);
    assert_true(money_mark_up(12345, 0, &billed));
    assert_int_equal(billed, 0);
    assert_false(money_mark_up(INT64_MAX, MARKUP_ONE_PPM + 1, &billed));
    assert_false(money_mark_up(1, -1, &billed));
}

static void test_cents_and_carry_always_add_up(void **state)
{
    (void)state;
    seed = 2;
    int64_t carry = 0;
    int128 nanos_in = 0;
    int128 cents_out = 0;
    for (int i = 0; i < 100000; i++) {
        int64_t nanos = next_amount() / 4;
        int64_t cents = 0;
        assert_true(money_to_cents(nanos, &carry, &cents));
        nanos_in += nanos;
        cents_out += cents;
        assert_true(nanos_in == cents_out * 10000000 + carry);
        assert_true(carry >= -5000000 && carry <= 5000000);
    }
    int64_t cents = 0;
    carry = 0;
    assert_true(money_to_cents(15000000, &carry, &cents));
    assert_int_equal(cents, 2);
    assert_int_equal(carry, -5000000);
}

static void test_decimal_text_at_a_scale(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t want;
        int scale;
        bool rounded;
    } cases[] = {
        {"0", 0, 9, false},
        {"-0", 0, 9, false},
        {"0.000", 0, 2, false},
        {"0e99999999999", 0, 9, false},
        {"1", 1, 0, false},
        {"-12.5", -12500000000, 9, false},
        {"0.0000015", 1500, 9, false},
        {"1e-06", 1000, 9, false},
        {"2.5E-6", 2500, 9, false},
        {"1.5e-07", 150000000, 15, false},
        {"1e+3", 1000, 0, false},
        {"007.50", 750, 2, false},
        {"0.125", 12, 2, true},
        {"0.135", 14, 2, true},
        {"-0.125", -12, 2, true},
        {"0.12500000000000000000000000000000001", 13, 2, true},
        {"0.1249", 12, 2, true},
        {"0.005", 0, 2, true},
        {"0.0051", 1, 2, true},
        {"0.0049", 0, 2, true},
        {"0.09", 0, 0, true},
        {"0.5", 0, 0, true},
        {"1.5", 2, 0, true},
        {"1e-300", 0, 9, true},
        {"1e-99999999999999999999999", 0, 9, true},
        {"9.50", 10, 0, true},
        {"9223372036854775807", INT64_MAX, 0, false},
        {"-9223372036854775808", INT64_MIN, 0, false},
        {"9223372036.854775807", INT64_MAX, 9, false},
        {"9223372036854775807.4", INT64_MAX, 0, true},
        {"1234567890123456789012345678901234567890e-39", 1234567890, 9, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t out = -1;
        bool rounded = !cases[i].rounded;
        struct err err;
        bool ok = money_parse_decimal(sv_of(cases[i].text), cases[i].scale, &out, &rounded, &err);
        assert_true(ok);
        assert_int_equal(out, cases[i].want);
        assert_int_equal(rounded, cases[i].rounded);
        assert_true(money_parse_decimal(sv_of(cases[i].text), cases[i].scale, &out, NULL, NULL));
    }
}

static void test_what_is_no_decimal_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum err_code code;
    } cases[] = {
        {"", ERR_INVALID},
        {"-", ERR_INVALID},
        {"+1", ERR_INVALID},
        {" 1", ERR_INVALID},
        {"1 ", ERR_INVALID},
        {".5", ERR_INVALID},
        {"5.", ERR_INVALID},
        {"1e", ERR_INVALID},
        {"1e+", ERR_INVALID},
        {"1e1.5", ERR_INVALID},
        {"nan", ERR_INVALID},
        {"inf", ERR_INVALID},
        {"-inf", ERR_INVALID},
        {"0x1p3", ERR_INVALID},
        {"1,5", ERR_INVALID},
        {"--1", ERR_INVALID},
        {"1.2.3", ERR_INVALID},
        {"1_000", ERR_INVALID},
        {"12345678901234567890123456789012345678901", ERR_INVALID},
        {"9223372036854775808", ERR_OVERFLOW},
        {"-9223372036854775809", ERR_OVERFLOW},
        {"9223372036854775807.5", ERR_OVERFLOW},
        {"1e19", ERR_OVERFLOW},
        {"1e99999999999999999999", ERR_OVERFLOW},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t out = 0;
        struct err err;
        assert_false(money_parse_decimal(sv_of(cases[i].text), 0, &out, NULL, &err));
        assert_int_equal(err.code, cases[i].code);
    }
    int64_t out = 0;
    assert_false(money_parse_decimal(SV_NULL, 9, &out, NULL, NULL));
    assert_false(money_parse_decimal(sv_of_bytes("1\0", 2), 9, &out, NULL, NULL));
}

/* Any way of writing n / 10^9 with an exponent must read back as n. */
static void test_exponents_move_the_point_and_nothing_else(void **state)
{
    (void)state;
    seed = 3;
    for (int i = 0; i < 50000; i++) {
        int64_t n = next_amount();
        int shift = (int)(next_random() % 30) - 15;
        char text[64];
        (void)snprintf(text, sizeof text, "%llde%d", (long long)n, shift);
        int64_t out = 0;
        bool rounded = true;
        struct err err;
        int128 want = n;
        for (int k = 0; k < shift + 9; k++)
            want = want > INT64_MAX || want < INT64_MIN ? want : want * 10;
        int128 divide = 1;
        for (int k = 0; k > shift + 9; k--)
            divide *= 10;
        int128 quotient = money_div_half_even(want, divide);
        bool fits = quotient <= INT64_MAX && quotient >= INT64_MIN;
        assert_int_equal(money_parse_decimal(sv_of(text), 9, &out, &rounded, &err), fits);
        if (fits) {
            assert_true(out == quotient);
            assert_int_equal(rounded, want % divide != 0);
        }
    }
}

static void test_usd_is_exact_to_nine_decimals(void **state)
{
    (void)state;
    int64_t n = 0;
    struct err err;
    assert_true(money_parse_usd(sv_of("25"), &n, &err));
    assert_int_equal(n, 25 * NANOS_PER_USD);
    assert_true(money_parse_usd(sv_of("-0.000000001"), &n, &err));
    assert_int_equal(n, -1);
    assert_false(money_parse_usd(sv_of("0.0000000010"), &n, &err));
    assert_non_null(strstr(err.text, "9 decimals"));
    assert_false(money_parse_usd(sv_of("1e2"), &n, &err));
    assert_non_null(strstr(err.text, "plain decimal"));
    assert_false(money_parse_usd(sv_of("ten"), &n, &err));
    assert_false(money_parse_usd(SV_NULL, &n, &err));
    assert_false(money_parse_usd(sv_of("9223372036.854775808"), &n, &err));
    assert_int_equal(err.code, ERR_OVERFLOW);
}

static void test_markup_has_six_decimals_and_no_sign(void **state)
{
    (void)state;
    int64_t ppm = 0;
    struct err err;
    assert_true(money_parse_markup(sv_of("1.30"), &ppm, &err));
    assert_int_equal(ppm, 1300000);
    assert_true(money_parse_markup(sv_of("0"), &ppm, &err));
    assert_int_equal(ppm, 0);
    assert_true(money_parse_markup(sv_of("1.000001"), &ppm, &err));
    assert_int_equal(ppm, 1000001);
    assert_false(money_parse_markup(sv_of("1.0000001"), &ppm, &err));
    assert_non_null(strstr(err.text, "6 decimals"));
    assert_false(money_parse_markup(sv_of("-1"), &ppm, &err));
    assert_non_null(strstr(err.text, "negative"));
    assert_false(money_parse_markup(sv_of("1e0"), &ppm, &err));
    assert_false(money_parse_markup(sv_of(""), &ppm, &err));
}

static void test_usd_text_is_the_shortest(void **state)
{
    (void)state;
    static const struct {
        int64_t nanos;
        const char *text;
    } cases[] = {
        {0, "0"},
        {1500, "0.0000015"},
        {-1500, "-0.0000015"},
        {12300000000, "12.3"},
        {NANOS_PER_USD, "1"},
        {-NANOS_PER_USD, "-1"},
        {100 * NANOS_PER_USD, "100"},
        {1, "0.000000001"},
        {INT64_MAX, "9223372036.854775807"},
        {INT64_MIN, "-9223372036.854775808"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[MONEY_TEXT_MAX];
        assert_int_equal(money_format_usd(cases[i].nanos, text), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
    }
    char text[MONEY_TEXT_MAX];
    assert_int_equal(money_format_scaled(INT64_MIN, 18, text), 21);
    assert_string_equal(text, "-9.223372036854775808");
    assert_int_equal(money_format_scaled(-120, 0, text), 4);
    assert_string_equal(text, "-120");
}

static void test_what_is_written_reads_back_the_same(void **state)
{
    (void)state;
    seed = 4;
    for (int i = 0; i < 100000; i++) {
        int64_t n = next_amount();
        int scale = (int)(next_random() % 19);
        char text[MONEY_TEXT_MAX];
        int64_t back = 0;
        bool rounded = true;
        struct strview v = {text, money_format_scaled(n, scale, text)};
        assert_true(money_parse_decimal(v, scale, &back, &rounded, NULL));
        assert_int_equal(back, n);
        assert_false(rounded);
        v.len = money_format_usd(n, text);
        assert_true(money_parse_usd(v, &back, NULL));
        assert_int_equal(back, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_and_sub_refuse_overflow),
        cmocka_unit_test(test_halves_go_to_the_even_neighbour),
        cmocka_unit_test(test_division_agrees_with_the_definition),
        cmocka_unit_test(test_division_holds_at_the_edge_of_128_bits),
        cmocka_unit_test(test_femtos_become_nanos_once),
        cmocka_unit_test(test_mark_up_rounds_once_and_refuses_overflow),
        cmocka_unit_test(test_cents_and_carry_always_add_up),
        cmocka_unit_test(test_decimal_text_at_a_scale),
        cmocka_unit_test(test_what_is_no_decimal_is_refused),
        cmocka_unit_test(test_exponents_move_the_point_and_nothing_else),
        cmocka_unit_test(test_usd_is_exact_to_nine_decimals),
        cmocka_unit_test(test_markup_has_six_decimals_and_no_sign),
        cmocka_unit_test(test_usd_text_is_the_shortest),
        cmocka_unit_test(test_what_is_written_reads_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
