/*
 * gate_client: this process at the ledger's gate. A ticket is a call's hold as seen from here: asked for,
 * kept alive while the call runs, ended with what it used. One POST of places is under way at a time and
 * carries all that wait; what ends holds or is told afterwards goes over a connection of its own. Owns the
 * tickets, also those whose calls are over, until the ledger knows. Refuses to decide: what happens while the
 * ledger is away is the asker's. Thread: the event loop's.
 */
#ifndef SPEND_INGEST_GATE_CLIENT_H
#define SPEND_INGEST_GATE_CLIENT_H

#include "base/err.h"
#include "ingest/gate_wire.h"

struct event_base;
struct gate_client;
struct gate_ticket;

struct gate_client_options {
    struct event_base *base;
    const char *ledger_url;
    const char *ledger_token; /* NULL: none */
    bool observe;             /* ask what would be, hold nothing */
    int64_t wait_us;          /* longest wait for an answer */
    int64_t renew_us;         /* how often a running call's hold is renewed */
    int64_t trial_us;   /* gate_health: how long probes alone must be answered without a call that fails */
    size_t tickets_max; /* over, or let through without an answer, and not told yet */
};

bool gate_client_new(struct gate_client **out, const struct gate_client_options *options,
                     struct err *err) NODISCARD;
/* The tickets go with it, told or not. NULL allowed. */
void gate_client_free(struct gate_client *g);

/* The answer to a ticket. away: there was none, for the reason `why`; *reply is empty. Once a ticket, never
 * within gate_client_ask. *reply is good during the call only. */
typedef void gate_answered_fn(void *arg, bool away, const struct gate_reply *reply);

/* Asks for a call. NULL: out of memory. */
struct gate_ticket *gate_client_ask(struct gate_client *g, const struct spend_call *call,
                                    const struct gate_size *size, gate_answered_fn *answered,
                                    void *arg) NODISCARD;
/* After `away`: the call was let through at admitted_at all the same, which the ledger is told later. */
void gate_ticket_force(struct gate_ticket *t, int64_t admitted_at);
/* The call is over; the ticket is not the caller's any more. Also before the answer, which then never comes.
 */
void gate_ticket_capture(struct gate_ticket *t, const struct spend_call *call);
void gate_ticket_void(struct gate_ticket *t);
/* Also over, of a client that observes: an answer that is still to come goes to `answered`, with arg NULL. */
void gate_ticket_leave(struct gate_ticket *t, gate_answered_fn *answered);

/* The ledger has answered once, and does. false: *why, a literal. */
bool gate_client_is_well(const struct gate_client *g, const char **why);
/* It knows all that it is to be told of calls that are over. */
bool gate_client_is_told(const struct gate_client *g);

#endif
