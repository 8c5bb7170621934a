/*
 * attribute_loop: one blocking loop. A turn: configuration, new records, one transaction over what may be
 * decided. Natural batching: a batch is what has piled up. Records that must wait for the watermark are held
 * in memory, their partitions paused when the hold is full, so that polling (heartbeats, rebalances) never
 * stops. After an aborted transaction the records held are what the committed offsets say is next: they are
 * simply decided again.
 */
#include "attribute_loop.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "pending.h"
#include "run/health.h"
#include "run/lifecycle.h"

#define TOPIC           "spend.calls"
#define GROUP           "spend-attributor"
#define HOLD_BATCHES    4            /* held at most: this many batches of records .. */
#define HOLD_BYTES      (64LL << 20) /* .. and this many bytes */
#define IDLE_POLL_MS    100          /* nothing is held */
#define WAIT_POLL_MS    20           /* records wait for the watermark */
#define CONFIG_POLL_MS  100          /* while configuration is read for the first time */
#define GATHER_POLL_MS  1            /* for one more record of a batch */
#define TRANSACTION_MS  10000
#define RETRY_PAUSE_US  (200 * 1000LL)
#define BEAT_MAX_US     (90 * US_PER_SECOND) /* a commit may be waited for that long */
#define TWIN_US         (20 * US_PER_SECOND) /* fenced again within it: another process has our name */
#define LAG_LOUD_US     (5 * US_PER_SECOND)
#define LAG_REPEAT_US   (30 * US_PER_SECOND)
#define TRANSACT_ID_MAX 160

struct loop_metrics {
    struct metric *decided[DECIDE_VERDICTS];
    struct metric *committed;
    struct metric *retried;
    struct metric *held;
    struct metric *watermark;
    struct metric *config_lag;
    struct metric *left_out;
    struct metric *assumed;
    struct metric *delay;
    struct metric *started_over;
};

struct loop {
    const struct attribute_loop_options *options;
    struct registry_view *registry;
    struct price_view *prices;
    struct consumer *calls;
    struct transaction *transaction;
    struct decider *decider;
    struct pending *pending; /* read and not committed, by partition in order */
    int64_t watermark;       /* accepted: the price book that it names is here too */
    int64_t lag_said_us;     /* monotonic, as the next */
    int64_t started_over_us; /* 0: never */
    struct health_loop *beat;
    struct loop_metrics metrics;
};

static void metrics_open(struct loop_metrics *m)
{
    for (int v = DECIDE_ATTRIBUTED; v < DECIDE_VERDICTS; v++)
        m->decided[v] = metric_counter("spend_attributor_records_total",
                                       "records decided and committed, by what became of them", "verdict",
                                       decide_verdict_name((enum decide_verdict)v));
    m->committed = metric_counter("spend_attributor_transactions_total", "transactions, by how they ended",
                                  "result", "committed");
    m->retried = metric_counter("spend_attributor_transactions_total", "transactions, by how they ended",
                                "result", "retried");
    m->held = metric_gauge("spend_attributor_held_records",
                           "records read that wait for configuration or their transaction", NULL, NULL);
    m->watermark = metric_gauge("spend_attributor_config_watermark_us",
                                "configuration is known up to here, UTC microseconds", NULL, NULL);
    m->config_lag = metric_gauge("spend_attributor_config_lag_us",
                                 "how long ago the configuration's watermark was, microseconds", NULL, NULL);
    m->left_out = metric_counter(
        "spend_attributor_left_out_bytes_total",
        "bytes of usage objects, key tags and overlong originals that had no room in their output", NULL,
        NULL);
    m->assumed =
        metric_counter("spend_attributor_assumed_total",
                       "calls attributed at a cost that is assumed in part (docs/prices.md)", NULL, NULL);
    m->started_over = metric_counter("spend_attributor_started_over_total",
                                     "times the group member and the producer were made anew", NULL, NULL);
    m->delay = metric_histogram_us("spend_attributor_delay_seconds",
                                   "from the broker's append time to the commit", NULL, NULL);
}

/* -- configuration */

/* D10: a watermark counts only once the price book that it names is here. */
static void watermark_take(struct loop *l)
{
    const struct registry *registry = registry_view_registry(l->registry);
    if (price_list_newest(price_view_list(l->prices)) >= registry_price_version(registry))
        l->watermark = registry_watermark(registry);
    metric_set(l->metrics.watermark, l->watermark);
    metric_set(l->metrics.config_lag, l->watermark == 0 ? 0 : clock_now_us() - l->watermark);
}

