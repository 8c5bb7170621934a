/*
 * pg_session: one connection to Postgres. Statements are prepared once and sent in pipelines with binary
 * values; COPY BINARY; transactions whose COMMIT may be lost; errors mapped to fates by SQLSTATE. Owns the
 * connection and what was prepared on it. libpq stays in pg_session.c: other files see these types only.
 * Refuses: to hide a lost connection. It is opened again by pg_session_ready, never inside a transaction.
 * Thread: one session belongs to one thread.
 *
 * Fates. FATE_RETRY: connection lost or refused, server stopping or out of room, serialization failure,
 * deadlock, lock time-out (ERR_TIMEOUT), statement time-out, and a duplicate key (ERR_CONFLICT): roll back,
 * begin again. FATE_DEAD_LETTER: the values are at fault (ERR_OVERFLOW for a number out of range, else
 * ERR_INVALID). FATE_FATAL: the schema, a privilege, a password or a statement is wrong.
 */
#ifndef SPEND_LEDGER_PG_SESSION_H
#define SPEND_LEDGER_PG_SESSION_H

#include "pg_value.h"

/* Advisory locks, one bigint each. PG_LOCK_CONFIG is taken by the SQL functions config_begin and
 * config_watermark. */
#define PG_LOCK_CONFIG           8318260036551835649LL
#define PG_LOCK_MIGRATE          8318260036551835650LL
#define PG_LOCK_PUBLISHER        8318260036551835651LL
#define PG_LOCK_CONFIG_PUBLISHER 8318260036551835652LL
#define PG_LOCK_WATCH            8318260036551835653LL

#define PG_BEGIN  "BEGIN"
#define PG_COMMIT "COMMIT"

struct pg_session;
struct pg_rows;

struct pg_session_options {
    const char *url;      /* secret */
    const char *name;     /* application_name: "spend-ledger/api" */
    const char *settings; /* statements of SET more, NULL: none */
    bool sorted_plans;    /* no hash join, merge join or sequential scan, generic plans: the apply session */
};

/* Does not connect: pg_session_ready does. The strings must stay alive. */
bool pg_session_new(struct pg_session **out, const struct pg_session_options *options,
                    struct err *err) NODISCARD;
void pg_session_free(struct pg_session *s); /* NULL allowed */
/* Connected and outside a transaction; connects (again) when it is not. FATE_RETRY while Postgres is away. */
bool pg_session_ready(struct pg_session *s, struct err *err) NODISCARD;
/* Counts the connections made: what was held by an earlier one (advisory locks, LISTEN) is gone. */
int64_t pg_session_generation(const struct pg_session *s);

/* One statement with its parameters (NULL: none); prepared at its first use, found again by its text (a few
 * hundred texts at most: never put values into it). *rows (may be NULL) is the caller's: pg_rows_free. */
bool pg_session_query(struct pg_session *s, const char *sql, const struct pg_fields *args,
                      struct pg_rows **rows, struct err *err) NODISCARD;

/* Several statements in one round trip, in order; the first that fails ends it. PG_BEGIN and PG_COMMIT may be
 * among them. rows of each step are the caller's: pg_steps_free, also after a failure. */
struct pg_step {
    const char *sql;
    const struct pg_fields *args;
    struct pg_rows *rows; /* out */
};
bool pg_session_run(struct pg_session *s, struct pg_step *steps, size_t count, struct err *err) NODISCARD;
/* The two halves of pg_session_run, between which something else can be done: but for asking whether some are
 * under way and pg_session_rollback, which forgets their results, nothing with this session. The steps are
 * those that were sent. */
bool pg_session_send(struct pg_session *s, struct pg_step *steps, size_t count, struct err *err) NODISCARD;
bool pg_session_collect(struct pg_session *s, struct pg_step *steps, size_t count, struct err *err) NODISCARD;
bool pg_session_is_sent(const struct pg_session *s);
void pg_steps_free(struct pg_step *steps, size_t count);

bool pg_session_begin(struct pg_session *s, struct err *err) NODISCARD;
/* false: rolled back; or the connection ended before the answer, or the backend was told to end, and nobody
 * knows: the same work must be tried again in a way that finds out. */
bool pg_session_commit(struct pg_session *s, struct err *err) NODISCARD;
/* Nothing to do outside a transaction or without connection. */
void pg_session_rollback(struct pg_session *s);

/* COPY .. FROM STDIN BINARY. Rows are sent as they come; nothing is there before pg_copy_end says true. */
bool pg_copy_begin(struct pg_session *s, const char *sql, struct err *err) NODISCARD;
bool pg_copy_row(struct pg_session *s, const struct pg_fields *row, struct err *err) NODISCARD;
bool pg_copy_end(struct pg_session *s, struct err *err) NODISCARD;

/* Several statements as one text, without parameters, in the simple protocol: migrations. */
bool pg_session_script(struct pg_session *s, const char *sql, struct err *err) NODISCARD;

/* After LISTEN: sleeps until a notification, until `wake_fd` (-1: none) is readable, or until the time is
 * over. */
void pg_session_wait(struct pg_session *s, int timeout_ms, int wake_fd);

/* Results. Views hold until pg_rows_free; NULL rows are empty. */
size_t pg_rows_count(const struct pg_rows *r);
int64_t pg_rows_affected(const struct pg_rows *r); /* rows inserted, updated, deleted */
void pg_rows_free(struct pg_rows *r);
bool pg_is_null(const struct pg_rows *r, size_t row, int col);
struct strview pg_get(const struct pg_rows *r, size_t row, int col); /* text, bytea; a null view is NULL */
int64_t pg_get_i64(const struct pg_rows *r, size_t row, int col);    /* 0 when NULL */
struct opt_i64 pg_get_opt_i64(const struct pg_rows *r, size_t row, int col);
bool pg_get_bool(const struct pg_rows *r, size_t row, int col);
int64_t pg_get_time(const struct pg_rows *r, size_t row, int col); /* 0 when NULL */
struct opt_i64 pg_get_opt_time(const struct pg_rows *r, size_t row, int col);
struct uuid pg_get_uuid(const struct pg_rows *r, size_t row, int col);
struct strview pg_get_json(const struct pg_rows *r, size_t row, int col);
struct pg_array pg_get_array(const struct pg_rows *r, size_t row, int col);

#endif
