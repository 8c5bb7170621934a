/*
 * clock_probe: how far Postgres's clock is ahead of ours, asked of the ledger (GET /v1/time) from a thread of
 * its own. Admission times are corrected by it. Over 2 s: logged; over 30 s: not ready. No answer: the last
 * one stays, and the gauge spend_ingest_clock_known says whether there was one.
 */
#ifndef SPEND_INGEST_CLOCK_PROBE_H
#define SPEND_INGEST_CLOCK_PROBE_H

#include "base/err.h"
#include "base/strview.h"

/* ledger_url NULL: nothing is asked, the offset stays 0. */
bool clock_probe_start(const char *ledger_url, const char *token, int64_t every_us,
                       struct err *err) NODISCARD;
void clock_probe_stop(void);         /* also when it was never started */
int64_t clock_probe_offset_us(void); /* any thread; 0 before the first answer */
/* The time on Postgres's clock, ours before the first answer. Any thread. */
int64_t clock_probe_now_us(void);

/* An answer: it was theirs_us there when our clock_boot_us said boot_us. */
void clock_probe_take(int64_t theirs_us, int64_t boot_us);
/* What is to be added to utc_us, read when clock_boot_us said boot_us. */
int64_t clock_probe_offset_at(int64_t utc_us, int64_t boot_us);

/* The time in a reply of GET /v1/time. */
bool clock_probe_parse(struct strview body, int64_t *utc_us);

#endif
