/*
 * journal_sync: who waits for which round, with a disk that answers when the test lets it and as it says. The
 * program's own fdatasync and fsync stand in front of the library's.
 */
#include "journal/journal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SEGMENT (1 << 20)

static struct {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool held;   /* syncs wait */
    int waiting; /* .. so many do */
    int answer;  /* errno of those that come */
    int files, directories;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static char home[64];
static struct journal_options options = {home, 8UL * SEGMENT, SEGMENT, NULL};

static int disk_answer(int *count)
{
    (void)pthread_mutex_lock(&disk.lock);
    ++*count;
    disk.waiting++;
    (void)pthread_cond_broadcast(&disk.moved);
    while (disk.held)
        (void)pthread_cond_wait(&disk.moved, &disk.lock);
    disk.waiting--;
    errno = disk.answer;
    (void)pthread_mutex_unlock(&disk.lock);
    return errno == 0 ? 0 : -1;
}

int fdatasync(int fd)
{
    (void)fd;
    return disk_answer(&disk.files);
}

int fsync(int fd)
{
    (void)fd;
    return disk_answer(&disk.directories);
}

static void disk_set(bool held, int answer)
{
    (void)pthread_mutex_lock(&disk.lock);
    disk.held = held;
    disk.answer = answer;
    (void)pthread_cond_broadcast(&disk.moved);
    (void)pthread_mutex_unlock(&disk.lock);
}

/* Until the helper stands in a sync. */
static void disk_reached(void)
{
    (void)pthread_mutex_lock(&disk.lock);
    while (disk.waiting == 0)
        (void)pthread_cond_wait(&disk.moved, &disk.lock);
    (void)pthread_mutex_unlock(&disk.lock);
}

static struct journal_sync *sync_new(void)
{
    struct err err = {0};
    struct journal_sync *s = NULL;
    disk_set(false, 0);
    disk.files = disk.directories = 0;
    if (!journal_sync_new(&s, &err))
        fail_msg("%s", err.text);
    return s;
}

/* Serves the end of one round. */
static void round_pass(struct journal_sync *s)
{
    struct pollfd ready = {.fd = journal_sync_fd(s), .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 10000), 1);
    journal_sync_poll(s);
}

struct waiter {
    struct sync_wait wait;
    int called;
    bool on_disk;
};

static void on_answer(void *arg, bool on_disk)
{
    struct waiter *w = arg;
    w->called++;
    w->on_disk = on_disk;
}

static void waiter_add(struct journal_sync *s, struct waiter *w)
{
    *w = (struct waiter){.wait = {.done = on_answer, .arg = w}};
    assert_true(journal_sync_wait(s, journal_sync_want(s), &w->wait));
}

static int set_up(void **state)
{
    (void)state;
    strcpy(home, "/tmp/journal-sync-test-XXXXXX");
    return mkdtemp(home) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command); /* NOLINT(cert-env33-c): a path made by mkdtemp */
}

static void test_all_that_come_while_one_sync_is_under_way_go_with_the_next_one(void **state)
{
    (void)state;
    struct journal_sync *s = sync_new();
    struct waiter w[5];
    FILE *file = tmpfile();
    struct segment segment = {.fd = fileno(file)};
    disk_set(true, 0);
    journal_sync_segment(s, &segment);
    waiter_add(s, &w[0]);
    disk_reached();
    for (int i = 1; i < 5; i++) {
        journal_sync_segment(s, &segment);
        waiter_add(s, &w[i]);
    }
    journal_sync_poll(s); /* not over yet: nobody is called */
    assert_int_equal(w[0].called + w[1].called, 0);
    journal_sync_drop(s, &w[2].wait); /* its caller has left */
    disk_set(false, 0);
    round_pass(s);
    assert_true(w[0].called == 1 && w[0].on_disk && w[1].called == 0);
    round_pass(s);
    for (int i = 1; i < 5; i++)
        assert_true(w[i].called == (i == 2 ? 0 : 1) && w[i].on_disk == (i != 2));
    assert_int_equal(disk.files, 2);
    journal_sync_free(s);
    (void)fclose(file);
}

