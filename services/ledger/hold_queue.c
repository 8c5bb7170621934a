/*
 * hold_queue: requests are merged as what they are, arrays of calls, and the answer's items are dealt out.
 */
#include "hold_queue.h"

#include "api_hold.h"
#include "api_route.h"
#include "api_worker.h"
#include "base/clock.h"
#include "base/json_scan.h"
#include "base/log.h"
#include "base/metrics.h"
#include "hold.h"
#include "pg_session.h"
#include "run/health.h"

#define NAME         "gate"
#define TURN_US      US_PER_SECOND
#define LATE_US      (5 * US_PER_SECOND)
#define LOOP_AGE_US  (120 * US_PER_SECOND) /* a transaction whose COMMIT hangs ends by then */
#define MERGED_BYTES (16 << 20)
#define LEARN_US     (30 * US_PER_SECOND)
#define LOCK_WAIT    "500ms" /* for a row that somebody else has: all that wait stand behind it */

/* Requests that are answered by one transaction. */
struct group {
    struct api_job *job[HOLD_AT_ONCE];
    size_t calls[HOLD_AT_ONCE]; /* beside job */
    size_t count;
};

struct gate_thread {
    struct api_means means;
    struct gate *gate;
    struct api_queue *queue;
    struct api_job *waiting; /* taken from the queue, oldest first */
    struct api_job *alone;   /* those that failed together */
    bool was_alone;          /* whose turn it was last: it alternates */
    bool was_place;          /* .. and so do those that callers wait for with all else */
    struct buffer body;      /* merged */
    struct buffer reply;
    int64_t learn_at_us; /* clock_mono_us */
    struct metric *took, *requests, *late;
};

/* The items of a JSON array without its brackets, and how many there are. */
static bool inside_of(struct strview body, struct strview *inside, size_t *count)
{
    struct json_scan scan;
    struct json_value value;
    struct strview item;
    const char *begin = NULL;
    const char *end = NULL;
    *count = 0;
    json_scan_init(&scan, body, LIMIT_JSON_DEPTH);
    bool ok = json_scan_value(&scan, &value) && value.kind == JSON_KIND_ARRAY;
    while (ok && json_scan_item(&scan, &value)) {
        ok = json_scan_skip(&scan, &value, &item) && value.kind == JSON_KIND_OBJECT;
        begin = begin == NULL ? item.ptr : begin;
        end = item.ptr + item.len;
        (*count)++;
    }
    if (!ok || scan.failed || *count == 0 || !json_scan_end(&scan))
        return false;
    *inside = sv_of_bytes(begin, (size_t)(end - begin));
    return true;
}

static bool is_alike(const struct api_ask *a, const struct api_ask *b)
{
    return a->route == b->route && a->role == b->role && sv_eq(a->path, b->path) && sv_eq(a->query, b->query);
}

/* Appends its calls to the merged body, if they fit. */
static bool join(struct gate_thread *t, struct group *g, struct api_job *job, size_t *sum)
{
    struct strview inside;
    size_t calls;
    if (!inside_of(job->ask.body, &inside, &calls) || *sum + calls > HOLD_AT_ONCE ||
        t->body.len + inside.len + 2 > MERGED_BYTES || !buffer_append_byte(&t->body, *sum == 0 ? '[' : ',') ||
        !buffer_append_sv(&t->body, inside))
        return false;
    *sum += calls;
    g->calls[g->count] = calls;
    g->job[g->count++] = job;
    return true;
}

static bool is_place(const struct api_job *job)
{
    return job->ask.route->handle == api_hold_place;
}

/* The oldest; every second time at least the oldest of those that let a call through. */
static struct api_job *take_first(struct gate_thread *t)
{
    struct api_job **link = &t->waiting;
    while (!t->was_place && *link != NULL && !is_place(*link))
        link = &(*link)->next;
    if (*link == NULL)
        link = &t->waiting;
    struct api_job *first = *link;
    *link = first->next;
    return first;
}

