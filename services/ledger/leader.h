/*
 * leader: one ledger of several does a job: who holds its advisory lock, for as long as its session lives.
 * Refuses to be trusted alone: a session may be gone without our knowing. What the leader writes to Kafka
 * goes through a transactional producer, whose successor fences it.
 */
#ifndef SPEND_LEDGER_LEADER_H
#define SPEND_LEDGER_LEADER_H

#include "pg_session.h"

struct leader {
    int64_t lock;       /* PG_LOCK_.. */
    int64_t generation; /* of the session that took it; 0: none */
};

/* Connects if need be. *leads: the lock is ours. */
bool leader_try(struct leader *l, struct pg_session *pg, bool *leads, struct err *err) NODISCARD;

#endif
