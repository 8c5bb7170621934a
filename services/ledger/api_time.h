/*
 * api_time: GET /v1/time, Postgres's clock, for those who correct theirs by it.
 */
#ifndef SPEND_LEDGER_API_TIME_H
#define SPEND_LEDGER_API_TIME_H

#include "api_request.h"

api_handler_fn api_time_get;

#endif
