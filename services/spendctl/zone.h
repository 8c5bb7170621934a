/*
 * zone: the ledger's times as the clock on the reader's wall has them. Owns the process's TZ. Refuses a zone
 * that this machine does not know: the C library would take it for UTC and say nothing.
 */
#ifndef SPENDCTL_ZONE_H
#define SPENDCTL_ZONE_H

#include <stdbool.h>

#define ZONE_TIME_MAX 48

/* An IANA zone that this machine has a file of, or UTC. */
bool zone_is_known(const char *name);
/* A value of TZ that the C library understands: a zone, a file of one, a rule like CET-1CEST. */
bool zone_is_setting(const char *tz);

/* From here on times are shown in it. NULL: the reader's own, by TZ or the system's. false: said on stderr.
 */
bool zone_use(const char *name);

/* RFC 3339 as "2026-12-01 00:00 CET", with seconds where it has some; "-" for NULL and what is no time. */
const char *zone_time(const char *rfc3339, char out[ZONE_TIME_MAX]);

#endif
