/*
 * api_server: the ledger's HTTP API (docs/api.md). One thread reads requests, checks who asks, and sends the
 * replies; it never waits for Postgres. Two answer: one what is about holds (hold_queue), one all else, one
 * request at a time (api_worker): the API is for configuration and questions, the gate is on the path of a
 * call. Owns: the port, the threads, what is on its way between them. Refuses: two parsers' requests (several
 * Content-Length lines), headers over 16 KiB, bodies over a route's cap; more requests than may wait.
 */
#ifndef SPEND_LEDGER_API_SERVER_H
#define SPEND_LEDGER_API_SERVER_H

#include "hold_queue.h"

struct api_server;

struct api_server_options {
    const char *listen; /* "host:port", host in [] for IPv6; port 0 takes a free one */
    const char *database_url;
    const char *operator_token; /* everything; NULL: nobody has it. At least one token is needed */
    const char *reader_token;   /* every GET */
    const char *ingest_token;   /* GET /v1/time, and later its own endpoints */
    int64_t config_lead_us;     /* a later version of a fact holds from no earlier than now + this */
    struct hold_queue_options gate;
};

/* Opens the port, then starts the threads. The strings must stay alive. Logs ev=api_listening. */
bool api_server_start(struct api_server **out, const struct api_server_options *options,
                      struct err *err) NODISCARD;
uint16_t api_server_port(const struct api_server *s);
/* Takes no more, answers what it has, closes, joins the threads, frees: did they end well? NULL allowed:
 * true. */
bool api_server_stop(struct api_server *s);

#endif
