/*
 * journal_calls: entries in seq order, segments in number order, oldest first. A segment goes once nothing
 * live stands in it and no older one is left, so a `delivered` always outlives the records it settles. A call
 * that stays open for long would pin every segment after its own: its record is moved forward instead.
 */
#include "journal/journal_inside.h"

#include "base/limits.h"
#include "base/log.h"
#include "journal/journal_lock.h"
#include "journal/journal_sync.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WIPE_BYTES (64 << 10) /* of the spare at once: some 10 us */

struct journal_told journal_told;

void journal_metrics_open(void)
{
    journal_told.bytes =
        metric_gauge("spend_ingest_journal_bytes", "bytes of journal segments on disk", NULL, NULL);
    journal_told.undelivered = metric_gauge("spend_ingest_journal_undelivered",
                                            "calls in the journal without Kafka's report", NULL, NULL);
    journal_told.moved = metric_counter("spend_ingest_journal_moved_total",
                                        "records moved forward so that an old segment could go", NULL, NULL);
    journal_told.unfinished = metric_counter(
        "spend_ingest_unfinished_total",
        "calls whose record could not be written at once: tried again until it is", NULL, NULL);
}

void journal_tell(struct metric *m, int64_t n)
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

void journal_spare_drop(struct journal *j)
{
    if (j->spare == NULL)
        return;
    (void)unlinkat(j->dir_fd, SEGMENT_SPARE_NAME, 0);
    journal_tell(journal_told.bytes, -(int64_t)j->spare->size);
    segment_free(j->spare);
    j->spare = NULL;
}

static bool segment_take(struct journal *j, struct segment **out, struct err *err)
{
    if (j->spare != NULL && segment_spare_use(j->dir_fd, j->spare, j->next_number)) {
        *out = j->spare;
        j->spare = NULL;
        return true;
    }
    journal_spare_drop(j);
    if (!segment_create(j->dir_fd, j->next_number, j->segment_bytes, out, err))
        return false;
    journal_tell(journal_told.bytes, (int64_t)(*out)->size);
    return true;
}

bool journal_segment_add(struct journal *j, struct err *err)
{
    struct segment *s = NULL;
    if (!segment_take(j, &s, err))
        return false;
    j->next_number++;
    *(j->newest == NULL ? &j->oldest : &j->newest->newer) = s;
    j->newest = s;
    j->segments++;
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
        if (!journal_segment_add(j, err))
            return false;
    }
    return true;
}

void journal_active_begin(struct journal *j)
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
        journal_active_begin(j);
        j->compact_due = true;
    }
    if (j->spare != NULL && j->spare->ready < 2 * j->active->at) /* done before it is needed */
        segment_spare_wipe(j->spare, WIPE_BYTES);
    *where = j->active;
    journal_sync_segment(j->sync, j->active);
    return segment_append(j->active, record);
}

/* The call's newest record stands somewhere else now. */
void journal_call_move(struct journal_call *call, struct segment *to, size_t offset)
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

void journal_segments_release(struct journal *j)
{
    while (!j->damaged && j->oldest != j->active && j->oldest->live == 0 &&
           journal_sync_has(j->sync, j->oldest->until)) {
        struct segment *s = j->oldest;
        j->oldest = s->newer;
        j->segments--;
        if (j->sync == NULL && j->spare == NULL && s->size == j->segment_bytes &&
            j->segments < j->segments_max && segment_spare(j->dir_fd, s)) {
            j->spare = s;
            continue;
        }
        journal_tell(journal_told.bytes, -(int64_t)s->size);
        segment_unlink(j->dir_fd, s);
        journal_sync_forget(j->sync, s);
        segment_free(s);
    }
}

/* Moves what little is live in the oldest segment forward, once half of the segments are in use. */
static void compact(struct journal *j)
{
    j->compact_due = false;
    if (j->lost || j->segments * 2 < j->segments_max || j->oldest == j->active)
        return;
    struct segment *s = j->oldest;
    size_t bytes = 0;
    size_t live = s->live;
    struct journal_record record;
    for (const struct journal_call *call = j->first; live > 0; call = call->newer) {
        if (call->segment != s)
            continue;
        journal_read(call, &record);
        bytes += segment_record_size(record.payload.len);
        live--;
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
        journal_call_move(call, where, offset);
        journal_tell(journal_told.moved, 1);
    }
    journal_segments_release(j);
}

struct journal_call *journal_call_add(struct journal *j, uint64_t seq, const struct uuid *call_id)
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
    journal_tell(journal_told.undelivered, 1);
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

void journal_call_drop(struct journal_call *call)
{
    struct journal *j = call->home;
    left_settle(call);
    *(call->older == NULL ? &j->first : &call->older->newer) = call->newer;
    *(call->newer == NULL ? &j->last : &call->newer->older) = call->older;
    j->undelivered--;
    j->reserved -= call->reserved;
    journal_tell(journal_told.undelivered, -1);
    journal_call_move(call, NULL, 0);
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
    struct journal_call *call = journal_call_add(j, j->next_seq, &record->call_id);
    if (call == NULL)
        return err_set(err, ERR_MEMORY, FATE_RETRY, "journal: out of memory");
    record->seq = call->seq;
    struct segment *where = NULL;
    size_t offset = record_append(j, record, &where);
    journal_call_move(call, where, offset);
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

/* All but those that are there in advance, for calls under way. */
static size_t segments_begun(const struct journal *j)
{
    size_t begun = j->segments;
    for (const struct segment *s = j->active->newer; s != NULL; s = s->newer)
        begun--;
    return begun;
}

bool journal_put(struct journal *j, const struct uuid *call_id, struct strview bytes,
                 struct journal_call **out, struct err *err)
{
    struct journal_record record = {.kind = JOURNAL_FINISHED, .call_id = *call_id, .payload = bytes};
    /* what pins the older half may go to the newer one; it was too much perhaps when it was tried last */
    if (j->compact_due || segments_begun(j) * 2 > j->segments_max)
        compact(j);
    if (segments_begun(j) * 2 > j->segments_max)
        return err_set(err, ERR_FULL, FATE_RETRY, "journal: its other half is for calls that come through");
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
    journal_call_move(call, where, offset);
    call->finished = true;
    call->round = journal_sync_want(call->home->sync);
    left_settle(call);
    journal_segments_release(call->home);
    return true;
}

void journal_leave(struct journal_call *call, struct strview bytes)
{
    assert(!call->finished && !call->left);
    journal_tell(journal_told.unfinished, 1);
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
    journal_call_drop(call);
    journal_segments_release(j);
}

void journal_read(const struct journal_call *call, struct journal_record *out)
{
    segment_at(call->segment, call->offset, out);
}

bool journal_has_room(struct journal *j, struct err *err)
{
    return room_make(j, 2 * record_max() + JOURNAL_FINISH_EXTRA, false, err);
}
