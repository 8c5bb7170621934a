/*
 * handle: configuration, callbacks and error fates of one librdkafka instance.
 * The table of fixed properties is the contract: losing, doubling or reordering money would begin with one of
 * them.
 */
#include "kafka/handle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kafka/consumer.h"

#define QUIET_TICKS 2 /* one may fall between two connections to the same broker */

/* Refused in settings.properties: exactly-once, order and isolation rest on them. */
static const char *const fixed[] = {
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "isolation.level",
    "log.queue",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "produce.offset.report",
    "request.required.acks",
    "retries",
    "transactional.id",
};

static const struct kafka_property common[] = {
    {"allow.auto.create.topics", "false"},        {"log.connection.close", "false"},
    {"message.max.bytes", HANDLE_LARGEST_RECORD}, {"reconnect.backoff.ms", "100"},
    {"reconnect.backoff.max.ms", "2000"},         {"socket.keepalive.enable", "true"},
    {"statistics.interval.ms", "1000"},
};

static bool conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, struct err *err)
{
    char why[200] = "";
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
        return err_set(err, ERR_INVALID, FATE_FATAL, "kafka property %s: %s", name, why);
    return true;
}

const char *handle_int(struct kafka_int *text, int value)
{
    (void)snprintf(text->text, sizeof text->text, "%d", value);
    return text->text;
}

static bool is_fixed(struct strview name)
{
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        if (sv_eq(name, sv_of(fixed[i])))
            return true;
    }
    return false;
}

static bool set_pair(rd_kafka_conf_t *conf, const char *pair, struct err *err)
{
    struct strview value;
    struct strview name = sv_trim(sv_cut(sv_of(pair), '=', &value));
    if (sv_is_null(value) || name.len == 0)
        return err_set(err, ERR_INVALID, FATE_FATAL, "kafka property '%s': write it as name=value", pair);
    if (is_fixed(name))
        return err_set(err, ERR_INVALID, FATE_FATAL,
                       "kafka property " SV_FMT
                       " cannot be set: that nothing is lost, doubled or reordered rests on it",
                       SV_ARG(name));
    char text[128];
    if (name.len >= sizeof text)
        return err_set(err, ERR_INVALID, FATE_FATAL, "kafka property '%s': no property has so long a name",
                       pair);
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    return conf_set(conf, text, value.ptr, err); /* the value runs to the pair's own NUL */
}

static bool set_all(rd_kafka_conf_t *conf, const struct kafka_property *rows, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!conf_set(conf, rows[i].name, rows[i].value, err))
            return false;
    }
    return true;
}

static bool set_properties(rd_kafka_conf_t *conf, const struct kafka_settings *settings, struct err *err)
{
    for (size_t i = 0; i < settings->property_count; i++) {
        if (!set_pair(conf, settings->properties[i], err))
            return false;
    }
    return true;
}

bool handle_conf(rd_kafka_conf_t **out, const struct kafka_settings *settings,
                 const struct kafka_property *ours, size_t count, struct err *err)
{
    char client[HANDLE_CLIENT_MAX];
    (void)snprintf(client, sizeof client, "%s", settings->client_id == NULL ? "spend" : settings->client_id);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (conf_set(conf, "bootstrap.servers", settings->brokers == NULL ? "" : settings->brokers, err) &&
        conf_set(conf, "client.id", client, err) &&
        set_all(conf, common, sizeof common / sizeof common[0], err) && set_all(conf, ours, count, err) &&
        set_properties(conf, settings, err)) {
        *out = conf;
        return true;
    }
    rd_kafka_conf_destroy(conf);
    return false;
}

static void set_connected(struct kafka_handle *h, bool is_connected)
{
    metric_set(h->connected, is_connected ? 1 : 0);
    if (h->is_connected == is_connected)
        return;
    h->is_connected = is_connected;
    if (is_connected)
        log_info("kafka_connected", LOG_STR("client", h->client), LOG_END);
    else
        log_warn("kafka_away", LOG_STR("client", h->client), LOG_END);
}

void handle_seen(struct kafka_handle *h)
{
    if (!h->is_connected)
        set_connected(h, true);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    (void)rk;
    struct kafka_handle *h = opaque;
    rd_kafka_resp_err_t error = (rd_kafka_resp_err_t)code;
    metric_add(metric_counter("spend_kafka_errors_total", "errors librdkafka reported, by its name for them",
                              "error", rd_kafka_err2name(error)),
               1);
    if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        set_connected(h, false);
    enum log_level level = error == RD_KAFKA_RESP_ERR__FATAL ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN;
    log_line(level, "kafka_error",
             LOG_FIELDS(LOG_STR("client", h->client), LOG_STR("error", rd_kafka_err2name(error)),
                        LOG_STR("reason", reason), LOG_END));
}

