/*
 * upstream: connections to the one upstream: asynchronous connect, a pool of idle ones, last in first out.
 * Owns the sockets. An idle connection that becomes readable is closed: the upstream hung up, or talks out of
 * turn. Thread: the event loop's.
 */
#ifndef SPEND_INGEST_UPSTREAM_H
#define SPEND_INGEST_UPSTREAM_H

#include "base/err.h"
#include "base/strview.h"

#include <sys/uio.h>

struct event_base;

struct upstream_address {
    char host[256];
    char port[8];
    char prefix[512]; /* path put in front of every target, without a slash at its end */
    char name[272];   /* host:port, as in a Host line */
};
/* http://host:port[/prefix]; FATE_FATAL err says what is wrong. */
bool upstream_address_parse(const char *url, struct upstream_address *out, struct err *err) NODISCARD;

struct upstream;
struct upstream_link;

/* What a link tells its holder. Each may drop the link. */
struct upstream_events {
    void (*connected)(void *arg, bool ok);
    void (*readable)(void *arg);
    void (*writable)(void *arg);
};

/* Resolves the name once: addresses come from the configuration, never from a request. */
bool upstream_new(struct upstream **out, struct event_base *base, const struct upstream_address *address,
                  int64_t idle_us, struct err *err) NODISCARD;
void upstream_free(struct upstream *u); /* links still held must be dropped before */
const struct upstream_address *upstream_address(const struct upstream *u);
/* Closes what was idle for too long. */
void upstream_tick(struct upstream *u, int64_t now_us);

/* An idle link (connected at once: *reused; see upstream_quiet before it is used), else a new one whose
 * `connected` will be called, true as soon as one of the name's addresses answers. NULL: none could be tried.
 */
struct upstream_link *upstream_take(struct upstream *u, const struct upstream_events *events, void *arg,
                                    bool fresh, bool *reused);
/*
 * Just before a request goes on links that were given out as reused, UPSTREAM_QUIET_MAX at most: quiet[i] is
 * false where the upstream has hung up or talks out of turn. What it says would pass for this request's
 * reply.
 */
#define UPSTREAM_QUIET_MAX 32
void upstream_quiet(struct upstream_link *const *links, size_t count, bool *quiet);
/*
 * For a link that still connects: gives its address up for the next one. Nothing was sent, so nothing is sent
 * twice. false: each was tried once; a failed connect does the same before it says so.
 */
bool upstream_try_next(struct upstream_link *link) NODISCARD;
void upstream_drop(struct upstream_link *link);                      /* closes */
void upstream_give_back(struct upstream_link *link, int64_t now_us); /* whole reply read, nothing left over */
/* Bytes, 0 when it would block, -1 when the connection is gone. */
ssize_t upstream_send(struct upstream_link *link, struct iovec *piece, size_t count);
/* Bytes, 0 at the end, -1 when it would block, -2 when the connection broke. */
ssize_t upstream_recv(struct upstream_link *link, void *room, size_t size);
bool upstream_has_bytes(const struct upstream_link *link); /* to receive, now */
void upstream_want_write(struct upstream_link *link, bool want);
void upstream_want_read(struct upstream_link *link, bool want);

#endif
