/*
 * journal_scan: every record into one array, sorted by (seq, segment, offset); the last one of a seq decides.
 */
#include "journal/journal_scan.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_segment(const struct dirent *entry)
{
    uint64_t number = 0;
    return segment_name_parse(entry->d_name, &number) ? 1 : 0;
}

static bool segment_take(int dir_fd, const struct uuid *instance, const char *name, struct journal_scan *out,
                         bool *is_begun, struct err *err)
{
    struct segment *s = NULL;
    if (!segment_open(dir_fd, name, instance, &s, err))
        return false;
    *is_begun = s != NULL;
    if (s == NULL)
        return true;
    if (s->damaged) {
        out->found.damaged++;
        log_error("journal_segment_damaged", LOG_STR("segment", name), LOG_END);
    }
    *(out->newest == NULL ? &out->oldest : &out->newest->newer) = s;
    out->newest = s;
    out->segments++;
    out->boot = s->boot > out->boot ? s->boot : out->boot;
    out->next_seq = s->next_seq > out->next_seq ? s->next_seq : out->next_seq;
    return true;
}

static bool records_read(struct journal_scan *out, struct err *err)
{
    size_t room = 0;
    for (struct segment *s = out->oldest; s != NULL; s = s->newer) {
        size_t at = 0;
        size_t offset = 0;
        struct journal_record record;
        while (segment_next(s, &at, &offset, &record, &out->found.skipped)) {
            if (out->count == room) {
                room = room == 0 ? 1024 : room * 2;
                struct scan_call *more = realloc(out->call, room * sizeof *more);
                if (more == NULL)
                    return err_set(err, ERR_MEMORY, FATE_FATAL, "journal: out of memory");
                out->call = more;
            }
            out->call[out->count++] = (struct scan_call){record.seq, record.call_id, record.kind, s, offset};
            out->next_seq = record.seq >= out->next_seq ? record.seq + 1 : out->next_seq;
        }
        s->at = at;
    }
    return true;
}

static int call_order(const void *a, const void *b)
{
    const struct scan_call *x = a;
    const struct scan_call *y = b;
    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    if (x->segment->number != y->segment->number)
        return x->segment->number < y->segment->number ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Leaves the newest record of each call that was not delivered. From the oldest segment's first number on
 * each has a record: segments go oldest first, so one that is missing between them shows. */
static void calls_fold(struct journal_scan *out)
{
    if (out->count > 1)
        qsort(out->call, out->count, sizeof *out->call, call_order);
    size_t kept = 0;
    uint64_t due = out->oldest == NULL || out->oldest->damaged ? out->next_seq : out->oldest->next_seq;
    for (size_t i = 0; i < out->count;) {
        struct scan_call newest = out->call[i];
        uint64_t seq = newest.seq;
        out->found.cut = out->found.cut || seq > due;
        due += seq == due ? 1 : 0;
        for (; i < out->count && out->call[i].seq == seq; i++)
            if (out->call[i].kind >= newest.kind)
                newest = out->call[i];
        if (newest.kind == JOURNAL_DELIVERED)
            continue;
        *(newest.kind == JOURNAL_OPEN ? &out->found.open : &out->found.finished) += 1;
        out->call[kept++] = newest;
    }
    out->count = kept;
}

static void judge(struct journal_scan *out)
{
    const struct journal_note *note = &out->note;
    struct journal_found *found = &out->found;
    bool closed = note->state == JOURNAL_CLOSED;
    uint64_t begun = out->newest == NULL ? 0 : out->newest->number;
    if (note->state != JOURNAL_IN_USE)
        found->cut |= note->reached != out->next_seq;
    else
        found->cut |= note->this_boot ? begun < note->reached : note->is_there || out->segments > 0;
    out->damaged = found->damaged > 0 || found->skipped > 0 || found->cut;
    out->over = out->segments == 0 ? closed || !out->damaged : closed && !note->this_boot;
}

/* Segments are begun in their numbers' order: what stands empty before a begun one was emptied, and stays as
 * evidence; behind the last one it is room that was never used. */
static bool segments_read(int dir_fd, const struct uuid *instance, struct dirent **found, int count,
                          struct journal_scan *out, struct err *err)
{
    int unused = 0;
    for (int i = 0; i < count; i++) {
        bool is_begun = false;
        (void)segment_name_parse(found[i]->d_name, &out->last_number);
        if (!segment_take(dir_fd, instance, found[i]->d_name, out, &is_begun, err))
            return false;
        if (is_begun && unused < i) {
            out->found.cut = true;
            log_error("journal_segment_emptied", LOG_STR("segment", found[unused]->d_name), LOG_END);
        }
        unused = is_begun ? i + 1 : unused;
    }
    for (int i = unused; i < count; i++)
        (void)unlinkat(dir_fd, found[i]->d_name, 0);
    return true;
}

bool journal_scan(int dir_fd, int lock_fd, const struct uuid *instance, struct journal_scan *out,
                  struct err *err)
{
    *out = (struct journal_scan){.next_seq = 1};
    struct dirent **found = NULL;
    int count = scandirat(dir_fd, ".", &found, is_segment, alphasort); /* numbers have leading zeros */
    bool ok = count >= 0 || err_set(err, ERR_IO, FATE_FATAL, "journal: cannot list: %s", strerror(errno));
    ok = ok && segments_read(dir_fd, instance, found, count, out, err) && records_read(out, err);
    for (int i = 0; i < count; i++)
        free(found[i]);
    free(found);
    if (!ok) {
        journal_scan_free(out);
        return false;
    }
    calls_fold(out);
    out->note = journal_lock_read(lock_fd);
    judge(out);
    return true;
}

void journal_scan_free(struct journal_scan *scan)
{
    while (scan->oldest != NULL) {
        struct segment *s = scan->oldest;
        scan->oldest = s->newer;
        segment_free(s);
    }
    free(scan->call);
    scan->call = NULL;
    scan->count = 0;
}
