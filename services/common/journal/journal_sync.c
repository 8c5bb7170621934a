/*
 * journal_sync: rounds are numbered; what is written while round n is under way is due in n + 1. A round that
 * failed leaves pages clean that are not on disk: they are made dirty again and due once more, so the next
 * round that succeeds has put all of it there.
 */
#include "journal/journal_sync.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SLOW_US (5 * US_PER_SECOND)

struct sync_file {
    int fd; /* ours; -1: no descriptor was to be had, which fails the round */
    bool is_directory;
    struct segment *segment; /* NULL: a directory, or gone meanwhile */
};

struct sync_files {
    struct sync_file *file;
    size_t count, room;
    bool is_short; /* there was no memory for one more: nothing is sure any more */
};

struct journal_sync {
    pthread_t thread;
    pthread_mutex_t lock; /* over the four below */
    pthread_cond_t wake;
    bool begun, ended, stopping;
    int failed; /* errno; 0: all is on disk */
    int event_fd;
    bool is_threaded, is_under_way, is_wanted;
    struct sync_files due, under_way; /* the latter is the helper's to read while begun */
    uint64_t round;                   /* under way, or the last one */
    uint64_t over, has;               /* the last that ended, the last that succeeded */
    int64_t begun_us;
    struct sync_wait *first, *last; /* by round */
    struct metric *seconds, *failures, *records;
};

static int file_sync(const struct sync_file *f)
{
    return (f->is_directory ? fsync(f->fd) : fdatasync(f->fd)) == 0 ? 0 : errno;
}

static void *helper(void *arg)
{
    struct journal_sync *s = arg;
    (void)pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->begun && !s->stopping)
            (void)pthread_cond_wait(&s->wake, &s->lock);
        if (!s->begun)
            break;
        (void)pthread_mutex_unlock(&s->lock);
        int failed = s->under_way.is_short ? ENOMEM : 0;
        for (size_t i = 0; i < s->under_way.count; i++) {
            int now = file_sync(&s->under_way.file[i]);
            failed = failed == 0 ? now : failed;
        }
        (void)pthread_mutex_lock(&s->lock);
        s->begun = false;
        s->ended = true;
        s->failed = failed;
        (void)eventfd_write(s->event_fd, 1);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

bool journal_sync_new(struct journal_sync **out, struct err *err)
{
    struct journal_sync *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "journal: out of memory");
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->wake, NULL);
    s->seconds =
        metric_histogram_us("spend_ingest_journal_sync_seconds",
                            "how long syncs of the journal took; their count is all syncs", NULL, NULL);
    s->failures = metric_counter("spend_ingest_journal_sync_failures_total",
                                 "syncs that the disk refused (alarm on it)", NULL, NULL);
    s->records = metric_counter("spend_ingest_journal_sync_records_total",
                                "records that a sync was wanted for: by the count of syncs, records a sync",
                                NULL, NULL);
    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->is_threaded = s->event_fd >= 0 && pthread_create(&s->thread, NULL, helper, s) == 0;
    if (!s->is_threaded) {
        journal_sync_free(s);
        return err_set(err, ERR_IO, FATE_FATAL, "journal: no thread to sync in");
    }
    *out = s;
    return true;
}

static void files_close(struct sync_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        if (files->file[i].fd >= 0)
            (void)close(files->file[i].fd);
    files->count = 0;
}

void journal_sync_free(struct journal_sync *s)
{
    if (s == NULL)
        return;
    assert(s->first == NULL);
    (void)pthread_mutex_lock(&s->lock);
    s->stopping = true;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
    if (s->is_threaded)
        (void)pthread_join(s->thread, NULL);
    files_close(&s->due);
    files_close(&s->under_way);
    free(s->due.file);
    free(s->under_way.file);
    if (s->event_fd >= 0)
        (void)close(s->event_fd);
    (void)pthread_mutex_destroy(&s->lock);
    (void)pthread_cond_destroy(&s->wake);
    free(s);
}

int journal_sync_fd(const struct journal_sync *s)
{
    return s->event_fd;
}

static void due_append(struct journal_sync *s, struct sync_file file)
{
    struct sync_files *due = &s->due;
    if (due->count == due->room) {
        size_t room = due->room == 0 ? 8 : due->room * 2;
        struct sync_file *more = realloc(due->file, room * sizeof *more);
        due->is_short = due->is_short || more == NULL;
        if (more == NULL)
            return;
        due->file = more;
        due->room = room;
    }
    due->file[due->count++] = file;
}

static void due_add(struct journal_sync *s, int fd, bool is_directory, struct segment *segment)
{
    due_append(s, (struct sync_file){fcntl(fd, F_DUPFD_CLOEXEC, 0), is_directory, segment});
}

void journal_sync_segment(struct journal_sync *s, struct segment *segment)
{
    if (s == NULL || segment->due)
        return;
    segment->due = true;
    due_add(s, segment->fd, false, segment);
}

