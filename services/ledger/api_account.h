/*
 * api_account: accounts: which tier they pay, what they have. Writing them is api_fact's.
 */
#ifndef SPEND_LEDGER_API_ACCOUNT_H
#define SPEND_LEDGER_API_ACCOUNT_H

#include "api_request.h"

#define API_ACCOUNT_HINT "make it with PUT /v1/accounts/{id}; ids in paths are percent-encoded"

/* For api_rows: {account_id, name, tier, markup, overdraft_limit, balance, held, entries, created_at,
 * versions}; tier and markup are those in force now. */
extern const char api_account_rows[];

/* The surrogate of the account that the path names; 404: refused. */
bool api_account_find(struct api_request *r, int64_t *account, struct err *err) NODISCARD;

#endif
