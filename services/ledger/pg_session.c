/*
 * pg_session: libpq in non-blocking pipelines. Every wait is a poll with an end, so that a server that fell
 * silent is a lost connection and not a stuck thread.
 */
#include "pg_session.h"

#include "base/log.h"
#include "pg_fate.h"
#include "pg_session_rows.h"
#include <assert.h>
#include <endian.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define STATEMENTS_MAX 256
#define PARAMETERS_MAX 96
#define SILENCE_MS     120000 /* longer than any statement_timeout */
#define COPY_CHUNK     (64 << 10)
#define COPY_CHUNK_CAP (256 << 20)
#define SETTINGS                                                                                             \
    "SET search_path = spend, pg_temp; SET statement_timeout = '60s'; SET lock_timeout = '20s';"             \
    "SET idle_in_transaction_session_timeout = '15s'; SET synchronous_commit = on; SET TimeZone = 'UTC';"    \
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"           \
    "SET tcp_user_timeout = '30s';" /* a machine that is gone keeps its locks no longer */                   \
    "SET jit = off;" /* enable_seqscan = off makes plans look costly: each would be compiled, 10 ms a query  \
                      */
#define SORTED_SETTINGS                                                                                      \
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off;"                       \
    "SET plan_cache_mode = force_generic_plan;"

struct statement {
    char *sql;
    char name[16];
    bool prepared;
    UT_hash_handle hh;
};

struct pg_session {
    struct pg_session_options options;
    PGconn *conn;
    int64_t generation;
    struct statement *statements;
    bool copying;
    bool sent; /* steps whose results nobody has taken yet */
    struct buffer chunk;
};

bool pg_session_new(struct pg_session **out, const struct pg_session_options *options, struct err *err)
{
    char *why = NULL;
    PQconninfoOption *parsed = PQconninfoParse(options->url, &why);
    PQfreemem(why); /* it may quote the password */
    if (parsed == NULL)
        return err_set(
            err, ERR_INVALID, FATE_FATAL,
            "database-url is no connection string: write postgresql://user:password@host:port/database");
    PQconninfoFree(parsed);
    struct pg_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "postgres: out of memory");
    s->options = *options;
    buffer_init(&s->chunk, COPY_CHUNK_CAP);
    *out = s;
    return true;
}

static void statements_forget(struct pg_session *s)
{
    struct statement *st = s->statements;
    HASH_CLEAR(hh, s->statements);
    while (st != NULL) {
        struct statement *next = st->hh.next;
        free(st->sql);
        free(st);
        st = next;
    }
}

static void disconnect(struct pg_session *s)
{
    PQfinish(s->conn);
    s->conn = NULL;
    s->copying = s->sent = false;
    buffer_clear(&s->chunk);
    statements_forget(s);
}

void pg_session_free(struct pg_session *s)
{
    if (s == NULL)
        return;
    disconnect(s);
    buffer_free(&s->chunk);
    free(s);
}

int64_t pg_session_generation(const struct pg_session *s)
{
    return s->generation;
}

/* One line without its newline; libpq's messages end in one. */
static bool fail(const char *sqlstate, const char *text, struct err *err)
{
    enum err_code code;
    enum err_fate fate;
    pg_fate_of(sqlstate, &code, &fate);
    size_t len = strcspn(text, "\n");
    return err_set(err, code, fate, "postgres: %.*s%s%s", (int)len, text, sqlstate == NULL ? "" : " ",
                   sqlstate == NULL ? "" : sqlstate);
}

static bool fail_result(const PGresult *result, struct err *err)
{
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    return fail(PQresultErrorField(result, PG_DIAG_SQLSTATE),
                text == NULL ? PQresultErrorMessage(result) : text, err);
}

/* The connection is of no use any more. */
static bool fail_lost(struct pg_session *s, struct err *err)
{
    const char *text = s->conn == NULL ? "not connected" : PQerrorMessage(s->conn);
    bool result = fail(NULL, text[0] == '\0' ? "the server does not answer" : text, err);
    disconnect(s);
    return result;
}

/* Sends what waits and reads what comes, once. false: lost, or silent for too long. */
static bool turn(PGconn *conn, bool reading)
{
    int unsent = PQflush(conn);
    if (unsent < 0)
        return false;
    struct pollfd fd = {.fd = PQsocket(conn), .events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0))};
    if (!reading && unsent == 0)
        return true;
    int ready = poll(&fd, 1, SILENCE_MS);
    if (ready == 0)
        return false;
    return (fd.revents & (POLLIN | POLLERR | POLLHUP)) == 0 || PQconsumeInput(conn) == 1;
}

