/*
 * balance_post: entries and balances of one transaction. Balances are locked in order, account_seq and
 * balance_after are computed here under that lock, entries go in by COPY; Postgres adds nothing up. Owns
 * nothing: everything lies in the arena given. Order of use: sort, lock (in a pipeline), take, copy, update
 * (in a pipeline). Refuses an amount that a balance cannot hold: FATE_DEAD_LETTER.
 */
#ifndef SPEND_LEDGER_BALANCE_POST_H
#define SPEND_LEDGER_BALANCE_POST_H

#include "call_row.h"
#include "spend/ledger_entry.h"

struct posting {
    int64_t account;
    int64_t amount_nanos; /* signed */
    enum entry_kind kind;
    enum entry_cause cause;
    const struct call_row *call; /* what the entry tells about */
    int64_t account_seq;         /* set by balance_post_take */
    int64_t balance_after_nanos;
};

struct balance_post {
    struct posting *posting; /* by account, then as given */
    size_t posting_count;
    /* one item an account, ascending */
    int64_t *account;
    int64_t *amount_nanos; /* the balance after */
    int64_t *seq;          /* the last account_seq */
    int64_t *first_seq;
    int64_t *count;
    int64_t *released_nanos; /* of what it held */
    size_t account_count;
};

/* What an account held for a call that is billed now. */
struct release {
    int64_t account;
    int64_t amount_nanos;
};

/* Takes the postings over and orders them. */
bool balance_post_sort(struct balance_post *p, struct posting *postings, size_t count,
                       const struct release *releases, size_t release_count, struct arena *a,
                       struct err *err) NODISCARD;

extern const char balance_lock_sql[];
void balance_post_lock_args(const struct balance_post *p, struct pg_fields *args);
/* rows: what balance_lock_sql answered. */
bool balance_post_take(struct balance_post *p, const struct pg_rows *rows, struct err *err) NODISCARD;
bool balance_post_copy(const struct balance_post *p, struct pg_session *pg, struct pg_fields *scratch,
                       int64_t posted_at, struct err *err) NODISCARD;
extern const char balance_update_sql[];
void balance_post_update_args(const struct balance_post *p, struct pg_fields *args);

#endif
