/*
 * api_entry: the rows of an account's ledger, oldest first, as a list and inside a call.
 */
#ifndef SPEND_LEDGER_API_ENTRY_H
#define SPEND_LEDGER_API_ENTRY_H

#include "api_request.h"

struct uuid;

api_handler_fn api_entry_list;

/* "entries": [..] of one call, with their accounts, into an open object. */
bool api_entry_view_call(struct api_request *r, const struct uuid *call_id, struct err *err) NODISCARD;

#endif
