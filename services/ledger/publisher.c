/*
 * publisher: numbers a set in Postgres, sends it in a Kafka transaction with its number as position, deletes
 * it. Whatever dies in between: a numbered set is sent again with the same number, unless the position says
 * it was sent.
 */
#include "publisher.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "leader.h"
#include "publish_set.h"
#include "spend/avro_codec.h"
#include "spend/dead_letter.h"
#include "topic_tail.h"
#include <stdio.h>

#define ENTRIES      "spend.entries"
#define BUDGETS      "spend.budgets"
#define NUMBER       "spend_pub_seq" /* header */
#define GROUP        "spend-publisher"
#define SOURCE       "spend-ledger"
#define IDLE_US      50000
#define BUDGETS_US   250000 /* between sets that tell of budgets alone: each hold makes some */
#define RECORD_BYTES (16 << 10)
#define NUMBER_TEXT  24
#define KEY_BETWEEN  0x1f /* budget_id, value */

struct publisher {
    const struct publisher_options *options;
    int64_t published; /* the last set that is on Kafka */
    bool deleted;      /* it is no longer in the outbox */
    int64_t sent_us;   /* when; clock_mono_us */
    struct buffer key, value;
    struct metric *entries, *budgets, *letters;
};

/* Where the last publisher stopped: its group's position, which is forgotten after a week without traffic, or
 * the records themselves; a set may have left some on one topic only. spend.budgets is compacted, but sets go
 * out in order, so its greatest number is on a partition's last record, and that one stays: it is the newest
 * of its key, and there are no tombstones. */
static bool find_position(struct publisher *p, bool doubtful, struct err *err)
{
    const struct kafka_settings *kafka = &p->options->kafka;
    const char *const topics[] = {ENTRIES, BUDGETS, dead_reasons[DEAD_MALFORMED].topic,
                                  dead_reasons[DEAD_CONFLICT].topic};
    struct consumer_partition part = {ENTRIES, 0, CONSUMER_OFFSET_NONE};
    if (!transaction_read_position(kafka, GROUP, &part, 1, err))
        return false;
    p->published = part.offset < 0 ? 0 : part.offset;
    bool ok = true;
    for (size_t i = 0; ok && part.offset < 0 && doubtful && i < sizeof topics / sizeof topics[0]; i++)
        ok = topic_tail_read(kafka, topics[i], NUMBER, &p->published, err);
    return ok;
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
    struct kafka_record record = {.topic = ENTRIES, .key = entry.account_id, .value = buffer_view(&p->value)};
    return leader_send(leader, NUMBER, set->pub_seq, &ce, &record, err);
}

/*
 * n never falls for one window, as a reader of committed records sees it. Every change of a window raises its
 * version under the row's lock, so of two reads the later has no smaller one; and records stand on the topic
 * in the order of their reads. Within one leader: it reads a set after it committed the one before. Over a
 * crash: a set is read anew, and what was read before is aborted or older. Over two leaders: one reads only
 * after its producer was made, and while its session has the lock. So the second's lock comes after all reads
 * of the first, then its producer fences the first's, whose transaction is ended or aborted by that, and only
 * then it reads.
 */
static bool send_budget(struct publisher *p, struct leader *leader, const struct publish_set *set, size_t i,
                        struct err *err)
{
    struct kafka_ce ce;
    struct budget_state state;
    char id[KAFKA_CE_ID_BYTES];
    int64_t read_at;
    buffer_clear(&p->key);
    buffer_clear(&p->value);
    if (!publish_set_budget(set, i, &state, &read_at, err) ||
        !avro_encode_budget_state(&state, &p->value, err))
        return false;
    if (!buffer_append_sv(&p->key, state.budget_id) || !buffer_append_byte(&p->key, KEY_BETWEEN) ||
        !buffer_append_sv(&p->key, state.value))
        return err_set(err, ERR_MEMORY, FATE_RETRY, "publisher: no room for the key of a budget");
    (void)snprintf(id, sizeof id, SV_FMT "/" SV_FMT "/%lld/%lld", SV_ARG(state.budget_id),
                   SV_ARG(state.value), (long long)state.window_start, (long long)state.n);
    kafka_ce_fill(&ce, SOURCE, "spend.budget", sv_of(id), read_at);
    struct kafka_record record = {
        .topic = BUDGETS, .key = buffer_view(&p->key), .value = buffer_view(&p->value)};
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
    const struct consumer_partition position = {ENTRIES, 0, set->pub_seq};
    size_t entries = pg_rows_count(set->entries);
    size_t budgets = pg_rows_count(set->budgets);
    size_t letters = pg_rows_count(set->letters);
    bool ok = transaction_begin(leader->kafka, err);
    for (size_t i = 0; ok && i < entries; i++)
        ok = send_entry(p, leader, set, i, err);
    for (size_t i = 0; ok && i < budgets; i++)
        ok = send_budget(p, leader, set, i, err);
    for (size_t i = 0; ok && i < letters; i++)
        ok = send_letter(leader, set, i, err);
    if (!ok || !transaction_send_position(leader->kafka, GROUP, &position, 1, err) ||
        !transaction_commit(leader->kafka, err))
        return false;
    p->published = set->pub_seq;
    p->deleted = false;
    p->sent_us = clock_mono_us();
    metric_add(p->entries, (int64_t)entries);
    metric_add(p->budgets, (int64_t)budgets);
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
    if (!publish_set_next(leader->pg, clock_mono_us() - p->sent_us < BUDGETS_US, &set, err))
        return false;
    bool ok = set.pub_seq == 0 || publish(p, leader, &set, err);
    /* small sets wait for company: each costs Kafka and Postgres as much as a large one, and the gate makes
     * many
     */
    *more = set.pub_seq != 0 && set.is_full;
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
    p.budgets = metric_counter("spend_ledger_published_total", help, "kind", "budget");
    p.letters = metric_counter("spend_ledger_published_total", help, "kind", "dead_letter");
    buffer_init(&p.key, RECORD_BYTES);
    buffer_init(&p.value, RECORD_BYTES);
    bool ok = leader_run(&job, err);
    buffer_free(&p.key);
    buffer_free(&p.value);
    return ok;
}
