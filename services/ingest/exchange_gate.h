/*
 * exchange_gate: the gate in a call's way (--gate): asked before its request goes upstream, told how it
 * ended. Decides what the caller hears and what happens when nobody answers.
 */
#ifndef SPEND_INGEST_EXCHANGE_GATE_H
#define SPEND_INGEST_EXCHANGE_GATE_H

#include "ingest/exchange.h"

/* What of a request the gate cannot judge: --gate=enforce lets nothing pass that it cannot read. NULL: it
 * can. */
const struct http_refusal *exchange_gate_unreadable(const struct gateway *g,
                                                    const struct tag_capture *capture, size_t body_bytes);
/* capture: of this very request. decided is called once, now or later, unless the exchange ends before; when
 * the call may not pass x->refusal or x->answer says what the caller is told. */
void exchange_gate_ask(struct exchange *x, void (*decided)(struct exchange *x, bool passes));
/* The call's record is made: what it used takes the place of its hold. */
void exchange_gate_finish(struct exchange *x);
/* The exchange goes: nothing more will come of the call. */
void exchange_gate_drop(struct exchange *x);

#endif
