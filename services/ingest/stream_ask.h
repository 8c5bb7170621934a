/*
 * stream_ask: what a body says about stream_options.include_usage, and the one edit that asks for usage when
 * the caller did not. All else of the body stays byte for byte. Pure.
 */
#ifndef SPEND_INGEST_STREAM_ASK_H
#define SPEND_INGEST_STREAM_ASK_H

#include "base/json_scan.h"

/* Where things stand in the body; the last of duplicates, as Python reads them. */
struct stream_ask {
    bool has_root;
    size_t root_inside; /* just after the root's '{' */
    bool has_options;
    enum json_kind options_kind;
    size_t options_at;
    size_t options_len;
    bool options_empty;
    bool has_flag; /* include_usage within them */
    bool flag_true;
    size_t flag_at;
    size_t flag_len;
};

/* `cut` bytes at `at` are replaced by `put`. */
struct body_edit {
    bool needed;
    size_t at;
    size_t cut;
    struct strview put;
};

/* Reads the value of a root member stream_options. */
bool stream_ask_read(struct stream_ask *ask, struct json_scan *s, const struct json_value *value) NODISCARD;
/* Not needed when the caller asked, or when stream_options is neither object nor null: the upstream will say
 * so. */
struct body_edit stream_ask_plan(const struct stream_ask *ask);

#endif
