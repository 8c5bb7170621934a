/*
 * leader: lock, open, turn, again.
 */
#include "leader.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "pg_query.h"
#include "run/health.h"
#include "run/lifecycle.h"
#include "worker.h"
#include <stdio.h>

#define TRANSACTION_MS 10000
#define SESSION_NAME   64
#define NUMBER_TEXT    24
#define CLUSTER_ID_MS  5000
#define STANDBY_US     US_PER_SECOND
#define LOOP_AGE_US    (150 * US_PER_SECOND) /* a commit whose outcome is unknown is waited for */

/* A leader that hangs, or whose machine is gone, loses its session and with it the lock; longer than a Kafka
 * commit is waited for. What it may still send is fenced by the next leader's transactional id. */
#define LEAD_SETTINGS "SET idle_session_timeout = '45s'"

struct run {
    const struct leader_job *job;
    struct leader leader;
    int64_t generation; /* of the session that holds the lock; 0: none */
    struct metric *leads;
};

static void step_down(struct run *r)
{
    transaction_free(r->leader.kafka);
    r->leader.kafka = NULL;
    metric_set(r->leads, 0);
}

/* *leads: the lock is ours. It went with the session that had it. */
static bool lock(struct run *r, bool *leads, struct err *err)
{
    struct pg_session *pg = r->leader.pg;
    struct pg_rows *rows = NULL;
    *leads = false;
    if (!pg_session_ready(pg, err))
        return false;
    *leads = r->generation == pg_session_generation(pg);
    if (*leads)
        return true;
    step_down(r);
    bool ok = pg_query(pg, "SELECT pg_try_advisory_lock($1)", PG_ARGS(PG_I64(r->job->lock)), &rows, err);
    *leads = ok && pg_get_bool(rows, 0, 0);
    if (*leads)
        *leads = ok = pg_session_script(pg, LEAD_SETTINGS, err);
    r->generation = *leads ? pg_session_generation(pg) : 0;
    pg_rows_free(rows);
    return ok;
}

/* What is sent to another cluster and then deleted here would be missing in ours for ever, and another
 * installation's readers would take it for theirs. */
static bool check_cluster(struct run *r, struct err *err)
{
    struct pg_rows *rows = NULL;
    struct strview cluster = transaction_cluster_id(r->leader.kafka, CLUSTER_ID_MS);
    if (sv_is_empty(cluster))
        return err_set(err, ERR_KAFKA, FATE_RETRY, "the cluster's id is not known yet");
    bool ok = pg_query(r->leader.pg, "SELECT publisher_cluster($1)", PG_ARGS(PG_TEXT(cluster)), &rows, err);
    if (ok && !sv_eq(pg_get(rows, 0, 0), cluster))
        ok = err_set(err, ERR_CONFLICT, FATE_FATAL,
                     "this database publishes to Kafka cluster " SV_FMT " and this is " SV_FMT
                     ": connect to that cluster, or move here as docs/ledger.md says (Where to)",
                     SV_ARG(pg_get(rows, 0, 0)), SV_ARG(cluster));
    pg_rows_free(rows);
    return ok;
}

static bool open_job(struct run *r, struct err *err)
{
    const struct transaction_options options = {
        .kafka = r->job->kafka, .transactional_id = r->job->transactional_id, .timeout_ms = TRANSACTION_MS};
    if (r->leader.kafka != NULL)
        return true;
    if (!transaction_new(&r->leader.kafka, &options, err) || !check_cluster(r, err) ||
        !r->job->open(r->job->arg, &r->leader, err))
        return false;
    metric_set(r->leads, 1);
    log_info("leads", LOG_STR("job", r->job->name), LOG_END);
    return true;
}

static bool turn(struct run *r, struct err *err)
{
    bool leads;
    bool more = false;
    int64_t begin = clock_mono_us();
    if (!lock(r, &leads, err) ||
        (leads && (!open_job(r, err) || !r->job->turn(r->job->arg, &r->leader, &more, err))))
        return false;
    health_ready(r->job->name, true, NULL);
    int64_t left_us = (leads ? r->job->idle_us : STANDBY_US) - (clock_mono_us() - begin);
    if (!more && left_us > 0)
        pg_session_wait(r->leader.pg, (int)(left_us / 1000) + 1, lifecycle_stop_fd());
    if (leads)
        transaction_poll(r->leader.kafka);
    return true;
}

bool leader_run(const struct leader_job *job, struct err *err)
{
    char session_name[SESSION_NAME];
    const struct pg_session_options session = {
        .url = job->database_url, .name = session_name, .sorted_plans = true};
    struct run r = {.job = job};
    struct health_loop *health = health_loop_start(job->name, LOOP_AGE_US);
    int tries = 0;
    (void)snprintf(session_name, sizeof session_name, "spend-ledger/%s", job->name);
    r.leads = metric_gauge("spend_ledger_leads", "1: this ledger does the job", "job", job->name);
    bool ok = pg_session_new(&r.leader.pg, &session, err);
    while (ok && !lifecycle_is_stopping()) {
        health_beat(health);
        if (turn(&r, err)) {
            tries = 0;
            continue;
        }
        /* a new producer, and the state of things read again: the one way out of every kind of failure */
        step_down(&r);
        health_ready(job->name, false, err->text);
        log_warn("job_waits", LOG_STR("job", job->name), LOG_STR("code", err_code_name(err->code)),
                 LOG_ERR(err), LOG_END);
        ok = err->fate == FATE_RETRY || err->code == ERR_KAFKA || err->code == ERR_STATE ||
             err->code == ERR_TIMEOUT || err->code == ERR_NOT_FOUND; /* a topic that is being made anew */
        (void)worker_back_off(&tries);
    }
    step_down(&r);
    pg_session_free(r.leader.pg);
    health_ready(job->name, false, "stopped");
    health_loop_end(health);
    return ok;
}

bool leader_send(struct leader *leader, const char *header, int64_t number, struct kafka_ce *ce,
                 struct kafka_record *record, struct err *err)
{
    char text[NUMBER_TEXT];
    (void)snprintf(text, sizeof text, "%lld", (long long)number);
    ce->header[KAFKA_CE_HEADERS] = (struct kafka_header){sv_of(header), sv_of(text)};
    record->headers = ce->header;
    record->header_count = KAFKA_CE_HEADERS + 1;
    return transaction_send(leader->kafka, record, err);
}
