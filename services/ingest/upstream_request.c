/*
 * upstream_request: one buffer for the head, sent together with the body in one sendmsg.
 */
#include "ingest/upstream_request.h"

#include "ingest/meter.h"

#include <string.h>

#define HEAD_BYTES_MAX     (96 << 10)
#define HEAD_BYTES_FIRST   1024 /* most fit */
#define METADATA_BYTES_MAX (8 << 10)

static const struct strview call_id_header = SV_INIT("x-litellm-call-id");
static const struct strview logs_header = SV_INIT("x-litellm-spend-logs-metadata");

void upstream_request_sign(const struct uuid *call_id, struct strview secret, char out[SPEND_CALL_ID_LEN + 1])
{
    uint8_t mac[SHA256_LEN];
    uuid_format(call_id, out);
    sha256_hmac(secret, (struct strview){out, UUID_TEXT_LEN}, mac);
    out[UUID_TEXT_LEN] = '.';
    sha256_to_hex(mac, 16, out + UUID_TEXT_LEN + 1);
}

/* JSON text on one header line: line ends between tokens become blanks, other characters than printable ASCII
 * \u escapes. */
static bool ascii_put(struct buffer *out, struct strview json)
{
    for (size_t i = 0; i < json.len;) {
        unsigned char c = (unsigned char)json.ptr[i];
        if (c < 0x7f) {
            if (!buffer_append_byte(out, c < 0x20 ? ' ' : c))
                return false;
            i++;
            continue;
        }
        size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4; /* the scanner saw to its being UTF-8 */
        uint32_t code = len == 1 ? c : c & (0xffU >> (len + 1));
        for (size_t k = 1; k < len; k++)
            code = code << 6 | ((unsigned char)json.ptr[i + k] & 0x3fU);
        bool ok = code < 0x10000 ? buffer_printf(out, "\\u%04x", code)
                                 : buffer_printf(out, "\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10),
                                                 0xdc00 + ((code - 0x10000) & 0x3ff));
        if (!ok)
            return false;
        i += len;
    }
    return true;
}

static bool is_empty_object(struct strview json)
{
    return sv_is_empty(sv_trim((struct strview){json.ptr + 1, json.len - 2}));
}

static bool is_too_large(const struct upstream_marks *marks)
{
    return marks->capture->logs_metadata.len > METADATA_BYTES_MAX;
}

/* Our line replaces the caller's. Too large a one is let through as it came, without our call id, unless the
 * call would be billed a second time for lack of it. */
static bool is_logs_ours(const struct upstream_marks *marks)
{
    return !is_too_large(marks) || marks->bills_log;
}

/* The caller's own object with our member at its end; LiteLLM takes the last of two. */
static bool logs_put(struct buffer *out, const struct upstream_marks *marks)
{
    char id[SPEND_CALL_ID_LEN + 1];
    upstream_request_sign(marks->call_id, marks->secret, id);
    struct strview own = is_too_large(marks) ? SV_NULL : sv_trim(marks->capture->logs_metadata);
    bool ok = buffer_append_sv(out, logs_header) && buffer_append_sv(out, SV_LIT(": {"));
    if (!sv_is_null(own) && !is_empty_object(own)) {
        struct strview inside = {own.ptr + 1, own.len - 2};
        ok = ok && (marks->capture->logs_metadata_of_header ? buffer_append_sv(out, inside)
                                                            : ascii_put(out, inside));
        ok = ok && buffer_append_byte(out, ',');
    }
    return ok && buffer_append_sv(out, SV_LIT("\"spend_call_id\":\"")) &&
           buffer_append(out, id, SPEND_CALL_ID_LEN) && buffer_append_sv(out, SV_LIT("\"}\r\n"));
}

static bool marks_put(struct buffer *out, const struct upstream_marks *marks)
{
    if (marks->identity && !buffer_append_sv(out, SV_LIT("Accept-Encoding: identity\r\n")))
        return false;
    if (!marks->litellm)
        return true;
    char id[UUID_TEXT_LEN + 1];
    uuid_format(marks->call_id, id);
    if (!http_line_put(out, call_id_header, (struct strview){id, UUID_TEXT_LEN}))
        return false;
    meter_add(METER_LOGS_METADATA_SKIPPED, is_too_large(marks) ? 1 : 0);
    return !is_logs_ours(marks) || logs_put(out, marks);
}

