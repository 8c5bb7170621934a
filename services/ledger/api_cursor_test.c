#include "api_cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 16);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

static void test_a_key_comes_back_from_its_cursor(void **state)
{
    (void)state;
    const struct strview keys[] = {SV_LIT(""), SV_LIT("acme"), SV_LIT("~suspense/\xc3\xbc\x1f"), {"a\0b", 3}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct strview key;
        struct strview cursor = api_cursor_make(&arena, "accounts", keys[i]);
        assert_false(sv_is_null(cursor));
        assert_true(api_cursor_read(&arena, "accounts", cursor, &key));
        assert_true(sv_eq(key, keys[i]));
    }
}

static void test_a_cursor_of_another_list_is_refused(void **state)
{
    (void)state;
    struct strview key;
    struct strview cursor = api_cursor_make(&arena, "task", SV_LIT("s/1"));
    assert_false(api_cursor_read(&arena, "tasks", cursor, &key));
    assert_false(api_cursor_read(&arena, "tas", cursor, &key));
    assert_false(api_cursor_read(&arena, "t", cursor, &key));
}

static void test_text_that_is_no_cursor_is_refused(void **state)
{
    (void)state;
    const struct strview texts[] = {SV_LIT(""),         SV_LIT("0"),         SV_LIT("zz"),
                                    SV_LIT("7461736b"), SV_LIT("7461736b1"), SV_LIT("../../etc/passwd")};
    struct strview key;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_false(api_cursor_read(&arena, "task", texts[i], &key));
}

static void test_a_key_past_the_limit_makes_no_cursor_and_is_not_read(void **state)
{
    (void)state;
    char text[2 * (API_CURSOR_KEY_BYTES + 10)];
    struct strview key;
    memset(text, 'a', sizeof text);
    assert_true(
        sv_is_null(api_cursor_make(&arena, "task", (struct strview){text, API_CURSOR_KEY_BYTES + 1})));
    assert_false(sv_is_null(api_cursor_make(&arena, "task", (struct strview){text, API_CURSOR_KEY_BYTES})));
    assert_false(api_cursor_read(&arena, "task", (struct strview){text, sizeof text}, &key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_key_comes_back_from_its_cursor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_cursor_of_another_list_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text_that_is_no_cursor_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_key_past_the_limit_makes_no_cursor_and_is_not_read, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
