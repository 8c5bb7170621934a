/*
 * apply_loop: fill, apply, again. While Postgres is away the partitions are paused and what was read is kept.
 * A partition that somebody else's lock keeps from being applied waits by itself, and the others go on.
 */
#include "apply_loop.h"

#include "apply_offset.h"
#include "apply_slot.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "batch_apply.h"
#include "kafka/consumer.h"
#include "pg_session.h"
#include "run/health.h"
#include "run/lifecycle.h"
#include "worker.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS      200
#define BATCH_BYTES  (16LL << 20) /* values held at once, over all partitions */
#define FETCH_BYTES  (1 << 20)
#define LOOP_AGE_US  (150 * US_PER_SECOND) /* a statement may wait for a minute */
#define GROUP_BYTES  128
#define PART         "apply"
#define FENCED_US    (20 * US_PER_SECOND)
#define SLOT_WAIT_US (3 * US_PER_SECOND)
#define SWEEP_US     (10 * US_PER_SECOND)
#define SETTINGS     "SET lock_timeout = '5s'" /* the other partitions wait that long, no longer */

static const char *const topics[] = {"spend.attributed",   "spend.dlq.untagged", "spend.dlq.unknown",
                                     "spend.dlq.conflict", "spend.dlq.unpriced", "spend.dlq.malformed"};
#define TOPIC_COUNT (sizeof topics / sizeof topics[0])

struct apply_loop {
    const struct apply_loop_options *options;
    struct pg_session *pg;
    struct batch_apply *batch;
    struct consumer *consumer;
    struct health_loop *health;
    struct apply_slots slots;
    bool paused;
    int tries;           /* in a row that failed */
    int64_t replaced_us; /* when the consumer was made anew */
    int64_t swept_us;    /* when frozen sessions were looked for */
    struct metric *postgres_up, *retries, *lost, *ended;
};

/* Assignments --------------------------------------------------------------------------------------- */

static bool begin_partition(struct apply_loop *l, struct consumer_partition *part, struct err *err)
{
    const struct apply_offsets offsets = {l->pg, l->consumer, l->options->stream};
    struct apply_offset at;
    if (!apply_offset_find(&offsets, part, &at, err))
        return false;
    part->offset = at.next == 0 ? CONSUMER_OFFSET_BEGINNING : at.next - at.has_last;
    return apply_slots_add(&l->slots, part->topic, part->partition, at.next,
                           at.has_last ? at.last_sha256 : NULL, err);
}

static bool on_assigned(void *arg, struct consumer_partition *parts, size_t count, struct err *err)
{
    struct apply_loop *l = arg;
    int tries = 0;
    apply_slots_clear(&l->slots);
    for (size_t i = 0; i < count;) {
        health_beat(l->health);
        if (begin_partition(l, &parts[i], err)) {
            i++;
            continue;
        }
        if (err->fate == FATE_FATAL)
            return false;
        metric_set(l->postgres_up, 0);
        health_ready(PART, false, err->text);
        log_warn("assignment_waits", LOG_ERR(err), LOG_END);
        if (!worker_back_off(&tries))
            return err_set(err, ERR_CONFLICT, FATE_FATAL, "stopped while waiting for Postgres");
    }
    l->paused = false;
    metric_set(l->postgres_up, 1);
    health_ready(PART, true, NULL);
    return true;
}

static void on_revoked(void *arg, const struct consumer_partition *parts, size_t count, bool lost)
{
    struct apply_loop *l = arg;
    (void)parts;
    (void)count;
    (void)lost;
    apply_slots_clear(&l->slots);
}

/* Fill and apply ----------------------------------------------------------------------------------------- */

