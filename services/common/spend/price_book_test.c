/*
 * price_book: the whole LiteLLM price file against a second reader written here, and files that must be
 * refused whole.
 */
#include "spend/price_book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/money.h"

static char file_text[4 << 20];

static struct strview read_file(void)
{
    FILE *file = fopen(SPEND_TESTDATA "/litellm/model_prices.json", "r");
    assert_non_null(file);
    size_t len = fread(file_text, 1, sizeof file_text - 1, file);
    assert_int_equal(fclose(file), 0);
    assert_true(len > 1 << 20 && len < sizeof file_text - 1);
    file_text[len] = '\0';
    return sv_of_bytes(file_text, len);
}

static struct price_book *parse(struct strview json, struct price_import *report)
{
    struct price_book *book;
    struct err err = {0};
    if (!price_book_parse(&book, json, report, &err))
        fail_msg("%s", err.text);
    return book;
}

/* The second reader: digits, point and exponent of a number to femtos, half to even. *exact: nothing was
 * rounded. */
static int64_t femtos_of(const char *number, bool *exact)
{
    int128 digits = 0;
    int shift = 15;
    const char *p = number;
    for (bool point = false; (*p >= '0' && *p <= '9') || *p == '.'; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        digits = digits * 10 + (*p - '0');
        shift -= point;
    }
    if (*p == 'e' || *p == 'E')
        shift += (int)strtol(p + 1, NULL, 10);
    *exact = true;
    for (; shift > 0; shift--)
        digits *= 10;
    int128 divisor = 1;
    for (; shift < 0; shift++)
        divisor *= 10;
    int128 rest = digits % divisor;
    int128 whole = digits / divisor;
    *exact = rest == 0;
    if (rest * 2 > divisor || (rest * 2 == divisor && whole % 2 == 1))
        whole++;
    return (int64_t)whole;
}

/* Between the first quotation marks of a line. */
static struct strview quoted(char *line)
{
    char *begin = strchr(line, '"') + 1;
    return sv_of_bytes(begin, (size_t)(strchr(begin, '"') - begin));
}

static bool was_noted(const struct price_import_note *notes, size_t count, struct strview key,
                      struct strview name)
{
    for (size_t i = 0; i < count; i++) {
        if (sv_eq(notes[i].key, key) && sv_eq(notes[i].name, name))
            return true;
    }
    return false;
}

static size_t count_rates(const struct price_book *book, bool nested)
{
    size_t n = 0;
    for (size_t i = 0; i < book->entry_count; i++) {
        for (size_t k = 0; k < book->entries[i].rate_count; k++)
            n +=
                (sv_find(book->entries[i].rates[k].name, '.') < book->entries[i].rates[k].name.len) == nested;
    }
    return n;
}

/*
 * The file has one field a line: entries at 4 blanks, their fields at 8. Every price there must stand in the
 * book to the femto, and the book must hold no other.
 */
