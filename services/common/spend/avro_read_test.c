#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "spend/avro_map.h"

#define ARENA_CAP (1 << 20)
#define TEN_FF    "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" /* INT64_MIN */

/* Exactly these bytes on the heap, so that the sanitizer sees one too many being read. */
static bool read_exact(enum avro_record record, struct strview body, struct arena *a, void *out,
                       struct err *err)
{
    char *copy = malloc(body.len == 0 ? 1 : body.len);
    assert_non_null(copy);
    memcpy(copy, body.ptr, body.len);
    bool ok =
        avro_map_read(&avro_maps[record], AVRO_GENERATION, (struct strview){copy, body.len}, a, out, err);
    free(copy);
    return ok;
}

static void assert_malformed(enum avro_record record, void *out, struct strview body, const char *word)
{
    struct err err;
    struct arena a;
    arena_init(&a, ARENA_CAP);
    assert_false(read_exact(record, body, &a, out, &err));
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    if (strstr(err.text, word) == NULL)
        fail_msg("'%s' does not speak of %s", err.text, word);
    arena_free(&a);
}

static void refused_instance(struct strview body, const char *word)
{
    struct instance v;
    assert_malformed(AVRO_INSTANCE, &v, body, word);
}

static void test_a_good_body_is_read(void **state)
{
    (void)state;
    struct err err;
    struct arena a;
    struct instance v;
    arena_init(&a, ARENA_CAP);
    const struct strview body = SV_LIT("\x04"
                                       "ab"
                                       "\x02\x01\x80\x01\x02\x00");
    assert_true(avro_map_read(&avro_maps[AVRO_INSTANCE], AVRO_GENERATION, body, &a, &v, &err));
    assert_true(sv_eq(v.instance, sv_of("ab")));
    assert_int_equal(v.boot, 1);
    assert_int_equal(v.next_seq, -1);
    assert_int_equal(v.oldest_open_seq, 64);
    assert_true(v.closed);
    arena_free(&a);
}

static void test_lengths_that_are_negative_or_past_the_end_are_refused(void **state)
{
    (void)state;
    refused_instance(SV_LIT("\x01"), "instance: a length"); /* -1: avro-c writes before its buffer */
    refused_instance(SV_LIT("\x03"), "instance: a length"); /* -2 */
    refused_instance(SV_LIT(TEN_FF), "instance: a length"); /* INT64_MIN */
    refused_instance(SV_LIT("\xfe\xff\xff\xff\x0f"), "instance: a length"); /* 2 GiB */
    refused_instance(SV_LIT("\x06"
                            "ab"),
                     "instance: a length");
}