/* The next result; NULL between two statements. false: the connection is lost. */
static bool next_result(struct pg_session *s, PGresult **result)
{
    for (;;) {
        if (!PQisBusy(s->conn)) {
            int unsent = PQflush(s->conn);
            *result = unsent < 0 ? NULL : PQgetResult(s->conn);
            return unsent >= 0 && PQstatus(s->conn) == CONNECTION_OK;
        }
        if (!turn(s->conn, true))
            return false;
    }
}

static void on_notice(void *arg, const PGresult *notice)
{
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    (void)arg;
    if (severity != NULL && strcmp(severity, "WARNING") == 0)
        log_warn("postgres_warning", LOG_STR("text", PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY)),
                 LOG_END);
}

static PGconn *open_connection(const struct pg_session *s)
{
    const char *const names[] = {"dbname",           "application_name", "connect_timeout",
                                 "client_encoding",  "keepalives_idle",  "keepalives_interval",
                                 "keepalives_count", "tcp_user_timeout", NULL};
    const char *const values[] = {
        s->options.url, s->options.name, "10", "UTF8", "15", "5", "3", "30000", NULL};
    return PQconnectdbParams(names, values, 1);
}

static bool connect_now(struct pg_session *s, struct err *err)
{
    s->conn = open_connection(s);
    if (s->conn == NULL || PQstatus(s->conn) != CONNECTION_OK)
        return fail_lost(s, err);
    s->generation++;
    PQsetNoticeReceiver(s->conn, on_notice, NULL);
    if (PQsetnonblocking(s->conn, 1) != 0)
        return fail_lost(s, err);
    if (!pg_session_script(s, SETTINGS, err) ||
        (s->options.settings != NULL && !pg_session_script(s, s->options.settings, err)) ||
        (s->options.sorted_plans && !pg_session_script(s, SORTED_SETTINGS, err))) {
        disconnect(s);
        return false;
    }
    return true;
}

/* A server that went while we were idle has left its farewell and an end of file. */
static bool is_alive(PGconn *conn)
{
    return conn != NULL && PQconsumeInput(conn) == 1 && PQconsumeInput(conn) == 1 &&
           PQstatus(conn) == CONNECTION_OK;
}

bool pg_session_ready(struct pg_session *s, struct err *err)
{
    pg_session_rollback(s);
    if (is_alive(s->conn))
        return true;
    disconnect(s);
    return connect_now(s, err);
}

/* Pipelines ---------------------------------------------------------------------------------------------- */

/* Reads up to the end of the pipeline, forgetting what comes. */
static bool drain(struct pg_session *s)
{
    PGresult *result;
    do {
        if (!next_result(s, &result))
            return false;
        ExecStatusType status = PQresultStatus(result);
        PQclear(result);
        if (status == PGRES_PIPELINE_SYNC)
            return PQexitPipelineMode(s->conn) == 1;
    } while (true);
}

/* The result of one statement and the NULL that follows it. */
static bool take_result(struct pg_session *s, PGresult **result)
{
    PGresult *end = NULL;
    if (!next_result(s, result) || *result == NULL)
        return false;
    bool ok = next_result(s, &end) && end == NULL;
    PQclear(end);
    return ok;
}

static bool prepare(struct pg_session *s, struct statement *st, struct err *err)
{
    PGresult *result = NULL;
    bool ok = false;
    if (PQenterPipelineMode(s->conn) != 1 || PQsendPrepare(s->conn, st->name, st->sql, 0, NULL) != 1 ||
        PQpipelineSync(s->conn) != 1 || !take_result(s, &result) || !drain(s)) {
        PQclear(result);
        return fail_lost(s, err);
    }
    ok = PQresultStatus(result) == PGRES_COMMAND_OK;
    if (!ok)
        (void)fail_result(result, err);
    st->prepared = ok;
    PQclear(result);
    return ok;
}

/* The statement with this text, prepared on this connection. NULL: *err says why. */
static struct statement *statement_of(struct pg_session *s, const char *sql, struct err *err)
{
    struct statement *st = NULL;
    HASH_FIND_STR(s->statements, sql, st);
    if (st == NULL) {
        assert(HASH_COUNT(s->statements) < STATEMENTS_MAX); /* somebody writes values into SQL */
        char *copy = strdup(sql);
        st = calloc(1, sizeof *st);
        if (st == NULL || copy == NULL) {
            free(copy);
            free(st);
            (void)err_set(err, ERR_MEMORY, FATE_FATAL, "postgres: out of memory");
            return NULL;
        }
        st->sql = copy;
        (void)snprintf(st->name, sizeof st->name, "s%u", HASH_COUNT(s->statements));
        HASH_ADD_KEYPTR(hh, s->statements, st->sql, strlen(st->sql), st);
    }
    if (!st->prepared && !prepare(s, st, err))
        return NULL;
    return st;
}