static void test_every_rate_of_the_real_file_is_exact(void **state)
{
    (void)state;
    struct price_import report;
    struct price_book *book = parse(read_file(), &report);
    const struct price_entry *entry = NULL;
    struct strview key = SV_NULL;
    size_t entries = 0;
    size_t rates = 0;
    size_t rounded = 0;
    char *save = NULL;
    for (char *line = strtok_r(file_text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        size_t indent = strspn(line, " ");
        if (indent == 4 && line[4] == '"') {
            key = quoted(line);
            entry = price_book_find(book, key);
            bool sample = sv_eq(key, SV_LIT("sample_spec"));
            assert_int_equal(entry == NULL, sample);
            entries += !sample;
        }
        if (indent != 8 || entry == NULL || strstr(line, "cost") == NULL ||
            strpbrk(strchr(line, ':'), "{[") != NULL)
            continue;
        struct strview name = quoted(line);
        if (memmem(name.ptr, name.len, "cost", 4) == NULL)
            continue;
        bool exact;
        int64_t femtos;
        int64_t expected = femtos_of(name.ptr + name.len + 3, &exact);
        assert_true(price_entry_rate(entry, name, &femtos));
        assert_int_equal(femtos, expected);
        assert_int_equal(was_noted(report.rounded, report.rounded_count, key, name), !exact);
        rates++;
        rounded += !exact;
    }
    assert_int_equal(entries, book->entry_count);
    assert_int_equal(entries, 2689);
    assert_int_equal(rates, count_rates(book, false));
    assert_int_equal(rounded, report.rounded_count);
    print_message("%zu entries, %zu prices and %zu nested ones, %zu rounded, %zu skipped\n", entries, rates,
                  count_rates(book, true), rounded, report.skipped_count);
    price_book_free(book);
}

static void test_the_real_file_keeps_what_a_price_needs(void **state)
{
    (void)state;
    struct price_import report;
    struct strview json = read_file();
    char hex[SHA256_HEX_LEN + 1];
    struct price_book *book = parse(json, &report);
    sha256_hex_of(json, hex);
    assert_true(sv_eq(book->sha256, sv_of(hex)));
    const struct price_entry *e = price_book_find(book, SV_LIT("gpt-4o"));
    int64_t femtos;
    assert_non_null(e);
    assert_true(sv_eq(e->provider, SV_LIT("openai")) && sv_eq(e->mode, SV_LIT("chat")));
    assert_true(price_entry_rate(e, SV_LIT("input_cost_per_token"), &femtos));
    assert_int_equal(femtos, 2500000000);
    e = price_book_find(book, SV_LIT("dashscope/qwen3-max"));
    assert_true(price_entry_rate(e, SV_LIT("tiered_pricing.from_32000.input_cost_per_token"), &femtos));
    assert_int_equal(femtos, 2400000000);
    assert_false(price_entry_rate(e, SV_LIT("tiered_pricing.from_32000.range.1"), &femtos));
    assert_true(was_noted(report.skipped, report.skipped_count, SV_LIT("github_copilot/gpt-4.1"), SV_NULL));
    assert_non_null(price_book_find(book, SV_LIT("github_copilot/gpt-4.1"))); /* without price, but there */
    price_book_free(book);
}

static void assert_refused(const char *json, const char *why)
{
    struct price_book *book;
    struct price_import report;
    struct err err = {0};
    if (price_book_parse(&book, sv_of(json), &report, &err))
        fail_msg("accepted: %s", json);
    assert_null(book);
    assert_int_equal(report.rounded_count + report.skipped_count, 0);
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    if (strstr(err.text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
    assert_false(price_book_parse(&book, sv_of(json), &report, NULL));
}

static void test_wrong_files_are_refused_whole(void **state)
{
    (void)state;
    assert_refused("", "price file");
    assert_refused("[]", "not a JSON object");
    assert_refused("{\"a\": {\"x_cost\": 1}", "price file");
    assert_refused("{\"a\": {\"x_cost\": 1}} x", "price file");
    assert_refused("{\"a\": {\"x_cost\": 1e}}", "price file");
    assert_refused("{\"a\": {\"x_cost\": -1}}", "below zero");
    assert_refused("{\"ok\": {\"x_cost\": 1}, \"a\": {\"x_cost\": -1e-20}}", "below zero");
    assert_refused("{\"a\": {\"tiered_pricing\": [{\"x_cost\": 1}, {\"x_cost\": -1}]}}",
                   "tiered_pricing.1.x_cost");
    assert_refused("{\"a\": {\"x_cost\": 1}, \"a\": {\"x_cost\": 1}}", "twice");
    assert_refused("{\"a\": {\"x_cost\": 1}, \"\\u0061\": {\"x_cost\": 1}}", "twice");
    assert_refused("{\"a\": {\"x_cost\": 1, \"x_cost\": 2}}", "twice");
    assert_refused("{\"a\": {\"x_cost\": true}}", "not a number");
    assert_refused("{\"a\": {\"x_cost\": \"free\"}}", "x_cost");
    assert_refused("{\"a\": {\"x_cost\": 10000}}", "x_cost"); /* over int64 femtos */
    assert_refused("{\"a\\u0000\": {\"x_cost\": 1}}", "cannot be read");
    assert_refused("{\"a\": {\"x\\u0000cost\": 1}}", "cannot be read");
    assert_refused("{\"a\": {\"x_cost\": {\"b\": 1}", "price file");
    assert_refused("{\"a\": {\"b\": [1,}}", "price file");
    assert_refused("{\"a\": 1, \"b\": [", "price file");
    assert_refused("{\"a\": {\"c_cost\": [[[[[[[[[[1]]]]]]]]]]}}", "too deep");
}

static void test_a_name_too_long_for_its_place_is_refused(void **state)
{
    (void)state;
    char json[600];
    char name[300];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    (void)snprintf(json, sizeof json, "{\"a\": {\"%s_cost\": 1}}", name);
    assert_refused(json, "too long");
}

static void test_what_is_a_price_and_what_is_not(void **state)
{
    (void)state;
    static const char json[] =
        "{"
        "\"sample_spec\": {\"x_cost\": -1},"
        "\"note\": \"text\","
        "\"a\": {\"max_tokens\": 5, \"x_cost\": \"1e-06\", \"y_cost\": null, \"supports\": [1, {\"z_cost\": "
        "2}],"
        "  \"rate_pricing\": {\"unit\": \"page\", \"n\": 3, \"p_cost\": 4},"
        "  \"deep_cost\": {\"b\": [1, {\"c\": 0}]}, \"mode\": \"chat\", \"litellm_provider\": 7},"
        "\"b\": {\"half_cost\": 5e-16, \"more_cost\": 1.5e-15, \"tiny_cost\": 2e-16}"
        "}";
    struct price_import report;
    struct price_book *book = parse(SV_LIT(json), &report);
    const struct {
        const char *key, *name;
        int64_t femtos;
    } rates[] = {
        {"a", "deep_cost.b.0", 1000000000000000},
        {"a", "deep_cost.b.1.c", 0},
        {"a", "rate_pricing.p_cost", 4000000000000000},
        {"a", "x_cost", 1000000000},
        {"b", "half_cost", 0},
        {"b", "more_cost", 2},
        {"b", "tiny_cost", 0},
    };
    assert_int_equal(book->entry_count, 2);
    assert_int_equal(count_rates(book, false) + count_rates(book, true), 7);
    for (size_t i = 0; i < 7; i++) {
        const struct price_entry *e = price_book_find(book, sv_of(rates[i].key));
        int64_t femtos = -1;
        assert_true(price_entry_rate(e, sv_of(rates[i].name), &femtos));
        assert_int_equal(femtos, rates[i].femtos);
    }
    assert_true(sv_is_null(book->entries[0].provider) && sv_eq(book->entries[0].mode, SV_LIT("chat")));
    assert_int_equal(report.rounded_count, 3);
    assert_int_equal(report.skipped_count, 1);
    assert_true(was_noted(report.skipped, 1, SV_LIT("note"), SV_NULL));
    assert_null(price_book_find(book, SV_LIT("sample_spec")));
    price_book_free(book);
}

static void test_an_empty_file_is_an_empty_book(void **state)
{
    (void)state;
    struct price_import report;
    struct price_book *book = parse(SV_LIT(" {} "), &report);
    int64_t femtos;
    assert_int_equal(book->entry_count, 0);
    assert_null(price_book_find(book, SV_LIT("a")));
    price_book_free(book);
    book = parse(SV_LIT("{\"a\": {}}"), &report);
    assert_int_equal(report.skipped_count, 1);
    assert_false(price_entry_rate(price_book_find(book, SV_LIT("a")), SV_LIT("x_cost"), &femtos));
    price_book_free(book);
    price_book_free(NULL);
}

/* Cut anywhere, the real file's beginning is refused and leaks nothing (asan). */
static void test_a_file_cut_at_any_byte_is_refused(void **state)
{
    (void)state;
    static const char json[] =
        "{\"s\": \"t\", \"a\": {\"mode\": \"chat\", \"x_cost\": 1.5e-06, \"b\\u00e9\": [1, {\"c\": null}], "
        "\"tiered_pricing\": [{\"range\": [0, 1], \"x_cost\": 2}]}}";
    for (size_t len = 0; len < sizeof json - 1; len++) {
        struct price_book *book;
        struct price_import report;
        struct err err;
        assert_false(price_book_parse(&book, sv_of_bytes(json, len), &report, &err));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rate_of_the_real_file_is_exact),
        cmocka_unit_test(test_the_real_file_keeps_what_a_price_needs),
        cmocka_unit_test(test_wrong_files_are_refused_whole),
        cmocka_unit_test(test_a_name_too_long_for_its_place_is_refused),
        cmocka_unit_test(test_what_is_a_price_and_what_is_not),
        cmocka_unit_test(test_an_empty_file_is_an_empty_book),
        cmocka_unit_test(test_a_file_cut_at_any_byte_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
