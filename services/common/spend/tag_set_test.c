/*
 * tag_set: tables of cases for every way a tag can arrive.
 */
#include "spend/tag_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct tag_set set;

static int set_up(void **state)
{
    (void)state;
    tag_set_init(&set);
    return 0;
}

static void assert_tag(size_t i, const char *raw, unsigned origins)
{
    assert_true(i < set.count);
    if (!sv_eq(set.tags[i].raw, sv_of(raw)))
        fail_msg("tag %zu is \"" SV_FMT "\", not \"%s\"", i, SV_ARG(set.tags[i].raw), raw);
    assert_int_equal(set.tags[i].origins, origins);
}

/* The tags joined by '|', for tables. */
static const char *joined(void)
{
    static char text[LIMIT_TAGS * (LIMIT_TAG_BYTES + 1) + 1];
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < set.count; i++) {
        if (i > 0)
            text[at++] = '|';
        memcpy(text + at, set.tags[i].raw.ptr, set.tags[i].raw.len);
        at += set.tags[i].raw.len;
        text[at] = '\0';
    }
    return text;
}

static void test_lists_split_on_commas_and_trim(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        const char *tags;
        uint64_t empty;
    } rows[] = {
        {"a", "a", 0},
        {"task=1, account_id=2,,  x y ", "task=1|account_id=2|x y", 1},
        {"", "", 1},
        {" \t ", "", 1},
        {",", "", 2},
        {",,,", "", 4},
        {"a,", "a", 1},
        {",a", "a", 1},
        {" a\t,\tb ", "a|b", 0},
        {"a=b=c:d,e:f=g", "a=b=c:d|e:f=g", 0},
        {"Task=1,task=1", "Task=1|task=1", 0},
        {"\xc3\xa9=\xe2\x82\xac", "\xc3\xa9=\xe2\x82\xac", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tag_set_init(&set);
        tag_set_add_list(&set, sv_of(rows[i].list), TAG_ORIGIN_HEADER);
        assert_string_equal(joined(), rows[i].tags);
        assert_int_equal(set.empty, rows[i].empty);
        assert_int_equal(set.fault, TAG_FAULT_NONE);
    }
    tag_set_init(&set);
    tag_set_add_list(&set, SV_NULL, TAG_ORIGIN_HEADER);
    assert_int_equal(set.count + set.empty + set.refused, 0);
}

static void test_two_header_lines_unite(void **state)
{
    (void)state;
    tag_set_add_list(&set, SV_LIT("a,b"), TAG_ORIGIN_HEADER);
    tag_set_add_list(&set, SV_LIT("b,c"), TAG_ORIGIN_HEADER);
    assert_string_equal(joined(), "a|b|c");
}

static void test_items_are_taken_as_they_are(void **state)
{
    (void)state;
    static const char *const items[] = {" a ", "a,b", "a", " "};
    for (size_t i = 0; i < 4; i++)
        tag_set_add_item(&set, sv_of(items[i]), TAG_ORIGIN_ROOT);
    assert_string_equal(joined(), " a |a,b|a| ");
}

static void test_empty_items_are_dropped_and_counted(void **state)
{
    (void)state;
    tag_set_add_item(&set, SV_LIT(""), TAG_ORIGIN_ROOT);
    tag_set_add_item(&set, SV_NULL, TAG_ORIGIN_ROOT);
    tag_set_count_non_string(&set);
    assert_int_equal(set.count, 0);
    assert_int_equal(set.empty, 2);
    assert_int_equal(set.non_string, 1);
    assert_int_equal(set.refused, 0);
}

