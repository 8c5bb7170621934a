/*
 * journal_lock: the file by which one process owns a journal's directory (an OFD lock, given back when the
 * descriptor is closed). It notes on disk how far the journal was when it stopped, and in which boot of the
 * machine: pages that were lost with the machine's power read as zeros and cannot tell.
 */
#ifndef SPEND_JOURNAL_JOURNAL_LOCK_H
#define SPEND_JOURNAL_JOURNAL_LOCK_H

#include "base/err.h"

#include <stdint.h>

#define JOURNAL_LOCK_NAME "lock"

enum journal_state {
    JOURNAL_IN_USE,
    JOURNAL_SYNCED, /* stopped with calls in it, all of them on disk */
    JOURNAL_CLOSED, /* stopped, and Kafka has all of it */
};

struct journal_note {
    bool is_there;
    bool this_boot; /* of the machine */
    enum journal_state state;
    uint64_t reached; /* next_seq; in use: the number of the last segment begun, 0: not known */
};

/* *lock_fd is the caller's to close, also on failure. ERR_STATE: somebody else has it, or it is gone. */
bool journal_lock_take(int dir_fd, int *lock_fd, struct err *err) NODISCARD;
struct journal_note journal_lock_read(int lock_fd);
/* The next start will find this very file there. */
bool journal_lock_is_at(int lock_fd, const char *dir, const char *name);
/* Replaces the note. Waits for the disk. */
bool journal_lock_note(int lock_fd, enum journal_state state, uint64_t reached, struct err *err) NODISCARD;
/* In use, as it was noted, and a segment was begun. Waits for nothing: a killed process loses nothing. */
void journal_lock_reach(int lock_fd, uint64_t number);

#endif
