/*
 * journal: what a crash may leave, at every byte of the last record; and that nothing is lost or forked by
 * it.
 */
#include "journal/journal.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SEGMENT (1 << 20)

#define FIRST_SEGMENT   "0000000000000001.seg"
#define LOCK_LAST_DIGIT 59

static char home[64];
static struct journal_options options = {home, 8UL * SEGMENT, SEGMENT, NULL};

static struct uuid id_of(int n)
{
    struct uuid id = {{0}};
    id.byte[15] = (uint8_t)n;
    id.byte[14] = (uint8_t)(n >> 8);
    id.byte[13] = (uint8_t)(n >> 16);
    return id;
}

static struct journal_call *begin(struct journal *j, int n, struct strview head)
{
    struct journal_call *call = NULL;
    struct err err = {0};
    struct uuid id = id_of(n);
    if (!journal_begin(j, &id, head, &call, &err))
        fail_msg("%s", err.text);
    return call;
}

static void finish(struct journal_call *call, struct strview bytes)
{
    struct err err = {0};
    if (!journal_finish(call, bytes, &err))
        fail_msg("%s", err.text);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(home, "/tmp/journal-test-XXXXXX");
    return mkdtemp(home) == NULL;
}

static int files_in(const char *dir, const char *tail)
{
    int count = 0;
    DIR *d = opendir(dir);
    if (d == NULL)
        return -1;
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.' && strstr(e->d_name, tail) != NULL)
            count++;
    (void)closedir(d);
    return count;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command); /* NOLINT(cert-env33-c): a path made by mkdtemp */
}

static struct journal *create(char name[UUID_TEXT_LEN + 1])
{
    struct journal *j = NULL;
    struct err err = {0};
    if (!journal_create(&j, &options, 1795421624000000, &err))
        fail_msg("%s", err.text);
    memcpy(name, journal_instance(j), UUID_TEXT_LEN + 1);
    return j;
}

/* Overwrites bytes of a journal's file behind its back. */
static void scribble(const char *name, const char *file, off_t at, struct strview bytes)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s/%s", home, name, file);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, bytes.ptr, bytes.len, at), (ssize_t)bytes.len);
    (void)close(fd);
}

static struct journal *reopen(const char *name, bool own, struct journal_found *found)
{
    struct journal *j = NULL;
    struct err err = {0};
    memset(found, 0, sizeof *found);
    if (!journal_open(&j, &options, name, own, found, &err))
        fail_msg("%s", err.text);
    return j;
}

