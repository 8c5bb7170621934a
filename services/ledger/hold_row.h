/*
 * hold_row: the rows of table hold that a request to place writes, as arguments of its statements. Owns
 * nothing: everything lies in the hold's arena.
 */
#ifndef SPEND_LEDGER_HOLD_ROW_H
#define SPEND_LEDGER_HOLD_ROW_H

#include "hold_inside.h"
#include "pg_value.h"

/* The arguments as rows. */
#define HOLD_ROW_SQL                                                                                         \
    "unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],"       \
    " $8::text[], $9::text[], $10::timestamptz[]) AS x (call_id, forced, priced, account, raw, billed,"      \
    " markup, windows_raw, windows_billed, admitted_at)"

/* $1 to $10, of all calls or of those that are revived; $11: when they expire. false: the arena is full. */
bool hold_row_args(struct hold *h, struct hold_item *const *items, size_t count, bool revived, int64_t at,
                   struct pg_fields *args) NODISCARD;

#endif
