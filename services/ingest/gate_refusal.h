/*
 * gate_refusal: what a caller is told whose call is not let through, in LiteLLM's words, so that its clients
 * treat it as theirs. Pure; owns nothing.
 */
#ifndef SPEND_INGEST_GATE_REFUSAL_H
#define SPEND_INGEST_GATE_REFUSAL_H

#include "base/buffer.h"

#define GATE_REFUSAL_BYTES (4 << 20) /* of a body, and of what is said of budgets in a header */

struct gate_refusal {
    int status;
    int64_t retry_after_s; /* 0: it does not help to wait, or nobody knows how long */
    struct buffer body;    /* JSON, the holder's */
};

/*
 * Budgets, or the account's balance, stand in the way. blocking: the ledger's array, not empty; status: of
 * budgets (--budget-status), a balance has 402. *out's body is filled. false: out of memory, or it is no
 * such array.
 */
bool gate_refusal_budget(struct strview blocking, int status, int64_t now_us,
                         struct gate_refusal *out) NODISCARD;

/* One header's value: the ids of the budgets that block, percent-encoded, with commas; the balance is
 * ~balance. */
bool gate_refusal_names(struct strview blocking, struct buffer *out) NODISCARD;

/* 403: the caller's tags name accounts that do not agree. conflict: a JSON string's inside. */
bool gate_refusal_conflict(struct strview conflict, struct gate_refusal *out) NODISCARD;

#endif