static void pause_all(struct apply_loop *l, bool paused)
{
    struct err err;
    if (l->paused == paused)
        return;
    l->paused = paused;
    for (size_t i = 0; i < l->slots.count; i++) {
        const struct apply_slot *s = &l->slots.slot[i];
        if (!paused && s->retry_us != 0)
            continue; /* it waits by itself */
        if (!consumer_pause(l->consumer, s->topic, s->partition, paused, &err))
            log_warn("pause_failed", LOG_ERR(&err), LOG_END);
    }
}

static bool open_consumer(struct apply_loop *l, struct err *err)
{
    char group[GROUP_BYTES];
    const struct apply_loop_options *o = l->options;
    (void)snprintf(group, sizeof group, "spend-ledger-%s", o->stream);
    const struct consumer_options options = {
        .kafka = o->kafka,
        .group = group,
        .member = o->replica,
        .fetch_bytes = FETCH_BYTES,
        .queue_records = (int)o->batch_max,
        .assigned = on_assigned,
        .revoked = on_revoked,
        .arg = l,
    };
    return consumer_new(&l->consumer, &options, err) &&
           consumer_subscribe(l->consumer, topics, TOPIC_COUNT, err);
}

static void close_consumer(struct apply_loop *l)
{
    apply_slots_clear(&l->slots); /* librdkafka waits for messages that are still held */
    consumer_free(l->consumer);
    l->consumer = NULL;
}

/*
 * librdkafka gives a member up for good when its broker fences it, and a commit that was under way while the
 * broker restarted is enough for that: a new member takes over. Again so soon, and somebody else has our
 * name.
 */
static bool replace_consumer(struct apply_loop *l, struct err *err)
{
    int64_t now_us = clock_mono_us();
    if (err->code != ERR_STATE || (l->replaced_us != 0 && now_us - l->replaced_us < FENCED_US))
        return false;
    log_warn("consumer_replaced", LOG_ERR(err), LOG_END);
    l->replaced_us = now_us;
    close_consumer(l);
    return open_consumer(l, err);
}

/* One record. *got false: the time ran out. */
static bool poll(struct apply_loop *l, int wait_ms, struct consumer_message *message, bool *got,
                 struct err *err)
{
    *got = consumer_poll(l->consumer, wait_ms, message, err);
    return *got || err->code == ERR_NONE || replace_consumer(l, err);
}

/* Takes what has piled up and waits for nothing but the first record. */
static bool fill(struct apply_loop *l, struct err *err)
{
    struct consumer_message message;
    bool got;
    int wait_ms = POLL_MS;
    while (l->slots.bytes < BATCH_BYTES && apply_slots_longest(&l->slots) < l->options->batch_max) {
        if (!poll(l, wait_ms, &message, &got, err))
            return false;
        if (!got)
            return true;
        if (!apply_slots_keep(&l->slots, &message, err))
            return false;
        wait_ms = 0;
    }
    return true;
}

/* Drops what is held and goes back to where Postgres stands. If the seek gives up, the slot does not follow
 * and the next turn tries again: what was read meanwhile would leave a hole. */
static bool read_again(struct apply_loop *l, struct apply_slot *slot, struct err *err)
{
    apply_slots_drop(&l->slots, slot, slot->count);
    if (consumer_seek(l->consumer, slot->topic, slot->partition,
                      slot->expected == 0 ? CONSUMER_OFFSET_BEGINNING : slot->expected, err)) {
        apply_slot_set(slot, slot->expected);
        return true;
    }
    log_warn("seek_waits", LOG_STR("topic", slot->topic), LOG_INT("partition", slot->partition),
             LOG_INT("next", slot->expected), LOG_ERR(err), LOG_END);
    return err->fate == FATE_RETRY;
}

/* Somebody else moved this partition: what we hold of it is not ours to apply. */
static bool give_up(struct apply_loop *l, struct apply_slot *slot, struct err *err)
{
    metric_add(l->lost, 1);
    log_warn("offset_moved_by_another", LOG_STR("topic", slot->topic), LOG_INT("partition", slot->partition),
             LOG_INT("next", slot->expected), LOG_END);
    return read_again(l, slot, err);
}

