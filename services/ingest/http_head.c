/*
 * http_head: what two parsers could read differently is refused here: bare LF, NUL and other controls, folded
 * lines, blanks before the colon, two framings, two lengths.
 */
#include "ingest/http_head.h"

#include <string.h>

enum guard_verdict http_head_find_end(struct strview in, size_t *scanned, size_t *bytes)
{
    size_t at = *scanned;
    while (at < in.len) {
        const char *lf = memchr(in.ptr + at, '\n', in.len - at);
        if (lf == NULL)
            break;
        size_t end = (size_t)(lf - in.ptr);
        if (end == 0 || in.ptr[end - 1] != '\r')
            return GUARD_REFUSED;
        if (end == 1 || (end >= 3 && in.ptr[end - 2] == '\n')) {
            *bytes = end + 1;
            return GUARD_OK;
        }
        at = end + 1;
    }
    *scanned = in.len;
    return GUARD_MORE;
}

struct strview http_line_cut(struct strview *rest)
{
    const char *lf = rest->len == 0 ? NULL : memchr(rest->ptr, '\n', rest->len);
    if (lf == NULL) {
        struct strview all = *rest;
        *rest = (struct strview){rest->ptr + rest->len, 0};
        return all;
    }
    size_t len = (size_t)(lf - rest->ptr);
    struct strview line = {rest->ptr, len > 0 ? len - 1 : 0};
    *rest = (struct strview){lf + 1, rest->len - len - 1};
    return line;
}

bool http_line_put(struct buffer *out, struct strview name, struct strview value)
{
    const struct strview piece[] = {name, SV_LIT(": "), value, SV_LIT("\r\n")};
    char *at = buffer_reserve(out, name.len + value.len + 4);
    if (at == NULL)
        return false;
    for (size_t i = 0; i < sizeof piece / sizeof piece[0]; i++) {
        if (piece[i].len > 0)
            memcpy(at, piece[i].ptr, piece[i].len);
        at += piece[i].len;
    }
    buffer_grew(out, name.len + value.len + 4);
    return true;
}

bool http_length_put(struct buffer *out, uint64_t bytes)
{
    return buffer_append_sv(out, SV_LIT("Content-Length: ")) && buffer_append_uint(out, bytes, 10) &&
           buffer_append_sv(out, SV_LIT("\r\n"));
}

/* RFC 9110's tchar, a bit each. */
static bool is_token_byte(unsigned char c)
{
    static const uint32_t in[8] = {0, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff};
    return (in[c / 32] >> c % 32 & 1) != 0;
}

bool http_is_token(struct strview v)
{
    for (size_t i = 0; i < v.len; i++)
        if (!is_token_byte((unsigned char)v.ptr[i]))
            return false;
    return v.len > 0;
}

