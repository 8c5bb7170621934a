/*
 * api_cursor: where a list goes on, as opaque text: hex of "list name, 0x1F, key". A cursor of another list
 * is refused.
 */
#ifndef SPEND_LEDGER_API_CURSOR_H
#define SPEND_LEDGER_API_CURSOR_H

#include "base/arena.h"

#define API_CURSOR_KEY_BYTES 400

/* SV_NULL when the key is too long or the arena full. */
struct strview api_cursor_make(struct arena *a, const char *list, struct strview key);
bool api_cursor_read(struct arena *a, const char *list, struct strview cursor, struct strview *key) NODISCARD;

#endif
