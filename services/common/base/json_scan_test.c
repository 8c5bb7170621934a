#include "base/json_scan.h"

#include "base/limits.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed;

static size_t pick(size_t count)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (size_t)((z ^ (z >> 31)) % count);
}

static bool accepted(struct strview text, int depth_max)
{
    struct json_scan s;
    struct json_value v;
    json_scan_init(&s, text, depth_max);
    return json_scan_value(&s, &v) && json_scan_skip(&s, &v, NULL) && json_scan_end(&s);
}

/* Builds jansson's value out of our events, so that the two readings can be compared as values. NULL:
 * refused. */
static json_t *build(struct json_scan *s, const struct json_value *v, struct arena *a)
{
    struct json_value key;
    struct json_value inner;
    struct strview text = SV_NULL;
    json_t *out = NULL;
    switch (v->kind) {
    case JSON_KIND_OBJECT:
        out = json_object();
        while (json_scan_member(s, &key, &inner)) {
            assert_true(json_scan_unescape(&key, a, &text));
            assert_true(json_scan_text_is(&key, text));
            struct strview name = SV_NULL;
            assert_true(arena_dup(a, text, &name));
            (void)json_object_set_new(out, name.ptr, build(s, &inner, a));
        }
        return out;
    case JSON_KIND_ARRAY:
        out = json_array();
        while (json_scan_item(s, &inner))
            (void)json_array_append_new(out, build(s, &inner, a));
        return out;
    case JSON_KIND_STRING:
        assert_true(json_scan_unescape(v, a, &text));
        assert_true(json_scan_text_is(v, text));
        return json_stringn(text.ptr, text.len);
    case JSON_KIND_NUMBER:
        assert_true(arena_dup(a, v->raw, &text));
        return json_real(strtod(text.ptr, NULL));
    case JSON_KIND_TRUE:
        return json_true();
    case JSON_KIND_FALSE:
        return json_false();
    case JSON_KIND_NULL:
        break;
    }
    return json_null();
}

static void compare_values(struct strview text, const json_t *want)
{
    struct arena a;
    struct json_scan s;
    struct json_value v;
    arena_init(&a, 1 << 20);
    json_scan_init(&s, text, 100);
    assert_true(json_scan_value(&s, &v));
    json_t *got = build(&s, &v, &a);
    assert_false(s.failed);
    assert_true(json_scan_end(&s));
    assert_true(json_equal(got, want));
    json_decref(got);
    arena_free(&a);
}

struct tally {
    int both_accept;
    int both_refuse;
    int set_aside;
};

/* What the contract lets differ is set aside: numbers past double, \u0000, and NUL bytes, which we always
 * refuse. */
static void compare(struct strview text, struct tally *t)
{
    json_error_t why;
    json_t *want = json_loadb(text.ptr, text.len, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &why);
    bool ours = accepted(text, 100);
    if (sv_find(text, '\0') < text.len) {
        assert_false(ours);
        t->set_aside++;
    } else if (want == NULL && (json_error_code(&why) == json_error_numeric_overflow ||
                                json_error_code(&why) == json_error_null_character ||
                                json_error_code(&why) == json_error_null_byte_in_key)) {
        t->set_aside++;
    } else if (ours != (want != NULL)) {
        fail_msg("ours %d, jansson %d (%s): " SV_FMT "\n", ours, want != NULL, why.text, SV_ARG(text));
    } else if (ours) {
        compare_values(text, want);
        t->both_accept++;
    } else {
        t->both_refuse++;
    }
    json_decref(want);
}

static const char *const corpus[] = {
    "{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\",\"content\":\"hello, general\"}]}",
    "{\"tags\":[\"account_id=a\",\"task=t-1\",5,true,null,\"\",\"\\u00e9\\ud83d\\ude00\"],\"m\":{}}",
    " [ 0 , -0 , 1.5 , -2.5e-3 , 1E+9 , 123456789012345678901234567890, 0.1e1 ] ",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\uD834\\uDD1E plain text that runs on for a while\"",
    "{\"a\":{\"b\":{\"c\":[[[[{}]]]]}},\"a\":2,\"\":3}",
    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\x7f\"",
    "[true,false,null,\"\",{},[]]",
    "-12.75e-10",
    "[1e400,-1e999,\"\\u0000\"]",
    "{\"key with \\\"quotes\\\" \\u0031\":\"v\",\"\\u006bey\":[\"\\\\u0041\"]}",
};

