/*
 * api_prices: price books: a LiteLLM file in, the list of books, one model's prices out.
 */
#ifndef SPEND_LEDGER_API_PRICES_H
#define SPEND_LEDGER_API_PRICES_H

#include "api_request.h"

api_handler_fn api_prices_list;
api_handler_fn api_prices_post;
api_handler_fn api_prices_get_model;

#endif
