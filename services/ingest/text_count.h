/*
 * text_count: how many bytes of text stand in a JSON value: strings under the keys that carry prompts and
 * replies (content, text, input, prompt, ..). The basis of estimates: tokens = ceil(bytes / 4). Pure.
 */
#ifndef SPEND_INGEST_TEXT_COUNT_H
#define SPEND_INGEST_TEXT_COUNT_H

#include "base/json_scan.h"

/* Reads over the value of a member (key may be NULL: none) and adds its text to *bytes. */
bool text_count(struct json_scan *s, const struct json_value *key, const struct json_value *value,
                uint64_t *bytes) NODISCARD;

/* Characters of a JSON string but blanks, as LiteLLM counts them for speech. */
int64_t text_characters(const struct json_value *string);

/* ceil(bytes / 4) */
int64_t text_tokens(uint64_t bytes);

#endif
