/*
 * metrics: a sorted list of series that only grows. Registering takes a lock; adding is one relaxed atomic.
 * Series live as long as the process: nothing here is freed.
 */
#include "base/metrics.h"

#include "base/money.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERIES_MAX      4096 /* more means that a label is not bounded */
#define LABEL_VALUE_MAX 128

static const int64_t bounds_us[] = {
    100,    200,    500,     1000,    2000,    5000,     10000,    20000,    50000,     100000,
    200000, 500000, 1000000, 2000000, 5000000, 10000000, 20000000, 50000000, 100000000,
};

#define BOUNDS (sizeof bounds_us / sizeof bounds_us[0])

struct metric {
    struct metric *next;
    const char *name;
    const char *help;
    const char *label; /* NULL: none */
    const char *value;
    enum metric_type type;
    _Atomic int64_t n;                  /* a histogram's sum of microseconds */
    _Atomic int64_t bucket[BOUNDS + 1]; /* not cumulative; the last is +Inf. Used by histograms only */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct metric *first;
static size_t count;

/* A wrong name, a second type for one name, a label without bound: our bugs, seen at the first start. */
static void must(bool ok, const char *name, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "metric %s: %s\n", name == NULL ? "?" : name, what);
        abort();
    }
}

static bool is_name(const char *name)
{
    if (name == NULL || *name == '\0' || (*name >= '0' && *name <= '9'))
        return false;
    for (const char *p = name; *p != '\0'; p++) {
        bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z');
        if (!letter && *p != '_' && !(*p >= '0' && *p <= '9'))
            return false;
    }
    return true;
}

static char *copy(const char *text)
{
    if (text == NULL)
        return NULL;
    char *out = strdup(text);
    must(out != NULL, text, "out of memory");
    return out;
}

static bool same_family(const struct metric *m, enum metric_type type, const char *label)
{
    return m->type == type && sv_eq(sv_of(m->label), sv_of(label));
}

static int order_of(const struct metric *m, const char *name, const char *value)
{
    int order = strcmp(m->name, name);
    return order != 0 ? order : sv_cmp(sv_of(m->value), sv_of(value));
}

static struct metric *find_or_add(enum metric_type type, const char *name, const char *help,
                                  const char *label, const char *value)
{
    struct metric **at = &first; /* where it stands or belongs */
    for (; *at != NULL; at = &(*at)->next) {
        bool same_name = strcmp((*at)->name, name) == 0;
        must(!same_name || same_family(*at, type, label), name,
             "registered before with another type or label");
        int order = order_of(*at, name, value);
        if (order == 0)
            return *at;
        if (order > 0)
            break;
    }
    must(count < SERIES_MAX, name, "too many series");
    struct metric *m = calloc(1, sizeof *m);
    must(m != NULL, name, "out of memory");
    m->name = copy(name);
    m->help = copy(help);
    m->label = copy(label);
    m->value = copy(value);
    m->type = type;
    m->next = *at;
    *at = m;
    count++;
    return m;
}

static struct metric *metric_register(enum metric_type type, const char *name, const char *help,
                                      const char *label, const char *value)
{
    must(is_name(name), name, "malformed name");
    must((label == NULL) == (value == NULL), name, "a label needs a value");
    must(label == NULL || is_name(label), name, "malformed label name");
    must(value == NULL || (strlen(value) <= LABEL_VALUE_MAX && sv_is_utf8(sv_of(value))), name,
         "malformed label value");
    (void)pthread_mutex_lock(&lock);
    struct metric *m = find_or_add(type, name, help, label, value);
    (void)pthread_mutex_unlock(&lock);
    return m;
}

struct metric *metric_counter(const char *name, const char *help, const char *label, const char *value)
{
    return metric_register(METRIC_COUNTER, name, help, label, value);
}

struct metric *metric_gauge(const char *name, const char *help, const char *label, const char *value)
{
    return metric_register(METRIC_GAUGE, name, help, label, value);
}

struct metric *metric_histogram_us(const char *name, const char *help, const char *label, const char *value)
{
    return metric_register(METRIC_HISTOGRAM, name, help, label, value);
}

void metric_add(struct metric *m, int64_t n)
{
    assert(m->type == METRIC_GAUGE || (m->type == METRIC_COUNTER && n >= 0));
    (void)atomic_fetch_add_explicit(&m->n, n, memory_order_relaxed);
}

