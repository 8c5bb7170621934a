/*
 * recovery: a call that could not be finished when it was over is finished as soon as it can be.
 */
#include "ingest/recovery.h"

#include "base/limits.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SEGMENT (1 << 20)

static char home[64];
static struct journal_options options = {home, 8UL * SEGMENT, SEGMENT, NULL};
static char bytes[LIMIT_CALL_BYTES];

static int set_up(void **state)
{
    (void)state;
    strcpy(home, "/tmp/recovery-test-XXXXXX");
    memset(bytes, 'b', sizeof bytes);
    return signal(SIGXFSZ, SIG_IGN) == SIG_ERR || mkdtemp(home) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command); /* NOLINT(cert-env33-c): a path made by mkdtemp */
}

/* No new segment can be made while it is full. */
static void disk_full(bool full)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = full ? 0 : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_a_call_left_for_want_of_room_is_finished_with_its_own_bytes(void **state)
{
    (void)state;
    struct journal *j = NULL;
    struct journal_call *call[16];
    struct journal_record record;
    struct err err = {0};
    struct strview large = {bytes, sizeof bytes};
    assert_true(journal_create(&j, &options, 1795421624000000, &err));
    for (int i = 0; i < 16; i++) {
        struct uuid id = uuid_v7(1795421624000000 + i);
        assert_true(journal_begin(j, &id, SV_LIT("head"), &call[i], &err));
    }
    disk_full(true);
    size_t left = 0;
    for (int i = 0; i < 16; i++) {
        if (journal_finish(call[i], large, &err))
            continue;
        journal_leave(call[i], large);
        left++;
    }
    assert_true(left > 0 && left < 16);
    assert_int_equal(journal_left(j), left);
    recovery_finish_left(j, true, NULL);
    assert_int_equal(journal_left(j), left);
    disk_full(false);
    recovery_finish_left(j, true, NULL);
    assert_int_equal(journal_left(j), 0);
    for (int i = 0; i < 16; i++) {
        assert_true(call[i]->finished);
        journal_read(call[i], &record);
        assert_true(sv_eq(record.payload, large));
        journal_delivered(call[i]);
    }
    journal_free(j);
}

static void test_a_call_that_cannot_be_recovered_does_not_hold_up_the_others(void **state)
{
    (void)state;
    struct journal *j = NULL;
    struct journal_call *broken = NULL;
    struct journal_call *fine = NULL;
    struct err err = {0};
    struct uuid id = uuid_v7(1795421624000000);
    assert_true(journal_create(&j, &options, 1795421624000000, &err));
    assert_true(journal_begin(j, &id, SV_LIT("no head of a call"), &broken, &err));
    recovery_finish_open(j, true);
    assert_int_equal(journal_left(j), 1);
    id = uuid_v7(1795421624000001);
    assert_true(journal_begin(j, &id, SV_LIT("head"), &fine, &err));
    journal_leave(fine, SV_LIT("done"));
    recovery_finish_left(j, true, NULL);
    assert_true(broken->left && fine->finished);
    journal_free(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_call_left_for_want_of_room_is_finished_with_its_own_bytes,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_call_that_cannot_be_recovered_does_not_hold_up_the_others,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