static void test_numbers_that_never_end_or_overflow_are_refused(void **state)
{
    (void)state;
    refused_instance(SV_LIT(""), "inside a number");
    refused_instance(SV_LIT("\x80\x80"), "inside a number");
    refused_instance(SV_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), "over 64 bits");
    refused_instance(SV_LIT("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), "over 64 bits");
}

static void test_enums_texts_and_leftovers_are_checked(void **state)
{
    (void)state;
    refused_instance(SV_LIT("\x00\x00\x00\x00\x04\x00"), "state: a number without a word");
    refused_instance(SV_LIT("\x00\x00\x00\x00\x01\x00"), "state: a number without a word");
    refused_instance(SV_LIT("\x00\x00\x00\x00\x00\x00\x00"), "left over");
    refused_instance(SV_LIT("\x02\xff\x00\x00\x00\x00\x00"), "instance: a text");
    refused_instance(SV_LIT("\x02\x00\x00\x00\x00\x00\x00"), "instance: a text");         /* a NUL */
    refused_instance(SV_LIT("\x06\xed\xa0\x80\x00\x00\x00\x00\x00"), "instance: a text"); /* a surrogate */
}

/* kind "tier", id "t", then what is given, then watermark and price_version null. */
static void refused_registry(const char *versions, size_t len, const char *word)
{
    struct registry_record v;
    char body[200] = "\x08tier\x02t";
    size_t at = 7;
    memcpy(body + at, versions, len);
    memset(body + at + len, 0, 2);
    assert_malformed(AVRO_REGISTRY_RECORD, &v, (struct strview){body, at + len + 2}, word);
}

#define VERSION                                                                                              \
    "\x02\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00" /* from 1, recorded 2, nothing else, no tags              \
                                                    */
#define VERSION_LEN 11

static void test_array_blocks_are_counted_before_they_are_believed(void **state)
{
    (void)state;
    refused_registry("\xfe\xff\xff\xff\x0f", 5, "versions: a count past the end");
    refused_registry(TEN_FF, 10, "versions: a count");
    refused_registry("\x01\x01", 2, "versions: a block size");         /* one item in -1 bytes */
    refused_registry("\x01\xfe\xff\x03", 4, "versions: a block size"); /* one item in 32767 bytes */
    refused_registry("\x01\x04" VERSION "\x00", 2 + VERSION_LEN + 1, "versions: a block of another size");
    refused_registry("\x01\x18" VERSION "\x00", 2 + VERSION_LEN + 1, "versions: a block of another size");
    refused_registry("\x02" VERSION, 1 + VERSION_LEN,
                     "price_version: the bytes end"); /* no end: a null after it ends it */
}

static void test_blocks_of_one_with_sizes_are_read_like_one_block(void **state)
{
    (void)state;
    struct err err;
    struct arena a;
    struct registry_record v;
    arena_init(&a, ARENA_CAP);
    const struct strview body = SV_LIT("\x08tier\x02t"
                                       "\x01\x16" VERSION "\x02" VERSION "\x01\x16" VERSION "\x00"
                                       "\x02\x0a\x00");
    if (!read_exact(AVRO_REGISTRY_RECORD, body, &a, &v, &err))
        fail_msg("%s", err.text);
    assert_int_equal(v.kind, REGISTRY_TIER);
    assert_int_equal(v.version_count, 3);
    assert_int_equal(v.versions[2].effective_from, 1);
    assert_int_equal(v.versions[2].recorded_at, 2);
    assert_true(v.watermark.has && v.watermark.v == 5);
    assert_false(v.price_version.has);
    arena_free(&a);
}

static void test_more_versions_than_the_limit_are_refused(void **state)
{
    (void)state;
    struct registry_record v;
    char body[2000] = "\x08tier\x02t";
    size_t len = 7;
    for (int i = 0; i <= LIMIT_REGISTRY_VERSIONS; i++) {
        memcpy(body + len, "\x02" VERSION, 1 + VERSION_LEN);
        len += 1 + VERSION_LEN;
    }
    memset(body + len, 0, 3);
    assert_malformed(AVRO_REGISTRY_RECORD, &v, (struct strview){body, len + 3}, "versions: more items");
    len -= 1 + VERSION_LEN; /* one less */
    memset(body + len, 0, 3);
    struct err err;
    struct arena a;
    arena_init(&a, ARENA_CAP);
    assert_true(read_exact(AVRO_REGISTRY_RECORD, (struct strview){body, len + 3}, &a, &v, &err));
    assert_int_equal(v.version_count, LIMIT_REGISTRY_VERSIONS);
    arena_free(&a);
}

static void test_an_arena_that_is_too_small_is_answered(void **state)
{
    (void)state;
    struct err err;
    struct arena a;
    struct registry_record v;
    arena_init(&a, 16);
    const struct strview body = SV_LIT("\x08tier\x02t"
                                       "\x02" VERSION "\x00"
                                       "\x00\x00");
    assert_false(read_exact(AVRO_REGISTRY_RECORD, body, &a, &v, &err));
    assert_int_equal(err.code, ERR_FULL);
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    arena_free(&a);
}

static void test_words_branches_and_booleans_are_checked(void **state)
{
    (void)state;
    struct registry_record v;
    assert_malformed(AVRO_REGISTRY_RECORD, &v, SV_LIT("\x06tie\x02t\x00\x00\x00"), "kind: an unknown word");
    assert_malformed(AVRO_REGISTRY_RECORD, &v, SV_LIT("\x08tier\x02t\x00\x04\x00"),
                     "watermark: a union branch");
    assert_malformed(AVRO_REGISTRY_RECORD, &v, SV_LIT("\x08tier\x02t\x00\x01\x00"),
                     "watermark: a union branch");
    struct dead_letter d;
    /* call, "r", "d", no id, no bytes, ("t", 0, 0), 0, 0, no call, no hash, no raw, estimated = 2 */
    assert_malformed(AVRO_DEAD_LETTER, &d,
                     SV_LIT("\x00\x02r\x02"
                            "d\x00\x00\x02t\x00\x00\x00\x00\x00\x00\x00\x02"),
                     "estimated: neither");
    /* attempts = 2^31 */
    assert_malformed(AVRO_DEAD_LETTER, &d,
                     SV_LIT("\x00\x02r\x02"
                            "d\x00\x00\x02t\x00\x00\x00\x80\x80\x80\x80\x10"),
                     "attempts: does not fit");
    /* a call id of four bytes */
    assert_malformed(AVRO_DEAD_LETTER, &d,
                     SV_LIT("\x00\x02r\x02"
                            "d\x02"
                            "four"),
                     "call_id: the bytes end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_body_is_read),
        cmocka_unit_test(test_lengths_that_are_negative_or_past_the_end_are_refused),
        cmocka_unit_test(test_numbers_that_never_end_or_overflow_are_refused),
        cmocka_unit_test(test_enums_texts_and_leftovers_are_checked),
        cmocka_unit_test(test_array_blocks_are_counted_before_they_are_believed),
        cmocka_unit_test(test_blocks_of_one_with_sizes_are_read_like_one_block),
        cmocka_unit_test(test_more_versions_than_the_limit_are_refused),
        cmocka_unit_test(test_an_arena_that_is_too_small_is_answered),
        cmocka_unit_test(test_words_branches_and_booleans_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
