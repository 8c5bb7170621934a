/*
 * price_diff: counts, and what is told one by one.
 */
#include "spend/price_diff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct price_book *parse(const char *json)
{
    struct price_import report;
    struct price_book *book = NULL;
    struct err err = {0};
    if (!price_book_parse(&book, sv_of(json), &report, &err))
        fail_msg("%s", err.text);
    return book;
}

/* told: "key.name from>to;", an entry as "key+;" or "key-;". */
static void assert_diff(const char *from, const char *to, size_t added, size_t changed, size_t removed,
                        const char *told)
{
    struct price_book *a = from == NULL ? NULL : parse(from);
    struct price_book *b = parse(to);
    struct price_diff diff;
    struct arena memory;
    char text[1024] = "";
    size_t at = 0;
    arena_init(&memory, 1 << 20);
    assert_true(price_diff_make(a, b, &memory, &diff));
    price_book_free(a);
    price_book_free(b);
    assert_int_equal(diff.added, added);
    assert_int_equal(diff.changed, changed);
    assert_int_equal(diff.removed, removed);
    assert_int_equal(diff.left_out, 0);
    for (size_t i = 0; i < diff.change_count; i++) {
        const struct price_change *c = &diff.changes[i];
        if (sv_is_null(c->name))
            at += (size_t)snprintf(text + at, sizeof text - at, SV_FMT "%s;", SV_ARG(c->key),
                                   c->is_new ? "+" : "-");
        else
            at += (size_t)snprintf(text + at, sizeof text - at, SV_FMT "." SV_FMT " %lld>%lld;",
                                   SV_ARG(c->key), SV_ARG(c->name), c->from.has ? (long long)c->from.v : -1,
                                   c->to.has ? (long long)c->to.v : -1);
    }
    assert_string_equal(text, told);
    arena_free(&memory);
}

static void test_entries_are_counted_and_prices_told(void **state)
{
    (void)state;
    static const char one[] = "{\"b\": {\"x_cost\": 1e-15}, \"d\": {\"x_cost\": 1e-15, \"y_cost\": 2e-15}}";
    assert_diff(NULL, one, 2, 0, 0, "b+;d+;");
    assert_diff(one, "{}", 0, 0, 2, "b-;d-;");
    assert_diff("{}", one, 2, 0, 0, "b+;d+;");
    assert_diff(one, one, 0, 0, 0, "");
    assert_diff(one, "{\"a\": {}, \"b\": {\"x_cost\": 1e-15}, \"c\": {}, \"e\": {}}", 3, 0, 1,
                "a+;c+;d-;e+;");
    assert_diff(one, "{\"b\": {\"x_cost\": 2e-15}, \"d\": {\"x_cost\": 1e-15, \"z_cost\": 2e-15}}", 0, 2, 0,
                "b.x_cost 1>2;d.y_cost 2>-1;d.z_cost -1>2;");
    assert_diff(one, "{\"b\": {\"x_cost\": 1e-15, \"y_cost\": 0}, \"d\": {\"x_cost\": 1e-15}}", 0, 2, 0,
                "b.y_cost -1>0;d.y_cost 2>-1;");
    assert_diff(one,
                "{\"b\": {\"x_cost\": 1e-15, \"max_tokens\": 9}, \"d\": {\"y_cost\": 2e-15, \"x_cost\": "
                "1.0e-15}}",
                0, 0, 0, "");
}

static void test_what_is_too_much_to_tell_is_counted(void **state)
{
    (void)state;
    static char json[64 << 10] = "{";
    size_t at = 1;
    struct price_diff diff;
    struct arena memory;
    arena_init(&memory, 1 << 20);
    for (int i = 0; i < PRICE_CHANGES_MAX + 5; i++)
        at += (size_t)snprintf(json + at, sizeof json - at, "%s\"%04d\": {\"x_cost\": 1}", i > 0 ? ", " : "",
                               i);
    (void)snprintf(json + at, sizeof json - at, "}");
    struct price_book *book = parse(json);
    assert_true(price_diff_make(NULL, book, &memory, &diff));
    assert_int_equal(diff.added, PRICE_CHANGES_MAX + 5);
    assert_int_equal(diff.change_count, PRICE_CHANGES_MAX);
    assert_int_equal(diff.left_out, 5);
    arena_free(&memory);
    arena_init(&memory, 1 << 10);
    assert_false(price_diff_make(NULL, book, &memory, &diff));
    arena_free(&memory);
    price_book_free(book);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_are_counted_and_prices_told),
        cmocka_unit_test(test_what_is_too_much_to_tell_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
