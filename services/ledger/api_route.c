#include "api_route.h"

#include "api_budget.h"
#include "api_call.h"
#include "api_credit.h"
#include "api_dead_letter.h"
#include "api_entry.h"
#include "api_fact.h"
#include "api_hold.h"
#include "api_prices.h"
#include "api_task.h"
#include "api_time.h"
#include "base/limits.h"

#define SEGMENTS_MAX 6

#define ROUTE(verb, path, handler)                                                                           \
    {                                                                                                        \
        .method = API_##verb, .pattern = (path), .handle = (handler)                                         \
    }
/* What every kind of fact answers. */
#define FACTS(path, fact_kind)                                                                               \
    {.method = API_GET, .pattern = (path), .handle = api_fact_list, .fact = &api_facts[fact_kind]},          \
        {.method = API_GET, .pattern = path "/{}", .handle = api_fact_get, .fact = &api_facts[fact_kind]},   \
    {                                                                                                        \
        .method = API_PUT, .pattern = path "/{}", .handle = api_fact_put, .fact = &api_facts[fact_kind]      \
    }

/* Ingest's, at the gate. */
#define HOLDS(path, handler)                                                                                 \
    {                                                                                                        \
        .method = API_POST, .pattern = (path), .handle = (handler), .ingest = true, .gate = true,            \
        .body_cap = API_HOLD_BODY_BYTES                                                                      \
    }

const struct api_route api_routes[] = {
    /* at the gate: ingest is ready or not by it, whatever else the API is at */
    {.method = API_GET, .pattern = "/v1/time", .handle = api_time_get, .ingest = true, .gate = true},
    FACTS("/v1/accounts", REGISTRY_ACCOUNT),
    ROUTE(POST, "/v1/accounts/{}/credits", api_credit_post),
    ROUTE(GET, "/v1/accounts/{}/entries", api_entry_list),
    FACTS("/v1/tiers", REGISTRY_TIER),
    FACTS("/v1/keys", REGISTRY_KEY),
    FACTS("/v1/tasks", REGISTRY_TASK),
    ROUTE(POST, "/v1/tasks/{}/finish", api_task_finish),
    ROUTE(GET, "/v1/tasks/{}/bill", api_task_bill),
    FACTS("/v1/conversations", REGISTRY_CONVERSATION),
    FACTS("/v1/models", REGISTRY_MODEL),
    ROUTE(GET, "/v1/budgets", api_budget_list),
    ROUTE(GET, "/v1/budgets/{}", api_budget_get),
    ROUTE(PUT, "/v1/budgets/{}", api_budget_put),
    ROUTE(GET, "/v1/budgets/{}/values", api_budget_values),
    ROUTE(GET, "/v1/budgets/{}/resets", api_budget_resets),
    ROUTE(POST, "/v1/budgets/{}/reset", api_budget_reset),
    HOLDS("/v1/holds", api_hold_place),
    HOLDS("/v1/holds/renew", api_hold_renew),
    HOLDS("/v1/holds/capture", api_hold_capture),
    HOLDS("/v1/holds/void", api_hold_void),
    ROUTE(GET, "/v1/prices", api_prices_list),
    {.method = API_POST,
     .pattern = "/v1/prices",
     .handle = api_prices_post,
     .body_cap = LIMIT_PRICE_BOOK_BYTES},
    ROUTE(GET, "/v1/prices/{}/models/{}", api_prices_get_model),
    ROUTE(GET, "/v1/calls/{}", api_call_get),
    ROUTE(GET, "/v1/dead-letters", api_dead_letter_list),
};
const size_t api_route_count = sizeof api_routes / sizeof api_routes[0];

/* The pattern's segments stand in the path's order; {} takes any one segment. */
static bool matches(const char *pattern, const struct strview *part, size_t count, struct api_request *r)
{
    struct strview rest = sv_of(pattern + 1);
    size_t i = 0;
    r->param_count = 0;
    for (; !sv_is_null(rest); i++) {
        struct strview want = sv_cut(rest, '/', &rest);
        if (i == count)
            return false;
        if (sv_eq(want, SV_LIT("{}")))
            r->param[r->param_count++] = part[i];
        else if (!sv_eq(want, part[i]))
            return false;
    }
    return i == count;
}

const struct api_route *api_route_find(struct api_request *r, struct strview path)
{
    struct strview part[SEGMENTS_MAX];
    size_t count;
    bool path_known = false;
    if (!api_path_split(r, path, part, SEGMENTS_MAX, &count))
        return NULL;
    for (size_t i = 0; i < api_route_count; i++) {
        if (!matches(api_routes[i].pattern, part, count, r))
            continue;
        if (api_routes[i].method == r->method)
            return &api_routes[i];
        path_known = true;
    }
    if (path_known)
        api_refuse(r, 405, "method_not_allowed", "see docs/openapi.yaml for what this path answers",
                   "this path does not answer that method");
    else
        api_refuse(r, 404, "not_found", "see docs/openapi.yaml for the paths", "no such path");
    return NULL;
}

bool api_route_allows(struct api_request *r, const struct api_route *route)
{
    if (r->role == API_NOBODY)
        return api_refuse(r, 401, "unauthorized",
                          "send \"Authorization: Bearer TOKEN\" with the operator's or the reader's token",
                          "no valid token came with the request");
    if (r->role == API_OPERATOR || (r->role == API_READER && route->method == API_GET) ||
        (r->role == API_INGEST && route->ingest))
        return true;
    return api_refuse(r, 403, "forbidden", "use the operator's token", "the %s token may not do this",
                      api_role_name(r->role));
}
