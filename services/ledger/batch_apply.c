/*
 * batch_apply: read, then attempt: open, fold, write calls, lock balances, post, close. See docs/ledger.md.
 */
#include "batch_apply.h"

#include "balance_post.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/money.h"
#include "batch_fold.h"
#include "budget_charge.h"
#include "hold_settle.h"
#include "outbox.h"
#include "pg_query.h"
#include "pg_session.h"
#include "registry_store.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_ARENA_BYTES (1024LL << 20)
#define FOLD_ARENA_BYTES   (512LL << 20)
#define SQL_BYTES          (16 << 10)
#define CONFLICT_TRIES     100

struct batch_apply {
    struct batch_apply_options options;
    struct registry_store *store;
    struct budget_store *budgets;
    struct window_map *map;
    struct arena record_arena; /* decoded records: a whole run */
    struct arena fold_arena;   /* one attempt */
    struct pg_fields scratch;
    struct buffer update_sql;
    struct metric *records, *repeats, *parked, *notices, *entries, *corrections, *reruns, *thresholds;
    struct metric *took;
};

/* A run of records that one transaction applies. */
struct range {
    const struct batch *batch;
    struct bill_record *records;
    size_t count;
    int64_t next;                    /* what the offset becomes */
    uint8_t last_sha256[SHA256_LEN]; /* of the record before it */
};

/* One transaction under way. */
struct attempt {
    struct batch_apply *b;
    const struct range *range;
    int64_t now; /* Postgres's clock: posted_at */
    struct batch_fold fold;
    struct balance_post post;
    struct budget_charge charge;
    struct hold_settle holds;
    int64_t crossed;       /* thresholds of budgets */
    struct pg_rows *found; /* call rows that texts of the fold point into */
    enum batch_verdict verdict;
    int64_t standing; /* the offset found, when it was not ours */
};

static const char offset_sql[] =
    "UPDATE consumer_offset SET next = $5, last_offset = $6, last_sha256 = $7 "
    "WHERE stream = $1 AND topic = $2 AND partition = $3 AND next = $4 RETURNING clock_timestamp()";
static const char offset_read_sql[] =
    "SELECT next FROM consumer_offset WHERE stream = $1 AND topic = $2 AND partition = $3";
static const char version_sql[] = "SELECT version FROM config_version";
static const char probe_sql[] =
    "SELECT " CALL_COLUMN_NAMES " FROM call WHERE call_id = ANY ($1::uuid[]) ORDER BY call_id FOR UPDATE";
static const char call_copy_sql[] = "COPY call (" CALL_COLUMN_NAMES ") FROM STDIN BINARY";

static bool open_metrics(struct batch_apply *b)
{
    const char *name = "spend_ledger_records_total";
    const char *help = "records of the ledger's input, by what became of them";
    b->records = metric_counter(name, help, "result", "applied");
    b->repeats = metric_counter(name, help, "result", "repeat");
    b->parked = metric_counter(name, help, "result", "parked");
    b->notices = metric_counter(name, help, "result", "notice");
    b->entries = metric_counter("spend_ledger_entries_total", "entries posted by the batch step", NULL, NULL);
    b->corrections = metric_counter("spend_ledger_corrections_total",
                                    "calls whose bill changed after its first entry", NULL, NULL);
    b->reruns = metric_counter("spend_ledger_reruns_total",
                               "batches run again since another ledger was first", NULL, NULL);
    b->thresholds = window_mark_metric();
    b->took = metric_histogram_us("spend_ledger_batch_seconds", "one batch transaction", NULL, NULL);
    return true;
}

