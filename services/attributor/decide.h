/*
 * decide: what becomes of one record of spend.calls: its bytes in, the bytes to produce out. Pure: no I/O, no
 * clock. The same record and the same configuration history give the same answer, on every replica and in any
 * replay. Owns its scratch memory, reused from record to record. Thread: one.
 */
#ifndef SPEND_ATTRIBUTOR_DECIDE_H
#define SPEND_ATTRIBUTOR_DECIDE_H

#include "spend/attribute.h"
#include "spend/rater.h"

#define DECIDE_TOPIC_ATTRIBUTED "spend.attributed"
#define DECIDE_APPEND_SLACK_US  60000000LL /* admitted_at may be this far after the broker's append time */

/* The dead verdicts stand in the order of enum dead_reason. */
enum decide_verdict {
    DECIDE_WAIT, /* the configuration that it may depend on is not known yet: nothing to produce */
    DECIDE_ATTRIBUTED,
    DECIDE_UNTAGGED,
    DECIDE_UNKNOWN,
    DECIDE_CONFLICT,
    DECIDE_UNPRICED,
    DECIDE_MALFORMED,
    DECIDE_VERDICTS
};
const char *decide_verdict_name(enum decide_verdict verdict);

struct decide_record {
    struct record_origin origin;
    int64_t append_us; /* the broker's append time */
    struct strview key;
    struct strview value; /* null = tombstone */
};

/* What is known, and up to when. */
struct decide_config {
    const struct registry *registry;
    const struct price_list *prices;
    int64_t watermark; /* every change recorded up to here is in the two */
};

struct decision {
    enum decide_verdict verdict;
    int64_t known_by; /* the watermark that this record needs; 0 for malformed */
    const char *topic;
    const char *type;      /* ce_type */
    struct strview key;    /* account_id, or the key as it came */
    struct strview value;  /* in the decider's memory, until its next decision */
    struct strview detail; /* of a dead letter, for the log; lives as long as value */
    bool assumed;    /* the rater charged nothing for something it has no price for, or took another's */
    size_t left_out; /* bytes of the provider's usage object and of tags that the output had no room for */
};

struct decider;

bool decider_new(struct decider **out, const struct attribute_rules *rules, struct err *err) NODISCARD;
void decider_free(struct decider *d); /* NULL allowed */

/* A record never fails, whatever its bytes: it becomes a dead letter. false: no memory (FATE_FATAL). */
bool decide(struct decider *d, const struct decide_config *config, const struct decide_record *record,
            struct decision *out, struct err *err) NODISCARD;

#endif
