/*
 * publish_set: the outbox as the publisher sees it: numbered sets (pub_seq) that go to Kafka whole and in
 * order. A set is a prefix, by id, of what one snapshot shows unpublished. Ids are taken under the balances'
 * locks, so of two rows about one account the earlier is in the same set or an earlier one. Of windows a set
 * says only whose states are to go out: the states are those of when it is read.
 */
#ifndef SPEND_LEDGER_PUBLISH_SET_H
#define SPEND_LEDGER_PUBLISH_SET_H

#include "pg_session.h"
#include "spend/budget_state.h"
#include "spend/ledger_entry.h"

struct publish_set {
    int64_t pub_seq;         /* 0: nothing to publish */
    bool is_full;            /* there may be more */
    struct pg_rows *letters; /* topic, key, value, ce_id, ce_time: records that go out as they stand */
    struct pg_rows *entries; /* by account, account_seq */
    struct pg_rows *budgets; /* one a value of a budget: its newest window */
};

/* The oldest set that was numbered and not published, else a new one, else none. budgets_wait: no new one
 * that would be small and tell of budgets alone. */
bool publish_set_next(struct pg_session *pg, bool budgets_wait, struct publish_set *out,
                      struct err *err) NODISCARD;
void publish_set_free(struct publish_set *s);

/* Row i of entries. */
bool publish_set_entry(const struct publish_set *s, size_t i, struct ledger_entry *out,
                       struct err *err) NODISCARD;

/* Row i of budgets, and when it was read. */
bool publish_set_budget(const struct publish_set *s, size_t i, struct budget_state *out, int64_t *read_at,
                        struct err *err) NODISCARD;

/* The set and all before it are on Kafka. */
bool publish_set_delete(struct pg_session *pg, int64_t pub_seq, struct err *err) NODISCARD;

/*
 * What stands at start: the last number given, and the oldest set that may or may not be on Kafka (0: none).
 * raise_to: numbers go on after it.
 */
bool publish_set_standing(struct pg_session *pg, int64_t *last, int64_t *oldest, struct err *err) NODISCARD;
bool publish_set_raise(struct pg_session *pg, int64_t raise_to, struct err *err) NODISCARD;

#endif
