/*
 * clock: the clocks, in microseconds. Pure modules never include this: they are given the time.
 */
#ifndef SPEND_BASE_CLOCK_H
#define SPEND_BASE_CLOCK_H

#include "base/err.h"
#include "base/strview.h"

#define CLOCK_TEXT_MAX 40
#define US_PER_SECOND  1000000LL

int64_t clock_now_us(void);  /* UTC since 1970 */
int64_t clock_mono_us(void); /* never goes back; for time-outs and durations */
/* The same, but goes on while the machine sleeps: for what is remembered of another's clock. */
int64_t clock_boot_us(void);
/* As clock_mono_us, up to 10 ms behind, at a fifth of the cost: for time-outs of seconds. */
int64_t clock_coarse_us(void);

/* RFC 3339 in UTC with microseconds: "2026-11-23T07:00:00.000001Z". Returns the length. */
size_t clock_format(int64_t utc_us, char out[CLOCK_TEXT_MAX]);
/* RFC 3339 with any offset and up to 9 decimals (cut to micros). false on anything else. */
bool clock_parse(struct strview text, int64_t *utc_us) NODISCARD;

#endif
