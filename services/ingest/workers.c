/*
 * workers: children are made before the parent has a thread, and it never has one, so that each starts clean.
 * A worker that fails at its first start ends the whole, as it would alone; later ones are tried again.
 */
#include "ingest/workers.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "ingest/service.h"
#include "run/admin_http.h"
#include "run/health.h"
#include "run/lifecycle.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NUMBER_ROOM  24
#define TURN_NS      20000000L
#define DELAY_MIN_US 100000
#define DELAY_MAX_US (10 * US_PER_SECOND)
#define CALM_US      (60 * US_PER_SECOND) /* one that ran so long starts again at once */

struct worker {
    pid_t pid; /* 0: not there */
    int64_t started_us;
    int64_t delay_us;
    int64_t due_us;
    size_t starts;
    struct metric *deaths;
};

struct workers {
    const struct ingest_options *options;
    struct worker *item; /* the last one shows the others to the admin port */
    size_t count;
    bool stopping;
    bool failed;
};

size_t workers_count(const struct ingest_options *options)
{
    cpu_set_t cores;
    if (options->workers > 0)
        return (size_t)options->workers;
    int count = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    return count > WORKERS_MAX ? WORKERS_MAX : (size_t)count;
}

static bool is_admin(const struct workers *w, size_t i)
{
    return i == w->count;
}

/* What a process is called: its number, or admin. */
static const char *label_of(const struct workers *w, size_t i, char number[NUMBER_ROOM])
{
    (void)snprintf(number, NUMBER_ROOM, "%zu", i);
    return is_admin(w, i) ? "admin" : number;
}

static bool admin_run(const struct workers *w, struct err *err)
{
    if (!admin_http_start(w->options->admin_listen, err))
        return false;
    while (!lifecycle_wait_us(US_PER_SECOND)) {
    }
    admin_http_stop();
    return true;
}

/* In the child. */
static bool work(const struct workers *w, size_t i, pid_t parent, const sigset_t *before, struct err *err)
{
    char number[NUMBER_ROOM];
    static char name[NUMBER_ROOM + 8];
    const char *label = label_of(w, i, number);
    (void)snprintf(name, sizeof name, "ingest-%s", label);
    log_service(name);
    metrics_enter(i, label);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || !lifecycle_fork(err))
        return false;
    (void)sigprocmask(SIG_SETMASK, before, NULL);
    if (getppid() != parent) /* it died before we asked to be told */
        return true;
    if (is_admin(w, i))
        return admin_run(w, err);
    health_enter(i);
    return service_run(w->options, true, err);
}

static void worker_start(struct workers *w, size_t i)
{
    struct worker *x = &w->item[i];
    struct err err = {0};
    sigset_t stops;
    sigset_t before;
    pid_t parent = getpid();
    (void)sigemptyset(&stops);
    (void)sigaddset(&stops, SIGTERM);
    (void)sigaddset(&stops, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &stops, &before);
    pid_t pid = fork();
    if (pid == 0) {
        bool ok = work(w, i, parent, &before, &err);
        if (!ok)
            log_error("failed", LOG_ERR(&err), LOG_END);
        exit(ok ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    x->starts++;
    x->started_us = clock_mono_us();
    x->due_us = x->started_us + DELAY_MAX_US; /* without a process: later */
    x->pid = pid < 0 ? 0 : pid;
    if (pid < 0)
        log_error("worker_not_started", LOG_STR("err", strerror(errno)), LOG_END);
    else
        log_info("worker_started", LOG_INT("worker", i), LOG_INT("pid", pid), LOG_END);
}

static void worker_ended(struct workers *w, size_t i, int status)
{
    struct worker *x = &w->item[i];
    int64_t now = clock_mono_us();
    bool well = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
    x->pid = 0;
    metrics_left(i);
    if (!is_admin(w, i))
        health_left(i);
    w->failed =
        w->failed ||
        (!well && (w->stopping || (x->starts == 1 && WIFEXITED(status) && now - x->started_us < CALM_US)));
    if (w->stopping)
        return;
    metric_add(x->deaths, 1);
    x->delay_us = now - x->started_us > CALM_US ? DELAY_MIN_US : x->delay_us * 2;
    x->delay_us = x->delay_us > DELAY_MAX_US ? DELAY_MAX_US : x->delay_us;
    x->due_us = now + x->delay_us;
    log_error("worker_died", LOG_INT("worker", i),
              LOG_INT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
              LOG_INT("exit", WIFEXITED(status) ? WEXITSTATUS(status) : 0),
              LOG_INT("again_ms", x->delay_us / 1000), LOG_END);
}

static void reap(struct workers *w)
{
    int status = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (size_t i = 0; i <= w->count; i++) {
            if (w->item[i].pid == pid)
                worker_ended(w, i, status);
        }
    }
}

static bool is_over(const struct workers *w, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (w->item[i].pid != 0)
            return false;
    }
    return true;
}

static void stop(const struct workers *w, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (w->item[i].pid != 0)
            (void)kill(w->item[i].pid, SIGTERM);
    }
}

/* One turn. false: all have ended. */
static bool turn(struct workers *w)
{
    const struct timespec pause = {.tv_nsec = TURN_NS};
    reap(w);
    if (!w->stopping && (w->failed || lifecycle_is_stopping())) {
        w->stopping = true;
        stop(w, 0, w->count);
    }
    if (w->stopping && is_over(w, w->count)) /* until then it shows them draining */
        stop(w, w->count, w->count + 1);
    if (w->stopping && is_over(w, w->count + 1))
        return false;
    int64_t now = clock_mono_us();
    for (size_t i = 0; !w->stopping && i <= w->count; i++) {
        if (w->item[i].pid == 0 && now >= w->item[i].due_us)
            worker_start(w, i);
    }
    (void)nanosleep(&pause, NULL);
    return true;
}

bool workers_run(const struct ingest_options *options, size_t count, struct err *err)
{
    struct workers w = {.options = options, .count = count};
    w.item = calloc(count + 1, sizeof *w.item);
    if (w.item == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "workers: out of memory");
    bool ok = metrics_share(count + 2, err) && health_share(count, err);
    if (ok) {
        metrics_enter(count + 1, "parent");
        for (size_t i = 0; i <= count; i++) {
            char number[NUMBER_ROOM];
            w.item[i].delay_us = DELAY_MIN_US / 2;
            w.item[i].deaths =
                metric_counter("spend_ingest_worker_deaths_total", "processes of ingest started anew",
                               "process", label_of(&w, i, number));
        }
        log_info("workers", LOG_INT("count", count), LOG_END);
        while (turn(&w)) {
        }
        ok = !w.failed || err_set(err, ERR_IO, FATE_FATAL, "a worker failed: its own lines say why");
    }
    free(w.item);
    return ok;
}
