/*
 * config_publisher: one turn reads the watermark and the outbox under the configuration lock, sends both in
 * one Kafka transaction, deletes what was sent. Of several records with one key only the newest goes out:
 * sent again after a crash, an older one would take back what a later one has told. A topic that ends before
 * the place where it ended, or whose newest record is of another generation, has lost what was in it: before
 * the next heartbeat everything goes out again. What was on its way meanwhile may stand in the new topic; it
 * is not committed.
 */
#include "config_publisher.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "config_write.h"
#include "leader.h"
#include "pg_query.h"
#include "registry_rows.h"
#include "spend/avro_codec.h"
#include "topic_tail.h"
#include <stdio.h>
#include <time.h>

#define REGISTRY        "spend.registry"
#define PRICES          "spend.prices"
#define SOURCE          "spend-ledger"
#define ROWS_MAX        2000 /* config_sql's limit: more follow in the next turn, the heartbeat after the last */
#define HEARTBEAT_BYTES 4096
#define NUMBER_TEXT     48
#define MARKERS_US      (5 * US_PER_SECOND) /* most that a commit takes until it can be read */

struct config_publisher {
    struct kafka_settings kafka;
    struct consumer *ends; /* reads nothing: asks where the topics end */
    struct metric *records, *heartbeats, *repeats;
};

/* Where the topics end. */
struct config_ends {
    int64_t registry, prices;
};

/* One turn's work. */
struct config_set {
    int64_t watermark;
    int64_t price_version;
    int64_t generation;
    struct pg_rows *rows;
    int64_t last_id;
    struct config_ends sent; /* so many records */
    bool lost;               /* a topic is not what it was: nothing was read */
    bool complete;           /* nothing recorded before the watermark is left behind */
};

static const char watermark_sql[] = "SELECT config_watermark($1::bigint, $2::bigint)";
static const char numbers_sql[] =
    "SELECT (SELECT coalesce(max(version), 0) FROM price_book), generation FROM config_version";
static const char config_sql[] =
    "SELECT id, topic, key, value, recorded_at FROM (SELECT DISTINCT ON (topic, key) * FROM config_outbox "
    "ORDER BY topic, key, id DESC) AS newest ORDER BY id LIMIT 2000";

static bool read_ends(struct config_publisher *p, struct config_ends *out, struct err *err)
{
    struct consumer_message none;
    struct consumer_partition parts[] = {{.topic = REGISTRY}, {.topic = PRICES}};
    if (!consumer_poll(p->ends, 0, &none, err) && err->code != ERR_NONE) /* serves its events */
        return false;
    bool ok = consumer_ends(p->ends, parts, 2, err);
    *out = (struct config_ends){.registry = parts[0].offset, .prices = parts[1].offset};
    return ok;
}

/* The lock is held for one round trip. Whoever records something later gets a later time. */
static bool read_set(struct pg_session *pg, const struct config_ends *ends, struct config_set *set,
                     struct err *err)
{
    struct pg_fields args;
    pg_fields_init(&args);
    pg_put_i64(&args, ends->registry);
    pg_put_i64(&args, ends->prices);
    struct pg_step steps[] = {{.sql = PG_BEGIN},
                              {.sql = watermark_sql, .args = &args},
                              {.sql = numbers_sql},
                              {.sql = config_sql},
                              {.sql = PG_COMMIT}};
    *set = (struct config_set){0};
    bool ok = pg_session_run(pg, steps, 5, err);
    set->lost = ok && pg_rows_count(steps[1].rows) == 0;
    if (ok && !set->lost) {
        set->watermark = pg_get_time(steps[1].rows, 0, 0);
        set->price_version = pg_get_i64(steps[2].rows, 0, 0);
        set->generation = pg_get_i64(steps[2].rows, 0, 1);
        set->rows = steps[3].rows;
        steps[3].rows = NULL;
        size_t count = pg_rows_count(set->rows);
        set->last_id = count == 0 ? 0 : pg_get_i64(set->rows, count - 1, 0);
        set->complete = count < ROWS_MAX;
    }
    pg_steps_free(steps, 5);
    pg_fields_free(&args);
    return ok;
}

