/*
 * service: the parts of spend-ingest, opened in order, run until a stop is asked for, drained and closed in
 * reverse.
 */
#ifndef SPEND_INGEST_SERVICE_H
#define SPEND_INGEST_SERVICE_H

#include "ingest/ingest_options.h"

/* true: it ended as it should. worker: one of several, on a shared port; the admin port is another's. */
bool service_run(const struct ingest_options *options, bool worker, struct err *err) NODISCARD;

#endif
