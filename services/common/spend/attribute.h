/*
 * attribute: which account, task and conversation a call belongs to. One pure function, used for the gate and
 * for the bill; no I/O, no clock. Same call, same history: same answer, on every replica and in any replay.
 */
#ifndef SPEND_SPEND_ATTRIBUTE_H
#define SPEND_SPEND_ATTRIBUTE_H

#include "spend/attributed_call.h"
#include "spend/registry.h"

struct attribute_rules {
    struct strview tag_account;      /* "account_id" */
    struct strview tag_task;         /* "task" */
    struct strview tag_conversation; /* "conversation" */
};

enum attribute_verdict { ATTRIBUTE_ACCOUNT, ATTRIBUTE_UNTAGGED, ATTRIBUTE_UNKNOWN, ATTRIBUTE_CONFLICT };

struct attribution {
    enum attribute_verdict verdict;
    struct strview account_id; /* set for ATTRIBUTE_ACCOUNT */
    struct strview task_id;
    struct strview conversation_id;
    struct strview user;
    struct strview team;
    enum spend_route route;
    struct tag tags[2 * LIMIT_TAGS]; /* the call's tags and those bound to its key */
    size_t tag_count;
    char detail[LIMIT_DETAIL_BYTES]; /* why not, one sentence naming the values */
};

/* The time by which a fact must have been recorded to count: the call may be decided once the watermark has
 * passed it. */
int64_t attribute_known_by(const struct spend_call *call);

/* Views in *out point into the call and the registry. */
void attribute(const struct spend_call *call, const struct registry *registry,
               const struct attribute_rules *rules, struct attribution *out);

#endif
