/*
 * journal_scan: reads a journal directory's segments, oldest first, and what its stop has noted of it, and
 * says which calls are not delivered.
 * Of a damaged segment the records that check are read; never-begun ones are removed. Owns nothing after it
 * returned.
 */
#ifndef SPEND_JOURNAL_JOURNAL_SCAN_H
#define SPEND_JOURNAL_JOURNAL_SCAN_H

#include "journal/journal.h"
#include "journal/journal_lock.h"

/* The newest record of one call. */
struct scan_call {
    uint64_t seq;
    struct uuid call_id;
    enum journal_kind kind; /* open or finished */
    struct segment *segment;
    size_t offset;
};

struct journal_scan {
    struct segment *oldest; /* the caller's: a list by ->newer */
    struct segment *newest;
    struct scan_call *call; /* the caller's: by seq; free() */
    size_t count;
    uint64_t next_seq;
    uint64_t boot;
    uint64_t last_number; /* highest segment number seen */
    size_t segments;
    struct journal_found found;
    struct journal_note note;
    bool damaged; /* not all of it can be read, or was written */
    bool over;    /* Kafka has all of it, whatever became of it with the machine; or nothing was in it */
};

bool journal_scan(int dir_fd, int lock_fd, const struct uuid *instance, struct journal_scan *out,
                  struct err *err) NODISCARD;
void journal_scan_free(struct journal_scan *scan); /* what was not taken over (set to NULL) */

#endif
