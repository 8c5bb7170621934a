/*
 * apply_slot: the records read and not yet applied, by (topic, partition), and the offset that stands in
 * Postgres. Owns the messages kept. Refuses to reorder: records of a slot are in offset order. Knows
 * whether they were read on from where Postgres stands: offsets alone cannot tell, transactions leave gaps.
 */
#ifndef SPEND_LEDGER_APPLY_SLOT_H
#define SPEND_LEDGER_APPLY_SLOT_H

#include "batch_apply.h"
#include "kafka/consumer.h"

struct apply_slot {
    char *topic;
    int32_t partition;
    int64_t expected; /* next, as it stands in consumer_offset */
    int64_t start;    /* what is held was read on from here .. */
    int64_t position; /* .. up to here */
    bool waits;       /* somebody else's lock kept its last batch from being applied .. */
    int64_t retry_us; /* .. and it is not tried before (monotonic); 0: it is read on */
    bool is_checked;  /* the record before `expected` is the one that was applied, or nobody knows it */
    uint8_t last_sha256[SHA256_LEN];
    struct consumer_message *messages;
    struct input_record *records; /* beside messages */
    size_t count;
    size_t room;
};

struct apply_slots {
    struct apply_slot *slot;
    size_t count;
    size_t room;
    int64_t bytes; /* of all values kept */
};

/* last_sha256: of the record at expected - 1, which then is the first to be kept; NULL: not known. */
bool apply_slots_add(struct apply_slots *s, const char *topic, int32_t partition, int64_t expected,
                     const uint8_t *last_sha256, struct err *err) NODISCARD;
/* Takes the message over, also on failure. A partition without slot, an offset that was passed: it is
 * dropped. FATE_FATAL: the topic is not the one that was read, for the record before `expected` is another.
 */
bool apply_slots_keep(struct apply_slots *s, struct consumer_message *message, struct err *err) NODISCARD;
/* Forgets the first n records. */
void apply_slots_drop(struct apply_slots *s, struct apply_slot *slot, size_t n);
/* Nothing lies between what was applied and what is held or comes next. false: it must not be applied, and
 * the consumer must be set to `expected`. */
bool apply_slot_follows(const struct apply_slot *slot) NODISCARD;
/* The consumer was set there. The slot holds nothing. */
void apply_slot_set(struct apply_slot *slot, int64_t offset);
/* Of those that are read on. */
size_t apply_slots_longest(const struct apply_slots *s);
bool apply_slots_wait(const struct apply_slots *s); /* any of them */
void apply_slots_clear(struct apply_slots *s);      /* no slots any more */
void apply_slots_free(struct apply_slots *s);

#endif
