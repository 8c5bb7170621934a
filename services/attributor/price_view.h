/*
 * price_view: spend.prices as the attributor knows it: every book, read from the first record, then kept up.
 * Owns its reader and the books. Thread: the loop's.
 */
#ifndef SPEND_ATTRIBUTOR_PRICE_VIEW_H
#define SPEND_ATTRIBUTOR_PRICE_VIEW_H

#include "kafka/consumer.h"
#include "spend/price_book.h"

struct price_view;

/* FATE_RETRY: no broker answers yet. */
bool price_view_new(struct price_view **out, const struct kafka_settings *kafka, struct err *err) NODISCARD;
void price_view_free(struct price_view *v); /* NULL allowed */

/* Takes what has come; waits up to timeout_ms for the first. A book that cannot be read is fatal. */
bool price_view_poll(struct price_view *v, int timeout_ms, struct err *err) NODISCARD;
/* Read to the end that the topic had at the start. */
bool price_view_is_read(struct price_view *v, struct err *err);
const struct price_list *price_view_list(const struct price_view *v);

#endif
