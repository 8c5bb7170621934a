/*
 * api_facts: what tiers, keys, tasks, conversations and model aliases have: their bodies, checks and rows.
 */
#ifndef SPEND_LEDGER_API_FACTS_H
#define SPEND_LEDGER_API_FACTS_H

#include "api_config.h"

api_handler_fn api_tier_put;
api_handler_fn api_tier_get;
api_handler_fn api_tier_list;
api_handler_fn api_key_put;
api_handler_fn api_key_get;
api_handler_fn api_key_list;
api_handler_fn api_task_put;
api_handler_fn api_task_list;
api_handler_fn api_conversation_put;
api_handler_fn api_conversation_get;
api_handler_fn api_conversation_list;
api_handler_fn api_model_put;
api_handler_fn api_model_get;
api_handler_fn api_model_list;

/* The path's key, as 64 lower-case hex digits. Refuses what may be the key itself, without repeating it. */
bool api_key_hash(struct api_request *r, struct strview *hash) NODISCARD;

#endif
