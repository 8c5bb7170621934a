/*
 * consumer: group membership, assignment and the one poll loop.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/member.h"

#define MISSING_TRIES    50
#define MISSING_PAUSE_NS 200000000
#define SESSION_MS       "10000"
#define READER_GROUP     "spend-reader" /* 2.0.2 assigns nothing without a group; this one never commits */

/* Lets the owner choose where each partition begins. */
static bool offsets_choose(struct consumer *c, rd_kafka_topic_partition_list_t *list, struct err *err)
{
    if (list->cnt == 0 && c->assigned == NULL)
        return true;
    if (list->cnt > 0 && !committed_read(c->handle.rk, list, err))
        return false;
    size_t count = list->cnt > 0 ? (size_t)list->cnt : 0;
    struct consumer_partition *parts = calloc(count + 1, sizeof *parts);
    if (parts == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "kafka consumer: out of memory");
    for (size_t i = 0; i < count; i++) {
        const rd_kafka_topic_partition_t *from = &list->elems[i];
        int64_t offset = from->offset >= 0 ? from->offset : CONSUMER_OFFSET_NONE;
        if (offset == CONSUMER_OFFSET_NONE && c->assigned == NULL)
            offset = CONSUMER_OFFSET_BEGINNING;
        parts[i] = (struct consumer_partition){from->topic, from->partition, offset};
    }
    bool ok = c->assigned == NULL || c->assigned(c->arg, parts, count, err);
    for (size_t i = 0; ok && i < count; i++) {
        if (parts[i].offset == CONSUMER_OFFSET_NONE)
            ok = err_set(err, ERR_STATE, FATE_FATAL,
                         "%s[%d] was assigned and no offset was chosen to begin at", parts[i].topic,
                         parts[i].partition);
        else
            list->elems[i].offset = parts[i].offset;
    }
    free(parts);
    return ok;
}

static void assignment_take(struct consumer *c, rd_kafka_topic_partition_list_t *list)
{
    struct err err;
    err_clear(&err);
    bool ok = offsets_choose(c, list, &err) && positions_set(c, list, &err);
    rd_kafka_resp_err_t code = rd_kafka_assign(c->handle.rk, ok ? list : NULL);
    if (ok && code != RD_KAFKA_RESP_ERR_NO_ERROR)
        ok = handle_err(&err, code, "the assignment was not taken");
    if (ok) {
        log_info("kafka_assigned", LOG_STR("client", c->handle.client), LOG_INT("partitions", list->cnt),
                 LOG_END);
        return;
    }
    positions_clear(c);
    err.fate = FATE_FATAL;
    c->fatal = err;
}

/* 2.0.2 keeps a partition paused over a new assignment of it: a member that was given it back would never
 * read it. */
static void paused_resume(struct consumer *c)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)c->count);
    for (size_t i = 0; i < c->count; i++) {
        if (c->parts[i].is_paused)
            (void)rd_kafka_topic_partition_list_add(list, c->parts[i].topic, c->parts[i].partition);
    }
    if (list->cnt > 0)
        (void)rd_kafka_resume_partitions(c->handle.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static void assignment_drop(struct consumer *c, const rd_kafka_topic_partition_list_t *list, bool lost)
{
    log_info("kafka_revoked", LOG_STR("client", c->handle.client), LOG_INT("partitions", list->cnt),
             LOG_INT("lost", lost), LOG_END);
    struct consumer_partition *parts = calloc(c->count + 1, sizeof *parts);
    for (size_t i = 0; parts != NULL && i < c->count; i++)
        parts[i] = (struct consumer_partition){c->parts[i].topic, c->parts[i].partition, c->parts[i].next};
    if (c->revoked != NULL)
        c->revoked(c->arg, parts, parts == NULL ? 0 : c->count, lost);
    free(parts);
    paused_resume(c);
    positions_clear(c);
    (void)rd_kafka_assign(c->handle.rk, NULL);
}

/* Eager assignor only (range): each call gives or takes everything. */
static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list,
                         void *opaque)
{
    struct kafka_handle *h = opaque;
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
        assignment_take(h->owner, list);
    else
        assignment_drop(h->owner, list, rd_kafka_assignment_lost(rk) != 0);
}

static void on_commit(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list,
                      void *opaque)
{
    (void)rk;
    (void)list;
    const struct kafka_handle *h = opaque;
    const struct consumer *c = h->owner;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR__NO_OFFSET)
        metric_add(c->commit_failed, 1);
}

