/*
 * metrics: counters, gauges and histograms with at most one label, as Prometheus text.
 * Registered once at start (any thread may then add: atomics). Refuses raw tags, ids and other unbounded
 * label values: label values are registered names from code, never from a request.
 */
#ifndef SPEND_BASE_METRICS_H
#define SPEND_BASE_METRICS_H

#include "base/buffer.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric;

/* Same name and label value again give the same metric. label may be NULL. Aborts on a malformed name. */
struct metric *metric_counter(const char *name, const char *help, const char *label, const char *value);
struct metric *metric_gauge(const char *name, const char *help, const char *label, const char *value);
/* Bounds fixed: 100 us to 100 s, three a decade; observed in microseconds, shown in seconds. */
struct metric *metric_histogram_us(const char *name, const char *help, const char *label, const char *value);

void metric_add(struct metric *m, int64_t n);
void metric_set(struct metric *m, int64_t n);
void metric_observe_us(struct metric *m, int64_t us);
int64_t metric_value(const struct metric *m);

/*
 * For processes forked from one: `count` places in memory that all of them see; before the first fork. A
 * process that enters one registers and counts there from now on, and any of them shows all, each place with
 * its label worker. Who takes a dead one's place goes on with its counters.
 */
#define METRICS_SHARED_MAX 257
bool metrics_share(size_t count, struct err *err) NODISCARD;
void metrics_enter(size_t place, const char *worker);
void metrics_left(size_t place); /* its process is dead: gauges say 0 */

/* Prometheus text exposition 0.0.4, families sorted by name. */
bool metrics_render(struct buffer *out) NODISCARD;

#endif
