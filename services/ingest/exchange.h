/*
 * exchange: one request's way to the upstream and back, with or without its caller: when the caller leaves a
 * call, the upstream is read on. Owns the request's bytes until they are sent, the link, and the record in
 * the making. Order kept: `open` before a byte goes upstream; `finished` before the reply's last byte and
 * before it is produced. With --journal-sync=disk: both on disk by then, or refused by it.
 */
#ifndef SPEND_INGEST_EXCHANGE_H
#define SPEND_INGEST_EXCHANGE_H

#include "ingest/call_record.h"
#include "ingest/client.h"
#include "ingest/gate_client.h"
#include "ingest/gate_refusal.h"
#include "ingest/reply_head.h"
#include "ingest/upstream_request.h"

struct exchange {
    struct gateway *gateway;
    struct client *client; /* NULL: the caller has left */
    struct exchange *older;
    struct exchange *newer;
    /* the request */
    struct buffer in;   /* head and body as they came */
    struct buffer body; /* decoded, when it came in chunks */
    struct upstream_request request;
    bool request_sent;
    bool is_due;       /* in the gateway's list of those to send */
    bool is_looked_at; /* .. and whether its link is quiet is known */
    bool is_quiet;
    struct exchange *due_before;
    struct exchange *due_after;
    bool safe;    /* may be sent twice */
    bool to_head; /* HEAD */
    struct upstream_link *link;
    bool reused;
    bool connecting;
    int64_t started_us;
    int64_t heard_us; /* the upstream last moved */
    int64_t left_us;  /* the caller left; 0 while it is there */
    bool had_all;     /* .. after the stream's [DONE]: nothing was missing */
    int64_t first_us; /* the reply's first byte; 0 before */
    /* the reply */
    struct buffer reply_in; /* its head, until it is whole */
    size_t reply_scanned;
    bool replying; /* the caller got its head */
    enum reply_framing framing;
    bool upstream_closes;
    bool chunks; /* the caller's copy is chunked */
    int64_t reply_left;
    struct http_chunk chunk;
    uint64_t reply_bytes;
    int status;
    /* the call; not for what only passes */
    bool is_call;
    bool asked; /* for usage, on the caller's behalf */
    char call_id[UUID_TEXT_LEN + 1];
    struct journal_call *entry; /* NULL: not recorded */
    size_t tags_at;             /* where its `open` record has the tags: they stay as they are */
    size_t tags_len;
    struct spend_call call;
    struct arena arena;
    struct reply_watch watch;
    uint64_t request_text;
    struct strview stamp; /* see struct tag_capture; in the arena */
    /* the gate */
    struct gate_size size;
    struct gate_ticket *ticket;                       /* NULL: none, or told how the call ended */
    void (*decided)(struct exchange *x, bool passes); /* not NULL: it waits for the answer */
    struct gate_refusal refusal;                      /* no body: x->answer is what the caller is told */
    struct strview would_block;                       /* in observe mode, for a header; null: nothing */
    /* the disk: how it goes on once it has what the journal holds of the call */
    struct sync_wait wait;
    uint64_t round; /* that puts it there; 0: nothing to wait for */
    void (*then)(struct exchange *x, bool on_disk);
    const struct http_refusal *answer; /* at its end */
    bool whole;
};

/* The request at the front of c->in (len bytes) goes on its way; answers itself when it cannot. */
void exchange_begin(struct client *c, const struct http_request_head *head, size_t len);
/* What was kept of exchanges that are over. */
void exchange_spares_free(struct gateway *g);
/* Requests that wait for the end of the loop's turn go out. */
void exchange_send_due(struct gateway *g);
/* The caller's connection is gone. */
void exchange_client_gone(struct exchange *x);
/* The caller took what was waiting: read on. */
void exchange_client_drained(struct exchange *x);
/* Time-outs. */
void exchange_tick(struct exchange *x, int64_t now_us);
/* Ends it now, whatever is under way. */
void exchange_cut(struct exchange *x);

#endif
