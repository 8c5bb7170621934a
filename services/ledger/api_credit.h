/*
 * api_credit: money put into an account by hand or by a payment system, once for each external_id.
 */
#ifndef SPEND_LEDGER_API_CREDIT_H
#define SPEND_LEDGER_API_CREDIT_H

#include "api_request.h"

api_handler_fn api_credit_post;

#endif
