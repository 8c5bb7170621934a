/*
 * journal_sync: what journals wrote, to their disk, in rounds, while their owner goes on. While one round is
 * under way in a helper thread all that is written waits for the next, which takes it at once: groups without
 * a timer. Owns the thread, and a descriptor of its own of each file it syncs. NULL stands for no syncing:
 * all is over at once. Thread: one owner, who learns of a round's end by a descriptor.
 */
#ifndef SPEND_JOURNAL_JOURNAL_SYNC_H
#define SPEND_JOURNAL_JOURNAL_SYNC_H

#include "journal/journal_segment.h"

struct journal_sync;

/* One who waits for a round's end. Its owner's; zero it before the first use. */
struct sync_wait {
    void (*done)(void *arg, bool on_disk);
    void *arg;
    uint64_t round; /* 0: does not wait */
    struct sync_wait *older;
    struct sync_wait *newer;
};

/* Registers metrics, too: one a process. */
bool journal_sync_new(struct journal_sync **out, struct err *err) NODISCARD;
void journal_sync_free(struct journal_sync *s);    /* waits for the disk; nobody may wait any more */
int journal_sync_fd(const struct journal_sync *s); /* readable: poll */
void journal_sync_poll(struct journal_sync *s);    /* ends a round, begins the next, calls those who waited */
/* The disk takes what it is given, and answers in time. Each tick: tries again after a failure. */
bool journal_sync_check(struct journal_sync *s, struct err *err) NODISCARD;

/* What the next round takes: a segment with new bytes, a directory with a new name. */
void journal_sync_segment(struct journal_sync *s, struct segment *segment);
void journal_sync_directory(struct journal_sync *s, int dir_fd);
void journal_sync_forget(struct journal_sync *s, const struct segment *segment); /* it is about to go */

uint64_t journal_sync_next(const struct journal_sync *s); /* the round that takes what is written now */
uint64_t journal_sync_want(struct journal_sync *s);       /* .. and see that it begins as soon as it can */
bool journal_sync_is_over(const struct journal_sync *s, uint64_t round); /* the disk has answered */
bool journal_sync_has(const struct journal_sync *s, uint64_t round);     /* all up to it is on disk */
/* true: done will be called at the round's end. false: it is over; journal_sync_has tells how. */
bool journal_sync_wait(struct journal_sync *s, uint64_t round, struct sync_wait *w);
void journal_sync_drop(struct journal_sync *s, struct sync_wait *w); /* does not wait any more, if it did */

#endif
