/*
 * journal_segment: a record's first eight bytes (magic and checksum) are stored last, in one store, and so
 * is a header's checksum: a killed process leaves either the whole or none. A machine that dies may tear
 * pages: the checksum tells.
 */
#include "journal/journal_segment.h"

#include "journal/crc32c.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define AHEAD_BYTES   (256 << 10)
#define PAGE_BYTES    4096 /* or a part of one */
#define SEGMENT_MAGIC "SPNDJNL1"
#define RECORD_MAGIC  0x4c4a5053U /* "SPJL" */

struct segment_header {
    char magic[8];
    struct uuid instance;
    uint64_t number;
    uint64_t boot;
    uint64_t next_seq;
    uint32_t salt;
    uint32_t crc;  /* of all before it */
    uint64_t size; /* of the file; not under the checksum */
};
_Static_assert(sizeof(struct segment_header) == SEGMENT_HEADER_BYTES, "the header's layout is on disk");

struct record_head {
    uint32_t magic;
    uint32_t crc;
    uint32_t len;
    uint32_t kind;
    uint64_t seq;
    struct uuid call_id;
    uint64_t progress;
};
_Static_assert(sizeof(struct record_head) == SEGMENT_RECORD_BYTES, "the record's layout is on disk");

#define COVERED_FROM offsetof(struct record_head, len)
#define COVERED_TO   offsetof(struct record_head, progress)

void segment_name(uint64_t number, char out[SEGMENT_NAME_ROOM])
{
    (void)snprintf(out, SEGMENT_NAME_ROOM, "%016" PRIu64 ".seg", number);
}

bool segment_name_parse(const char *name, uint64_t *number)
{
    struct strview v = sv_of(name);
    int64_t n = 0;
    if (v.len != 20 || strcmp(name + 16, ".seg") != 0 || !sv_to_i64((struct strview){name, 16}, &n) || n < 1)
        return false;
    *number = (uint64_t)n;
    return true;
}

static bool map_file(struct segment *s, struct err *err)
{
    void *map = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    if (map == MAP_FAILED)
        return err_set(err, ERR_IO, FATE_FATAL, "journal: cannot map a segment: %s", strerror(errno));
    s->map = map;
    return true;
}

static struct segment *segment_alloc(struct err *err)
{
    struct segment *s = calloc(1, sizeof *s);
    if (s == NULL)
        (void)err_set(err, ERR_MEMORY, FATE_FATAL, "journal: out of memory");
    else
        s->fd = -1;
    return s;
}

bool segment_create(int dir_fd, uint64_t number, size_t size, struct segment **out, struct err *err)
{
    bool ok = false;
    int failed = 0;
    char name[SEGMENT_NAME_ROOM];
    segment_name(number, name);
    struct segment *s = segment_alloc(err);
    if (s == NULL)
        return false;
    s->number = number;
    s->size = size;
    s->fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (s->fd < 0) {
        (void)err_set(err, ERR_IO, FATE_RETRY, "journal: cannot create %s: %s", name, strerror(errno));
        goto done;
    }
    failed = posix_fallocate(s->fd, 0, (off_t)size);
    if (failed != 0) {
        (void)err_set(err, ERR_FULL, FATE_RETRY, "journal: no room on disk for %s: %s", name,
                      strerror(failed));
        (void)unlinkat(dir_fd, name, 0);
        goto done;
    }
    if (!map_file(s, err)) {
        (void)unlinkat(dir_fd, name, 0);
        goto done;
    }
    *out = s;
    s = NULL;
    ok = true;
done:
    segment_free(s);
    return ok;
}

static uint32_t header_crc(const struct segment_header *h)
{
    return crc32c(0, h, offsetof(struct segment_header, crc));
}

void segment_begin(struct segment *s, const struct uuid *instance, uint64_t boot, uint64_t next_seq)
{
    struct segment_header h = {
        .instance = *instance, .number = s->number, .boot = boot, .next_seq = next_seq, .size = s->size};
    memcpy(h.magic, SEGMENT_MAGIC, sizeof h.magic);
    if (getrandom(&h.salt, sizeof h.salt, 0) != (ssize_t)sizeof h.salt)
        h.salt = (uint32_t)(boot ^ next_seq);
    memcpy(s->map, &h, sizeof h);
    h.crc = header_crc(&h);
    __atomic_store_n((uint32_t *)(void *)(s->map + offsetof(struct segment_header, crc)), h.crc,
                     __ATOMIC_RELEASE);
    s->salt = h.salt;
    s->boot = boot;
    s->next_seq = next_seq;
    s->at = SEGMENT_HEADER_BYTES;
}

