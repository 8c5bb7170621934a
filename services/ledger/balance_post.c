/*
 * balance_post: sums in int64 with every overflow seen.
 */
#include "balance_post.h"

#include "base/money.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The locks are taken in the order of the result: LockRows stands above the sort. */
const char balance_lock_sql[] =
    "SELECT account_id, amount_nanos, seq FROM balance WHERE account_id = ANY ($1::bigint[]) "
    "ORDER BY account_id FOR UPDATE";

const char balance_update_sql[] =
    "UPDATE balance AS b SET amount_nanos = x.amount, seq = x.seq, held_nanos = b.held_nanos - x.released "
    "FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS x (account, amount, seq, "
    "released) "
    "WHERE b.account_id = x.account";

static const char entry_copy_sql[] =
    "COPY entry (account_id, account_seq, amount_nanos, balance_after_nanos, raw_nanos, markup_ppm, "
    "price_version, "
    "admitted_at, posted_at, call_id, revision, kind, cause, task, conversation, model) FROM STDIN BINARY";

static int by_account(const void *a, const void *b)
{
    const struct posting *x = a;
    const struct posting *y = b;
    if (x->account != y->account)
        return x->account < y->account ? -1 : 1;
    return x->account_seq < y->account_seq ? -1 : x->account_seq > y->account_seq;
}

static int by_release(const void *a, const void *b)
{
    const struct release *x = a;
    const struct release *y = b;
    return (x->account > y->account) - (x->account < y->account);
}

/* The accounts of both lists, each once. */
static void merge_accounts(struct balance_post *p, const struct release *release, size_t release_count)
{
    size_t r = 0;
    size_t i = 0;
    while (i < p->posting_count || r < release_count) {
        bool posting =
            i < p->posting_count && (r == release_count || p->posting[i].account <= release[r].account);
        int64_t account = posting ? p->posting[i].account : release[r].account;
        if (p->account_count == 0 || p->account[p->account_count - 1] != account)
            p->account[p->account_count++] = account;
        size_t at = p->account_count - 1;
        if (posting) {
            p->count[at]++;
            i++;
        } else {
            p->released_nanos[at] += release[r++].amount_nanos; /* what was held fitted a balance */
        }
    }
}

bool balance_post_sort(struct balance_post *p, struct posting *postings, size_t count,
                       const struct release *releases, size_t release_count, struct arena *a, struct err *err)
{
    size_t most = count + release_count;
    *p = (struct balance_post){.posting = postings, .posting_count = count};
    struct release *sorted = arena_alloc(a, release_count * sizeof *sorted + 1);
    int64_t **columns[] = {&p->account,   &p->amount_nanos, &p->seq,
                           &p->first_seq, &p->count,        &p->released_nanos};
    bool ok = sorted != NULL;
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        *columns[i] = arena_alloc(a, most * sizeof **columns[i] + 1);
        ok = ok && *columns[i] != NULL;
        if (ok)
            memset(*columns[i], 0, most * sizeof **columns[i]);
    }
    if (!ok)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "balance_post: the arena is full");
    for (size_t i = 0; i < count; i++)
        postings[i].account_seq = (int64_t)i; /* keeps the order given */
    if (count > 1)
        qsort(postings, count, sizeof *postings, by_account);
    if (release_count > 0)
        memcpy(sorted, releases, release_count * sizeof *sorted);
    if (release_count > 1)
        qsort(sorted, release_count, sizeof *sorted, by_release);
    merge_accounts(p, sorted, release_count);
    return true;
}

void balance_post_lock_args(const struct balance_post *p, struct pg_fields *args)
{
    pg_put_i64_array(args, p->account, p->account_count);
}

bool balance_post_take(struct balance_post *p, const struct pg_rows *rows, struct err *err)
{
    struct posting *at = p->posting;
    if (pg_rows_count(rows) != p->account_count)
        return err_set(err, ERR_STATE, FATE_FATAL,
                       "%zu accounts have %zu balances: the database was tampered with", p->account_count,
                       pg_rows_count(rows));
    for (size_t i = 0; i < p->account_count; i++) {
        int64_t amount = pg_get_i64(rows, i, 1);
        int64_t seq = pg_get_i64(rows, i, 2);
        assert(pg_get_i64(rows, i, 0) == p->account[i]);
        p->first_seq[i] = seq + 1;
        for (int64_t n = 0; n < p->count[i]; n++, at++) {
            if (!money_add(amount, at->amount_nanos, &amount))
                return err_set(err, ERR_OVERFLOW, FATE_DEAD_LETTER,
                               "its amount does not fit the account's balance");
            at->account_seq = ++seq;
            at->balance_after_nanos = amount;
        }
        p->amount_nanos[i] = amount;
        p->seq[i] = seq;
    }
    return true;
}

static void put_entry(const struct posting *e, int64_t posted_at, struct pg_fields *out)
{
    const struct call_row *call = e->call;
    pg_put_i64(out, e->account);
    pg_put_i64(out, e->account_seq);
    pg_put_i64(out, e->amount_nanos);
    pg_put_i64(out, e->balance_after_nanos);
    pg_put_opt_i64(out, call->raw_nanos);
    pg_put_i64(out, call->markup_ppm);
    pg_put_opt_i64(out, call->price_version);
    pg_put_time(out, call->admitted_at);
    pg_put_time(out, posted_at);
    pg_put_uuid(out, &call->call_id);
    pg_put_i32(out, call->revision);
    pg_put_str(out, entry_kind_name(e->kind));
    pg_put_str(out, entry_cause_name(e->cause));
    pg_put_text(out, call->task);
    pg_put_text(out, call->conversation);
    pg_put_text(out, sv_is_null(call->model_replied) ? call->model_requested : call->model_replied);
}

bool balance_post_copy(const struct balance_post *p, struct pg_session *pg, struct pg_fields *scratch,
                       int64_t posted_at, struct err *err)
{
    if (p->posting_count == 0)
        return true;
    bool ok = pg_copy_begin(pg, entry_copy_sql, err);
    for (size_t i = 0; ok && i < p->posting_count; i++) {
        pg_fields_clear(scratch);
        put_entry(&p->posting[i], posted_at, scratch);
        ok = pg_copy_row(pg, scratch, err);
    }
    return ok && pg_copy_end(pg, err);
}

void balance_post_update_args(const struct balance_post *p, struct pg_fields *args)
{
    pg_put_i64_array(args, p->account, p->account_count);
    pg_put_i64_array(args, p->amount_nanos, p->account_count);
    pg_put_i64_array(args, p->seq, p->account_count);
    pg_put_i64_array(args, p->released_nanos, p->account_count);
}