static bool apply_one(struct apply_loop *l, struct apply_slot *slot, struct err *err)
{
    enum batch_verdict verdict;
    struct batch batch = {
        .topic = slot->topic,
        .partition = slot->partition,
        .dead = strcmp(slot->topic, topics[0]) != 0,
        .expected = slot->expected,
        .records = slot->records,
        .count = slot->count < l->options->batch_max ? slot->count : l->options->batch_max,
    };
    size_t given = batch.count;
    bool ok = batch_apply_run(l->batch, &batch, &verdict, err);
    slot->expected = batch.expected;
    apply_slots_drop(&l->slots, slot, given - batch.count);
    if (!ok)
        return false;
    slot->waits = false;
    if (verdict == BATCH_LOST)
        return give_up(l, slot, err);
    const struct consumer_partition done = {slot->topic, slot->partition, slot->expected};
    consumer_commit_async(l->consumer, &done, 1);
    return true;
}

/* What is held is dropped, or a slot that waits for long would keep memory from the others. */
static void slot_wait(struct apply_loop *l, struct apply_slot *slot, const struct err *why)
{
    struct err err;
    log_warn("partition_waits", LOG_STR("topic", slot->topic), LOG_INT("partition", slot->partition),
             LOG_INT("next", slot->expected), LOG_ERR(why), LOG_END);
    metric_add(l->retries, 1);
    health_ready(PART, false, why->text);
    apply_slots_drop(&l->slots, slot, slot->count);
    slot->waits = true;
    slot->retry_us = clock_mono_us() + SLOT_WAIT_US;
    if (!consumer_pause(l->consumer, slot->topic, slot->partition, true, &err))
        log_warn("pause_failed", LOG_ERR(&err), LOG_END);
}

/* Its time has come: it is read again from where Postgres stands. */
static bool slot_resume(struct apply_loop *l, struct apply_slot *slot, struct err *err)
{
    if (!consumer_pause(l->consumer, slot->topic, slot->partition, l->paused, err)) {
        slot->retry_us = clock_mono_us() + SLOT_WAIT_US;
        return err->fate == FATE_RETRY;
    }
    slot->retry_us = 0;
    return read_again(l, slot, err);
}

static bool slot_turn(struct apply_loop *l, struct apply_slot *slot, struct err *err)
{
    if (slot->retry_us != 0)
        return clock_mono_us() < slot->retry_us || slot_resume(l, slot, err);
    if (!apply_slot_follows(slot))
        return read_again(l, slot, err);
    return slot->count == 0 || apply_one(l, slot, err);
}

/*
 * A ledger that froze in mid-transaction holds its locks, and no time-out of Postgres ends a statement that
 * waits for its client: whoever is alive ends the session. What it still sends is refused by the
 * compare-and-set. Who has written nothing holds nothing up, and may be long at reading all there is; so may
 * the config publisher, with all there is to write.
 */
static bool sweep(struct apply_loop *l, struct err *err)
{
    static const char sql[] =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = current_user"
        " AND datname = current_database() AND application_name LIKE 'spend-ledger/%'"
        " AND pid <> pg_backend_pid() AND wait_event IN ('ClientRead', 'ClientWrite')"
        " AND backend_xid IS NOT NULL"
        " AND xact_start < clock_timestamp() - CASE application_name"
        " WHEN 'spend-ledger/config_publisher' THEN interval '10 min' ELSE interval '30 s' END";
    struct pg_rows *rows = NULL;
    if (l->swept_us != 0 && clock_mono_us() - l->swept_us < SWEEP_US)
        return true;
    if (!pg_session_ready(l->pg, err) || !pg_session_query(l->pg, sql, NULL, &rows, err))
        return false;
    l->swept_us = clock_mono_us();
    int64_t count = pg_get_i64(rows, 0, 0);
    pg_rows_free(rows);
    metric_add(l->ended, count);
    if (count > 0)
        log_warn("frozen_sessions_ended", LOG_INT("count", count), LOG_END);
    return true;
}

