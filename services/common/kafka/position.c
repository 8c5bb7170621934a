/*
 * position: where a consumer stands: seek, pause, bounds, the end, what its group has stored.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/member.h"

#define COMMITTED_TRIES 6
#define SEEK_US         (10 * US_PER_SECOND)
#define SEEK_PAUSE_NS   50000000

struct position *position_find(const struct consumer *c, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < c->count; i++) {
        if (c->parts[i].partition == partition && strcmp(c->parts[i].topic, topic) == 0)
            return &c->parts[i];
    }
    return NULL;
}

void positions_clear(struct consumer *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->parts[i].topic);
    free(c->parts);
    c->parts = NULL;
    c->count = 0;
}

bool positions_set(struct consumer *c, const rd_kafka_topic_partition_list_t *list, struct err *err)
{
    positions_clear(c);
    if (list->cnt == 0)
        return true;
    c->parts = calloc((size_t)list->cnt, sizeof *c->parts);
    for (int i = 0; c->parts != NULL && i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *from = &list->elems[i];
        char *topic = strdup(from->topic);
        if (topic == NULL)
            break;
        c->parts[c->count++] = (struct position){
            .topic = topic, .partition = from->partition, .next = from->offset, .target = POSITION_NO_TARGET};
    }
    if (c->count == (size_t)list->cnt)
        return true;
    positions_clear(c);
    return err_set(err, ERR_MEMORY, FATE_FATAL, "kafka consumer: out of memory");
}

void positions_lag(void *consumer)
{
    const struct consumer *c = consumer;
    int64_t lag = 0;
    for (size_t i = 0; i < c->count; i++) {
        int64_t low = 0;
        int64_t high = 0;
        const struct position *p = &c->parts[i];
        rd_kafka_resp_err_t code =
            rd_kafka_get_watermark_offsets(c->handle.rk, p->topic, p->partition, &low, &high);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR && p->next >= 0 && high > p->next)
            lag += high - p->next;
    }
    metric_set(c->lag, lag);
}

bool committed_read(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list, struct err *err)
{
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
    for (int i = 0; i < COMMITTED_TRIES; i++) {
        code = rd_kafka_committed(rk, list, HANDLE_CALL_MS);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            return true;
        if (handle_fate(code) == FATE_FATAL)
            break;
        log_warn("kafka_committed_awaited", LOG_STR("error", rd_kafka_err2name(code)), LOG_END);
    }
    return handle_err(err, code, "the group's committed offsets could not be read");
}

static rd_kafka_resp_err_t seek_once(struct consumer *c, const struct consumer_partition *to)
{
    rd_kafka_topic_partition_list_t *list = handle_list(to, 1);
    rd_kafka_error_t *failed = rd_kafka_seek_partitions(c->handle.rk, list, HANDLE_CALL_MS);
    rd_kafka_resp_err_t code = failed == NULL ? list->elems[0].err : rd_kafka_error_code(failed);
    if (failed != NULL)
        rd_kafka_error_destroy(failed);
    rd_kafka_topic_partition_list_destroy(list);
    return code;
}

bool consumer_seek(struct consumer *c, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
    struct position *p = position_find(c, topic, partition);
    if (p == NULL)
        return err_set(err, ERR_STATE, FATE_RETRY, "%s[%d]: cannot seek, it is not assigned", topic,
                       partition);
    const struct consumer_partition to = {topic, partition, offset};
    const struct timespec pause = {.tv_nsec = SEEK_PAUSE_NS};
    const int64_t end_us = clock_mono_us() + SEEK_US;
    rd_kafka_resp_err_t code = seek_once(c, &to);
    /* _STATE: a partition that was assigned a moment ago has no fetcher yet, and no event tells when it has.
     * _TIMED_OUT: 2.0.2 says so at once when its wait is woken early. The same seek again does no harm. */
    while ((code == RD_KAFKA_RESP_ERR__STATE || code == RD_KAFKA_RESP_ERR__TIMED_OUT) &&
           clock_mono_us() < end_us) {
        (void)nanosleep(&pause, NULL);
        code = seek_once(c, &to);
    }
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return handle_err(err, code, "%s[%d]: cannot seek to %lld", topic, partition, (long long)offset);
    p->next = offset;
    return true;
}

