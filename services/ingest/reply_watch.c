/*
 * reply_watch: the mode is decided once, by status and content type.
 */
#include "ingest/reply_watch.h"

#include "ingest/meter.h"

void reply_watch_init(struct reply_watch *w, enum spend_operation operation, struct strview provider,
                      struct arena *scratch)
{
    w->mode = WATCH_NOTHING;
    w->scratch = scratch;
    w->unread = false;
    w->bytes = 0;
    usage_reader_init(&w->reader, operation, provider);
    buffer_init(&w->body, 0);
}

void reply_watch_free(struct reply_watch *w)
{
    usage_reader_free(&w->reader);
    if (w->mode == WATCH_SSE)
        stream_filter_free(&w->filter);
    buffer_free(&w->body);
    w->mode = WATCH_NOTHING;
}

static bool is_media(struct strview type, struct strview name)
{
    struct strview rest;
    return sv_eq_nocase(sv_trim(sv_cut(type, ';', &rest)), name);
}

static void unread_note(struct reply_watch *w)
{
    if (!w->unread)
        meter_add(METER_REPLY_UNREAD, 1);
    w->unread = true;
}

void reply_watch_begin(struct reply_watch *w, const struct reply_head *head,
                       const struct watch_limits *limits, bool filters)
{
    if (w->reader.table.count == 0 || head->status >= 300)
        return;
    struct strview encoding = http_header_last(&head->headers, SV_LIT("content-encoding"));
    if (!sv_is_empty(encoding) && !sv_eq_nocase(encoding, SV_LIT("identity"))) {
        unread_note(w);
        return;
    }
    struct strview type = http_header_last(&head->headers, SV_LIT("content-type"));
    if (is_media(type, SV_LIT("text/event-stream"))) {
        w->mode = WATCH_SSE;
        stream_filter_init(&w->filter, &w->reader, w->scratch, limits->sse_event_bytes, filters);
    } else if (!sv_starts_with(type, SV_LIT("audio/"))) { /* speech: what it costs is known by its text */
        w->mode = WATCH_JSON;
        buffer_init(&w->body, limits->reply_bytes);
    }
}

bool reply_watch_filters(const struct reply_watch *w)
{
    return w->mode == WATCH_SSE && w->filter.filters;
}

static void json_read(struct reply_watch *w, struct strview body)
{
    struct usage_seen seen = usage_reader_feed(&w->reader, body, w->scratch);
    arena_reset(w->scratch);
    w->mode = WATCH_NOTHING;
    if (!seen.parsed)
        unread_note(w);
}

bool reply_watch_feed(struct reply_watch *w, struct strview bytes, bool last, struct buffer *piece,
                      struct strview *pass)
{
    *pass = bytes;
    w->bytes += bytes.len;
    if (w->mode == WATCH_SSE) {
        buffer_clear(piece);
        bool ok = stream_filter_feed(&w->filter, bytes, piece);
        if (w->filter.filters)
            *pass = buffer_view(piece);
        return ok;
    }
    if (w->mode != WATCH_JSON)
        return true;
    if (last && w->body.len == 0 && bytes.len > 0 && bytes.len <= w->body.cap) { /* all of it, in place */
        json_read(w, bytes);
    } else if (!buffer_append_sv(&w->body, bytes)) {
        unread_note(w);
        buffer_free(&w->body);
        w->mode = WATCH_NOTHING;
    }
    return true;
}

uint64_t reply_watch_text(const struct reply_watch *w)
{
    return w->mode == WATCH_JSON || w->unread ? w->bytes : w->reader.text_bytes;
}

bool reply_watch_end(struct reply_watch *w, struct buffer *piece, struct strview *pass)
{
    *pass = SV_LIT("");
    if (w->mode == WATCH_SSE) {
        buffer_clear(piece);
        bool ok = stream_filter_end(&w->filter, piece);
        if (w->filter.filters)
            *pass = buffer_view(piece);
        return ok;
    }
    if (w->mode == WATCH_JSON && w->body.len > 0) {
        json_read(w, buffer_view(&w->body));
        buffer_free(&w->body);
    }
    return true;
}