void metric_set(struct metric *m, int64_t n)
{
    assert(m->type == METRIC_GAUGE);
    atomic_store_explicit(&m->n, n, memory_order_relaxed);
}

void metric_observe_us(struct metric *m, int64_t us)
{
    assert(m->type == METRIC_HISTOGRAM);
    size_t i = 0;
    while (i < BOUNDS && us > bounds_us[i])
        i++;
    (void)atomic_fetch_add_explicit(&m->bucket[i], 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&m->n, us < 0 ? 0 : us, memory_order_relaxed);
}

static int64_t bucket_read(const struct metric *m, size_t i)
{
    return atomic_load_explicit(&m->bucket[i], memory_order_relaxed);
}

int64_t metric_value(const struct metric *m)
{
    if (m->type != METRIC_HISTOGRAM)
        return atomic_load_explicit(&m->n, memory_order_relaxed);
    int64_t all = 0;
    for (size_t i = 0; i <= BOUNDS; i++)
        all += bucket_read(m, i);
    return all;
}

static bool put_escaped(struct buffer *out, const char *text, bool quotes)
{
    for (const char *p = text; *p != '\0'; p++) {
        bool ok = *p == '\n'            ? buffer_append(out, "\\n", 2)
                  : *p == '\\'          ? buffer_append(out, "\\\\", 2)
                  : *p == '"' && quotes ? buffer_append(out, "\\\"", 2)
                                        : buffer_append(out, p, 1);
        if (!ok)
            return false;
    }
    return true;
}

/* name_suffix{label="value",le="bound"} number */
static bool put_sample(struct buffer *out, const struct metric *m, const char *suffix, const char *le,
                       const char *number)
{
    bool ok = buffer_printf(out, "%s%s", m->name, suffix);
    const char *separator = "{";
    if (m->label != NULL) {
        ok = ok && buffer_printf(out, "{%s=\"", m->label) && put_escaped(out, m->value, true) &&
             buffer_append_byte(out, '"');
        separator = ",";
    }
    if (le != NULL)
        ok = ok && buffer_printf(out, "%sle=\"%s\"", separator, le);
    if (m->label != NULL || le != NULL)
        ok = ok && buffer_append_byte(out, '}');
    return ok && buffer_printf(out, " %s\n", number);
}

static bool put_histogram(struct buffer *out, const struct metric *m)
{
    int64_t below = 0;
    char number[MONEY_TEXT_MAX];
    for (size_t i = 0; i <= BOUNDS; i++) {
        char le[MONEY_TEXT_MAX] = "+Inf";
        if (i < BOUNDS)
            (void)money_format_scaled(bounds_us[i], 6, le);
        below += bucket_read(m, i);
        (void)money_format_scaled(below, 0, number);
        if (!put_sample(out, m, "_bucket", le, number))
            return false;
    }
    char sum[MONEY_TEXT_MAX];
    (void)money_format_scaled(atomic_load_explicit(&m->n, memory_order_relaxed), 6, sum);
    return put_sample(out, m, "_sum", NULL, sum) && put_sample(out, m, "_count", NULL, number);
}

/* Series come by their label's value; only one of a family need have the help. */
static const char *family_help(const struct metric *m)
{
    for (const char *name = m->name; m != NULL && strcmp(m->name, name) == 0; m = m->next) {
        if (m->help != NULL && *m->help != '\0')
            return m->help;
    }
    return "";
}

static bool put_series(struct buffer *out, const struct metric *m, bool new_family)
{
    static const char *const types[] = {
        [METRIC_COUNTER] = "counter",
        [METRIC_GAUGE] = "gauge",
        [METRIC_HISTOGRAM] = "histogram",
    };
    if (new_family &&
        !(buffer_printf(out, "# HELP %s ", m->name) && put_escaped(out, family_help(m), false) &&
          buffer_printf(out, "\n# TYPE %s %s\n", m->name, types[m->type])))
        return false;
    if (m->type == METRIC_HISTOGRAM)
        return put_histogram(out, m);
    char number[MONEY_TEXT_MAX];
    (void)money_format_scaled(metric_value(m), 0, number);
    return put_sample(out, m, "", NULL, number);
}

bool metrics_render(struct buffer *out)
{
    bool ok = true;
    const char *family = "";
    (void)pthread_mutex_lock(&lock);
    for (const struct metric *m = first; m != NULL && ok; m = m->next) {
        ok = put_series(out, m, strcmp(m->name, family) != 0);
        family = m->name;
    }
    (void)pthread_mutex_unlock(&lock);
    return ok;
}
