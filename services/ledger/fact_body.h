/*
 * fact_body: the body of a PUT of a fact, checked: ids, references to accounts and tiers, the key's hash.
 */
#ifndef SPEND_LEDGER_FACT_BODY_H
#define SPEND_LEDGER_FACT_BODY_H

#include "api_fact.h"

enum fact_field {
    FACT_NAME,
    FACT_TIER,
    FACT_OVERDRAFT,
    FACT_MARKUP,
    FACT_ACCOUNT,
    FACT_USER,
    FACT_TEAM,
    FACT_TAGS,
    FACT_POLICY,
    FACT_CONVERSATION,
    FACT_PRICE_KEY,
    FACT_EFFECTIVE_FROM,
    FACT_FIELDS,
};

/* What a PUT asks for. */
struct fact_wanted {
    struct strview id;
    struct registry_version value;
    struct strview policy; /* value.tag_policy as JSON; null: none */
    struct opt_i64 effective_from;
    /* an account's own, which have no history */
    struct strview name; /* null: as it is */
    bool has_overdraft;  /* false: as it is */
    struct opt_i64 overdraft_nanos;
};

/* The fact's id from the path. A key's is 64 hex digits; what may be the key itself is refused and not
 * repeated. */
bool fact_id_read(struct api_request *r, struct strview *id) NODISCARD;
bool fact_body_read(struct api_request *r, struct fact_wanted *w, struct err *err) NODISCARD;
/* A task and its conversation belong to one account, else every call of the task would be a conflict: a new
 * one of either is refused that would part them. Under the configuration lock, so that they cannot pass each
 * other. */
bool fact_body_fits(struct api_request *r, const struct fact_wanted *w, struct err *err) NODISCARD;

#endif
