/*
 * scope: every scope has its value, from one place.
 */
#include "spend/scope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct tag tags[] = {
    {.raw = SV_INIT("tenant=acme")}, {.raw = SV_INIT("plain")},       {.raw = SV_INIT("a:b")},
    {.raw = SV_INIT("tenant=acme")}, {.raw = SV_INIT("tenant=Acme")}, {.raw = SV_INIT("")},
};

static const struct scope_subject full = {
    .key_hash = SV_INIT("k"),
    .user = SV_INIT("u"),
    .team = SV_INIT("t"),
    .account_id = SV_INIT("a"),
    .task = SV_INIT("task"),
    .conversation = SV_INIT("c"),
    .model = SV_INIT("gpt-4o"),
    .tags = tags,
    .tag_count = sizeof tags / sizeof tags[0],
};

static void test_every_scope_has_its_value_once(void **state)
{
    (void)state;
    static const struct {
        const char *scope;
        const char *value;
        const char *key;
    } want[] = {{"key", "k", NULL},
                {"user", "u", NULL},
                {"team", "t", NULL},
                {"account", "a", NULL},
                {"task", "task", NULL},
                {"conversation", "c", NULL},
                {"tag", "tenant=acme", "tenant"},
                {"tag", "plain", ""},
                {"tag", "a:b", "a"},
                {"tag", "tenant=Acme", "tenant"},
                {"model", "gpt-4o", NULL}};
    struct scope_value out[SCOPE_VALUES_MAX];
    size_t count = scope_values(&full, out);
    assert_int_equal(count, sizeof want / sizeof want[0]);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(scope_name(out[i].kind), want[i].scope);
        assert_true(sv_eq(out[i].value, sv_of(want[i].value)));
        assert_true(want[i].key == NULL ? sv_is_null(out[i].key)
                                        : sv_is_empty(sv_of(want[i].key)) == sv_is_empty(out[i].key));
        assert_true(want[i].key == NULL || sv_eq(out[i].key, sv_of(want[i].key)) || sv_is_empty(out[i].key));
    }
}

static void test_what_a_call_does_not_have_is_no_value(void **state)
{
    (void)state;
    struct scope_value out[SCOPE_VALUES_MAX];
    const struct scope_subject none = {.key_hash = SV_INIT(""), .model = SV_INIT("m")};
    assert_int_equal(scope_values(&none, out), 1);
    assert_int_equal(out[0].kind, SCOPE_MODEL);
}

#define MANY ((size_t)3 * LIMIT_TAGS)

static void test_more_tags_than_a_call_can_have_fit(void **state)
{
    (void)state;
    static struct tag many[MANY];
    static char text[MANY][8];
    struct scope_value out[SCOPE_VALUES_MAX];
    for (size_t i = 0; i < MANY; i++) {
        (void)snprintf(text[i], sizeof text[i], "t%zu", i);
        many[i].raw = sv_of(text[i]);
    }
    struct scope_subject subject = full;
    subject.tags = many;
    subject.tag_count = MANY;
    assert_int_equal(scope_values(&subject, out), SCOPE_KIND_COUNT - 1 + 2 * LIMIT_TAGS);
}

static void test_names_go_both_ways(void **state)
{
    (void)state;
    enum scope_kind kind;
    for (int i = 0; i < SCOPE_KIND_COUNT; i++) {
        assert_true(scope_parse(sv_of(scope_name((enum scope_kind)i)), &kind));
        assert_int_equal(kind, i);
        assert_string_not_equal(scope_label(kind), "");
    }
    assert_false(scope_parse(SV_LIT("organisation"), &kind));
    assert_false(scope_parse(SV_NULL, &kind));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_scope_has_its_value_once),
        cmocka_unit_test(test_what_a_call_does_not_have_is_no_value),
        cmocka_unit_test(test_more_tags_than_a_call_can_have_fit),
        cmocka_unit_test(test_names_go_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
