/*
 * journal: entries in seq order, segments in number order, oldest first. A segment goes once nothing live
 * stands in it and no older one is left, so a `delivered` always outlives the records it settles. A call that
 * stays open for long would pin every segment after its own: its record is moved forward instead.
 */
#include "journal/journal.h"

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

struct journal {
    struct uuid instance;
    char name[UUID_TEXT_LEN + 1];
    int parent_fd;
    int dir_fd;
    int lock_fd;
    size_t segment_bytes;
    size_t segments_max;
    struct segment *oldest;
    struct segment *active; /* the last one begun; spares follow it */
    struct segment *newest;
    size_t segments;
    uint64_t next_number;
    uint64_t boot;
    uint64_t next_seq;
    struct journal_call *first;
    struct journal_call *last;
    size_t undelivered;
    size_t left;     /* of those: over, but not finished */
    size_t reserved; /* bytes set aside for calls under way */
    bool compact_due;
    bool damaged; /* no segment goes: each start is to see the damage */
    bool lost;    /* its files are gone */
    const char *dir;
    struct journal_sync *sync;
};

/* Of all journals of the process; NULL until journal_metrics_open. */
static struct {
    struct metric *bytes, *undelivered, *moved, *unfinished;
} told;

void journal_metrics_open(void)
{
    told.bytes = metric_gauge("spend_ingest_journal_bytes", "bytes of journal segments on disk", NULL, NULL);
    told.undelivered = metric_gauge("spend_ingest_journal_undelivered",
                                    "calls in the journal without Kafka's report", NULL, NULL);
    told.moved = metric_counter("spend_ingest_journal_moved_total",
                                "records moved forward so that an old segment could go", NULL, NULL);
    told.unfinished = metric_counter(
        "spend_ingest_unfinished_total",
        "calls whose record could not be written at once: tried again until it is", NULL, NULL);
}

static void tell(struct metric *m, int64_t n)
{
    if (m != NULL)
        metric_add(m, n);
}

static size_t record_max(void)
{
    return segment_record_size(LIMIT_CALL_BYTES);
}

/* Bytes that fit for certain, whatever the order of sizes: each segment may waste one record's room at its
 * end. */
static size_t room_certain(const struct journal *j)
{
    size_t left = segment_left(j->active);
    size_t sum = left > record_max() ? left - record_max() : 0;
    for (const struct segment *s = j->active->newer; s != NULL; s = s->newer)
        sum += s->size - SEGMENT_HEADER_BYTES - record_max();
    return sum;
}

static bool segment_add(struct journal *j, struct err *err)
{
    struct segment *s = NULL;
    if (!segment_create(j->dir_fd, j->next_number, j->segment_bytes, &s, err))
        return false;
    j->next_number++;
    *(j->newest == NULL ? &j->oldest : &j->newest->newer) = s;
    j->newest = s;
    j->segments++;
    tell(told.bytes, (int64_t)s->size);
    journal_sync_directory(j->sync, j->dir_fd);
    return true;
}

/* Room for `size` beyond what is set aside. beyond: past the journal's bytes too, to settle what is already
 * in it. */
static bool room_make(struct journal *j, size_t size, bool beyond, struct err *err)
{
    while (room_certain(j) < j->reserved + size) {
        if (j->segments >= j->segments_max && !beyond)
            return err_set(err, ERR_FULL, FATE_RETRY,
                           "journal: all %zu segments hold calls not delivered yet", j->segments);
        if (!segment_add(j, err))
            return false;
    }
    return true;
}

static void active_begin(struct journal *j)
{
    segment_begin(j->active, &j->instance, j->boot, j->next_seq);
    if (!j->damaged)
        journal_lock_reach(j->lock_fd, j->active->number);
}

static size_t record_append(struct journal *j, const struct journal_record *record, struct segment **where)
{
    if (segment_left(j->active) < segment_record_size(record->payload.len)) {
        assert(j->active->newer != NULL); /* room_make saw to it */
        j->active = j->active->newer;
        active_begin(j);
        j->compact_due = true;
    }
    *where = j->active;
    journal_sync_segment(j->sync, j->active);
    return segment_append(j->active, record);
}

/* The call's newest record stands somewhere else now. */
static void call_move(struct journal_call *call, struct segment *to, size_t offset)
{
    if (call->segment != NULL) {
        call->segment->live--;
        if (to != NULL)
            call->segment->until = journal_sync_next(call->home->sync);
    }
    call->segment = to;
    call->offset = offset;
    if (to != NULL)
        to->live++;
}

