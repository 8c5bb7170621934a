/*
 * api_budget: budgets over the API: made, changed, read with what is spent and held, reset. A read opens the
 * windows that are due first, so what it shows is the window of now.
 */
#ifndef SPEND_LEDGER_API_BUDGET_H
#define SPEND_LEDGER_API_BUDGET_H

#include "api_request.h"

api_handler_fn api_budget_put;
api_handler_fn api_budget_get;
api_handler_fn api_budget_list;
api_handler_fn api_budget_values; /* of an `each`: one item a value, with its window */
api_handler_fn api_budget_resets;
api_handler_fn api_budget_reset;

#endif
