/*
 * http_head: header lines, as requests and replies share them: strict grammar, look-up, hop-by-hop names.
 * Pure; every view points into the caller's bytes.
 */
#ifndef SPEND_INGEST_HTTP_HEAD_H
#define SPEND_INGEST_HTTP_HEAD_H

#include "base/buffer.h"
#include "base/limits.h"
#include "base/strview.h"

#include <stdint.h>

#define HTTP_LENGTH_NONE (-1)

struct http_header {
    struct strview name;
    struct strview value; /* without the blanks around it */
};

struct http_headers {
    struct http_header item[LIMIT_REPLY_HEADER_COUNT];
    size_t count;
    /* what the lines say about framing */
    int64_t content_length; /* HTTP_LENGTH_NONE without one */
    bool chunked;
    bool close;     /* Connection: close */
    bool names;     /* a Connection line says more than close or keep-alive */
    size_t hosts;   /* Host lines */
    bool upgrade;   /* an Upgrade line */
    bool websocket; /* .. that names websocket */
};

/* Where a head ends: GUARD_OK sets *bytes to its length with the blank line. */
enum guard_verdict { GUARD_MORE, GUARD_OK, GUARD_REFUSED };

/*
 * Finds the blank line. *scanned is how far earlier calls looked (0 at first). GUARD_REFUSED: a line that
 * does not end in CR LF.
 */
enum guard_verdict http_head_find_end(struct strview in, size_t *scanned, size_t *bytes);

/* One line without its CR LF, cut off the front of *rest. */
struct strview http_line_cut(struct strview *rest);

/*
 * The lines of a head after its first one, each ending in CR LF, without the blank line. NULL when all is
 * well, else what is wrong, for people. ERR_FULL in *code when there are too many lines, else ERR_INVALID.
 */
const char *http_headers_parse(struct strview lines, struct http_headers *out, enum err_code *code);

/*
 * The same for a reply: LIMIT_REPLY_HEADER_COUNT lines, and a line whose value holds a control character is
 * left out, unless it is about framing.
 */
const char *http_headers_parse_reply(struct strview lines, struct http_headers *out);

/* "name: value", CR LF. false: the buffer's cap. */
bool http_line_put(struct buffer *out, struct strview name, struct strview value) NODISCARD;
/* Content-Length of so many bytes. */
bool http_length_put(struct buffer *out, uint64_t bytes) NODISCARD;
bool http_is_token(struct strview v);
/* The last line of that name, ASCII case aside; null view without one. */
struct strview http_header_last(const struct http_headers *h, struct strview name);
/* Not for the other side: connection management, framing, what a Connection line names, and x-spend-*. */
bool http_header_is_ours(const struct http_headers *h, struct strview name);
/* A comma separated list holds the word, ASCII case aside. */
bool http_list_has(struct strview list, struct strview word);

#endif
