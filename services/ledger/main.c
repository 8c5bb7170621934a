/*
 * spend-ledger: deducts each call once, keeps accounts and configuration, publishes both.
 * Threads: api_worker, gate, apply, publisher, config publisher, watch, each with a Postgres session; those
 * of the API's port and of the admin's. `spend-ledger migrate` brings the database to this program's schema
 * and ends.
 */
#include "api_server.h"
#include "apply_loop.h"
#include "base/log.h"
#include "config_publisher.h"
#include "ledger_options.def"
#include "migrate.h"
#include "pg_session.h"
#include "price_store.h"
#include "publisher.h"
#include "run/admin_http.h"
#include "run/health.h"
#include "run/lifecycle.h"
#include "run/options.h"
#include "spend/avro_codec.h"
#include "watch_loop.h"
#include "worker.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPTIONS_BYTES (64U << 10)
#define REPLICA_BYTES 65
#define WAIT_US       (3600 * US_PER_SECOND)
#define MIGRATE       "migrate"

struct ledger_options {
    LEDGER_OPTIONS(OPTION_FIELD)
};
#define LEDGER_ROW(...) OPTION_ROW(struct ledger_options, __VA_ARGS__)
static const struct option_row rows[] = {LEDGER_OPTIONS(LEDGER_ROW)};

/* What runs: the options of each part stay alive here. */
struct ledger {
    char replica[REPLICA_BYTES];
    struct apply_loop_options apply_options;
    struct publisher_options publisher_options;
    struct config_publisher_options config_options;
    struct watch_loop_options watch_options;
    struct api_server *api;
    struct worker *apply;
    struct worker *publisher;
    struct worker *config;
    struct worker *watch;
};

static struct kafka_settings kafka_settings_of(const struct ledger_options *o)
{
    return (struct kafka_settings){
        .brokers = o->kafka_brokers,
        .client_id = "ledger",
        .properties = o->kafka_conf.item,
        .property_count = o->kafka_conf.count,
    };
}

/* Kafka ids hold it: letters, digits, '.', '_', '-'. */
static bool is_name(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return text[0] != '\0' && strspn(text, allowed) == strlen(text);
}

static bool options_check(const void *options, const struct options_rest *rest, struct err *err)
{
    const struct ledger_options *o = options;
    if (rest->count > 0 && strcmp(rest->item[0], MIGRATE) != 0)
        return err_set(err, ERR_INVALID, FATE_FATAL, "%s: the one command is %s", rest->item[0], MIGRATE);
    if (rest->count > 0)
        return o->database_url != NULL ||
               err_set(err, ERR_INVALID, FATE_FATAL, "migrate needs SPEND_DATABASE_URL, the owner's");
    if (o->operator_token == NULL && o->reader_token == NULL && o->ingest_token == NULL)
        return err_set(
            err, ERR_INVALID, FATE_FATAL,
            "nobody could use the API: set SPEND_OPERATOR_TOKEN, SPEND_READER_TOKEN or SPEND_INGEST_TOKEN");
    if (!is_name(o->stream) || (o->replica != NULL && !is_name(o->replica)))
        return err_set(err, ERR_INVALID, FATE_FATAL,
                       "--stream and --replica: letters, digits, '.', '_' and '-' only");
    struct kafka_settings kafka = kafka_settings_of(o);
    return kafka_settings_check(&kafka, err);
}

static const struct options_spec spec = {
    .program = "spend-ledger",
    .summary = "deducts each call once, keeps accounts and configuration, publishes both",
    .operands = "[migrate]",
    .operands_max = 1,
    .rows = rows,
    .count = OPTION_COUNT(rows),
    .check = options_check,
};

static bool migrate(const struct ledger_options *o, struct err *err)
{
    const struct pg_session_options session = {.url = o->database_url, .name = "spend-ledger/migrate"};
    struct pg_session *pg = NULL;
    int applied = 0;
    bool loaded = false;
    bool ok = avro_codec_open(err) && pg_session_new(&pg, &session, err) &&
              migrate_run(pg, o->runtime_role, &applied, err) && price_store_load_first(pg, &loaded, err);
    if (ok)
        log_info("migrated", LOG_INT("applied", applied), LOG_INT("first_prices", loaded), LOG_END);
    pg_session_free(pg);
    return ok;
}

/* Waits for a Postgres that is away; a schema that is not ours is for a person to mend. */
static bool await_schema(const struct ledger_options *o, struct err *err)
{
    const struct pg_session_options session = {.url = o->database_url, .name = "spend-ledger/start"};
    struct pg_session *pg = NULL;
    int tries = 0;
    bool ok = pg_session_new(&pg, &session, err);
    while (ok && !lifecycle_is_stopping()) {
        if (pg_session_ready(pg, err) && migrate_check(pg, err))
            break;
        ok = err->fate == FATE_RETRY;
        if (ok) {
            health_ready("apply", false, "Postgres does not answer");
            log_warn("postgres_awaited", LOG_ERR(err), LOG_END);
            (void)worker_back_off(&tries);
        }
    }
    pg_session_free(pg);
    return ok;
}