static bool is_zero(const char *bytes, size_t len)
{
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* s->at stays 0: never begun. */
static void header_read(struct segment *s, const struct uuid *instance)
{
    struct segment_header h;
    assert(s->map != NULL && s->size >= sizeof h);
    memcpy(&h, s->map, sizeof h);
    if (h.crc == 0 && is_zero(s->map + sizeof h, s->size - sizeof h)) /* a kill may have come in between */
        return;
    bool ours = memcmp(h.magic, SEGMENT_MAGIC, sizeof h.magic) == 0 && h.crc == header_crc(&h) &&
                uuid_cmp(&h.instance, instance) == 0;
    s->damaged = !ours || h.number != s->number || h.size != s->size;
    s->stale = ours && h.number < s->number; /* power went behind its new name, and before the zeros */
    s->salt = h.salt;
    s->boot = s->damaged ? 0 : h.boot;
    s->next_seq = s->damaged ? 0 : h.next_seq;
    s->at = SEGMENT_HEADER_BYTES;
}

bool segment_open(int dir_fd, const char *name, const struct uuid *instance, struct segment **out,
                  struct err *err)
{
    bool ok = false;
    struct stat st;
    *out = NULL;
    struct segment *s = segment_alloc(err);
    if (s == NULL)
        return false;
    s->fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (!segment_name_parse(name, &s->number) || s->fd < 0 || fstat(s->fd, &st) != 0) {
        (void)err_set(err, ERR_IO, FATE_FATAL, "journal: cannot open %s: %s", name, strerror(errno));
        goto done;
    }
    s->size = (size_t)st.st_size;
    s->ready = s->size;                   /* what stands behind its records is evidence */
    if (s->size < SEGMENT_HEADER_BYTES) { /* killed between creating and preallocating it */
        ok = true;
        goto done;
    }
    if (!map_file(s, err))
        goto done;
    header_read(s, instance);
    ok = true;
    if (s->at != 0) {
        *out = s;
        s = NULL;
    }
done:
    segment_free(s);
    return ok;
}

void segment_free(struct segment *s)
{
    if (s == NULL)
        return;
    if (s->map != NULL)
        (void)munmap(s->map, s->size);
    if (s->fd >= 0)
        (void)close(s->fd);
    free(s);
}

void segment_unlink(int dir_fd, const struct segment *s)
{
    char name[SEGMENT_NAME_ROOM];
    segment_name(s->number, name);
    (void)unlinkat(dir_fd, name, 0);
}

bool segment_spare(int dir_fd, struct segment *s)
{
    char name[SEGMENT_NAME_ROOM];
    segment_name(s->number, name);
    if (renameat(dir_fd, name, dir_fd, SEGMENT_SPARE_NAME) != 0)
        return false;
    *s = (struct segment){.fd = s->fd, .map = s->map, .size = s->size};
    return true;
}

/* A file that somebody cut is not to be touched behind its end. */
static bool is_whole(const struct segment *s)
{
    struct stat st;
    return fstat(s->fd, &st) == 0 && (size_t)st.st_size >= s->size;
}

/* It stands there, whole, under the spare's name. */
static bool is_spare(int dir_fd, const struct segment *s)
{
    struct stat ours;
    struct stat there;
    return is_whole(s) && fstat(s->fd, &ours) == 0 &&
           fstatat(dir_fd, SEGMENT_SPARE_NAME, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

void segment_spare_wipe(struct segment *s, size_t bytes)
{
    size_t len = s->size - s->ready < bytes ? s->size - s->ready : bytes;
    if (len == 0 || !is_whole(s))
        return;
    memset(s->map + s->ready, 0, len);
    s->ready += len;
}

bool segment_spare_use(int dir_fd, struct segment *s, uint64_t number)
{
    char name[SEGMENT_NAME_ROOM];
    segment_name(number, name);
    segment_spare_wipe(s, s->size);
    if (s->ready < s->size || !is_spare(dir_fd, s) ||
        renameat2(dir_fd, SEGMENT_SPARE_NAME, dir_fd, name, RENAME_NOREPLACE) != 0)
        return false;
    s->number = number;
    return true;
}

bool segment_sync(const struct segment *s, struct err *err)
{
    return msync(s->map, s->size, MS_SYNC) == 0 ||
           err_set(err, ERR_IO, FATE_RETRY, "journal: cannot write a segment to disk: %s", strerror(errno));
}

void segment_dirty(const struct segment *s)
{
    for (size_t at = 0; at < s->at; at += PAGE_BYTES) {
        volatile char *page = s->map + at;
        *page = *page;
    }
}

size_t segment_record_size(size_t payload)
{
    return SEGMENT_RECORD_BYTES + (payload + 7) / 8 * 8;
}

size_t segment_left(const struct segment *s)
{
    return s->size - s->at;
}

static uint32_t record_crc(const struct segment *s, const char *record, size_t payload)
{
    uint32_t crc = crc32c(s->salt, record + COVERED_FROM, COVERED_TO - COVERED_FROM);
    return crc32c(crc, record + SEGMENT_RECORD_BYTES, payload);
}

/*
 * Zeros over zeros: the kernel makes the pages of one large write for a fraction of what it takes to make
 * each at its own fault. Where it cannot, there will be a fault.
 */
static void pages_make(struct segment *s)
{
    static const char zeros[AHEAD_BYTES];
    size_t from = (s->at + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES; /* never over what is written */
    from = from < s->ready ? s->ready : from > s->size ? s->size : from;
    size_t len = s->size - from < sizeof zeros ? s->size - from : sizeof zeros;
    if (is_whole(s)) { /* else it must not grow again: its records would be zeros then */
        ssize_t ignored = pwrite(s->fd, zeros, len, (off_t)from);
        (void)ignored;
    }
    s->ready = from + len;
}

size_t segment_append(struct segment *s, const struct journal_record *record)
{
    size_t size = segment_record_size(record->payload.len);
    assert(s->at != 0 && size <= segment_left(s));
    if (s->at + size > s->ready)
        pages_make(s);
    char *at = s->map + s->at;
    struct record_head h = {.len = (uint32_t)record->payload.len,
                            .kind = (uint32_t)record->kind,
                            .seq = record->seq,
                            .call_id = record->call_id,
                            .progress = record->progress};
    memcpy(at + COVERED_FROM, (const char *)&h + COVERED_FROM, sizeof h - COVERED_FROM);
    if (record->payload.len > 0)
        memcpy(at + sizeof h, record->payload.ptr, record->payload.len);
    uint64_t first = RECORD_MAGIC | (uint64_t)record_crc(s, at, record->payload.len) << 32;
    __atomic_store_n((uint64_t *)(void *)at, first, __ATOMIC_RELEASE);
    size_t offset = s->at;
    s->at += size;
    return offset;
}

void segment_set_progress(const struct segment *s, size_t offset, uint64_t progress)
{
    memcpy(s->map + offset + offsetof(struct record_head, progress), &progress, sizeof progress);
}

void segment_at(const struct segment *s, size_t offset, struct journal_record *out)
{
    struct record_head h;
    memcpy(&h, s->map + offset, sizeof h);
    *out = (struct journal_record){.kind = (enum journal_kind)h.kind,
                                   .seq = h.seq,
                                   .call_id = h.call_id,
                                   .progress = h.progress,
                                   .payload = {s->map + offset + sizeof h, h.len}};
}

static bool is_record(const struct segment *s, size_t at)
{
    struct record_head h;
    if (s->size - at < sizeof h)
        return false;
    memcpy(&h, s->map + at, sizeof h);
    if (h.magic != RECORD_MAGIC || h.len > s->size - at - sizeof h)
        return false;
    if (h.kind < JOURNAL_OPEN || h.kind > JOURNAL_DELIVERED)
        return false;
    return h.crc == record_crc(s, s->map + at, h.len);
}

/* How far the next record can only be: most of a segment is zeros that nobody wrote to. */
static size_t step_over(const struct segment *s, size_t at)
{
    return s->size - at >= PAGE_BYTES && is_zero(s->map + at, PAGE_BYTES) ? PAGE_BYTES : 8;
}

bool segment_next(const struct segment *s, size_t *at, size_t *offset, struct journal_record *out,
                  size_t *skipped)
{
    size_t start = *at == 0 ? SEGMENT_HEADER_BYTES : *at;
    size_t torn = 0;
    size_t step = 8;
    if (s->stale)
        start = s->size;
    for (size_t here = start; here < s->size && s->size - here >= SEGMENT_RECORD_BYTES; here += step) {
        step = step_over(s, here);
        if (is_record(s, here)) {
            segment_at(s, here, out);
            *offset = here;
            *at = here + segment_record_size(out->payload.len);
            *skipped += here - start; /* records stand close: zeros between them were one, too */
            return true;
        }
        torn += is_zero(s->map + here, step) ? 0 : step;
    }
    /* Its first eight bytes are stored last: without them it is a record that a kill kept from being one. */
    if (torn > 0 && !is_zero(s->map + start, 8))
        *skipped += torn;
    *at = s->size;
    return false;
}
