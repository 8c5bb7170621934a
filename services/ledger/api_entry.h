/*
 * api_entry: the rows of an account's ledger, oldest first, as a list and inside a call.
 */
#ifndef SPEND_LEDGER_API_ENTRY_H
#define SPEND_LEDGER_API_ENTRY_H

#include "api_request.h"

/* An entry e (of account a) as JSON, in SQL. */
#define API_ENTRY_JSON                                                                                       \
    "json_build_object('account_id', a.account_id, 'account_seq', e.account_seq, 'call_id', e.call_id, "     \
    "'kind', e.kind,"                                                                                        \
    " 'cause', e.cause, 'amount', usd(e.amount_nanos), 'balance_after', usd(e.balance_after_nanos),"         \
    " 'external_id', e.external_id, 'task', e.task, 'conversation', e.conversation, 'model', e.model,"       \
    " 'raw', usd(e.raw_nanos), 'markup', factor(e.markup_ppm), 'price_version', e.price_version,"            \
    " 'revision', e.revision, 'admitted_at', rfc3339(e.admitted_at), 'posted_at', rfc3339(e.posted_at))"

api_handler_fn api_entry_list;

#endif
