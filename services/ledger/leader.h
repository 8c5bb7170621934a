/*
 * leader: a job that one ledger of several does: who holds its advisory lock, for as long as its session
 * lives. What it writes to Kafka goes through one transactional producer, so that a leader that was cut off
 * from Postgres and still believes to lead is fenced by its successor. Refuses to write to another Kafka
 * cluster than the one this database publishes to. Owns the session, the producer, and what becomes of
 * failures: both are made anew and the job is opened again.
 */
#ifndef SPEND_LEDGER_LEADER_H
#define SPEND_LEDGER_LEADER_H

#include "kafka/transaction.h"
#include "pg_session.h"

/* What a job works with; both are there in open and turn. */
struct leader {
    struct pg_session *pg;
    struct transaction *kafka;
};

struct leader_job {
    const char *name; /* a literal, for logs, health and metrics */
    const char *database_url;
    struct kafka_settings kafka;
    const char *transactional_id;
    int64_t lock;    /* PG_LOCK_.. */
    int64_t idle_us; /* most time between two turns; a notification that open has asked for ends it */
    /* Leading begins, or begins again after a failure: the last producer of this id is fenced, find out what
     * it did. */
    bool (*open)(void *arg, struct leader *leader, struct err *err);
    /* *more: there is more to do at once. */
    bool (*turn)(void *arg, struct leader *leader, bool *more, struct err *err);
    void *arg;
};

/* Until the process stops. false: no new session and no new producer would help. */
bool leader_run(const struct leader_job *job, struct err *err) NODISCARD;
/* Sends a record with a number of ours in one more header. */
bool leader_send(struct leader *leader, const char *header, int64_t number, struct kafka_ce *ce,
                 struct kafka_record *record, struct err *err) NODISCARD;

#endif