static void segments_release(struct journal *j)
{
    while (!j->damaged && j->oldest != j->active && j->oldest->live == 0 &&
           journal_sync_has(j->sync, j->oldest->until)) {
        struct segment *s = j->oldest;
        j->oldest = s->newer;
        j->segments--;
        tell(told.bytes, -(int64_t)s->size);
        segment_unlink(j->dir_fd, s);
        journal_sync_forget(j->sync, s);
        segment_free(s);
    }
}

/* Moves what little is live in the oldest segment forward, once half of the segments are in use. */
static void compact(struct journal *j)
{
    j->compact_due = false;
    if (j->segments * 2 < j->segments_max || j->oldest == j->active)
        return;
    struct segment *s = j->oldest;
    size_t bytes = 0;
    struct journal_record record;
    for (const struct journal_call *call = j->first; call != NULL; call = call->newer) {
        if (call->segment != s)
            continue;
        journal_read(call, &record);
        bytes += segment_record_size(record.payload.len);
    }
    struct err ignored;
    if (bytes > s->size / 4 || !room_make(j, bytes, false, &ignored))
        return;
    for (struct journal_call *call = j->first; call != NULL; call = call->newer) {
        if (call->segment != s)
            continue;
        journal_read(call, &record);
        struct segment *where = NULL;
        size_t offset = record_append(j, &record, &where);
        call_move(call, where, offset);
        tell(told.moved, 1);
    }
    segments_release(j);
}

static struct journal_call *call_add(struct journal *j, uint64_t seq, const struct uuid *call_id)
{
    struct journal_call *call = calloc(1, sizeof *call);
    if (call == NULL)
        return NULL;
    call->home = j;
    call->seq = seq;
    call->call_id = *call_id;
    call->older = j->last;
    *(j->last == NULL ? &j->first : &j->last->newer) = call;
    j->last = call;
    j->undelivered++;
    tell(told.undelivered, 1);
    return call;
}

static void left_settle(struct journal_call *call)
{
    if (call->left)
        call->home->left--;
    call->left = false;
    free(call->left_bytes);
    call->left_bytes = NULL;
}

static void call_drop(struct journal_call *call)
{
    struct journal *j = call->home;
    left_settle(call);
    *(call->older == NULL ? &j->first : &call->older->newer) = call->newer;
    *(call->newer == NULL ? &j->last : &call->newer->older) = call->older;
    j->undelivered--;
    j->reserved -= call->reserved;
    tell(told.undelivered, -1);
    call_move(call, NULL, 0);
    free(call);
}

/* The first record of a call, with `later` bytes set aside for those that follow it. */
static bool call_begin(struct journal *j, struct journal_record *record, size_t later,
                       struct journal_call **out, struct err *err)
{
    assert(record->payload.len <= LIMIT_CALL_BYTES);
    if (j->lost)
        return err_set(err, ERR_IO, FATE_RETRY, "journal: its files are gone");
    if (j->compact_due)
        compact(j);
    if (!room_make(j, segment_record_size(record->payload.len) + later, false, err))
        return false;
    struct journal_call *call = call_add(j, j->next_seq, &record->call_id);
    if (call == NULL)
        return err_set(err, ERR_MEMORY, FATE_RETRY, "journal: out of memory");
    record->seq = call->seq;
    struct segment *where = NULL;
    size_t offset = record_append(j, record, &where);
    call_move(call, where, offset);
    call->finished = record->kind == JOURNAL_FINISHED;
    call->reserved = later;
    j->reserved += later;
    j->next_seq++;
    call->round = journal_sync_want(j->sync);
    *out = call;
    return true;
}

bool journal_begin(struct journal *j, const struct uuid *call_id, struct strview head,
                   struct journal_call **out, struct err *err)
{
    struct journal_record record = {.kind = JOURNAL_OPEN, .call_id = *call_id, .payload = head};
    size_t later = segment_record_size(head.len + JOURNAL_FINISH_EXTRA) + segment_record_size(0);
    return call_begin(j, &record, later, out, err);
}

bool journal_put(struct journal *j, const struct uuid *call_id, struct strview bytes,
                 struct journal_call **out, struct err *err)
{
    struct journal_record record = {.kind = JOURNAL_FINISHED, .call_id = *call_id, .payload = bytes};
    return call_begin(j, &record, segment_record_size(0), out, err);
}

void journal_progress(const struct journal_call *call, uint64_t bytes)
{
    segment_set_progress(call->segment, call->offset, bytes);
}

