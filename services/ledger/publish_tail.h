/*
 * publish_tail: the last set that is on Kafka, read from the records themselves (header spend_pub_seq): the
 * position of an idle group is forgotten after a week.
 */
#ifndef SPEND_LEDGER_PUBLISH_TAIL_H
#define SPEND_LEDGER_PUBLISH_TAIL_H

#include "kafka/client.h"
#include <stdint.h>

#define PUB_SEQ_HEADER "spend_pub_seq"

/* The greatest number among the last records of every partition of the topics the publisher writes; 0: none.
 */
bool publish_tail_read(const struct kafka_settings *kafka, int64_t *pub_seq, struct err *err) NODISCARD;

#endif