bool consumer_pause(struct consumer *c, const char *topic, int32_t partition, bool paused, struct err *err)
{
    struct position *p = position_find(c, topic, partition);
    if (p == NULL)
        return err_set(err, ERR_STATE, FATE_RETRY, "%s[%d]: cannot pause, it is not assigned", topic,
                       partition);
    if (p->is_paused == paused)
        return true; /* 2.0.2: resuming what is not paused fetches again from a stale position (librdkafka
                        #4636) */
    const struct consumer_partition at = {topic, partition, p->next};
    rd_kafka_topic_partition_list_t *list = handle_list(&at, 1);
    rd_kafka_resp_err_t code = paused ? rd_kafka_pause_partitions(c->handle.rk, list)
                                      : rd_kafka_resume_partitions(c->handle.rk, list);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = list->elems[0].err;
    rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return handle_err(err, code, "%s[%d]: cannot %s", topic, partition, paused ? "pause" : "resume");
    p->is_paused = paused;
    /* Where to go on is our number, not librdkafka's. */
    return paused || p->next < 0 || consumer_seek(c, topic, partition, p->next, err);
}

void consumer_commit_async(struct consumer *c, const struct consumer_partition *parts, size_t count)
{
    rd_kafka_topic_partition_list_t *list = handle_list(parts, count);
    if (rd_kafka_commit(c->handle.rk, list, 1) != RD_KAFKA_RESP_ERR_NO_ERROR)
        metric_add(c->commit_failed, 1);
    rd_kafka_topic_partition_list_destroy(list);
}

/*
 * Each element's offset, RD_KAFKA_OFFSET_BEGINNING or _END going in, becomes the broker's number for it (END:
 * the stable end, as read_committed sees it). rd_kafka_query_watermark_offsets would do, but in 2.0.2 it
 * ignores its time-out while the broker is away.
 */
static bool ends_query(struct consumer *c, rd_kafka_topic_partition_list_t *list, struct err *err)
{
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(c->handle.rk, list, HANDLE_CALL_MS);
    for (int i = 0; i < list->cnt; i++) {
        rd_kafka_resp_err_t each = code != RD_KAFKA_RESP_ERR_NO_ERROR ? code : list->elems[i].err;
        if (each == RD_KAFKA_RESP_ERR_NO_ERROR && list->elems[i].offset < 0)
            each = RD_KAFKA_RESP_ERR__TIMED_OUT;
        if (each != RD_KAFKA_RESP_ERR_NO_ERROR)
            return handle_err(err, each, "%s[%d]: bounds unknown", list->elems[i].topic,
                              list->elems[i].partition);
    }
    return true;
}

bool consumer_bounds(struct consumer *c, const char *topic, int32_t partition, int64_t *low, int64_t *high,
                     struct err *err)
{
    struct consumer_partition at = {topic, partition, CONSUMER_OFFSET_BEGINNING};
    rd_kafka_topic_partition_list_t *list = handle_list(&at, 1);
    bool ok = ends_query(c, list, err);
    *low = ok ? list->elems[0].offset : 0;
    list->elems[0].offset = CONSUMER_OFFSET_END;
    ok = ok && ends_query(c, list, err);
    *high = ok ? list->elems[0].offset : 0;
    rd_kafka_topic_partition_list_destroy(list);
    return ok;
}

bool consumer_ends(struct consumer *c, struct consumer_partition *parts, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++)
        parts[i].offset = CONSUMER_OFFSET_END;
    rd_kafka_topic_partition_list_t *list = handle_list(parts, count);
    bool ok = ends_query(c, list, err);
    for (size_t i = 0; ok && i < count; i++)
        parts[i].offset = list->elems[i].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return ok;
}

/* Asks for all ends at once. */
static bool targets_set(struct consumer *c, struct err *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)c->count);
    for (size_t i = 0; i < c->count; i++)
        rd_kafka_topic_partition_list_add(list, c->parts[i].topic, c->parts[i].partition)->offset =
            CONSUMER_OFFSET_END;
    bool ok = ends_query(c, list, err);
    for (size_t i = 0; ok && i < c->count; i++)
        c->parts[i].target = list->elems[i].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return ok;
}

bool consumer_at_end(struct consumer *c, struct err *err)
{
    err_clear(err);
    if (c->count == 0 || (c->parts[0].target == POSITION_NO_TARGET && !targets_set(c, err)))
        return false;
    for (size_t i = 0; i < c->count; i++) {
        if (c->parts[i].next < c->parts[i].target)
            return false;
    }
    for (size_t i = 0; i < c->count; i++)
        c->parts[i].target = POSITION_NO_TARGET;
    return true;
}

struct strview consumer_cluster_id(struct consumer *c, int timeout_ms)
{
    return handle_cluster_id(&c->handle, timeout_ms);
}
