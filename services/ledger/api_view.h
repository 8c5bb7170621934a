/*
 * api_view: configuration as JSON: the members of one version of each kind, and a fact with its history.
 */
#ifndef SPEND_LEDGER_API_VIEW_H
#define SPEND_LEDGER_API_VIEW_H

#include "api_request.h"
#include "registry_rows.h"

/* "tier_id" style name of a kind's id in a resource: "name", "key_hash", "task_id", .. */
const char *api_view_id_name(enum registry_kind kind);
/* The members of a version that its kind has, into an open object. */
void api_view_version(struct json_write *w, enum registry_kind kind, const struct registry_version *v);
/* The whole resource: id, the newest version's members, effective_from, and versions[] newest last. */
void api_view_fact(struct json_write *w, const struct registry_fact *fact);
/* "versions": [..], into an open object. */
void api_view_history(struct json_write *w, const struct registry_fact *fact);
/* null for a null view. */
void api_view_text(struct json_write *w, const char *key, struct strview text);
void api_view_usd(struct json_write *w, const char *key, struct opt_i64 nanos);
void api_view_time(struct json_write *w, const char *key, struct opt_i64 utc_us);
/* A factor in ppm as its decimal text: "1.3". */
void api_view_markup(struct json_write *w, const char *key, int64_t ppm);

#endif
