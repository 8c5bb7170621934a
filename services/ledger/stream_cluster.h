/*
 * stream_cluster: which Kafka cluster a stream was read from: its offsets say. Refuses another one, to the
 * reader, which would apply what is not ours, and to the publishers: what is sent there and then deleted here
 * would be missing in ours for ever.
 */
#ifndef SPEND_LEDGER_STREAM_CLUSTER_H
#define SPEND_LEDGER_STREAM_CLUSTER_H

#include "pg_session.h"

/* cluster: of the Kafka we are connected to; empty: not known yet (FATE_RETRY). Another one is FATE_FATAL. */
bool stream_cluster_check(struct pg_session *pg, const char *stream, struct strview cluster,
                          struct err *err) NODISCARD;

#endif