/* From librdkafka's own threads too. */
static void on_log(const rd_kafka_t *rk, int syslog_level, const char *facility, const char *text)
{
    const struct kafka_handle *h = rd_kafka_opaque(rk);
    enum log_level level = LOG_LEVEL_DEBUG;
    if (syslog_level <= 3)
        level = LOG_LEVEL_ERROR;
    else if (syslog_level == 4)
        level = LOG_LEVEL_WARN;
    else if (syslog_level <= 6)
        level = LOG_LEVEL_INFO;
    log_line(level, "kafka_log",
             LOG_FIELDS(LOG_STR("client", h == NULL ? "" : h->client), LOG_STR("facility", facility),
                        LOG_STR("text", text), LOG_END));
}

/* Broker states are upper case words in the statistics, and nothing else there has the value UP. */
static int on_stats(rd_kafka_t *rk, char *json, size_t len, void *opaque)
{
    (void)rk;
    static const char up[] = "\"state\":\"UP\"";
    struct kafka_handle *h = opaque;
    bool is_up = memmem(json, len, up, sizeof up - 1) != NULL;
    h->quiet_ticks = is_up ? 0 : h->quiet_ticks + 1;
    if (is_up || h->quiet_ticks >= QUIET_TICKS)
        set_connected(h, is_up);
    if (h->tick != NULL)
        h->tick(h->owner);
    return 0; /* librdkafka frees json */
}

bool handle_open(struct kafka_handle *h, rd_kafka_type_t type, rd_kafka_conf_t *conf,
                 const struct kafka_settings *settings, struct err *err)
{
    (void)snprintf(h->client, sizeof h->client, "%s",
                   settings->client_id == NULL ? "spend" : settings->client_id);
    h->connected =
        metric_gauge("spend_kafka_connected", "1 while a broker answers this client", "client", h->client);
    metric_set(h->connected, 0);
    rd_kafka_conf_set_opaque(conf, h);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_stats_cb(conf, on_stats);
    char why[200] = "";
    h->rk = rd_kafka_new(type, conf, why, sizeof why);
    if (h->rk == NULL) {
        rd_kafka_conf_destroy(conf); /* taken over by rd_kafka_new only when it succeeds */
        return err_set(err, ERR_INVALID, FATE_FATAL, "kafka client %s: %s", h->client, why);
    }
    return true;
}

struct strview handle_cluster_id(struct kafka_handle *h, int timeout_ms)
{
    if (h->cluster_id == NULL) {
        char *id = rd_kafka_clusterid(h->rk, timeout_ms);
        if (id != NULL) {
            h->cluster_id = strdup(id);
            rd_kafka_mem_free(h->rk, id);
        }
    }
    return h->cluster_id == NULL ? SV_LIT("") : sv_of(h->cluster_id);
}

void handle_close(struct kafka_handle *h)
{
    if (h->rk == NULL)
        return;
    rd_kafka_destroy_flags(h->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    h->rk = NULL;
    free(h->cluster_id);
    h->cluster_id = NULL;
    metric_set(h->connected, 0);
}

struct fate_row {
    rd_kafka_resp_err_t code;
    enum err_fate fate;
};

static const struct fate_row fates[] = {
    {RD_KAFKA_RESP_ERR__FATAL, FATE_FATAL},
    {RD_KAFKA_RESP_ERR__FENCED, FATE_FATAL},
    {RD_KAFKA_RESP_ERR__INVALID_ARG, FATE_FATAL},
    {RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, FATE_FATAL},
    {RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, FATE_FATAL},
    {RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, FATE_FATAL},
    {RD_KAFKA_RESP_ERR__UNKNOWN_GROUP, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_PRODUCER_FENCED, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, FATE_FATAL},
    {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, FATE_DEAD_LETTER},
    {RD_KAFKA_RESP_ERR_INVALID_RECORD, FATE_DEAD_LETTER},
};

enum err_fate handle_fate(rd_kafka_resp_err_t code)
{
    for (size_t i = 0; i < sizeof fates / sizeof fates[0]; i++) {
        if (fates[i].code == code)
            return fates[i].fate;
    }
    return FATE_RETRY;
}

static enum err_code code_of(rd_kafka_resp_err_t code)
{
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return ERR_FULL;
    if (code == RD_KAFKA_RESP_ERR__TIMED_OUT)
        return ERR_TIMEOUT;
    return ERR_KAFKA;
}

bool handle_err(struct err *err, rd_kafka_resp_err_t code, const char *fmt, ...)
{
    char what[160];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return err_set(err, code_of(code), handle_fate(code), "%s: %s", what, rd_kafka_err2str(code));
}

bool handle_topic_missing(const char *topic, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, FATE_FATAL,
                   "topic %s is missing: create the topics of deploy/topics/topics.json", topic);
}

