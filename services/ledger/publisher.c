/*
 * publisher: numbers a set in Postgres, sends it in a Kafka transaction with its number as position, deletes
 * it. Whatever dies in between: a numbered set is sent again with the same number, unless the position says
 * it was sent.
 */
#include "publisher.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "kafka/transaction.h"
#include "leader.h"
#include "publish_set.h"
#include "publish_tail.h"
#include "run/health.h"
#include "run/lifecycle.h"
#include "spend/avro_codec.h"
#include "worker.h"
#include <stdio.h>

#define TOPIC          "spend.entries"
#define GROUP          "spend-publisher"
#define SOURCE         "spend-ledger"
#define PART           "publisher"
#define TRANSACTION_MS 10000
#define IDLE_US        50000
#define STANDBY_US     US_PER_SECOND
#define LOOP_AGE_US    (150 * US_PER_SECOND)
#define ENTRY_BYTES    (16 << 10)
#define NUMBER_TEXT    24

struct publisher {
    const struct publisher_options *options;
    struct pg_session *pg;
    struct leader leader;
    struct transaction *kafka; /* NULL: not the leader, or to be made anew */
    int64_t published;         /* the last set that is on Kafka */
    bool deleted;              /* it is no longer in the outbox */
    struct buffer value;
    struct metric *entries, *letters, *leading;
};

static void close_kafka(struct publisher *p)
{
    transaction_free(p->kafka);
    p->kafka = NULL;
    metric_set(p->leading, 0);
}

/* Where the last publisher stopped: its group's position, or the records themselves when that has expired. */
static bool find_position(struct publisher *p, bool doubtful, int64_t *position, struct err *err)
{
    struct consumer_partition part = {TOPIC, 0, CONSUMER_OFFSET_NONE};
    if (!transaction_read_position(&p->options->kafka, GROUP, &part, 1, err))
        return false;
    *position = part.offset < 0 ? 0 : part.offset;
    return part.offset >= 0 || !doubtful || publish_tail_read(&p->options->kafka, position, err);
}

/* Fences the last publisher first: only then does its position stand still. */
static bool open_kafka(struct publisher *p, struct err *err)
{
    int64_t last, oldest;
    const struct transaction_options options = {
        .kafka = p->options->kafka, .transactional_id = GROUP, .timeout_ms = TRANSACTION_MS};
    if (!transaction_new(&p->kafka, &options, err))
        return false;
    if (!publish_set_standing(p->pg, &last, &oldest, err) ||
        !find_position(p, oldest != 0, &p->published, err))
        return false;
    if (p->published > last) {
        log_warn(
            "publisher_position_ahead", LOG_INT("position", p->published), LOG_INT("last", last),
            LOG_STR("meaning",
                    "this database is newer than the topics, or a backup: numbers go on after the position"),
            LOG_END);
        if (!publish_set_raise(p->pg, p->published, err))
            return false;
    }
    p->deleted = false;
    metric_set(p->leading, 1);
    log_info("publisher_leads", LOG_INT("position", p->published), LOG_END);
    return true;
}

static bool send(struct publisher *p, const char *topic, struct strview key, struct strview value,
                 const struct kafka_ce *ce, const char *number, struct err *err)
{
    struct kafka_header headers[KAFKA_CE_HEADERS + 1];
    for (size_t i = 0; i < KAFKA_CE_HEADERS; i++)
        headers[i] = ce->header[i];
    headers[KAFKA_CE_HEADERS] = (struct kafka_header){SV_LIT(PUB_SEQ_HEADER), sv_of(number)};
    const struct kafka_record record = {
        .topic = topic, .key = key, .value = value, .headers = headers, .header_count = KAFKA_CE_HEADERS + 1};
    return transaction_send(p->kafka, &record, err);
}

static bool send_entry(struct publisher *p, const struct ledger_entry *e, const char *number, struct err *err)
{
    struct kafka_ce ce;
    char id[LIMIT_ID_BYTES + NUMBER_TEXT];
    (void)snprintf(id, sizeof id, SV_FMT "/%lld", SV_ARG(e->account_id), (long long)e->account_seq);
    buffer_clear(&p->value);
    kafka_ce_fill(&ce, SOURCE, "spend.entry", sv_of(id), e->posted_at);
    return avro_encode_ledger_entry(e, &p->value, err) &&
           send(p, TOPIC, e->account_id, buffer_view(&p->value), &ce, number, err);
}