bool batch_apply_new(struct batch_apply **out, const struct batch_apply_options *options, struct err *err)
{
    struct batch_apply *b = calloc(1, sizeof *b);
    if (b == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "batch_apply: out of memory");
    b->options = *options;
    arena_init(&b->record_arena, RECORD_ARENA_BYTES);
    arena_init(&b->fold_arena, FOLD_ARENA_BYTES);
    pg_fields_init(&b->scratch);
    buffer_init(&b->update_sql, SQL_BYTES);
    bool ok = open_metrics(b) && registry_store_new(&b->store, err) && budget_store_new(&b->budgets, err) &&
              window_map_new(&b->map, options->values_max, err) &&
              (call_row_update_sql(&b->update_sql) ||
               err_set(err, ERR_MEMORY, FATE_FATAL, "batch_apply: out of memory"));
    if (!ok) {
        batch_apply_free(b);
        return false;
    }
    *out = b;
    return true;
}

void batch_apply_free(struct batch_apply *b)
{
    if (b == NULL)
        return;
    registry_store_free(b->store);
    budget_store_free(b->budgets);
    window_map_free(b->map);
    arena_free(&b->record_arena);
    arena_free(&b->fold_arena);
    pg_fields_free(&b->scratch);
    buffer_free(&b->update_sql);
    free(b);
}

/* The budgets up to the version that the registry was read at: what is written in between is taken next time.
 */
static bool refresh(struct batch_apply *b, struct err *err)
{
    return registry_store_refresh(b->store, b->options.pg, NULL, err) &&
           (budget_store_version(b->budgets) == registry_store_version(b->store) ||
            budget_store_refresh(b->budgets, b->options.pg, registry_store_version(b->store), err));
}

/* The compare-and-set found another value: is it the one we meant to write? Then our COMMIT was only lost. */
static bool look_at_offset(struct attempt *at, struct err *err)
{
    struct pg_rows *rows = NULL;
    pg_session_rollback(at->b->options.pg);
    bool ok = pg_query(at->b->options.pg, offset_read_sql,
                       PG_ARGS(PG_STR(at->b->options.stream), PG_STR(at->range->batch->topic),
                               PG_I32(at->range->batch->partition)),
                       &rows, err);
    if (ok && pg_rows_count(rows) != 1)
        ok = err_set(err, ERR_STATE, FATE_FATAL,
                     "%s/%d has no offset in stream %s any more: somebody deleted it",
                     at->range->batch->topic, at->range->batch->partition, at->b->options.stream);
    if (ok) {
        at->standing = pg_get_i64(rows, 0, 0);
        at->verdict = at->standing == at->range->next ? BATCH_APPLIED : BATCH_LOST;
    }
    pg_rows_free(rows);
    return ok;
}

/* First pipeline: the fence, the configuration's version, the calls that are there. *ours: the fence let us
 * in. */
static bool open_transaction(struct attempt *at, bool *ours, struct err *err)
{
    struct pg_session *pg = at->b->options.pg;
    struct pg_fields offset, ids;
    pg_fields_init(&offset);
    pg_fields_init(&ids);
    pg_put_str(&offset, at->b->options.stream);
    pg_put_str(&offset, at->range->batch->topic);
    pg_put_i32(&offset, at->range->batch->partition);
    pg_put_i64(&offset, at->range->batch->expected);
    pg_put_i64(&offset, at->range->next);
    pg_put_i64(&offset, at->range->next - 1);
    pg_put_bytes(&offset, sv_of_bytes(at->range->last_sha256, SHA256_LEN));
    pg_put_uuid_array(&ids, at->fold.id, at->fold.call_count);
    struct pg_step steps[] = {{.sql = PG_BEGIN},
                              {.sql = offset_sql, .args = &offset},
                              {.sql = version_sql},
                              {.sql = probe_sql, .args = &ids}};
    bool ok = pg_session_run(pg, steps, 4, err);
    *ours = ok && pg_rows_count(steps[1].rows) == 1;
    if (*ours) {
        at->now = pg_get_time(steps[1].rows, 0, 0);
        at->found = steps[3].rows;
        steps[3].rows = NULL;
        if (pg_get_i64(steps[2].rows, 0, 0) != budget_store_version(at->b->budgets))
            ok = refresh(at->b, err);
    }
    pg_steps_free(steps, 4);
    pg_fields_free(&offset);
    pg_fields_free(&ids);
    return ok;
}

