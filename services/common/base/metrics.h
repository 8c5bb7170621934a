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

/* Prometheus text exposition 0.0.4, families sorted by name. */
bool metrics_render(struct buffer *out) NODISCARD;

#endif