void journal_sync_directory(struct journal_sync *s, int dir_fd)
{
    if (s != NULL)
        due_add(s, dir_fd, true, NULL);
}

static void files_forget(struct sync_files *files, const struct segment *segment)
{
    for (size_t i = 0; i < files->count; i++)
        if (files->file[i].segment == segment)
            files->file[i].segment = NULL;
}

void journal_sync_forget(struct journal_sync *s, const struct segment *segment)
{
    if (s == NULL)
        return;
    files_forget(&s->due, segment);
    files_forget(&s->under_way, segment);
}

static void round_begin(struct journal_sync *s)
{
    struct sync_files empty = s->under_way;
    s->under_way = s->due;
    s->due = empty;
    s->due.is_short = s->under_way.is_short;
    for (size_t i = 0; i < s->under_way.count; i++)
        if (s->under_way.file[i].segment != NULL)
            s->under_way.file[i].segment->due = false;
    s->round++;
    s->is_wanted = false;
    s->is_under_way = true;
    s->begun_us = clock_mono_us();
    (void)pthread_mutex_lock(&s->lock);
    s->begun = true;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
}

/* All that a failed round had is due again. */
static void round_repeat(struct journal_sync *s)
{
    for (size_t i = 0; i < s->under_way.count; i++) {
        struct sync_file *f = &s->under_way.file[i];
        if (f->segment != NULL) {
            segment_dirty(f->segment);
            journal_sync_segment(s, f->segment);
        } else if (f->is_directory) {
            due_append(s, *f); /* the descriptor itself: there may be none for a copy */
            f->fd = -1;
        }
    }
}

/* false: the round goes on. */
static bool round_end(struct journal_sync *s)
{
    eventfd_t ignored;
    (void)pthread_mutex_lock(&s->lock);
    bool ended = s->ended;
    int failed = s->failed;
    s->ended = false;
    (void)eventfd_read(s->event_fd, &ignored);
    (void)pthread_mutex_unlock(&s->lock);
    if (!ended)
        return false;
    metric_observe_us(s->seconds, clock_mono_us() - s->begun_us);
    s->is_under_way = false;
    bool was_well = s->has == s->over;
    s->over = s->round;
    if (failed == 0) {
        s->has = s->round;
    } else {
        metric_add(s->failures, 1);
        if (was_well)
            log_error("journal_not_synced", LOG_STR("err", strerror(failed)), LOG_END);
        round_repeat(s);
    }
    files_close(&s->under_way);
    return true;
}

void journal_sync_poll(struct journal_sync *s)
{
    if (!s->is_under_way || !round_end(s))
        return;
    if (s->is_wanted)
        round_begin(s);
    while (s->first != NULL && s->first->round <= s->over) {
        struct sync_wait *w = s->first;
        bool on_disk = journal_sync_has(s, w->round);
        journal_sync_drop(s, w);
        w->done(w->arg, on_disk);
    }
}

uint64_t journal_sync_next(const struct journal_sync *s)
{
    return s == NULL ? 0 : s->round + 1;
}

uint64_t journal_sync_want(struct journal_sync *s)
{
    if (s == NULL)
        return 0;
    uint64_t round = journal_sync_next(s);
    metric_add(s->records, 1);
    s->is_wanted = true;
    if (!s->is_under_way)
        round_begin(s);
    return round;
}

bool journal_sync_is_over(const struct journal_sync *s, uint64_t round)
{
    return s == NULL || round <= s->over;
}

bool journal_sync_has(const struct journal_sync *s, uint64_t round)
{
    return s == NULL || round <= s->has;
}

bool journal_sync_wait(struct journal_sync *s, uint64_t round, struct sync_wait *w)
{
    if (journal_sync_is_over(s, round))
        return false;
    assert(w->round == 0 && (s->last == NULL || s->last->round <= round));
    w->round = round;
    w->older = s->last;
    w->newer = NULL;
    *(s->last == NULL ? &s->first : &s->last->newer) = w;
    s->last = w;
    return true;
}

void journal_sync_drop(struct journal_sync *s, struct sync_wait *w)
{
    if (s == NULL || w->round == 0)
        return;
    *(w->older == NULL ? &s->first : &w->older->newer) = w->newer;
    *(w->newer == NULL ? &s->last : &w->newer->older) = w->older;
    w->round = 0;
}

bool journal_sync_check(struct journal_sync *s, struct err *err)
{
    if (s == NULL)
        return true;
    if (s->is_under_way && clock_mono_us() - s->begun_us > SLOW_US)
        return err_set(err, ERR_TIMEOUT, FATE_RETRY, "journal: the disk has not answered for seconds");
    if (s->has == s->over)
        return true;
    if (!s->is_under_way)
        round_begin(s);
    return err_set(err, ERR_IO, FATE_RETRY, "journal: the disk did not take what was written");
}
