/*
 * tag_capture: what a request says about itself, read from the caller's own bytes before any proxy sees them:
 * tags from every place, the key's hash, model, stream, the caller's own logs metadata. Owns nothing: all
 * texts live in the arena. Refuses to keep keys, prompts or anything else of the body.
 */
#ifndef SPEND_INGEST_TAG_CAPTURE_H
#define SPEND_INGEST_TAG_CAPTURE_H

#include "ingest/http_guard.h"
#include "ingest/most_asked.h"
#include "ingest/stream_ask.h"
#include "spend/tag_set.h"

struct tag_capture {
    struct tag_set tags;
    bool body_unparsed;
    struct strview model; /* null when the request names none */
    struct strview stamp; /* the body's model where another is taken: LiteLLM writes it into the reply all the
                             same. Empty: it could not be read. Null: the reply's model is the reply's own */
    bool stream;
    struct strview logs_metadata; /* JSON object text, null without one; a view into headers or body */
    bool logs_metadata_of_header; /* it is the caller's own header */
    struct strview key_hash;      /* null without a key */
    struct strview user_agent;
    uint64_t text_bytes;       /* of prompts, for estimates */
    struct opt_i64 characters; /* that speech is charged by */
    struct strview variant;    /* that an image is charged by; null for all else */
    struct most_asked most;
    struct stream_ask ask;
    /* What the price goes by is set where it is not looked for, or may be, behind a place too deep to read:
     * in extra_body, which LiteLLM's client lays over the request, or by what LiteLLM takes a model from. */
    bool price_elsewhere;
};

/* What a request is read from. */
struct capture_source {
    const struct http_headers *headers;
    struct strview target; /* path and query, as the upstream sees them */
    struct strview body;
    bool litellm; /* the upstream is LiteLLM: read key and model as it does */
    enum spend_operation operation;
};

/* scratch: for unescaping, may be reset as soon as the record is made. false: out of memory. */
bool tag_capture_read(struct tag_capture *out, const struct capture_source *from, struct sha256 *sha,
                      struct arena *scratch) NODISCARD;

/* A text as a record may hold it: its well-formed UTF-8 up to LIMIT_TEXT_BYTES and up to its first control
 * character; cut ones are counted. */
struct strview tag_capture_text(struct strview v);

#endif
