/*
 * bill_record: one record of the ledger's input as the batch step needs it, whether it came as an
 * AttributedCall or as a DeadLetter that carries money. Pure: bytes in, value out. Refuses, so that the
 * record is parked: bytes that do not decode, a call that no honest record holds, texts and times beyond
 * their limits or that Postgres cannot hold. Owns nothing: texts live in the arena given.
 */
#ifndef SPEND_LEDGER_BILL_RECORD_H
#define SPEND_LEDGER_BILL_RECORD_H

#include "spend/rank_fold.h"

/* As it came from Kafka. */
struct input_record {
    int64_t offset;
    int64_t timestamp_us;
    struct strview key;
    struct strview value;
};

/* SHA-256 of key and value: says later whether a record at this offset is still the same one. */
void input_record_sha256(const struct input_record *record, uint8_t out[SHA256_LEN]);

enum bill_record_state {
    RECORD_BILLS,   /* it has a say in its call's bill */
    RECORD_NOTHING, /* a notice: nothing to pay */
    RECORD_ENDS,    /* its call is malformed: nothing to pay, and nothing to wait for */
    RECORD_POISON,  /* can never be applied: parked with its bytes */
};

struct bill_record {
    const struct input_record *input;
    enum bill_record_state state;
    char why[240];       /* of poison */
    struct uuid call_id; /* of what ends */

    struct call_record fold; /* the call, its hash, class and redrive */
    struct record_origin origin;
    struct strview account_id;
    int64_t account; /* surrogate, set by the batch step */
    /* rating */
    struct opt_i64 raw_nanos;
    struct strview rating; /* null: not rated here */
    struct opt_i64 price_version;
    struct strview price_key;
    struct opt_i64 rater_version;
    /* attribution */
    struct strview task;
    struct strview conversation;
    struct strview user;
    struct strview team;
    struct strview route;
    struct strview reason; /* null: attributed */
    struct strview detail;
    struct opt_i64 first_seen;
    struct opt_i64 config_watermark;
};

/* dead: the topic holds DeadLetters, else AttributedCalls. What cannot be read is RECORD_POISON; false is
 * FATE_FATAL. */
bool bill_record_read(const struct input_record *input, bool dead, struct arena *a, struct bill_record *out,
                      struct err *err) NODISCARD;
/* Makes it poison; `why` is one sentence. */
void bill_record_poison(struct bill_record *r, const char *why);

#endif
