/*
 * gate_inside: what gate_client.c (lanes: what is under way to the ledger) and gate_ticket.c (tickets, and
 * the lists they stand in by what is to be said of them next) share, and nobody else sees.
 */
#ifndef SPEND_INGEST_GATE_INSIDE_H
#define SPEND_INGEST_GATE_INSIDE_H

#include "ingest/gate_client.h"
#include "ingest/gate_health.h"
#include "ingest/ledger_post.h"

/* What is to be said of a ticket. */
enum say { SAY_PLACE, SAY_FORCE, SAY_CAPTURE, SAY_VOID, SAY_RENEW, SAY_COUNT };

enum stage {
    STAGE_ASKED,  /* waits for its answer */
    STAGE_UNHELD, /* answered; nothing is held, as far as we know */
    STAGE_FORCED, /* let through, to be told */
    STAGE_HELD,
};

struct gate_ticket {
    struct gate_client *client;
    struct uuid call_id;
    enum stage stage;
    bool in_flight;  /* a lane has it: in no list */
    bool maybe_held; /* a POST that asked for it had no answer */
    bool over;       /* the call is; the ticket is nobody's */
    bool left;       /* so it is, but the answer is wanted */
    bool listed;
    enum say list;              /* .. and in which it is */
    gate_answered_fn *answered; /* NULL: nobody waits */
    void *arg;
    int64_t asked_us;
    int64_t renew_us;     /* when it is due */
    int64_t again_us;     /* not to be asked before: it was busy */
    struct buffer place;  /* its JSON, until it was answered */
    struct buffer ending; /* of a capture; empty: void */
    struct gate_ticket *prev;
    struct gate_ticket *next;
};

struct lane {
    struct gate_client *client;
    struct ledger_post *post;
    enum say say; /* the last */
    struct gate_ticket *item[GATE_AT_ONCE];
    size_t count;
    bool is_probe;
    size_t alone[SAY_COUNT]; /* so many more go one by one: a request with several was refused */
    int64_t not_before_us;
};

struct gate_client {
    struct gate_client_options options;
    struct event *pulse;
    struct lane place;
    struct lane tell;
    struct gate_ticket *list[SAY_COUNT];
    size_t untold;    /* tickets that are over */
    bool handing_out; /* answers: nothing is sent in between */
    struct buffer body;
    struct gate_reply reply[GATE_AT_ONCE];
    struct gate_health health; /* by the answers to places */
    int refused;               /* places alone, since one was answered */
    int64_t probed_us;
};

/* Out of its list, if it is in one. */
void gate_list_drop(struct gate_ticket *t);
void gate_list_add(struct gate_ticket *t, enum say say, bool front);
void gate_ticket_free(struct gate_ticket *t);
/* Where a ticket goes that no lane has: into a list, or away. */
void gate_ticket_settle(struct gate_ticket *t);
/* The asker may end it. */
void gate_ticket_answer(struct gate_ticket *t, bool away, const struct gate_reply *reply);
/* Nobody waits for it any longer. It may be in flight. */
void gate_ticket_give_up(struct gate_ticket *t);

/* Sends what there is to say, unless something is under way. */
void gate_lane_next(struct lane *lane);

#endif