/* The first, and those of its kind until one does not fit. They leave the list. */
static void gather(struct gate_thread *t, struct group *g)
{
    struct api_job *first = take_first(t);
    size_t sum = 0;
    bool fits = true;
    t->was_place = is_place(first);
    g->job[0] = first;
    g->count = 1;
    for (struct api_job **link = &t->waiting; *link != NULL && fits;) {
        struct api_job *job = *link;
        if (!is_alike(&job->ask, &first->ask)) {
            link = &job->next;
            continue;
        }
        if (sum == 0) { /* the first has company: it begins the body */
            buffer_clear(&t->body);
            g->count = 0;
            fits = join(t, g, first, &sum);
            g->count = 1;
        }
        fits = fits && join(t, g, job, &sum);
        if (fits)
            *link = job->next;
    }
}

static void answer(struct gate_thread *t, struct api_job *job)
{
    metric_add(t->requests, 1);
    api_queue_answer(t->queue, job);
}

static void answer_alone(struct gate_thread *t, struct api_job *job)
{
    int64_t began = clock_mono_us();
    job->status = api_worker_answer(&t->means, &job->ask, &job->reply);
    metric_observe_us(t->took, clock_mono_us() - began);
    answer(t, job);
}

/* {"items":[..]}: each request gets as many as it sent calls. */
static bool deal_out(const struct group *g, struct strview reply)
{
    struct json_scan scan;
    struct json_value value;
    struct json_value key;
    struct strview item;
    json_scan_init(&scan, reply, LIMIT_JSON_DEPTH);
    bool ok = json_scan_value(&scan, &value) && value.kind == JSON_KIND_OBJECT &&
              json_scan_member(&scan, &key, &value) && json_scan_text_is(&key, SV_LIT("items"));
    for (size_t i = 0; ok && i < g->count; i++) {
        struct buffer *out = &g->job[i]->reply;
        buffer_clear(out);
        ok = buffer_append_sv(out, SV_LIT("{\"items\":["));
        for (size_t k = 0; ok && k < g->calls[i]; k++)
            ok = json_scan_item(&scan, &value) && json_scan_skip(&scan, &value, &item) &&
                 (k == 0 || buffer_append_byte(out, ',')) && buffer_append_sv(out, item);
        ok = ok && buffer_append_sv(out, SV_LIT("]}"));
        g->job[i]->status = 200;
    }
    return ok;
}

/* false: one of them is not as it should be, or Postgres is not; each is to be tried alone. */
static bool answer_merged(struct gate_thread *t, const struct group *g)
{
    struct api_ask ask = g->job[0]->ask;
    int64_t began = clock_mono_us();
    if (!buffer_append_byte(&t->body, ']'))
        return false;
    ask.body = buffer_view(&t->body);
    int status = api_worker_answer(&t->means, &ask, &t->reply);
    metric_observe_us(t->took, clock_mono_us() - began);
    if (status != 200) /* a row that one of them waits for in vain is not the others' trouble */
        return false;
    bool dealt = deal_out(g, buffer_view(&t->reply));
    for (size_t i = 0; i < g->count; i++) {
        if (!dealt) {
            buffer_clear(&g->job[i]->reply);
            api_job_refuse(g->job[i], "the database did not answer as it should");
        }
        answer(t, g->job[i]);
    }
    return true;
}

/* Its caller has given up by now: it leaves undecided. */
static bool is_late(struct gate_thread *t, struct api_job *job)
{
    if (job->asked_us >= clock_mono_us() - LATE_US)
        return false;
    metric_add(t->late, 1);
    api_job_refuse(job, "the gate is busier than it can bear");
    answer(t, job);
    return true;
}

static void expel(struct gate_thread *t)
{
    struct api_job *next;
    while (t->waiting != NULL) {
        next = t->waiting->next;
        if (!is_late(t, t->waiting))
            break;
        t->waiting = next;
    }
}

