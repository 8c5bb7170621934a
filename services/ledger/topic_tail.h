/*
 * topic_tail: a number that each record of a topic carries in a header, as the newest of them have it.
 */
#ifndef SPEND_LEDGER_TOPIC_TAIL_H
#define SPEND_LEDGER_TOPIC_TAIL_H

#include "kafka/client.h"
#include <stdint.h>

/* Raises *greatest to the greatest number among the last records of every partition. */
bool topic_tail_read(const struct kafka_settings *kafka, const char *topic, const char *header,
                     int64_t *greatest, struct err *err) NODISCARD;

#endif
