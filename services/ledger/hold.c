/*
 * hold: renewed, captured, voided: SQL functions (migrations/0005_holds.sql), but for what a capture costs,
 * which is rated here.
 */
#include "hold_inside.h"

#include "base/clock.h"
#include "base/money.h"
#include "pg_query.h"

#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES    (64LL << 20)
#define AHEAD_US       (30 * US_PER_SECOND)
#define BLOCKING_BYTES (1 << 20)

static const char *const state_names[HOLD_STATES] = {"placed",  "captured", "settled", "voided", "refused",
                                                     "expired", "observed", "busy",    "unknown"};

const char *hold_state_name(enum hold_state state)
{
    return state_names[state];
}

enum hold_state hold_state_of(struct strview name)
{
    for (int i = 0; i < HOLD_STATES; i++)
        if (sv_eq(name, sv_of(state_names[i])))
            return (enum hold_state)i;
    return HOLD_UNKNOWN;
}

bool hold_new(struct hold **out, const struct hold_options *options, struct err *err)
{
    struct hold *h = calloc(1, sizeof *h);
    const char *name = "spend_ledger_holds_total";
    const char *help = "calls at the gate, by what was answered";
    if (h == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "hold: out of memory");
    h->options = *options;
    arena_init(&h->arena, ARENA_BYTES);
    buffer_init(&h->text, BLOCKING_BYTES);
    h->placed = metric_counter(name, help, "result", "placed");
    h->forced = metric_counter(name, help, "result", "forced");
    h->observed = metric_counter(name, help, "result", "observed");
    h->refused = metric_counter(name, help, "result", "refused");
    h->repeats = metric_counter(name, help, "result", "repeat");
    h->busy = metric_counter(name, help, "result", "busy");
    h->captured = metric_counter(name, help, "result", "captured");
    h->voided = metric_counter(name, help, "result", "voided");
    h->unpriced =
        metric_counter("spend_ledger_holds_unpriced_total",
                       "calls let through that nothing could be held for, for lack of a price", NULL, NULL);
    *out = h;
    return true;
}

void hold_free(struct hold *h)
{
    if (h == NULL)
        return;
    arena_free(&h->arena);
    buffer_free(&h->text);
    free(h);
}

bool hold_open(struct hold *h, struct err *err)
{
    struct pg_session *pg = h->options.pg;
    return (pg_session_is_sent(pg) || pg_session_ready(pg, err)) &&
           (gate_version(h->options.gate) != 0 || gate_refresh(h->options.gate, pg, err));
}

static bool send_clock(struct hold *h, bool begin, struct err *err)
{
    static const char clock_sql[] = "SELECT greatest(clock_timestamp(), changed_at, watermark), version, "
                                    "clock_timestamp() FROM config_version";
    h->clock[0] = (struct pg_step){.sql = PG_BEGIN};
    h->clock[1] = (struct pg_step){.sql = clock_sql};
    return pg_session_send(h->options.pg, &h->clock[begin ? 0 : 1], begin ? 2 : 1, err);
}

void hold_ahead(struct hold *h)
{
    struct err why = {0}; /* said when it is tried again */
    if (gate_version(h->options.gate) != 0 && pg_session_ready(h->options.pg, &why))
        (void)send_clock(h, true, &why);
}

bool hold_clock(struct hold *h, bool begin, int64_t *at, struct err *err)
{
    struct pg_session *pg = h->options.pg;
    const struct pg_step *clock = &h->clock[1];
    bool ok = (pg_session_is_sent(pg) || send_clock(h, begin, err)) &&
              pg_session_collect(pg, &h->clock[begin ? 0 : 1], begin ? 2 : 1, err);
    if (ok) {
        *at = pg_get_time(clock->rows, 0, 0);
        /* a record from so far ahead would be taken by nobody, and its hold would stay */
        if (*at - pg_get_time(clock->rows, 0, 2) > AHEAD_US)
            ok = err_set(err, ERR_STATE, FATE_RETRY, "Postgres's clock is behind the configuration's");
    }
    if (ok) {
        ok = pg_get_i64(clock->rows, 0, 1) == gate_version(h->options.gate) ||
             gate_refresh(h->options.gate, pg, err);
    }
    pg_steps_free(h->clock, 2);
    return ok;
}

/* (call_id, state) rows to the answers. */
static void take_states(const struct pg_rows *rows, struct hold_end *calls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        calls[i].state = HOLD_UNKNOWN;
    for (size_t row = 0; row < pg_rows_count(rows); row++) {
        struct uuid id = pg_get_uuid(rows, row, 0);
        for (size_t i = 0; i < count; i++)
            if (uuid_cmp(&id, &calls[i].call_id) == 0)
                calls[i].state = hold_state_of(pg_get(rows, row, 1));
    }
}

