/*
 * api_queue: two lists under one lock, a condition one way and an eventfd the other.
 */
#include "api_queue.h"

#include "base/clock.h"
#include "base/metrics.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

struct job_list {
    struct api_job *first;
    struct api_job **end;
};

struct api_queue {
    struct api_queue_options options;
    pthread_mutex_t lock;
    pthread_cond_t came;
    struct job_list waiting;
    struct job_list answered;
    size_t jobs; /* waiting or being answered */
    size_t bytes;
    bool ended;
    bool left; /* nobody answers */
};

static void list_clear(struct job_list *l)
{
    l->first = NULL;
    l->end = &l->first;
}

static void list_add(struct job_list *l, struct api_job *job)
{
    job->next = NULL;
    *l->end = job;
    l->end = &job->next;
}

static struct api_job *list_take(struct job_list *l)
{
    struct api_job *first = l->first;
    list_clear(l);
    return first;
}

static char *put_text(char *at, struct strview text, struct strview *out)
{
    *out = text;
    if (sv_is_null(text))
        return at;
    if (text.len > 0)
        memcpy(at, text.ptr, text.len);
    out->ptr = at;
    return at + text.len;
}

struct api_job *api_job_new(const struct api_ask *ask, size_t body_len, char **body)
{
    struct api_job *job = malloc(sizeof *job + ask->path.len + ask->query.len + body_len + 1);
    if (job == NULL)
        return NULL;
    *job = (struct api_job){.ask = *ask, .asked_us = clock_mono_us(), .status = 200};
    buffer_init(&job->reply, (size_t)API_REPLY_BYTES);
    char *at = (char *)(job + 1);
    at = put_text(at, ask->path, &job->ask.path);
    at = put_text(at, ask->query, &job->ask.query);
    job->ask.body = sv_of_bytes(at, body_len);
    *body = at;
    return job;
}

void api_job_free(struct api_job *job)
{
    if (job == NULL)
        return;
    buffer_free(&job->reply);
    free(job);
}

void api_job_refuse(struct api_job *job, const char *why)
{
    struct api_request r = {.reply = &job->reply};
    (void)api_refuse(&r, 503, "unavailable", "send the same request again in a moment", "%s", why);
    job->status = r.status;
}

bool api_queue_new(struct api_queue **out, const struct api_queue_options *options, struct err *err)
{
    pthread_condattr_t attributes;
    struct api_queue *q = calloc(1, sizeof *q);
    if (q == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "api: out of memory");
    q->options = *options;
    list_clear(&q->waiting);
    list_clear(&q->answered);
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&q->came, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = q;
    return true;
}

static void free_all(struct api_job *job)
{
    while (job != NULL) {
        struct api_job *next = job->next;
        api_job_free(job);
        job = next;
    }
}

void api_queue_free(struct api_queue *q)
{
    if (q == NULL)
        return;
    free_all(q->waiting.first);
    free_all(q->answered.first);
    pthread_cond_destroy(&q->came);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

static void tell_length(const struct api_queue *q)
{
    if (q->options.waiting != NULL)
        metric_set(q->options.waiting, (int64_t)q->jobs);
}

bool api_queue_put(struct api_queue *q, struct api_job *job)
{
    size_t bytes = job->ask.body.len;
    pthread_mutex_lock(&q->lock);
    bool fits = !q->ended && !q->left && q->jobs < q->options.jobs_max &&
                (q->jobs == 0 || q->bytes + bytes <= q->options.bytes_max);
    if (fits) {
        list_add(&q->waiting, job);
        q->jobs++;
        q->bytes += bytes;
        tell_length(q);
        pthread_cond_signal(&q->came);
    }
    pthread_mutex_unlock(&q->lock);
    return fits;
}

struct api_job *api_queue_answered(struct api_queue *q)
{
    pthread_mutex_lock(&q->lock);
    struct api_job *all = list_take(&q->answered);
    pthread_mutex_unlock(&q->lock);
    return all;
}

void api_queue_end(struct api_queue *q)
{
    if (q == NULL)
        return;
    pthread_mutex_lock(&q->lock);
    q->ended = true;
    pthread_cond_signal(&q->came);
    pthread_mutex_unlock(&q->lock);
}

struct api_job *api_queue_take(struct api_queue *q, int64_t wait_us)
{
    int64_t until = clock_mono_us() + wait_us;
    const struct timespec end = {.tv_sec = until / US_PER_SECOND, .tv_nsec = until % US_PER_SECOND * 1000};
    pthread_mutex_lock(&q->lock);
    while (q->waiting.first == NULL && !q->ended && pthread_cond_timedwait(&q->came, &q->lock, &end) == 0)
        continue;
    struct api_job *all = list_take(&q->waiting);
    pthread_mutex_unlock(&q->lock);
    return all;
}

bool api_queue_is_over(struct api_queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool over = q->ended && q->waiting.first == NULL;
    pthread_mutex_unlock(&q->lock);
    return over;
}

/* Under the lock. */
static void answer(struct api_queue *q, struct api_job *job)
{
    q->jobs--;
    q->bytes -= job->ask.body.len;
    list_add(&q->answered, job);
    tell_length(q);
}

void api_queue_answer(struct api_queue *q, struct api_job *job)
{
    pthread_mutex_lock(&q->lock);
    answer(q, job);
    pthread_mutex_unlock(&q->lock);
    (void)eventfd_write(q->options.wake_fd, 1);
}

void api_queue_leave(struct api_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->left = true;
    for (struct api_job *job = list_take(&q->waiting), *next; job != NULL; job = next) {
        next = job->next;
        api_job_refuse(job, "the ledger is stopping");
        answer(q, job);
    }
    pthread_mutex_unlock(&q->lock);
    (void)eventfd_write(q->options.wake_fd, 1);
}