/* What goes out again: rows of config_outbox, by COPY. */
struct repeat {
    struct pg_session *pg;
    struct config_stamp stamp;
    struct pg_fields row;
    struct buffer key, value;
    int64_t count;
};

static bool repeat_row(struct repeat *r, const char *topic, struct strview key, struct strview value,
                       struct err *err)
{
    if (r->count++ == 0 &&
        !pg_copy_begin(r->pg, "COPY config_outbox (topic, key, value, recorded_at) FROM STDIN BINARY", err))
        return false;
    pg_fields_clear(&r->row);
    pg_put_str(&r->row, topic);
    pg_put_text(&r->row, key);
    pg_put_bytes(&r->row, value);
    pg_put_time(&r->row, r->stamp.recorded_at);
    return pg_copy_row(r->pg, &r->row, err);
}

/* Accounts of ours are nobody's to name: they are not published. */
static bool repeat_fact(void *arg, const struct registry_fact *fact, struct err *err)
{
    struct repeat *r = arg;
    return sv_starts_with(fact->record.id, SV_LIT("~")) ||
           (config_write_encode(&fact->record, &r->key, &r->value, err) &&
            repeat_row(r, REGISTRY, buffer_view(&r->key), buffer_view(&r->value), err));
}

static bool repeat_books(struct repeat *r, const struct pg_rows *books, struct err *err)
{
    for (size_t i = 0; i < pg_rows_count(books); i++) {
        if (!repeat_row(r, PRICES, pg_get(books, i, 0), pg_get(books, i, 1), err))
            return false;
    }
    return r->count == 0 || pg_copy_end(r->pg, err);
}

/* Everything that is configured into the outbox, under the configuration lock. generation: the greatest that
 * was met. */
static bool repeat_all(struct config_publisher *p, struct pg_session *pg, const struct config_ends *ends,
                       int64_t generation, struct err *err)
{
    struct repeat r = {.pg = pg};
    struct pg_rows *books = NULL;
    pg_fields_init(&r.row);
    buffer_init(&r.key, CONFIG_KEY_BYTES);
    buffer_init(&r.value, CONFIG_RECORD_BYTES);
    bool ok =
        pg_session_begin(pg, err) && config_write_begin(pg, &r.stamp, err) &&
        pg_session_query(pg, "SELECT version::text, record FROM price_book ORDER BY version", NULL, &books,
                         err) &&
        registry_rows_changed(pg, 0, repeat_fact, &r, err) && repeat_books(&r, books, err) &&
        pg_query(pg,
                 "UPDATE config_version SET registry_end = $1::bigint, prices_end = $2::bigint,"
                 " generation = greatest(generation, $3::bigint) + 1",
                 PG_ARGS(PG_I64(ends->registry), PG_I64(ends->prices), PG_I64(generation)), NULL, err) &&
        pg_session_commit(pg, err);
    pg_rows_free(books);
    pg_fields_free(&r.row);
    buffer_free(&r.key);
    buffer_free(&r.value);
    if (!ok) {
        pg_session_rollback(pg);
        return false;
    }
    metric_add(p->repeats, 1);
    log_warn("config_published_whole", LOG_INT("records", r.count), LOG_INT("registry_end", ends->registry),
             LOG_INT("prices_end", ends->prices),
             LOG_STR("why", "spend.registry or spend.prices is new, or was made anew"), LOG_END);
    return true;
}

