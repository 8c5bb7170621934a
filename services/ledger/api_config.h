/*
 * api_config: the one path by which a fact with valid time is written and read: look, lock, look again, write
 * the version, audit, outbox. The same value again writes nothing. What each kind of fact has is its struct
 * api_config_kind (api_facts, api_account).
 */
#ifndef SPEND_LEDGER_API_CONFIG_H
#define SPEND_LEDGER_API_CONFIG_H

#include "api_request.h"
#include "config_write.h"
#include "registry_rows.h"

/* A record of more versions than it can hold loses its oldest, once no call on the topics can need that one.
 */
#define API_CONFIG_KEEP_DAYS 400

/* What a PUT asks for. */
struct api_wanted {
    struct strview id;
    struct registry_version value;
    struct opt_i64 effective_from;
    /* an account's own, which have no history */
    struct strview name; /* null: as it is */
    bool has_overdraft;  /* false: as it is */
    struct opt_i64 overdraft_nanos;
};

struct api_config_kind {
    enum registry_kind kind;
    bool set_once; /* another value is a conflict, not a version */
    /* Checks the path's id and the body, fills *w. */
    bool (*read)(struct api_request *r, struct api_wanted *w, struct err *err);
    /* May be NULL. Fills what the body left out from the fact that stands (NULL: none does). */
    void (*complete)(struct api_wanted *w, const struct registry_fact *fact);
    /* May be NULL. *same: nothing beside the versioned value would change. */
    bool (*same)(struct api_request *r, const struct api_wanted *w, bool *same, struct err *err);
    /* Writes the rows; version: the value is new, with value.effective_from set. */
    bool (*write)(struct api_request *r, const struct api_wanted *w, const struct config_stamp *stamp,
                  bool version, struct err *err);
    /* The resource as the reply. */
    bool (*view)(struct api_request *r, struct strview id, struct err *err);
};

bool api_config_put(struct api_request *r, const struct api_config_kind *kind, struct err *err) NODISCARD;
/* GET of one fact, and the list of a kind. */
bool api_config_view(struct api_request *r, enum registry_kind kind, struct strview id,
                     struct err *err) NODISCARD;
bool api_config_list(struct api_request *r, enum registry_kind kind, struct err *err) NODISCARD;

/* A fact that is there; else refused with `status` and `hint`. */
bool api_config_find(struct api_request *r, enum registry_kind kind, struct strview id, int status,
                     const char *hint, struct registry_fact *fact, struct err *err) NODISCARD;
/* From when a later version holds: as soon as allowed, or as wanted when that is not too early (else
 * refused). */
bool api_config_effective(struct api_request *r, int64_t recorded_at, struct opt_i64 wanted,
                          int64_t *effective_from) NODISCARD;

#endif