static bool config_poll(struct loop *l, int timeout_ms, struct err *err)
{
    if (!registry_view_poll(l->registry, timeout_ms, err) || !price_view_poll(l->prices, 0, err))
        return false;
    watermark_take(l);
    return true;
}

/* Calls are held up by configuration that does not come: say so, seldom. */
static void lag_say(struct loop *l)
{
    int64_t now_us = clock_mono_us();
    const struct pending_item *item = pending_oldest_waiting(l->pending, l->watermark);
    if (item == NULL || now_us - item->read_us < LAG_LOUD_US || now_us - l->lag_said_us < LAG_REPEAT_US)
        return;
    l->lag_said_us = now_us;
    log_warn("config_lag", LOG_INT("waiting_us", now_us - item->read_us),
             LOG_INT("partition", item->message.partition), LOG_INT("offset", item->message.offset),
             LOG_INT("known_by", item->known_by), LOG_INT("watermark", l->watermark),
             LOG_INT("held", pending_count(l->pending)),
             LOG_STR("next", "is a ledger running, and does it publish spend.registry?"), LOG_END);
}

/* Reads the registry and the prices to their ends. false: stopping, or FATE_FATAL. */
static bool config_read(struct loop *l, struct err *err)
{
    bool registry_read = false;
    bool prices_read = false;
    while (!lifecycle_is_stopping() && !(registry_read && prices_read)) {
        health_beat(l->beat);
        if (!config_poll(l, CONFIG_POLL_MS, err))
            return false;
        registry_read = registry_view_is_read(l->registry, err);
        prices_read = price_view_is_read(l->prices, err);
        health_ready("registry", registry_read, "spend.registry is being read");
        health_ready("prices", prices_read, "spend.prices is being read");
    }
    const struct registry *registry = registry_view_registry(l->registry);
    log_info("config_read", LOG_INT("accounts", registry_count(registry, REGISTRY_ACCOUNT)),
             LOG_INT("keys", registry_count(registry, REGISTRY_KEY)), LOG_INT("watermark", l->watermark),
             LOG_INT("price_version", price_list_newest(price_view_list(l->prices))), LOG_END);
    return registry_read && prices_read;
}

/* -- the assignment; both run inside consumer_poll */

static bool on_assigned(void *arg, struct consumer_partition *parts, size_t count, struct err *err)
{
    struct loop *l = arg;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].offset == CONSUMER_OFFSET_NONE)
            parts[i].offset = CONSUMER_OFFSET_BEGINNING; /* the ledger drops repeats */
    }
    health_ready("kafka", true, NULL);
    return pending_assign(l->pending, parts, count, err);
}

static void on_revoked(void *arg, const struct consumer_partition *parts, size_t count, bool lost)
{
    struct loop *l = arg;
    (void)parts;
    (void)count;
    log_info("calls_dropped", LOG_INT("held", pending_count(l->pending)), LOG_INT("lost", lost), LOG_END);
    health_ready("kafka", false, "between two assignments");
    pending_drop_all(l->pending);
}

/* -- records in */

static bool pause_all(struct loop *l, bool paused, struct err *err)
{
    for (size_t i = 0; i < pending_partition_count(l->pending); i++) {
        if (!consumer_pause(l->calls, TOPIC, pending_partition(l->pending, i)->partition, paused, err))
            return false;
    }
    return true;
}

/* Polls at least once a turn, whatever is held. */
static bool calls_poll(struct loop *l, struct err *err)
{
    bool has_held = pending_count(l->pending) > 0;
    int timeout_ms = !has_held ? IDLE_POLL_MS : pending_is_ready(l->pending, l->watermark) ? 0 : WAIT_POLL_MS;
    if (!pause_all(l, pending_is_full(l->pending), err))
        return err->fate != FATE_FATAL;
    for (size_t i = 0; i < l->options->batch_max; i++) {
        struct consumer_message m;
        if (!consumer_poll(l->calls, timeout_ms, &m, err))
            return err->code == ERR_NONE || err->fate != FATE_FATAL;
        if (!pending_add(l->pending, &m, clock_mono_us(), err))
            return false;
        if (pending_is_full(l->pending))
            return true;
        timeout_ms = GATHER_POLL_MS;
    }
    return true;
}

/* -- one transaction */

