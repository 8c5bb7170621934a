/*
 * registry_view: each record of spend.registry replaces the whole history of its fact.
 */
#include "registry_view.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "spend/avro_codec.h"

#define TOPIC       "spend.registry"
#define POLL_MOST   4000
#define ARENA_BYTES (4U << 20)

static const char *const topics[] = {TOPIC};

struct registry_view {
    struct consumer *reader;
    struct registry *registry;
    struct arena arena;
    struct metric *records;
    bool is_read;
    bool is_mixed;      /* more than one generation was met while it was first read */
    bool is_again;      /* it was then read from its beginning once more */
    int64_t generation; /* of the newest record; 0: none told one yet */
};

bool registry_view_new(struct registry_view **out, const struct kafka_settings *kafka, struct err *err)
{
    bool ok = false;
    struct kafka_settings settings = *kafka;
    settings.client_id = "attributor-registry";
    const struct consumer_options options = {.kafka = settings};
    struct registry_view *v = calloc(1, sizeof *v);
    if (v == NULL) {
        (void)err_set(err, ERR_MEMORY, FATE_FATAL, "registry_view: out of memory");
        goto done;
    }
    arena_init(&v->arena, ARENA_BYTES);
    v->records =
        metric_counter("spend_attributor_config_records_total", "configuration records read", "topic", TOPIC);
    if (!registry_new(&v->registry, err) || !consumer_new(&v->reader, &options, err) ||
        !consumer_read_all(v->reader, topics, 1, CONSUMER_OFFSET_BEGINNING, err))
        goto done;
    *out = v;
    v = NULL;
    ok = true;
done:
    registry_view_free(v);
    return ok;
}

void registry_view_free(struct registry_view *v)
{
    if (v == NULL)
        return;
    consumer_free(v->reader);
    registry_free(v->registry);
    arena_free(&v->arena);
    free(v);
}

/* What stood in a topic that was made anew and outgrew our place before we looked was never seen. */
static bool generation_check(struct registry_view *v, const struct consumer_message *m, struct err *err)
{
    struct strview text;
    int64_t before = v->generation;
    if (!consumer_message_header(m, REGISTRY_GENERATION_HEADER, &text) || !sv_to_i64(text, &v->generation) ||
        before == 0 || before == v->generation)
        return true;
    v->is_mixed = true;
    return !v->is_read ||
           err_set(err, ERR_STATE, FATE_FATAL,
                   "the configuration went out whole again (generation %lld after %lld): start "
                   "again, to read it from its beginning",
                   (long long)v->generation, (long long)before);
}

static bool view_take(struct registry_view *v, const struct consumer_message *m, struct err *err)
{
    struct registry_record record;
    metric_add(v->records, 1);
    if (sv_is_null(m->value)) {
        /* no fact is ever taken back by deleting it: its history is what past bills rest on */
        log_warn("registry_tombstone_ignored", LOG_SV("key", m->key), LOG_INT("offset", m->offset), LOG_END);
        return true;
    }
    arena_reset(&v->arena);
    if (avro_decode_registry_record(m->value, &v->arena, &record, err) &&
        registry_put(v->registry, &record, err) && generation_check(v, m, err))
        return true;
    err->fate = FATE_FATAL;
    return err_wrap(err, TOPIC "/%d/%lld", (int)m->partition, (long long)m->offset);
}

bool registry_view_poll(struct registry_view *v, int timeout_ms, struct err *err)
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

bool registry_view_is_read(struct registry_view *v, struct err *err)
{
    if (v->is_read || !consumer_at_end(v->reader, err))
        return v->is_read;
    if (v->is_mixed && !v->is_again) /* it may have been made anew meanwhile, and entered in its middle */
        v->is_again = consumer_read_all(v->reader, topics, 1, CONSUMER_OFFSET_BEGINNING, err);
    else
        v->is_read = true;
    return v->is_read;
}

const struct registry *registry_view_registry(const struct registry_view *v)
{
    return v->registry;
}
