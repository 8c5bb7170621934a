/*
 * publisher: numbers a set in Postgres, sends it in a Kafka transaction with its number as position, deletes
 * it. Whatever dies in between: a numbered set is sent again with the same number, unless the position says
 * it was sent.
 */
#include "publisher.h"

#include "base/log.h"
#include "base/metrics.h"
#include "leader.h"
#include "publish_set.h"
#include "spend/avro_codec.h"
#include "spend/dead_letter.h"
#include "topic_tail.h"
#include <stdio.h>

#define TOPIC       "spend.entries"
#define NUMBER      "spend_pub_seq" /* header */
#define GROUP       "spend-publisher"
#define SOURCE      "spend-ledger"
#define IDLE_US     50000
#define ENTRY_BYTES (16 << 10)
#define NUMBER_TEXT 24

struct publisher {
    const struct publisher_options *options;
    int64_t published; /* the last set that is on Kafka */
    bool deleted;      /* it is no longer in the outbox */
    struct buffer value;
    struct metric *entries, *letters;
};

/* Where the last publisher stopped: its group's position, which is forgotten after a week without traffic, or
 * the records themselves. */
static bool find_position(struct publisher *p, bool doubtful, struct err *err)
{
    const struct kafka_settings *kafka = &p->options->kafka;
    struct consumer_partition part = {TOPIC, 0, CONSUMER_OFFSET_NONE};
    if (!transaction_read_position(kafka, GROUP, &part, 1, err))
        return false;
    p->published = part.offset < 0 ? 0 : part.offset;
    return part.offset >= 0 || !doubtful ||
           (topic_tail_read(kafka, TOPIC, NUMBER, &p->published, err) &&
            topic_tail_read(kafka, dead_reasons[DEAD_MALFORMED].topic, NUMBER, &p->published, err) &&
            topic_tail_read(kafka, dead_reasons[DEAD_CONFLICT].topic, NUMBER, &p->published, err));
}

static bool publisher_open(void *arg, struct leader *leader, struct err *err)
{
    struct publisher *p = arg;
    int64_t last, oldest;
    if (!publish_set_standing(leader->pg, &last, &oldest, err) || !find_position(p, oldest != 0, err))
        return false;
    p->deleted = false;
    if (p->published <= last)
        return true;
    /* a database that is newer than the topics, or a backup: numbers go on after the position */
    log_warn("publisher_position_ahead", LOG_INT("position", p->published), LOG_INT("last", last), LOG_END);
    return publish_set_raise(leader->pg, p->published, err);
}

static bool send_entry(struct publisher *p, struct leader *leader, const struct publish_set *set, size_t i,
                       struct err *err)
{
    struct kafka_ce ce;
    struct ledger_entry entry;
    char id[LIMIT_ID_BYTES + NUMBER_TEXT];
    buffer_clear(&p->value);
    if (!publish_set_entry(set, i, &entry, err) || !avro_encode_ledger_entry(&entry, &p->value, err))
        return false;
    (void)snprintf(id, sizeof id, SV_FMT "/%lld", SV_ARG(entry.account_id), (long long)entry.account_seq);
    kafka_ce_fill(&ce, SOURCE, "spend.entry", sv_of(id), entry.posted_at);
    struct kafka_record record = {.topic = TOPIC, .key = entry.account_id, .value = buffer_view(&p->value)};
    return leader_send(leader, NUMBER, set->pub_seq, &ce, &record, err);
}

/* Columns: topic, key, value, ce_id, ce_time. */
static bool send_letter(struct leader *leader, const struct publish_set *set, size_t i, struct err *err)
{
    const struct pg_rows *letters = set->letters;
    struct kafka_ce ce;
    struct kafka_record record = {.key = pg_get(letters, i, 1), .value = pg_get(letters, i, 2)};
    for (size_t r = 0; r < DEAD_REASON_COUNT; r++) {
        if (sv_eq(pg_get(letters, i, 0), sv_of(dead_reasons[r].topic)))
            record.topic = dead_reasons[r].topic;
    }
    if (record.topic == NULL)
        return err_set(err, ERR_INVALID, FATE_FATAL, "outbox: a record for a topic that is none of ours");
    kafka_ce_fill(&ce, SOURCE, "spend.dead_letter", pg_get(letters, i, 3), pg_get_time(letters, i, 4));
    return leader_send(leader, NUMBER, set->pub_seq, &ce, &record, err);
}

static bool publish(struct publisher *p, struct leader *leader, const struct publish_set *set,
                    struct err *err)
{
    const struct consumer_partition position = {TOPIC, 0, set->pub_seq};
    size_t entries = pg_rows_count(set->entries);
    size_t letters = pg_rows_count(set->letters);
    bool ok = transaction_begin(leader->kafka, err);
    for (size_t i = 0; ok && i < entries; i++)
        ok = send_entry(p, leader, set, i, err);
    for (size_t i = 0; ok && i < letters; i++)
        ok = send_letter(leader, set, i, err);
    if (!ok || !transaction_send_position(leader->kafka, GROUP, &position, 1, err) ||
        !transaction_commit(leader->kafka, err))
        return false;
    p->published = set->pub_seq;
    p->deleted = false;
    metric_add(p->entries, (int64_t)entries);
    metric_add(p->letters, (int64_t)letters);
    return true;
}

static bool publisher_turn(void *arg, struct leader *leader, bool *more, struct err *err)
{
    struct publisher *p = arg;
    struct publish_set set;
    if (!p->deleted && !publish_set_delete(leader->pg, p->published, err))
        return false;
    p->deleted = true;
    if (!publish_set_next(leader->pg, &set, err))
        return false;
    *more = set.pub_seq != 0;
    bool ok = !*more || publish(p, leader, &set, err);
    publish_set_free(&set);
    return ok;
}

bool publisher_run(void *arg, struct err *err)
{
    struct publisher p = {.options = arg};
    const char *help = "records published, by kind";
    const struct leader_job job = {
        .name = "publisher",
        .database_url = p.options->database_url,
        .kafka = p.options->kafka,
        .transactional_id = GROUP,
        .lock = PG_LOCK_PUBLISHER,
        .idle_us = IDLE_US,
        .open = publisher_open,
        .turn = publisher_turn,
        .arg = &p,
    };
    p.entries = metric_counter("spend_ledger_published_total", help, "kind", "entry");
    p.letters = metric_counter("spend_ledger_published_total", help, "kind", "dead_letter");
    buffer_init(&p.value, ENTRY_BYTES);
    bool ok = leader_run(&job, err);
    buffer_free(&p.value);
    return ok;
}