static const char *const parts[] = {
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "0",
    "9",
    "-",
    "+",
    ".",
    "e",
    "E",
    "\\u",
    "\\ud800",
    "'",
    "/",
    "\\udc00",
    "\\u0000",
    "\\x",
    "\\u0041",
    "\\ud83d\\ude00",
    "\xc0\x80",
    "\xed\xa0\x80",
    "\xff",
    "\xc3",
    "\n",
    "\t",
    "\r",
    "\x01",
    "\x1f",
    "\x7f",
    "\xe2\x82",
    "true",
    "fals",
    "null",
    "Infinity",
    "nan",
    "00",
    "01",
    "1.",
    ".5",
    "1e",
    "1e308",
    "1e309",
    "[[[[[[[[",
    "//c",
    "\xef\xbb\xbf",
    "\xf4\x90\x80\x80",
    "99999999999999999999",
};

/* Cuts, flips a bit, drops a byte or puts something in. */
static size_t mutate(char *text, size_t len, size_t room)
{
    size_t at = pick(len + 1);
    struct strview part = sv_of(parts[pick(sizeof parts / sizeof parts[0])]);
    switch (pick(5)) {
    case 0:
        return at;
    case 1:
        if (at < len)
            text[at] = (char)(text[at] ^ (1 << pick(8)));
        return len;
    case 2:
        if (at == len)
            return len;
        memmove(text + at, text + at + 1, len - at - 1);
        return len - 1;
    default:
        if (len + part.len > room)
            return len;
        memmove(text + at + part.len, text + at, len - at);
        memmove(text + at, part.ptr, part.len);
        return len + part.len;
    }
}

static void test_what_jansson_takes_is_taken_and_what_it_refuses_is_refused(void **state)
{
    (void)state;
    struct tally t = {0};
    seed = 20261;
    for (int round = 0; round < 60000; round++) {
        char text[512];
        const char *base = corpus[pick(sizeof corpus / sizeof corpus[0])];
        size_t len = (size_t)snprintf(text, sizeof text, "%s", base);
        for (size_t edits = pick(4); edits > 0; edits--)
            len = mutate(text, len, sizeof text);
        char *tight = malloc(len == 0 ? 1 : len); /* for the sanitizer: no byte past the end may be read */
        assert_non_null(tight);
        for (size_t i = 0; i < len; i++)
            tight[i] = text[i];
        compare((struct strview){tight, len}, &t);
        free(tight);
    }
    assert_true(t.both_accept > 10000);
    assert_true(t.both_refuse > 10000);
    assert_true(t.set_aside > 1000);
}

static void test_odd_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
    } cases[] = {
        {"", false},
        {" ", false},
        {"nul", false},
        {"nulll", false},
        {"{", false},
        {"[", false},
        {"]", false},
        {"[1,]", false},
        {"[,1]", false},
        {"[1 2]", false},
        {"{\"a\":1,}", false},
        {"{,\"a\":1}", false},
        {"{\"a\"}", false},
        {"{\"a\":}", false},
        {"{a:1}", false},
        {"{\"a\" 1}", false},
        {"{\"a\":1", false},
        {"[1}", false},
        {"{\"a\":[1}]", false},
        {"\"a", false},
        {"\"\\", false},
        {"\"\\u12", false},
        {"\"\\u12g4\"", false},
        {"\"\\ud800\"", false},
        {"\"\\udc00\"", false},
        {"\"\\ud800\\u0041\"", false},
        {"\"\\ud800\\udc0", false},
        {"-", false},
        {"+1", false},
        {"01", false},
        {"-01", false},
        {"1.", false},
        {".1", false},
        {"1e", false},
        {"1e+", false},
        {"1 1", false},
        {"[]]", false},
        {"{}{}", false},
        {"'a'", false},
        {"\xef\xbb\xbf{}", false},
        {"[1/**/]", false},
        {"NaN", false},
        {"Infinity", false},
        {"1e999999", true},
        {"1111111111111111111111111111111111111111", true},
        {"\"\\u0000\"", true},
        {" \t\r\n{ \"a\" : [ ] } \n", true},
        {"\"\x7f\"", true},
        {"-0", true},
        {"-0.0e-0", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (accepted(sv_of(cases[i].text), LIMIT_JSON_DEPTH) != cases[i].ok)
            fail_msg("wrong for: %s", cases[i].text);
    }
    assert_false(accepted(SV_NULL, 1));
    assert_false(accepted(sv_of_bytes("1\0", 2), 1));
    assert_false(accepted(sv_of_bytes("\"a\0b\"", 5), 1));
}

