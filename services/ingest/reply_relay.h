/*
 * reply_relay: the upstream's reply on its way to the caller: head made anew, body in the caller's framing,
 * the record finished before the last byte. Part of exchange, which owns everything here.
 */
#ifndef SPEND_INGEST_REPLY_RELAY_H
#define SPEND_INGEST_REPLY_RELAY_H

#include "ingest/exchange.h"

enum relay_step {
    RELAY_MORE, /* go on reading */
    RELAY_DONE, /* the reply is complete, nothing else may come */
    RELAY_BAD,  /* what came is no reply; *err says why */
};

/* Bytes from the upstream. *over: bytes came after the reply's end. */
enum relay_step reply_relay_feed(struct exchange *x, struct strview bytes, bool *over, struct err *err);
/* The upstream closed its side: DONE when that ends the reply, BAD when it cuts it. */
enum relay_step reply_relay_close(struct exchange *x, struct err *err);
/* The last bytes to the caller, after the record is finished. */
void reply_relay_finish(struct exchange *x);
/* What the filter still held back, when the reply is over. */
bool reply_relay_rest(struct exchange *x);

#endif