static void assert_never_ours(const char *name)
{
    struct journal *j = NULL;
    struct journal_found found = {0};
    struct err err = {0};
    assert_false(journal_open(&j, &options, name, true, &found, &err));
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_a_crash_finds_open_and_finished_calls_and_seq_goes_on(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    struct journal_found found;
    struct journal *j = create(name);
    assert_int_equal(journal_boot(j), 1);
    struct journal_call *first = begin(j, 1, SV_LIT("head one"));
    struct journal_call *second = begin(j, 2, SV_LIT("head two"));
    struct journal_call *third = begin(j, 3, SV_LIT("head three"));
    assert_int_equal(first->seq, 1);
    journal_progress(third, 4711);
    finish(first, SV_LIT("bytes one"));
    finish(second, SV_LIT("bytes two"));
    journal_delivered(first);
    assert_int_equal(journal_oldest_open_seq(j), 2);
    journal_free(j); /* all that is in memory is gone; the file is as a kill leaves it */

    j = reopen(name, true, &found);
    assert_int_equal(found.finished, 1);
    assert_int_equal(found.open, 1);
    assert_int_equal(found.skipped, 0);
    assert_int_equal(journal_boot(j), 2);
    assert_int_equal(journal_next_seq(j), 4);
    struct journal_call *call = journal_oldest(j);
    struct journal_record record;
    journal_read(call, &record);
    assert_int_equal(call->seq, 2);
    assert_true(call->finished);
    assert_true(sv_eq(record.payload, SV_LIT("bytes two")));
    call = call->newer;
    journal_read(call, &record);
    assert_false(call->finished);
    assert_int_equal(record.progress, 4711);
    assert_true(sv_eq(record.payload, SV_LIT("head three")));
    struct uuid id = id_of(3);
    assert_int_equal(uuid_cmp(&record.call_id, &id), 0);
    assert_null(call->newer);
    assert_int_equal(begin(j, 4, SV_LIT("x"))->seq, 4);
    journal_free(j);
}

static void test_a_second_crash_finds_what_the_first_recovery_wrote(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    struct journal_found found;
    struct journal_record record;
    struct journal *j = create(name);
    (void)begin(j, 1, SV_LIT("head"));
    journal_free(j);
    j = reopen(name, false, &found);
    finish(journal_oldest(j), SV_LIT("unknown"));
    journal_free(j);
    j = reopen(name, false, &found);
    assert_int_equal(found.finished, 1);
    assert_int_equal(journal_boot(j), 1);
    journal_read(journal_oldest(j), &record);
    assert_true(sv_eq(record.payload, SV_LIT("unknown")));
    journal_delivered(journal_oldest(j));
    assert_int_equal(journal_undelivered(j), 0);
    assert_int_equal(journal_oldest_open_seq(j), 2);
    journal_remove(j);
    assert_int_equal(files_in(home, ""), 0);
}

/* Copies the journal's only segment, damages the copy's byte `at` (or cuts the file there) and opens it. */
static struct journal *damaged(const char *name, const char *image, size_t at, bool cut,
                               struct journal_found *found)
{
    char path[256];
    char command[512];
    (void)snprintf(command, sizeof command, "rm -f '%s/%s/'*.seg*", home, name);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
    (void)snprintf(path, sizeof path, "%s/%s/" FIRST_SEGMENT, home, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    size_t len = cut ? at : 16384;
    assert_int_equal(write(fd, image, len), (ssize_t)len);
    if (!cut) {
        char byte = (char)(image[at] ^ 0x5a);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    (void)close(fd);
    return reopen(name, false, found);
}

static void test_a_last_record_torn_at_any_byte_never_takes_another_with_it(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    char path[256];
    static char image[16384];
    struct journal *j = create(name);
    struct journal_call *one = begin(j, 1, SV_LIT("head one"));
    struct journal_call *two = begin(j, 2, SV_LIT("head two"));
    finish(one, SV_LIT("bytes one"));
    size_t start = one->offset + segment_record_size(9);
    finish(two, SV_LIT("bytes two, the last record"));
    size_t end = start + SEGMENT_RECORD_BYTES + 26;
    assert_int_equal(two->offset, start);
    journal_free(j);
    (void)snprintf(path, sizeof path, "%s/%s/" FIRST_SEGMENT, home, name);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, image, sizeof image), sizeof image);
    (void)close(fd);

    for (int cut = 0; cut <= 1; cut++) {
        for (size_t at = start; at < end; at++) {
            struct journal_found found;
            struct journal_record record;
            j = damaged(name, image, at, cut == 1, &found);
            bool progress =
                !cut && at >= start + 40 && at < start + SEGMENT_RECORD_BYTES; /* not under the checksum */
            if (found.finished != (progress ? 2U : 1U) || found.open != (progress ? 0U : 1U))
                fail_msg("%s at %zu: %zu finished, %zu open", cut ? "cut" : "flipped", at - start,
                         found.finished, found.open);
            assert_int_equal(journal_next_seq(j), 3);
            journal_read(journal_oldest(j), &record);
            assert_true(sv_eq(record.payload, SV_LIT("bytes one")));
            journal_read(journal_oldest(j)->newer, &record);
            assert_true(
                sv_eq(record.payload, progress ? SV_LIT("bytes two, the last record") : SV_LIT("head two")));
            journal_free(j);
        }
    }
}

static void test_a_torn_record_in_the_middle_does_not_hide_the_later_ones(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    struct journal_found found;
    struct journal *j = create(name);
    struct journal_call *one = begin(j, 1, SV_LIT("head one"));
    size_t middle = one->offset + segment_record_size(8);
    finish(one, SV_LIT("bytes one"));
    (void)begin(j, 2, SV_LIT("head two"));
    journal_free(j);
    scribble(name, FIRST_SEGMENT, (off_t)middle + 50, SV_LIT("junk"));
    assert_never_ours(name);
    j = reopen(name, false, &found);
    assert_int_equal(found.open, 2);
    assert_true(found.skipped > 0);
    assert_int_equal(journal_next_seq(j), 3);
    assert_true(journal_is_damaged(j));
    journal_free(j);
}

static void test_a_record_that_a_kill_kept_from_being_written_is_no_damage(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    struct journal_found found;
    struct journal *j = create(name);
    (void)begin(j, 1, SV_LIT("head one"));
    off_t last = (off_t)begin(j, 2, SV_LIT("head two"))->offset;
    journal_free(j);
    scribble(name, FIRST_SEGMENT, last, SV_LIT("\0\0\0\0\0\0\0\0")); /* they are stored last */
    j = reopen(name, true, &found);
    assert_int_equal(found.open, 1);
    assert_int_equal(found.skipped, 0);
    assert_int_equal(journal_next_seq(j), 2);
    journal_free(j);
}

static const char lost_pages[SEGMENT_HEADER_BYTES + 4 * (SEGMENT_RECORD_BYTES + 8)];

/* One call; *record: where its `finished` stands. */
static struct journal *create_with_one(char name[UUID_TEXT_LEN + 1], bool delivered, off_t *record)
{
    struct journal *j = create(name);
    struct journal_call *call = begin(j, 1, SV_LIT("head"));
    finish(call, SV_LIT("bytes"));
    *record = (off_t)call->offset;
    if (delivered)
        journal_delivered(call);
    return j;
}

/* Its pages were perhaps not written when the power went, or it was being removed: nothing is told again. */
static void test_a_closed_journal_is_over_whatever_became_of_it(void **state)
{
    (void)state;
    static const struct {
        bool other_boot;
        bool keeps_segment;
        bool keeps_records;
    } left[] = {{true, true, true}, {true, true, false}, {true, false, false}, {false, false, false}};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        char name[UUID_TEXT_LEN + 1];
        char path[128];
        off_t record;
        struct err err = {0};
        struct journal *j = NULL;
        struct journal_found found = {0};
        journal_stop(create_with_one(name, true, &record), true);
        if (left[i].other_boot)
            scribble(name, "lock", 0, SV_LIT("-"));
        if (!left[i].keeps_records)
            scribble(name, FIRST_SEGMENT, record, (struct strview){lost_pages, sizeof lost_pages});
        (void)snprintf(path, sizeof path, "%s/%s/" FIRST_SEGMENT, home, name);
        assert_true(left[i].keeps_segment || unlink(path) == 0);
        assert_false(journal_open(&j, &options, name, i % 2 == 0, &found, &err));
        assert_int_equal(err.code, ERR_STATE);
        assert_int_equal(files_in(home, name), 0);
    }
}