static void test_depth_is_limited(void **state)
{
    (void)state;
    char text[2 * LIMIT_JSON_DEPTH + 4];
    for (int depth = 1; depth <= LIMIT_JSON_DEPTH + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        assert_int_equal(accepted(sv_of_bytes(text, 2 * (size_t)depth), LIMIT_JSON_DEPTH),
                         depth <= LIMIT_JSON_DEPTH);
    }
    struct json_scan s;
    struct json_value v;
    json_scan_init(&s, sv_of("[[1]]"), 1);
    assert_true(json_scan_value(&s, &v));
    assert_false(json_scan_item(&s, &v));
    assert_int_equal(s.err.code, ERR_FULL);
    json_scan_init(&s, sv_of("[[],[],{},{\"a\":[]}]"), 3);
    assert_true(json_scan_value(&s, &v) && json_scan_skip(&s, &v, NULL) && json_scan_end(&s));
}

static void test_members_items_and_skipped_wholes(void **state)
{
    (void)state;
    struct json_scan s;
    struct json_value key;
    struct json_value v;
    struct strview whole;
    json_scan_init(&s, sv_of("{ \"a\" : \"x\" , \"b\":[ 1, {\"c\":2} ] ,\"d\": -7 }"), 4);
    assert_true(json_scan_value(&s, &v));
    assert_int_equal(v.kind, JSON_KIND_OBJECT);
    assert_true(json_scan_member(&s, &key, &v));
    assert_true(json_scan_text_is(&key, sv_of("a")));
    assert_true(json_scan_skip(&s, &v, &whole));
    assert_true(sv_eq(whole, sv_of("\"x\"")));
    assert_true(json_scan_member(&s, &key, &v));
    assert_true(json_scan_skip(&s, &v, &whole));
    assert_true(sv_eq(whole, sv_of("[ 1, {\"c\":2} ]")));
    assert_true(json_scan_member(&s, &key, &v));
    assert_true(json_scan_skip(&s, &v, &whole));
    assert_true(sv_eq(whole, sv_of("-7")));
    assert_false(json_scan_member(&s, &key, &v));
    assert_false(s.failed);
    assert_false(json_scan_item(&s, &v)); /* nothing is open */
    assert_true(json_scan_end(&s));
}

static void test_an_error_sticks_and_names_its_place(void **state)
{
    (void)state;
    struct json_scan s;
    struct json_value v;
    json_scan_init(&s, sv_of("[1,x]"), 4);
    assert_true(json_scan_value(&s, &v));
    assert_true(json_scan_item(&s, &v));
    assert_false(json_scan_end(&s));
    assert_true(s.failed);
    assert_false(json_scan_value(&s, &v));
    assert_false(json_scan_item(&s, &v));
    assert_false(json_scan_skip(&s, &v, NULL));
    assert_false(json_scan_end(&s));
    assert_string_equal(s.err.text, "JSON: a container is open at the end at byte 2");
    json_scan_init(&s, sv_of("[1,x]"), 4);
    assert_true(json_scan_value(&s, &v));
    assert_false(json_scan_skip(&s, &v, NULL));
    assert_string_equal(s.err.text, "JSON: a bad number at byte 3");
    assert_int_equal(s.err.fate, FATE_DEAD_LETTER);
}

static struct json_value string_of(struct json_scan *s, const char *text)
{
    struct json_value v = {.kind = JSON_KIND_NULL};
    json_scan_init(s, sv_of(text), 1);
    assert_true(json_scan_value(s, &v));
    return v;
}