static void test_without_syncing_nobody_waits(void **state)
{
    (void)state;
    struct sync_wait w = {0};
    struct err err = {0};
    assert_false(journal_sync_wait(NULL, journal_sync_want(NULL), &w));
    assert_true(journal_sync_is_over(NULL, 1) && journal_sync_has(NULL, 1) && journal_sync_check(NULL, &err));
    journal_sync_drop(NULL, &w);
    journal_sync_free(NULL);
}

static void test_what_a_failed_sync_had_is_synced_again_until_the_disk_takes_it(void **state)
{
    (void)state;
    struct journal_sync *s = sync_new();
    struct err err = {0};
    struct waiter w;
    FILE *file = tmpfile();
    static char page[4096];
    struct segment segment = {.fd = fileno(file), .map = page, .size = sizeof page, .at = sizeof page};
    disk_set(false, EIO);
    journal_sync_segment(s, &segment);
    journal_sync_directory(s, segment.fd);
    uint64_t round = journal_sync_next(s);
    waiter_add(s, &w);
    round_pass(s);
    assert_true(w.called == 1 && !w.on_disk);
    assert_true(journal_sync_is_over(s, round));
    assert_false(journal_sync_has(s, round));
    assert_false(journal_sync_check(s, &err)); /* which has tried again */
    round_pass(s);
    disk_set(false, 0);
    assert_false(journal_sync_check(s, &err));
    round_pass(s);
    assert_true(journal_sync_has(s, round) && journal_sync_check(s, &err));
    assert_int_equal(disk.files, 3);
    assert_int_equal(disk.directories, 3);
    journal_sync_free(s);
    (void)fclose(file);
}

static struct journal_call *begin(struct journal *j, struct strview head)
{
    struct journal_call *call = NULL;
    struct err err = {0};
    struct uuid id = {{1}};
    if (!journal_begin(j, &id, head, &call, &err))
        fail_msg("%s", err.text);
    return call;
}

static int segments_of(const struct journal *j)
{
    char path[128];
    int count = 0;
    for (int i = 1; i < 16; i++) {
        (void)snprintf(path, sizeof path, "%s/%s/%016d.seg", home, journal_instance(j), i);
        count += access(path, F_OK) == 0 ? 1 : 0;
    }
    return count;
}

static void test_a_segment_stays_until_what_was_moved_out_of_it_is_on_disk_elsewhere(void **state)
{
    (void)state;
    static char big[60000];
    static struct journal_call *calls[64];
    struct err err = {0};
    struct journal *j = NULL;
    struct journal_sync *s = sync_new();
    options.sync = s;
    assert_true(journal_create(&j, &options, 1795421624000000, &err));
    memset(big, 'b', sizeof big);
    struct journal_call *slow = begin(j, SV_LIT("open for long"));
    assert_int_equal(slow->seq, 1);
    disk_set(true, 0);
    int count = 0;
    while (segments_of(j) < 4) /* the first one is full, all in it finished further on */
        calls[count++] = begin(j, (struct strview){big, sizeof big});
    for (int i = 0; i < count; i++)
        assert_true(journal_finish(calls[i], (struct strview){big, sizeof big}, &err));
    assert_true(journal_finish(slow, SV_LIT("done"), &err));
    assert_false(journal_is_settled(slow));
    int before = segments_of(j);
    for (int i = 0; i < count; i++)
        journal_delivered(calls[i]);
    assert_int_equal(segments_of(j), before);
    disk_set(false, 0);
    while (!journal_is_settled(slow))
        round_pass(s);
    journal_delivered(slow);
    assert_true(segments_of(j) < before);
    assert_true(disk.directories > 0);
    journal_free(j);
    journal_sync_free(s);
    options.sync = NULL;
}

