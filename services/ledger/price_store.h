/*
 * price_store: the price books of the tables as a spend/price_list value, and the one way a book gets in.
 * A book is kept as the very bytes that go to spend.prices, so memory, table and topic cannot differ.
 * Owns the list. Thread: one store belongs to one thread and its session.
 */
#ifndef SPEND_LEDGER_PRICE_STORE_H
#define SPEND_LEDGER_PRICE_STORE_H

#include "spend/price_book.h"

struct pg_session;
struct price_store;

bool price_store_new(struct price_store **out, struct err *err) NODISCARD;
void price_store_free(struct price_store *s); /* NULL allowed */

/* Loads every book that is newer than the newest one here. */
bool price_store_refresh(struct price_store *s, struct pg_session *pg, struct err *err) NODISCARD;
const struct price_list *price_store_list(const struct price_store *s);

/* One book, loaded when it is not here yet. ERR_NOT_FOUND when there is none. The book stays the store's. */
bool price_store_book(struct price_store *s, struct pg_session *pg, int64_t version,
                      const struct price_book **out, struct err *err) NODISCARD;

/*
 * The first price book: the price file that ships with the program, put in with effective_from 0 when there
 * is no book at all. In a transaction of its own. Run again it does nothing. *loaded may be NULL.
 */
bool price_store_load_first(struct pg_session *pg, bool *loaded, struct err *err) NODISCARD;

#endif
