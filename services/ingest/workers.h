/*
 * workers: one process a core: a small parent, `count` workers, each a whole ingest with its own journal on
 * the same port (SO_REUSEPORT), and one process that shows /healthz, /readyz and /metrics of all of them. The
 * parent has no thread and no connection: it starts anew what dies, tells all to stop, and waits. Should it
 * die, so do they, after draining.
 */
#ifndef SPEND_INGEST_WORKERS_H
#define SPEND_INGEST_WORKERS_H

#include "ingest/ingest_options.h"

/* How many --workers asks for: 0 is one a core that this process may use. */
size_t workers_count(const struct ingest_options *options);
/* true: all ended as they should. Ends the workers' own processes by exit(). */
bool workers_run(const struct ingest_options *options, size_t count, struct err *err) NODISCARD;

#endif
