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

struct health_loop {
    const char *name;
    _Atomic int64_t beaten_us;
    int64_t age_max_us;
    bool running;
};

struct part {
    const char *name;
    bool ready;
    char reason[160];
    struct metric *gauge;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct health_loop loops[HEALTH_MAX];
static size_t loop_count;
static struct part parts[HEALTH_MAX];
static size_t part_count;

static size_t room_for(size_t *count)
{
    if (*count == HEALTH_MAX) {
        (void)fputs("health: too many names\n", stderr);
        abort();
    }
    return (*count)++;
}

struct health_loop *health_loop_start(const char *name, int64_t age_max_us)
{
    (void)pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < loop_count && strcmp(loops[i].name, name) != 0)
        i++;
    if (i == loop_count)
        i = room_for(&loop_count);
    struct health_loop *loop = &loops[i];
    loop->name = name;
    loop->age_max_us = age_max_us;
    loop->running = true;
    health_beat(loop);
    (void)pthread_mutex_unlock(&lock);
    return loop;
}

void health_beat(struct health_loop *loop)
{
    atomic_store_explicit(&loop->beaten_us, clock_mono_us(), memory_order_relaxed);
}

void health_loop_end(struct health_loop *loop)
{
    if (loop == NULL)
        return;
    (void)pthread_mutex_lock(&lock);
    loop->running = false;
    (void)pthread_mutex_unlock(&lock);
}

void health_ready(const char *name, bool ready, const char *reason)
{
    (void)pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < part_count && strcmp(parts[i].name, name) != 0)
        i++;
    bool is_new = i == part_count;
    if (is_new) {
        i = room_for(&part_count);
        parts[i].name = name;
        parts[i].gauge = metric_gauge("spend_ready", "1 when the part can do its work", "part", name);
    }
    struct part *part = &parts[i];
    bool changed = is_new ? ready : part->ready != ready;
    part->ready = ready;
    (void)snprintf(part->reason, sizeof part->reason, "%s", ready || reason == NULL ? "" : reason);
    metric_set(part->gauge, ready ? 1 : 0);
    (void)pthread_mutex_unlock(&lock);
    if (changed && ready)
        log_info("part_ready", LOG_STR("part", name), LOG_END);
    else if (changed)
        log_warn("part_not_ready", LOG_STR("part", name), LOG_STR("reason", reason), LOG_END);
}

/* A page too long is cut: what is on it already says that something is wrong. */
static void say(struct buffer *text, const char *name, const char *what)
{
    bool whole = buffer_printf(text, "%s: %s\n", name, what);
    (void)whole;
}

static bool finish(struct buffer *text, bool ok)
{
    bool whole = !ok || buffer_append_sv(text, SV_LIT("ok\n"));
    (void)whole;
    return ok;
}

bool health_is_live(int64_t mono_us, struct buffer *text)
{
    bool live = true;
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < loop_count; i++) {
        int64_t age_us = mono_us - atomic_load_explicit(&loops[i].beaten_us, memory_order_relaxed);
        if (!loops[i].running || age_us <= loops[i].age_max_us)
            continue;
        char what[100];
        (void)snprintf(what, sizeof what, "no turn for %lld ms, %lld ms are allowed",
                       (long long)(age_us / 1000), (long long)(loops[i].age_max_us / 1000));
        say(text, loops[i].name, what);
        live = false;
    }
    (void)pthread_mutex_unlock(&lock);
    return finish(text, live);
}

bool health_is_ready(struct buffer *text)
{
    (void)pthread_mutex_lock(&lock);
    bool ready = part_count > 0;
    if (!ready)
        say(text, "start", "nothing is ready yet");
    for (size_t i = 0; i < part_count; i++) {
        if (!parts[i].ready)
            say(text, parts[i].name, parts[i].reason[0] == '\0' ? "not ready" : parts[i].reason);
        ready = ready && parts[i].ready;
    }
    (void)pthread_mutex_unlock(&lock);
    return finish(text, ready);
}

void health_reset(void)
{
    loop_count = 0;
    part_count = 0;
}
