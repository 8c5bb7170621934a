/*
 * api_dead_letter: the calls that no account could be found for, and what would mend them.
 */
#ifndef SPEND_LEDGER_API_DEAD_LETTER_H
#define SPEND_LEDGER_API_DEAD_LETTER_H

#include "api_request.h"

api_handler_fn api_dead_letter_list;

#endif
