/*
 * migrate: migrations/NNNN_name.sql, and migrations/grants.sql, which runs every time.
 */
#include "migrate.h"

#include "base/log.h"
#include "base/sha256.h"
#include "pg_query.h"
#include "pg_session.h"
#include <string.h>

#define GRANTS "grants"

struct migration {
    const char *name; /* "0001_ledger" */
    const char *sql;
};

static const struct migration migrations[] = {
#include "migrations.inc"
};
#define MIGRATION_COUNT (sizeof migrations / sizeof migrations[0])

static const char open_sql[] = "CREATE SCHEMA IF NOT EXISTS spend;"
                               "CREATE TABLE IF NOT EXISTS spend.schema_migration ("
                               "    number int PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,"
                               "    applied_at timestamptz NOT NULL DEFAULT clock_timestamp())";

static bool is_grants(const struct migration *m)
{
    return strcmp(m->name, GRANTS) == 0;
}

static int number_of(const struct migration *m)
{
    int64_t number = 0;
    struct strview rest;
    return sv_to_i64(sv_cut(sv_of(m->name), '_', &rest), &number) ? (int)number : 0;
}

static int newest_number(void)
{
    int newest = 0;
    for (size_t i = 0; i < MIGRATION_COUNT; i++) {
        if (!is_grants(&migrations[i]) && number_of(&migrations[i]) > newest)
            newest = number_of(&migrations[i]);
    }
    return newest;
}

/* *known: it was applied before, as it is now. */
static bool is_applied(struct pg_session *pg, const struct migration *m, const char *sha256, bool *known,
                       struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = pg_query(pg, "SELECT sha256 FROM schema_migration WHERE number = $1",
                       PG_ARGS(PG_I32(number_of(m))), &rows, err);
    *known = ok && pg_rows_count(rows) == 1;
    if (*known && !sv_eq(pg_get(rows, 0, 0), sv_of(sha256)))
        ok = err_set(err, ERR_CONFLICT, FATE_FATAL,
                     "migration %s is not what this database was made with: use the program that made it, or "
                     "a new database",
                     m->name);
    pg_rows_free(rows);
    return ok;
}

static bool note_applied(struct pg_session *pg, const struct migration *m, const char *sha256,
                         struct err *err)
{
    return pg_query(pg, "INSERT INTO schema_migration (number, name, sha256) VALUES ($1, $2, $3)",
                    PG_ARGS(PG_I32(number_of(m)), PG_STR(m->name), PG_STR(sha256)), NULL, err);
}

static bool apply(struct pg_session *pg, const struct migration *m, int *applied, struct err *err)
{
    char sha256[SHA256_HEX_LEN + 1];
    bool known;
    sha256_hex_of(sv_of(m->sql), sha256);
    if (!is_applied(pg, m, sha256, &known, err))
        return false;
    if (known)
        return true;
    if (!pg_session_begin(pg, err) || !pg_session_script(pg, m->sql, err) ||
        !note_applied(pg, m, sha256, err) || !pg_session_commit(pg, err)) {
        pg_session_rollback(pg);
        return err_wrap(err, "migration %s", m->name);
    }
    log_info("migration_applied", LOG_STR("name", m->name), LOG_END);
    (*applied)++;
    return true;
}

static bool grant_runtime(struct pg_session *pg, const char *role, struct err *err)
{
    bool ok = pg_query(pg, "SELECT set_config('spend.runtime_role', $1::text, false)", PG_ARGS(PG_STR(role)),
                       NULL, err);
    for (size_t i = 0; ok && i < MIGRATION_COUNT; i++) {
        if (is_grants(&migrations[i]))
            ok = pg_session_script(pg, migrations[i].sql, err) || err_wrap(err, "grants");
    }
    return ok;
}

static bool read_number(struct pg_session *pg, int *number, struct err *err)
{
    struct pg_rows *rows = NULL;
    if (!pg_session_query(pg, "SELECT coalesce(max(number), 0) FROM schema_migration", NULL, &rows, err))
        return false;
    *number = (int)pg_get_i64(rows, 0, 0);
    pg_rows_free(rows);
    return true;
}

static bool refuse_newer(int number, struct err *err)
{
    return number <= newest_number() ||
           err_set(err, ERR_STATE, FATE_FATAL,
                   "the database is at migration %d, this program knows %d: use a newer program", number,
                   newest_number());
}

bool migrate_run(struct pg_session *pg, const char *runtime_role, int *applied, struct err *err)
{
    int number = 0;
    *applied = 0;
    bool ok =
        pg_session_ready(pg, err) &&
        pg_session_script(
            pg, "SET statement_timeout = 0; SET lock_timeout = 0; SET client_min_messages = warning", err) &&
        pg_query(pg, "SELECT pg_advisory_lock($1)", PG_ARGS(PG_I64(PG_LOCK_MIGRATE)), NULL, err) &&
        pg_session_script(pg, open_sql, err) && read_number(pg, &number, err) && refuse_newer(number, err);
    for (size_t i = 0; ok && i < MIGRATION_COUNT; i++) {
        if (!is_grants(&migrations[i]))
            ok = apply(pg, &migrations[i], applied, err);
    }
    return ok && grant_runtime(pg, runtime_role, err);
}

bool migrate_check(struct pg_session *pg, struct err *err)
{
    int number = 0;
    if (!read_number(pg, &number, err))
        return err->fate == FATE_FATAL
                   ? err_wrap(err, "no schema here: run spend-ledger migrate as the owner")
                   : false;
    if (number < newest_number())
        return err_set(
            err, ERR_STATE, FATE_FATAL,
            "the database is at migration %d, this program needs %d: run spend-ledger migrate as the owner",
            number, newest_number());
    return refuse_newer(number, err);
}
