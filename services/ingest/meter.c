/*
 * meter: registers the table and adds to it. Before meter_open every call does nothing, so that modules can
 * be tested alone.
 */
#include "ingest/meter.h"

#include "base/metrics.h"

static struct metric *metric_of[METER_COUNT];

#define REGISTER_COUNTER   metric_counter
#define REGISTER_GAUGE     metric_gauge
#define REGISTER_HISTOGRAM metric_histogram_us

void meter_open(void)
{
#define METER_REGISTER(id, type, name, label, value, help)                                                   \
    metric_of[METER_##id] = REGISTER_##type(name, help, label, value);
    METERS(METER_REGISTER)
}

void meter_add(enum meter m, int64_t n)
{
    if (n != 0 && metric_of[m] != NULL)
        metric_add(metric_of[m], n);
}

void meter_set(enum meter m, int64_t n)
{
    if (metric_of[m] != NULL)
        metric_set(metric_of[m], n);
}

void meter_observe(enum meter m, int64_t us)
{
    if (metric_of[m] != NULL)
        metric_observe_us(metric_of[m], us);
}

int64_t meter_value(enum meter m)
{
    return metric_of[m] == NULL ? 0 : metric_value(metric_of[m]);
}
