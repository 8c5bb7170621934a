/*
 * gateway: the event loop and what all its connections share. Owns listener, clients, exchanges, upstream
 * links. Thread: one; everything in ingest but the admin port and the clock probe runs here.
 */
#ifndef SPEND_INGEST_GATEWAY_H
#define SPEND_INGEST_GATEWAY_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/sha256.h"
#include "ingest/delivery.h"
#include "ingest/gate_client.h"
#include "ingest/http_guard.h"
#include "ingest/ingest_options.h"
#include "ingest/litellm_source.h"
#include "ingest/reply_head.h"
#include "ingest/reply_watch.h"
#include "ingest/route.h"
#include "ingest/upstream.h"
#include "journal/journal.h"

struct client;
struct exchange;
struct intake;
struct event;
struct event_base;
struct evconnlistener;

#define GATEWAY_READ_BYTES (64 << 10)
#define GATEWAY_TOKENS     2
#define GATEWAY_SPARES     128

struct gateway {
    const struct ingest_options *options;
    struct event_base *base;
    struct evconnlistener *listener; /* NULL while not accepting for good */
    struct event *tick;
    struct upstream *upstream;
    struct journal *journal;
    struct delivery *delivery;
    struct journal_sync *sync; /* NULL: no call waits for the disk */
    struct gate_client *gate;  /* NULL: --gate=off */
    struct route_table routes;
    struct watch_limits limits;
    struct strview secret; /* signs call ids */
    bool litellm;
    bool include_usage;
    bool fail_open;
    bool estimate_failed;
    enum spend_gate gate_mode; /* what a call's record begins with */
    bool gate_allows;          /* --on-ledger-down=allow */
    bool gate_needs_price;     /* --on-unpriced=deny */
    int budget_status;
    bool draining;
    /* scratch, each used within one event only */
    struct sha256 *sha;
    struct arena scratch; /* unescaped texts */
    struct buffer piece;  /* what a filter let pass */
    struct buffer record; /* a call's bytes */
    struct tag_capture *capture;
    char *read_room; /* GATEWAY_READ_BYTES */
    struct http_request_head head;
    struct reply_head reply_head;
    /* everybody */
    struct client *clients;
    struct client *due_clients; /* have bytes that go out at the end of the loop's turn */
    size_t client_count;
    struct exchange *exchanges;
    struct exchange *due_exchanges; /* the same, upstream */
    struct exchange *spare_exchanges;
    size_t spare_count;
    struct buffer spare_in[GATEWAY_SPARES];
    size_t spare_in_count;
    size_t exchange_count;
    struct intake *intakes;
    /* who may tell of foreign calls */
    struct litellm_rules litellm_rules;
    uint8_t token[GATEWAY_TOKENS][SHA256_LEN]; /* digests */
    size_t token_count;
};

struct gateway_parts {
    struct event_base *base;
    struct journal *journal;
    struct delivery *delivery;
    struct journal_sync *sync;
    struct gate_client *gate; /* outlives the gateway; NULL: --gate=off */
    struct strview secret;
};

bool gateway_new(struct gateway **out, const struct ingest_options *options,
                 const struct gateway_parts *parts, struct err *err) NODISCARD;
/* Cuts what is left. */
void gateway_free(struct gateway *g);
/* Binds and accepts. shared: so do others, and the kernel spreads the connections. */
bool gateway_listen(struct gateway *g, bool shared, struct err *err) NODISCARD;
/* No new connections, no new requests; what runs may end. */
void gateway_drain(struct gateway *g);
/* The end of the loop's turn: sends what has gathered. */
void gateway_send_due(struct gateway *g);
/* Nothing is under way any more. */
bool gateway_is_idle(const struct gateway *g);
/* Ends what still runs, as if every caller had left and no upstream answered. */
void gateway_cut(struct gateway *g);
/* A client was closed: accepting may go on. */
void gateway_client_left(struct gateway *g);

#endif
