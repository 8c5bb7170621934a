/*
 * client: one caller's connection: reads requests one by one (pipelined ones wait), refuses what the guard
 * refuses, writes replies in order. Owns its socket and buffers. A caller that closes its sending side counts
 * as gone.
 */
#ifndef SPEND_INGEST_CLIENT_H
#define SPEND_INGEST_CLIENT_H

#include "ingest/gate_refusal.h"
#include "ingest/gateway.h"
#include "ingest/http_chunk.h"
#include "ingest/http_guard.h"

#include <event2/event_struct.h>

enum client_state {
    CLIENT_HEAD,   /* waiting for a request's head, or idle */
    CLIENT_BODY,   /* its head is there */
    CLIENT_BUSY,   /* an exchange has it */
    CLIENT_FLUSH,  /* writing the last bytes */
    CLIENT_LINGER, /* all written: reading over what the caller still sends, so that it can read our answer */
    CLIENT_GONE,   /* closed; its memory is freed by whoever is still working on it */
};

struct client {
    struct gateway *gateway;
    int fd;
    enum client_state state;
    bool reading;
    bool writing;
    bool close_after; /* the reply under way is the last */
    bool broken;      /* bytes for it were lost: it can only be closed */
    bool held;        /* the last byte of out must not go yet */
    bool processing;
    bool head_request; /* the request under way is a HEAD */
    struct event read_event;
    struct event write_event;
    struct buffer in;
    size_t scanned;
    size_t head_bytes;
    int64_t body_bytes; /* by Content-Length; HTTP_LENGTH_NONE while chunked */
    struct http_chunk chunk;
    struct buffer body; /* decoded chunks */
    struct buffer out;
    struct exchange *exchange;
    struct intake *intake; /* waits for Kafka before it answers */
    int64_t since_us;      /* this state began, or the head's first byte came */
    int64_t moved_us;      /* bytes last went out, or there were none to go */
    struct client *older;
    struct client *newer;
    bool is_due; /* in the gateway's list of those to flush */
    struct client *due_before;
    struct client *due_after;
};

/* Takes the socket, also on failure. */
void client_accept(struct gateway *g, int fd);
void client_close(struct client *c);
/* Time-outs. May close it. */
void client_tick(struct client *c, int64_t now_us);
/* Closes it if nothing is under way. */
void client_drain(struct client *c);

/* Bytes of the reply under way; out of memory cuts the connection. */
void client_write(struct client *c, struct strview bytes);
/* Sends what is waiting. May close the client: false. */
bool client_flush(struct client *c);
/* The same at the end of the loop's turn: what is sent in one go wakes the others once. */
void client_flush_later(struct client *c);
void client_flush_due(struct gateway *g);
size_t client_backlog(const struct client *c);
extern const struct http_refusal client_no_memory;
/* An error of ours, as JSON, whole; a 503 with Retry-After. call_id NULL: none. Ends the reply. */
void client_answer(struct client *c, const struct http_refusal *why, const char *call_id);
/* What the gate tells a caller. Ends the reply. */
void client_refuse(struct client *c, const struct gate_refusal *why, const char *call_id);
/* A reply of ours, JSON, whole. Ends it. */
void client_reply(struct client *c, int status, struct strview json);
/* The exchange is over: whole = the reply was complete, so the connection may go on. May close the client. */
void client_exchange_done(struct client *c, bool whole);

#endif
