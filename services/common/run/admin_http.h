/*
 * admin_http: /healthz, /readyz and /metrics on a port of their own, from a thread of its own with its own
 * event_base, so that a stuck main loop is seen from outside. One a process. Refuses: everything else (404),
 * other methods than GET and HEAD (405), bodies over 1 KiB.
 */
#ifndef SPEND_RUN_ADMIN_HTTP_H
#define SPEND_RUN_ADMIN_HTTP_H

#include "base/err.h"
#include <stdint.h>

/* "host:port", host in [] for IPv6; port 0 takes a free one. Logs ev=admin_listening address=.. port=.. */
bool admin_http_start(const char *listen, struct err *err) NODISCARD;
uint16_t admin_http_port(void); /* 0 when it is not running */
void admin_http_stop(void);     /* also when it was never started */

#endif
