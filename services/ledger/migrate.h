/*
 * migrate: brings the database to this program's schema: numbered SQL files, embedded at build, each once and
 * in order. Runs as the schema's owner, which is not the role that the services run as.
 */
#ifndef SPEND_LEDGER_MIGRATE_H
#define SPEND_LEDGER_MIGRATE_H

#include "base/err.h"

struct pg_session;

/*
 * Creates schema spend and applies what is missing, one transaction a file, under an advisory lock; then
 * grants `runtime_role` what it needs; while there is no such role it warns. Refuses a database that is newer
 * than this program, and a file that was changed after it had been applied.
 */
bool migrate_run(struct pg_session *pg, const char *runtime_role, int *applied, struct err *err) NODISCARD;

/* The database has exactly this program's schema. FATE_FATAL with what to do when it has not. */
bool migrate_check(struct pg_session *pg, struct err *err) NODISCARD;

#endif
