/*
 * json_pick: paths, duplicates, null, escapes, strings that hold JSON, malformed texts.
 */
#include "ingest/json_pick.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_paths(void **state)
{
    (void)state;
    struct json_pick pick[] = {{.path = "a"},        {.path = "m.x"},    {.path = "m"},
                               {.path = "m.deep.y"}, {.path = "absent"}, {.path = "arr"}};
    assert_true(json_pick(SV_LIT("{\"m\": {\"x\": 1.50, \"deep\": {\"y\": \"z\"}, \"a\": 9}, \"\\u0061\": 7, "
                                 "\"arr\": [1, {\"a\": 2}]}"),
                          pick, 6));
    assert_true(pick[0].found && sv_eq(pick[0].whole, SV_LIT("7")));
    assert_true(pick[1].found && sv_eq(pick[1].whole, SV_LIT("1.50")));
    assert_true(pick[2].found &&
                sv_eq(pick[2].whole, SV_LIT("{\"x\": 1.50, \"deep\": {\"y\": \"z\"}, \"a\": 9}")));
    assert_true(pick[3].found && sv_eq(pick[3].whole, SV_LIT("z")));
    assert_false(pick[4].found);
    assert_true(pick[5].found && sv_eq(pick[5].whole, SV_LIT("[1, {\"a\": 2}]")));
}

static void test_the_last_one_counts(void **state)
{
    (void)state;
    struct json_pick pick[] = {{.path = "m.x"}, {.path = "n"}};
    assert_true(json_pick(SV_LIT("{\"m\": {\"x\": 1}, \"n\": 1, \"m\": {\"y\": 2}, \"n\": null}"), pick, 2));
    assert_false(pick[0].found);
    assert_false(pick[1].found);
    assert_true(json_pick(SV_LIT("{\"m\": 3, \"m\": {\"x\": NaN}}"), pick, 2));
    assert_true(pick[0].found && sv_eq(pick[0].whole, SV_LIT("NaN")));
}

static void test_texts_and_objects(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 4096);
    struct json_pick pick[] = {{.path = "t"}, {.path = "o"}, {.path = "s"}, {.path = "n"}, {.path = "nul"}};
    assert_true(
        json_pick(SV_LIT("{\"t\": \"a\\nb\", \"o\": {\"k\": 1}, \"s\": \" {\\\"k\\\": 2}\", \"n\": 5, "
                         "\"nul\": \"\\u0000\"}"),
                  pick, 5));
    assert_true(sv_eq(json_pick_text(&pick[0], &a), SV_LIT("a\nb")));
    assert_true(sv_eq(json_pick_object(&pick[1], &a), SV_LIT("{\"k\": 1}")));
    assert_true(sv_eq(json_pick_object(&pick[2], &a), SV_LIT("{\"k\": 2}")));
    assert_true(sv_is_null(json_pick_text(&pick[3], &a)));
    assert_true(sv_is_null(json_pick_object(&pick[0], &a)));
    assert_true(sv_is_null(json_pick_text(&pick[4], &a)));
    arena_free(&a);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "[]", "1", "{", "{\"a\": 1", "{\"a\": 1} x", "{\"a\": {\"b\": }}"};
    struct json_pick pick[] = {{.path = "a.b"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(json_pick(sv_of(bad[i]), pick, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_the_last_one_counts),
        cmocka_unit_test(test_texts_and_objects),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
