/*
 * hold_inside: what hold.c (holds and how they end) and hold_place.c (how they begin) share, and nobody else
 * sees.
 */
#ifndef SPEND_LEDGER_HOLD_INSIDE_H
#define SPEND_LEDGER_HOLD_INSIDE_H

#include "base/metrics.h"
#include "hold.h"

struct hold {
    struct hold_options options;
    struct arena arena;
    struct buffer text; /* of one refusal */
    struct metric *placed, *refused, *repeats, *unpriced, *captured, *voided;
};

/* The word of hold.state. */
enum hold_state hold_state_of(struct strview name);

#endif
