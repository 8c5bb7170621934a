/*
 * attributed_call: a call with its account and raw cost (schemas/attributed_call.avsc), as an open value.
 */
#ifndef SPEND_SPEND_ATTRIBUTED_CALL_H
#define SPEND_SPEND_ATTRIBUTED_CALL_H

#include "spend/spend_call.h"

enum spend_route { ROUTE_TAG, ROUTE_TASK, ROUTE_CONVERSATION, ROUTE_KEY, ROUTE_REDRIVE, ROUTE_COUNT };
enum spend_rating { RATING_EXACT, RATING_ASSUMED, RATING_FREE, RATING_COUNT };

const char *spend_route_name(enum spend_route route);
const char *spend_rating_name(enum spend_rating rating);

struct record_origin {
    struct strview topic;
    int32_t partition;
    int64_t offset;
};

struct redrive {
    bool has;
    struct uuid id;
    int64_t at; /* UTC micros */
    struct strview set;
};

struct attributed_call {
    struct spend_call call;
    uint8_t hash[SHA256_LEN];
    struct record_origin origin;
    struct strview account_id;
    struct strview task_id;
    struct strview conversation_id;
    struct strview user;
    struct strview team;
    enum spend_route route;
    struct redrive redrive;
    struct opt_i64 raw_nanos;
    enum spend_rating rating;
    struct opt_i64 price_version;
    struct strview price_key;
    int32_t rater_version;
    int64_t config_watermark;
};

#endif