/* Takes the room of a record from what was set aside, or makes more. */
static bool room_take(struct journal_call *call, size_t size, size_t keep, struct err *err)
{
    struct journal *j = call->home;
    j->reserved -= call->reserved;
    bool ok = room_make(j, size + keep, true, err);
    if (ok)
        call->reserved = keep;
    j->reserved += call->reserved; /* without room it keeps what it had, for another try */
    return ok;
}

bool journal_finish(struct journal_call *call, struct strview bytes, struct err *err)
{
    assert(!call->finished && bytes.len <= LIMIT_CALL_BYTES);
    struct journal_record record = {
        .kind = JOURNAL_FINISHED, .seq = call->seq, .call_id = call->call_id, .payload = bytes};
    if (!room_take(call, segment_record_size(bytes.len), segment_record_size(0), err))
        return false;
    struct segment *where = NULL;
    size_t offset = record_append(call->home, &record, &where);
    call_move(call, where, offset);
    call->finished = true;
    call->round = journal_sync_want(call->home->sync);
    left_settle(call);
    segments_release(call->home);
    return true;
}

void journal_leave(struct journal_call *call, struct strview bytes)
{
    assert(!call->finished && !call->left);
    tell(told.unfinished, 1);
    call->left = true;
    call->home->left++;
    call->left_len = bytes.len;
    call->left_bytes = bytes.len == 0 ? NULL : malloc(bytes.len);
    if (call->left_bytes != NULL)
        memcpy(call->left_bytes, bytes.ptr, bytes.len);
}

size_t journal_left(const struct journal *j)
{
    return j->left;
}

bool journal_is_settled(const struct journal_call *call)
{
    return journal_sync_is_over(call->home->sync, call->round);
}

void journal_delivered(struct journal_call *call)
{
    struct journal *j = call->home;
    struct err err = {0};
    struct journal_record record = {.kind = JOURNAL_DELIVERED, .seq = call->seq, .call_id = call->call_id};
    struct segment *where = NULL;
    if (room_take(call, segment_record_size(0), 0, &err))
        (void)record_append(j, &record, &where);
    else /* the next start produces the same bytes once more, which is harmless */
        log_warn("journal_delivered_unwritten", LOG_INT("seq", call->seq), LOG_ERR(&err), LOG_END);
    call_drop(call);
    segments_release(j);
}

void journal_read(const struct journal_call *call, struct journal_record *out)
{
    segment_at(call->segment, call->offset, out);
}

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
    return journal_lock_take(j->dir_fd, &j->lock_fd, err) || err_wrap(err, "journal %s", j->name);
}

static bool segment_first(struct journal *j, struct err *err)
{
    if (!segment_add(j, err))
        return false;
    j->active = j->newest;
    active_begin(j);
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
        tell(told.bytes, (int64_t)s->size);
        journal_sync_segment(j->sync, s); /* nobody knows how much of it is on disk */
        s->until = journal_sync_next(j->sync);
    }
    for (size_t i = 0; i < scan->count; i++) {
        struct journal_call *call = call_add(j, scan->call[i].seq, &scan->call[i].call_id);
        if (call == NULL)
            return err_set(err, ERR_MEMORY, FATE_FATAL, "journal: out of memory");
        call->finished = scan->call[i].kind == JOURNAL_FINISHED;
        call->round = journal_sync_want(j->sync);
        call_move(call, scan->call[i].segment, scan->call[i].offset);
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
    /* what is damaged stays so, should the machine end: its note is not touched */
    if ((!j->damaged && !journal_lock_note(j->lock_fd, JOURNAL_IN_USE, 0, err)) || !segment_first(j, err))
        goto done;
    segments_release(j);
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
        call_drop(call);
    }
    while (j->oldest != NULL) {
        struct segment *s = j->oldest;
        j->oldest = s->newer;
        tell(told.bytes, -(int64_t)s->size);
        journal_sync_forget(j->sync, s);
        segment_free(s);
    }
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

bool journal_has_room(struct journal *j, struct err *err)
{
    return room_make(j, 2 * record_max() + JOURNAL_FINISH_EXTRA, false, err);
}

bool journal_is_there(struct journal *j, struct err *err)
{
    struct stat st;
    size_t gone = 0;
    for (const struct segment *s = j->oldest; s != NULL; s = s->newer)
        gone += fstat(s->fd, &st) != 0 || st.st_nlink == 0 ? 1 : 0;
    j->lost = gone > 0 || !journal_lock_is_at(j->lock_fd, j->dir, j->name);
    return !j->lost || err_set(err, ERR_IO, FATE_RETRY, "journal: gone from %s: %s, %zu of %zu segments",
                               j->dir, j->name, gone, j->segments);
}
