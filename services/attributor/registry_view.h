/*
 * registry_view: spend.registry as the attributor knows it: read from its first record, then kept up.
 * Owns its reader and the registry. Thread: the loop's.
 */
#ifndef SPEND_ATTRIBUTOR_REGISTRY_VIEW_H
#define SPEND_ATTRIBUTOR_REGISTRY_VIEW_H

#include "kafka/consumer.h"
#include "spend/registry.h"

struct registry_view;

/* FATE_RETRY: no broker answers yet. */
bool registry_view_new(struct registry_view **out, const struct kafka_settings *kafka,
                       struct err *err) NODISCARD;
void registry_view_free(struct registry_view *v); /* NULL allowed */

/* Takes what has come, at most some thousand records; waits up to timeout_ms for the first. A record that
 * cannot be read is fatal: deciding without it would bill the wrong account. */
bool registry_view_poll(struct registry_view *v, int timeout_ms, struct err *err) NODISCARD;
/* Read to the end that the topic had at the start; twice, when the first reading met several generations. */
bool registry_view_is_read(struct registry_view *v, struct err *err);
const struct registry *registry_view_registry(const struct registry_view *v);

#endif
