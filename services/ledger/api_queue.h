/*
 * api_queue: requests on their way from the thread that speaks HTTP to one that answers them, and back.
 * Owns: the requests in it. Refuses: more of them, or more bytes, than it may hold.
 * Threads: one puts and takes what is answered, one takes what waits and answers.
 */
#ifndef SPEND_LEDGER_API_QUEUE_H
#define SPEND_LEDGER_API_QUEUE_H

#include "api_request.h"
#include "base/buffer.h"

struct api_route;

/* What is asked, as it came. */
struct api_ask {
    const struct api_route *route;
    enum api_role role;
    struct strview path;
    struct strview query; /* null: none */
    struct strview body;
};

struct api_job {
    struct api_job *next;
    struct api_ask ask; /* its texts stand behind it */
    int64_t asked_us;   /* clock_mono_us */
    void *asker;        /* the putter's own */
    int status;         /* the answer */
    struct buffer reply;
};

/* Copies path and query; the body, of body_len bytes, is the caller's to write. NULL: no memory. */
struct api_job *api_job_new(const struct api_ask *ask, size_t body_len, char **body) NODISCARD;
void api_job_free(struct api_job *job); /* NULL allowed */
/* An error of ours as the answer: nothing was done. */
void api_job_refuse(struct api_job *job, const char *why);

struct api_queue;

struct api_queue_options {
    size_t jobs_max; /* that wait or are being answered */
    size_t bytes_max;
    int wake_fd;            /* an eventfd: written to when something is answered */
    struct metric *waiting; /* gauge, NULL: none */
};

bool api_queue_new(struct api_queue **out, const struct api_queue_options *options,
                   struct err *err) NODISCARD;
void api_queue_free(struct api_queue *q); /* what is in it as well; NULL allowed */

/* The putter's. false: full, or ended; the job stays the caller's. */
bool api_queue_put(struct api_queue *q, struct api_job *job) NODISCARD;
struct api_job *api_queue_answered(struct api_queue *q); /* all, in order; NULL: none */
/* Nothing more comes: what waits is still taken. NULL allowed. */
void api_queue_end(struct api_queue *q);

/* The answerer's. All that wait, oldest first; NULL: nothing came in this time, or it is over. */
struct api_job *api_queue_take(struct api_queue *q, int64_t wait_us);
bool api_queue_is_over(struct api_queue *q); /* ended, and nothing waits */
void api_queue_answer(struct api_queue *q, struct api_job *job);
/* It answers no more: what waits and what comes is refused. */
void api_queue_leave(struct api_queue *q);

#endif