static void append(struct api_job **list, struct api_job *jobs)
{
    struct api_job **link = list;
    while (*link != NULL)
        link = &(*link)->next;
    *link = jobs;
}

/* To be tried alone: who comes after them does not wait for one that is locked out. */
static void set_apart(struct gate_thread *t, const struct group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        g->job[i]->next = NULL;
        append(&t->alone, g->job[i]);
    }
}

/* How long replies are: what was known before stays when Postgres does not tell. */
static void learn(struct gate_thread *t)
{
    struct err err = {0};
    int64_t now = clock_mono_us();
    if (now < t->learn_at_us)
        return;
    t->learn_at_us = now + LEARN_US;
    if (!pg_session_ready(t->means.pg, &err) || !gate_learn_outputs(t->gate, t->means.pg, &err))
        log_warn("gate_waits", LOG_ERR(&err), LOG_END);
}

static void turn(struct gate_thread *t)
{
    struct group g;
    learn(t);
    append(&t->waiting, api_queue_take(t->queue, t->waiting == NULL && t->alone == NULL ? TURN_US : 0));
    expel(t);
    t->was_alone = t->alone != NULL && (t->waiting == NULL || !t->was_alone);
    if (t->was_alone) {
        struct api_job *job = t->alone;
        t->alone = job->next;
        t->was_place = is_place(job);
        if (!is_late(t, job))
            answer_alone(t, job);
        return;
    }
    if (t->waiting == NULL)
        return;
    gather(t, &g);
    if (g.count == 1)
        answer_alone(t, g.job[0]);
    else if (!answer_merged(t, &g))
        set_apart(t, &g);
}

static void take_metrics(struct gate_thread *t)
{
    t->took = metric_histogram_us("spend_ledger_gate_seconds",
                                  "Time of the gate's transactions, each for all that waited.", NULL, NULL);
    t->requests =
        metric_counter("spend_ledger_gate_requests_total", "Requests about holds answered.", NULL, NULL);
    t->late = metric_counter("spend_ledger_gate_refused_total",
                             "Requests about holds that the gate did not look at.", "reason", "late");
}

static bool open_all(struct gate_thread *t, const struct hold_queue_options *o, struct err *err)
{
    const struct pg_session_options session = {
        .url = o->database_url,
        .name = "spend-ledger/gate",
        .settings = "SET lock_timeout = '" LOCK_WAIT "'; SET idle_in_transaction_session_timeout = '3s'",
        .sorted_plans = true};
    const struct gate_options gate = {
        .rules = o->rules, .values_max = o->values_max, .output_cap = o->output_cap};
    if (!pg_session_new(&t->means.pg, &session, err) || !gate_new(&t->gate, &gate, err))
        return false;
    const struct hold_options hold = {.pg = t->means.pg, .gate = t->gate, .lifetime_us = o->lifetime_us};
    return hold_new(&t->means.holds, &hold, err);
}

bool hold_queue_run(void *arg, struct err *err)
{
    const struct hold_queue_options *o = arg;
    struct health_loop *health = health_loop_start(NAME, LOOP_AGE_US);
    struct gate_thread t = {.queue = o->queue};
    arena_init(&t.means.arena, API_ARENA_BYTES);
    buffer_init(&t.body, MERGED_BYTES);
    buffer_init(&t.reply, (size_t)API_REPLY_BYTES);
    take_metrics(&t);
    bool ok = open_all(&t, o, err);
    while (ok && (t.waiting != NULL || t.alone != NULL || !api_queue_is_over(t.queue))) {
        health_beat(health);
        turn(&t);
    }
    api_queue_leave(t.queue);
    health_loop_end(health);
    hold_free(t.means.holds);
    gate_free(t.gate);
    pg_session_free(t.means.pg);
    arena_free(&t.means.arena);
    buffer_free(&t.body);
    buffer_free(&t.reply);
    return ok;
}
