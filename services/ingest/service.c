/*
 * service: one event loop. SIGTERM: no new calls, running ones end (--drain), Kafka gets what is left, the
 * journal is beaten until it is beaten closed. What Kafka could not take stays in the journal for the next
 * start.
 */
#include "ingest/service.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sha256.h"
#include "ingest/clock_probe.h"
#include "ingest/gateway.h"
#include "ingest/instance_beat.h"
#include "ingest/meter.h"
#include "ingest/recovery.h"
#include "run/admin_http.h"
#include "run/health.h"
#include "run/lifecycle.h"
#include "spend/avro_codec.h"

#include <event2/event.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#define TICK_US      250000
#define LOOP_AGE_US  (5 * US_PER_SECOND)
#define FLUSH_US     (15 * US_PER_SECOND)
#define TELL_US      (3 * US_PER_SECOND) /* of it, for holds of calls that are over: they end without, too */
#define SECRET_BYTES 32

struct service {
    const struct ingest_options *options;
    bool worker;
    struct event_base *base;
    struct delivery *delivery;
    struct recovery *recovery;
    struct journal_sync *sync;
    struct journal *journal;
    struct gate_client *gate;
    struct gateway *gateway;
    struct event *tick;
    struct event *synced;
    struct event *stop;
    struct health_loop *loop;
    char random_secret[SECRET_BYTES];
    int64_t beaten_us;
    int64_t closed_us; /* `closed` was last sent; 0 before */
    int64_t drain_until_us;
    int64_t flush_until_us; /* 0: calls still run */
    int64_t closed_reports;
    bool waits_for_gate; /* --on-cold-start */
    bool gate_seen;
};

static void beat(struct service *s, int64_t now_us)
{
    if (s->beaten_us != 0 && now_us - s->beaten_us < s->options->beat_every_us)
        return;
    s->beaten_us = now_us;
    instance_beat_send(s->delivery, s->journal, false, NULL);
}

/* Once each time. What it still holds is safe for as long as this process lives. */
static void lost_tell(const struct service *s, bool lost, const struct err *err)
{
    if (lost && meter_value(METER_JOURNAL_LOST) == 0)
        log_error("journal_lost", LOG_STR("instance", journal_instance(s->journal)),
                  LOG_INT("undelivered", journal_undelivered(s->journal)),
                  LOG_INT("oldest_open_seq", journal_oldest_open_seq(s->journal)),
                  LOG_INT("next_seq", journal_next_seq(s->journal)), LOG_ERR(err), LOG_END);
    meter_set(METER_JOURNAL_LOST, lost ? 1 : 0);
}

static void readiness(struct service *s)
{
    struct err err = {0};
    const char *why;
    bool proved = delivery_is_proved(s->delivery, &why);
    health_ready("kafka", proved, why);
    bool well = journal_is_there(s->journal, &err);
    lost_tell(s, !well, &err);
    well = well && journal_sync_check(s->sync, &err) && journal_has_room(s->journal, &err);
    health_ready("journal", well, err.text);
    health_ready("accepting", s->drain_until_us == 0, "draining");
    if (s->gate == NULL)
        return;
    /* one that is away later is --on-ledger-down's matter: all of us would be unready at once */
    s->gate_seen = s->gate_seen || gate_client_is_well(s->gate, &why);
    health_ready("gate", s->gate_seen || !s->waits_for_gate, why);
}

/* The stop's stages: calls end, then Kafka takes what is left, then `closed`. */
static void drain_step(struct service *s, int64_t now_us)
{
    if (s->closed_us == 0)
        beat(s, now_us);
    if (s->flush_until_us == 0) {
        if (!gateway_is_idle(s->gateway) && now_us < s->drain_until_us)
            return;
        gateway_cut(s->gateway);
        s->flush_until_us = now_us + FLUSH_US;
    }
    bool told =
        s->gate == NULL || gate_client_is_told(s->gate) || now_us > s->flush_until_us - FLUSH_US + TELL_US;
    bool empty = journal_undelivered(s->journal) == 0 && told;
    if (empty && s->closed_reports == 0 && (s->closed_us == 0 || now_us - s->closed_us > US_PER_SECOND)) {
        s->closed_us = now_us;
        instance_beat_send(s->delivery, s->journal, true, &s->closed_reports);
    }
    if (s->closed_reports > 0 || now_us > s->flush_until_us)
        (void)event_base_loopbreak(s->base);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct service *s = arg;
    int64_t now = clock_mono_us();
    health_beat(s->loop);
    delivery_poll(s->delivery, 0);
    readiness(s);
    recovery_tick(s->recovery, now, s->options->beat_every_us);
    if (s->drain_until_us == 0)
        beat(s, now);
    else
        drain_step(s, now);
}

static void on_synced(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    const struct service *s = arg;
    journal_sync_poll(s->sync);
    delivery_poll(s->delivery, 0);
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct service *s = arg;
    (void)event_del(s->stop);
    log_info("draining", LOG_INT("exchanges", s->gateway->exchange_count), LOG_END);
    s->drain_until_us = clock_mono_us() + s->options->drain_us;
    gateway_drain(s->gateway);
}