/* The calls that are new, whole and sorted. Another ledger's insert of the same id makes this wait, then
 * 23505. */
static bool copy_new_calls(struct attempt *at, struct err *err)
{
    const struct batch_fold *f = &at->fold;
    struct pg_fields *row = &at->b->scratch;
    if (f->new_count == 0)
        return true;
    bool ok = pg_copy_begin(at->b->options.pg, call_copy_sql, err);
    for (size_t i = 0; ok && i < f->call_count; i++) {
        if (f->call[i].existed || !f->call[i].changed)
            continue;
        pg_fields_clear(row);
        call_row_put(&f->call[i].row, row);
        ok = pg_copy_row(at->b->options.pg, row, err);
    }
    return ok && pg_copy_end(at->b->options.pg, err);
}

/* Second pipeline: the calls that changed, then the locks on the balances. */
static bool update_calls_and_lock(struct attempt *at, struct err *err)
{
    const struct batch_fold *f = &at->fold;
    size_t count = 0;
    size_t most = f->updated_count + 1;
    struct pg_step *steps = arena_alloc(&at->b->fold_arena, most * sizeof *steps);
    struct pg_fields *args = arena_alloc(&at->b->fold_arena, most * sizeof *args);
    if (steps == NULL || args == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "batch_apply: the arena is full");
    for (size_t i = 0; i < most; i++)
        pg_fields_init(&args[i]);
    for (size_t i = 0; i < f->call_count; i++) {
        if (!f->call[i].existed || !f->call[i].changed)
            continue;
        call_row_put(&f->call[i].row, &args[count]);
        steps[count] = (struct pg_step){.sql = at->b->update_sql.data, .args = &args[count]};
        count++;
    }
    if (at->post.account_count > 0) {
        balance_post_lock_args(&at->post, &args[count]);
        steps[count] = (struct pg_step){.sql = balance_lock_sql, .args = &args[count]};
        count++;
    }
    bool ok = count == 0 || pg_session_run(at->b->options.pg, steps, count, err);
    if (ok && at->post.account_count > 0)
        ok = balance_post_take(&at->post, steps[count - 1].rows, err);
    pg_steps_free(steps, count);
    for (size_t i = 0; i < most; i++)
        pg_fields_free(&args[i]);
    return ok;
}

/* Everything that is to be parked or noticed, as outbox rows. */
static bool copy_letters(struct attempt *at, struct err *err)
{
    const struct batch_fold *f = &at->fold;
    if (f->letter_count == 0)
        return true;
    bool ok = outbox_copy_begin(at->b->options.pg, err);
    for (size_t i = 0; ok && i < f->letter_count; i++) {
        struct dead_letter letter;
        enum dead_reason reason = batch_fold_letter(f, i, &letter);
        ok = outbox_copy_put(at->b->options.pg, &at->b->scratch, &letter, reason,
                             f->letter[i].record->input->key, at->now, err);
    }
    return ok && pg_copy_end(at->b->options.pg, err);
}

/* What the publisher is to look at: ranges of entries, windows. */
static bool outbox_put_args(const struct balance_post *post, const struct window_charge *charge,
                            struct pg_fields *out, struct err *err)
{
    const int64_t *const ranges[] = {post->account, post->first_seq, post->count};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (post->account_count > 0)
            pg_put_i64_array(out, ranges[i], post->account_count);
        else
            pg_put_null(out);
    }
    return window_charge_ids(charge, out, err);
}

