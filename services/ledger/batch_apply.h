/*
 * batch_apply: the batch step. The records of one partition become calls, entries and balances in one
 * transaction whose first statement compares and sets the partition's offset, so that each record counts
 * exactly once. Owns: the order of statements and locks (consumer_offset, call, hold, balance, budget_window;
 * each table in key order), and what becomes of a record that cannot be applied: it is parked in the same
 * transaction and never stops its partition. Refuses: arithmetic in SQL, mixing a rolled back attempt with a
 * new one. Thread: one owner, with its session.
 */
#ifndef SPEND_LEDGER_BATCH_APPLY_H
#define SPEND_LEDGER_BATCH_APPLY_H

#include "bill_record.h"
#include "spend/attribute.h"

struct pg_session;
struct batch_apply;

struct batch_apply_options {
    struct pg_session *pg; /* with sorted_plans */
    const char *stream;    /* whose offsets: "live" */
    struct attribute_rules rules;
    int64_t values_max; /* of one budget's `each`: window_map */
};

/* Records of one partition in offset order. What has been committed leaves it: run it again after FATE_RETRY.
 */
struct batch {
    const char *topic;
    int32_t partition;
    bool dead;        /* the topic holds dead letters */
    int64_t expected; /* `next` as it stands in consumer_offset */
    struct input_record *records;
    size_t count;
};

enum batch_verdict {
    BATCH_APPLIED, /* all of it; expected is what stands now */
    BATCH_LOST,    /* somebody else moved the offset: expected is where it stands, nothing of the rest was
                      applied */
};

bool batch_apply_new(struct batch_apply **out, const struct batch_apply_options *options,
                     struct err *err) NODISCARD;
void batch_apply_free(struct batch_apply *b); /* NULL allowed */

bool batch_apply_run(struct batch_apply *b, struct batch *batch, enum batch_verdict *verdict,
                     struct err *err) NODISCARD;

#endif
