/*
 * api_credit: money put into an account by hand or by a payment system, once for each external_id.
 */
#ifndef SPEND_LEDGER_API_CREDIT_H
#define SPEND_LEDGER_API_CREDIT_H

#include "api_request.h"

api_handler_fn api_credit_post;

/* The surrogate of the account that the path names; 404: refused. */
bool api_account_find(struct api_request *r, int64_t *account, struct err *err) NODISCARD;

#endif