/* Whoever adopts it writes to it: what its stop has noted holds no more. */
static void test_a_synced_journal_that_was_adopted_is_in_use_again(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    struct journal_found found;
    off_t record;
    journal_stop(create_with_one(name, false, &record), false);
    scribble(name, "lock", 0, SV_LIT("-"));
    struct journal *j = reopen(name, false, &found);
    assert_false(journal_is_damaged(j));
    journal_free(j);
    scribble(name, "lock", 0, SV_LIT("-"));
    j = reopen(name, false, &found);
    assert_true(found.cut && journal_is_damaged(j));
    journal_free(j);
}

static void test_a_stopped_journal_that_lost_pages_is_damaged_on_this_boot_too(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    struct journal_found found;
    off_t record;
    journal_stop(create_with_one(name, true, &record), true);
    scribble(name, FIRST_SEGMENT, SEGMENT_HEADER_BYTES, (struct strview){lost_pages, sizeof lost_pages});
    assert_never_ours(name);
    struct journal *j = reopen(name, false, &found);
    assert_true(found.cut && journal_is_damaged(j));
    journal_free(j);
}

static void test_a_journal_that_stopped_with_calls_in_it_has_them_on_another_boot(void **state)
{
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        char name[UUID_TEXT_LEN + 1];
        struct journal_found found;
        off_t record;
        journal_stop(create_with_one(name, false, &record), false);
        scribble(name, "lock", 0, SV_LIT("-"));
        if (!whole)
            scribble(name, FIRST_SEGMENT, SEGMENT_HEADER_BYTES,
                     (struct strview){lost_pages, sizeof lost_pages});
        assert_never_ours(name);
        struct journal *j = reopen(name, false, &found);
        assert_int_equal(found.finished, whole);
        assert_int_equal(found.cut, !whole);
        journal_free(j);
    }
}

