/*
 * ledger_entry: one immutable row of the ledger as others read it (schemas/ledger_entry.avsc), as an open
 * value.
 */
#ifndef SPEND_SPEND_LEDGER_ENTRY_H
#define SPEND_SPEND_LEDGER_ENTRY_H

#include "spend/spend_call.h"

enum entry_kind {
    ENTRY_DEDUCTION,
    ENTRY_ADJUSTMENT,
    ENTRY_REVERSAL,
    ENTRY_TOP_UP,
    ENTRY_GRANT,
    ENTRY_REFUND,
    ENTRY_OPENING,
    ENTRY_KIND_COUNT
};
enum entry_cause { CAUSE_CALL, CAUSE_CORRECTION, CAUSE_REDRIVE, CAUSE_REBILL, CAUSE_CREDIT, CAUSE_COUNT };

const char *entry_kind_name(enum entry_kind kind);
bool entry_kind_parse(struct strview text, enum entry_kind *out);
const char *entry_cause_name(enum entry_cause cause);

struct ledger_entry {
    struct strview account_id;
    int64_t account_seq;
    enum entry_kind kind;
    int64_t amount_nanos; /* signed */
    int64_t balance_after_nanos;
    bool has_call_id;
    struct uuid call_id;
    struct strview external_id;
    struct strview task_id;
    struct strview conversation_id;
    struct strview model;
    struct opt_i64 raw_nanos;
    struct opt_i64 markup_ppm;
    struct opt_i64 price_version;
    int32_t revision;
    struct opt_i64 admitted_at;
    int64_t posted_at;
    enum entry_cause cause;
};

#endif
