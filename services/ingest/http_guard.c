/*
 * http_guard: request line and the rules that hold for requests alone.
 */
#include "ingest/http_guard.h"

#include <string.h>

const struct strview http_key_headers[HTTP_KEY_HEADERS] = {
    SV_INIT("x-litellm-api-key"), SV_INIT("authorization"),  SV_INIT("api-key"),
    SV_INIT("x-api-key"),         SV_INIT("x-goog-api-key"), SV_INIT("ocp-apim-subscription-key"),
};

static enum guard_verdict refuse(struct http_refusal *why, int status, const char *type, const char *message)
{
    *why = (struct http_refusal){status, type, message};
    return GUARD_REFUSED;
}

static enum guard_verdict bad(struct http_refusal *why, const char *message)
{
    return refuse(why, 400, "bad_request", message);
}

static bool is_method_known(struct strview method)
{
    static const struct strview known[] = {SV_INIT("GET"),    SV_INIT("POST"),  SV_INIT("HEAD"),
                                           SV_INIT("PUT"),    SV_INIT("PATCH"), SV_INIT("DELETE"),
                                           SV_INIT("OPTIONS")};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (sv_eq(method, known[i]))
            return true;
    return false;
}

/* word begins with a byte that has no case: most places are told by it alone. */
static bool is_next(struct strview v, size_t at, struct strview word)
{
    return v.ptr[at] == word.ptr[0] && v.len - at >= word.len &&
           sv_eq_nocase((struct strview){v.ptr + at, word.len}, word);
}

/* A segment that is "." or "..", also with dots written as %2e, and with parameters behind (";v=1"). */
static bool is_dot_segment(struct strview segment)
{
    size_t dots = 0;
    for (size_t i = 0; i < segment.len && segment.ptr[i] != ';' && !is_next(segment, i, SV_LIT("%3b"));
         dots++) {
        if (segment.ptr[i] == '.')
            i++;
        else if (is_next(segment, i, SV_LIT("%2e")))
            i += 3;
        else
            return false;
    }
    return dots == 1 || dots == 2;
}

/* The segment at the front, up to a slash, also one written as %2f. */
static struct strview segment_cut(struct strview path, struct strview *rest)
{
    for (size_t i = 0; i < path.len; i++) {
        size_t slash = path.ptr[i] == '/' ? 1 : is_next(path, i, SV_LIT("%2f")) ? 3 : 0;
        *rest = (struct strview){path.ptr + i + slash, path.len - i - slash};
        if (slash > 0)
            return (struct strview){path.ptr, i};
    }
    *rest = SV_NULL;
    return path;
}

/* A slash or an end to some (Python's `$` stands before a line feed, too); a query, a fragment or a second
 * decoding to those that decode it first. */
static bool is_trick(struct strview path, size_t at, bool may_be_call)
{
    static const struct strview of_calls[] = {SV_INIT("%3f"), SV_INIT("%23"), SV_INIT("%25")};
    if (path.ptr[at] == '\\')
        return true;
    if (path.ptr[at] != '%' || path.len - at < 3)
        return false;
    int high = sv_hex_digit(path.ptr[at + 1]);
    int low = sv_hex_digit(path.ptr[at + 2]);
    if ((high == 0 || high == 1) && low >= 0)
        return true;
    if (high == 7 && low == 15)
        return true;
    for (size_t k = 0; may_be_call && k < sizeof of_calls / sizeof of_calls[0]; k++)
        if (is_next(path, at, of_calls[k]))
            return true;
    return false;
}

static const char *target_fault(struct strview target, struct strview path, bool may_be_call)
{
    if (target.len == 0 || target.ptr[0] != '/')
        return "the request target must be a path";
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = (unsigned char)target.ptr[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return "a byte in the request target that may not stand there";
    }
    for (size_t i = 0; i < path.len; i++)
        if (is_trick(path, i, may_be_call))
            return "a backslash, or an encoded control character, ?, # or % in the path";
    for (struct strview rest = path; !sv_is_null(rest);)
        if (is_dot_segment(segment_cut(rest, &rest)))
            return "a dot segment in the path";
    return NULL;
}

static enum guard_verdict request_line(struct strview line, struct http_request_head *out,
                                       struct http_refusal *why)
{
    struct strview rest;
    struct strview version;
    out->method = sv_cut(line, ' ', &rest);
    if (sv_is_null(rest) || !http_is_token(out->method))
        return bad(why, "malformed request line");
    out->target = sv_cut(rest, ' ', &version);
    if (sv_is_null(version))
        return bad(why, "malformed request line");
    if (sv_eq(version, SV_LIT("HTTP/1.0")) || sv_eq(version, SV_LIT("HTTP/2.0")))
        return refuse(why, 505, "http_version", "only HTTP/1.1 is spoken here");
    if (!sv_eq(version, SV_LIT("HTTP/1.1")))
        return bad(why, "malformed request line");
    if (!is_method_known(out->method))
        return refuse(why, 405, "method_not_allowed", "this method is not passed on");
    struct strview query;
    out->path = sv_cut(out->target, '?', &query);
    const char *fault = target_fault(out->target, out->path, sv_eq(out->method, SV_LIT("POST")));
    return fault == NULL ? GUARD_OK : bad(why, fault);
}