/* Pages that were lost with the power read as zeros. */
static void test_what_was_in_use_when_the_machine_ended_may_have_lost_calls(void **state)
{
    (void)state;
    for (size_t kept = 0; kept <= 3; kept++) { /* records; 0: not even the segment's header */
        char name[UUID_TEXT_LEN + 1];
        struct journal_found found;
        size_t from[4] = {0};
        journal_stop(create(name), true); /* once, before it was used again */
        struct journal *j = reopen(name, true, &found);
        for (int i = 1; i <= 3; i++) {
            const struct journal_call *call = begin(j, i, SV_LIT("head"));
            from[i] = call->offset + segment_record_size(4);
        }
        journal_free(j);
        scribble(name, "lock", 0, SV_LIT("-"));
        scribble(name, "0000000000000002.seg", (off_t)from[kept],
                 (struct strview){lost_pages, sizeof lost_pages});
        for (int i = 0; i < 2; i++) {
            assert_never_ours(name);
            j = reopen(name, false, &found);
            assert_int_equal(found.open, kept);
            assert_int_equal(journal_next_seq(j), kept + 1);
            assert_true(found.cut && journal_is_damaged(j));
            journal_free(j);
        }
    }
}

static void test_a_header_that_a_kill_kept_from_being_one_is_no_damage(void **state)
{
    (void)state;
    static const char zeros[4];
    char name[UUID_TEXT_LEN + 1];
    struct journal_found found;
    struct journal *j = create(name);
    (void)begin(j, 1, SV_LIT("head"));
    journal_free(j);
    journal_free(reopen(name, true, &found));
    scribble(name, "0000000000000002.seg", 52, (struct strview){zeros, sizeof zeros}); /* its checksum */
    scribble(name, "lock", LOCK_LAST_DIGIT, SV_LIT("1")); /* .. so it was not noted, either */
    j = reopen(name, true, &found);
    assert_int_equal(found.damaged, 0);
    assert_int_equal(found.open, 1);
    assert_int_equal(journal_next_seq(j), 2);
    journal_free(j);
}

/* What becomes of the last segment: removed, or cut to so many bytes. */
static void test_a_journal_whose_end_is_gone_is_damaged(void **state)
{
    (void)state;
    static const off_t kept[] = {-1, 0, SEGMENT_HEADER_BYTES - 1, SEGMENT_HEADER_BYTES, SEGMENT / 2};
    char name[UUID_TEXT_LEN + 1];
    char path[256];
    struct journal_found found;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        struct journal *j = create(name);
        (void)begin(j, 1, SV_LIT("head one"));
        journal_free(j);
        if (i % 2 == 0) { /* it is not the only one */
            j = reopen(name, true, &found);
            (void)begin(j, 2, SV_LIT("head two"));
            journal_free(j);
        }
        (void)snprintf(path, sizeof path, "%s/%s/%016d.seg", home, name, i % 2 == 0 ? 2 : 1);
        assert_int_equal(kept[i] < 0 ? unlink(path) : truncate(path, kept[i]), 0);
        assert_never_ours(name);
        for (int again = 0; again < 2; again++) { /* a kill in the middle of recovery makes nothing good */
            j = reopen(name, false, &found);
            assert_true(journal_is_damaged(j) && (found.cut || found.damaged == 1));
            journal_free(j);
        }
    }
}

static void test_a_segment_missing_between_others_is_damage(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    char path[256];
    struct journal_found found;
    struct journal *j = create(name);
    for (int n = 1; n <= 3; n++) { /* a segment each */
        (void)begin(j, n, SV_LIT("head"));
        journal_free(j);
        j = reopen(name, true, &found);
        assert_false(found.cut);
    }
    journal_free(j);
    (void)snprintf(path, sizeof path, "%s/%s/%016d.seg", home, name, 2);
    assert_int_equal(unlink(path), 0);
    assert_never_ours(name);
    j = reopen(name, false, &found);
    assert_true(journal_is_damaged(j) && found.cut);
    journal_free(j);
}

/* The first or a middle one, cut to nothing or zeroed: not room that was never used, and kept as evidence. */
static void test_a_segment_emptied_before_others_is_damage(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    char path[256];
    struct journal_found found;
    for (int emptied = 1; emptied <= 2; emptied++) {
        for (int zeroed = 0; zeroed < 2; zeroed++) {
            struct journal *j = create(name);
            for (int n = 1; n <= 3; n++) {
                (void)begin(j, n, SV_LIT("head"));
                journal_free(j);
                j = reopen(name, true, &found);
            }
            journal_free(j);
            (void)snprintf(path, sizeof path, "%s/%s/%016d.seg", home, name, emptied);
            assert_int_equal(truncate(path, 0), 0);
            assert_int_equal(truncate(path, zeroed ? SEGMENT : 0), 0);
            assert_never_ours(name);
            for (int again = 0; again < 2; again++) {
                j = reopen(name, false, &found);
                assert_true(journal_is_damaged(j) && found.cut);
                assert_int_equal(access(path, F_OK), 0);
                journal_free(j);
            }
        }
    }
}

