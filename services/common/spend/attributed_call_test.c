/*
 * attributed_call: its words are the schema's, in the schema's order.
 */
#include "spend/attributed_call.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_words_are_the_schemas(void **state)
{
    (void)state;
    static const char *const routes[ROUTE_COUNT] = {"tag", "task", "conversation", "key", "redrive"};
    static const char *const ratings[RATING_COUNT] = {"exact", "assumed", "free"};
    for (int i = 0; i < ROUTE_COUNT; i++)
        assert_string_equal(spend_route_name((enum spend_route)i), routes[i]);
    for (int i = 0; i < RATING_COUNT; i++)
        assert_string_equal(spend_rating_name((enum spend_rating)i), ratings[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words_are_the_schemas)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