static bool send_row(struct leader *leader, struct config_set *set, size_t i, struct err *err)
{
    struct kafka_ce ce;
    char id[NUMBER_TEXT];
    const struct pg_rows *rows = set->rows;
    bool prices = sv_eq(pg_get(rows, i, 1), SV_LIT(PRICES));
    (void)snprintf(id, sizeof id, "config/%lld", (long long)pg_get_i64(rows, i, 0));
    kafka_ce_fill(&ce, SOURCE, prices ? "spend.price_book" : "spend.registry", sv_of(id),
                  pg_get_time(rows, i, 4));
    struct kafka_record record = {
        .topic = prices ? PRICES : REGISTRY, .key = pg_get(rows, i, 2), .value = pg_get(rows, i, 3)};
    *(prices ? &set->sent.prices : &set->sent.registry) += 1;
    return leader_send(leader, REGISTRY_GENERATION_HEADER, set->generation, &ce, &record, err);
}

static bool send_heartbeat(struct leader *leader, struct config_set *set, struct err *err)
{
    struct kafka_ce ce;
    struct buffer value;
    char id[NUMBER_TEXT];
    const struct registry_record heartbeat = {
        .kind = REGISTRY_HEARTBEAT,
        .id = SV_LIT("config"),
        .watermark = OPT_I64(set->watermark),
        .price_version = {.has = set->price_version > 0, .v = set->price_version},
    };
    (void)snprintf(id, sizeof id, "heartbeat/%lld", (long long)set->watermark);
    kafka_ce_fill(&ce, SOURCE, "spend.registry", sv_of(id), set->watermark);
    buffer_init(&value, HEARTBEAT_BYTES);
    bool ok = avro_encode_registry_record(&heartbeat, &value, err);
    struct kafka_record record = {
        .topic = REGISTRY, .key = SV_LIT("heartbeat:config"), .value = buffer_view(&value)};
    set->sent.registry++;
    ok = ok && leader_send(leader, REGISTRY_GENERATION_HEADER, set->generation, &ce, &record, err);
    buffer_free(&value);
    return ok;
}

/* Not yet committed. */
static bool send_set(struct leader *leader, struct config_set *set, struct err *err)
{
    bool ok = transaction_begin(leader->kafka, err);
    for (size_t i = 0; ok && i < pg_rows_count(set->rows); i++)
        ok = send_row(leader, set, i, err);
    return ok && (!set->complete || send_heartbeat(leader, set, err)) &&
           transaction_flush(leader->kafka, err);
}

/* What is known only there may go from here once it can be read: then the topics end behind it. */
static bool settle_set(struct config_publisher *p, struct pg_session *pg, const struct config_set *set,
                       const struct config_ends *before, struct err *err)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int64_t until = clock_mono_us() + MARKERS_US;
    struct config_ends ends;
    if (set->last_id == 0)
        return true;
    for (;; (void)nanosleep(&pause, NULL)) {
        if (!read_ends(p, &ends, err))
            return false;
        if ((set->sent.registry == 0 || ends.registry > before->registry + set->sent.registry) &&
            (set->sent.prices == 0 || ends.prices > before->prices + set->sent.prices))
            break; /* a marker follows the records */
        if (clock_mono_us() > until)
            return err_set(err, ERR_TIMEOUT, FATE_RETRY, "what was committed is not on the topics");
    }
    return pg_query(pg,
                    "WITH sent AS (DELETE FROM config_outbox WHERE id <= $1) UPDATE config_version"
                    " SET registry_end = $2::bigint, prices_end = $3::bigint",
                    PG_ARGS(PG_I64(set->last_id), PG_I64(ends.registry), PG_I64(ends.prices)), NULL, err);
}

