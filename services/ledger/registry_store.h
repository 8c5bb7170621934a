/*
 * registry_store: the configured facts of the tables as a spend/registry value, kept up to date.
 * Reads the one-row config_version first and then only what changed since the last look: config writes are
 * serialised and numbered, so nothing is missed. Owns the registry and the map from account text to
 * surrogate. Refuses: to write (api_config does). Thread: one store belongs to one thread and its session.
 */
#ifndef SPEND_LEDGER_REGISTRY_STORE_H
#define SPEND_LEDGER_REGISTRY_STORE_H

#include "spend/registry.h"

struct pg_session;
struct registry_store;

bool registry_store_new(struct registry_store **out, struct err *err) NODISCARD;
void registry_store_free(struct registry_store *s); /* NULL allowed */

/*
 * Brings the store up to the config_version that the session sees now (inside its open transaction, or on its
 * own). *changed may be NULL. On false the store is as it was, or further; ask again.
 */
bool registry_store_refresh(struct registry_store *s, struct pg_session *pg, bool *changed,
                            struct err *err) NODISCARD;

/* The config_version that was loaded; 0 before the first refresh. */
int64_t registry_store_version(const struct registry_store *s);

/* The bigint that stands for an account in call, entry and balance. false: no such account here. */
bool registry_store_surrogate(const struct registry_store *s, struct strview account_id,
                              int64_t *account) NODISCARD;
/* The account's text; SV_NULL for a surrogate that is not here. The view holds until the store is freed. */
struct strview registry_store_account_id(const struct registry_store *s, int64_t account);
/* The markup of the account's tier in force at `at`, with everything known by now. false: account or tier
 * unknown. */
bool registry_store_markup(const struct registry_store *s, struct strview account_id, int64_t at,
                           int64_t *markup_ppm) NODISCARD;

/* The facts; the store's, until its next refresh. */
const struct registry *registry_store_registry(const struct registry_store *s);
#endif
