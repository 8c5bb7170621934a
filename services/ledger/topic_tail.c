/*
 * topic_tail: each partition backwards in growing steps until a record is met: the very end may hold only
 * transaction markers.
 */
#include "topic_tail.h"

#include "kafka/consumer.h"
#include "run/lifecycle.h"

#define FIRST_STEP 64
#define POLL_MS    200

/* The greatest number from there on. */
static bool read_from(struct consumer *c, const struct consumer_partition *from, const char *header,
                      int64_t *found, struct err *err)
{
    struct consumer_message m;
    if (!consumer_read(c, from, 1, err))
        return false;
    for (;;) {
        struct strview text;
        int64_t number;
        if (consumer_poll(c, POLL_MS, &m, err)) {
            if (consumer_message_header(&m, header, &text) && sv_to_i64(text, &number) && number > *found)
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
static bool read_partition(struct consumer *c, struct consumer_partition part, const char *header,
                           int64_t *greatest, struct err *err)
{
    int64_t low, high;
    int64_t found = 0;
    if (!consumer_bounds(c, part.topic, part.partition, &low, &high, err))
        return false;
    for (int64_t step = FIRST_STEP;; step *= 8) {
        part.offset = high - step > low ? high - step : low;
        if (high > low && !read_from(c, &part, header, &found, err))
            return false;
        if (found > 0 || part.offset == low)
            break;
    }
    *greatest = found > *greatest ? found : *greatest;
    return true;
}

bool topic_tail_read(const struct kafka_settings *kafka, const char *topic, const char *header,
                     int64_t *greatest, struct err *err)
{
    const struct consumer_options options = {.kafka = *kafka};
    struct consumer_partition part = {.topic = topic};
    struct consumer *c = NULL;
    int32_t partitions = 0;
    bool ok = consumer_new(&c, &options, err) && consumer_partition_count(c, topic, &partitions, err);
    for (; ok && part.partition < partitions; part.partition++)
        ok = read_partition(c, part, header, greatest, err);
    consumer_free(c);
    return ok;
}
