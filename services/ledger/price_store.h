/*
 * price_store: the price books of the tables in memory, each loaded when it is first asked for, and the first
 * book of a new ledger. A book is kept as the very bytes that go to spend.prices, so memory, table and topic
 * cannot differ. Thread: one store belongs to one thread and its session.
 */
#ifndef SPEND_LEDGER_PRICE_STORE_H
#define SPEND_LEDGER_PRICE_STORE_H

#include "spend/price_book.h"

struct pg_session;
struct price_store;

bool price_store_new(struct price_store **out, struct err *err) NODISCARD;
void price_store_free(struct price_store *s); /* NULL allowed */

/* The book stays the store's. ERR_NOT_FOUND when there is none of that version. */
bool price_store_book(struct price_store *s, struct pg_session *pg, int64_t version,
                      const struct price_book **out, struct err *err) NODISCARD;

/*
 * The first price book: the price file that ships with the program, put in with effective_from 0 when there
 * is no book at all. In a transaction of its own. Run again it does nothing. *loaded may be NULL.
 */
bool price_store_load_first(struct pg_session *pg, bool *loaded, struct err *err) NODISCARD;

#endif
