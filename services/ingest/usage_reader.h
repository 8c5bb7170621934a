/*
 * usage_reader: what the replies of one call say: usage, model, service tier, whether it ended in an error,
 * how much text there was. Fed with whole JSON texts: a plain reply's body, or the data of each SSE event.
 * Cumulative numbers overwrite. Owns small texts. Pure but for counting.
 */
#ifndef SPEND_INGEST_USAGE_READER_H
#define SPEND_INGEST_USAGE_READER_H

#include "base/json_scan.h"
#include "ingest/usage_map.h"

struct usage_reader {
    enum spend_operation operation;
    struct usage_table table;
    struct opt_i64 value[USAGE_ROWS_MAX];
    bool has_usage;        /* a usage object with at least one number, or what stands for one */
    bool output_is_first;  /* the output's number is the one from a stream's beginning: more came */
    bool input_unreadable; /* the total is there, but no number we can read */
    bool output_unreadable;
    bool has_error; /* an error object */
    uint64_t text_bytes;
    char *provider_usage; /* as it came, NULL without one */
    size_t provider_usage_len;
    struct strview model; /* in own memory */
    struct strview service_tier;
    char model_room[LIMIT_TEXT_BYTES];
    char tier_room[64];
};

/* What one text said. */
struct usage_seen {
    bool parsed;       /* it is JSON */
    bool usage;        /* it holds a usage object */
    bool last;         /* it is whole, and says that the stream is complete */
    bool choices_idle; /* its choices say nothing: [], or as LiteLLM writes it, [{"index":0,"delta":{}}] */
};

/* provider: as in the price file, or null. */
void usage_reader_init(struct usage_reader *r, enum spend_operation operation, struct strview provider);
void usage_reader_free(struct usage_reader *r);
/* scratch: reset by the caller. */
struct usage_seen usage_reader_feed(struct usage_reader *r, struct strview text, struct arena *scratch);
/* The same for a bare usage object. false: it is none, or malformed. */
bool usage_reader_object(struct usage_reader *r, struct strview object, struct arena *scratch) NODISCARD;
/* A number of the call that no reply tells, by its path in the table; no usage by itself. */
void usage_reader_note(struct usage_reader *r, const char *path, int64_t units);
/* The classes so far; counts a mismatch. */
void usage_reader_result(const struct usage_reader *r, struct usage *out);

#endif
