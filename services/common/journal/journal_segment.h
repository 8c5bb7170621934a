/*
 * journal_segment: one preallocated, mapped file of the journal: a header, then checksummed records, then
 * zeros. Owns the descriptor and the mapping. Layout (little endian, records 8-byte aligned) in
 * docs/ingest.md. A record's checksum starts from a random salt of its segment, so that no caller's text can
 * pose as a record.
 */
#ifndef SPEND_JOURNAL_JOURNAL_SEGMENT_H
#define SPEND_JOURNAL_JOURNAL_SEGMENT_H

#include "base/err.h"
#include "base/uuid.h"

#define SEGMENT_HEADER_BYTES 64
#define SEGMENT_RECORD_BYTES 48 /* before the payload */

enum journal_kind {
    JOURNAL_OPEN = 1,      /* payload: the call as `unknown`, Avro */
    JOURNAL_FINISHED = 2,  /* payload: the bytes that are produced */
    JOURNAL_DELIVERED = 3, /* no payload */
};

struct journal_record {
    enum journal_kind kind;
    uint64_t seq;
    struct uuid call_id;
    uint64_t progress; /* bytes of text replied so far; not under the checksum: changed in place */
    struct strview payload;
};

struct segment {
    uint64_t number; /* 1, 2, ..: the file's name */
    int fd;
    char *map;
    size_t size;
    size_t at;    /* where the next record goes; 0: no header yet */
    size_t ready; /* bytes whose pages were made ahead; of a spare one: that are zero again */
    uint32_t salt;
    size_t live;  /* calls whose newest record stands here */
    bool damaged; /* its header does not check: only its records do, each by itself, if the salt is right */
    bool stale;   /* damaged, for the disk has what it was before it was wiped: no record of it is read */
    uint64_t boot;
    uint64_t next_seq; /* when it was begun */
    struct segment *newer;
    bool due;       /* journal_sync's: the next round has it */
    uint64_t until; /* what was moved out of it is on disk elsewhere after this round */
};

/* A new file of `size` bytes, all of them on disk, without header. ERR_FULL when the disk has no room. */
bool segment_create(int dir_fd, uint64_t number, size_t size, struct segment **out,
                    struct err *err) NODISCARD;
/* Writes the header: from now on it takes records. */
void segment_begin(struct segment *s, const struct uuid *instance, uint64_t boot, uint64_t next_seq);
/* An existing file, to read. *out NULL and true: it was never begun. A header that does not check: damaged,
 * and what it says is not believed. */
bool segment_open(int dir_fd, const char *name, const struct uuid *instance, struct segment **out,
                  struct err *err) NODISCARD;
void segment_free(struct segment *s); /* unmaps and closes; the file stays */
void segment_unlink(int dir_fd, const struct segment *s);

/*
 * One that is done with may become the spare of its directory and, once it is zero again, another segment:
 * its pages are there, and the first write to a new page costs as much as a record. A file of the spare's
 * name holds nothing. Not for a journal that is synced: the disk may have the new name before the zeros.
 */
#define SEGMENT_SPARE_NAME "spare"
bool segment_spare(int dir_fd, struct segment *s) NODISCARD; /* false: it is what it was */
void segment_spare_wipe(struct segment *s, size_t bytes);    /* so many more of it, if there are */
/* Wipes the rest and names it. false: it stays the spare. */
bool segment_spare_use(int dir_fd, struct segment *s, uint64_t number) NODISCARD;

/* "0000000000000001.seg" and back. */
#define SEGMENT_NAME_ROOM 32
void segment_name(uint64_t number, char out[SEGMENT_NAME_ROOM]);
bool segment_name_parse(const char *name, uint64_t *number);

/* Waits until the disk has all of it. */
bool segment_sync(const struct segment *s, struct err *err) NODISCARD;
/* The kernel takes pages for written when the disk has refused them: all of them are to be written again. */
void segment_dirty(const struct segment *s);
/* Bytes a record with that payload takes. */
size_t segment_record_size(size_t payload);
size_t segment_left(const struct segment *s);
/* Appends; the room must be there (assert). Returns the record's offset. */
size_t segment_append(struct segment *s, const struct journal_record *record);
void segment_set_progress(const struct segment *s, size_t offset, uint64_t progress);
/* The record at an offset that was appended or read before; views into the mapping. */
void segment_at(const struct segment *s, size_t offset, struct journal_record *out);

/*
 * The next good record from *at on (0: the first), its offset in *offset. Reads over what is torn or zero,
 * and counts its bytes in *skipped; behind the last record neither zeros nor what a kill kept from being one.
 * false at the end.
 */
bool segment_next(const struct segment *s, size_t *at, size_t *offset, struct journal_record *out,
                  size_t *skipped);

#endif
