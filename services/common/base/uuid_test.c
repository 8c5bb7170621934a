#include "base/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_v7_has_its_time_version_and_variant(void **state)
{
    (void)state;
    struct uuid u = uuid_v7(0x0123456789abLL * 1000 + 500);
    char text[UUID_TEXT_LEN + 1];
    uuid_format(&u, text);
    assert_memory_equal(text, "01234567-89ab-7800-", 19); /* half a millisecond = 0x800 of 0x1000 */
    assert_non_null(strchr("89ab", text[19]));
    u = uuid_v7(-5);
    uuid_format(&u, text);
    assert_memory_equal(text, "00000000-0000-7000-", 19);
}

static void test_v7_of_a_later_microsecond_sorts_later_and_never_repeats(void **state)
{
    (void)state;
    struct uuid last = uuid_v7(1790000000000000);
    for (int i = 1; i < 3000; i++) {
        struct uuid u = uuid_v7(1790000000000000 + i);
        assert_true(uuid_cmp(&last, &u) < 0);
        assert_true(uuid_cmp(&u, &last) > 0);
        last = u;
    }
    struct uuid again = uuid_v7(1790000000000000 + 2999);
    assert_int_not_equal(uuid_cmp(&again, &last), 0);
}

static void test_v8_is_the_same_for_the_same_source_and_id(void **state)
{
    (void)state;
    struct uuid a = uuid_v8_of(sv_of("litellm"), sv_of("chatcmpl-1"));
    struct uuid b = uuid_v8_of(sv_of("litellm"), sv_of("chatcmpl-1"));
    char text[UUID_TEXT_LEN + 1];
    assert_int_equal(uuid_cmp(&a, &b), 0);
    uuid_format(&a, text);
    /* python: sha256(b"litellm\x1fchatcmpl-1"), version and variant put in */
    assert_string_equal(text, "55769351-1a5c-85da-a947-3ecdf23cfc2d");
    b = uuid_v8_of(sv_of("litellmchat"), sv_of("cmpl-1"));
    assert_int_not_equal(uuid_cmp(&a, &b), 0);
}

static void test_text_round_trip_in_either_case(void **state)
{
    (void)state;
    struct uuid u;
    char text[UUID_TEXT_LEN + 1];
    assert_true(uuid_parse(sv_of("0188B6D0-ffff-7abc-8001-00000000000F"), &u));
    uuid_format(&u, text);
    assert_string_equal(text, "0188b6d0-ffff-7abc-8001-00000000000f");
    for (int i = 0; i < 100; i++) {
        struct uuid made = uuid_v7(i * 1000000007LL);
        uuid_format(&made, text);
        assert_true(uuid_parse(sv_of(text), &u));
        assert_int_equal(uuid_cmp(&made, &u), 0);
    }
}

static void test_other_text_is_refused_and_nothing_written(void **state)
{
    (void)state;
    static const struct uuid nil;
    static const char *const cases[] = {
        "",
        "0188b6d0-ffff-7abc-8001-00000000000",
        "0188b6d0-ffff-7abc-8001-00000000000ff",
        "0188b6d0ffff-7abc-8001-00000000000f0-",
        "0188b6d0-ffff-7abc-8001-00000000000g",
        "0188b6d0-ffff_7abc-8001-00000000000f",
        "{188b6d0-ffff-7abc-8001-00000000000f",
        "0188b6d0-ffff-7abc-8001-0000000000 f",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uuid u = nil;
        assert_false(uuid_parse(sv_of(cases[i]), &u));
        assert_int_equal(uuid_cmp(&u, &nil), 0);
    }
    struct uuid u = nil;
    assert_false(uuid_parse(SV_NULL, &u));
    assert_int_equal(uuid_cmp(&u, &nil), 0);
}

/* Random bytes are fetched for many ids at once: a child must not give its parent's again. */
static void test_a_forked_process_gives_other_ids(void **state)
{
    (void)state;
    int ends[2];
    struct uuid theirs;
    struct uuid ours = uuid_v7(1);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ours = uuid_v7(1);
        _exit(write(ends[1], ours.byte, sizeof ours.byte) == sizeof ours.byte ? 0 : 1);
    }
    (void)close(ends[1]); /* a child that died is an end of file */
    ours = uuid_v7(1);
    assert_int_equal(read(ends[0], theirs.byte, sizeof theirs.byte), sizeof theirs.byte);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_not_equal(uuid_cmp(&ours, &theirs), 0);
    (void)close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v7_has_its_time_version_and_variant),
        cmocka_unit_test(test_v7_of_a_later_microsecond_sorts_later_and_never_repeats),
        cmocka_unit_test(test_a_forked_process_gives_other_ids),
        cmocka_unit_test(test_v8_is_the_same_for_the_same_source_and_id),
        cmocka_unit_test(test_text_round_trip_in_either_case),
        cmocka_unit_test(test_other_text_is_refused_and_nothing_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
