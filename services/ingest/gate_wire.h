/*
 * gate_wire: what ingest and the ledger's gate say to each other about calls (docs/openapi.yaml, /v1/holds):
 * JSON out of a call, and answers out of JSON. Pure; owns nothing.
 */
#ifndef SPEND_INGEST_GATE_WIRE_H
#define SPEND_INGEST_GATE_WIRE_H

#include "base/buffer.h"
#include "spend/spend_call.h"

#define GATE_AT_ONCE    256        /* calls in one request */
#define GATE_CALL_BYTES (64 << 10) /* of one in it: 64 tags and their escapes fit */

/* What is asked for a call beside what its record says. */
struct gate_size {
    int64_t body_bytes;
    struct opt_i64 max_tokens;
    struct opt_i64 n;
};

/* One call that asks to be let through. false: out of memory, or over the buffer's cap. */
bool gate_wire_place(const struct spend_call *call, const struct gate_size *size,
                     struct buffer *out) NODISCARD;
/* The same call, let through without an answer at admitted_at (Postgres's clock): place is gate_wire_place's.
 */
bool gate_wire_force(struct strview place, int64_t admitted_at, struct buffer *out) NODISCARD;
/* What became of it. */
bool gate_wire_capture(const struct spend_call *call, struct buffer *out) NODISCARD;
/* One to be renewed or voided. */
bool gate_wire_id(const struct uuid *call_id, struct buffer *out) NODISCARD;

enum gate_reply_state {
    GATE_REPLY_PLACED,   /* held, or captured already */
    GATE_REPLY_OBSERVED, /* would have been */
    GATE_REPLY_REFUSED,
    GATE_REPLY_BUSY, /* not decided: ask again */
    GATE_REPLY_OVER, /* settled, voided, expired: nothing is held for it any more */
};

/* The ledger's answer to one call. Views into its text. */
struct gate_reply {
    struct uuid call_id;
    enum gate_reply_state state;
    int64_t admitted_at; /* of a place; 0: not told */
    bool priced;
    struct strview conflict; /* JSON string's inside, escaped; null: none */
    struct strview blocking; /* JSON array; null: none */
    bool warns;
};

/* The answers of a body {"items": [..]}, at most room. false: it is none. */
bool gate_wire_read(struct strview body, struct gate_reply *out, size_t room, size_t *count) NODISCARD;

#endif
