/*
 * publish_tail: each partition backwards in growing steps until a record is met: the very end may hold only
 * transaction markers.
 */
#include "publish_tail.h"

#include "kafka/consumer.h"
#include "run/lifecycle.h"
#include "spend/dead_letter.h"

#define FIRST_STEP 64
#define POLL_MS    200

/* The greatest number from `from` on. */
static bool read_from(struct consumer *c, const char *topic, int32_t partition, int64_t from, int64_t *found,
                      struct err *err)
{
    struct consumer_message m;
    const struct consumer_partition part = {topic, partition, from};
    if (!consumer_read(c, &part, 1, err))
        return false;
    for (;;) {
        struct strview text;
        int64_t number;
        if (consumer_poll(c, POLL_MS, &m, err)) {
            if (consumer_message_header(&m, PUB_SEQ_HEADER, &text) && sv_to_i64(text, &number) &&
                number > *found)
                *found = number;
            consumer_message_free(&m);
            continue;
        }
        if (err->code != ERR_NONE)
            return false;
        if (consumer_at_end(c, err))
            return true;
        if (err->code != ERR_NONE && err->fate == FATE_FATAL)
            return false;
        if (lifecycle_is_stopping())
            return err_set(err, ERR_STATE, FATE_RETRY, "stopping");
    }
}

/* Raises *greatest. A partition ends its search with its own last number, however old that is. */
static bool read_partition(struct consumer *c, const char *topic, int32_t partition, int64_t *greatest,
                           struct err *err)
{
    int64_t low, high;
    int64_t found = 0;
    if (!consumer_bounds(c, topic, partition, &low, &high, err))
        return false;
    for (int64_t step = FIRST_STEP;; step *= 8) {
        int64_t from = high - step > low ? high - step : low;
        if (high > low && !read_from(c, topic, partition, from, &found, err))
            return false;
        if (found > 0 || from == low)
            break;
    }
    *greatest = found > *greatest ? found : *greatest;
    return true;
}

bool publish_tail_read(const struct kafka_settings *kafka, int64_t *pub_seq, struct err *err)
{
    const char *const topics[] = {"spend.entries", dead_reasons[DEAD_MALFORMED].topic,
                                  dead_reasons[DEAD_CONFLICT].topic};
    const struct consumer_options options = {.kafka = *kafka};
    struct consumer *c = NULL;
    *pub_seq = 0;
    bool ok = consumer_new(&c, &options, err);
    for (size_t t = 0; ok && t < sizeof topics / sizeof topics[0]; t++) {
        int32_t count = 0;
        ok = consumer_partition_count(c, topics[t], &count, err);
        for (int32_t i = 0; ok && i < count; i++)
            ok = read_partition(c, topics[t], i, pub_seq, err);
    }
    consumer_free(c);
    return ok;
}