/* What Connection names is not passed on: not what the record goes by. */
static const char *connection_fault(struct strview value)
{
    static const struct strview kept[] = {
        SV_INIT("host"),         SV_INIT("content-length"),   SV_INIT("transfer-encoding"),
        SV_INIT("content-type"), SV_INIT("content-encoding"), SV_INIT("x-litellm-tags")};
    for (size_t k = 0; k < HTTP_KEY_HEADERS; k++)
        if (http_list_has(value, http_key_headers[k]))
            return "Connection names a header with a key";
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        if (http_list_has(value, kept[i]))
            return "Connection names a header that is for the upstream";
    return NULL;
}

static const char *key_fault(const struct http_headers *h)
{
    size_t count[HTTP_KEY_HEADERS] = {0};
    const char *fault = NULL;
    for (size_t i = 0; i < h->count && fault == NULL; i++) {
        for (size_t k = 0; k < HTTP_KEY_HEADERS; k++)
            if (sv_eq_nocase(h->item[i].name, http_key_headers[k]) && ++count[k] > 1)
                return "a header with a key stands twice";
        if (sv_eq_nocase(h->item[i].name, SV_LIT("connection")))
            fault = connection_fault(h->item[i].value);
    }
    return fault;
}

/* name[:port], or [address][:port] */
static bool is_host(struct strview v)
{
    struct strview port = SV_NULL;
    if (sv_starts_with(v, SV_LIT("["))) {
        size_t end = sv_find(v, ']');
        if (end == v.len || (end + 1 < v.len && v.ptr[end + 1] != ':'))
            return false;
        port = end + 1 < v.len ? (struct strview){v.ptr + end + 2, v.len - end - 2} : SV_NULL;
        v = (struct strview){v.ptr + 1, end - 1};
    } else {
        v = sv_cut(v, ':', &port);
    }
    for (size_t i = 0; i < port.len; i++)
        if (port.ptr[i] < '0' || port.ptr[i] > '9')
            return false;
    for (size_t i = 0; i < v.len; i++)
        if ((unsigned char)v.ptr[i] <= ' ' || (unsigned char)v.ptr[i] >= 0x7f ||
            strchr("\"#,/<>?@[\\]^`{|}", v.ptr[i]) != NULL)
            return false;
    return v.len > 0;
}

static bool is_expectation_known(struct http_request_head *out)
{
    for (size_t i = 0; i < out->headers.count; i++) {
        const struct http_header *line = &out->headers.item[i];
        if (!sv_eq_nocase(line->name, SV_LIT("expect")))
            continue;
        out->expect_continue = sv_eq_nocase(line->value, SV_LIT("100-continue"));
        if (!out->expect_continue)
            return false;
    }
    return true;
}

static enum guard_verdict header_rules(struct http_request_head *out, struct http_refusal *why)
{
    const struct http_headers *h = &out->headers;
    if (h->hosts != 1)
        return bad(why, "exactly one Host line is needed");
    if (!is_host(http_header_last(h, SV_LIT("host"))))
        return bad(why, "Host is no host");
    if (h->websocket)
        return refuse(why, 501, "not_metered", "WebSockets are not metered, so they are not passed on");
    if (h->upgrade)
        return bad(why, "protocol upgrades are not passed on");
    const char *fault = key_fault(h);
    if (fault != NULL)
        return bad(why, fault);
    out->expect_continue = false;
    if (!is_expectation_known(out))
        return refuse(why, 417, "expectation_failed", "only Expect: 100-continue is understood");
    return GUARD_OK;
}

enum guard_verdict http_guard(struct strview in, size_t *scanned, size_t header_bytes_max,
                              struct http_request_head *out, struct http_refusal *why)
{
    enum guard_verdict verdict = http_head_find_end(in, scanned, &out->bytes);
    if (verdict == GUARD_REFUSED)
        return bad(why, "a header line does not end in CR LF");
    if (verdict == GUARD_MORE ? in.len >= header_bytes_max : out->bytes > header_bytes_max)
        return refuse(why, 431, "headers_too_large", "the request's headers are too large");
    if (verdict == GUARD_MORE)
        return GUARD_MORE;
    struct strview rest = {in.ptr, out->bytes - 2};
    verdict = request_line(http_line_cut(&rest), out, why);
    if (verdict != GUARD_OK)
        return verdict;
    enum err_code code;
    const char *wrong = http_headers_parse(rest, &out->headers, &code);
    if (wrong != NULL && code == ERR_FULL)
        return refuse(why, 431, "headers_too_large", wrong);
    if (wrong != NULL)
        return bad(why, wrong);
    return header_rules(out, why);
}