static void test_every_source_is_kept_and_the_same_bytes_stand_once(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1000);
    tag_set_add_list(&set, SV_LIT("h,same"), TAG_ORIGIN_HEADER);
    tag_set_add_item(&set, SV_LIT("r"), TAG_ORIGIN_ROOT);
    tag_set_add_item(&set, SV_LIT("same"), TAG_ORIGIN_ROOT);
    tag_set_add_item(&set, SV_LIT("same"), TAG_ORIGIN_ROOT);
    tag_set_add_list(&set, SV_LIT("m, same"), TAG_ORIGIN_METADATA);
    tag_set_add_item(&set, SV_LIT("l"), TAG_ORIGIN_LITELLM_METADATA);
    tag_set_add_item(&set, SV_LIT("Same"), TAG_ORIGIN_LITELLM_METADATA);
    tag_set_add_user(&set, SV_LIT("u 1"), &a);
    tag_set_add_item(&set, SV_LIT("k"), TAG_ORIGIN_KEY);
    tag_set_add_item(&set, SV_LIT("e"), TAG_ORIGIN_EVENT);
    assert_int_equal(set.count, 9);
    assert_tag(0, "h", TAG_ORIGIN_HEADER);
    assert_tag(1, "same", TAG_ORIGIN_HEADER | TAG_ORIGIN_ROOT | TAG_ORIGIN_METADATA);
    assert_tag(2, "r", TAG_ORIGIN_ROOT);
    assert_tag(3, "m", TAG_ORIGIN_METADATA);
    assert_tag(4, "l", TAG_ORIGIN_LITELLM_METADATA);
    assert_tag(5, "Same", TAG_ORIGIN_LITELLM_METADATA);
    assert_tag(6, "end_user=u 1", TAG_ORIGIN_USER);
    assert_tag(7, "k", TAG_ORIGIN_KEY);
    assert_tag(8, "e", TAG_ORIGIN_EVENT);
    assert_true(sv_eq(set.tags[6].key, SV_LIT("end_user")));
    assert_true(sv_eq(set.tags[6].value, SV_LIT("u 1")));
    arena_free(&a);
}

static void test_a_user_within_limits_is_a_tag(void **state)
{
    (void)state;
    struct arena a;
    char user[LIMIT_TAG_BYTES];
    memset(user, 'u', sizeof user);
    arena_init(&a, 4096);
    tag_set_add_user(&set, SV_LIT(""), &a);
    tag_set_add_user(&set, SV_NULL, &a);
    assert_int_equal(set.empty, 2);
    tag_set_add_user(&set, sv_of_bytes(user, LIMIT_TAG_BYTES - 9), &a);
    assert_int_equal(set.count, 1);
    assert_int_equal(set.tags[0].raw.len, LIMIT_TAG_BYTES);
    tag_set_add_user(&set, sv_of_bytes(user, LIMIT_TAG_BYTES - 8), &a);
    assert_int_equal(set.fault, TAG_FAULT_TOO_LONG);
    tag_set_add_user(&set, sv_of_bytes("a\0b", 3), &a);
    assert_int_equal(set.count, 1);
    assert_int_equal(set.refused, 2);
    arena_free(&a);
    arena_init(&a, 10);
    tag_set_add_user(&set, SV_LIT("more"), &a);
    assert_int_equal(set.refused, 3);
    arena_free(&a);
}

static void test_too_many_are_refused_and_the_first_are_kept(void **state)
{
    (void)state;
    char text[LIMIT_TAGS + 2][8];
    for (size_t i = 0; i < LIMIT_TAGS + 2; i++) {
        (void)snprintf(text[i], sizeof text[i], "t%zu", i);
        tag_set_add_item(&set, sv_of(text[i]), TAG_ORIGIN_ROOT);
        assert_int_equal(set.fault, i < LIMIT_TAGS ? TAG_FAULT_NONE : TAG_FAULT_TOO_MANY);
    }
    assert_int_equal(set.count, LIMIT_TAGS);
    assert_int_equal(set.refused, 2);
    tag_set_add_item(&set, SV_LIT("t0"), TAG_ORIGIN_HEADER); /* the same bytes again need no room */
    assert_int_equal(set.refused, 2);
    assert_tag(0, "t0", TAG_ORIGIN_ROOT | TAG_ORIGIN_HEADER);
}