static bool replica_choose(struct ledger *l, const struct ledger_options *o, struct err *err)
{
    if (o->replica != NULL)
        (void)snprintf(l->replica, sizeof l->replica, "%s", o->replica);
    else if (gethostname(l->replica, sizeof l->replica - 1) != 0)
        l->replica[0] = '\0';
    return is_name(l->replica) ||
           err_set(err, ERR_INVALID, FATE_FATAL, "the host name makes no replica name: give --replica");
}

static struct attribute_rules rules_of(const struct ledger_options *o)
{
    return (struct attribute_rules){sv_of(o->tag_account), sv_of(o->tag_task), sv_of(o->tag_conversation)};
}

static bool start(struct ledger *l, const struct ledger_options *o, struct err *err)
{
    struct kafka_settings kafka = kafka_settings_of(o);
    l->apply_options = (struct apply_loop_options){.kafka = kafka,
                                                   .database_url = o->database_url,
                                                   .replica = l->replica,
                                                   .stream = o->stream,
                                                   .batch_max = (size_t)o->batch_max,
                                                   .rules = rules_of(o),
                                                   .values_max = o->budget_values};
    l->publisher_options = (struct publisher_options){.kafka = kafka, .database_url = o->database_url};
    l->config_options = (struct config_publisher_options){
        .kafka = kafka, .database_url = o->database_url, .heartbeat_us = o->config_heartbeat_us};
    l->watch_options = (struct watch_loop_options){.database_url = o->database_url,
                                                   .tick_us = o->window_tick_us,
                                                   .hold_lifetime_us = o->hold_lifetime_us};
    const struct api_server_options api = {
        .listen = o->listen,
        .database_url = o->database_url,
        .operator_token = o->operator_token,
        .reader_token = o->reader_token,
        .ingest_token = o->ingest_token,
        .config_lead_us = o->config_lead_us,
        .gate = {.database_url = o->database_url,
                 .rules = rules_of(o),
                 .values_max = o->budget_values,
                 .output_cap = o->hold_cap,
                 .lifetime_us = o->hold_lifetime_us,
                 .jobs_max = o->gate_queue},
    };
    return worker_start(&l->config, "config_publisher", config_publisher_run, &l->config_options, err) &&
           api_server_start(&l->api, &api, err) &&
           worker_start(&l->apply, "apply", apply_loop_run, &l->apply_options, err) &&
           worker_start(&l->publisher, "publisher", publisher_run, &l->publisher_options, err) &&
           worker_start(&l->watch, "watch", watch_loop_run, &l->watch_options, err);
}

static bool stop(struct ledger *l)
{
    lifecycle_stop();
    bool api = api_server_stop(l->api);
    bool apply = worker_join(l->apply);
    bool publisher = worker_join(l->publisher);
    bool config = worker_join(l->config);
    bool watch = worker_join(l->watch);
    return api && apply && publisher && config && watch;
}

static bool serve(const struct ledger_options *o, struct err *err)
{
    static const char *const parts[] = {"apply", "publisher", "config_publisher", "watch"};
    struct ledger l = {0};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        health_ready(parts[i], false, "starting");
    if (!replica_choose(&l, o, err) || !lifecycle_start(err) || !avro_codec_open(err) ||
        !admin_http_start(o->admin_listen, err) || !await_schema(o, err))
        return false;
    bool ok = lifecycle_is_stopping() || start(&l, o, err);
    if (ok)
        log_info("ledger_started", LOG_STR("replica", l.replica), LOG_STR("stream", o->stream),
                 LOG_STR("version", SPEND_VERSION), LOG_END);
    while (ok && !lifecycle_wait_us(WAIT_US))
        continue;
    if (!stop(&l))
        ok = ok && err_set(err, ERR_STATE, FATE_FATAL, "a worker failed");
    admin_http_stop();
    return ok;
}

int main(int argc, char **argv)
{
    struct ledger_options options;
    struct options_rest rest;
    struct arena memory;
    struct err err = {0};
    enum log_level level = LOG_LEVEL_INFO;
    int exit_code = EXIT_SUCCESS;
    arena_init(&memory, OPTIONS_BYTES);
    if (!options_start(&spec, argc, argv, &options, &memory, &rest, &exit_code))
        goto done;
    (void)log_level_parse(sv_of(options.log_level), &level);
    log_open("ledger", level);
    if (rest.count > 0 ? migrate(&options, &err) : serve(&options, &err)) {
        log_info("ledger_stopped", LOG_END);
    } else {
        log_error("ledger_failed", LOG_STR("code", err_code_name(err.code)), LOG_ERR(&err), LOG_END);
        exit_code = EXIT_FAILURE;
    }
done:
    arena_free(&memory);
    return exit_code;
}