/* A call that is finished in another segment than it was opened in, and killed before either is on disk. */
static void call_in_two_segments(char name[UUID_TEXT_LEN + 1])
{
    static char big[60000];
    struct err err = {0};
    struct journal *j = NULL;
    options.sync = sync_new();
    assert_true(journal_create(&j, &options, 1795421624000000, &err));
    memcpy(name, journal_instance(j), UUID_TEXT_LEN + 1);
    struct journal_call *slow = begin(j, SV_LIT("head"));
    disk_set(true, 0);
    for (int i = 0; i < 16; i++) {
        struct journal_call *call = begin(j, (struct strview){big, sizeof big});
        assert_true(journal_finish(call, (struct strview){big, sizeof big}, &err));
        journal_delivered(call);
    }
    assert_true(journal_finish(slow, SV_LIT("bytes"), &err));
    assert_int_equal(slow->segment->number, 2);
    journal_free(j);
    disk_set(false, 0);
    journal_sync_free(options.sync);
}

static void test_a_journal_found_is_synced_before_its_calls_are_settled(void **state)
{
    (void)state;
    struct err err = {0};
    struct journal *j = NULL;
    struct journal_found found = {0};
    char name[UUID_TEXT_LEN + 1];
    call_in_two_segments(name);
    struct journal_sync *s = sync_new();
    options.sync = s;
    assert_true(journal_open(&j, &options, name, true, &found, &err));
    assert_int_equal(found.finished, 1);
    assert_int_equal(segments_of(j), 3);
    assert_false(journal_is_settled(journal_oldest(j)));
    while (!journal_is_settled(journal_oldest(j)))
        round_pass(s);
    journal_delivered(journal_oldest(j));
    assert_int_equal(segments_of(j), 1);
    assert_true(disk.files >= 1);
    journal_free(j);
    journal_sync_free(s);
    options.sync = NULL;
}

static void test_a_journal_whose_files_are_gone_lets_no_call_begin(void **state)
{
    (void)state;
    struct err err = {0};
    struct journal *j = NULL;
    char path[128];
    char away[160];
    assert_true(journal_create(&j, &options, 1795421624000000, &err));
    struct journal_call *call = begin(j, SV_LIT("head"));
    assert_true(journal_is_there(j, &err));
    (void)snprintf(path, sizeof path, "%s/%s", home, journal_instance(j));
    (void)snprintf(away, sizeof away, "%s-away", path);
    assert_int_equal(rename(path, away), 0);
    assert_false(journal_is_there(j, &err));
    struct journal_call *none = NULL;
    struct uuid id = {{2}};
    assert_false(journal_begin(j, &id, SV_LIT("head"), &none, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(rename(away, path), 0);
    assert_true(journal_is_there(j, &err));
    assert_int_equal(begin(j, SV_LIT("again"))->seq, 2);
    (void)snprintf(away, sizeof away, "%s/0000000000000001.seg", path);
    struct stat st;
    assert_int_equal(stat(away, &st), 0);
    assert_int_equal(truncate(away, st.st_size - 4096), 0);
    assert_false(journal_is_there(j, &err));
    assert_int_equal(truncate(away, st.st_size), 0);
    assert_true(journal_is_there(j, &err));
    assert_int_equal(unlink(away), 0);
    assert_false(journal_is_there(j, &err));
    assert_true(journal_finish(call, SV_LIT("bytes"), &err)); /* what runs can end */
    journal_free(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_that_come_while_one_sync_is_under_way_go_with_the_next_one),
        cmocka_unit_test(test_without_syncing_nobody_waits),
        cmocka_unit_test(test_what_a_failed_sync_had_is_synced_again_until_the_disk_takes_it),
        cmocka_unit_test_setup_teardown(
            test_a_segment_stays_until_what_was_moved_out_of_it_is_on_disk_elsewhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_journal_found_is_synced_before_its_calls_are_settled, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_journal_whose_files_are_gone_lets_no_call_begin, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
