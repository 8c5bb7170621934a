/*
 * registry: the configured facts with their histories, as an in-memory value. The attributor fills it from
 * spend.registry for the bill, the ledger from its tables for the gate. No I/O, no clock, no threads.
 * Owns copies of everything put in.
 */
#ifndef SPEND_SPEND_REGISTRY_H
#define SPEND_SPEND_REGISTRY_H

#include "spend/spend_call.h"

enum registry_kind {
    REGISTRY_ACCOUNT,
    REGISTRY_KEY,
    REGISTRY_TIER,
    REGISTRY_TASK,
    REGISTRY_CONVERSATION,
    REGISTRY_MODEL,
    REGISTRY_HEARTBEAT, /* never stored: only moves the watermark */
    REGISTRY_KIND_COUNT
};
const char *registry_kind_name(enum registry_kind kind);

enum tag_trust { TRUST_DEFAULT, TRUST_OWN_ACCOUNT, TRUST_ANY, TRUST_LIST };
const char *tag_trust_name(enum tag_trust trust);
bool tag_trust_parse(struct strview text, enum tag_trust *out);

struct tag_policy {
    bool has;
    enum tag_trust trust; /* TRUST_DEFAULT: own_account when the key is bound to an account, any otherwise */
    struct strview *require;
    size_t require_count;
    struct strview *accounts;
    size_t account_count;
};

struct registry_version {
    int64_t effective_from; /* 0 = from the start (every fact's first version) */
    int64_t recorded_at;
    struct strview account_id;
    struct strview tier;
    struct opt_i64 markup_ppm;
    struct strview user;
    struct strview team;
    struct strview *tags;
    size_t tag_count;
    struct tag_policy tag_policy;
    struct strview price_key;
    struct strview conversation_id;
};

/* A record of spend.registry, decoded. */
struct registry_record {
    enum registry_kind kind;
    struct strview id;
    struct registry_version *versions; /* oldest first */
    size_t version_count;
    struct opt_i64 watermark;
    struct opt_i64 price_version;
};

/* Of every record on spend.registry and spend.prices, a number in decimal: how often the whole configuration
 * had gone out. Another one: a topic was made anew, and both are to be read from their beginning. */
#define REGISTRY_GENERATION_HEADER "spend_generation"

struct registry;

bool registry_new(struct registry **out, struct err *err) NODISCARD;
void registry_free(struct registry *r); /* NULL allowed */

/* Takes a deep copy; replaces the whole history of (kind, id). A heartbeat only raises the watermark. */
bool registry_put(struct registry *r, const struct registry_record *record, struct err *err) NODISCARD;
/* Every change recorded up to this time is in here; 0 before the first heartbeat. Never goes back. */
int64_t registry_watermark(const struct registry *r);
/* The newest price book at the watermark; 0 = none. */
int64_t registry_price_version(const struct registry *r);
size_t registry_count(const struct registry *r, enum registry_kind kind);

/* The version in force at `at`: of those recorded by known_by the greatest effective_from <= at, of those the
 * last recorded. NULL: none. */
const struct registry_version *registry_in_force(const struct registry_version *versions, size_t count,
                                                 int64_t at, int64_t known_by);

/*
 * The version of a fact that holds for a call: of its versions the one in force. NULL: no such fact, as far
 * as this call is concerned. known_by makes an answer final: once the watermark has passed it, no later fact
 * changes it, on any replica, in any replay.
 */
const struct registry_version *registry_find(const struct registry *r, enum registry_kind kind,
                                             struct strview id, int64_t at, int64_t known_by);

#endif
