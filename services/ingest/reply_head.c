/*
 * reply_head: as strict as a request about framing, since a reply can smuggle too.
 */
#include "ingest/reply_head.h"

static enum guard_verdict refuse(struct err *err, const char *what)
{
    (void)err_set(err, ERR_HTTP, FATE_RETRY, "the upstream's reply: %s", what);
    return GUARD_REFUSED;
}

static bool status_line(struct strview line, struct reply_head *out, bool *old)
{
    struct strview version = {line.ptr, 9};
    if (line.len < 12)
        return false;
    *old = sv_eq(version, SV_LIT("HTTP/1.0 "));
    if (!*old && !sv_eq(version, SV_LIT("HTTP/1.1 ")))
        return false;
    int64_t status = 0;
    for (size_t i = 9; i < 12; i++) {
        if (line.ptr[i] < '0' || line.ptr[i] > '9')
            return false;
        status = status * 10 + (line.ptr[i] - '0');
    }
    if (status < 100 || status > 599 || (line.len > 12 && line.ptr[12] != ' '))
        return false;
    out->status = (int)status;
    out->reason = line.len > 13 ? (struct strview){line.ptr + 13, line.len - 13} : SV_LIT("");
    return !sv_has_control(out->reason);
}

enum guard_verdict reply_head_parse(struct strview in, size_t *scanned, bool to_head, struct reply_head *out,
                                    struct err *err)
{
    enum guard_verdict verdict = http_head_find_end(in, scanned, &out->bytes);
    if (verdict == GUARD_REFUSED)
        return refuse(err, "a line does not end in CR LF");
    if (verdict == GUARD_MORE ? in.len >= REPLY_HEAD_BYTES_MAX : out->bytes > REPLY_HEAD_BYTES_MAX)
        return refuse(err, "its headers are too large");
    if (verdict == GUARD_MORE)
        return GUARD_MORE;
    struct strview rest = {in.ptr, out->bytes - 2};
    bool old = false;
    if (!status_line(http_line_cut(&rest), out, &old))
        return refuse(err, "malformed status line");
    const char *wrong = http_headers_parse_reply(rest, &out->headers);
    if (wrong != NULL)
        return refuse(err, wrong);
    out->close = out->headers.close || old;
    if (to_head || out->status < 200 || out->status == 204 || out->status == 304)
        out->framing = REPLY_EMPTY;
    else if (out->headers.chunked)
        out->framing = REPLY_CHUNKED;
    else if (out->headers.content_length != HTTP_LENGTH_NONE)
        out->framing = REPLY_LENGTH;
    else
        out->framing = REPLY_UNTIL_CLOSE;
    out->close = out->close || out->framing == REPLY_UNTIL_CLOSE;
    if (out->status == 101)
        return refuse(err, "it switches protocols");
    return GUARD_OK;
}
