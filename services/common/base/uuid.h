/*
 * uuid: 16 bytes. v7 for calls, instances and ids made here; v8 for foreign events, from SHA-256(source, id).
 */
#ifndef SPEND_BASE_UUID_H
#define SPEND_BASE_UUID_H

#include "base/strview.h"

#define UUID_TEXT_LEN 36

struct uuid {
    uint8_t byte[16];
};

/* Time-ordered (RFC 9562 v7): 48 bits of milliseconds, 12 of sub-millisecond, 62 random from getrandom(2). */
struct uuid uuid_v7(int64_t utc_us);
int64_t uuid_v7_ms(const struct uuid *u); /* its time, UTC milliseconds */
/* Same source and id give the same uuid: v8 of SHA-256(source, 0x1F, id). */
struct uuid uuid_v8_of(struct strview source, struct strview id);
void uuid_format(const struct uuid *u, char out[UUID_TEXT_LEN + 1]); /* lower case, NUL */
/* 8-4-4-4-12 hex in either case; false on anything else. */
bool uuid_parse(struct strview text, struct uuid *out);
int uuid_cmp(const struct uuid *a, const struct uuid *b); /* memcmp order = Postgres's */

#endif
