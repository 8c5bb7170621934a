/*
 * publish_set: statements on outbox, publisher and entry, and on the tables of budgets.
 */
#include "publish_set.h"

#include "pg_query.h"

#define SET_RECORDS 20000 /* aimed at: a Kafka transaction has 10 s */
#define SET_ROWS    1000  /* of outbox: size_sql's LIMIT */

static const char oldest_sql[] =
    "SELECT coalesce(min(pub_seq), 0), (SELECT pub_seq FROM publisher) FROM outbox "
    "WHERE pub_seq IS NOT NULL";
static const char size_sql[] =
    "SELECT id, greatest(1, coalesce((SELECT sum(n) FROM unnest(counts) AS n), 0) + "
    "coalesce(cardinality(windows), 0))::bigint, num_nonnulls(accounts, topic) = 0 FROM outbox "
    "WHERE pub_seq IS NULL ORDER BY id LIMIT 1000";
static const char number_sql[] = "UPDATE publisher SET pub_seq = pub_seq + 1 RETURNING pub_seq";
static const char assign_sql[] = "UPDATE outbox SET pub_seq = (SELECT pub_seq FROM publisher) "
                                 "WHERE pub_seq IS NULL AND id <= $1";
static const char letters_sql[] = "SELECT topic, key, value, ce_id, ce_time FROM outbox "
                                  "WHERE pub_seq = $1 AND topic IS NOT NULL ORDER BY id";
static const char ranges_sql[] =
    "SELECT sum(n)::bigint FROM outbox, unnest(counts) AS n WHERE pub_seq = $1 AND accounts IS NOT NULL";
/* OFFSET 0 keeps the ranges together; each is one index range of entry */
static const char entries_sql[] =
    "SELECT a.account_id, e.account_seq, e.kind, e.amount_nanos, e.balance_after_nanos, e.call_id, "
    "e.external_id, "
    "e.task, e.conversation, e.model, e.raw_nanos, e.markup_ppm, e.price_version, e.revision, e.admitted_at, "
    "e.posted_at, e.cause FROM (SELECT r.* FROM outbox AS o, unnest(o.accounts, o.first_seqs, o.counts) "
    "AS r (account, first_seq, n) WHERE o.pub_seq = $1 OFFSET 0) AS r JOIN account AS a ON a.id = r.account "
    "JOIN entry AS e ON e.account_id = r.account AND e.account_seq >= r.first_seq AND e.account_seq < "
    "r.first_seq + r.n "
    "ORDER BY e.account_id, e.account_seq";
/* A revision that is no longer in force has nothing more to say. The subqueries and the order by id keep the
 * planner from a sequential scan: what is switched off costs so much that all ways look alike. */
static const char budgets_sql[] =
    "SELECT b.budget_id, r.scope, w.value, w.revision, w.window_start, nullif(w.window_end, 'infinity'), "
    "w.version, b.limit_nanos, r.measure, b.hard, w.spent_nanos, w.held_nanos, now(), "
    "w.thresholds_crossed[cardinality(w.thresholds_crossed)] "
    "FROM (SELECT DISTINCT v.newest FROM (SELECT DISTINCT unnest(o.windows) AS id FROM (SELECT windows "
    "FROM outbox WHERE pub_seq = $1 ORDER BY id OFFSET 0) AS o OFFSET 0) AS i "
    "JOIN budget_window AS c ON c.id = i.id "
    "JOIN budget_value AS v ON v.budget = c.budget AND v.revision = c.revision AND v.value = c.value "
    "OFFSET 0) AS k JOIN budget_window AS w ON w.id = k.newest "
    "JOIN budget AS b ON b.id = w.budget AND b.revision = w.revision "
    "JOIN budget_revision AS r ON r.budget = w.budget AND r.revision = w.revision";

bool publish_set_standing(struct pg_session *pg, int64_t *last, int64_t *oldest, struct err *err)
{
    struct pg_rows *rows = NULL;
    if (!pg_session_query(pg, oldest_sql, NULL, &rows, err))
        return false;
    *oldest = pg_get_i64(rows, 0, 0);
    *last = pg_get_i64(rows, 0, 1);
    pg_rows_free(rows);
    return true;
}

bool publish_set_raise(struct pg_session *pg, int64_t raise_to, struct err *err)
{
    return pg_query(pg, "UPDATE publisher SET pub_seq = $1 WHERE pub_seq < $1", PG_ARGS(PG_I64(raise_to)),
                    NULL, err);
}

bool publish_set_delete(struct pg_session *pg, int64_t pub_seq, struct err *err)
{
    return pg_query(pg, "DELETE FROM outbox WHERE pub_seq <= $1", PG_ARGS(PG_I64(pub_seq)), NULL, err);
}

/* The id up to which a set takes: at least one row, and about SET_RECORDS records. 0: nothing is there, or
 * nothing that must go. */
static bool choose_end(struct pg_session *pg, bool budgets_wait, int64_t *id, bool *is_full, struct err *err)
{
    struct pg_rows *rows = NULL;
    int64_t records = 0;
    bool may_wait = budgets_wait;
    *id = 0;
    if (!pg_session_query(pg, size_sql, NULL, &rows, err))
        return false;
    for (size_t i = 0; i < pg_rows_count(rows) && records < SET_RECORDS; i++) {
        *id = pg_get_i64(rows, i, 0);
        records += pg_get_i64(rows, i, 1);
        may_wait = may_wait && pg_get_bool(rows, i, 2);
    }
    *is_full = records >= SET_RECORDS || pg_rows_count(rows) == SET_ROWS;
    pg_rows_free(rows);
    *id = may_wait && !*is_full ? 0 : *id;
    return true;
}

