/*
 * most_asked: how much a request asks for at most, by the names that its operation knows. Pure.
 */
#ifndef SPEND_INGEST_MOST_ASKED_H
#define SPEND_INGEST_MOST_ASKED_H

#include "base/json_scan.h"
#include "spend/spend_call.h"

/* Of several the greatest; INT64_MAX: it limits nothing, whatever it says. */
struct most_asked {
    struct opt_i64 max_tokens; /* of output, a reply */
    struct opt_i64 n;          /* replies */
};

/* One member of the request, or of what is laid over it. */
void most_asked_read(struct most_asked *most, enum spend_operation operation, const struct json_value *key,
                     const struct json_value *value);
/* One of the two; below zero: it limits nothing. */
void most_asked_note(struct opt_i64 *most, int64_t n);

#endif
