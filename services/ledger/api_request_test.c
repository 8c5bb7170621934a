#include "api_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;
static struct buffer reply;
static struct api_request request;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 16);
    buffer_init(&reply, 1 << 16);
    request = (struct api_request){.arena = &arena, .reply = &reply, .status = 200};
    json_write_init(&request.json, &reply);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    buffer_free(&reply);
    return 0;
}

static bool replied(const char *words)
{
    return memmem(reply.data, reply.len, words, strlen(words)) != NULL;
}

static void test_a_path_is_split_before_it_is_decoded(void **state)
{
    (void)state;
    struct strview part[4];
    size_t count;
    assert_true(api_path_split(&request, SV_LIT("/v1/accounts/a%2Fb%20%C3%BC+x/"), part, 4, &count));
    assert_int_equal(count, 4);
    assert_true(sv_eq(part[2], SV_LIT("a/b \xc3\xbc+x")));
    assert_int_equal(part[3].len, 0);
}

static void test_malformed_escapes_are_refused_with_a_hint(void **state)
{
    (void)state;
    const struct strview paths[] = {SV_LIT("/%"),   SV_LIT("/%4"),   SV_LIT("/%4g"), SV_LIT("/%00"),
                                    SV_LIT("/%ff"), SV_LIT("/a%c3"), SV_LIT(""),     SV_LIT("v1")};
    struct strview part[4];
    size_t count;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        request.status = 200;
        assert_false(api_path_split(&request, paths[i], part, 4, &count));
        assert_int_equal(request.status, 400);
        assert_true(request.refused && replied("\"hint\":\""));
    }
}

static void test_a_path_of_more_parts_than_any_route_is_not_found(void **state)
{
    (void)state;
    struct strview part[2];
    size_t count;
    assert_false(api_path_split(&request, SV_LIT("/a/b/c"), part, 2, &count));
    assert_int_equal(request.status, 404);
}

static void test_query_parameters_are_decoded_and_the_unknown_one_is_named(void **state)
{
    (void)state;
    assert_true(api_query_read(&request, SV_LIT("reason=a+b%26c&&limit=5&flag")));
    assert_true(sv_eq(api_query_get(&request, "reason"), SV_LIT("a b&c")));
    assert_true(sv_eq(api_query_get(&request, "limit"), SV_LIT("5")));
    assert_true(sv_is_null(api_query_get(&request, "cursor")));
    assert_false(api_query_end(&request));
    assert_true(replied("unknown query parameter \\\"flag\\\""));
    assert_true(sv_eq(api_query_get(&request, "flag"), SV_LIT("")));
    assert_true(api_query_end(&request));
}

static void test_too_many_query_parameters_are_refused(void **state)
{
    (void)state;
    assert_false(api_query_read(&request, SV_LIT("a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&i=1")));
    assert_int_equal(request.status, 400);
}

static void test_a_page_goes_on_where_its_cursor_says(void **state)
{
    (void)state;
    struct api_page page;
    assert_true(api_page_read(&request, "task", &page));
    assert_int_equal(page.limit, API_LIMIT_DEFAULT);
    assert_true(sv_is_null(page.after));
    json_write_open(&request.json, '{');
    api_page_next(&request, "task", SV_LIT("T1"), true);
    json_write_close(&request.json, '}');
    assert_true(replied("{\"next\":\"7461736b1f5431\"}"));
    assert_true(api_query_read(&request, SV_LIT("limit=1000&cursor=7461736b1f5431")));
    assert_true(api_page_read(&request, "task", &page));
    assert_int_equal(page.limit, 1000);
    assert_true(sv_eq(page.after, SV_LIT("T1")));
    assert_false(api_page_read(&request, "tier", &page));
}

static void test_limits_outside_1_to_1000_are_refused(void **state)
{
    const struct strview queries[] = {SV_LIT("limit=0"), SV_LIT("limit=1001"), SV_LIT("limit=-1"),
                                      SV_LIT("limit="), SV_LIT("limit=1x")};
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        struct api_page page;
        setup(state);
        assert_true(api_query_read(&request, queries[i]));
        assert_false(api_page_read(&request, "task", &page));
        teardown(state);
    }
    setup(state);
}

static void test_ids_of_others_are_1_to_128_plain_bytes(void **state)
{
    (void)state;
    char longest[129];
    memset(longest, 'x', sizeof longest);
    assert_true(api_id_check(&request, "account", (struct strview){longest, 128}));
    assert_true(api_id_check(&request, "account", SV_LIT("\xc3\xbc/ a~")));
    assert_false(api_id_check(&request, "account", (struct strview){longest, 129}));
    assert_false(api_id_check(&request, "account", SV_LIT("")));
    assert_false(api_id_check(&request, "account", SV_LIT("~mine")));
    assert_false(api_id_check(&request, "account", SV_LIT("a\nb")));
    assert_false(api_id_check(&request, "account", SV_LIT("\xff")));
}

static void test_a_failure_tells_its_kind_and_not_its_cause(void **state)
{
    (void)state;
    struct err err;
    const struct {
        enum err_fate fate;
        int status;
    } cases[] = {{FATE_RETRY, 503}, {FATE_FATAL, 500}, {FATE_DEAD_LETTER, 400}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        err_set(&err, ERR_POSTGRES, cases[i].fate, "relation secret_table does not exist");
        api_fail(&request, &err);
        assert_int_equal(request.status, cases[i].status);
        assert_false(replied("secret_table"));
        assert_true(replied("\"hint\":\""));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_path_is_split_before_it_is_decoded),
        TEST(test_malformed_escapes_are_refused_with_a_hint),
        TEST(test_a_path_of_more_parts_than_any_route_is_not_found),
        TEST(test_query_parameters_are_decoded_and_the_unknown_one_is_named),
        TEST(test_too_many_query_parameters_are_refused),
        TEST(test_a_page_goes_on_where_its_cursor_says),
        TEST(test_limits_outside_1_to_1000_are_refused),
        TEST(test_ids_of_others_are_1_to_128_plain_bytes),
        TEST(test_a_failure_tells_its_kind_and_not_its_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
