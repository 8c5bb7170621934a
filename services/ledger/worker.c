/*
 * worker: pthread and what its end means.
 */
#include "worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "run/lifecycle.h"
#include <pthread.h>
#include <stdlib.h>

#define BACK_OFF_FIRST_US  100000
#define BACK_OFF_DOUBLINGS 6 /* to 6.4 s, cut at the longest */
#define BACK_OFF_MOST_US   (5 * US_PER_SECOND)

struct worker {
    const char *name;
    worker_fn *run;
    void *arg;
    pthread_t thread;
    bool ok;
};

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct err err = {0};
    w->ok = w->run(w->arg, &err);
    if (!w->ok) {
        log_error("worker_failed", LOG_STR("worker", w->name), LOG_STR("code", err_code_name(err.code)),
                  LOG_ERR(&err), LOG_END);
        lifecycle_stop();
    }
    return NULL;
}

bool worker_start(struct worker **out, const char *name, worker_fn *run, void *arg, struct err *err)
{
    struct worker *w = calloc(1, sizeof *w);
    if (w == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "worker: out of memory");
    *w = (struct worker){.name = name, .run = run, .arg = arg};
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
        free(w);
        return err_set(err, ERR_IO, FATE_FATAL, "worker %s: no thread", name);
    }
    *out = w;
    return true;
}

bool worker_join(struct worker *w)
{
    if (w == NULL)
        return true;
    pthread_join(w->thread, NULL);
    bool ok = w->ok;
    free(w);
    return ok;
}

bool worker_back_off(int *tries)
{
    int doublings = *tries < BACK_OFF_DOUBLINGS ? *tries : BACK_OFF_DOUBLINGS;
    int64_t wait_us = (int64_t)BACK_OFF_FIRST_US << doublings;
    (*tries)++;
    return !lifecycle_wait_us(wait_us < BACK_OFF_MOST_US ? wait_us : BACK_OFF_MOST_US);
}