static bool record_send(struct loop *l, const struct pending_item *item, const struct decision *decision,
                        struct err *err)
{
    char source[TRANSACT_ID_MAX];
    char id[96];
    struct kafka_ce ce;
    (void)snprintf(source, sizeof source, "spend-attributor/%s", l->options->replica);
    int len = snprintf(id, sizeof id, TOPIC "/%d/%lld", (int)item->message.partition,
                       (long long)item->message.offset);
    kafka_ce_fill(&ce, source, decision->type, sv_of_bytes(id, (size_t)len), clock_now_us());
    const struct kafka_record record = {
        .topic = decision->topic,
        .key = decision->key,
        .value = decision->value,
        .headers = ce.header,
        .header_count = KAFKA_CE_HEADERS,
    };
    return transaction_send(l->transaction, &record, err);
}

static bool item_decide(struct loop *l, struct pending_item *item, struct decision *decision, struct err *err)
{
    const struct consumer_message *m = &item->message;
    const struct decide_config config = {
        .registry = registry_view_registry(l->registry),
        .prices = price_view_list(l->prices),
        .watermark = l->watermark,
    };
    const struct decide_record record = {
        .origin = {.topic = SV_LIT(TOPIC), .partition = m->partition, .offset = m->offset},
        .append_us = m->timestamp_us,
        .key = m->key,
        .value = m->value,
    };
    if (!decide(l->decider, &config, &record, decision, err))
        return false;
    item->known_by = decision->known_by;
    item->verdict = decision->verdict;
    item->assumed = decision->assumed;
    item->left_out = decision->left_out;
    return true;
}

/* Said when the transaction is on its way, so that a repeated attempt says it again: the offset tells. */
static void dead_say(const struct pending_item *item, const struct decision *decision)
{
    if (decision->verdict != DECIDE_ATTRIBUTED)
        log_warn("call_dead_lettered", LOG_STR("reason", decide_verdict_name(decision->verdict)),
                 LOG_INT("partition", item->message.partition), LOG_INT("offset", item->message.offset),
                 LOG_SV("detail", decision->detail), LOG_END);
}

/* Decides and sends what may be, in each partition up to the first record that must wait. */
static bool batch_send(struct loop *l, size_t *sent, struct err *err)
{
    *sent = 0;
    for (size_t i = 0; i < pending_count(l->pending) && *sent < l->options->batch_max; i++) {
        struct pending_item *item = pending_at(l->pending, i);
        struct pending_partition *partition = pending_partition_of(l->pending, item);
        struct decision decision;
        if (partition->is_waiting || item->known_by > l->watermark) {
            partition->is_waiting = true;
            continue;
        }
        if (!item_decide(l, item, &decision, err))
            return false;
        if (decision.verdict == DECIDE_WAIT) {
            partition->is_waiting = true;
            continue;
        }
        if (*sent == 0 && !transaction_begin(l->transaction, err))
            return false;
        if (!record_send(l, item, &decision, err))
            return false;
        dead_say(item, &decision);
        pending_mark(l->pending, item);
        ++*sent;
    }
    return true;
}

static void batch_count(struct loop *l)
{
    int64_t now_us = clock_now_us();
    metric_add(l->metrics.committed, 1);
    for (size_t i = 0; i < pending_count(l->pending); i++) {
        const struct pending_item *item = pending_at(l->pending, i);
        if (!item->is_sent)
            continue;
        metric_add(l->metrics.decided[item->verdict], 1);
        metric_add(l->metrics.assumed, item->assumed ? 1 : 0);
        metric_add(l->metrics.left_out, (int64_t)item->left_out);
        metric_observe_us(l->metrics.delay, now_us - item->message.timestamp_us);
    }
}

static bool batch_commit(struct loop *l, struct err *err)
{
    size_t count = 0;
    const struct consumer_partition *parts = pending_positions(l->pending, TOPIC, &count);
    return transaction_send_offsets(l->transaction, l->calls, parts, count, err) &&
           transaction_commit(l->transaction, err);
}

/* false: FATE_FATAL. An aborted batch stays held and is decided again. */
static bool batch_run(struct loop *l, struct err *err)
{
    size_t sent = 0;
    pending_begin(l->pending);
    if (batch_send(l, &sent, err) && (sent == 0 || batch_commit(l, err))) {
        if (sent > 0)
            batch_count(l);
        pending_forget_sent(l->pending);
        return true;
    }
    if (err->fate != FATE_RETRY)
        return false;
    log_warn("transaction_retried", LOG_INT("records", sent), LOG_ERR(err), LOG_END);
    metric_add(l->metrics.retried, 1);
    struct err aborted;
    err_clear(&aborted);
    if (!transaction_abort(l->transaction, &aborted)) {
        *err = aborted;
        return false;
    }
    (void)lifecycle_wait_us(RETRY_PAUSE_US);
    return true;
}

