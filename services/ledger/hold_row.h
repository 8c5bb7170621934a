/*
 * hold_row: the rows of table hold that a request to place writes, as arguments of its statements. Owns
 * nothing: everything lies in the hold's arena.
 */
#ifndef SPEND_LEDGER_HOLD_ROW_H
#define SPEND_LEDGER_HOLD_ROW_H

#include "hold_inside.h"
#include "pg_value.h"

/* The arguments as rows, in the order of the calls. */
#define HOLD_ROW_SQL                                                                                         \
    "unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[], $6::int[], $7::bigint[], $8::bigint[],"  \
    " $9::bigint[], $10::bigint[], $11::timestamptz[]) AS x (call_id, forced, priced, raw_at, billed_at,"    \
    " end_at, account, raw, billed, markup, admitted_at)"
/* Its windows. An array of arrays of different lengths is none: they stand behind one another. */
#define HOLD_ROW_WINDOWS_RAW    "($12::bigint[])[x.raw_at : x.billed_at - 1]"
#define HOLD_ROW_WINDOWS_BILLED "($12::bigint[])[x.billed_at : x.end_at - 1]"
#define HOLD_ROW_EXPIRES_AT     "$13"

/* $1 to $13, of all calls or of those that are revived. false: the arena is full. */
bool hold_row_args(struct hold *h, struct hold_item *const *items, size_t count, bool revived, int64_t at,
                   struct pg_fields *args) NODISCARD;

#endif