static bool is_field_text(struct strview v)
{
    if (sv_is_plain(v))
        return true;
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

bool http_list_has(struct strview list, struct strview word)
{
    while (!sv_is_null(list)) {
        struct strview rest;
        if (sv_eq_nocase(sv_trim(sv_cut(list, ',', &rest)), word))
            return true;
        list = rest;
    }
    return false;
}

/* A leading zero could be read as octal. */
static bool length_parse(struct strview v, int64_t *out)
{
    if (v.len == 0 || v.len > 18 || (v.len > 1 && v.ptr[0] == '0'))
        return false;
    for (size_t i = 0; i < v.len; i++)
        if (v.ptr[i] < '0' || v.ptr[i] > '9')
            return false;
    return sv_to_i64(v, out);
}

/* What one line says about framing. NULL when it may stand. */
static const char *framing_note(struct http_headers *h, const struct http_header *line)
{
    if (sv_eq_nocase(line->name, SV_LIT("content-length"))) {
        if (h->content_length != HTTP_LENGTH_NONE)
            return "more than one Content-Length";
        if (!length_parse(line->value, &h->content_length))
            return "Content-Length is not a number";
    } else if (sv_eq_nocase(line->name, SV_LIT("transfer-encoding"))) {
        if (h->chunked)
            return "more than one Transfer-Encoding";
        if (!sv_eq_nocase(line->value, SV_LIT("chunked")))
            return "Transfer-Encoding other than chunked";
        h->chunked = true;
    } else if (sv_eq_nocase(line->name, SV_LIT("connection"))) {
        h->close = h->close || http_list_has(line->value, SV_LIT("close"));
        h->names = h->names || (!sv_eq_nocase(line->value, SV_LIT("close")) &&
                                !sv_eq_nocase(line->value, SV_LIT("keep-alive")));
    } else if (sv_eq_nocase(line->name, SV_LIT("host"))) {
        h->hosts++;
    } else if (sv_eq_nocase(line->name, SV_LIT("upgrade"))) {
        h->upgrade = true;
        h->websocket = h->websocket || http_list_has(line->value, SV_LIT("websocket"));
    }
    return NULL;
}

/* Gateways to CGI, WSGI and the like read it as the one with a dash. */
static bool is_framing_misspelt(struct strview name)
{
    return sv_eq_nocase(name, SV_LIT("content_length")) || sv_eq_nocase(name, SV_LIT("transfer_encoding"));
}

static bool is_framing(struct strview name)
{
    return sv_eq_nocase(name, SV_LIT("content-length")) || sv_eq_nocase(name, SV_LIT("transfer-encoding")) ||
           sv_eq_nocase(name, SV_LIT("connection"));
}

/* drops: a value with a control character makes *out's value null instead. NULL when the line may stand. */
static const char *line_parse(struct strview line, bool drops, struct http_header *out)
{
    if (line.len > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t'))
        return "a folded header line";
    struct strview value;
    struct strview name = sv_cut(line, ':', &value);
    if (sv_is_null(value))
        return "a header line without a colon";
    if (!http_is_token(name))
        return "a header name with a byte that may not stand there";
    if (!drops && is_framing_misspelt(name))
        return "a framing header spelt with an underscore";
    bool sound = is_field_text(value);
    if (!sound && (!drops || is_framing(name)))
        return "a control character in a header value";
    *out = (struct http_header){name, sound ? sv_trim(value) : SV_NULL};
    return NULL;
}

static const char *lines_parse(struct strview lines, size_t max, bool drops, struct http_headers *out,
                               enum err_code *code)
{
    *code = ERR_INVALID;
    out->count = 0;
    out->content_length = HTTP_LENGTH_NONE;
    out->chunked = out->close = out->names = out->upgrade = out->websocket = false;
    out->hosts = 0;
    while (lines.len > 0) {
        if (out->count == max) {
            *code = ERR_FULL;
            return "too many header lines";
        }
        struct http_header *header = &out->item[out->count];
        const char *wrong = line_parse(http_line_cut(&lines), drops, header);
        if (wrong == NULL && sv_is_null(header->value))
            continue;
        if (wrong == NULL)
            wrong = framing_note(out, header);
        if (wrong != NULL)
            return wrong;
        out->count++;
    }
    if (out->chunked && out->content_length != HTTP_LENGTH_NONE)
        return "both Content-Length and Transfer-Encoding";
    return NULL;
}

const char *http_headers_parse(struct strview lines, struct http_headers *out, enum err_code *code)
{
    return lines_parse(lines, LIMIT_HEADER_COUNT, false, out, code);
}

const char *http_headers_parse_reply(struct strview lines, struct http_headers *out)
{
    enum err_code ignored;
    return lines_parse(lines, LIMIT_REPLY_HEADER_COUNT, true, out, &ignored);
}

struct strview http_header_last(const struct http_headers *h, struct strview name)
{
    for (size_t i = h->count; i > 0; i--)
        if (sv_eq_nocase(h->item[i - 1].name, name))
            return h->item[i - 1].value;
    return SV_NULL;
}

bool http_header_is_ours(const struct http_headers *h, struct strview name)
{
    static const struct strview ours[] = {
        SV_INIT("connection"),
        SV_INIT("close"),
        SV_INIT("content-length"),
        SV_INIT("transfer-encoding"),
        SV_INIT("keep-alive"),
        SV_INIT("te"),
        SV_INIT("trailer"),
        SV_INIT("upgrade"),
        SV_INIT("expect"),
        SV_INIT("proxy-connection"),
        SV_INIT("proxy-authenticate"),
        SV_INIT("proxy-authorization"),
    };
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (sv_eq_nocase(name, ours[i]))
            return true;
    if (name.len > 8 && sv_eq_nocase((struct strview){name.ptr, 8}, SV_LIT("x-spend-")))
        return true;
    for (size_t i = 0; h->names && i < h->count; i++)
        if (sv_eq_nocase(h->item[i].name, SV_LIT("connection")) && http_list_has(h->item[i].value, name))
            return true;
    return false;
}