static bool consumer_open(struct consumer *c, const struct consumer_options *o, struct err *err)
{
    struct kafka_int fetch;
    struct kafka_int queue;
    struct kafka_property ours[16] = {
        {"group.id", o->group == NULL ? READER_GROUP : o->group},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"isolation.level", "read_committed"},
        {"partition.assignment.strategy", "range"},
        {"session.timeout.ms", SESSION_MS},
        {"heartbeat.interval.ms", "3000"},
        {"enable.partition.eof", "true"},
        {"fetch.error.backoff.ms", "100"},
        {"fetch.wait.max.ms", "200"},
    };
    size_t count = 11;
    if (o->member != NULL && o->group != NULL)
        ours[count++] = (struct kafka_property){"group.instance.id", o->member};
    if (o->fetch_bytes > 0)
        ours[count++] =
            (struct kafka_property){"fetch.message.max.bytes", handle_int(&fetch, o->fetch_bytes)};
    if (o->queue_records > 0)
        ours[count++] = (struct kafka_property){"queued.min.messages", handle_int(&queue, o->queue_records)};
    rd_kafka_conf_t *conf = NULL;
    if (!handle_conf(&conf, &o->kafka, ours, count, err))
        return false;
    if (o->group != NULL)
        rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    rd_kafka_conf_set_offset_commit_cb(conf, on_commit);
    if (!handle_open(&c->handle, RD_KAFKA_CONSUMER, conf, &o->kafka, err))
        return false;
    (void)rd_kafka_poll_set_consumer(c->handle.rk);
    return true;
}

bool consumer_new(struct consumer **out, const struct consumer_options *options, struct err *err)
{
    struct consumer *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "kafka consumer: out of memory");
    c->assigned = options->assigned;
    c->revoked = options->revoked;
    c->arg = options->arg;
    c->handle.owner = c;
    c->handle.tick = positions_lag;
    if (!consumer_open(c, options, err)) {
        consumer_free(c);
        return false;
    }
    c->lag = metric_gauge("spend_kafka_lag_records",
                          "offsets between what was read and the end, over the client's partitions", "client",
                          c->handle.client);
    c->commit_failed = metric_counter("spend_kafka_commit_failed_total",
                                      "offsets that were not stored in the group (they serve lag tools)",
                                      "client", c->handle.client);
    *out = c;
    return true;
}

void consumer_free(struct consumer *c)
{
    if (c == NULL)
        return;
    if (c->handle.rk != NULL)
        (void)rd_kafka_consumer_close(c->handle.rk);
    handle_close(&c->handle);
    positions_clear(c);
    free(c);
}

bool consumer_partition_count(struct consumer *c, const char *topic, int32_t *count, struct err *err)
{
    const struct timespec pause = {.tv_nsec = MISSING_PAUSE_NS};
    bool ok = handle_partition_count(c->handle.rk, topic, HANDLE_CALL_MS, count, err);
    /* A topic made a moment ago is not known to every broker yet. */
    for (int i = 0; !ok && err->code == ERR_NOT_FOUND && i < MISSING_TRIES; i++) {
        (void)nanosleep(&pause, NULL);
        ok = handle_partition_count(c->handle.rk, topic, HANDLE_CALL_MS, count, err);
    }
    if (!ok)
        return false;
    err_clear(err);
    handle_seen(&c->handle);
    return true;
}

