/*
 * api_hold: holds over the API, for ingest: arrays of up to HOLD_AT_ONCE calls, one transaction each.
 */
#ifndef SPEND_LEDGER_API_HOLD_H
#define SPEND_LEDGER_API_HOLD_H

#include "api_request.h"

#define API_HOLD_BODY_BYTES (8LL << 20) /* HOLD_AT_ONCE calls of 64 tags */

api_handler_fn api_hold_place;
api_handler_fn api_hold_renew;
api_handler_fn api_hold_capture;
api_handler_fn api_hold_void;

#endif
