/*
 * hold_inside: what hold.c (holds and how they end), hold_place.c (how they begin) and hold_observe.c share,
 * and nobody else sees.
 */
#ifndef SPEND_LEDGER_HOLD_INSIDE_H
#define SPEND_LEDGER_HOLD_INSIDE_H

#include "base/metrics.h"
#include "hold.h"
#include "pg_session.h"

struct hold {
    struct hold_options options;
    struct arena arena;
    struct pg_step clock[2];  /* BEGIN and what hold_clock reads: perhaps asked already */
    struct buffer text;       /* of one refusal */
    int64_t hurries_until_us; /* clock_mono_us; somebody has had a row for long */
    struct metric *placed, *forced, *refused, *observed, *repeats, *busy, *unpriced, *captured, *voided;
};

/* Connected, or asked ahead, and with a configuration. */
bool hold_open(struct hold *h, struct err *err) NODISCARD;

/* Postgres's clock, never behind what is configured; registry, prices and budgets as of then. begin: with it
 * a transaction begins. */
bool hold_clock(struct hold *h, bool begin, int64_t *at, struct err *err) NODISCARD;

/* Judges resolved calls, each by itself against what stands, and locks nothing: observed, or refused and why.
 * A window that is not there is an empty one. The items' windows are others from then on. */
bool hold_look(struct hold *h, struct hold_item *items, size_t count, int64_t at, struct err *err) NODISCARD;

/* Of a row of call: its gateway has told of it, and it has a price. As is_settled in batch_fold.c, and
 * hold_states in Postgres. */
#define HOLD_SETTLED_SQL "c.source = 'gateway' AND c.raw_nanos IS NOT NULL"

/* The word of hold.state. */
enum hold_state hold_state_of(struct strview name);

#endif
