/*
 * spend-attributor: joins each captured call to an account and its raw cost, exactly once.
 * One blocking loop, and the admin port's thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attribute_loop.h"
#include "base/log.h"
#include "run/admin_http.h"
#include "run/lifecycle.h"
#include "run/options.h"
#include "spend/avro_codec.h"

#define REPLICA_MAX   64
#define OPTIONS_BYTES (64U << 10)

#define ATTRIBUTOR_OPTIONS(X)                                                                                \
    X(admin_listen, LISTEN, "127.0.0.1:4111", 0, 0, PLAIN, OPTIONAL, "adminListen",                          \
      "where to listen for /healthz, /readyz and /metrics")                                                  \
    X(replica, STRING, NULL, 1, REPLICA_MAX, PLAIN, OPTIONAL, NULL,                                          \
      "name of this replica: static member of the group, suffix of its transactional id; default: host "     \
      "name")                                                                                                \
    X(batch_max, INT, "1000", 1, LIMIT_BATCH_RECORDS, PLAIN, OPTIONAL, "batchMax",                           \
      "most records in one Kafka transaction")                                                               \
    X(tag_account, STRING, "account_id", 1, 128, PLAIN, OPTIONAL, "tags.account",                            \
      "key of the tag that names the account")                                                               \
    X(tag_task, STRING, "task", 1, 128, PLAIN, OPTIONAL, "tags.task", "key of the tag that names the task")  \
    X(tag_conversation, STRING, "conversation", 1, 128, PLAIN, OPTIONAL, "tags.conversation",                \
      "key of the tag that names the conversation")                                                          \
    OPTIONS_COMMON(X)

struct attributor_options {
    ATTRIBUTOR_OPTIONS(OPTION_FIELD)
};
#define ATTRIBUTOR_ROW(...) OPTION_ROW(struct attributor_options, __VA_ARGS__)
static const struct option_row rows[] = {ATTRIBUTOR_OPTIONS(ATTRIBUTOR_ROW)};

static struct kafka_settings kafka_settings_of(const struct attributor_options *o)
{
    return (struct kafka_settings){
        .brokers = o->kafka_brokers,
        .client_id = "attributor",
        .properties = o->kafka_conf.item,
        .property_count = o->kafka_conf.count,
    };
}

/* Kafka ids and metrics hold it: letters, digits, '.', '_', '-'. */
static bool replica_is_valid(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t len = strlen(name);
    return len > 0 && len <= REPLICA_MAX && strspn(name, allowed) == len;
}

static bool options_check(const void *options, const struct options_rest *rest, struct err *err)
{
    const struct attributor_options *o = options;
    (void)rest;
    if (o->replica != NULL && !replica_is_valid(o->replica))
        return err_set(err, ERR_INVALID, FATE_FATAL, "--replica: letters, digits, '.', '_' and '-' only");
    struct kafka_settings kafka = kafka_settings_of(o);
    return kafka_settings_check(&kafka, err);
}

static const struct options_spec spec = {
    .program = "spend-attributor",
    .summary = "joins each captured call to an account, a task, a conversation and its raw cost",
    .rows = rows,
    .count = OPTION_COUNT(rows),
    .check = options_check,
};

static bool replica_choose(const struct attributor_options *o, char out[REPLICA_MAX + 1], struct err *err)
{
    if (o->replica != NULL)
        (void)snprintf(out, REPLICA_MAX + 1, "%s", o->replica);
    else if (gethostname(out, REPLICA_MAX) != 0)
        out[0] = '\0';
    out[REPLICA_MAX] = '\0';
    return replica_is_valid(out) ||
           err_set(err, ERR_INVALID, FATE_FATAL, "the host name makes no replica name: give --replica");
}

static bool run(const struct attributor_options *o, struct err *err)
{
    char replica[REPLICA_MAX + 1];
    if (!replica_choose(o, replica, err) || !lifecycle_start(err) || !avro_codec_open(err) ||
        !admin_http_start(o->admin_listen, err))
        return false;
    const struct attribute_loop_options loop = {
        .kafka = kafka_settings_of(o),
        .replica = replica,
        .batch_max = (size_t)o->batch_max,
        .rules = {sv_of(o->tag_account), sv_of(o->tag_task), sv_of(o->tag_conversation)},
    };
    log_info("attributor_started", LOG_STR("replica", replica), LOG_STR("version", SPEND_VERSION), LOG_END);
    return attribute_loop_run(&loop, err);
}

int main(int argc, char **argv)
{
    struct attributor_options options;
    struct options_rest rest;
    struct arena memory;
    struct err err;
    enum log_level level = LOG_LEVEL_INFO;
    int exit_code = EXIT_SUCCESS;
    err_clear(&err);
    arena_init(&memory, OPTIONS_BYTES);
    if (!options_start(&spec, argc, argv, &options, &memory, &rest, &exit_code))
        goto done;
    (void)log_level_parse(sv_of(options.log_level), &level);
    log_open("attributor", level);
    if (run(&options, &err)) {
        log_info("attributor_stopped", LOG_END);
    } else {
        log_error("attributor_failed", LOG_ERR(&err), LOG_END);
        exit_code = EXIT_FAILURE;
    }
    admin_http_stop();
done:
    arena_free(&memory);
    return exit_code;
}
