#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "spend/avro_map.h"

#define ROOM (256 << 10)
#define TEXT_OF(s)                                                                                           \
    {                                                                                                        \
        (s), sizeof(s) - 1                                                                                   \
    } /* SV_LIT is no constant initializer */

static const struct avro_map *const instance_map = &avro_maps[AVRO_INSTANCE];

static struct instance sample(void)
{
    return (struct instance){
        .instance = SV_LIT("ab"), .boot = 1, .next_seq = -1, .oldest_open_seq = 64, .closed = true, .at = 0};
}

static void assert_written(const struct instance *v, const char *bytes, size_t len)
{
    struct err err;
    struct buffer out;
    buffer_init(&out, ROOM);
    assert_true(avro_map_write(instance_map, v, &out, &err));
    assert_int_equal(out.len, len);
    assert_memory_equal(out.data, bytes, len);
    buffer_free(&out);
}

static void test_numbers_are_zigzag_varints_and_texts_have_their_length_first(void **state)
{
    (void)state;
    const struct instance v = sample();
    assert_written(&v,
                   "\x04"
                   "ab"
                   "\x02\x01\x80\x01\x02\x00",
                   9);
}

static void test_extreme_numbers_take_ten_bytes(void **state)
{
    (void)state;
    struct instance v = sample();
    v.instance = sv_of("");
    v.next_seq = INT64_MAX;
    v.oldest_open_seq = INT64_MIN;
    v.closed = false;
    assert_written(
        &v,
        "\x00\x02\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00",
        24);
}

static void test_bytes_that_are_no_utf8_become_replacement_characters(void **state)
{
    (void)state;
    static const struct {
        struct strview in;
        const char *out;
    } rows[] = {
        {TEXT_OF("caf\xe9"), "caf\xEF\xBF\xBD"},
        {TEXT_OF("\xff"), "\xEF\xBF\xBD"},
        {TEXT_OF("a\0b"), "a\xEF\xBF\xBD"
                          "b"},
        {TEXT_OF("\xe2\x82"), "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {TEXT_OF("\xed\xa0\x80x"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDx"},
        {TEXT_OF("\xe2\x82\xac"), "\xe2\x82\xac"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct buffer out;
        struct instance v = sample();
        buffer_init(&out, ROOM);
        v.instance = rows[i].in;
        assert_true(avro_map_write(instance_map, &v, &out, &err));
        size_t len = strlen(rows[i].out);
        assert_int_equal(out.data[0], 2 * len);
        assert_memory_equal(out.data + 1, rows[i].out, len);
        buffer_free(&out);
    }
}

static void assert_refused(enum avro_record record, const void *value, enum err_code code, const char *word)
{
    struct err err;
    struct buffer out;
    buffer_init(&out, ROOM);
    assert_false(avro_map_write(&avro_maps[record], value, &out, &err));
    assert_int_equal(err.code, code);
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    if (strstr(err.text, word) == NULL)
        fail_msg("'%s' does not speak of %s", err.text, word);
    buffer_free(&out);
}

static void test_a_required_text_without_value_is_refused_by_name(void **state)
{
    (void)state;
    struct instance v = sample();
    v.instance = SV_NULL;
    assert_refused(AVRO_INSTANCE, &v, ERR_INVALID, "instance");
}

static struct spend_call call_sample(void)
{
    return (struct spend_call){.path = SV_LIT("/"), .upstream = SV_LIT("u")};
}

static void test_an_enum_out_of_range_is_refused(void **state)
{
    (void)state;
    struct spend_call v = call_sample();
    v.outcome = OUTCOME_COUNT;
    assert_refused(AVRO_SPEND_CALL, &v, ERR_INVALID, "outcome");
    v = call_sample();
    v.operation = OPERATION_COUNT;
    assert_refused(AVRO_SPEND_CALL, &v, ERR_INVALID, "operation");
}

static void test_a_number_over_32_bits_is_refused_where_the_schema_has_an_int(void **state)
{
    (void)state;
    struct spend_call v = call_sample();
    v.upstream_status = OPT_I64((int64_t)INT32_MAX + 1);
    assert_refused(AVRO_SPEND_CALL, &v, ERR_INVALID, "upstream_status");
    v.upstream_status = OPT_I64((int64_t)INT32_MIN - 1);
    assert_refused(AVRO_SPEND_CALL, &v, ERR_INVALID, "upstream_status");
}

static void test_too_many_tags_and_unknown_origins_are_refused(void **state)
{
    (void)state;
    static struct tag tags[(size_t)2 * LIMIT_TAGS + 1];
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
        tags[i] = (struct tag){.raw = SV_LIT("t"), .origins = TAG_ORIGIN_HEADER};
    struct spend_call v = call_sample();
    v.tags = tags;
    v.tag_count = sizeof tags / sizeof tags[0];
    assert_refused(AVRO_SPEND_CALL, &v, ERR_INVALID, "tags");
    v.tag_count = 1;
    tags[0].origins = 1U << TAG_ORIGIN_COUNT;
    assert_refused(AVRO_SPEND_CALL, &v, ERR_INVALID, "origins");
}

static void test_every_cap_short_of_the_record_is_answered_with_full(void **state)
{
    (void)state;
    struct tag tag = {
        .raw = SV_LIT("k=v\xff"), .key = SV_LIT("k"), .value = SV_LIT("v"), .origins = TAG_ORIGIN_USER};
    struct spend_call v = call_sample();
    v.tags = &tag;
    v.tag_count = 1;
    v.boot = OPT_I64(INT64_MIN);
    struct err err;
    struct buffer whole;
    buffer_init(&whole, ROOM);
    assert_true(avro_map_write(&avro_maps[AVRO_SPEND_CALL], &v, &whole, &err));
    for (size_t cap = 0; cap <= whole.len; cap++) {
        struct buffer out;
        buffer_init(&out, cap);
        assert_int_equal(avro_map_write(&avro_maps[AVRO_SPEND_CALL], &v, &out, &err), cap == whole.len);
        if (cap < whole.len)
            assert_int_equal(err.code, ERR_FULL);
        buffer_free(&out);
    }
    buffer_free(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_zigzag_varints_and_texts_have_their_length_first),
        cmocka_unit_test(test_extreme_numbers_take_ten_bytes),
        cmocka_unit_test(test_bytes_that_are_no_utf8_become_replacement_characters),
        cmocka_unit_test(test_a_required_text_without_value_is_refused_by_name),
        cmocka_unit_test(test_an_enum_out_of_range_is_refused),
        cmocka_unit_test(test_a_number_over_32_bits_is_refused_where_the_schema_has_an_int),
        cmocka_unit_test(test_too_many_tags_and_unknown_origins_are_refused),
        cmocka_unit_test(test_every_cap_short_of_the_record_is_answered_with_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
