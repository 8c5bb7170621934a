/*
 * delivery: finished calls on their way to Kafka. Sends each call's bytes from its journal, writes
 * `delivered` when Kafka says so, sends again when it does not, and replaces a producer that has failed for
 * good. Owns the producer. Does not own journals. Thread: the event loop's; librdkafka's meet it through a
 * descriptor.
 */
#ifndef SPEND_INGEST_DELIVERY_H
#define SPEND_INGEST_DELIVERY_H

#include "journal/journal.h"
#include "kafka/producer.h"
#include "spend/instance.h"

struct delivery;
struct event_base;

#define DELIVERY_JOURNALS_MAX 4096 /* adopted at once */

/* base NULL: no events, the caller polls (tests, shutdown). */
bool delivery_new(struct delivery **out, struct event_base *base, const struct kafka_settings *kafka,
                  struct err *err) NODISCARD;
void delivery_free(struct delivery *d);

/* A journal whose calls are to be delivered: those it has finished go now. It must stay until
 * delivery_forget. */
bool delivery_adopt(struct delivery *d, struct journal *j, struct err *err) NODISCARD;
void delivery_forget(struct delivery *d, const struct journal *j);
/* A call of an adopted journal was finished. */
void delivery_send(struct delivery *d, struct journal_call *call);

/* A heartbeat to spend.instances. *reports (may be NULL) is counted up when Kafka has it; it must stay till
 * then. */
bool delivery_beat(struct delivery *d, const struct instance *beat, int64_t *reports,
                   struct err *err) NODISCARD;

/* Serves reports, sends what waits, replaces a dead producer. Also called by its events. */
void delivery_poll(struct delivery *d, int timeout_ms);
/* Kafka has taken a heartbeat of ours once, and spend.calls was there. false: *why. Until it was there Kafka
 * is asked for it every 2 s, each time up to 200 ms, as soon as it is reached. */
bool delivery_is_proved(struct delivery *d, const char **why);

#endif
