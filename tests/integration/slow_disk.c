/*
 * Stands in front of fdatasync and fsync of a program under test (LD_PRELOAD). In the directory SLOW_DISK: every
 * sync of a journal's segment or directory is a line of `log`; while `hold` is there it waits, while `fail` is
 * there it ends with EIO.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int is_there(const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", getenv("SLOW_DISK"), name);
    return access(path, F_OK) == 0;
}

static void note(const char *file)
{
    char line[8192];
    (void)snprintf(line, sizeof line, "%s/log", getenv("SLOW_DISK"));
    int fd = open(line, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int len = snprintf(line, sizeof line, "%s\n", file);
    if (fd < 0 || write(fd, line, (size_t)len) != len)
        abort();
    (void)close(fd);
}

static int sync_of(int fd, long call)
{
    char name[64];
    char file[4096];
    (void)snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(name, file, sizeof file - 1);
    file[len < 0 ? 0 : len] = '\0';
    if (strstr(file, "/lock") != NULL)
        return (int)syscall(call, fd);
    note(file);
    while (is_there("hold"))
        (void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    if (is_there("fail")) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, fd);
}

int fdatasync(int fd)
{
    return sync_of(fd, SYS_fdatasync);
}

int fsync(int fd)
{
    return sync_of(fd, SYS_fsync);
}
