/*
 * api_call: one call's whole story: what came in, whose it is, what it cost line by line, what was posted.
 */
#ifndef SPEND_LEDGER_API_CALL_H
#define SPEND_LEDGER_API_CALL_H

#include "api_request.h"

api_handler_fn api_call_get;

#endif
