#include "watch_loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "pg_query.h"
#include "run/health.h"
#include "run/lifecycle.h"
#include "worker.h"

#define NAME         "watch"
#define LOOP_AGE_US  (60 * US_PER_SECOND)
#define ROLL_AT_ONCE 1000 /* windows, or holds, a transaction */
#define TICKS_MISSED 3    /* by every ledger: they were away, or Postgres was */
#define OUTPUT_US    (300 * US_PER_SECOND)
#define OUTPUT_SHARE 20 /* of the time: a database that is slow to tell is asked less often */

/* What a dead ingest left behind, and a lost disk. All ledgers may be at it: one does it. */
static bool sweep(struct pg_session *pg, const struct watch_loop_options *o, int64_t *expired, bool *more,
                  struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = pg_session_ready(pg, err) && pg_query(pg, "SELECT expired, more FROM hold_sweep($1, $2, $3)",
                                                    PG_ARGS(PG_I32(ROLL_AT_ONCE), PG_I64(o->hold_lifetime_us),
                                                            PG_I64(TICKS_MISSED * o->tick_us)),
                                                    &rows, err);
    *expired = ok ? pg_get_i64(rows, 0, 0) : 0;
    *more = ok && pg_get_bool(rows, 0, 1);
    pg_rows_free(rows);
    rows = NULL;
    ok = ok && pg_query(pg, "SELECT hold_sweep_captured($1)", PG_ARGS(PG_I32(ROLL_AT_ONCE)), &rows, err);
    *more = *more || (ok && pg_get_i64(rows, 0, 0) == ROLL_AT_ONCE);
    pg_rows_free(rows);
    return ok;
}

/* More than one that roll at once would only wait for each other. *rolled: none when another ledger is at it.
 */
static bool roll(struct pg_session *pg, int64_t *rolled, struct err *err)
{
    static const char sql[] = "SELECT CASE WHEN pg_try_advisory_xact_lock($1)"
                              " THEN (SELECT count(*) FROM window_roll($2)) ELSE 0 END";
    struct pg_rows *rows = NULL;
    bool ok = pg_session_ready(pg, err) &&
              pg_query(pg, sql, PG_ARGS(PG_I64(PG_LOCK_WATCH), PG_I32(ROLL_AT_ONCE)), &rows, err);
    *rolled = ok ? pg_get_i64(rows, 0, 0) : 0;
    pg_rows_free(rows);
    return ok;
}

/* A day of calls is read, in at most 10 s: windows and holds wait meanwhile. When it is too much, what was
 * known stays, for a day. *at_us: when to do it again. */
static void tell_outputs(struct pg_session *pg, int64_t *at_us)
{
    struct err err = {0};
    struct pg_fields args;
    int64_t began = clock_mono_us();
    if (began < *at_us)
        return;
    pg_fields_init(&args);
    pg_put_i64(&args, PG_LOCK_WATCH);
    pg_put_i64(&args, OUTPUT_US);
    struct pg_step steps[] = {{.sql = PG_BEGIN},
                              {.sql = "SET LOCAL statement_timeout = '10s'"},
                              {.sql = "SELECT model_output_refresh($1, $2)", .args = &args},
                              {.sql = PG_COMMIT}};
    if (!pg_session_ready(pg, &err) || !pg_session_run(pg, steps, 4, &err))
        log_warn("model_output_unknown", LOG_ERR(&err), LOG_END);
    pg_session_rollback(pg);
    pg_steps_free(steps, 4);
    pg_fields_free(&args);
    int64_t took = clock_mono_us() - began;
    *at_us = began + (took * OUTPUT_SHARE > OUTPUT_US ? took * OUTPUT_SHARE : OUTPUT_US);
}

bool watch_loop_run(void *arg, struct err *err)
{
    const struct watch_loop_options *o = arg;
    const struct pg_session_options session = {.url = o->database_url, .name = "spend-ledger/" NAME};
    struct health_loop *health = health_loop_start(NAME, LOOP_AGE_US + o->tick_us);
    struct metric *opened = metric_counter("spend_ledger_windows_rolled_total",
                                           "windows opened because they were due", NULL, NULL);
    struct metric *expired = metric_counter("spend_ledger_holds_expired_total",
                                            "holds that nobody renewed: their ingest is gone", NULL, NULL);
    struct pg_session *pg = NULL;
    int64_t outputs_at_us = 0;
    int tries = 0;
    bool ok = pg_session_new(&pg, &session, err);
    while (ok && !lifecycle_is_stopping()) {
        int64_t rolled = 0;
        int64_t swept = 0;
        bool more = false;
        struct err why = {0};
        health_beat(health);
        bool is_swept = sweep(pg, o, &swept, &more, err); /* a hold that cannot end keeps no window closed */
        bool is_rolled = roll(pg, &rolled, is_swept ? err : &why);
        metric_add(opened, rolled);
        metric_add(expired, swept);
        if (is_swept && is_rolled) {
            tries = 0;
            health_ready(NAME, true, NULL);
            tell_outputs(pg, &outputs_at_us);
            if (rolled < ROLL_AT_ONCE && !more)
                (void)lifecycle_wait_us(o->tick_us);
            continue;
        }
        health_ready(NAME, false, err->text);
        log_warn("watch_waits", LOG_ERR(err), LOG_END);
        ok = err->fate == FATE_RETRY;
        (void)worker_back_off(&tries);
    }
    pg_session_free(pg);
    health_ready(NAME, false, "stopped");
    health_loop_end(health);
    return ok;
}
