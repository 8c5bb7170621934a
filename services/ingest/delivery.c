/*
 * delivery: a report's tag is the call's address, or a heartbeat's counter with its lowest bit set. A call
 * has at most one report due (`sent`), so the address is good when the report comes; reports of a replaced
 * producer never come.
 */
#include "ingest/delivery.h"

#include "base/clock.h"
#include "base/log.h"
#include "ingest/meter.h"
#include "spend/avro_codec.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINGER_MS     40
#define QUEUE_RECORDS 200000
#define POLLS_A_TURN  64
#define BEAT_BYTES    4096
#define FIND_MS       200
#define FIND_EVERY_US (2 * US_PER_SECOND)
#define NOT_FOUND     "was not found yet: is Kafka there, and the topics of deploy/topics/topics.json?"
#define TAG_BEAT      1
#define SOURCE        "spend-ingest/"

/* One of the two topics we write. */
struct outlet {
    const char *topic;
    const char *doubt; /* why it is not proved; NULL once it was there */
    bool is_missing;
};

struct delivery {
    struct producer *producer;
    struct kafka_settings kafka;
    struct event_base *base;
    struct event *reports; /* the producer has reports for us */
    struct journal *journals[DELIVERY_JOURNALS_MAX];
    size_t journal_count;
    struct outlet calls, instances;
    int64_t find_us;              /* when Kafka may be asked for calls again */
    struct journal_call *waiting; /* finished, not taken by the producer yet */
    struct journal_call **waiting_end;
};

static void on_report(void *arg, int64_t tag, bool ok, int32_t partition, int64_t offset,
                      const struct err *err);

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct delivery *d = arg;
    producer_event_clear(d->producer);
    delivery_poll(d, 0);
}

static bool producer_start(struct delivery *d, struct err *err)
{
    struct producer_options options = {.kafka = d->kafka,
                                       .linger_ms = LINGER_MS,
                                       .queue_records = QUEUE_RECORDS,
                                       .report = on_report,
                                       .report_arg = d};
    if (!producer_new(&d->producer, &options, err))
        return false;
    if (d->base == NULL)
        return true;
    int fd = producer_event_fd(d->producer);
    d->reports = fd < 0 ? NULL : event_new(d->base, fd, EV_READ | EV_PERSIST, on_event, d);
    if (d->reports == NULL || event_add(d->reports, NULL) != 0)
        return err_set(err, ERR_KAFKA, FATE_FATAL, "delivery: no event for the producer");
    return true;
}

static void producer_stop(struct delivery *d)
{
    if (d->reports != NULL)
        event_free(d->reports);
    d->reports = NULL;
    producer_free(d->producer);
    d->producer = NULL;
}

bool delivery_new(struct delivery **out, struct event_base *base, const struct kafka_settings *kafka,
                  struct err *err)
{
    struct delivery *d = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "delivery: out of memory");
    d->base = base;
    d->kafka = *kafka;
    d->calls = (struct outlet){"spend.calls", "spend.calls " NOT_FOUND, false};
    d->instances = (struct outlet){"spend.instances", "spend.instances " NOT_FOUND, false};
    d->waiting_end = &d->waiting;
    if (!producer_start(d, err)) {
        delivery_free(d);
        return false;
    }
    *out = d;
    return true;
}

void delivery_free(struct delivery *d)
{
    if (d == NULL)
        return;
    producer_stop(d);
    free(d);
}

static void wait(struct delivery *d, struct journal_call *call)
{
    if (call->waiting)
        return;
    call->waiting = true;
    call->next_waiting = NULL;
    *d->waiting_end = call;
    d->waiting_end = &call->next_waiting;
}

static int64_t time_told(struct strview record)
{
    struct spend_call decoded = {0};
    struct arena arena;
    struct err err = {0};
    arena_init(&arena, 1 << 20);
    bool ok = avro_decode_spend_call(record, &arena, &decoded, &err);
    arena_free(&arena);
    return ok ? decoded.admitted_at : 0; /* it was encoded by us */
}

