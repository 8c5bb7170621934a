/*
 * json_write: JSON text into a buffer, commas and escapes kept right.
 * One sticky error: after the buffer's cap was hit every call does nothing and json_write_ok is false.
 */
#ifndef SPEND_BASE_JSON_WRITE_H
#define SPEND_BASE_JSON_WRITE_H

#include "base/buffer.h"

struct json_write {
    struct buffer *out;
    bool comma; /* the next item needs one */
    bool failed;
};

void json_write_init(struct json_write *w, struct buffer *out);
void json_write_open(struct json_write *w, char bracket);  /* '{' or '[' */
void json_write_close(struct json_write *w, char bracket); /* '}' or ']' */
void json_write_key(struct json_write *w, const char *key);
void json_write_sv(struct json_write *w,
                   struct strview v); /* null when v is null; not UTF-8: bytes replaced by U+FFFD */
void json_write_str(struct json_write *w, const char *text);
void json_write_i64(struct json_write *w, int64_t n);
void json_write_bool(struct json_write *w, bool b);
void json_write_null(struct json_write *w);
void json_write_time(struct json_write *w, int64_t utc_us);     /* RFC 3339 */
void json_write_usd(struct json_write *w, int64_t nanos);       /* a decimal string */
void json_write_raw(struct json_write *w, struct strview json); /* already JSON */
bool json_write_ok(const struct json_write *w);

#endif
