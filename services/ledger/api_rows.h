/*
 * api_rows: resources that are rows of a view (migrations/0002_api.sql): Postgres writes each as JSON, here
 * they become a reply or a list. A statement takes ($1::text, $2::text, $3::bigint): the id or filter (null:
 * all), the key after which the list goes on (null: from its start), and how many; it returns (JSON text, key
 * text) in the order of keys. A key that is no text must be ordered by its column with the table's name
 * before it: a bare name in ORDER BY is the text in the result.
 */
#ifndef SPEND_LEDGER_API_ROWS_H
#define SPEND_LEDGER_API_ROWS_H

#include "api_request.h"

/* The statement for a view with columns id (text) and json. */
#define API_ROWS(view)                                                                                       \
    "SELECT json::text, id FROM " view                                                                       \
    " WHERE ($1::text IS NULL OR id = $1) AND ($2::text IS NULL OR id > $2)"                                 \
    " ORDER BY id LIMIT $3::bigint"

/* One resource by its id, whole; 404 with "there is no <what> .." and the hint. */
bool api_rows_get(struct api_request *r, const char *sql, struct strview id, const char *what,
                  const char *hint, struct err *err) NODISCARD;
/* The list called `list`, with ?limit= and ?cursor=. Call it after every other api_query_get. */
bool api_rows_list(struct api_request *r, const char *sql, struct strview filter, const char *list,
                   struct err *err) NODISCARD;
/* The members of a JSON object that Postgres wrote, into an open object. */
void api_rows_members(struct json_write *w, struct strview object);

#endif