/* Third pipeline: balances, the outbox row, the windows last, for the gate waits for them, COMMIT. */
static bool close_transaction(struct attempt *at, struct err *err)
{
    struct pg_fields balances, ranges, windows, ids;
    struct pg_step steps[5];
    size_t count = 0;
    const struct window_charge *charge = &at->charge.charge;
    pg_fields_init(&balances);
    pg_fields_init(&ranges);
    pg_fields_init(&windows);
    pg_fields_init(&ids);
    bool ok = true;
    if (at->post.account_count > 0) {
        balance_post_update_args(&at->post, &balances);
        steps[count++] = (struct pg_step){.sql = balance_update_sql, .args = &balances};
    }
    if (at->post.account_count > 0 || charge->count > 0) {
        ok = outbox_put_args(&at->post, charge, &ranges, err);
        steps[count++] = (struct pg_step){.sql = outbox_entries_sql, .args = &ranges};
    }
    if (charge->count > 0) {
        ok = ok && window_charge_args(charge, &windows, err) && window_charge_ids(charge, &ids, err);
        steps[count++] = (struct pg_step){.sql = window_charge_sql, .args = &windows};
        steps[count++] = (struct pg_step){.sql = window_mark_sql, .args = &ids};
    }
    steps[count++] = (struct pg_step){.sql = PG_COMMIT};
    if (ok) {
        ok = pg_session_run(at->b->options.pg, steps, count, err);
        assert(!ok || at->post.account_count == 0 ||
               pg_rows_affected(steps[0].rows) == (int64_t)at->post.account_count);
        at->crossed = ok && charge->count > 0 ? pg_get_i64(steps[count - 2].rows, 0, 0) : 0;
        pg_steps_free(steps, count);
    }
    pg_fields_free(&balances);
    pg_fields_free(&ranges);
    pg_fields_free(&windows);
    pg_fields_free(&ids);
    return ok;
}

static void count_results(const struct attempt *at)
{
    const struct batch_fold *f = &at->fold;
    metric_add(at->b->records, (int64_t)at->range->count);
    metric_add(at->b->repeats, (int64_t)f->repeat_count);
    metric_add(at->b->parked, (int64_t)(f->letter_count - f->notice_count));
    metric_add(at->b->notices, (int64_t)f->notice_count);
    metric_add(at->b->entries, (int64_t)at->post.posting_count);
    metric_add(at->b->corrections, (int64_t)f->correction_count);
    metric_add(at->b->thresholds, at->crossed);
}

/* A window that is not there yet is opened outside, and all of it done again. */
static bool charge(struct attempt *at, struct err *err)
{
    return hold_settle_run(&at->holds, at->b->options.pg, &at->fold, &at->charge.charge, &at->b->fold_arena,
                           err) &&
           budget_charge_fold(&at->charge, &at->fold, err) &&
           (at->charge.missing_count == 0 ||
            err_set(err, ERR_CONFLICT, FATE_RETRY, "a budget's window is to be opened first"));
}

/* One transaction. true: at->verdict says what it came to. */
static bool attempt_range(struct attempt *at, struct err *err)
{
    struct batch_apply *b = at->b;
    bool ours;
    at->charge = (struct budget_charge){.budgets = b->budgets,
                                        .map = b->map,
                                        .registry = b->store,
                                        .rules = &b->options.rules,
                                        .arena = &b->fold_arena};
    window_charge_init(&at->charge.charge, &b->fold_arena);
    if (!batch_fold_open(&at->fold, at->range->records, at->range->count, &b->fold_arena, err) ||
        !budget_charge_foresee(&at->charge, at->range->records, at->range->count, err) ||
        !budget_charge_open(&at->charge, b->options.pg, err) || !open_transaction(at, &ours, err))
        return false;
    if (!ours)
        return look_at_offset(at, err);
    struct record_origin position = {.topic = sv_of(at->range->batch->topic),
                                     .partition = at->range->batch->partition};
    bool ok = batch_fold_take(&at->fold, at->found, err) &&
              batch_fold_run(&at->fold, b->store, &position, at->now, err) && charge(at, err) &&
              copy_new_calls(at, err) &&
              balance_post_sort(&at->post, at->fold.posting, at->fold.posting_count, at->holds.release,
                                at->holds.release_count, &b->fold_arena, err) &&
              update_calls_and_lock(at, err) &&
              balance_post_copy(&at->post, b->options.pg, &b->scratch, at->now, err) &&
              copy_letters(at, err) && close_transaction(at, err);
    if (ok)
        count_results(at);
    return ok;
}

