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
#include <sys/mman.h>

#define SERIES_MAX      4096 /* more means that a label is not bounded */
#define LABEL_VALUE_MAX 128
#define SHELF_BYTES     (4U << 20) /* of address space; memory only for what is used */

static const int64_t bounds_us[] = {
    100,    200,    500,     1000,    2000,    5000,     10000,    20000,    50000,     100000,
    200000, 500000, 1000000, 2000000, 5000000, 10000000, 20000000, 50000000, 100000000,
};

#define BOUNDS (sizeof bounds_us / sizeof bounds_us[0])

struct metric {
    _Atomic(struct metric *) next;
    const char *name;
    const char *help;
    const char *label; /* NULL: none */
    const char *value;
    enum metric_type type;
    _Atomic int64_t n;                  /* a histogram's sum of microseconds */
    _Atomic int64_t bucket[BOUNDS + 1]; /* not cumulative; the last is +Inf. Used by histograms only */
};

/* The series of one process: on the heap, or where the processes forked from one see each other's. */
struct shelf {
    _Atomic(struct metric *) first;
    size_t count;
    char worker[12]; /* the label's value; "" none */
    size_t used;     /* bytes of this shelf, itself included; 0: the heap */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shelf own;
static struct shelf *mine = &own;
static char *shared;
static size_t shared_count;

static struct shelf *shelf_of(size_t i)
{
    void *at = shared + i * SHELF_BYTES;
    return at;
}

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

static void *room_take(size_t size, const char *name)
{
    void *out = NULL;
    if (mine->used == 0)
        out = calloc(1, size);
    else if (size <= SHELF_BYTES - mine->used)
        out = (char *)mine + mine->used;
    must(out != NULL, name, "out of memory");
    if (mine->used > 0)
        mine->used += (size + 15) / 16 * 16;
    return out;
}

static char *copy(const char *text)
{
    if (text == NULL)
        return NULL;
    size_t size = strlen(text) + 1;
    return memcpy(room_take(size, text), text, size);
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
    _Atomic(struct metric *) *at = &mine->first; /* where it stands or belongs */
    for (struct metric *m; (m = *at) != NULL; at = &m->next) {
        bool same_name = strcmp(m->name, name) == 0;
        must(!same_name || same_family(m, type, label), name, "registered before with another type or label");
        int order = order_of(m, name, value);
        if (order == 0)
            return m;
        if (order > 0)
            break;
    }
    must(mine->count < SERIES_MAX, name, "too many series");
    struct metric *m = room_take(sizeof *m, name);
    m->name = copy(name);
    m->help = copy(help);
    m->label = copy(label);
    m->value = copy(value);
    m->type = type;
    atomic_store(&m->next, *at);
    atomic_store(at, m); /* whole: others read without our lock */
    mine->count++;
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

/* One label; *separator is what stands before the next. */
static bool put_label(struct buffer *out, const char **separator, const char *label, const char *value)
{
    bool ok = buffer_printf(out, "%s%s=\"", *separator, label) && put_escaped(out, value, true) &&
              buffer_append_byte(out, '"');
    *separator = ",";
    return ok;
}

/* name_suffix{worker="n",label="value",le="bound"} number */
static bool put_sample(struct buffer *out, const struct metric *m, const char *worker, const char *suffix,
                       const char *le, const char *number)
{
    const char *separator = "{";
    bool ok = buffer_printf(out, "%s%s", m->name, suffix) &&
              (worker[0] == '\0' || put_label(out, &separator, "worker", worker)) &&
              (m->label == NULL || put_label(out, &separator, m->label, m->value)) &&
              (le == NULL || put_label(out, &separator, "le", le)) &&
              (separator[0] == '{' || buffer_append_byte(out, '}'));
    return ok && buffer_printf(out, " %s\n", number);
}

static bool put_histogram(struct buffer *out, const struct metric *m, const char *worker)
{
    int64_t below = 0;
    char number[MONEY_TEXT_MAX];
    for (size_t i = 0; i <= BOUNDS; i++) {
        char le[MONEY_TEXT_MAX] = "+Inf";
        if (i < BOUNDS)
            (void)money_format_scaled(bounds_us[i], 6, le);
        below += bucket_read(m, i);
        (void)money_format_scaled(below, 0, number);
        if (!put_sample(out, m, worker, "_bucket", le, number))
            return false;
    }
    char sum[MONEY_TEXT_MAX];
    (void)money_format_scaled(atomic_load_explicit(&m->n, memory_order_relaxed), 6, sum);
    return put_sample(out, m, worker, "_sum", NULL, sum) &&
           put_sample(out, m, worker, "_count", NULL, number);
}

/* All lists of series, each sorted by name, and whose they are. */
struct lists {
    const struct metric *at[METRICS_SHARED_MAX + 1];
    const char *worker[METRICS_SHARED_MAX + 1];
    size_t count;
};

static void list_add(struct lists *l, const struct shelf *s)
{
    l->at[l->count] = atomic_load(&s->first);
    l->worker[l->count++] = s->worker;
}

/* The lowest name that is still to come; NULL at the end. */
static const struct metric *family_next(const struct lists *l)
{
    const struct metric *lowest = NULL;
    for (size_t i = 0; i < l->count; i++) {
        const struct metric *m = l->at[i];
        if (m != NULL && (lowest == NULL || strcmp(m->name, lowest->name) < 0))
            lowest = m;
    }
    return lowest;
}

/* Series come by their label's value; only one of a family need have the help. */
static const char *family_help(const struct lists *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++) {
        for (const struct metric *m = l->at[i]; m != NULL && strcmp(m->name, name) == 0; m = m->next) {
            if (m->help != NULL && *m->help != '\0')
                return m->help;
        }
    }
    return "";
}

static bool put_series(struct buffer *out, const struct metric *m, const char *worker)
{
    if (m->type == METRIC_HISTOGRAM)
        return put_histogram(out, m, worker);
    char number[MONEY_TEXT_MAX];
    (void)money_format_scaled(metric_value(m), 0, number);
    return put_sample(out, m, worker, "", NULL, number);
}

static bool put_family(struct buffer *out, struct lists *l, const struct metric *of)
{
    static const char *const types[] = {
        [METRIC_COUNTER] = "counter",
        [METRIC_GAUGE] = "gauge",
        [METRIC_HISTOGRAM] = "histogram",
    };
    const char *name = of->name;
    bool ok = buffer_printf(out, "# HELP %s ", name) && put_escaped(out, family_help(l, name), false) &&
              buffer_printf(out, "\n# TYPE %s %s\n", name, types[of->type]);
    for (size_t i = 0; i < l->count; i++) {
        for (; ok && l->at[i] != NULL && strcmp(l->at[i]->name, name) == 0; l->at[i] = l->at[i]->next)
            ok = put_series(out, l->at[i], l->worker[i]);
    }
    return ok;
}

bool metrics_render(struct buffer *out)
{
    bool ok = true;
    struct lists l;
    l.count = 0;
    (void)pthread_mutex_lock(&lock);
    list_add(&l, &own);
    for (size_t i = 0; i < shared_count; i++)
        list_add(&l, shelf_of(i));
    for (const struct metric *m; ok && (m = family_next(&l)) != NULL;)
        ok = put_family(out, &l, m);
    (void)pthread_mutex_unlock(&lock);
    return ok;
}

bool metrics_share(size_t count, struct err *err)
{
    assert(shared == NULL && count <= METRICS_SHARED_MAX);
    void *map = mmap(NULL, count * SHELF_BYTES, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "metrics: no shared memory");
    shared = map;
    shared_count = count;
    for (size_t i = 0; i < count; i++)
        shelf_of(i)->used = (sizeof(struct shelf) + 15) / 16 * 16;
    return true;
}

void metrics_enter(size_t i, const char *worker)
{
    mine = shelf_of(i);
    (void)snprintf(mine->worker, sizeof mine->worker, "%s", worker);
}

void metrics_left(size_t i)
{
    for (struct metric *m = shelf_of(i)->first; m != NULL; m = m->next) {
        if (m->type == METRIC_GAUGE)
            atomic_store_explicit(&m->n, 0, memory_order_relaxed);
    }
}
