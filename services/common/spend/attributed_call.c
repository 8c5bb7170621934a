/*
 * attributed_call: the words of its schema.
 */
#include "spend/attributed_call.h"

#include <assert.h>

const char *spend_route_name(enum spend_route route)
{
    static const char *const names[ROUTE_COUNT] = {
        [ROUTE_TAG] = "tag", [ROUTE_TASK] = "task",       [ROUTE_CONVERSATION] = "conversation",
        [ROUTE_KEY] = "key", [ROUTE_REDRIVE] = "redrive",
    };
    assert((size_t)route < ROUTE_COUNT);
    return names[route];
}

const char *spend_rating_name(enum spend_rating rating)
{
    static const char *const names[RATING_COUNT] = {
        [RATING_EXACT] = "exact",
        [RATING_ASSUMED] = "assumed",
        [RATING_FREE] = "free",
    };
    assert((size_t)rating < RATING_COUNT);
    return names[rating];
}
