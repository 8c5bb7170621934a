/*
 * config_publisher: one turn reads the watermark and the outbox under the configuration lock, sends both in
 * one Kafka transaction, deletes what was sent. Of several records with one key only the newest goes out:
 * sent again after a crash, an older one would take back what a later one has told.
 */
#include "config_publisher.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "kafka/transaction.h"
#include "leader.h"
#include "run/health.h"
#include "run/lifecycle.h"
#include "spend/avro_codec.h"
#include "worker.h"
#include <stdio.h>
#include <string.h>

#define REGISTRY        "spend.registry"
#define PRICES          "spend.prices"
#define PRODUCER        "spend-config-publisher"
#define SOURCE          "spend-ledger"
#define PART            "config_publisher"
#define CHANNEL_SQL     "LISTEN spend_config"
#define TRANSACTION_MS  10000
#define STANDBY_US      US_PER_SECOND
#define LOOP_AGE_US     (150 * US_PER_SECOND)
#define ROWS_MAX        2000 /* config_sql's limit: more follow in the next turn, the heartbeat after the last */
#define HEARTBEAT_BYTES 4096
#define PROPERTIES_MAX  80
#define RECORD_LIMIT    "message.max.bytes=8454144" /* a price book; as spend.prices has it */
#define NUMBER_TEXT     48

struct config_publisher {
    const struct config_publisher_options *options;
    const char *properties[PROPERTIES_MAX];
    struct kafka_settings kafka_settings;
    struct pg_session *pg;
    struct leader leader;
    int64_t listening; /* the session's generation that has LISTEN */
    struct transaction *kafka;
    struct metric *records, *heartbeats, *leading;
};

/* One turn's work. */
struct config_set {
    int64_t watermark;
    int64_t price_version;
    struct pg_rows *rows;
    int64_t last_id;
    bool complete; /* nothing recorded before the watermark is left behind */
};

static const char watermark_sql[] = "SELECT watermark FROM config_watermark()";
static const char price_sql[] = "SELECT coalesce(max(version), 0) FROM price_book";
static const char config_sql[] =
    "SELECT id, topic, key, value, recorded_at FROM config_outbox AS o WHERE NOT EXISTS (SELECT 1 FROM "
    "config_outbox AS n "
    "WHERE n.topic = o.topic AND n.key = o.key AND n.id > o.id) ORDER BY id LIMIT 2000";

/* The lock is held for one round trip. Whoever records something later gets a later time. */
static bool read_set(struct config_publisher *p, struct config_set *set, struct err *err)
{
    struct pg_step steps[] = {{.sql = PG_BEGIN},
                              {.sql = watermark_sql},
                              {.sql = price_sql},
                              {.sql = config_sql},
                              {.sql = PG_COMMIT}};
    *set = (struct config_set){0};
    bool ok = pg_session_run(p->pg, steps, 5, err);
    if (ok) {
        set->watermark = pg_get_time(steps[1].rows, 0, 0);
        set->price_version = pg_get_i64(steps[2].rows, 0, 0);
        set->rows = steps[3].rows;
        steps[3].rows = NULL;
        size_t count = pg_rows_count(set->rows);
        set->last_id = count == 0 ? 0 : pg_get_i64(set->rows, count - 1, 0);
        set->complete = count < ROWS_MAX;
    }
    pg_steps_free(steps, 5);
    return ok;
}

static bool send_row(struct config_publisher *p, const struct pg_rows *rows, size_t i, struct err *err)
{
    struct kafka_ce ce;
    char id[NUMBER_TEXT];
    bool prices = sv_eq(pg_get(rows, i, 1), SV_LIT(PRICES));
    (void)snprintf(id, sizeof id, "config/%lld", (long long)pg_get_i64(rows, i, 0));
    kafka_ce_fill(&ce, SOURCE, prices ? "spend.price_book" : "spend.registry", sv_of(id),
                  pg_get_time(rows, i, 4));
    const struct kafka_record record = {
        .topic = prices ? PRICES : REGISTRY,
        .key = pg_get(rows, i, 2),
        .value = pg_get(rows, i, 3),
        .headers = ce.header,
        .header_count = KAFKA_CE_HEADERS,
    };
    return transaction_send(p->kafka, &record, err);
}

static bool send_heartbeat(struct config_publisher *p, const struct config_set *set, struct err *err)
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
    const struct kafka_record record = {
        .topic = REGISTRY,
        .key = SV_LIT("heartbeat:config"),
        .value = buffer_view(&value),
        .headers = ce.header,
        .header_count = KAFKA_CE_HEADERS,
    };
    ok = ok && transaction_send(p->kafka, &record, err);
    buffer_free(&value);
    return ok;
}

static bool send_set(struct config_publisher *p, const struct config_set *set, struct err *err)
{
    bool ok = transaction_begin(p->kafka, err);
    for (size_t i = 0; ok && i < pg_rows_count(set->rows); i++)
        ok = send_row(p, set->rows, i, err);
    ok = ok && (!set->complete || send_heartbeat(p, set, err)) && transaction_commit(p->kafka, err);
    if (ok) {
        metric_add(p->records, (int64_t)pg_rows_count(set->rows));
        metric_add(p->heartbeats, set->complete ? 1 : 0);
    }
    return ok;
}

