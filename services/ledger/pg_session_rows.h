/*
 * pg_session_rows: what pg_session.c and pg_session_rows.c share: a result is libpq's. Nobody else includes
 * this.
 */
#ifndef SPEND_LEDGER_PG_SESSION_ROWS_H
#define SPEND_LEDGER_PG_SESSION_ROWS_H

#include <libpq-fe.h>

struct pg_rows {
    PGresult *result;
};

#endif