/* A repeat has the same headers: our own ids begin with their time, a foreign call's record tells it. */
static int64_t time_of(const struct journal_call *call, struct strview record)
{
    bool own = call->call_id.byte[6] >> 4 == 7;
    return own ? uuid_v7_ms(&call->call_id) * 1000 : time_told(record);
}

static bool produce(struct delivery *d, struct journal_call *call, struct err *err)
{
    char id[UUID_TEXT_LEN + 1];
    char source[] = SOURCE "01234567-0123-0123-0123-0123456789ab"; /* room for an instance */
    struct kafka_ce ce;
    struct journal_record record;
    uuid_format(&call->call_id, id);
    memcpy(source + sizeof SOURCE - 1, journal_instance(call->home), UUID_TEXT_LEN);
    journal_read(call, &record);
    kafka_ce_fill(&ce, source, "spend.call", sv_of(id), time_of(call, record.payload));
    struct kafka_record out = {.topic = d->calls.topic,
                               .key = sv_of(id),
                               .value = record.payload,
                               .headers = ce.header,
                               .header_count = KAFKA_CE_HEADERS,
                               .tag = (int64_t)(intptr_t)call};
    if (!producer_send(d->producer, &out, err))
        return false;
    call->sent = true;
    return true;
}

/* true: the topic is missing, and that was said. */
static bool note_missing(struct outlet *o, const struct err *err)
{
    if (err->code != ERR_NOT_FOUND)
        return false;
    if (!o->is_missing)
        log_error("topic_missing", LOG_ERR(err), LOG_END);
    o->is_missing = true;
    return true;
}

static void prove(struct outlet *o)
{
    o->doubt = NULL;
    o->is_missing = false;
}

/* In order, until the producer has no more room, or a call's bytes are not on disk yet. */
static void waiting_send(struct delivery *d)
{
    while (d->producer != NULL && d->waiting != NULL) {
        struct err err = {0};
        struct journal_call *call = d->waiting;
        if (!journal_is_settled(call))
            return;
        if (!produce(d, call, &err)) {
            if (err.code != ERR_FULL && !note_missing(&d->calls, &err))
                log_warn("call_not_produced", LOG_INT("seq", call->seq), LOG_ERR(&err), LOG_END);
            return;
        }
        d->waiting = call->next_waiting;
        if (d->waiting == NULL)
            d->waiting_end = &d->waiting;
        call->waiting = false;
    }
}

void delivery_send(struct delivery *d, struct journal_call *call)
{
    wait(d, call);
    waiting_send(d);
}

static void on_report(void *arg, int64_t tag, bool ok, int32_t partition, int64_t offset,
                      const struct err *err)
{
    (void)partition;
    (void)offset;
    struct delivery *d = arg;
    bool is_beat = (tag & TAG_BEAT) != 0;
    struct outlet *o = is_beat ? &d->instances : &d->calls;
    if (ok)
        prove(o);
    else
        (void)note_missing(o, err);
    if (is_beat) {
        int64_t *reports =
            (int64_t *)(intptr_t)(tag & ~(int64_t)TAG_BEAT); /* NOLINT(performance-no-int-to-ptr) */
        if (reports != NULL && ok)
            ++*reports;
        return;
    }
    struct journal_call *call = (struct journal_call *)(intptr_t)tag; /* NOLINT(performance-no-int-to-ptr) */
    call->sent = false;
    if (ok) {
        void (*told)(void *) = call->on_delivered;
        void *told_arg = call->on_delivered_arg;
        journal_delivered(call);
        if (told != NULL)
            told(told_arg);
        return;
    }
    meter_add(METER_DELIVERY_RETRIED, 1);
    log_warn("delivery_failed", LOG_INT("seq", call->seq), LOG_ERR(err), LOG_END);
    wait(d, call); /* possibly there already: the same bytes again are a repeat */
}

