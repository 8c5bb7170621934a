#include "registry_store.h"

#include "pg_session.h"
#include "registry_rows.h"
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM          1
#define uthash_nonfatal_oom(entry) ((entry)->lost = true)
#include <uthash.h>

/* An account seen from both sides; it is never deleted. */
struct account {
    UT_hash_handle by_text;
    UT_hash_handle by_surrogate;
    bool lost; /* a table had no room for it */
    int64_t surrogate;
    size_t id_len;
    char id[LIMIT_ID_BYTES];
};

struct registry_store {
    struct registry *registry;
    struct account *by_text;
    struct account *by_surrogate;
    int64_t version;
};

bool registry_store_new(struct registry_store **out, struct err *err)
{
    struct registry_store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "registry_store: out of memory");
    if (!registry_new(&s->registry, err)) {
        free(s);
        return false;
    }
    *out = s;
    return true;
}

void registry_store_free(struct registry_store *s)
{
    struct account *next;
    if (s == NULL)
        return;
    /* clearing frees the tables alone; the accounts stay linked in the order they came */
    struct account *account = s->by_text;
    HASH_CLEAR(by_surrogate, s->by_surrogate);
    HASH_CLEAR(by_text, s->by_text);
    for (; account != NULL; account = next) {
        next = account->by_text.next;
        free(account);
    }
    registry_free(s->registry);
    free(s);
}

static bool put_account(struct registry_store *s, struct strview id, int64_t surrogate, struct err *err)
{
    int64_t known;
    if (registry_store_surrogate(s, id, &known))
        return true;
    struct account *account = calloc(1, sizeof *account);
    if (account == NULL || id.len > sizeof account->id) {
        free(account);
        return err_set(err, ERR_MEMORY, FATE_FATAL, "registry_store: no room for an account");
    }
    memcpy(account->id, id.ptr, id.len);
    account->id_len = id.len;
    account->surrogate = surrogate;
    HASH_ADD(by_text, s->by_text, id, account->id_len, account);
    if (!account->lost) {
        HASH_ADD(by_surrogate, s->by_surrogate, surrogate, sizeof account->surrogate, account);
        if (!account->lost)
            return true;
        HASH_DELETE(by_text, s->by_text, account);
    }
    free(account);
    return err_set(err, ERR_MEMORY, FATE_FATAL, "registry_store: no room for an account");
}

static bool put_fact(void *arg, const struct registry_fact *fact, struct err *err)
{
    struct registry_store *s = arg;
    if (fact->record.kind == REGISTRY_ACCOUNT && !put_account(s, fact->record.id, fact->account, err))
        return false;
    return registry_put(s->registry, &fact->record, err);
}

bool registry_store_refresh(struct registry_store *s, struct pg_session *pg, bool *changed, struct err *err)
{
    struct pg_rows *rows = NULL;
    if (changed != NULL)
        *changed = false;
    if (!pg_session_query(pg, "SELECT version FROM config_version", NULL, &rows, err))
        return false;
    /* facts committed between the two statements are loaded too, and once more the next time: no harm */
    int64_t now = pg_get_i64(rows, 0, 0);
    pg_rows_free(rows);
    if (now == s->version)
        return true;
    if (!registry_rows_changed(pg, s->version, put_fact, s, err))
        return err_wrap(err, "registry_store");
    s->version = now;
    if (changed != NULL)
        *changed = true;
    return true;
}

int64_t registry_store_version(const struct registry_store *s)
{
    return s->version;
}

bool registry_store_surrogate(const struct registry_store *s, struct strview account_id, int64_t *account)
{
    struct account *found = NULL;
    if (sv_is_empty(account_id))
        return false;
    HASH_FIND(by_text, s->by_text, account_id.ptr, account_id.len, found);
    if (found == NULL)
        return false;
    *account = found->surrogate;
    return true;
}

struct strview registry_store_account_id(const struct registry_store *s, int64_t account)
{
    struct account *found = NULL;
    HASH_FIND(by_surrogate, s->by_surrogate, &account, sizeof account, found);
    return found == NULL ? SV_NULL : (struct strview){found->id, found->id_len};
}

bool registry_store_markup(const struct registry_store *s, struct strview account_id, int64_t at,
                           int64_t *markup_ppm)
{
    const struct registry_version *account =
        registry_find(s->registry, REGISTRY_ACCOUNT, account_id, at, INT64_MAX);
    if (account == NULL)
        return false;
    const struct registry_version *tier =
        registry_find(s->registry, REGISTRY_TIER, account->tier, at, INT64_MAX);
    if (tier == NULL || !tier->markup_ppm.has)
        return false;
    *markup_ppm = tier->markup_ppm.v;
    return true;
}

const struct registry *registry_store_registry(const struct registry_store *s)
{
    return s->registry;
}
