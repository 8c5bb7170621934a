/*
 * journal_segment: one that is done with becomes another, and nothing of what it was shows through.
 */
#include "journal/journal_segment.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SIZE (256 << 10)

static const struct uuid instance = {{1}};
static char home[64];
static int dir_fd;

static int set_up(void **state)
{
    (void)state;
    strcpy(home, "/tmp/segment-test-XXXXXX");
    if (mkdtemp(home) == NULL)
        return 1;
    dir_fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir_fd < 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    (void)close(dir_fd);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command); /* NOLINT(cert-env33-c): a path made by mkdtemp */
}

static bool is_there(const char *name)
{
    struct stat st;
    return fstatat(dir_fd, name, &st, 0) == 0;
}

static struct segment *create(uint64_t number)
{
    struct segment *s = NULL;
    struct err err = {0};
    if (!segment_create(dir_fd, number, SIZE, &s, &err))
        fail_msg("%s", err.text);
    segment_begin(s, &instance, 1, 1);
    return s;
}

static size_t fill(struct segment *s)
{
    size_t count = 0;
    static char text[1000];
    memset(text, 'x', sizeof text);
    struct journal_record record = {.kind = JOURNAL_OPEN, .payload = {text, sizeof text}};
    while (segment_left(s) >= segment_record_size(sizeof text)) {
        record.seq = ++count;
        (void)segment_append(s, &record);
    }
    return count;
}

/* The records of a file, read anew; *skipped: bytes that were none. */
static size_t records(const char *name, size_t *skipped)
{
    struct segment *s = NULL;
    struct err err = {0};
    struct journal_record record;
    size_t count = 0;
    size_t at = 0;
    size_t offset = 0;
    *skipped = 0;
    if (!segment_open(dir_fd, name, &instance, &s, &err))
        fail_msg("%s", err.text);
    while (s != NULL && segment_next(s, &at, &offset, &record, skipped))
        count++;
    segment_free(s);
    return count;
}

static void test_a_spare_one_becomes_another_without_a_trace_of_what_it_was(void **state)
{
    (void)state;
    size_t skipped;
    struct segment *s = create(1);
    const char *map = s->map;
    size_t full = fill(s);
    assert_int_equal(records("0000000000000001.seg", &skipped), full);
    s->live = 3;
    assert_true(segment_spare(dir_fd, s));
    assert_false(is_there("0000000000000001.seg"));
    assert_true(is_there(SEGMENT_SPARE_NAME));
    segment_spare_wipe(s, 10000);
    segment_spare_wipe(s, 1);
    assert_int_equal(s->ready, 10001);
    assert_true(segment_spare_use(dir_fd, s, 7));
    assert_false(is_there(SEGMENT_SPARE_NAME));
    assert_ptr_equal(s->map, map);
    assert_int_equal(s->live, 0);
    assert_int_equal(records("0000000000000007.seg", &skipped), 0); /* not begun: no segment at all */
    assert_int_equal(skipped, 0);
    segment_begin(s, &instance, 1, 90);
    struct journal_record record = {.kind = JOURNAL_OPEN, .seq = 90, .payload = SV_LIT("head")};
    (void)segment_append(s, &record);
    assert_int_equal(records("0000000000000007.seg", &skipped), 1);
    assert_int_equal(skipped, 0);
    full = fill(s) + 1;
    assert_int_equal(records("0000000000000007.seg", &skipped), full);
    assert_int_equal(skipped, 0);
    segment_free(s);
}

static void test_a_spare_one_that_is_not_whole_or_not_there_is_not_used(void **state)
{
    (void)state;
    struct segment *s = create(1);
    assert_true(segment_spare(dir_fd, s));
    assert_int_equal(ftruncate(s->fd, SIZE / 2), 0);
    segment_spare_wipe(s, 4096);
    assert_int_equal(s->ready, 0);
    assert_false(segment_spare_use(dir_fd, s, 2));
    assert_false(is_there("0000000000000002.seg"));
    segment_free(s);

    s = create(3);
    assert_true(segment_spare(dir_fd, s));
    assert_int_equal(unlinkat(dir_fd, SEGMENT_SPARE_NAME, 0), 0);
    assert_false(segment_spare_use(dir_fd, s, 4));
    segment_free(s);

    s = create(8); /* cut, and made anew, once it was wiped */
    assert_true(segment_spare(dir_fd, s));
    segment_spare_wipe(s, SIZE);
    assert_int_equal(ftruncate(s->fd, 0), 0);
    assert_false(segment_spare_use(dir_fd, s, 9));
    assert_int_equal(ftruncate(s->fd, SIZE), 0);
    assert_int_equal(unlinkat(dir_fd, SEGMENT_SPARE_NAME, 0), 0);
    assert_true(close(openat(dir_fd, SEGMENT_SPARE_NAME, O_CREAT | O_WRONLY, 0600)) == 0);
    assert_false(segment_spare_use(dir_fd, s, 9));
    assert_int_equal(unlinkat(dir_fd, SEGMENT_SPARE_NAME, 0), 0);
    segment_free(s);

    s = create(5);
    struct segment *other = create(6);
    assert_true(segment_spare(dir_fd, s));
    assert_false(segment_spare_use(dir_fd, s, 6)); /* never over a segment */
    assert_true(is_there(SEGMENT_SPARE_NAME));
    segment_unlink(dir_fd, other);
    assert_false(segment_spare(dir_fd, other));
    assert_int_equal(other->number, 6);
    segment_free(s);
    segment_free(other);
}

/* The machine ended behind the new name and before the zeros: it is damage, and nothing of it is told again.
 */
static void test_what_a_wiped_one_was_is_never_read_again(void **state)
{
    (void)state;
    size_t skipped;
    struct segment *s = create(1);
    size_t full = fill(s);
    assert_int_equal(renameat(dir_fd, "0000000000000001.seg", dir_fd, "0000000000000002.seg"), 0);
    assert_int_equal(records("0000000000000002.seg", &skipped), 0);
    /* a new name that is not on disk: these are records of now */
    assert_int_equal(renameat(dir_fd, "0000000000000002.seg", dir_fd, "0000000000000001.seg"), 0);
    segment_free(s);
    s = create(3);
    assert_int_equal(fill(s), full);
    assert_int_equal(renameat(dir_fd, "0000000000000003.seg", dir_fd, "0000000000000002.seg"), 0);
    assert_int_equal(records("0000000000000002.seg", &skipped), full);
    segment_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_spare_one_becomes_another_without_a_trace_of_what_it_was,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_spare_one_that_is_not_whole_or_not_there_is_not_used, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_a_wiped_one_was_is_never_read_again, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
