/*
 * journal: what must not be forgotten about calls: opened, finished, delivered. A directory of segments,
 * named by its instance (UUIDv7) and locked (OFD) by whoever has it open. seq runs on over boots without
 * holes. Owns the directory, its segments and one entry a call that is not delivered yet. Room for a call's
 * `finished` and `delivered` is set aside when it opens, so an opened call can always be finished. Refuses:
 * to grow past its bytes (ERR_FULL). Thread: one owner.
 */
#ifndef SPEND_JOURNAL_JOURNAL_H
#define SPEND_JOURNAL_JOURNAL_H

#include "journal/journal_segment.h"
#include "journal/journal_sync.h"

struct journal;

/* One call that Kafka has not reported yet. The journal owns it; it is gone after journal_delivered. */
struct journal_call {
    struct journal *home;
    uint64_t seq;
    struct uuid call_id;
    bool finished;
    bool left;        /* over, but not finished yet: recovery tries again */
    char *left_bytes; /* .. with these, NULL: with what its head makes */
    size_t left_len;
    bool sent;    /* delivery's: a report is due */
    bool waiting; /* delivery's: in its queue */
    struct journal_call *next_waiting;
    void (*on_delivered)(void *arg); /* delivery's: told once Kafka has it; NULL: nobody is */
    void *on_delivered_arg;
    struct segment *segment; /* where its newest record stands */
    size_t offset;
    size_t reserved; /* bytes set aside for it */
    uint64_t round;  /* journal_sync's, that puts its newest record on disk */
    struct journal_call *older;
    struct journal_call *newer;
};

struct journal_options {
    const char *dir; /* the folder all journals live in */
    size_t bytes;
    size_t segment_bytes;
    struct journal_sync *sync; /* NULL: the kernel writes when it likes to. The caller's, as dir is */
};

/* What opening found. */
struct journal_found {
    size_t finished; /* calls to be produced again */
    size_t open;     /* calls a crash left open */
    size_t skipped;  /* bytes that could not be read */
    size_t damaged;  /* segments whose header is damaged */
    bool cut;        /* its end is gone, or the machine stopped while it was in use: calls are lost, unseen */
};

/* Registers what all journals of the process count: once, before any is opened. */
void journal_metrics_open(void);

/* A new directory, boot 1, seq from 1. */
bool journal_create(struct journal **out, const struct journal_options *o, int64_t utc_us,
                    struct err *err) NODISCARD;
/*
 * An existing one. Boot is one more when `own`, else as it was. ERR_STATE: somebody else has it, or it is
 * gone, or nothing was left to do in it and it was removed; ERR_INVALID, while `own`: not all of it can be
 * read, or the machine was started anew since. Its seq may not go on then.
 */
bool journal_open(struct journal **out, const struct journal_options *o, const char *name, bool own,
                  struct journal_found *found, struct err *err) NODISCARD;
/* Closes and unlocks; undelivered calls stay on disk. NULL allowed. */
void journal_free(struct journal *j);
/*
 * The same at a stop in good order, noted for good: the machine's end takes nothing of it from then on.
 * closed: Kafka has all of it, and knows next_seq; else all of it is written to disk first. Waits for the
 * disk. What cannot be noted is logged: an alarm at the next start, should the machine have ended. NULL
 * allowed.
 */
void journal_stop(struct journal *j, bool closed);
/* Removes the directory of an emptied journal, then closes. */
void journal_remove(struct journal *j);
/* Not all of it can be read, or was written: what is on disk stays, and how far it got is not known. */
bool journal_is_damaged(const struct journal *j);
/* Adds to the name of an emptied, damaged journal's directory, so that no starter takes it, then closes. */
#define JOURNAL_SET_ASIDE ".damaged"
void journal_set_aside(struct journal *j);

/* Writes `open`. The entry is the journal's. ERR_FULL: no room on disk or within the journal's bytes; ERR_IO:
 * its files are gone; the err says. */
bool journal_begin(struct journal *j, const struct uuid *call_id, struct strview head,
                   struct journal_call **out, struct err *err) NODISCARD;
/* Writes `finished` at once, of a call that was over when it was told. As journal_begin else, but within half
 * of the journal's segments: others can tell again, a caller waits. */
bool journal_put(struct journal *j, const struct uuid *call_id, struct strview bytes,
                 struct journal_call **out, struct err *err) NODISCARD;
/* The seq that the next journal_begin or _put gives: a head is made with it. */
uint64_t journal_next_seq(const struct journal *j);
/* Text bytes replied so far, for the estimate after a crash. */
void journal_progress(const struct journal_call *call, uint64_t bytes);
/* Writes `finished`. Never fails for want of room when bytes are at most the head's + JOURNAL_FINISH_EXTRA.
 */
#define JOURNAL_FINISH_EXTRA (12 << 10)
bool journal_finish(struct journal_call *call, struct strview bytes, struct err *err) NODISCARD;
/* It is over and could not be finished: kept for another try, with bytes when they are not empty. */
void journal_leave(struct journal_call *call, struct strview bytes);
size_t journal_left(const struct journal *j); /* calls left so */
/* The disk has answered for its newest record: it may be produced. (If it refused it, all the more.) */
bool journal_is_settled(const struct journal_call *call);
/* Writes `delivered` and forgets the call. */
void journal_delivered(struct journal_call *call);

/* The newest record of a call: head or finished bytes, call id, progress. */
void journal_read(const struct journal_call *call, struct journal_record *out);
struct journal_call *
journal_oldest(const struct journal *j); /* NULL when all is delivered; go on with ->newer */
size_t journal_undelivered(const struct journal *j);
uint64_t journal_oldest_open_seq(const struct journal *j); /* = next_seq when nothing is open */
uint64_t journal_boot(const struct journal *j);
const char *journal_instance(const struct journal *j);     /* UUID text */
bool journal_has_room(struct journal *j, struct err *err); /* for one more large call */
/* Its files are where a start will look for them. Until they are again, no call begins. */
bool journal_is_there(struct journal *j, struct err *err);

#endif