static void test_a_record_lost_before_others_is_damage(void **state)
{
    (void)state;
    static const char zeros[SEGMENT_RECORD_BYTES + 8];
    char name[UUID_TEXT_LEN + 1];
    struct journal_found found;
    struct journal *j = create(name);
    off_t lost = (off_t)begin(j, 1, SV_LIT("head one"))->offset;
    (void)begin(j, 2, SV_LIT("head two"));
    journal_free(j);
    scribble(name, FIRST_SEGMENT, lost, (struct strview){zeros, sizeof zeros});
    assert_never_ours(name);
    journal_free(reopen(name, false, &found));
    assert_int_equal(found.skipped, sizeof zeros);
}

static void test_a_callers_text_cannot_pose_as_a_record(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    char path[256];
    char stolen[SEGMENT_RECORD_BYTES + 8];
    struct journal_found found;
    struct journal *other = create(name);
    struct journal_call *call = begin(other, 9, SV_LIT("stolen!!"));
    (void)snprintf(path, sizeof path, "%s/%s/" FIRST_SEGMENT, home, name);
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, stolen, sizeof stolen, (off_t)call->offset), sizeof stolen);
    (void)close(fd);
    journal_free(other);
    struct journal *j = create(name);
    call = begin(j, 1, (struct strview){stolen, sizeof stolen});
    size_t offset = call->offset;
    journal_free(j);
    scribble(name, FIRST_SEGMENT, (off_t)offset + 20, SV_LIT("X")); /* so that the reader looks inside */
    j = reopen(name, false, &found);
    assert_int_equal(found.open, 0);
    journal_free(j);
}

static void test_a_locked_journal_is_left_alone(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    struct journal_found found;
    struct journal *j = create(name);
    struct journal *second = NULL;
    struct err err = {0};
    assert_false(journal_open(&second, &options, name, false, &found, &err));
    assert_int_equal(err.code, ERR_STATE);
    journal_free(j);
    j = reopen(name, true, &found);
    journal_free(j);
}

static void test_a_directory_without_a_readable_segment_is_never_ours(void **state)
{
    (void)state;
    char path[256];
    struct journal *j = NULL;
    struct journal_found found = {0};
    struct err err = {0};
    const char *name = "01a20777-d128-7e28-a944-9c7f959c7d08";
    (void)snprintf(path, sizeof path, "%s/%s", home, name);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(journal_open(&j, &options, name, true, &found, &err));
    assert_int_equal(err.code, ERR_STATE);
    assert_int_equal(files_in(home, ""), 0); /* an empty one is cleared away */
}

/* A journal with one open call in its first segment, whose header is damaged at byte `at`. */
static void header_damage(char name[UUID_TEXT_LEN + 1], off_t at)
{
    struct journal *j = create(name);
    (void)begin(j, 7, SV_LIT("head"));
    journal_free(j);
    scribble(name, FIRST_SEGMENT, at, SV_LIT("XX"));
}

static void test_behind_a_damaged_header_what_checks_is_read(void **state)
{
    (void)state;
    static const struct {
        off_t at;
        size_t open;
    } rows[] = {{0, 1}, {10, 1}, {25, 1}, {34, 1}, {42, 1}, {52, 1}, {48, 0} /* the salt itself */};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[UUID_TEXT_LEN + 1];
        struct journal_found found;
        struct journal_record record;
        header_damage(name, rows[i].at);
        struct journal *j = reopen(name, false, &found);
        assert_int_equal(found.open, rows[i].open);
        assert_int_equal(found.damaged, 1);
        assert_int_equal(journal_next_seq(j), 1 + rows[i].open);
        if (rows[i].open > 0) {
            journal_read(journal_oldest(j), &record);
            assert_true(sv_eq(record.payload, SV_LIT("head")));
        }
        journal_free(j);
    }
}