/* As many descriptors as this process may have: two a call, and the connections' limit is ours to keep. */
static void descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static bool secret_take(struct service *s, struct strview *out, struct err *err)
{
    *out = sv_of(s->options->spend_log_secret);
    if (!sv_is_null(*out))
        return true;
    if (getrandom(s->random_secret, sizeof s->random_secret, 0) != (ssize_t)sizeof s->random_secret)
        return err_set(err, ERR_IO, FATE_FATAL, "no random bytes for the spend log secret");
    *out = (struct strview){s->random_secret, sizeof s->random_secret};
    return true;
}

static bool base_open(struct service *s, struct err *err)
{
    struct event_config *config = event_config_new();
    if (config != NULL) {
        (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        s->base = event_base_new_with_config(config);
        event_config_free(config);
    }
    return s->base != NULL || err_set(err, ERR_MEMORY, FATE_FATAL, "no event loop");
}

static bool events_open(struct service *s, struct err *err)
{
    struct timeval tick = {.tv_usec = TICK_US};
    s->tick = event_new(s->base, -1, EV_PERSIST, on_tick, s);
    s->stop = event_new(s->base, lifecycle_stop_fd(), EV_READ, on_stop, s);
    if (s->tick == NULL || s->stop == NULL || event_add(s->tick, &tick) != 0 || event_add(s->stop, NULL) != 0)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "no timer");
    if (s->sync == NULL)
        return true;
    s->synced = event_new(s->base, journal_sync_fd(s->sync), EV_READ | EV_PERSIST, on_synced, s);
    return (s->synced != NULL && event_add(s->synced, NULL) == 0) ||
           err_set(err, ERR_MEMORY, FATE_FATAL, "no event");
}

static bool gate_open(struct service *s, struct err *err)
{
    const struct ingest_options *o = s->options;
    if (strcmp(o->gate, "off") == 0)
        return true;
    const struct gate_client_options gate = {.base = s->base,
                                             .ledger_url = o->ledger_url,
                                             .ledger_token = o->ledger_token,
                                             .observe = strcmp(o->gate, "observe") == 0,
                                             .wait_us = o->gate_wait_us,
                                             .renew_us = o->gate_renew_us,
                                             .trial_us = o->gate_trial_us,
                                             .tickets_max = (size_t)o->gate_untold};
    s->waits_for_gate = !gate.observe && strcmp(o->on_cold_start, "wait") == 0;
    health_ready("gate", false, "starting");
    return gate_client_new(&s->gate, &gate, err);
}

static bool parts_open(struct service *s, struct err *err)
{
    const struct ingest_options *o = s->options;
    struct kafka_settings kafka = {.brokers = o->kafka_brokers,
                                   .client_id = "spend-ingest",
                                   .properties = o->kafka_conf.item,
                                   .property_count = o->kafka_conf.count};
    struct journal_options journal = {o->journal_dir, (size_t)o->journal_bytes,
                                      (size_t)o->journal_segment_bytes, NULL};
    struct gateway_parts parts = {0};
    if (strcmp(o->journal_sync, "disk") == 0 && !journal_sync_new(&s->sync, err))
        return false;
    journal.sync = parts.sync = s->sync;
    if (!avro_codec_open(err) || !base_open(s, err) || !secret_take(s, &parts.secret, err) ||
        !gate_open(s, err) || !delivery_new(&s->delivery, s->base, &kafka, err) ||
        !recovery_open(&s->recovery, &journal, strcmp(o->on_crash, "estimate") == 0, s->delivery, &s->journal,
                       err))
        return false;
    parts.base = s->base;
    parts.journal = s->journal;
    parts.delivery = s->delivery;
    parts.gate = s->gate;
    return gateway_new(&s->gateway, o, &parts, err) && events_open(s, err) &&
           clock_probe_start(o->ledger_url, o->ledger_token, o->clock_every_us, err) &&
           (s->worker || admin_http_start(o->admin_listen, err)) &&
           gateway_listen(s->gateway, s->worker, err);
}

static void parts_close(struct service *s)
{
    admin_http_stop();
    clock_probe_stop();
    gateway_free(s->gateway);
    gate_client_free(s->gate);
    if (s->tick != NULL)
        event_free(s->tick);
    if (s->stop != NULL)
        event_free(s->stop);
    if (s->synced != NULL)
        event_free(s->synced);
    delivery_free(s->delivery);
    recovery_free(s->recovery);
    journal_stop(s->journal, s->closed_reports > 0);
    journal_sync_free(s->sync);
    if (s->base != NULL)
        event_base_free(s->base);
}

bool service_run(const struct ingest_options *options, bool worker, struct err *err)
{
    struct service s = {.options = options, .worker = worker};
    health_ready("kafka", false, "starting");
    health_ready("journal", false, "starting");
    health_ready("accepting", false, "starting");
    descriptors_raise();
    meter_open();
    journal_metrics_open();
    s.loop = health_loop_start("ingest", LOOP_AGE_US);
    bool ok = parts_open(&s, err);
    if (ok) {
        while (ok && !event_base_got_break(s.base)) {
            ok = event_base_loop(s.base, EVLOOP_ONCE) == 0;
            gateway_send_due(s.gateway);
        }
        size_t left = journal_undelivered(s.journal);
        log_info("stopped", LOG_INT("undelivered", left), LOG_INT("journals_left", recovery_left(s.recovery)),
                 LOG_END);
        if (!ok)
            (void)err_set(err, ERR_IO, FATE_FATAL, "the event loop failed");
    }
    parts_close(&s);
    return ok;
}
