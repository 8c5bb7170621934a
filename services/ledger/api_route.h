/*
 * api_route: the one table of what the API answers: method, path, who may, how large a body, which handler.
 */
#ifndef SPEND_LEDGER_API_ROUTE_H
#define SPEND_LEDGER_API_ROUTE_H

#include "api_request.h"

#define API_BODY_BYTES (64LL << 10)

struct api_route {
    enum api_method method;
    const char *pattern; /* "/v1/accounts/{}/credits" */
    api_handler_fn *handle;
    const struct api_fact_kind *fact; /* api_fact's routes */
    int64_t body_cap;                 /* 0: API_BODY_BYTES */
    bool ingest;                      /* the ingest token is enough */
    bool gate;                        /* answered by the gate's thread */
};

extern const struct api_route api_routes[];
extern const size_t api_route_count;

/* Finds the route of r->method and path, decodes the path's parameters into r. NULL: refused with 404, 405 or
 * 400. */
const struct api_route *api_route_find(struct api_request *r, struct strview path);
/* The role may use the route; else refused with 401 or 403. */
bool api_route_allows(struct api_request *r, const struct api_route *route) NODISCARD;

#endif
