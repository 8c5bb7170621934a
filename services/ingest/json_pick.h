/*
 * json_pick: a few members of a JSON object, by their paths. Reads as Python does (lax), keeps nothing, owns
 * nothing: every view points into the text. Of duplicate keys the last counts; null is as good as absent.
 */
#ifndef SPEND_INGEST_JSON_PICK_H
#define SPEND_INGEST_JSON_PICK_H

#include "base/json_scan.h"

struct json_pick {
    const char *path; /* "metadata.usage_object" */
    bool found;
    struct json_value value;
    struct strview whole; /* a container's full text, a scalar's own */
};

/* Fills in each pick. false: the text is no JSON object, or malformed somewhere. */
bool json_pick(struct strview object, struct json_pick *pick, size_t count) NODISCARD;

/* The string's text, in the arena when it has escapes; null when it is absent, no string, or holds a NUL. */
struct strview json_pick_text(const struct json_pick *pick, struct arena *a);
/* A JSON object: the pick's own, or the one that stands in its string; null when neither. */
struct strview json_pick_object(const struct json_pick *pick, struct arena *a);

#endif
