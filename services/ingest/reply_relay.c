/*
 * reply_relay: gathers the head, then passes body bytes as they come.
 */
#include "ingest/reply_relay.h"

#include "ingest/meter.h"

static enum relay_step bad(struct err *err, const char *what)
{
    (void)err_set(err, ERR_HTTP, FATE_RETRY, "the upstream's reply: %s", what);
    return RELAY_BAD;
}

/* What was to be printed to the caller was, or the caller is cut. */
static void printed(struct client *c, bool ok)
{
    c->broken = c->broken || !ok;
}

static bool has_own_length(const struct exchange *x, const struct reply_head *head)
{
    if (head->headers.content_length == HTTP_LENGTH_NONE || head->status == 204)
        return false;
    return x->framing == REPLY_EMPTY || (x->framing == REPLY_LENGTH && !reply_watch_filters(&x->watch));
}

static void head_to_client(struct exchange *x, const struct reply_head *head)
{
    struct client *c = x->client;
    client_write(c, SV_LIT("HTTP/1.1 "));
    printed(c, buffer_append_uint(&c->out, (uint64_t)head->status, 10));
    client_write(c, SV_LIT(" "));
    client_write(c, head->reason);
    client_write(c, SV_LIT("\r\n"));
    for (size_t i = 0; i < head->headers.count; i++) {
        const struct http_header *line = &head->headers.item[i];
        if (http_header_is_ours(&head->headers, line->name))
            continue;
        printed(c, http_line_put(&c->out, line->name, line->value));
    }
    if (x->is_call)
        printed(c, http_line_put(&c->out, SV_LIT("x-spend-call-id"), sv_of(x->call_id)));
    if (!sv_is_null(x->would_block))
        printed(c, http_line_put(&c->out, SV_LIT("x-spend-would-block"), x->would_block));
    if (has_own_length(x, head))
        printed(c, http_length_put(&c->out, (uint64_t)head->headers.content_length));
    x->chunks = x->framing != REPLY_EMPTY && !has_own_length(x, head);
    if (x->chunks)
        client_write(c, SV_LIT("Transfer-Encoding: chunked\r\n"));
    if (x->gateway->draining)
        c->close_after = true;
    client_write(c, c->close_after ? SV_LIT("Connection: close\r\n\r\n") : SV_LIT("\r\n"));
}

static enum relay_step head_take(struct exchange *x, const struct reply_head *head, struct err *err)
{
    x->status = head->status;
    x->framing = head->framing;
    x->upstream_closes = head->close;
    x->reply_left = head->framing == REPLY_LENGTH ? head->headers.content_length : 0;
    http_chunk_init(&x->chunk, true);
    if (x->is_call) {
        if (!call_record_reply(&x->call, head, &x->arena))
            return bad(err, "no memory for it");
        reply_watch_begin(&x->watch, head, &x->gateway->limits, x->asked);
    }
    if (x->client != NULL)
        head_to_client(x, head);
    x->replying = true;
    bool empty = x->framing == REPLY_EMPTY || (x->framing == REPLY_LENGTH && x->reply_left == 0);
    return empty ? RELAY_DONE : RELAY_MORE;
}

static void to_client(struct exchange *x, struct strview bytes)
{
    if (x->client == NULL || bytes.len == 0)
        return;
    if (x->chunks) {
        printed(x->client, buffer_append_uint(&x->client->out, bytes.len, 16));
        client_write(x->client, SV_LIT("\r\n"));
    }
    client_write(x->client, bytes);
    if (x->chunks)
        client_write(x->client, SV_LIT("\r\n"));
}

/* last: nothing of the body follows; false when that is not known. */
static bool body_pass(struct exchange *x, struct strview bytes, bool last)
{
    struct strview pass = bytes;
    x->reply_bytes += bytes.len;
    if (x->is_call) {
        if (!reply_watch_feed(&x->watch, bytes, last, &x->gateway->piece, &pass))
            return false;
        if (x->entry != NULL)
            journal_progress(x->entry, call_record_progress(&x->call, reply_watch_text(&x->watch)));
    }
    to_client(x, pass);
    return true;
}

