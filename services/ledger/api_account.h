/*
 * api_account: accounts: who they are, which tier they pay, what they have.
 */
#ifndef SPEND_LEDGER_API_ACCOUNT_H
#define SPEND_LEDGER_API_ACCOUNT_H

#include "api_request.h"

api_handler_fn api_account_put;
api_handler_fn api_account_get;
api_handler_fn api_account_list;

/* The surrogate of the account named by the path's first part; 404: refused. */
bool api_account_find(struct api_request *r, int64_t *account, struct err *err) NODISCARD;

#endif