/* lifetime_us: the statement's second parameter; 0: it has none. */
static bool end_calls(struct hold *h, const char *sql, int64_t lifetime_us, struct hold_end *calls,
                      size_t count, struct err *err)
{
    struct uuid id[HOLD_AT_ONCE];
    struct pg_rows *rows = NULL;
    struct pg_fields args;
    for (size_t i = 0; i < count; i++)
        id[i] = calls[i].call_id;
    pg_fields_init(&args);
    pg_put_uuid_array(&args, id, count);
    if (lifetime_us > 0)
        pg_put_i64(&args, lifetime_us);
    bool ok = pg_session_ready(h->options.pg, err) && pg_session_query(h->options.pg, sql, &args, &rows, err);
    if (ok)
        take_states(rows, calls, count);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

bool hold_renew(struct hold *h, struct hold_end *calls, size_t count, struct err *err)
{
    return end_calls(h, "SELECT call_id, state FROM hold_renew($1, $2)", h->options.lifetime_us, calls, count,
                     err);
}

bool hold_void(struct hold *h, struct hold_end *calls, size_t count, struct err *err)
{
    if (!end_calls(h, "SELECT call_id, state FROM hold_void($1)", 0, calls, count, err))
        return false;
    metric_add(h->voided, (int64_t)count);
    return true;
}

/* Those before the last of one id are answered as it is. */
static void share_states(struct hold_capture *captures, size_t count)
{
    for (size_t i = count; i-- > 0;)
        for (size_t k = i; k-- > 0;)
            if (uuid_cmp(&captures[i].call.call_id, &captures[k].call.call_id) == 0)
                captures[k].state = captures[i].state;
}

/* What a captured call holds from now on. What nothing prices keeps what was placed. */
static bool amend(struct hold *h, const struct pg_rows *rows, struct hold_capture *captures, size_t count,
                  struct pg_fields *args, struct err *err)
{
    struct uuid id[HOLD_AT_ONCE];
    int64_t raw[HOLD_AT_ONCE];
    int64_t billed[HOLD_AT_ONCE];
    size_t n = 0;
    for (size_t row = 0; row < pg_rows_count(rows); row++) {
        struct uuid there = pg_get_uuid(rows, row, 0);
        enum hold_state state = hold_state_of(pg_get(rows, row, 1));
        struct hold_capture *c = NULL;
        for (size_t i = 0; i < count; i++)
            if (uuid_cmp(&there, &captures[i].call.call_id) == 0)
                c = &captures[i]; /* the last of one id counts */
        if (c == NULL)
            continue;
        c->state = state;
        if (state != HOLD_PLACED && state != HOLD_CAPTURED)
            continue;
        bool priced;
        c->call.admitted_at = c->call.received_at = pg_get_time(rows, row, 2);
        bool known = gate_rate(h->options.gate, &c->call, &priced, &raw[n], err);
        if (!known && err->code != ERR_OVERFLOW)
            return false;
        if (!known) /* no usage that is true costs that much */
            err_clear(err);
        if (!known || !priced || !money_mark_up(raw[n], pg_get_i64(rows, row, 4), &billed[n])) {
            raw[n] = pg_get_i64(rows, row, 3);
            billed[n] = pg_get_i64(rows, row, 5);
        }
        raw[n] = raw[n] < HOLD_MOST ? raw[n] : HOLD_MOST;
        billed[n] = billed[n] < HOLD_MOST ? billed[n] : HOLD_MOST;
        c->state = HOLD_CAPTURED;
        id[n++] = there;
    }
    share_states(captures, count);
    pg_put_uuid_array(args, id, n);
    pg_put_i64_array(args, raw, n);
    pg_put_i64_array(args, billed, n);
    return true;
}

bool hold_capture(struct hold *h, struct hold_capture *captures, size_t count, struct err *err)
{
    /* a capture that overtakes its place leaves a tombstone: the call is over */
    static const char tombstone_sql[] =
        "INSERT INTO hold (call_id, state, admitted_at, expires_at) SELECT x, 'voided', clock_timestamp(),"
        " clock_timestamp() FROM unnest($1::uuid[]) AS x WHERE NOT EXISTS (SELECT FROM call AS c"
        " WHERE c.call_id = x AND " HOLD_SETTLED_SQL ") ORDER BY x ON CONFLICT DO NOTHING";
    static const char standing_sql[] =
        "SELECT h.call_id, CASE WHEN c.call_id IS NULL THEN h.state ELSE 'settled' END, h.admitted_at,"
        " h.raw_nanos, h.markup_ppm, h.billed_nanos FROM hold AS h LEFT JOIN call AS c ON c.call_id = "
        "h.call_id AND " HOLD_SETTLED_SQL
        " WHERE h.call_id = ANY ($1::uuid[]) ORDER BY h.call_id FOR UPDATE OF h";
    struct uuid id[HOLD_AT_ONCE];
    struct pg_session *pg = h->options.pg;
    struct pg_fields ids;
    struct pg_fields args;
    for (size_t i = 0; i < count; i++) {
        id[i] = captures[i].call.call_id;
        captures[i].state = HOLD_SETTLED; /* its row is gone: the bill took it */
    }
    pg_fields_init(&ids);
    pg_fields_init(&args);
    pg_put_uuid_array(&ids, id, count);
    struct pg_step read[] = {
        {.sql = PG_BEGIN}, {.sql = tombstone_sql, .args = &ids}, {.sql = standing_sql, .args = &ids}};
    struct pg_step put[] = {{.sql = "SELECT hold_amend($1, $2, $3)", .args = &args}, {.sql = PG_COMMIT}};
    bool ok = pg_session_ready(pg, err) && gate_refresh(h->options.gate, pg, err) &&
              pg_session_run(pg, read, 3, err) && amend(h, read[2].rows, captures, count, &args, err) &&
              pg_session_run(pg, put, 2, err);
    if (ok)
        metric_add(h->captured, (int64_t)count);
    else
        pg_session_rollback(pg);
    pg_steps_free(read, 3);
    pg_steps_free(put, 2);
    pg_fields_free(&ids);
    pg_fields_free(&args);
    return ok;
}
