/*
 * lifecycle: how a service starts and is asked to stop.
 * SIGTERM and SIGINT set a flag and make a file descriptor readable; SIGPIPE is ignored; core dumps are off,
 * since memory holds keys and prompts (sanitizer builds keep them: LeakSanitizer must trace itself).
 */
#ifndef SPEND_RUN_LIFECYCLE_H
#define SPEND_RUN_LIFECYCLE_H

#include "base/err.h"
#include <stdint.h>

/* First thing after options and log, before any thread. Registers spend_build_info{version=..}. */
bool lifecycle_start(struct err *err) NODISCARD;
/* In a child, while SIGTERM and SIGINT are blocked: from now on it is asked to stop by itself. */
bool lifecycle_fork(struct err *err) NODISCARD;
bool lifecycle_is_stopping(void);
/* Readable (never read it) once a stop was asked for: put it into poll or an event loop. */
int lifecycle_stop_fd(void);
/* Asks for a stop from inside; any thread, also a signal handler. */
void lifecycle_stop(void);
/* Sleeps until a stop or the time-out; true when stopping. */
bool lifecycle_wait_us(int64_t timeout_us);

#endif