static void test_unescape_refuses_nul_and_a_full_arena(void **state)
{
    (void)state;
    struct json_scan s;
    struct arena a;
    struct strview out;
    arena_init(&a, 8);
    struct json_value v = string_of(&s, "\"a\\u0000b\"");
    arena_free(&a);
    arena_init(&a, 100);
    assert_false(json_scan_unescape(&v, &a, &out));
    assert_false(json_scan_text_is(&v, sv_of_bytes("a\0b", 3)));
    v = string_of(&s, "\"\\u00e9\\ud83d\\ude00\\n\\/\"");
    assert_true(json_scan_unescape(&v, &a, &out));
    assert_true(sv_eq(out, sv_of("\xc3\xa9\xf0\x9f\x98\x80\n/")));
    assert_true(json_scan_text_is(&v, out));
    assert_false(json_scan_text_is(&v, sv_of("\xc3\xa9\xf0\x9f\x98\x80\n")));
    assert_false(json_scan_text_is(&v, sv_of("\xc3\xa9\xf0\x9f\x98\x80\n/x")));
    assert_false(json_scan_text_is(&v, SV_NULL));
    arena_free(&a);
    arena_init(&a, 8);
    assert_false(json_scan_unescape(&v, &a, &out));
    v = string_of(&s, "\"no escape needs no room at all\"");
    assert_true(json_scan_unescape(&v, &a, &out));
    assert_ptr_equal(out.ptr, v.raw.ptr);
    v = string_of(&s, "12");
    assert_false(json_scan_unescape(&v, &a, &out));
    assert_false(json_scan_text_is(&v, sv_of("12")));
    arena_free(&a);
}

static void test_integers_are_integers_only(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        int64_t n;
    } cases[] = {
        {"0", true, 0},      {"-0", true, 0},    {"-17", true, -17},
        {"1.0", false, 0},   {"1e2", false, 0},  {"9223372036854775807", true, INT64_MAX},
        {"\"1\"", false, 0}, {"true", false, 0}, {"9223372036854775808", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct json_scan s;
        struct json_value v = string_of(&s, cases[i].text);
        int64_t n = 0;
        assert_int_equal(json_scan_i64(&v, &n), cases[i].ok);
        assert_int_equal(n, cases[i].n);
    }
}

/* Each byte value at each place of a long plain string: the fast run must stop where it has to. */
static void test_no_special_byte_is_run_over(void **state)
{
    (void)state;
    for (size_t at = 1; at < 24; at++) {
        for (int c = 0; c < 256; c++) {
            char text[26];
            memset(text, 'a', sizeof text);
            text[0] = '"';
            text[25] = '"';
            text[at] = (char)c;
            bool want = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
            assert_int_equal(accepted((struct strview){text, sizeof text}, 1), want);
        }
    }
}

static void test_bytes_that_are_no_utf8_pass_only_where_it_was_asked_for(void **state)
{
    (void)state;
    const char *text = "[\"a\xff\xc3\",\"\xed\xa0\x80\\n\"]";
    assert_false(accepted(sv_of(text), 8));
    for (int any = 0; any <= 1; any++) {
        struct json_scan s;
        struct json_value v;
        json_scan_init(&s, sv_of(text), 8);
        s.lax = true;
        s.any_bytes = any == 1;
        assert_int_equal(json_scan_value(&s, &v) && json_scan_skip(&s, &v, NULL) && json_scan_end(&s), any);
    }
}

static void test_a_whole_text_is_one_value_of_the_kind_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum json_kind kind;
        bool whole;
    } rows[] = {
        {" {\"a\":[1,{}]} ", JSON_KIND_OBJECT, true},
        {"[{},2]\n", JSON_KIND_ARRAY, true},
        {"7", JSON_KIND_NUMBER, true},
        {"\"{\"", JSON_KIND_STRING, true},
        {"{}", JSON_KIND_ARRAY, false},
        {"[]", JSON_KIND_OBJECT, false},
        {"", JSON_KIND_OBJECT, false},
        {"{} {}", JSON_KIND_OBJECT, false},
        {"{\"a\":}", JSON_KIND_OBJECT, false},
        {"[1", JSON_KIND_ARRAY, false},
        {"[[[[1]]]]", JSON_KIND_ARRAY, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_scan s;
        json_scan_init(&s, sv_of(rows[i].text), 3);
        if (json_scan_whole(&s, rows[i].kind) != rows[i].whole)
            fail_msg("%s", rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_jansson_takes_is_taken_and_what_it_refuses_is_refused),
        cmocka_unit_test(test_odd_texts),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_members_items_and_skipped_wholes),
        cmocka_unit_test(test_an_error_sticks_and_names_its_place),
        cmocka_unit_test(test_unescape_refuses_nul_and_a_full_arena),
        cmocka_unit_test(test_integers_are_integers_only),
        cmocka_unit_test(test_no_special_byte_is_run_over),
        cmocka_unit_test(test_bytes_that_are_no_utf8_pass_only_where_it_was_asked_for),
        cmocka_unit_test(test_a_whole_text_is_one_value_of_the_kind_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