static void test_a_damaged_journal_is_never_ours_and_keeps_all_until_it_is_set_aside(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    char path[256];
    struct journal_found found;
    header_damage(name, 20);
    (void)snprintf(path, sizeof path, "%s/%s", home, name);
    for (int i = 0; i < 3; i++) { /* each start is killed before it is done */
        assert_never_ours(name);
        struct journal *j = reopen(name, false, &found);
        assert_int_equal(found.damaged, 1);
        assert_true(journal_is_damaged(j));
        if (i == 0) {
            finish(journal_oldest(j), SV_LIT("unknown"));
            journal_delivered(journal_oldest(j));
        }
        assert_int_equal(files_in(path, ".seg"), 2 + i);
        if (i < 2)
            journal_free(j);
        else
            journal_set_aside(j);
    }
    assert_int_equal(files_in(home, ".damaged"), 1);
    assert_int_equal(files_in(home, ""), 1);
}

static void test_segments_go_when_all_in_them_is_delivered_and_the_newest_stays(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    char dir[128];
    static char head[4000];
    struct journal *j = create(name);
    (void)snprintf(dir, sizeof dir, "%s/%s", home, name);
    memset(head, 'h', sizeof head);
    for (int i = 0; i < 2000; i++) {
        struct journal_call *call = begin(j, i, (struct strview){head, sizeof head});
        finish(call, (struct strview){head, sizeof head});
        journal_delivered(call);
    }
    assert_true(files_in(dir, ".seg") <= 2);
    assert_int_equal(journal_next_seq(j), 2001);
    journal_free(j);
    struct journal_found found;
    j = reopen(name, true, &found);
    assert_int_equal(found.open + found.finished, 0);
    assert_int_equal(journal_next_seq(j), 2001);
    journal_free(j);
}

static bool is_there(const char *name, const char *file)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s/%s", home, name, file);
    return access(path, F_OK) == 0;
}