/* -- the whole */

/* Opens what needs a broker, as often as it takes. false: stopping, or FATE_FATAL. */
static bool parts_open(struct loop *l, struct err *err)
{
    const struct attribute_loop_options *o = l->options;
    char transactional_id[TRANSACT_ID_MAX];
    (void)snprintf(transactional_id, sizeof transactional_id, "spend-attributor-%s", o->replica);
    struct transaction_options transaction = {
        .kafka = o->kafka, .transactional_id = transactional_id, .timeout_ms = TRANSACTION_MS};
    transaction.kafka.client_id = "attributor-transaction";
    while (!lifecycle_is_stopping()) {
        health_beat(l->beat);
        err_clear(err);
        if ((l->registry != NULL || registry_view_new(&l->registry, &o->kafka, err)) &&
            (l->prices != NULL || price_view_new(&l->prices, &o->kafka, err)) &&
            (l->transaction != NULL || transaction_new(&l->transaction, &transaction, err)))
            return true;
        if (err->fate != FATE_RETRY)
            return false;
        log_warn("kafka_awaited", LOG_ERR(err), LOG_END);
        (void)lifecycle_wait_us(US_PER_SECOND);
    }
    return false;
}

static bool calls_open(struct loop *l, struct err *err)
{
    static const char *const topics[] = {TOPIC};
    struct consumer_options options = {
        .kafka = l->options->kafka,
        .group = GROUP,
        .member = l->options->replica,
        .assigned = on_assigned,
        .revoked = on_revoked,
        .arg = l,
    };
    options.kafka.client_id = "attributor-calls";
    return consumer_new(&l->calls, &options, err) && consumer_subscribe(l->calls, topics, 1, err);
}

/*
 * librdkafka gives a static member up for good when its own rejoining fences it, and a producer when the
 * outcome of its commit stays unknown: a broker's restart is enough for both. New ones read the committed
 * offsets and go on from there.
 */
static bool start_over(struct loop *l, struct err *err)
{
    bool unknown = err->code == ERR_TIMEOUT; /* nobody's fault but the broker's: as often as it takes */
    bool again = l->started_over_us != 0 && clock_mono_us() - l->started_over_us < TWIN_US;
    if (!unknown && (again || (err->code != ERR_STATE && err->code != ERR_KAFKA)))
        return false;
    log_warn("started_over", LOG_ERR(err), LOG_END);
    metric_add(l->metrics.started_over, 1);
    pending_drop_all(l->pending); /* before its consumer goes: the messages are that one's */
    consumer_free(l->calls);
    transaction_free(l->transaction);
    l->calls = NULL;
    l->transaction = NULL;
    bool ok = parts_open(l, err) && calls_open(l, err);
    l->started_over_us = clock_mono_us();
    return ok || lifecycle_is_stopping(); /* asked to stop meanwhile: nothing is held, nothing is lost */
}

static bool turns(struct loop *l, struct err *err)
{
    while (!lifecycle_is_stopping()) {
        health_beat(l->beat);
        err_clear(err);
        if (!config_poll(l, 0, err)) /* a new member mends no configuration that was missed */
            return false;
        if ((!calls_poll(l, err) || !batch_run(l, err)) && !start_over(l, err))
            return false;
        metric_set(l->metrics.held, (int64_t)pending_count(l->pending));
        lag_say(l);
    }
    return true;
}

bool attribute_loop_run(const struct attribute_loop_options *options, struct err *err)
{
    struct loop l = {.options = options};
    health_ready("registry", false, "spend.registry is not read yet");
    health_ready("prices", false, "spend.prices is not read yet");
    health_ready("kafka", false, "not a member of the group yet");
    metrics_open(&l.metrics);
    l.beat = health_loop_start("attribute", BEAT_MAX_US);
    bool ok = pending_new(&l.pending, options->batch_max * HOLD_BATCHES, HOLD_BYTES, err) &&
              decider_new(&l.decider, &options->rules, err) && parts_open(&l, err) && config_read(&l, err) &&
              calls_open(&l, err) && turns(&l, err);
    ok = ok || (lifecycle_is_stopping() && err->fate != FATE_FATAL);
    pending_drop_all(l.pending); /* before its consumer goes: the messages are that one's */
    consumer_free(l.calls);
    transaction_free(l.transaction);
    price_view_free(l.prices);
    registry_view_free(l.registry);
    decider_free(l.decider);
    pending_free(l.pending);
    health_loop_end(l.beat);
    return ok;
}
