/*
 * pg_plan: locks are taken in the order of a key, or two transactions wait for each other in a circle. Where
 * Postgres decides how rows are reached, the order is its plan's: this reads the plan and refuses a wrong
 * one. Pure: texts in, a verdict out. pg_session asks it about each statement that a session with sorted
 * plans prepares.
 */
#ifndef SPEND_LEDGER_PG_PLAN_H
#define SPEND_LEDGER_PG_PLAN_H

#include "base/err.h"
#include "base/strview.h"

/* Locks several rows in an order that the plan decides: a SELECT .. FOR UPDATE, a change by a sorted array.
 */
bool pg_plan_matters(const char *sql);
/* plan: what EXPLAIN (COSTS OFF) says of it, line by line. false: ERR_STATE, FATE_FATAL. */
bool pg_plan_check(const char *sql, struct strview plan, struct err *err) NODISCARD;
/* What a new session prepares at once, so that it is known from the start: the shapes that all others have.
 */
#define PG_PLAN_PROBES 2
extern const char *const pg_plan_probes[PG_PLAN_PROBES];
/* How many parameters the statement has: the greatest $n. */
size_t pg_plan_parameters(const char *sql);

#endif