bool handle_partition_count(rd_kafka_t *rk, const char *topic, int timeout_ms, int32_t *count,
                            struct err *err)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    const struct rd_kafka_metadata *found = NULL;
    rd_kafka_resp_err_t code =
        handle == NULL ? rd_kafka_last_error() : rd_kafka_metadata(rk, 0, handle, &found, timeout_ms);
    *count = 0;
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && found != NULL && found->topic_cnt == 1) {
        code = found->topics[0].err;
        *count = found->topics[0].partition_cnt;
    }
    if (found != NULL)
        rd_kafka_metadata_destroy(found);
    if (handle != NULL)
        rd_kafka_topic_destroy(handle);
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
        (code == RD_KAFKA_RESP_ERR_NO_ERROR && *count == 0))
        return handle_topic_missing(topic, err);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR || handle_err(err, code, "topic %s: no metadata", topic);
}

rd_kafka_topic_partition_list_t *handle_list(const struct consumer_partition *parts, size_t count)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    for (size_t i = 0; list != NULL && i < count; i++)
        rd_kafka_topic_partition_list_add(list, parts[i].topic, parts[i].partition)->offset = parts[i].offset;
    return list;
}

void topic_counters_add(struct topic_counters *t, const char *topic)
{
    size_t i = 0;
    while (i < t->count && strcmp(t->row[i].topic, topic) != 0)
        i++;
    if (i == HANDLE_TOPICS)
        i--; /* more topics than we have: they share the last row */
    if (i == t->count) {
        (void)snprintf(t->row[i].topic, sizeof t->row[i].topic, "%s", topic);
        t->row[i].metric = metric_counter(t->name, t->help, "topic", t->row[i].topic);
        t->count++;
    }
    metric_add(t->row[i].metric, 1);
}

static rd_kafka_headers_t *headers_of(const struct kafka_record *record)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(record->header_count);
    for (size_t i = 0; headers != NULL && i < record->header_count; i++) {
        const struct kafka_header *h = &record->headers[i];
        if (rd_kafka_header_add(headers, h->name.ptr, (ssize_t)h->name.len, h->value.ptr,
                                (ssize_t)h->value.len) != 0) {
            rd_kafka_headers_destroy(headers);
            return NULL;
        }
    }
    return headers;
}

_Static_assert(sizeof(void *) == sizeof(int64_t), "a tag travels as a pointer");

rd_kafka_resp_err_t handle_produce(rd_kafka_t *rk, const struct kafka_record *record)
{
    /* A list of our own, not RD_KAFKA_VTYPE_HEADER rows: 2.0.2 frees those twice when producev fails
     * (librdkafka #4628). */
    rd_kafka_headers_t *headers = record->header_count == 0 ? NULL : headers_of(record);
    if (headers == NULL && record->header_count != 0)
        return RD_KAFKA_RESP_ERR__INVALID_ARG;
    rd_kafka_vu_t parts[6] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = record->topic},
        {.vtype = RD_KAFKA_VTYPE_KEY},
        {.vtype = RD_KAFKA_VTYPE_VALUE},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    memcpy(&parts[1].u.mem.ptr, &record->key.ptr,
           sizeof record->key.ptr); /* librdkafka's type lacks the const */
    parts[1].u.mem.size = record->key.len;
    memcpy(&parts[2].u.mem.ptr, &record->value.ptr, sizeof record->value.ptr);
    parts[2].u.mem.size = record->value.len;
    memcpy(&parts[4].u.ptr, &record->tag, sizeof record->tag); /* comes back as a number, is never followed */
    rd_kafka_error_t *failed = rd_kafka_produceva(rk, parts, headers == NULL ? 5 : 6);
    if (failed == NULL)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_resp_err_t code = rd_kafka_error_code(failed);
    rd_kafka_error_destroy(failed);
    if (headers != NULL)
        rd_kafka_headers_destroy(headers);
    return code;
}
