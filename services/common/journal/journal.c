/*
 * journal: directories: made, opened with what a scan finds in them, stopped with a note, removed, set aside.
 */
#include "journal/journal_inside.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "journal/journal_lock.h"
#include "journal/journal_scan.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CREATE_TRIES 16 /* another starter may take a directory that is not locked yet for a dead one's */

static struct journal *journal_alloc(const struct journal_options *o, const char *name, struct err *err)
{
    struct journal *j = calloc(1, sizeof *j);
    if (j == NULL) {
        (void)err_set(err, ERR_MEMORY, FATE_FATAL, "journal: out of memory");
        return NULL;
    }
    j->dir_fd = j->lock_fd = -1;
    j->dir = o->dir;
    j->sync = o->sync;
    j->parent_fd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    j->segment_bytes = o->segment_bytes / 4096 * 4096;
    j->segments_max = o->bytes / j->segment_bytes;
    j->next_number = 1;
    j->next_seq = 1;
    if (!uuid_parse(sv_of(name), &j->instance) || j->parent_fd < 0) {
        (void)err_set(err, ERR_IO, FATE_FATAL, "journal: cannot open %s: %s", o->dir, strerror(errno));
        journal_free(j);
        return NULL;
    }
    uuid_format(&j->instance, j->name);
    return j;
}

static bool directory_take(struct journal *j, struct err *err)
{
    j->dir_fd = openat(j->parent_fd, j->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->dir_fd < 0)
        return err_set(err, errno == ENOENT ? ERR_STATE : ERR_IO, FATE_FATAL, "journal %s: %s", j->name,
                       strerror(errno));
    if (!journal_lock_take(j->dir_fd, &j->lock_fd, err))
        return err_wrap(err, "journal %s", j->name);
    (void)unlinkat(j->dir_fd, SEGMENT_SPARE_NAME, 0); /* a kill's */
    return true;
}

static bool segment_first(struct journal *j, struct err *err)
{
    if (!journal_segment_add(j, err))
        return false;
    j->active = j->newest;
    journal_active_begin(j);
    return true;
}

static bool create_once(struct journal **out, const struct journal_options *o, int64_t utc_us,
                        struct err *err)
{
    struct uuid id = uuid_v7(utc_us);
    char name[UUID_TEXT_LEN + 1];
    uuid_format(&id, name);
    struct journal *j = journal_alloc(o, name, err);
    if (j == NULL)
        return false;
    j->boot = 1;
    journal_sync_directory(j->sync, j->parent_fd);
    bool ok = mkdirat(j->parent_fd, name, 0700) == 0;
    if (!ok)
        (void)err_set(err, ERR_IO, FATE_FATAL, "journal: cannot create %s/%s: %s", o->dir, name,
                      strerror(errno));
    ok = ok && directory_take(j, err) && journal_lock_note(j->lock_fd, JOURNAL_IN_USE, 0, err) &&
         segment_first(j, err);
    if (ok)
        *out = j;
    else
        journal_free(j);
    return ok;
}

bool journal_create(struct journal **out, const struct journal_options *o, int64_t utc_us, struct err *err)
{
    bool ok = false;
    for (int tries = 0; !ok && tries < CREATE_TRIES; tries++) {
        err_clear(err);
        ok = create_once(out, o, utc_us, err);
        if (!ok && err->code != ERR_STATE)
            break;
    }
    return ok;
}

/* Takes over what the scan found. */
static bool scan_take(struct journal *j, struct journal_scan *scan, struct err *err)
{
    j->oldest = scan->oldest;
    j->newest = scan->newest;
    j->segments = scan->segments;
    scan->oldest = scan->newest = NULL;
    j->boot = scan->boot;
    j->next_seq = scan->next_seq;
    j->next_number = scan->last_number + 1;
    for (struct segment *s = j->oldest; s != NULL; s = s->newer) {
        journal_tell(journal_told.bytes, (int64_t)s->size);
        journal_sync_segment(j->sync, s); /* nobody knows how much of it is on disk */
        s->until = journal_sync_next(j->sync);
    }
    for (size_t i = 0; i < scan->count; i++) {
        struct journal_call *call = journal_call_add(j, scan->call[i].seq, &scan->call[i].call_id);
        if (call == NULL)
            return err_set(err, ERR_MEMORY, FATE_FATAL, "journal: out of memory");
        call->finished = scan->call[i].kind == JOURNAL_FINISHED;
        call->round = journal_sync_want(j->sync);
        journal_call_move(call, scan->call[i].segment, scan->call[i].offset);
    }
    return true;
}

static void directory_remove(struct journal *j, const struct segment *oldest)
{
    for (const struct segment *s = oldest; s != NULL; s = s->newer)
        segment_unlink(j->dir_fd, s);
    (void)unlinkat(j->dir_fd, JOURNAL_LOCK_NAME, 0);
    (void)unlinkat(j->parent_fd, j->name, AT_REMOVEDIR);
}