bool consumer_subscribe(struct consumer *c, const char *const *topics, size_t count, struct err *err)
{
    /* A topic that is not there would be waited for in silence. A broker that is away is waited for by the
     * subscription itself. */
    for (size_t i = 0; i < count; i++) {
        int32_t partitions = 0;
        if (consumer_partition_count(c, topics[i], &partitions, err))
            continue;
        if (err->fate == FATE_FATAL)
            return false;
        log_warn("kafka_subscribe_unchecked", LOG_STR("topic", topics[i]), LOG_ERR(err), LOG_END);
        err_clear(err);
    }
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    for (size_t i = 0; i < count; i++)
        (void)rd_kafka_topic_partition_list_add(list, topics[i], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(c->handle.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR || handle_err(err, code, "kafka consumer: cannot subscribe");
}

static bool assign_list(struct consumer *c, rd_kafka_topic_partition_list_t *list, struct err *err)
{
    if (!positions_set(c, list, err))
        return false;
    rd_kafka_resp_err_t code = rd_kafka_assign(c->handle.rk, list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR || handle_err(err, code, "kafka consumer: cannot read");
}

bool consumer_read_all(struct consumer *c, const char *const *topics, size_t count, int64_t offset,
                       struct err *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        int32_t partitions = 0;
        ok = consumer_partition_count(c, topics[i], &partitions, err);
        for (int32_t k = 0; ok && k < partitions; k++)
            rd_kafka_topic_partition_list_add(list, topics[i], k)->offset = offset;
    }
    ok = ok && assign_list(c, list, err);
    rd_kafka_topic_partition_list_destroy(list);
    return ok;
}

bool consumer_read(struct consumer *c, const struct consumer_partition *parts, size_t count, struct err *err)
{
    rd_kafka_topic_partition_list_t *list = handle_list(parts, count);
    bool ok = assign_list(c, list, err);
    rd_kafka_topic_partition_list_destroy(list);
    return ok;
}

static void end_reached(struct consumer *c, const rd_kafka_message_t *m)
{
    struct position *p = position_find(c, rd_kafka_topic_name(m->rkt), m->partition);
    if (p != NULL && p->next < m->offset)
        p->next = m->offset;
    handle_seen(&c->handle);
}

/* What is not a record. false: the consumer cannot go on. */
static bool event_take(struct consumer *c, const rd_kafka_message_t *m, struct err *err)
{
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        end_reached(c, m);
        return true;
    }
    const char *topic = m->rkt == NULL ? "" : rd_kafka_topic_name(m->rkt);
    char why[160] = "";
    rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(c->handle.rk, why, sizeof why);
    if (fatal != RD_KAFKA_RESP_ERR_NO_ERROR)
        return err_set(err, ERR_STATE, FATE_FATAL, "kafka consumer: %s: %s", rd_kafka_err2name(fatal), why);
    if (m->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        return handle_topic_missing(topic, err);
    if (handle_fate(m->err) == FATE_FATAL)
        return err_set(err, ERR_KAFKA, FATE_FATAL, "kafka consumer: %s[%d]: %s", topic, m->partition,
                       rd_kafka_message_errstr(m));
    log_warn("kafka_consumer_waits", LOG_STR("client", c->handle.client), LOG_STR("topic", topic),
             LOG_STR("error", rd_kafka_err2name(m->err)), LOG_END);
    return true;
}

/* false: not ours any more, or handed out before (2.0.2 may fetch twice after a resume). */
static bool record_take(struct consumer *c, rd_kafka_message_t *m, struct consumer_message *out)
{
    const char *topic = rd_kafka_topic_name(m->rkt);
    struct position *p = position_find(c, topic, m->partition);
    if (p == NULL || m->offset < p->next)
        return false;
    p->next = m->offset + 1;
    rd_kafka_timestamp_type_t type;
    *out = (struct consumer_message){
        .topic = topic,
        .partition = m->partition,
        .offset = m->offset,
        .timestamp_us = rd_kafka_message_timestamp(m, &type) * 1000,
        .key = m->key == NULL ? SV_NULL : sv_of_bytes(m->key, m->key_len),
        .value = m->payload == NULL ? SV_NULL : sv_of_bytes(m->payload, m->len),
        .impl = m,
    };
    handle_seen(&c->handle);
    return true;
}

bool consumer_poll(struct consumer *c, int timeout_ms, struct consumer_message *out, struct err *err)
{
    int64_t end_us = clock_mono_us() + (int64_t)timeout_ms * 1000;
    int left_ms = timeout_ms;
    do {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(c->handle.rk, left_ms);
        bool ok = true;
        if (m != NULL && m->err == RD_KAFKA_RESP_ERR_NO_ERROR && record_take(c, m, out))
            return true;
        if (m != NULL) {
            ok = m->err == RD_KAFKA_RESP_ERR_NO_ERROR || event_take(c, m, err);
            rd_kafka_message_destroy(m);
        }
        if (!ok)
            return false;
        if (c->fatal.code != ERR_NONE) { /* from the rebalance, inside this poll or an earlier one */
            *err = c->fatal;
            return false;
        }
        left_ms = (int)((end_us - clock_mono_us()) / 1000);
    } while (left_ms > 0);
    err_clear(err);
    return false;
}

void consumer_message_free(struct consumer_message *m)
{
    if (m->impl != NULL)
        rd_kafka_message_destroy(m->impl);
    m->impl = NULL;
}

bool consumer_message_header(const struct consumer_message *m, const char *name, struct strview *value)
{
    rd_kafka_headers_t *headers = NULL;
    const void *bytes = NULL;
    size_t len = 0;
    *value = SV_NULL;
    if (rd_kafka_message_headers(m->impl, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get_last(headers, name, &bytes, &len) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    if (bytes != NULL)
        *value = sv_of_bytes(bytes, len);
    return true;
}
