/*
 * api_server: the ledger's HTTP API (docs/api.md) on a thread of its own with its own event_base and Postgres
 * session. One request at a time: the API is for configuration and questions, not for the path of a call.
 * Owns: the port, the thread, the session, one registry_store and price_store.
 * Refuses: two parsers' requests (several Content-Length lines), headers over 16 KiB, bodies over a route's
 * cap.
 */
#ifndef SPEND_LEDGER_API_SERVER_H
#define SPEND_LEDGER_API_SERVER_H

#include "spend/attribute.h"
#include <stdint.h>

struct api_server;

struct api_server_options {
    const char *listen; /* "host:port", host in [] for IPv6; port 0 takes a free one */
    const char *database_url;
    const char *operator_token; /* everything; NULL: nobody has it. At least one token is needed */
    const char *reader_token;   /* every GET */
    const char *ingest_token;   /* GET /v1/time, and later its own endpoints */
    struct attribute_rules rules;
    int64_t values_max; /* of one budget's `each` */
    int64_t hold_lifetime_us;
    int64_t output_cap;     /* tokens that a hold counts for output at most */
    int64_t config_lead_us; /* a later version of a fact holds from no earlier than now + this */
};

/* Opens the port and the session, then starts the thread. The strings must stay alive. Logs ev=api_listening.
 */
bool api_server_start(struct api_server **out, const struct api_server_options *options,
                      struct err *err) NODISCARD;
uint16_t api_server_port(const struct api_server *s);
/* Finishes the request it is at, closes, joins the thread, frees. NULL allowed. */
void api_server_stop(struct api_server *s);

#endif