static enum relay_step chunks_take(struct exchange *x, struct strview *bytes, struct err *err)
{
    for (;;) {
        struct strview data;
        switch (http_chunk_next(&x->chunk, bytes, &data)) {
        case CHUNK_MORE:
            return RELAY_MORE;
        case CHUNK_DATA:
            if (!body_pass(x, data, false))
                return bad(err, "no memory for it");
            break;
        case CHUNK_END:
            return RELAY_DONE;
        case CHUNK_BAD:
            return bad(err, "malformed chunk");
        }
    }
}

static enum relay_step body_take(struct exchange *x, struct strview *bytes, struct err *err)
{
    struct strview all = *bytes;
    if (all.len == 0)
        return RELAY_MORE;
    switch (x->framing) {
    case REPLY_CHUNKED:
        return chunks_take(x, bytes, err);
    case REPLY_LENGTH:
        if ((int64_t)all.len > x->reply_left)
            all.len = (size_t)x->reply_left;
        x->reply_left -= (int64_t)all.len;
        break;
    case REPLY_UNTIL_CLOSE:
    case REPLY_EMPTY:
        break;
    }
    *bytes = (struct strview){bytes->ptr + all.len, bytes->len - all.len};
    bool last = x->framing == REPLY_LENGTH && x->reply_left == 0;
    if (!body_pass(x, all, last))
        return bad(err, "no memory for it");
    return last ? RELAY_DONE : RELAY_MORE;
}

/* What is left of it stays until more comes. */
static bool head_keep(struct exchange *x, struct strview all)
{
    if (x->reply_in.len == 0)
        return buffer_append_sv(&x->reply_in, all);
    buffer_consume(&x->reply_in, x->reply_in.len - all.len);
    return true;
}

/* The head is gathered until it is whole; interim replies (1xx) are read over. *bytes is what follows it. */
static enum relay_step head_gather(struct exchange *x, struct strview *bytes, bool *whole, struct err *err)
{
    struct reply_head *head = &x->gateway->reply_head;
    struct strview all = *bytes; /* read in place, when it comes whole */
    *whole = false;
    if (x->reply_in.len > 0) {
        if (!buffer_append_sv(&x->reply_in, *bytes))
            return bad(err, "its headers are too large");
        all = buffer_view(&x->reply_in);
    }
    for (;;) {
        switch (reply_head_parse(all, &x->reply_scanned, x->to_head, head, err)) {
        case GUARD_MORE:
            *bytes = SV_LIT("");
            return head_keep(x, all) ? RELAY_MORE : bad(err, "its headers are too large");
        case GUARD_REFUSED:
            return RELAY_BAD;
        case GUARD_OK:
            break;
        }
        if (head->status >= 200)
            break;
        all = (struct strview){all.ptr + head->bytes, all.len - head->bytes};
        x->reply_scanned = 0;
    }
    *whole = true;
    /* what follows the head stands at the end of *bytes, too */
    size_t rest = all.len - head->bytes;
    *bytes = (struct strview){bytes->ptr + (bytes->len - rest), rest};
    enum relay_step step = head_take(x, head, err);
    buffer_free(&x->reply_in);
    return step;
}

enum relay_step reply_relay_feed(struct exchange *x, struct strview bytes, bool *over, struct err *err)
{
    enum relay_step step = RELAY_MORE;
    if (!x->replying) {
        bool whole = false;
        step = head_gather(x, &bytes, &whole, err);
        if (!whole)
            return step;
    }
    if (step == RELAY_MORE)
        step = body_take(x, &bytes, err);
    *over = bytes.len > 0;
    return step;
}

enum relay_step reply_relay_close(struct exchange *x, struct err *err)
{
    if (x->replying && x->framing == REPLY_UNTIL_CLOSE)
        return RELAY_DONE;
    return bad(err,
               x->replying ? "the connection closed in the middle of it" : "the connection closed before it");
}

bool reply_relay_rest(struct exchange *x)
{
    struct strview pass = SV_LIT("");
    if (!x->is_call)
        return true;
    bool ok = reply_watch_end(&x->watch, &x->gateway->piece, &pass);
    to_client(x, pass);
    return ok;
}

void reply_relay_finish(struct exchange *x)
{
    if (x->client != NULL && x->chunks)
        client_write(x->client, SV_LIT("0\r\n\r\n"));
}