/* Lines that ours replace. */
static bool is_replaced(struct strview name, const struct upstream_marks *marks)
{
    if (sv_eq_nocase(name, SV_LIT("host")))
        return true;
    if (marks == NULL)
        return false;
    if (marks->identity && sv_eq_nocase(name, SV_LIT("accept-encoding")))
        return true;
    if (!marks->litellm)
        return false;
    return sv_eq_nocase(name, call_id_header) || (sv_eq_nocase(name, logs_header) && is_logs_ours(marks));
}

static bool head_put(struct buffer *out, const struct upstream_address *to,
                     const struct http_request_head *head, size_t body_len,
                     const struct upstream_marks *marks)
{
    if (!buffer_append_sv(out, head->method) || !buffer_append_byte(out, ' ') ||
        !buffer_append_sv(out, sv_of(to->prefix)) || !buffer_append_sv(out, head->target) ||
        !buffer_append_sv(out, SV_LIT(" HTTP/1.1\r\n")) ||
        !http_line_put(out, SV_LIT("Host"), sv_of(to->name)))
        return false;
    for (size_t i = 0; i < head->headers.count; i++) {
        const struct http_header *line = &head->headers.item[i];
        if (http_header_is_ours(&head->headers, line->name) || is_replaced(line->name, marks))
            continue;
        if (!http_line_put(out, line->name, line->value))
            return false;
    }
    bool framed = head->headers.chunked || head->headers.content_length != HTTP_LENGTH_NONE ||
                  sv_starts_with(head->method, SV_LIT("P")); /* POST, PUT, PATCH */
    if (framed && !http_length_put(out, body_len))
        return false;
    return (marks == NULL || marks_put(out, marks)) && buffer_append_sv(out, SV_LIT("\r\n"));
}

bool upstream_request_make(struct upstream_request *r, const struct upstream_address *to,
                           const struct http_request_head *head, struct strview body,
                           const struct body_edit *edit, const struct upstream_marks *marks, struct err *err)
{
    struct buffer head_room = r->head;
    *r = (struct upstream_request){.head = head_room};
    r->head.cap = HEAD_BYTES_MAX;
    size_t len = body.len;
    r->piece[1] = body;
    if (edit->needed) {
        len = len - edit->cut + edit->put.len;
        size_t after = edit->at + edit->cut;
        r->piece[1].len = edit->at;
        r->piece[2] = edit->put;
        r->piece[3] = (struct strview){body.ptr + after, body.len - after};
    }
    if (buffer_reserve(&r->head, HEAD_BYTES_FIRST) == NULL || !head_put(&r->head, to, head, len, marks)) {
        upstream_request_free(r);
        return err_set(err, ERR_FULL, FATE_RETRY, "the request's head does not fit");
    }
    r->piece[0] = buffer_view(&r->head);
    return true;
}

void upstream_request_free(struct upstream_request *r)
{
    buffer_free(&r->head);
    memset(r->piece, 0, sizeof r->piece);
}

void upstream_request_rewind(struct upstream_request *r)
{
    r->at = r->done = 0;
}

int upstream_request_send(struct upstream_request *r, struct upstream_link *link)
{
    const size_t pieces = sizeof r->piece / sizeof r->piece[0];
    for (;;) {
        struct iovec io[4];
        size_t count = 0;
        for (size_t i = r->at; i < pieces; i++) {
            size_t skip = i == r->at ? r->done : 0;
            if (r->piece[i].len == skip)
                continue;
            const char *from = r->piece[i].ptr + skip;
            memcpy(&io[count].iov_base, &from, sizeof from); /* iovec has no const */
            io[count++].iov_len = r->piece[i].len - skip;
        }
        if (count == 0)
            return 1;
        ssize_t n = upstream_send(link, io, count);
        if (n <= 0)
            return (int)n;
        r->begun = true;
        for (size_t left = (size_t)n; left > 0;) {
            size_t here = r->piece[r->at].len - r->done;
            size_t step = left < here ? left : here;
            r->done += step;
            left -= step;
            if (r->done == r->piece[r->at].len) {
                r->at++;
                r->done = 0;
            }
        }
    }
}
