/*
 * lifecycle: signals in, one flag and one eventfd out.
 */
#include "run/lifecycle.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static atomic_bool stopping;
static int stop_fd = -1;

void lifecycle_stop(void)
{
    int saved = errno;
    const uint64_t one = 1;
    atomic_store(&stopping, true);
    /* Fails only when the counter is full: then it is readable already. */
    ssize_t written = write(stop_fd, &one, sizeof one);
    (void)written;
    errno = saved;
}

static void on_signal(int number)
{
    (void)number;
    lifecycle_stop();
}

static bool catch_signals(void)
{
    struct sigaction stop = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    return sigaction(SIGTERM, &stop, NULL) == 0 && sigaction(SIGINT, &stop, NULL) == 0 &&
           sigaction(SIGPIPE, &ignore, NULL) == 0;
}

static bool forbid_core_dumps(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#else
    const struct rlimit none = {0, 0};
    return setrlimit(RLIMIT_CORE, &none) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
#endif
}

bool lifecycle_start(struct err *err)
{
    stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop_fd < 0)
        return err_set(err, ERR_IO, FATE_FATAL, "lifecycle: eventfd: %s", strerror(errno));
    if (!catch_signals() || !forbid_core_dumps())
        return err_set(err, ERR_IO, FATE_FATAL, "lifecycle: %s", strerror(errno));
    metric_set(metric_gauge("spend_build_info", "1, with the version as a label", "version", SPEND_VERSION),
               1);
    return true;
}

bool lifecycle_fork(struct err *err)
{
    (void)close(stop_fd);
    stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_store(&stopping, false);
    return stop_fd >= 0 || err_set(err, ERR_IO, FATE_FATAL, "lifecycle: eventfd: %s", strerror(errno));
}

bool lifecycle_is_stopping(void)
{
    return atomic_load(&stopping);
}

int lifecycle_stop_fd(void)
{
    return stop_fd;
}

bool lifecycle_wait_us(int64_t timeout_us)
{
    int64_t until_us = clock_mono_us() + timeout_us;
    while (!lifecycle_is_stopping()) {
        int64_t left_us = until_us - clock_mono_us();
        if (left_us <= 0)
            return false;
        struct pollfd poll_fd = {.fd = stop_fd, .events = POLLIN};
        struct timespec wait = {.tv_sec = left_us / US_PER_SECOND, .tv_nsec = left_us % US_PER_SECOND * 1000};
        (void)ppoll(&poll_fd, 1, &wait, NULL); /* an interrupted wait goes round again */
    }
    return true;
}
