/*
 * foreign_call: calls that ingest did not see itself, told by somebody else: what the sources have in common.
 * Pure but for counting. Texts of an item live in the arena that it was read with.
 */
#ifndef SPEND_INGEST_FOREIGN_CALL_H
#define SPEND_INGEST_FOREIGN_CALL_H

#include "base/sha256.h"
#include "ingest/json_pick.h"
#include "spend/tag_set.h"

enum foreign_status {
    FOREIGN_ACCEPTED,  /* `call` is to be recorded */
    FOREIGN_INVALID,   /* it says nothing that could be recorded: `why` */
    FOREIGN_DUPLICATE, /* the same again, within one request */
    FOREIGN_CONFLICT,  /* the same id says something else: within one request, or by a signature not ours */
    FOREIGN_EVIDENCE,  /* a proxy's word, compared and not billed */
    FOREIGN_STATUSES
};
const char *foreign_status_name(enum foreign_status status);

struct foreign_item {
    enum foreign_status status;
    struct strview id; /* the teller's own, for the answer; null without one */
    char why[160];
    bool matched; /* it told our own call id, signed */
    struct spend_call
        call; /* ACCEPTED, and CONFLICT with a dispute; instance, boot and seq are the caller's */
};

/* Sets INVALID and why. Always false. */
bool foreign_refuse(struct foreign_item *item, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Adds an array's strings as they are, or one string's list; those that begin with `drop` (may be null) are
 * left out. */
void foreign_tags_add(struct tag_set *set, const struct json_pick *pick, struct strview drop,
                      struct arena *a);

/*
 * Usage by the table of an operation, out of a provider's usage object (or, whole, a reply that holds one).
 * Tokens in and out must both be told, as that operation's words have them. true: classes, quality `final`,
 * provider_usage, and the tier it tells, where the call has none. Else nothing is changed.
 */
bool foreign_usage_take(struct spend_call *call, enum spend_operation table, struct strview object,
                        bool whole, struct arena *a) NODISCARD;

#endif
