/*
 * instance: the heartbeat of one ingest journal (schemas/instance.avsc), as an open value.
 */
#ifndef SPEND_SPEND_INSTANCE_H
#define SPEND_SPEND_INSTANCE_H

#include "base/strview.h"

struct instance {
    struct strview instance; /* UUIDv7 text */
    int64_t boot;
    int64_t next_seq;
    int64_t oldest_open_seq;
    bool closed;
    int64_t at; /* UTC micros */
};

#endif
