/*
 * pg_fate: what becomes of work that Postgres refused, by SQLSTATE. Pure.
 */
#ifndef SPEND_LEDGER_PG_FATE_H
#define SPEND_LEDGER_PG_FATE_H

#include "base/err.h"

/* sqlstate: five characters, or "" / NULL for a connection that was lost. */
void pg_fate_of(const char *sqlstate, enum err_code *code, enum err_fate *fate);

#endif