static bool delete_sent(struct config_publisher *p, int64_t last_id, struct err *err)
{
    struct pg_fields args;
    if (last_id == 0)
        return true;
    pg_fields_init(&args);
    pg_put_i64(&args, last_id);
    bool ok = pg_session_query(p->pg, "DELETE FROM config_outbox WHERE id <= $1", &args, NULL, err);
    pg_fields_free(&args);
    return ok;
}

static void close_kafka(struct config_publisher *p)
{
    transaction_free(p->kafka);
    p->kafka = NULL;
    metric_set(p->leading, 0);
}

static bool open_kafka(struct config_publisher *p, struct err *err)
{
    const struct transaction_options options = {
        .kafka = p->kafka_settings, .transactional_id = PRODUCER, .timeout_ms = TRANSACTION_MS};
    if (p->kafka != NULL)
        return true;
    if (!transaction_new(&p->kafka, &options, err))
        return false;
    metric_set(p->leading, 1);
    log_info("config_publisher_leads", LOG_END);
    return true;
}

/* A write of configuration wakes us at its commit. */
static bool listen(struct config_publisher *p, struct err *err)
{
    if (p->listening == pg_session_generation(p->pg))
        return true;
    if (!pg_session_script(p->pg, CHANNEL_SQL, err))
        return false;
    p->listening = pg_session_generation(p->pg);
    return true;
}

/* *more: do not wait before the next turn. */
static bool turn(struct config_publisher *p, bool *leads, bool *more, struct err *err)
{
    struct config_set set;
    *more = false;
    if (!leader_try(&p->leader, p->pg, leads, err))
        return false;
    if (!*leads) {
        close_kafka(p);
        return true;
    }
    if (!listen(p, err) || !open_kafka(p, err) || !read_set(p, &set, err))
        return false;
    bool ok = send_set(p, &set, err);
    if (!ok)
        close_kafka(p); /* a new producer ends whatever this one left open */
    ok = ok && delete_sent(p, set.last_id, err);
    *more = !set.complete;
    pg_rows_free(set.rows);
    return ok;
}

static bool run_turns(struct config_publisher *p, struct health_loop *health, struct err *err)
{
    int tries = 0;
    while (!lifecycle_is_stopping()) {
        bool leads, more;
        int64_t begin = clock_mono_us();
        health_beat(health);
        if (!turn(p, &leads, &more, err)) {
            health_ready(PART, false, err->text);
            log_warn("config_publisher_waits", LOG_STR("code", err_code_name(err->code)), LOG_ERR(err),
                     LOG_END);
            if (!worker_outlives(err))
                return false;
            (void)worker_back_off(&tries);
            continue;
        }
        tries = 0;
        health_ready(PART, true, NULL);
        int64_t left_us = (leads ? p->options->heartbeat_us : STANDBY_US) - (clock_mono_us() - begin);
        if (!more && left_us > 0)
            pg_session_wait(p->pg, (int)(left_us / 1000) + 1, lifecycle_stop_fd());
    }
    return true;
}

/* The user's properties, and room for a price book. */
static bool settings_of(struct config_publisher *p, struct err *err)
{
    const struct kafka_settings *given = &p->options->kafka;
    if (given->property_count + 1 > PROPERTIES_MAX)
        return err_set(err, ERR_FULL, FATE_FATAL, "more than %d properties in kafka-conf",
                       PROPERTIES_MAX - 1);
    p->properties[0] = RECORD_LIMIT;
    if (given->property_count > 0)
        memcpy(p->properties + 1, given->properties, given->property_count * sizeof *given->properties);
    p->kafka_settings = *given;
    p->kafka_settings.properties = p->properties;
    p->kafka_settings.property_count = given->property_count + 1;
    return true;
}

bool config_publisher_run(void *arg, struct err *err)
{
    struct config_publisher p = {.options = arg, .leader = {.lock = PG_LOCK_CONFIG_PUBLISHER}};
    const struct pg_session_options session = {.url = p.options->database_url, .name = "spend-ledger/config"};
    struct health_loop *health = health_loop_start(PART, LOOP_AGE_US);
    const char *help = "records on spend.registry and spend.prices, by kind";
    p.records = metric_counter("spend_ledger_config_published_total", help, "kind", "fact");
    p.heartbeats = metric_counter("spend_ledger_config_published_total", help, "kind", "heartbeat");
    p.leading = metric_gauge("spend_ledger_config_publisher_leads", "1: this ledger publishes configuration",
                             NULL, NULL);
    bool ok = settings_of(&p, err) && pg_session_new(&p.pg, &session, err) && run_turns(&p, health, err);
    health_ready(PART, false, "stopped");
    close_kafka(&p);
    pg_session_free(p.pg);
    health_loop_end(health);
    return ok;
}