/* Was the set sent to the topics it was read for? Until it is committed they end before it. */
static bool commit_set(struct config_publisher *p, struct leader *leader, const struct config_set *set,
                       const struct config_ends *before, bool *more, struct err *err)
{
    struct config_ends ends;
    if (!read_ends(p, &ends, err))
        return false;
    if (ends.registry < before->registry || ends.prices < before->prices) {
        *more = true; /* noted first: what is aborted moves the end as well */
        return repeat_all(p, leader->pg, &ends, 0, err) && transaction_abort(leader->kafka, err);
    }
    *more = !set->complete;
    if (!transaction_commit(leader->kafka, err) || !settle_set(p, leader->pg, set, before, err))
        return false;
    metric_add(p->records, (int64_t)pg_rows_count(set->rows));
    metric_add(p->heartbeats, set->complete ? 1 : 0);
    return true;
}

/* What became of the topics while nobody looked. A book of which nothing was sent yet is not missed. */
static bool check_generation(struct config_publisher *p, struct pg_session *pg, struct err *err)
{
    static const char sql[] = "SELECT generation, (SELECT count(*) FROM price_book) > (SELECT count(DISTINCT"
                              " key) FROM config_outbox WHERE topic = '" PRICES "') FROM config_version";
    struct config_ends ends;
    struct pg_rows *rows = NULL;
    int64_t of_registry = 0, of_prices = 0;
    if (!pg_session_query(pg, sql, NULL, &rows, err))
        return false;
    int64_t ours = pg_get_i64(rows, 0, 0);
    bool books_sent = pg_get_bool(rows, 0, 1);
    pg_rows_free(rows);
    if (!topic_tail_read(&p->kafka, REGISTRY, REGISTRY_GENERATION_HEADER, &of_registry, err) ||
        !topic_tail_read(&p->kafka, PRICES, REGISTRY_GENERATION_HEADER, &of_prices, err))
        return false;
    if (of_registry == ours && (of_prices == ours || (!books_sent && of_prices == 0)))
        return true;
    int64_t met = of_registry > of_prices ? of_registry : of_prices;
    return read_ends(p, &ends, err) && repeat_all(p, pg, &ends, met, err);
}

/* A write of configuration wakes us at its commit. */
static bool config_open(void *arg, struct leader *leader, struct err *err)
{
    struct config_publisher *p = arg;
    const struct consumer_options options = {.kafka = p->kafka};
    return (p->ends != NULL || consumer_new(&p->ends, &options, err)) &&
           check_generation(p, leader->pg, err) && pg_session_script(leader->pg, "LISTEN spend_config", err);
}

static bool config_turn(void *arg, struct leader *leader, bool *more, struct err *err)
{
    struct config_publisher *p = arg;
    struct config_ends ends;
    struct config_set set;
    if (!read_ends(p, &ends, err) || !read_set(leader->pg, &ends, &set, err))
        return false;
    if (set.lost) {
        *more = true;
        return repeat_all(p, leader->pg, &ends, 0, err);
    }
    bool ok = send_set(leader, &set, err) && commit_set(p, leader, &set, &ends, more, err);
    pg_rows_free(set.rows);
    return ok;
}

bool config_publisher_run(void *arg, struct err *err)
{
    const struct config_publisher_options *options = arg;
    struct config_publisher p = {0};
    const char *help = "records on spend.registry and spend.prices, by kind";
    const struct leader_job job = {
        .name = "config_publisher",
        .database_url = options->database_url,
        .kafka = options->kafka,
        .transactional_id = "spend-config-publisher",
        .lock = PG_LOCK_CONFIG_PUBLISHER,
        .idle_us = options->heartbeat_us,
        .open = config_open,
        .turn = config_turn,
        .arg = &p,
    };
    p.records = metric_counter("spend_ledger_config_published_total", help, "kind", "fact");
    p.heartbeats = metric_counter("spend_ledger_config_published_total", help, "kind", "heartbeat");
    p.repeats = metric_counter("spend_ledger_config_repeats_total",
                               "times that the whole configuration went out again", NULL, NULL);
    p.kafka = options->kafka;
    p.kafka.client_id = "ledger-config-ends";
    bool ok = leader_run(&job, err);
    consumer_free(p.ends);
    return ok;
}
