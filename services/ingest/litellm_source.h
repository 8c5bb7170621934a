/*
 * litellm_source: what LiteLLM says of calls: its generic callback's payloads (arrays, with nulls among them;
 * one object; one a line), and rows of its SpendLogs. Reads one request's, one after the other. A payload
 * that tells our call id with its signature is that call; one with another signature is in dispute; one
 * without is a call of its own when proxies' words are billed, else evidence. Pure but for counting; owns
 * nothing.
 */
#ifndef SPEND_INGEST_LITELLM_SOURCE_H
#define SPEND_INGEST_LITELLM_SOURCE_H

#include "ingest/foreign_call.h"
#include "ingest/http_guard.h"

#define LITELLM_PATH "/spend/v1/litellm"

struct litellm_rules {
    struct strview secret; /* that signed our call ids; null: signatures cannot be judged */
    bool bill;             /* --proxy-log=bill */
    size_t items_max;
};

struct litellm_reader {
    const struct litellm_rules *rules;
    bool is_array;
    bool is_one; /* a payload alone */
    struct json_scan array;
    struct strview lines; /* to come */
};

/* Judges the whole body first. false: *why (400, 413). */
bool litellm_open(struct litellm_reader *r, const struct litellm_rules *rules, struct strview body,
                  struct http_refusal *why) NODISCARD;
/* The next payload; false when there is none. The arena may be reset between two. */
bool litellm_next(struct litellm_reader *r, int64_t now_us, struct arena *a, struct foreign_item *item);

#endif
