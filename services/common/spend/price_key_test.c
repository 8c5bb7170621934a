/*
 * price_key: the order of the look-up, as a table over a small book.
 */
#include "spend/price_key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char small_book[] =
    "{\"m\": {}, \"plain\": {}, \"openai/m\": {}, \"subs/m\": {}, \"bedrock/b\": {},"
    "\"vertex_ai/g\": {}, \"together-ai-up-to-4b\": {}, \"together-ai-41.1b-80b\": {},"
    "\"together-ai-embedding-up-to-150m\": {}, \"together_ai/llama-405b\": {}}";

static int set_up(void **state)
{
    struct price_book *book = NULL;
    struct price_import report;
    struct err err = {0};
    if (!price_book_parse(&book, SV_LIT(small_book), &report, &err))
        fail_msg("%s", err.text);
    *state = book;
    return 0;
}

static int tear_down(void **state)
{
    price_book_free(*state);
    return 0;
}

static void test_look_up_order(void **state)
{
    static const struct {
        const char *provider;
        const char *model;
        const char *key; /* NULL: none */
    } rows[] = {
        {NULL, "m", "m"},
        {"openai", "m", "openai/m"},
        {"other", "m", "m"},
        {NULL, "openai/m", "openai/m"},
        {NULL, "azure/m", "m"},
        {NULL, "a/openai/m", "openai/m"},
        {NULL, "a/b/m", NULL},
        {"bedrock_converse", "b", "bedrock/b"},
        {"vertex_ai-language-models", "g", "vertex_ai/g"},
        {NULL, "g", NULL},
        {NULL, "M", NULL},
        {NULL, "", NULL},
        {NULL, NULL, NULL},
        {NULL, "m/", NULL},
        {"subs", "m", "subs/m"}, /* it has no price: the other m's is not its */
        {"together_ai", "x/gemma-2b-it", "together-ai-up-to-4b"},
        {"together_ai", "m-70B-chat", "together-ai-41.1b-80b"},
        {"together_ai", "llama-405b", "together_ai/llama-405b"},
        {"together_ai", "v3-70b", "together-ai-41.1b-80b"},
        {"together_ai", "plain", "plain"},
        {"together_ai", "x-8b", NULL}, /* no such size in this book, no such model either */
        {NULL, "m-70b-chat", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct price_entry *e =
            price_key_find(*state, OPERATION_CHAT, sv_of(rows[i].provider), sv_of(rows[i].model));
        if ((e == NULL) != (rows[i].key == NULL) || (e != NULL && !sv_eq(e->key, sv_of(rows[i].key))))
            fail_msg("row %zu: got " SV_FMT, i, e == NULL ? 4 : (int)e->key.len,
                     e == NULL ? "none" : e->key.ptr);
    }
    const struct price_entry *embedding =
        price_key_find(*state, OPERATION_EMBEDDINGS, SV_LIT("together_ai"), SV_LIT("bert-80M-2b"));
    assert_true(sv_eq(embedding->key, SV_LIT("together-ai-embedding-up-to-150m")));
}

static void test_names_of_any_length_are_looked_up(void **state)
{
    char long_text[2000];
    memset(long_text, 'x', sizeof long_text);
    struct strview v = sv_of_bytes(long_text, sizeof long_text);
    assert_null(price_key_find(*state, OPERATION_CHAT, v, SV_LIT("none")));
    assert_null(price_key_find(*state, OPERATION_CHAT, SV_LIT("openai"), v));
}

static void test_pixels_of_a_key(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int64_t pixels;
    } rows[] = {
        {"1024-x-1024/dall-e-2", 1048576},
        {"azure/hd/1024-x-1792/dall-e-3", 1835008},
        {"dall-e-3", 0},
        {"0-x-5/a", 0},
        {"-5-x-5/a", 0},
        {"5-x-/a", 0},
        {"-x-5/a", 0},
        {"40000-x-40000/a", 0},
        {"a-x-b/5-x-6", 30},
        {"", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(price_key_pixels(sv_of(rows[i].key)), rows[i].pixels);
}

static void test_a_model_that_is_priced_by_size_elsewhere(void **state)
{
    (void)state;
    static const char json[] = "{\"d\": {}, \"hd/5-x-6/d\": {}, \"e\": {}, \"hd/e\": {}, \"5-x-6/xe\": {}}";
    struct price_book *book = NULL;
    struct price_import report;
    struct err err = {0};
    assert_true(price_book_parse(&book, SV_LIT(json), &report, &err));
    assert_true(price_key_has_sizes(book, SV_LIT("d")));
    assert_false(price_key_has_sizes(book, SV_LIT("hd/5-x-6/d")));
    assert_false(price_key_has_sizes(book, SV_LIT("e")));
    price_book_free(book);
}

static void test_a_variant_is_named_as_keys_name_it(void **state)
{
    (void)state;
    static const struct {
        const char *quality, *size, *variant;
    } rows[] = {
        {NULL, NULL, "standard/1024-x-1024"},
        {"", "", "standard/1024-x-1024"},
        {"hd", "1024x1792", "hd/1024-x-1792"},
        {"hd", "1024-x-1792", "hd/1024-x-1792"},
        {"low", "auto", "low/auto"},
        {"a/b", "1x1", NULL},
        {"hd", "1 x 1", NULL},
        {"hd", "012345678901234567890123456789012", NULL},
    };
    struct arena a;
    arena_init(&a, 4096);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_true(sv_eq(price_key_variant(sv_of(rows[i].quality), sv_of(rows[i].size), &a),
                          sv_of(rows[i].variant)));
    arena_free(&a);
}

static void test_an_image_is_found_in_litellms_order(void **state)
{
    (void)state;
    static const char json[] =
        "{\"m\": {}, \"q/p/5-x-6/m\": {}, \"p/5-x-6/m\": {}, \"q/5-x-6/m\": {}, \"5-x-6/m\": {}, "
        "\"7-x-7/n\": {}, \"q/8-x-8/a/o\": {}}";
    static const struct {
        const char *provider, *model, *variant, *key;
    } rows[] = {
        {"p", "p/m", "q/5-x-6", "q/p/5-x-6/m"},
        {"p", "p/m", "z/5-x-6", "p/5-x-6/m"},
        {"p", "m", "q/5-x-6", "q/5-x-6/m"},
        {NULL, "m", "z/5-x-6", "5-x-6/m"},
        {"x", "p/m", "q/5-x-6", "q/5-x-6/m"},
        {NULL, "y/n", "q/7-x-7", "7-x-7/n"},
        {NULL, "a/o", "q/8-x-8", "q/8-x-8/a/o"},
        {NULL, "m", "q/9-x-9", NULL},
        {NULL, "", "q/5-x-6", NULL},
        {NULL, "m", "q", NULL},
        {NULL, "m", "/5-x-6", NULL},
        {NULL, "m", "q/", NULL},
    };
    struct price_book *book = NULL;
    struct price_import report;
    struct err err = {0};
    assert_true(price_book_parse(&book, SV_LIT(json), &report, &err));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spend_call call = {.provider = sv_of(rows[i].provider), .variant = sv_of(rows[i].variant)};
        assert_null(price_key_find_image(book, &call, sv_of(rows[i].model)));
        call.usage.units[USAGE_IMAGES] = OPT_I64(1);
        const struct price_entry *found = price_key_find_image(book, &call, sv_of(rows[i].model));
        assert_true(sv_eq(found == NULL ? SV_NULL : found->key, sv_of(rows[i].key)));
    }
    price_book_free(book);
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_look_up_order),
        CASE(test_names_of_any_length_are_looked_up),
        cmocka_unit_test(test_pixels_of_a_key),
        cmocka_unit_test(test_a_model_that_is_priced_by_size_elsewhere),
        cmocka_unit_test(test_a_variant_is_named_as_keys_name_it),
        cmocka_unit_test(test_an_image_is_found_in_litellms_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
