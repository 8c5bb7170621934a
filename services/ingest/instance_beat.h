/*
 * instance_beat: the heartbeat of a journal on spend.instances: how far it got, what is still open, whether
 * it is closed.
 */
#ifndef SPEND_INGEST_INSTANCE_BEAT_H
#define SPEND_INGEST_INSTANCE_BEAT_H

#include "ingest/delivery.h"

/* reports: see delivery_beat. One that cannot be sent is logged: the next one follows. */
void instance_beat_send(struct delivery *d, const struct journal *j, bool closed, int64_t *reports);

#endif