static bool apply_all(struct apply_loop *l, struct err *err)
{
    for (size_t i = 0; i < l->slots.count; i++) {
        struct apply_slot *slot = &l->slots.slot[i];
        health_beat(l->health);
        if (sweep(l, err) && slot_turn(l, slot, err)) /* a turn may wait for many locks */
            continue;
        if (err->code != ERR_TIMEOUT) /* not a lock: Postgres is away, or too slow for the others as well */
            return false;
        slot_wait(l, slot, err);
    }
    return true;
}

/* Postgres is away or refuses: nothing is lost, nothing more is read, the group still hears of us. */
static bool wait_and_serve(struct apply_loop *l, struct err *err)
{
    struct consumer_message message;
    bool got;
    metric_add(l->retries, 1);
    metric_set(l->postgres_up, 0);
    health_ready(PART, false, err->text);
    log_warn("batch_waits", LOG_INT("tries", l->tries), LOG_ERR(err), LOG_END);
    pause_all(l, true);
    if (!worker_back_off(&l->tries))
        return true;
    do {
        if (!poll(l, 0, &message, &got, err) || (got && !apply_slots_keep(&l->slots, &message, err)))
            return false;
    } while (got);
    return true;
}

static bool turn(struct apply_loop *l, struct err *err)
{
    health_beat(l->health);
    if (l->tries == 0 && !fill(l, err))
        return false;
    bool waited = apply_slots_wait(&l->slots);
    if (!sweep(l, err) || !apply_all(l, err))
        return err->fate == FATE_RETRY && wait_and_serve(l, err);
    bool waits = apply_slots_wait(&l->slots);
    if (l->tries > 0 || (waited && !waits)) {
        l->tries = 0;
        metric_set(l->postgres_up, 1);
        pause_all(l, false);
        health_ready(PART, !waits, "a partition waits for somebody else's locks");
    }
    return true;
}

static void open_metrics(struct apply_loop *l)
{
    l->postgres_up = metric_gauge("spend_ledger_postgres_up", "1 while batches reach Postgres", NULL, NULL);
    l->retries = metric_counter("spend_ledger_batch_retries_total", "batches that had to wait for Postgres",
                                NULL, NULL);
    l->ended = metric_counter("spend_ledger_frozen_sessions_total",
                              "sessions of frozen ledgers ended since they held locks for 30 s", NULL, NULL);
    l->lost = metric_counter("spend_ledger_offset_lost_total",
                             "batches dropped since another ledger applied them", NULL, NULL);
}

static bool open_parts(struct apply_loop *l, struct err *err)
{
    const struct pg_session_options session = {.url = l->options->database_url,
                                               .name = "spend-ledger/apply",
                                               .settings = SETTINGS,
                                               .sorted_plans = true};
    if (!pg_session_new(&l->pg, &session, err))
        return false;
    const struct batch_apply_options batch = {.pg = l->pg,
                                              .stream = l->options->stream,
                                              .rules = l->options->rules,
                                              .values_max = l->options->values_max};
    return batch_apply_new(&l->batch, &batch, err) && open_consumer(l, err);
}

bool apply_loop_run(void *arg, struct err *err)
{
    struct apply_loop l = {.options = arg};
    open_metrics(&l);
    l.health = health_loop_start(PART, LOOP_AGE_US);
    bool ok = open_parts(&l, err);
    while (ok && !lifecycle_is_stopping())
        ok = turn(&l, err);
    ok = ok || lifecycle_is_stopping();
    health_ready(PART, false, "stopped");
    close_consumer(&l);
    apply_slots_free(&l.slots);
    batch_apply_free(l.batch);
    pg_session_free(l.pg);
    health_loop_end(l.health);
    return ok;
}