/* Rows that became visible meanwhile with a smaller id join: still a prefix of one snapshot. */
static bool number_new(struct pg_session *pg, bool budgets_wait, int64_t *pub_seq, bool *is_full,
                       struct err *err)
{
    int64_t id;
    struct pg_fields args;
    *pub_seq = 0;
    if (!choose_end(pg, budgets_wait, &id, is_full, err))
        return false;
    if (id == 0)
        return true;
    pg_fields_init(&args);
    pg_put_i64(&args, id);
    struct pg_step steps[] = {
        {.sql = PG_BEGIN}, {.sql = number_sql}, {.sql = assign_sql, .args = &args}, {.sql = PG_COMMIT}};
    bool ok = pg_session_run(pg, steps, 4, err);
    if (ok)
        *pub_seq = pg_get_i64(steps[1].rows, 0, 0);
    pg_steps_free(steps, 4);
    pg_fields_free(&args);
    return ok;
}

static bool read_set(struct pg_session *pg, struct publish_set *s, struct err *err)
{
    struct pg_rows *total = NULL;
    const struct pg_arg *const number = PG_ARGS(PG_I64(s->pub_seq));
    bool ok = pg_query(pg, letters_sql, number, &s->letters, err) &&
              pg_query(pg, ranges_sql, number, &total, err) &&
              pg_query(pg, entries_sql, number, &s->entries, err) &&
              pg_query(pg, budgets_sql, number, &s->budgets, err);
    if (ok && pg_get_i64(total, 0, 0) != (int64_t)pg_rows_count(s->entries))
        ok = err_set(err, ERR_INVALID, FATE_FATAL,
                     "outbox set %lld names %lld entries and %zu are there: the database was "
                     "tampered with",
                     (long long)s->pub_seq, (long long)pg_get_i64(total, 0, 0), pg_rows_count(s->entries));
    pg_rows_free(total);
    return ok;
}

bool publish_set_next(struct pg_session *pg, bool budgets_wait, struct publish_set *out, struct err *err)
{
    int64_t last;
    *out = (struct publish_set){.is_full = true};
    if (!publish_set_standing(pg, &last, &out->pub_seq, err))
        return false;
    if (out->pub_seq == 0 && !number_new(pg, budgets_wait, &out->pub_seq, &out->is_full, err))
        return false;
    if (out->pub_seq == 0 || read_set(pg, out, err))
        return true;
    publish_set_free(out);
    return false;
}

void publish_set_free(struct publish_set *s)
{
    pg_rows_free(s->letters);
    pg_rows_free(s->entries);
    pg_rows_free(s->budgets);
    *s = (struct publish_set){0};
}

static bool parse_cause(struct strview text, enum entry_cause *out)
{
    for (int i = 0; i < CAUSE_COUNT; i++) {
        if (sv_eq(text, sv_of(entry_cause_name((enum entry_cause)i)))) {
            *out = (enum entry_cause)i;
            return true;
        }
    }
    return false;
}

bool publish_set_entry(const struct publish_set *s, size_t i, struct ledger_entry *out, struct err *err)
{
    const struct pg_rows *r = s->entries;
    *out = (struct ledger_entry){
        .account_id = pg_get(r, i, 0),
        .account_seq = pg_get_i64(r, i, 1),
        .amount_nanos = pg_get_i64(r, i, 3),
        .balance_after_nanos = pg_get_i64(r, i, 4),
        .has_call_id = !pg_is_null(r, i, 5),
        .external_id = pg_get(r, i, 6),
        .task_id = pg_get(r, i, 7),
        .conversation_id = pg_get(r, i, 8),
        .model = pg_get(r, i, 9),
        .raw_nanos = pg_get_opt_i64(r, i, 10),
        .markup_ppm = pg_get_opt_i64(r, i, 11),
        .price_version = pg_get_opt_i64(r, i, 12),
        .revision = (int32_t)pg_get_i64(r, i, 13),
        .admitted_at = pg_get_opt_time(r, i, 14),
        .posted_at = pg_get_time(r, i, 15),
    };
    if (out->has_call_id)
        out->call_id = pg_get_uuid(r, i, 5);
    return (entry_kind_parse(pg_get(r, i, 2), &out->kind) && parse_cause(pg_get(r, i, 16), &out->cause)) ||
           err_set(err, ERR_INVALID, FATE_FATAL, "entry " SV_FMT " %lld has a kind or cause that is none",
                   SV_ARG(out->account_id), (long long)out->account_seq);
}

bool publish_set_budget(const struct publish_set *s, size_t i, struct budget_state *out, int64_t *read_at,
                        struct err *err)
{
    const struct pg_rows *r = s->budgets;
    *out = (struct budget_state){
        .budget_id = pg_get(r, i, 0),
        .value = pg_get(r, i, 2),
        .revision = (int32_t)pg_get_i64(r, i, 3),
        .window_start = pg_get_time(r, i, 4),
        .window_end = pg_get_opt_time(r, i, 5),
        .n = pg_get_i64(r, i, 6),
        .limit_nanos = pg_get_opt_i64(r, i, 7),
        .mode = pg_get_bool(r, i, 9) ? MODE_HARD : MODE_SHADOW,
        .spent_nanos = pg_get_i64(r, i, 10),
        .held_nanos = pg_get_i64(r, i, 11),
        .threshold_crossed = pg_get_opt_i64(r, i, 13),
    };
    *read_at = pg_get_time(r, i, 12);
    return (scope_parse(pg_get(r, i, 1), &out->scope) &&
            budget_measure_parse(pg_get(r, i, 8), &out->measure)) ||
           err_set(err, ERR_INVALID, FATE_FATAL, "budget " SV_FMT " has a scope or measure that is none",
                   SV_ARG(out->budget_id));
}
