/*
 * clock_probe: the ledger's time against the middle of the request. An answer that took longer than a second
 * says too little and is dropped.
 */
#include "ingest/clock_probe.h"

#include "base/clock.h"
#include "base/json_scan.h"
#include "base/limits.h"
#include "base/log.h"
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

static _Atomic int64_t offset_us;
static struct {
    pthread_t thread;
    bool running;
    bool stopping;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    char url[1100];
    char header[1200];
    int64_t every_us;
} probe = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

int64_t clock_probe_offset_us(void)
{
    return atomic_load_explicit(&offset_us, memory_order_relaxed);
}

bool clock_probe_parse(struct strview body, int64_t *utc_us)
{
    struct json_scan scan;
    struct json_value root;
    struct json_value key;
    struct json_value value;
    bool found = false;
    json_scan_init(&scan, body, LIMIT_JSON_DEPTH);
    if (!json_scan_value(&scan, &root) || root.kind != JSON_KIND_OBJECT)
        return false;
    while (json_scan_member(&scan, &key, &value)) {
        if (json_scan_text_is(&key, SV_LIT("now")) || json_scan_text_is(&key, SV_LIT("time")))
            found = value.kind == JSON_KIND_STRING && clock_parse(value.raw, utc_us);
        if (!json_scan_skip(&scan, &value, NULL))
            return false;
    }
    return found && !scan.failed;
}

static void offset_take(int64_t us)
{
    atomic_store_explicit(&offset_us, us, memory_order_relaxed);
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
    int64_t before = clock_now_us();
    int64_t mono = clock_mono_us();
    if (!http_client_send(client, &request, &reply, &err)) {
        log_warn("clock_unknown", LOG_ERR(&err), LOG_END);
        return;
    }
    int64_t took = clock_mono_us() - mono;
    if (reply.status != 200 || !clock_probe_parse(buffer_view(&reply.body), &theirs))
        log_warn("clock_unknown", LOG_INT("status", reply.status), LOG_END);
    else if (took <= ANSWER_MAX_US)
        offset_take(theirs - (before + took / 2));
    http_reply_free(&reply);
}

/* false: asked to stop. */
static bool pause_for(int64_t us)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
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
    if (client == NULL || pthread_create(&probe.thread, NULL, probe_run, client) != 0) {
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