static bool send_letter(struct publisher *p, const struct publish_letter *l, const char *number,
                        struct err *err)
{
    struct kafka_ce ce;
    kafka_ce_fill(&ce, SOURCE, "spend.dead_letter", l->ce_id, l->ce_time);
    return send(p, l->topic, l->key, l->value, &ce, number, err);
}

static bool send_all(struct publisher *p, const struct publish_set *set, struct err *err)
{
    char number[NUMBER_TEXT];
    (void)snprintf(number, sizeof number, "%lld", (long long)set->pub_seq);
    for (size_t i = 0; i < publish_set_entries(set); i++) {
        struct ledger_entry entry;
        if (!publish_set_entry(set, i, &entry, err) || !send_entry(p, &entry, number, err))
            return false;
    }
    for (size_t i = 0; i < publish_set_letters(set); i++) {
        struct publish_letter letter;
        if (!publish_set_letter(set, i, &letter, err) || !send_letter(p, &letter, number, err))
            return false;
    }
    return true;
}

static bool publish(struct publisher *p, const struct publish_set *set, struct err *err)
{
    const struct consumer_partition position = {TOPIC, 0, set->pub_seq};
    if (!transaction_begin(p->kafka, err) || !send_all(p, set, err) ||
        !transaction_send_position(p->kafka, GROUP, &position, 1, err) ||
        !transaction_commit(p->kafka, err)) {
        /* a new producer, and the position read again: the one way out of every kind of failure */
        close_kafka(p);
        return false;
    }
    p->published = set->pub_seq;
    p->deleted = false;
    metric_add(p->entries, (int64_t)publish_set_entries(set));
    metric_add(p->letters, (int64_t)publish_set_letters(set));
    return true;
}

/* One set. *idle: there was none. */
static bool publish_next(struct publisher *p, bool *idle, struct err *err)
{
    struct publish_set set;
    if (!p->deleted && !publish_set_delete(p->pg, p->published, err))
        return false;
    p->deleted = true;
    if (!publish_set_next(p->pg, &set, err))
        return false;
    *idle = set.pub_seq == 0;
    bool ok = *idle || publish(p, &set, err);
    publish_set_free(&set);
    return ok;
}

static bool turn(struct publisher *p, struct err *err)
{
    bool leads;
    bool idle = false;
    if (!leader_try(&p->leader, p->pg, &leads, err))
        return false;
    if (!leads) {
        close_kafka(p);
        health_ready(PART, true, NULL);
        (void)lifecycle_wait_us(STANDBY_US);
        return true;
    }
    if (p->kafka == NULL && !open_kafka(p, err)) {
        close_kafka(p);
        return false;
    }
    health_ready(PART, true, NULL);
    if (!publish_next(p, &idle, err))
        return false;
    if (idle) {
        transaction_poll(p->kafka);
        (void)lifecycle_wait_us(IDLE_US);
    }
    return true;
}

static void open_metrics(struct publisher *p)
{
    const char *help = "records published, by kind";
    p->entries = metric_counter("spend_ledger_published_total", help, "kind", "entry");
    p->letters = metric_counter("spend_ledger_published_total", help, "kind", "dead_letter");
    p->leading = metric_gauge("spend_ledger_publisher_leads", "1: this ledger publishes entries", NULL, NULL);
}

bool publisher_run(void *arg, struct err *err)
{
    struct publisher p = {.options = arg, .leader = {.lock = PG_LOCK_PUBLISHER}};
    const struct pg_session_options session = {
        .url = p.options->database_url, .name = "spend-ledger/publisher", .sorted_plans = true};
    struct health_loop *health = health_loop_start(PART, LOOP_AGE_US);
    int tries = 0;
    open_metrics(&p);
    buffer_init(&p.value, ENTRY_BYTES);
    bool ok = pg_session_new(&p.pg, &session, err);
    while (ok && !lifecycle_is_stopping()) {
        health_beat(health);
        if (turn(&p, err)) {
            tries = 0;
            continue;
        }
        health_ready(PART, false, err->text);
        log_warn("publisher_waits", LOG_STR("code", err_code_name(err->code)), LOG_ERR(err), LOG_END);
        ok = worker_outlives(err);
        (void)worker_back_off(&tries);
    }
    health_ready(PART, false, "stopped");
    close_kafka(&p);
    pg_session_free(p.pg);
    buffer_free(&p.value);
    health_loop_end(health);
    return ok;
}
