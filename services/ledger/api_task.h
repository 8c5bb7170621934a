/*
 * api_task: a task's life and its bill. Registering one is api_fact's.
 */
#ifndef SPEND_LEDGER_API_TASK_H
#define SPEND_LEDGER_API_TASK_H

#include "api_request.h"

api_handler_fn api_task_finish;
api_handler_fn api_task_bill;

#endif
