#include "api_worker.h"

#include "api_route.h"
#include "base/clock.h"
#include "pg_session.h"
#include "price_store.h"
#include "run/health.h"

#define NAME        "api_worker"
#define TURN_US     US_PER_SECOND
#define LOOP_AGE_US (60 * US_PER_SECOND) /* a price file's import takes a second or two */

int api_worker_answer(struct api_means *means, const struct api_ask *ask, struct buffer *reply)
{
    struct err err = {0};
    struct api_request r = {
        .method = ask->route->method,
        .role = ask->role,
        .body = ask->body,
        .fact = ask->route->fact,
        .arena = &means->arena,
        .pg = means->pg,
        .prices = means->prices,
        .holds = means->holds,
        .config_lead_us = means->config_lead_us,
        .status = 200,
        .reply = reply,
    };
    arena_reset(&means->arena);
    buffer_clear(reply);
    json_write_init(&r.json, reply);
    if (api_route_find(&r, ask->path) != ask->route || !api_query_read(&r, ask->query))
        return r.status;
    bool ok = pg_session_ready(r.pg, &err) && ask->route->handle(&r, &err);
    if (ok && !json_write_ok(&r.json))
        ok = err_set(&err, ERR_FULL, FATE_FATAL, "api: the reply does not fit %lld bytes", API_REPLY_BYTES);
    /* a refusal in mid-transaction leaves nothing behind */
    pg_session_rollback(r.pg);
    if (!ok && !r.refused)
        api_fail(&r, &err);
    return r.status;
}

bool api_worker_run(void *arg, struct err *err)
{
    const struct api_worker_options *o = arg;
    const struct pg_session_options session = {.url = o->database_url, .name = "spend-ledger/api"};
    struct health_loop *health = health_loop_start(NAME, LOOP_AGE_US);
    struct api_means means = {.config_lead_us = o->config_lead_us};
    arena_init(&means.arena, API_ARENA_BYTES);
    bool ok = pg_session_new(&means.pg, &session, err) && price_store_new(&means.prices, err);
    while (ok && !api_queue_is_over(o->queue)) {
        struct api_job *job = api_queue_take(o->queue, TURN_US);
        health_beat(health);
        while (job != NULL) {
            struct api_job *next = job->next;
            job->status = api_worker_answer(&means, &job->ask, &job->reply);
            health_beat(health);
            api_queue_answer(o->queue, job);
            job = next;
        }
    }
    api_queue_leave(o->queue);
    health_loop_end(health);
    price_store_free(means.prices);
    pg_session_free(means.pg);
    arena_free(&means.arena);
    return ok;
}