static bool send_step(struct pg_session *s, const struct pg_step *step)
{
    const char *values[PARAMETERS_MAX];
    int lengths[PARAMETERS_MAX];
    int formats[PARAMETERS_MAX];
    struct statement *st = NULL;
    size_t count = step->args == NULL ? 0 : step->args->count;
    const char *at = count == 0 ? NULL : step->args->bytes.data;
    HASH_FIND_STR(s->statements, step->sql, st);
    assert(st != NULL && count <= PARAMETERS_MAX);
    for (size_t i = 0; i < count; i++) {
        uint32_t len;
        memcpy(&len, at, sizeof len);
        len = be32toh(len);
        at += sizeof len;
        values[i] = len == UINT32_MAX ? NULL : at;
        lengths[i] = len == UINT32_MAX ? 0 : (int)len;
        formats[i] = 1;
        at += lengths[i];
    }
    return PQsendQueryPrepared(s->conn, st->name, (int)count, values, lengths, formats, 1) == 1;
}

static bool result_is_good(const struct pg_step *step, PGresult *result, struct err *err)
{
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        return fail_result(result, err);
    /* COMMIT of a transaction that failed succeeds, and says ROLLBACK */
    if (strcmp(step->sql, PG_COMMIT) == 0 && strcmp(PQcmdStatus(result), PG_COMMIT) != 0)
        return err_set(err, ERR_POSTGRES, FATE_RETRY, "postgres: COMMIT answered %s", PQcmdStatus(result));
    return true;
}

/* Takes the result over. */
static bool keep_rows(PGresult *result, struct pg_rows **rows, struct err *err)
{
    *rows = malloc(sizeof **rows);
    if (*rows == NULL) {
        PQclear(result);
        return err_set(err, ERR_MEMORY, FATE_FATAL, "postgres: out of memory");
    }
    (*rows)->result = result;
    return true;
}

/* Results of all steps. After the first that failed the server skips the others. */
bool pg_session_collect(struct pg_session *s, struct pg_step *steps, size_t count, struct err *err)
{
    bool ok = true;
    assert(s->sent);
    s->sent = false;
    for (size_t i = 0; i < count; i++) {
        PGresult *result = NULL;
        if (!take_result(s, &result)) {
            PQclear(result);
            return ok ? fail_lost(s, err) : fail_lost(s, NULL);
        }
        if (ok && result_is_good(&steps[i], result, err)) {
            ok = keep_rows(result, &steps[i].rows, err);
        } else {
            ok = false;
            PQclear(result);
        }
    }
    if (!drain(s)) {
        disconnect(s);
        /* everything was answered, so it was done: the next user meets the lost connection */
    }
    return ok;
}

bool pg_session_send(struct pg_session *s, struct pg_step *steps, size_t count, struct err *err)
{
    assert(!s->sent);
    for (size_t i = 0; i < count; i++)
        steps[i].rows = NULL;
    if (s->conn == NULL)
        return fail_lost(s, err);
    for (size_t i = 0; i < count; i++) {
        if (steps[i].args != NULL && steps[i].args->failed)
            return err_set(err, ERR_FULL, FATE_FATAL, "postgres: parameters past %d bytes or out of memory",
                           PG_FIELDS_BYTES);
        if (statement_of(s, steps[i].sql, err) == NULL)
            return false;
    }
    if (PQenterPipelineMode(s->conn) != 1)
        return fail_lost(s, err);
    for (size_t i = 0; i < count; i++) {
        if (!send_step(s, &steps[i]))
            return fail_lost(s, err);
    }
    if (PQpipelineSync(s->conn) != 1) /* it flushes */
        return fail_lost(s, err);
    s->sent = true;
    return true;
}

bool pg_session_is_sent(const struct pg_session *s)
{
    return s->sent;
}

bool pg_session_run(struct pg_session *s, struct pg_step *steps, size_t count, struct err *err)
{
    return pg_session_send(s, steps, count, err) && pg_session_collect(s, steps, count, err);
}

void pg_steps_free(struct pg_step *steps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        pg_rows_free(steps[i].rows);
        steps[i].rows = NULL;
    }
}

bool pg_session_query(struct pg_session *s, const char *sql, const struct pg_fields *args,
                      struct pg_rows **rows, struct err *err)
{
    struct pg_step step = {.sql = sql, .args = args};
    bool ok = pg_session_run(s, &step, 1, err);
    if (rows != NULL)
        *rows = step.rows;
    else
        pg_rows_free(step.rows);
    return ok;
}