bool journal_open(struct journal **out, const struct journal_options *o, const char *name, bool own,
                  struct journal_found *found, struct err *err)
{
    bool ok = false;
    struct journal_scan scan = {0};
    struct journal *j = journal_alloc(o, name, err);
    if (j == NULL || !directory_take(j, err) ||
        !journal_scan(j->dir_fd, j->lock_fd, &j->instance, &scan, err))
        goto done;
    j->damaged = scan.damaged;
    if (scan.over) {
        log_info("journal_removed", LOG_STR("instance", name), LOG_END);
        directory_remove(j, scan.oldest);
        (void)err_set(err, ERR_STATE, FATE_RETRY, "journal %s: nothing was left to do in it", name);
        goto done;
    }
    if (own && (j->damaged || !scan.note.this_boot)) {
        (void)err_set(err, ERR_INVALID, FATE_RETRY, "journal %s: %s", name,
                      j->damaged ? "damaged" : "of an earlier boot of the machine");
        goto done;
    }
    *found = scan.found;
    if (!scan_take(j, &scan, err))
        goto done;
    if (own)
        j->boot++;
    /* what is damaged stays so, should the machine end: its note is not touched. A segment that it lacks is
     * not made good by the one that is begun now. */
    if (j->damaged && scan.note.this_boot && scan.note.state == JOURNAL_IN_USE)
        journal_lock_reach(j->lock_fd, INT64_MAX);
    if ((!j->damaged && !journal_lock_note(j->lock_fd, JOURNAL_IN_USE, 0, err)) || !segment_first(j, err))
        goto done;
    journal_segments_release(j);
    *out = j;
    j = NULL;
    ok = true;
done:
    journal_scan_free(&scan);
    journal_free(j);
    return ok;
}

void journal_free(struct journal *j)
{
    if (j == NULL)
        return;
    for (struct journal_call *call = j->first, *next; call != NULL; call = next) {
        next = call->newer;
        journal_call_drop(call);
    }
    while (j->oldest != NULL) {
        struct segment *s = j->oldest;
        j->oldest = s->newer;
        journal_tell(journal_told.bytes, -(int64_t)s->size);
        journal_sync_forget(j->sync, s);
        segment_free(s);
    }
    journal_spare_drop(j);
    if (j->dir_fd >= 0)
        (void)close(j->dir_fd);
    if (j->parent_fd >= 0)
        (void)close(j->parent_fd);
    if (j->lock_fd >= 0)
        (void)close(j->lock_fd); /* gives the lock back, last */
    free(j);
}

static void stop_note(const struct journal *j, bool closed)
{
    struct err err = {0};
    bool ok = true;
    assert(!closed || j->undelivered == 0);
    for (const struct segment *s = j->oldest; ok && !closed && s != NULL; s = s->newer)
        ok = segment_sync(s, &err);
    if (ok && !closed && fsync(j->dir_fd) != 0) /* the names, too: a spare's is new */
        ok = err_set(&err, ERR_IO, FATE_RETRY, "journal: cannot write its directory to disk: %s",
                     strerror(errno));
    if (!ok || !journal_lock_note(j->lock_fd, closed ? JOURNAL_CLOSED : JOURNAL_SYNCED, j->next_seq, &err))
        log_warn("journal_stop_not_noted", LOG_STR("instance", j->name), LOG_ERR(&err), LOG_END);
}

void journal_stop(struct journal *j, bool closed)
{
    if (j != NULL && !j->damaged)
        stop_note(j, closed);
    journal_free(j);
}

void journal_remove(struct journal *j)
{
    stop_note(j, true); /* half removed, it would pass for cut */
    journal_spare_drop(j);
    directory_remove(j, j->oldest);
    journal_free(j);
}

bool journal_is_damaged(const struct journal *j)
{
    return j->damaged;
}

void journal_set_aside(struct journal *j)
{
    char name[UUID_TEXT_LEN + 16];
    assert(j->undelivered == 0);
    (void)snprintf(name, sizeof name, "%s" JOURNAL_SET_ASIDE, j->name);
    if (renameat(j->parent_fd, j->name, j->parent_fd, name) != 0)
        log_error("journal_not_set_aside", LOG_STR("instance", j->name), LOG_STR("err", strerror(errno)),
                  LOG_END);
    journal_free(j);
}

struct journal_call *journal_oldest(const struct journal *j)
{
    return j->first;
}

size_t journal_undelivered(const struct journal *j)
{
    return j->undelivered;
}

uint64_t journal_next_seq(const struct journal *j)
{
    return j->next_seq;
}

uint64_t journal_oldest_open_seq(const struct journal *j)
{
    return j->first == NULL ? j->next_seq : j->first->seq;
}

uint64_t journal_boot(const struct journal *j)
{
    return j->boot;
}

const char *journal_instance(const struct journal *j)
{
    return j->name;
}

bool journal_is_there(struct journal *j, struct err *err)
{
    struct stat ours;
    struct stat there;
    char name[SEGMENT_NAME_ROOM];
    size_t gone = 0;
    for (const struct segment *s = j->oldest; s != NULL; s = s->newer) {
        segment_name(s->number, name);
        gone += fstat(s->fd, &ours) != 0 || fstatat(j->dir_fd, name, &there, 0) != 0 ||
                        ours.st_ino != there.st_ino || (size_t)ours.st_size < s->size
                    ? 1
                    : 0;
    }
    j->lost = gone > 0 || !journal_lock_is_at(j->lock_fd, j->dir, j->name);
    return !j->lost || err_set(err, ERR_IO, FATE_RETRY, "journal: gone from %s: %s, %zu of %zu segments",
                               j->dir, j->name, gone, j->segments);
}
