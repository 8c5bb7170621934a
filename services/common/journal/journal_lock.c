/*
 * journal_lock: two lines, the boot's id and the state with how far it got. All states are of one length, so
 * that one write replaces the other; what a longer id of another boot leaves behind them is not read.
 */
#include "journal/journal_lock.h"

#include "base/strview.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOOT_ID    "/proc/sys/kernel/random/boot_id"
#define BOOT_BYTES 64
#define NOTE_BYTES 128

static const char *const words[] = {
    [JOURNAL_IN_USE] = "in-use", [JOURNAL_SYNCED] = "synced", [JOURNAL_CLOSED] = "closed"};

/* The lock file may have been removed between opening and locking it: then the lock is worth nothing. */
bool journal_lock_take(int dir_fd, int *lock_fd, struct err *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat opened;
    struct stat named;
    *lock_fd = openat(dir_fd, JOURNAL_LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*lock_fd < 0)
        return err_set(err, errno == ENOENT ? ERR_STATE : ERR_IO, FATE_FATAL, "%s", strerror(errno));
    if (fcntl(*lock_fd, F_OFD_SETLK, &lock) != 0)
        return err_set(err, ERR_STATE, FATE_RETRY, "somebody else has it open");
    if (fstat(*lock_fd, &opened) != 0 || fstatat(dir_fd, JOURNAL_LOCK_NAME, &named, 0) != 0 ||
        opened.st_ino != named.st_ino)
        return err_set(err, ERR_STATE, FATE_RETRY, "removed meanwhile");
    return true;
}

bool journal_lock_is_at(int lock_fd, const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct stat opened;
    struct stat named;
    int len = snprintf(path, sizeof path, "%s/%s/" JOURNAL_LOCK_NAME, dir, name);
    return len < (int)sizeof path && fstat(lock_fd, &opened) == 0 && stat(path, &named) == 0 &&
           opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

static struct strview text_read(int fd, char *room, size_t size)
{
    ssize_t n = fd < 0 ? 0 : pread(fd, room, size, 0);
    return (struct strview){room, n < 0 ? 0 : (size_t)n};
}

/* Empty where there is no /proc: then every boot is this one. Read once: later there may be no descriptor for
 * it, and a note without it would be another boot's. */
static struct strview boot_now(void)
{
    static char room[BOOT_BYTES];
    static struct strview boot;
    struct strview rest;
    if (!sv_is_null(boot))
        return boot;
    int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    struct strview text = text_read(fd, room, sizeof room);
    if (fd >= 0)
        (void)close(fd);
    if (fd >= 0 || errno == ENOENT)
        boot = sv_cut(text, '\n', &rest);
    return boot;
}

struct journal_note journal_lock_read(int lock_fd)
{
    char then[NOTE_BYTES];
    struct strview rest;
    struct journal_note note = {.state = JOURNAL_IN_USE};
    struct strview text = text_read(lock_fd, then, sizeof then);
    note.is_there = text.len > 0;
    note.this_boot = sv_eq(sv_cut(text, '\n', &rest), boot_now());
    struct strview word = sv_cut(rest, ' ', &rest);
    int64_t reached = 0;
    if (!sv_to_i64(sv_cut(rest, '\n', &rest), &reached) || reached < 1)
        return note;
    note.reached = (uint64_t)reached;
    for (int i = JOURNAL_SYNCED; i <= JOURNAL_CLOSED; i++)
        note.state = sv_eq(word, sv_of(words[i])) ? (enum journal_state)i : note.state;
    return note;
}

static bool note_write(int lock_fd, enum journal_state state, uint64_t reached)
{
    char text[NOTE_BYTES];
    struct strview boot = boot_now();
    int len =
        snprintf(text, sizeof text, SV_FMT "\n%s %016" PRIu64 "\n", SV_ARG(boot), words[state], reached);
    return pwrite(lock_fd, text, (size_t)len, 0) == len;
}

bool journal_lock_note(int lock_fd, enum journal_state state, uint64_t reached, struct err *err)
{
    return (note_write(lock_fd, state, reached) && fdatasync(lock_fd) == 0) ||
           err_set(err, ERR_IO, FATE_FATAL, "cannot write the lock file: %s", strerror(errno));
}

void journal_lock_reach(int lock_fd, uint64_t number)
{
    (void)note_write(lock_fd, JOURNAL_IN_USE, number);
}
