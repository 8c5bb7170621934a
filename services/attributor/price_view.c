/*
 * price_view: a book is put in whole; one version never changes.
 */
#include "price_view.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "spend/avro_codec.h"

#define TOPIC       "spend.prices"
#define POLL_MOST   16 /* books are large: the loop must beat in between */
#define FETCH_BYTES (LIMIT_PRICE_BOOK_BYTES + (64 << 10))

struct price_view {
    struct consumer *reader;
    struct price_list *list;
    struct metric *records;
    struct metric *newest;
    bool is_read;
};

bool price_view_new(struct price_view **out, const struct kafka_settings *kafka, struct err *err)
{
    bool ok = false;
    static const char *const topics[] = {TOPIC};
    struct kafka_settings settings = *kafka;
    settings.client_id = "attributor-prices";
    const struct consumer_options options = {.kafka = settings, .fetch_bytes = FETCH_BYTES};
    struct price_view *v = calloc(1, sizeof *v);
    if (v == NULL) {
        (void)err_set(err, ERR_MEMORY, FATE_FATAL, "price_view: out of memory");
        goto done;
    }
    v->records =
        metric_counter("spend_attributor_config_records_total", "configuration records read", "topic", TOPIC);
    v->newest = metric_gauge("spend_attributor_price_version", "newest price book held", NULL, NULL);
    if (!price_list_new(&v->list, err) || !consumer_new(&v->reader, &options, err) ||
        !consumer_read_all(v->reader, topics, 1, CONSUMER_OFFSET_BEGINNING, err))
        goto done;
    *out = v;
    v = NULL;
    ok = true;
done:
    price_view_free(v);
    return ok;
}

void price_view_free(struct price_view *v)
{
    if (v == NULL)
        return;
    consumer_free(v->reader);
    price_list_free(v->list);
    free(v);
}

static bool view_take(struct price_view *v, const struct consumer_message *m, struct err *err)
{
    struct price_book *book = NULL;
    metric_add(v->records, 1);
    if (sv_is_null(m->value)) {
        log_warn("prices_tombstone_ignored", LOG_SV("key", m->key), LOG_INT("offset", m->offset), LOG_END);
        return true;
    }
    if (!avro_decode_price_book(m->value, &book, err) || !price_list_put(v->list, book, err)) {
        err->fate = FATE_FATAL;
        return err_wrap(err, TOPIC "/%d/%lld", (int)m->partition, (long long)m->offset);
    }
    metric_set(v->newest, price_list_newest(v->list));
    log_info("price_book_taken", LOG_SV("version", m->key), LOG_END);
    return true;
}

bool price_view_poll(struct price_view *v, int timeout_ms, struct err *err)
{
    struct consumer_message m;
    for (int i = 0; i < POLL_MOST && consumer_poll(v->reader, i == 0 ? timeout_ms : 0, &m, err); i++) {
        bool ok = view_take(v, &m, err);
        consumer_message_free(&m);
        if (!ok)
            return false;
    }
    return err->code == ERR_NONE || err->fate != FATE_FATAL;
}

bool price_view_is_read(struct price_view *v, struct err *err)
{
    v->is_read = v->is_read || consumer_at_end(v->reader, err);
    return v->is_read;
}

const struct price_list *price_view_list(const struct price_view *v)
{
    return v->list;
}