bool delivery_adopt(struct delivery *d, struct journal *j, struct err *err)
{
    if (d->journal_count == DELIVERY_JOURNALS_MAX)
        return err_set(err, ERR_FULL, FATE_FATAL, "delivery: more than %d journals", DELIVERY_JOURNALS_MAX);
    d->journals[d->journal_count++] = j;
    for (struct journal_call *call = journal_oldest(j); call != NULL; call = call->newer)
        if (call->finished && !call->sent)
            wait(d, call);
    waiting_send(d);
    return true;
}

void delivery_forget(struct delivery *d, const struct journal *j)
{
    for (size_t i = 0; i < d->journal_count; i++)
        if (d->journals[i] == j)
            d->journals[i] = d->journals[--d->journal_count];
}

/* What the dead producer had not reported is sent by a new one. */
static void producer_replace(struct delivery *d, const struct err *why)
{
    struct err err = {0};
    log_error("producer_replaced", LOG_ERR(why), LOG_END);
    meter_add(METER_PRODUCER_REPLACED, 1);
    producer_stop(d);
    if (!producer_start(d, &err)) {
        log_error("producer_not_started", LOG_ERR(&err), LOG_END);
        producer_stop(d);
        return;
    }
    for (size_t i = 0; i < d->journal_count; i++) {
        for (struct journal_call *call = journal_oldest(d->journals[i]); call != NULL; call = call->newer) {
            call->sent = false;
            if (call->finished)
                wait(d, call);
        }
    }
}

void delivery_poll(struct delivery *d, int timeout_ms)
{
    struct err err = {.text = "no producer"};
    if (d->producer == NULL || producer_is_fatal(d->producer, &err))
        producer_replace(d, &err);
    if (d->producer == NULL)
        return;
    for (int turn = 0; turn < POLLS_A_TURN && producer_poll(d->producer, turn == 0 ? timeout_ms : 0) > 0;
         turn++) {
    }
    waiting_send(d);
}

bool delivery_beat(struct delivery *d, const struct instance *beat, int64_t *reports, struct err *err)
{
    struct buffer bytes;
    struct kafka_ce ce;
    char id[96];
    char source[UUID_TEXT_LEN + 32];
    if (d->producer == NULL)
        return err_set(err, ERR_KAFKA, FATE_RETRY, "delivery: no producer");
    buffer_init(&bytes, BEAT_BYTES);
    (void)snprintf(id, sizeof id, SV_FMT "/%lld", SV_ARG(beat->instance), (long long)beat->at);
    (void)snprintf(source, sizeof source, SOURCE SV_FMT, SV_ARG(beat->instance));
    kafka_ce_fill(&ce, source, "spend.instance", sv_of(id), beat->at);
    bool ok = avro_encode_instance(beat, &bytes, err);
    struct kafka_record record = {.topic = d->instances.topic,
                                  .key = beat->instance,
                                  .value = buffer_view(&bytes),
                                  .headers = ce.header,
                                  .header_count = KAFKA_CE_HEADERS,
                                  .tag = (int64_t)(intptr_t)reports | TAG_BEAT};
    ok = ok && producer_send(d->producer, &record, err);
    if (!ok)
        (void)note_missing(&d->instances, err);
    buffer_free(&bytes);
    return ok;
}

bool delivery_is_proved(struct delivery *d, const char **why)
{
    struct err err = {0};
    int64_t now = clock_mono_us();
    /* heartbeats say nothing of the topic that the money is on */
    if (d->calls.doubt != NULL && d->producer != NULL && producer_is_connected(d->producer) &&
        now >= d->find_us) {
        d->find_us = now + FIND_EVERY_US;
        if (producer_finds_topic(d->producer, d->calls.topic, FIND_MS, &err))
            prove(&d->calls);
        else
            (void)note_missing(&d->calls, &err);
    }
    *why = d->calls.doubt != NULL ? d->calls.doubt : d->instances.doubt;
    return *why == NULL;
}
