/*
 * clock_probe: the ledger's time against the middle of the request. An answer that took longer than a second
 * says too little and is dropped. Kept against the clock since the boot and slept by the monotonic one, so
 * that neither a step of ours nor a machine's sleep changes what is admitted when.
 */
#include "ingest/clock_probe.h"

#include "base/clock.h"
#include "base/log.h"
#include "ingest/json_pick.h"
#include "ingest/meter.h"
#include "run/health.h"
#include "run/http_client.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ANSWER_MAX_US US_PER_SECOND
#define ALARM_US      (2 * US_PER_SECOND)
#define UNREADY_US    (30 * US_PER_SECOND)

static _Atomic int64_t ahead_of_boot_us; /* 0: never answered */
static struct {
    pthread_t thread;
    bool running;
    bool stopping;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    char url[1100];
    char header[1200];
    int64_t every_us;
} probe = {.lock = PTHREAD_MUTEX_INITIALIZER};

int64_t clock_probe_offset_us(void)
{
    return clock_probe_offset_at(clock_now_us(), clock_boot_us());
}

int64_t clock_probe_now_us(void)
{
    int64_t now = clock_now_us();
    return now + clock_probe_offset_at(now, clock_boot_us());
}

bool clock_probe_parse(struct strview body, int64_t *utc_us)
{
    struct json_pick at = {.path = "time"};
    return json_pick(body, &at, 1) && at.found && at.value.kind == JSON_KIND_STRING &&
           clock_parse(at.value.raw, utc_us);
}

int64_t clock_probe_offset_at(int64_t utc_us, int64_t boot_us)
{
    int64_t ahead = atomic_load_explicit(&ahead_of_boot_us, memory_order_relaxed);
    return ahead == 0 ? 0 : ahead + boot_us - utc_us;
}

void clock_probe_take(int64_t theirs_us, int64_t boot_us)
{
    atomic_store_explicit(&ahead_of_boot_us, theirs_us - boot_us, memory_order_relaxed);
    int64_t us = clock_probe_offset_us();
    meter_set(METER_CLOCK_OFFSET, us);
    meter_set(METER_CLOCK_KNOWN, 1);
    if (llabs(us) > ALARM_US)
        log_warn("clock_differs", LOG_INT("offset_us", us), LOG_END);
    health_ready("clock", llabs(us) <= UNREADY_US, "the clock differs from Postgres's by over 30 s");
}

static void ask(struct http_client *client)
{
    const char *const headers[] = {probe.header};
    struct http_request request = {.url = probe.url,
                                   .header = headers,
                                   .header_count = probe.header[0] == '\0' ? 0 : 1,
                                   .timeout_ms = 5000,
                                   .reply_cap = 4096};
    struct http_reply reply = {0};
    struct err err = {0};
    int64_t theirs = 0;
    int64_t asked = clock_boot_us();
    if (!http_client_send(client, &request, &reply, &err)) {
        log_warn("clock_unknown", LOG_ERR(&err), LOG_END);
        return;
    }
    int64_t took = clock_boot_us() - asked;
    if (reply.status != 200 || !clock_probe_parse(buffer_view(&reply.body), &theirs))
        log_warn("clock_unknown", LOG_INT("status", reply.status),
                 LOG_STR("hint", reply.status == 401 || reply.status == 403
                                     ? "set SPEND_LEDGER_TOKEN to the ledger's SPEND_INGEST_TOKEN"
                                     : "is --ledger-url the ledger's API?"),
                 LOG_END);
    else if (took > ANSWER_MAX_US)
        log_warn("clock_unknown", LOG_INT("took_us", took), LOG_END);
    else
        clock_probe_take(theirs, asked + took / 2);
    http_reply_free(&reply);
}

/* false: asked to stop. */
static bool pause_for(int64_t us)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += us / US_PER_SECOND;
    until.tv_nsec += us % US_PER_SECOND * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&probe.lock);
    while (!probe.stopping && pthread_cond_timedwait(&probe.wake, &probe.lock, &until) == 0) {
    }
    bool go_on = !probe.stopping;
    (void)pthread_mutex_unlock(&probe.lock);
    return go_on;
}

static void *probe_run(void *arg)
{
    struct http_client *client = arg;
    do
        ask(client);
    while (pause_for(probe.every_us));
    http_client_free(client);
    return NULL;
}

static bool wake_init(void)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0)
        return false;
    bool ok =
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&probe.wake, &attr) == 0;
    (void)pthread_condattr_destroy(&attr);
    return ok;
}

bool clock_probe_start(const char *ledger_url, const char *token, int64_t every_us, struct err *err)
{
    if (ledger_url == NULL)
        return true;
    size_t len = sv_of(ledger_url).len;
    while (len > 0 && ledger_url[len - 1] == '/')
        len--;
    (void)snprintf(probe.url, sizeof probe.url, "%.*s/v1/time", (int)len, ledger_url);
    if (token != NULL)
        (void)snprintf(probe.header, sizeof probe.header, "Authorization: Bearer %s", token);
    probe.every_us = every_us;
    struct http_client *client = http_client_new();
    if (client == NULL || !wake_init() || pthread_create(&probe.thread, NULL, probe_run, client) != 0) {
        http_client_free(client);
        return err_set(err, ERR_MEMORY, FATE_FATAL, "clock_probe: no thread");
    }
    probe.running = true;
    return true;
}

void clock_probe_stop(void)
{
    if (!probe.running)
        return;
    (void)pthread_mutex_lock(&probe.lock);
    probe.stopping = true;
    (void)pthread_cond_signal(&probe.wake);
    (void)pthread_mutex_unlock(&probe.lock);
    (void)pthread_join(probe.thread, NULL);
    probe.running = false;
}
