/*
 * apply_offset: where a partition of the ledger's input is read on from: what consumer_offset says, if that
 * is still true of the topic. Refuses another cluster, a topic that was made anew, records that are gone
 * before they were applied: money would be lost in silence. Thread: the apply loop's.
 */
#ifndef SPEND_LEDGER_APPLY_OFFSET_H
#define SPEND_LEDGER_APPLY_OFFSET_H

#include "base/sha256.h"
#include "kafka/consumer.h"
#include "pg_session.h"

/* Where to ask. */
struct apply_offsets {
    struct pg_session *pg;
    struct consumer *consumer;
    const char *stream;
};

struct apply_offset {
    int64_t next;  /* 0: nothing was applied */
    bool has_last; /* the record before next is known by its hash, and can still be read */
    uint8_t last_sha256[SHA256_LEN];
};

/* Makes the row of a partition that has none. FATE_FATAL: a person must look, *err says what to do. */
bool apply_offset_find(const struct apply_offsets *o, const struct consumer_partition *part,
                       struct apply_offset *out, struct err *err) NODISCARD;

#endif
