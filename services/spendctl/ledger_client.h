/*
 * ledger_client: questions to the ledger's API, answers as JSON. Connection and token come from
 * SPEND_LEDGER_URL and SPEND_LEDGER_TOKEN. What goes wrong is said on stderr with what to do; callers only
 * end.
 */
#ifndef SPENDCTL_LEDGER_CLIENT_H
#define SPENDCTL_LEDGER_CLIENT_H

#include "base/strview.h"
#include <jansson.h>

#define LEDGER_PATH_BYTES 2048

/* pattern with every {} replaced by the next of the NULL-terminated texts, percent-encoded. Aborts on too
 * few. */
const char *ledger_path(char out[LEDGER_PATH_BYTES], const char *pattern, ...) __attribute__((sentinel));

/* The answer's document, the caller's to json_decref; NULL: said on stderr. */
json_t *ledger_get(const char *path);
json_t *ledger_send(const char *method, const char *path, struct strview body);
/* body is taken over. *made: it is new, not what stood there already. */
json_t *ledger_send_json(const char *method, const char *path, json_t *body, bool *made);
/* The same, but for 404 nothing is said and *missing is set. */
json_t *ledger_find(const char *path, bool *missing);
#define LEDGER_PAGE 1000
/* One page of a list, the caller's; NULL: said. *next: NULL at first, then where the list goes on; NULL again
 * behind its last page, and with a NULL. */
json_t *ledger_page(const char *path, int64_t limit, json_t **next);
/* A list's items over its pages, at most `limit`: {"items": [..], "next": ..}. */
json_t *ledger_list(const char *path, int64_t limit);

/* The document on stdout, for --json. Takes it over; EXIT_FINE. */
int ledger_print(json_t *document);
/* Text of a member, "-" when it is null or missing. */
const char *ledger_text(const json_t *object, const char *key);
/* Gives a body the text; without one it stays as it is. */
void ledger_put(json_t *body, const char *key, const char *text);
int64_t ledger_number(const json_t *object, const char *key);

#endif
