/*
 * journal_inside: what journal.c (directories: opened, stopped, removed) and journal_calls.c (calls and their
 * records) share, and nobody else sees.
 */
#ifndef SPEND_JOURNAL_JOURNAL_INSIDE_H
#define SPEND_JOURNAL_JOURNAL_INSIDE_H

#include "base/metrics.h"
#include "journal/journal.h"

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
    struct segment *spare; /* done with, to be used again; NULL: none. Counts as a segment of the bytes */
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
struct journal_told {
    struct metric *bytes, *undelivered, *moved, *unfinished;
};
extern struct journal_told journal_told;

void journal_tell(struct metric *m, int64_t n);
bool journal_segment_add(struct journal *j, struct err *err);
void journal_active_begin(struct journal *j);
void journal_segments_release(struct journal *j);
void journal_spare_drop(struct journal *j);
struct journal_call *journal_call_add(struct journal *j, uint64_t seq, const struct uuid *call_id);
void journal_call_move(struct journal_call *call, struct segment *to, size_t offset);
void journal_call_drop(struct journal_call *call);

#endif
