/*
 * api_entry: the rows of an account's ledger, oldest first.
 */
#ifndef SPEND_LEDGER_API_ENTRY_H
#define SPEND_LEDGER_API_ENTRY_H

#include "api_request.h"

api_handler_fn api_entry_list;

#endif