/* In a process that is killed after so many calls, the last one open. */
static void killed_after(int calls, char name[UUID_TEXT_LEN + 1])
{
    int pipe_fd[2];
    int status = 0;
    assert_int_equal(pipe(pipe_fd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        static char head[4000];
        struct journal *j = create(name);
        memset(head, 'h', sizeof head);
        for (int i = 1; i < calls; i++) {
            struct journal_call *call = begin(j, i, (struct strview){head, sizeof head});
            finish(call, (struct strview){head, sizeof head});
            journal_delivered(call);
        }
        (void)begin(j, calls, SV_LIT("the last one"));
        if (write(pipe_fd[1], name, UUID_TEXT_LEN + 1) == UUID_TEXT_LEN + 1)
            (void)raise(SIGKILL);
        _exit(1);
    }
    (void)close(pipe_fd[1]);
    assert_int_equal(read(pipe_fd[0], name, UUID_TEXT_LEN + 1), UUID_TEXT_LEN + 1);
    (void)close(pipe_fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* Segments of 128 calls: in the second a spare one is wiped, which is the third then, over and over. */
static void test_a_kill_finds_nothing_of_what_a_segment_was_before(void **state)
{
    (void)state;
    struct journal_record record;
    struct journal_found found;
    int spares = 0;
    for (int calls = 100; calls < 700; calls += 23) {
        char name[UUID_TEXT_LEN + 1];
        killed_after(calls, name);
        spares += is_there(name, SEGMENT_SPARE_NAME) ? 1 : 0;
        struct journal *j = reopen(name, true, &found);
        assert_false(is_there(name, SEGMENT_SPARE_NAME));
        assert_int_equal(found.open, 1);
        assert_int_equal(found.finished + found.skipped + found.damaged, 0);
        assert_false(found.cut);
        assert_int_equal(journal_next_seq(j), calls + 1);
        journal_read(journal_oldest(j), &record);
        assert_true(sv_eq(record.payload, SV_LIT("the last one")));
        journal_free(j);
    }
    assert_true(spares > 10);
}

static void test_a_spare_segment_counts_and_goes_with_its_journal(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    char dir[128];
    static char head[4000];
    struct journal *j = create(name);
    (void)snprintf(dir, sizeof dir, "%s/%s", home, name);
    memset(head, 'h', sizeof head);
    for (int round = 0; round < 6; round++) {
        static struct journal_call *calls[2000];
        size_t count = 0;
        struct err err = {0};
        for (;; count++) { /* until it is full */
            struct uuid id = id_of((int)count);
            if (!journal_begin(j, &id, (struct strview){head, sizeof head}, &calls[count], &err))
                break;
            assert_true((size_t)files_in(dir, "s") * SEGMENT <= options.bytes);
        }
        assert_int_equal(err.code, ERR_FULL);
        for (size_t i = 0; i < count; i++) {
            finish(calls[i], (struct strview){head, sizeof head});
            journal_delivered(calls[i]);
        }
        assert_true(is_there(name, SEGMENT_SPARE_NAME));
    }
    journal_remove(j);
    assert_int_equal(files_in(home, ""), 0);
}

static void test_a_call_open_for_long_does_not_pin_the_journal(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    static char head[4000];
    struct journal_record record;
    struct journal *j = create(name);
    memset(head, 'h', sizeof head);
    struct journal_call *slow = begin(j, 1, SV_LIT("the slow one"));
    for (int i = 2; i < 4000; i++) { /* four times what the journal holds */
        struct journal_call *call = begin(j, i, (struct strview){head, sizeof head});
        finish(call, (struct strview){head, sizeof head});
        journal_delivered(call);
        journal_progress(slow, (uint64_t)i);
    }
    journal_read(slow, &record);
    assert_true(sv_eq(record.payload, SV_LIT("the slow one")));
    assert_int_equal(record.progress, 3999);
    assert_int_equal(journal_oldest_open_seq(j), 1);
    journal_free(j);
    struct journal_found found;
    j = reopen(name, true, &found);
    assert_int_equal(found.open, 1);
    assert_int_equal(found.finished, 0);
    assert_int_equal(journal_oldest(j)->seq, 1);
    journal_free(j);
}

/* Events that Kafka takes at once, beside a call that stays open: whatever the number of segments. */
static void test_a_call_open_for_long_keeps_no_events_out(void **state)
{
    (void)state;
    static char bytes[60000];
    static const size_t segments[] = {2, 3, 4, 5, 9};
    memset(bytes, 'e', sizeof bytes);
    for (size_t k = 0; k < sizeof segments / sizeof segments[0]; k++) {
        char name[UUID_TEXT_LEN + 1];
        struct err err = {0};
        options.bytes = segments[k] * SEGMENT;
        struct journal *j = create(name);
        options.bytes = 8UL * SEGMENT;
        (void)begin(j, 1, SV_LIT("the slow one"));
        for (int i = 2; i < 300; i++) {
            struct journal_call *call = NULL;
            struct uuid id = id_of(i);
            if (!journal_put(j, &id, (struct strview){bytes, sizeof bytes}, &call, &err))
                fail_msg("%zu segments, event %d: %s", segments[k], i, err.text);
            journal_delivered(call);
        }
        assert_int_equal(journal_oldest(j)->seq, 1);
        journal_free(j);
    }
}

/* So many were open when half was full that nothing was moved; now it can be. */
static void test_what_was_too_much_to_move_is_moved_later(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    static char head[4000];
    static char bytes[60000];
    struct journal_call *open[200];
    struct err err = {0};
    struct journal_call *call = NULL;
    struct journal *j = create(name);
    memset(head, 'h', sizeof head);
    for (int i = 0; i < 200; i++)
        open[i] = begin(j, i, (struct strview){head, sizeof head});
    struct uuid id = id_of(1000);
    while (journal_put(j, &id, (struct strview){bytes, sizeof bytes}, &call, &err))
        journal_delivered(call);
    assert_int_equal(err.code, ERR_FULL);
    for (int i = 1; i < 200; i++) {
        finish(open[i], SV_LIT("over"));
        journal_delivered(open[i]);
    }
    int refused = 0;
    for (int i = 0; i < 300; i++) {
        if (journal_put(j, &id, (struct strview){bytes, sizeof bytes}, &call, &err))
            journal_delivered(call);
        else
            refused++;
    }
    assert_true(refused <= 1);
    assert_int_equal(journal_oldest(j)->seq, 1);
    journal_free(j);
}

/* What is on disk where the next start looks is all there is of them. */
static void test_nothing_is_moved_into_a_journal_that_is_gone(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    char path[256];
    static char bytes[60000];
    struct err err = {0};
    struct journal_call *call = NULL;
    struct journal_found found;
    options.bytes = 4UL * SEGMENT;
    struct journal *j = create(name);
    options.bytes = 8UL * SEGMENT;
    (void)begin(j, 1, SV_LIT("the slow one"));
    struct uuid id = id_of(2);
    (void)snprintf(path, sizeof path, "%s/%s/%016d.seg", home, name, 2);
    for (;;) {
        assert_true(journal_put(j, &id, (struct strview){bytes, sizeof bytes}, &call, &err));
        if (call->segment->number == 2)
            break;
        journal_delivered(call);
    }
    assert_int_equal(unlink(path), 0);
    assert_false(journal_is_there(j, &err));
    for (int i = 0; i < 3; i++)
        assert_false(journal_put(j, &id, (struct strview){bytes, sizeof bytes}, &call, &err));
    journal_free(j);
    j = reopen(name, false, &found);
    assert_int_equal(found.open, 1);
    assert_true(found.cut);
    journal_free(j);
}

static void test_a_spare_segment_has_the_size_and_stays_within_the_bytes(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    char dir[128];
    static char head[4000];
    struct journal_found found;
    struct stat st;
    char path[256];
    struct journal *j = create(name);
    (void)snprintf(dir, sizeof dir, "%s/%s", home, name);
    memset(head, 'h', sizeof head);
    (void)begin(j, 1, SV_LIT("one"));
    journal_free(j);
    options.segment_bytes = SEGMENT / 2;
    options.bytes = 4UL * SEGMENT / 2;
    j = reopen(name, true, &found);
    finish(journal_oldest(j), SV_LIT("over"));
    journal_delivered(journal_oldest(j));
    for (int i = 2; i < 400; i++) {
        struct journal_call *call = begin(j, i, (struct strview){head, sizeof head});
        finish(call, (struct strview){head, sizeof head});
        journal_delivered(call);
        (void)snprintf(path, sizeof path, "%s/" SEGMENT_SPARE_NAME, dir);
        assert_true(stat(path, &st) != 0 || st.st_size == SEGMENT / 2);
        assert_true(files_in(dir, "s") <= 4);
    }
    journal_free(j);
    options.segment_bytes = SEGMENT;
    options.bytes = 8UL * SEGMENT;
}

static void test_a_full_journal_refuses_but_finishes_all_it_has_opened(void **state)
{
    (void)state;
    char name[UUID_TEXT_LEN + 1];
    char path[128];
    static char head[20000];
    static struct journal_call *calls[2000];
    struct journal *j = create(name);
    struct err err = {0};
    size_t count = 0;
    memset(head, 'h', sizeof head);
    (void)snprintf(path, sizeof path, "%s/%s", home, name);
    for (;; count++) {
        struct uuid id = id_of((int)count);
        if (!journal_begin(j, &id, (struct strview){head, sizeof head}, &calls[count], &err))
            break;
    }
    assert_int_equal(err.code, ERR_FULL);
    assert_true(count > 50);
    assert_true((size_t)files_in(path, ".seg") * SEGMENT <= options.bytes);
    for (size_t i = 0; i < count; i++)
        finish(calls[i], (struct strview){head, sizeof head});
    assert_true((size_t)files_in(path, ".seg") * SEGMENT <= options.bytes);
    for (size_t i = 0; i < count; i++)
        journal_delivered(calls[i]);
    assert_int_equal(journal_undelivered(j), 0);
    assert_int_equal(begin(j, 1, SV_LIT("again"))->seq, count + 1);
    journal_free(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_crash_finds_open_and_finished_calls_and_seq_goes_on, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_second_crash_finds_what_the_first_recovery_wrote, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_last_record_torn_at_any_byte_never_takes_another_with_it,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_torn_record_in_the_middle_does_not_hide_the_later_ones, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_callers_text_cannot_pose_as_a_record, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_locked_journal_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_directory_without_a_readable_segment_is_never_ours, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_record_that_a_kill_kept_from_being_written_is_no_damage,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_closed_journal_is_over_whatever_became_of_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_synced_journal_that_was_adopted_is_in_use_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_stopped_journal_that_lost_pages_is_damaged_on_this_boot_too,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_journal_that_stopped_with_calls_in_it_has_them_on_another_boot,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_in_use_when_the_machine_ended_may_have_lost_calls,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_header_that_a_kill_kept_from_being_one_is_no_damage, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_journal_whose_end_is_gone_is_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_segment_missing_between_others_is_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_record_lost_before_others_is_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_segment_emptied_before_others_is_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_record_lost_before_others_is_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_behind_a_damaged_header_what_checks_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_damaged_journal_is_never_ours_and_keeps_all_until_it_is_set_aside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_segments_go_when_all_in_them_is_delivered_and_the_newest_stays,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_kill_finds_nothing_of_what_a_segment_was_before, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_spare_segment_counts_and_goes_with_its_journal, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_call_open_for_long_does_not_pin_the_journal, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_call_open_for_long_keeps_no_events_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_too_much_to_move_is_moved_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_moved_into_a_journal_that_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_spare_segment_has_the_size_and_stays_within_the_bytes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_full_journal_refuses_but_finishes_all_it_has_opened, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