bool pg_session_begin(struct pg_session *s, struct err *err)
{
    return pg_session_query(s, PG_BEGIN, NULL, NULL, err);
}

bool pg_session_commit(struct pg_session *s, struct err *err)
{
    return pg_session_query(s, PG_COMMIT, NULL, NULL, err);
}

void pg_session_rollback(struct pg_session *s)
{
    if (s->sent && !drain(s))
        disconnect(s);
    s->sent = false;
    if (s->conn == NULL || (PQtransactionStatus(s->conn) == PQTRANS_IDLE && !s->copying))
        return;
    if (s->copying || !pg_session_query(s, "ROLLBACK", NULL, NULL, NULL))
        disconnect(s); /* ends it as well */
}

/* COPY and scripts --------------------------------------------------------------------------------------- */

/* All results of a simple-protocol text. *copy (may be NULL): it ended in COPY IN. */
static bool simple_results(struct pg_session *s, bool *copy, struct err *err)
{
    bool ok = true;
    for (;;) {
        PGresult *result = NULL;
        if (!next_result(s, &result)) {
            PQclear(result);
            return ok ? fail_lost(s, err) : fail_lost(s, NULL);
        }
        if (result == NULL)
            return ok;
        ExecStatusType status = PQresultStatus(result);
        if (ok && status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_COPY_IN)
            ok = fail_result(result, err);
        PQclear(result);
        if (status == PGRES_COPY_IN && copy != NULL) {
            *copy = true;
            return true;
        }
    }
}

bool pg_session_script(struct pg_session *s, const char *sql, struct err *err)
{
    if (s->conn == NULL || PQsendQuery(s->conn, sql) != 1)
        return fail_lost(s, err);
    return simple_results(s, NULL, err);
}

bool pg_copy_begin(struct pg_session *s, const char *sql, struct err *err)
{
    static const char head[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"; /* signature, flags, extension */
    if (s->conn == NULL || PQsendQuery(s->conn, sql) != 1)
        return fail_lost(s, err);
    if (!simple_results(s, &s->copying, err))
        return false;
    assert(s->copying);
    buffer_clear(&s->chunk);
    return buffer_append(&s->chunk, head, sizeof head - 1) ||
           err_set(err, ERR_MEMORY, FATE_FATAL, "postgres: out of memory");
}

static bool copy_send(struct pg_session *s, struct err *err)
{
    int sent;
    while ((sent = PQputCopyData(s->conn, s->chunk.data, (int)s->chunk.len)) == 0) {
        if (!turn(s->conn, false))
            return fail_lost(s, err);
    }
    if (sent < 0)
        return fail_lost(s, err);
    buffer_clear(&s->chunk);
    return true;
}

bool pg_copy_row(struct pg_session *s, const struct pg_fields *row, struct err *err)
{
    uint16_t count = htobe16((uint16_t)row->count);
    if (row->failed || !buffer_append(&s->chunk, &count, sizeof count) ||
        !buffer_append_sv(&s->chunk, buffer_view(&row->bytes)))
        return err_set(err, ERR_FULL, FATE_FATAL, "postgres: a row past %d bytes or out of memory",
                       COPY_CHUNK_CAP);
    return s->chunk.len < COPY_CHUNK || copy_send(s, err);
}

bool pg_copy_end(struct pg_session *s, struct err *err)
{
    static const char tail[] = {'\377', '\377'};
    int sent;
    if (!buffer_append(&s->chunk, tail, sizeof tail))
        return err_set(err, ERR_MEMORY, FATE_FATAL, "postgres: out of memory");
    if (!copy_send(s, err))
        return false;
    while ((sent = PQputCopyEnd(s->conn, NULL)) == 0) {
        if (!turn(s->conn, false))
            return fail_lost(s, err);
    }
    s->copying = false;
    if (sent < 0)
        return fail_lost(s, err);
    return simple_results(s, NULL, err);
}

void pg_session_wait(struct pg_session *s, int timeout_ms, int wake_fd)
{
    struct pollfd fds[2] = {{.fd = wake_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    PGnotify *note;
    bool notified = false;
    if (s->conn != NULL) {
        fds[1].fd = PQsocket(s->conn);
        while ((note = PQnotifies(s->conn)) != NULL) {
            notified = true;
            PQfreemem(note);
        }
    }
    if (notified)
        return;
    int ready = poll(fds, 2, timeout_ms);
    if (ready > 0 && fds[1].revents != 0) {
        if (PQconsumeInput(s->conn) != 1)
            disconnect(s);
        while (s->conn != NULL && (note = PQnotifies(s->conn)) != NULL)
            PQfreemem(note);
    }
}