static void test_items_past_a_bound_are_only_counted(void **state)
{
    (void)state;
    char text[16];
    for (size_t i = 0; i < TAG_SET_ITEMS; i++)
        tag_set_add_item(&set, SV_LIT("t0"), TAG_ORIGIN_ROOT);
    assert_int_equal(set.count, 1);
    assert_int_equal(set.fault, TAG_FAULT_NONE);
    tag_set_add_item(&set, SV_LIT("t0"), TAG_ORIGIN_HEADER);
    tag_set_add_item(&set, SV_LIT(""), TAG_ORIGIN_HEADER);
    for (size_t i = 1; i < 1000000; i++) {
        (void)snprintf(text, sizeof text, "t%zu", i);
        tag_set_add_item(&set, sv_of(text), TAG_ORIGIN_HEADER);
    }
    assert_tag(0, "t0", TAG_ORIGIN_ROOT);
    assert_int_equal(set.count, 1);
    assert_int_equal(set.empty, 1);
    assert_int_equal(set.refused, 1000000);
    assert_int_equal(set.fault, TAG_FAULT_TOO_MANY);
}

static void test_faults_are_named_and_the_first_stays(void **state)
{
    (void)state;
    char longest[LIMIT_TAG_BYTES + 1];
    memset(longest, 'x', sizeof longest);
    const struct {
        struct strview text;
        enum tag_fault fault;
    } rows[] = {
        {sv_of_bytes(longest, LIMIT_TAG_BYTES), TAG_FAULT_NONE},
        {sv_of_bytes(longest, LIMIT_TAG_BYTES + 1), TAG_FAULT_TOO_LONG},
        {SV_LIT("a\nb"), TAG_FAULT_CONTROL},
        {SV_LIT("a\tb"), TAG_FAULT_CONTROL},
        {SV_LIT("a\0b"), TAG_FAULT_CONTROL},
        {SV_LIT("a\x7f"), TAG_FAULT_CONTROL},
        {SV_LIT("a\xc2\x85"), TAG_FAULT_CONTROL},
        {SV_LIT("\xff"), TAG_FAULT_ENCODING},
        {SV_LIT("\xc0\xaf"), TAG_FAULT_ENCODING},
        {SV_LIT("\xed\xa0\x80"), TAG_FAULT_ENCODING},
        {SV_LIT("\xe2\x82"), TAG_FAULT_ENCODING},
        {SV_LIT("\xf0\x9f\x98\x80"), TAG_FAULT_NONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tag_set_init(&set);
        tag_set_add_item(&set, rows[i].text, TAG_ORIGIN_ROOT);
        assert_int_equal(set.fault, rows[i].fault);
        assert_int_equal(set.count, rows[i].fault == TAG_FAULT_NONE);
        assert_int_equal(set.refused, rows[i].fault != TAG_FAULT_NONE);
    }
    tag_set_init(&set);
    tag_set_add_list(&set, SV_LIT("a\x01,ok,\xff"), TAG_ORIGIN_HEADER);
    assert_int_equal(set.fault, TAG_FAULT_CONTROL);
    assert_int_equal(set.refused, 2);
    assert_string_equal(joined(), "ok");
}

static void test_key_ends_at_the_first_equals_else_colon(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *key, *value;
    } rows[] = {
        {"a=b", "a", "b"},         {"a=b=c", "a", "b=c"}, {"a:b", "a", "b"},
        {"a:b:c", "a", "b:c"},     {"a:b=c", "a:b", "c"}, {"a=b:c", "a", "b:c"},
        {"=b", "", "b"},           {"a=", "a", ""},       {":", "", ""},
        {"a", NULL, NULL},         {"", NULL, NULL},      {NULL, NULL, NULL},
        {" a = b ", " a ", " b "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct strview key;
        struct strview value;
        tag_split(sv_of(rows[i].raw), &key, &value);
        assert_true(sv_eq(key, sv_of(rows[i].key)));
        assert_true(sv_eq(value, sv_of(rows[i].value)));
    }
}

static void test_a_reserved_key_has_one_value_or_two(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        enum tag_value verdict;
        const char *value, *other;
    } rows[] = {
        {"", TAG_VALUE_NONE, NULL, NULL},
        {"task=1", TAG_VALUE_NONE, NULL, NULL},
        {"account_id", TAG_VALUE_NONE, NULL, NULL},
        {"account_id=", TAG_VALUE_NONE, NULL, NULL},
        {"Account_id=a", TAG_VALUE_NONE, NULL, NULL},
        {"account_id=a", TAG_VALUE_ONE, "a", NULL},
        {"account_id:a", TAG_VALUE_ONE, "a", NULL},
        {"account_id=a,account_id:a", TAG_VALUE_ONE, "a", NULL},
        {"account_id=,account_id=a", TAG_VALUE_ONE, "a", NULL},
        {"account_id=a,x,account_id=b", TAG_VALUE_TWO, "a", "b"},
        {"account_id=a,account_id=A", TAG_VALUE_TWO, "a", "A"},
        {"account_id=a,account_id=b,account_id=c", TAG_VALUE_TWO, "a", "b"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct strview value;
        struct strview other;
        tag_set_init(&set);
        tag_set_add_list(&set, sv_of(rows[i].list), TAG_ORIGIN_HEADER);
        assert_int_equal(tag_find_value(set.tags, set.count, SV_LIT("account_id"), &value, &other),
                         rows[i].verdict);
        assert_true(sv_eq(value, sv_of(rows[i].value)));
        assert_true(sv_eq(other, sv_of(rows[i].other)));
    }
}

static void test_a_call_takes_copies_and_is_told_of_a_refusal(void **state)
{
    (void)state;
    struct arena a;
    struct spend_call call = {.tag_count = 9};
    char text[] = "task=t1,odd";
    arena_init(&a, 4096);
    assert_true(tag_set_take(&set, &a, &call));
    assert_int_equal(call.tag_count, 0);
    assert_null(call.tags);
    assert_false(call.tags_truncated);
    tag_set_add_list(&set, sv_of(text), TAG_ORIGIN_HEADER);
    tag_set_add_item(&set, SV_LIT("\x01"), TAG_ORIGIN_ROOT);
    assert_true(tag_set_take(&set, &a, &call));
    memset(text, '?', sizeof text - 1);
    assert_int_equal(call.tag_count, 2);
    assert_true(sv_eq(call.tags[0].raw, SV_LIT("task=t1")));
    assert_true(sv_eq(call.tags[0].key, SV_LIT("task")));
    assert_true(sv_eq(call.tags[0].value, SV_LIT("t1")));
    assert_true(sv_is_null(call.tags[1].key));
    assert_int_equal(call.tags[1].origins, TAG_ORIGIN_HEADER);
    assert_true(call.tags_truncated);
    arena_free(&a);
    arena_init(&a, 8);
    assert_false(tag_set_take(&set, &a, &call));
    arena_free(&a);
}

#define CASE(t) cmocka_unit_test_setup(t, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_lists_split_on_commas_and_trim),
        CASE(test_two_header_lines_unite),
        CASE(test_items_are_taken_as_they_are),
        CASE(test_empty_items_are_dropped_and_counted),
        CASE(test_every_source_is_kept_and_the_same_bytes_stand_once),
        CASE(test_a_user_within_limits_is_a_tag),
        CASE(test_too_many_are_refused_and_the_first_are_kept),
        CASE(test_items_past_a_bound_are_only_counted),
        CASE(test_faults_are_named_and_the_first_stays),
        CASE(test_key_ends_at_the_first_equals_else_colon),
        CASE(test_a_reserved_key_has_one_value_or_two),
        CASE(test_a_call_takes_copies_and_is_told_of_a_refusal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
