/*
 * exchange_call: the call of an exchange: captured and opened in the journal before a byte goes upstream,
 * finished in it when the exchange knows how it ended, and given to delivery.
 */
#ifndef SPEND_INGEST_EXCHANGE_CALL_H
#define SPEND_INGEST_EXCHANGE_CALL_H

#include "ingest/exchange.h"

/* The answer when the disk refused what the journal holds of a call. */
extern const struct http_refusal exchange_call_not_on_disk;

/* Capture, request, record, in this order: nothing can fail after `open` but the exchange itself. false: *why
 * says what the caller is told. */
bool exchange_call_open(struct exchange *x, const struct http_request_head *head, struct strview body,
                        const struct route *route, struct http_refusal *why) NODISCARD;
/* Writes `finished` and hands it to Kafka. Does nothing when it was done, or for what is no call. */
void exchange_call_finish(struct exchange *x, enum spend_outcome outcome, bool whole);

#endif
