/*
 * dead_letter: a record that could not be billed to an account, with its money value where known
 * (schemas/dead_letter.avsc), as an open value; and the one table of reasons.
 */
#ifndef SPEND_SPEND_DEAD_LETTER_H
#define SPEND_SPEND_DEAD_LETTER_H

#include "spend/attributed_call.h"

enum dead_reason {
    DEAD_UNTAGGED,
    DEAD_UNKNOWN,
    DEAD_CONFLICT,
    DEAD_UNPRICED,
    DEAD_MALFORMED,
    DEAD_REASON_COUNT
};
enum dead_kind { DEAD_KIND_CALL, DEAD_KIND_NOTICE };

struct dead_reason_row {
    const char *name;    /* "untagged" */
    const char *topic;   /* "spend.dlq.untagged" */
    const char *account; /* "~suspense/untagged"; NULL for malformed: it has no money */
    const char *meaning; /* one sentence */
    const char *remedy;  /* what to do */
};
extern const struct dead_reason_row dead_reasons[DEAD_REASON_COUNT];
bool dead_reason_parse(struct strview name, enum dead_reason *out);

struct dead_letter {
    enum dead_kind kind;
    struct strview reason; /* a reason's name, or a notice's */
    struct strview detail;
    bool has_call_id;
    struct uuid call_id;
    struct strview original; /* bytes */
    struct record_origin origin;
    int64_t first_seen; /* UTC micros */
    int32_t attempts;
    bool has_call;
    struct spend_call call;
    bool has_hash;
    uint8_t hash[SHA256_LEN];
    struct opt_i64 raw_nanos;
    bool estimated;
    struct opt_i64 price_version;
    struct opt_i64 rater_version;
    struct redrive redrive;
};

#endif
