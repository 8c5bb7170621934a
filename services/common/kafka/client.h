/*
 * client: what producers and consumers share: configuration, error and log callbacks, cluster identity.
 * librdkafka stays in this room: other rooms see these types only. Threads: one owner a handle; callbacks run
 * in the owner's poll. Owns nothing global.
 */
#ifndef SPEND_KAFKA_CLIENT_H
#define SPEND_KAFKA_CLIENT_H

#include "base/err.h"
#include "base/strview.h"

struct kafka_settings {
    const char *brokers;
    const char *client_id;         /* short */
    const char *const *properties; /* any librdkafka property, "k=v"; beats ours, except those our promises
                                      rest on: refused by name */
    size_t property_count;
};

/* For --check-config: brokers are given, the properties exist, are well-formed and not ours. Connects to
 * nothing. */
bool kafka_settings_check(const struct kafka_settings *settings, struct err *err) NODISCARD;

struct kafka_header {
    struct strview name;
    struct strview value;
};

/* A record to produce. Bytes are copied on the way in. */
struct kafka_record {
    const char *topic;
    struct strview key;
    struct strview value; /* null = tombstone */
    const struct kafka_header *headers;
    size_t header_count;
    int64_t tag; /* the caller's own number, handed back with the delivery report */
};

/* The five CloudEvents headers (ce_id, ce_source, ce_type, ce_time, ce_specversion) that every record
 * carries. */
#define KAFKA_CE_HEADERS  5
#define KAFKA_CE_ID_BYTES 704 /* the longest is of a budget: id, value, time and number */
struct kafka_ce {
    struct kafka_header header[KAFKA_CE_HEADERS + 1]; /* room for one of the caller's */
    char id[KAFKA_CE_ID_BYTES];
    char time[40];
};
/* A longer id is cut. type: "spend.call" ..; source: "spend-ingest/<instance>" ..; views into *ce and the
 * arguments: keep both alive. */
void kafka_ce_fill(struct kafka_ce *ce, const char *source, const char *type, struct strview id,
                   int64_t time_us);

#endif
