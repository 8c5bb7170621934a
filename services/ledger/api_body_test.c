#include "api_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { NAME, AMOUNT, MARKUP, WHEN, TAGS, POLICY, FIELDS };
static const struct api_field fields[FIELDS] = {
    [NAME] = {"name", API_FIELD_TEXT, API_FIELD_OPTIONAL},
    [AMOUNT] = {"amount", API_FIELD_MONEY, API_FIELD_OPTIONAL},
    [MARKUP] = {"markup", API_FIELD_MARKUP, API_FIELD_OPTIONAL},
    [WHEN] = {"when", API_FIELD_TIME, API_FIELD_OPTIONAL},
    [TAGS] = {"tags", API_FIELD_TEXTS, API_FIELD_OPTIONAL},
    [POLICY] = {"policy", API_FIELD_OBJECT, API_FIELD_OPTIONAL},
};

static struct arena arena;
static struct buffer reply;
static struct api_request request;
static struct api_value values[FIELDS];

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    buffer_init(&reply, 1 << 16);
    request = (struct api_request){.arena = &arena, .reply = &reply, .status = 200};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    buffer_free(&reply);
    return 0;
}

static bool read(const char *json)
{
    request.refused = false;
    return api_body_read(&request, "a thing", sv_of(json), fields, FIELDS, values);
}

static void test_every_type_is_read(void **state)
{
    (void)state;
    assert_true(read(" {\"name\": \"a\\u00fcb\", \"amount\":\"-12.5\", \"markup\":\"1.30\",\"when\":"
                     "\"1970-01-01T00:00:01Z\",\"tags\":[\"x\",\"y=z\"],\"policy\":{\"trust\":[1,{}]}} "));
    assert_true(sv_eq(values[NAME].text, SV_LIT("a\xc3\xbc"
                                                "b")));
    assert_int_equal(values[AMOUNT].number, -12500000000LL);
    assert_int_equal(values[MARKUP].number, 1300000);
    assert_int_equal(values[WHEN].number, 1000000);
    assert_int_equal(values[TAGS].text_count, 2);
    assert_true(sv_eq(values[TAGS].texts[1], SV_LIT("y=z")));
    assert_true(sv_eq(values[POLICY].text, SV_LIT("{\"trust\":[1,{}]}")));
}

static void test_null_is_given_but_not_present_and_nothing_is_neither(void **state)
{
    (void)state;
    assert_true(read("{\"name\":null}"));
    assert_true(values[NAME].given && !values[NAME].present);
    assert_false(values[AMOUNT].given || values[AMOUNT].present);
    assert_true(read(""));
    assert_false(values[NAME].given);
}

static void test_money_is_text_or_an_integer_and_never_a_real(void **state)
{
    (void)state;
    assert_true(read("{\"amount\":7}"));
    assert_int_equal(values[AMOUNT].number, 7000000000LL);
    assert_true(read("{\"amount\":-0}"));
    const char *const bad[] = {"{\"amount\":7.0}",
                               "{\"amount\":1e2}",
                               "{\"amount\":\"1e2\"}",
                               "{\"amount\":\"\"}",
                               "{\"amount\":true}",
                               "{\"amount\":\"0.0000000001\"}",
                               "{\"amount\":99999999999999999999}",
                               "{\"amount\":[]}",
                               "{\"markup\":-1}",
                               "{\"markup\":1.5}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(read(bad[i]));
        assert_true(request.refused && request.status == 400);
    }
}

static void test_an_unknown_field_is_refused_by_name_with_the_known_ones(void **state)
{
    (void)state;
    assert_false(read("{\"nmae\":\"x\"}"));
    assert_non_null(memmem(reply.data, reply.len, "nmae", 4));
    assert_non_null(memmem(reply.data, reply.len, "name, amount, markup", 20));
}

static void test_what_is_no_object_of_these_fields_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"[]",
                               "1",
                               "null",
                               "{",
                               "{}{}",
                               "{} x",
                               "{\"name\":1}",
                               "{\"name\":\"a\",\"name\":\"a\"}",
                               "{\"name\":null,\"name\":\"a\"}",
                               "{\"name\":\"\\u0000\"}",
                               "{\"name\":\"\\ud800\"}",
                               "{\"name\":\"a\\nb\"}",
                               "{\"tags\":\"x\"}",
                               "{\"tags\":[1]}",
                               "{\"tags\":[\"\"]}",
                               "{\"tags\":[\"x\"",
                               "{\"policy\":[]}",
                               "{\"when\":\"yesterday\"}",
                               "{\"when\":1}",
                               "{\"policy\":{\"a\":}}",
                               "{\"tags\":[[\"x\"]]}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(read(bad[i]));
        assert_true(request.refused && request.status == 400);
    }
}

static void test_a_needed_field_that_is_missing_or_null_is_named(void **state)
{
    (void)state;
    const struct api_field needed[] = {{"name", API_FIELD_TEXT, API_FIELD_REQUIRED}};
    const struct strview bad[] = {SV_LIT("{}"), SV_LIT("{\"name\":null}"), SV_LIT("")};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(api_body_read(&request, "a thing", bad[i], needed, 1, values));
        assert_non_null(memmem(reply.data, reply.len, "a thing needs \\\"name\\\"", 22));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_type_is_read),
        TEST(test_null_is_given_but_not_present_and_nothing_is_neither),
        TEST(test_money_is_text_or_an_integer_and_never_a_real),
        TEST(test_an_unknown_field_is_refused_by_name_with_the_known_ones),
        TEST(test_what_is_no_object_of_these_fields_is_refused),
        TEST(test_a_needed_field_that_is_missing_or_null_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