/* So that the next try does not fail for the same reason. One that lacked windows gets these and keeps those
 * it knew: it would lack them the next time. Else what is remembered may be over. */
static void mend_windows(struct attempt *at, struct err *err)
{
    struct err failed = {0};
    if (at->charge.missing_count == 0)
        window_map_clear(at->b->map);
    else if (!budget_charge_open(&at->charge, at->b->options.pg, &failed))
        *err = failed;
}

/* An attempt with everything it needs before and after. */
static bool try_range(struct batch_apply *b, const struct range *range, struct attempt *at, struct err *err)
{
    int64_t begin = clock_mono_us();
    *at = (struct attempt){.b = b, .range = range, .verdict = BATCH_APPLIED};
    arena_reset(&b->fold_arena);
    /* the first time it is all there is: too long for a transaction that holds locks */
    bool ok = pg_session_ready(b->options.pg, err) &&
              (budget_store_version(b->budgets) != 0 || refresh(b, err)) && attempt_range(at, err);
    if (ok) {
        metric_observe_us(b->took, clock_mono_us() - begin);
    } else {
        pg_session_rollback(b->options.pg);
        if (err->code == ERR_CONFLICT)
            mend_windows(at, err);
    }
    pg_rows_free(at->found); /* the windows' values may stand in it */
    at->found = NULL;
    return ok;
}

/*
 * Applies the first `count` records of the batch. A duplicate key means that another ledger was first: the
 * same way again, now it finds the row. Values that Postgres or a sum refuses: halves, until the one record
 * is alone and parked.
 */
static bool apply_first(struct batch_apply *b, struct batch *batch, struct bill_record *records, size_t count,
                        enum batch_verdict *verdict, struct err *err)
{
    struct attempt at;
    struct range range = {.batch = batch, .records = records, .count = count};
    range.next = batch->records[count - 1].offset + 1;
    input_record_sha256(&batch->records[count - 1], range.last_sha256);
    for (int tries = 1;; tries++) {
        if (try_range(b, &range, &at, err))
            break;
        if (err->code == ERR_CONFLICT && tries < CONFLICT_TRIES) {
            metric_add(b->reruns, 1);
            continue;
        }
        if (err->fate != FATE_DEAD_LETTER)
            return false;
        if (count == 1 && records[0].state == RECORD_POISON)
            return err_set(err, ERR_STATE, FATE_FATAL, "a parked record was refused as well: %s/%d at %lld",
                           batch->topic, batch->partition, (long long)batch->records[0].offset);
        if (count == 1) {
            bill_record_poison(&records[0], err->text);
            continue;
        }
        size_t half = count / 2;
        return apply_first(b, batch, records, half, verdict, err) &&
               (*verdict == BATCH_LOST || apply_first(b, batch, records + half, count - half, verdict, err));
    }
    *verdict = at.verdict;
    batch->expected = at.verdict == BATCH_LOST ? at.standing : range.next;
    batch->records += count;
    batch->count -= count;
    return true;
}

bool batch_apply_run(struct batch_apply *b, struct batch *batch, enum batch_verdict *verdict, struct err *err)
{
    *verdict = BATCH_APPLIED;
    if (batch->count == 0)
        return true;
    arena_reset(&b->record_arena);
    struct bill_record *records = arena_alloc(&b->record_arena, batch->count * sizeof *records);
    if (records == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "batch_apply: the arena is full");
    for (size_t i = 0; i < batch->count; i++) {
        if (!bill_record_read(&batch->records[i], batch->dead, &b->record_arena, &records[i], err))
            return false;
    }
    return apply_first(b, batch, records, batch->count, verdict, err);
}
