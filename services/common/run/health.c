/*
 * health: two small tables. Beats are atomics; all else takes the lock, and is rare.
 */
#include "run/health.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct health_loop {
    const char *name;
    _Atomic int64_t beaten_us;
    int64_t age_max_us;
    atomic_bool running;
};

struct part {
    const char *name;
    atomic_bool ready;
    char reason[160];
    struct metric *gauge;
};

/* Of one process. Others that see it read without its lock: a count goes up when its entry is whole. */
struct health {
    struct health_loop loops[HEALTH_MAX];
    _Atomic size_t loop_count;
    struct part parts[HEALTH_MAX];
    _Atomic size_t part_count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct health own;
static struct health *mine = &own;
static struct health *shown = &own; /* all that are shown */
static size_t shown_count = 1;

static void room_check(size_t count)
{
    if (count == HEALTH_MAX) {
        (void)fputs("health: too many names\n", stderr);
        abort();
    }
}

bool health_share(size_t count, struct err *err)
{
    void *map = mmap(NULL, count * sizeof *shown, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "health: no shared memory");
    shown = map;
    shown_count = count;
    return true;
}

void health_enter(size_t place)
{
    mine = &shown[place];
}

void health_left(size_t place)
{
    shown[place].loop_count = 0;
    shown[place].part_count = 0;
}

struct health_loop *health_loop_start(const char *name, int64_t age_max_us)
{
    (void)pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < mine->loop_count && strcmp(mine->loops[i].name, name) != 0)
        i++;
    room_check(i);
    struct health_loop *loop = &mine->loops[i];
    loop->name = name;
    loop->age_max_us = age_max_us;
    loop->running = true;
    health_beat(loop);
    if (i == mine->loop_count)
        mine->loop_count = i + 1;
    (void)pthread_mutex_unlock(&lock);
    return loop;
}

void health_beat(struct health_loop *loop)
{
    atomic_store_explicit(&loop->beaten_us, clock_mono_us(), memory_order_relaxed);
}

void health_loop_end(struct health_loop *loop)
{
    if (loop != NULL)
        loop->running = false;
}

void health_ready(const char *name, bool ready, const char *reason)
{
    (void)pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < mine->part_count && strcmp(mine->parts[i].name, name) != 0)
        i++;
    room_check(i);
    struct part *part = &mine->parts[i];
    bool is_new = i == mine->part_count;
    bool changed = is_new ? ready : part->ready != ready;
    if (is_new) {
        part->name = name;
        part->gauge = metric_gauge("spend_ready", "1 when the part can do its work", "part", name);
    }
    (void)snprintf(part->reason, sizeof part->reason, "%s", ready || reason == NULL ? "" : reason);
    part->ready = ready;
    if (is_new)
        mine->part_count = i + 1;
    metric_set(part->gauge, ready ? 1 : 0);
    (void)pthread_mutex_unlock(&lock);
    if (changed && ready)
        log_info("part_ready", LOG_STR("part", name), LOG_END);
    else if (changed)
        log_warn("part_not_ready", LOG_STR("part", name), LOG_STR("reason", reason), LOG_END);
}

/* A page too long is cut: what is on it already says that something is wrong. */
static void say(struct buffer *text, size_t place, const char *name, const char *what)
{
    bool whole = (shown == &own || buffer_printf(text, "worker %zu: ", place)) &&
                 buffer_printf(text, "%s: %s\n", name, what);
    (void)whole;
}

static bool finish(struct buffer *text, bool ok)
{
    bool whole = !ok || buffer_append_sv(text, SV_LIT("ok\n"));
    (void)whole;
    return ok;
}

static bool loops_live(size_t place, int64_t mono_us, struct buffer *text)
{
    bool live = true;
    const struct health *h = &shown[place];
    for (size_t i = 0; i < h->loop_count; i++) {
        const struct health_loop *loop = &h->loops[i];
        int64_t age_us = mono_us - atomic_load_explicit(&loop->beaten_us, memory_order_relaxed);
        if (!loop->running || age_us <= loop->age_max_us)
            continue;
        char what[100];
        (void)snprintf(what, sizeof what, "no turn for %lld ms, %lld ms are allowed",
                       (long long)(age_us / 1000), (long long)(loop->age_max_us / 1000));
        say(text, place, loop->name, what);
        live = false;
    }
    return live;
}

static bool parts_ready(size_t place, struct buffer *text)
{
    const struct health *h = &shown[place];
    bool ready = h->part_count > 0;
    if (!ready)
        say(text, place, "start", "nothing is ready yet");
    for (size_t i = 0; i < h->part_count; i++) {
        const struct part *part = &h->parts[i];
        if (part->ready)
            continue;
        say(text, place, part->name, part->reason[0] == '\0' ? "not ready" : part->reason);
        ready = false;
    }
    return ready;
}

bool health_is_live(int64_t mono_us, struct buffer *text)
{
    bool live = true;
    (void)pthread_mutex_lock(&lock);
    for (size_t place = 0; place < shown_count; place++)
        live = loops_live(place, mono_us, text) && live;
    (void)pthread_mutex_unlock(&lock);
    return finish(text, live);
}

bool health_is_ready(struct buffer *text)
{
    bool ready = true;
    (void)pthread_mutex_lock(&lock);
    for (size_t place = 0; place < shown_count; place++)
        ready = parts_ready(place, text) && ready;
    (void)pthread_mutex_unlock(&lock);
    return finish(text, ready);
}

void health_reset(void)
{
    own.loop_count = 0;
    own.part_count = 0;
}
