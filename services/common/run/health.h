/*
 * health: is each loop of the process still turning (live), and can it do its work (ready).
 * Process-wide, any thread. Loops and parts are named from code, at most HEALTH_MAX of each (aborts past it).
 * Shown by admin_http as /healthz and /readyz, and as metrics spend_ready{part=..}.
 */
#ifndef SPEND_RUN_HEALTH_H
#define SPEND_RUN_HEALTH_H

#include "base/buffer.h"

#define HEALTH_MAX 32

struct health_loop;

/* Live while it beats at least every age_max_us; it has beaten now. Same name again: the same loop, beaten,
 * new age. */
struct health_loop *health_loop_start(const char *name, int64_t age_max_us);
void health_beat(struct health_loop *loop); /* one atomic store: call it in each turn */
void health_loop_end(
    struct health_loop *loop); /* it ended as it should: not looked at any more. NULL allowed */

/*
 * A part is ready or not, and why not (one line, no secrets; ignored when ready). The first call with a name
 * registers the part: register all of them, not ready, before the first can become ready. name must be a
 * literal.
 */
void health_ready(const char *part, bool ready, const char *reason);

/* What /healthz and /readyz say, one line a problem, "ok" when there is none. No part registered: not ready.
 */
bool health_is_live(int64_t mono_us, struct buffer *text);
bool health_is_ready(struct buffer *text);

/*
 * For processes forked from one: `count` places in memory that all of them see; before the first fork. What a
 * process that entered one says, any of them shows, by its number ("worker 0: "): all must be live and ready.
 */
bool health_share(size_t count, struct err *err) NODISCARD;
void health_enter(size_t place);
void health_left(size_t place); /* its process is dead: nothing is ready there */

/* Forgets everything. Only for tests, and only while no other thread uses it. */
void health_reset(void);

#endif
