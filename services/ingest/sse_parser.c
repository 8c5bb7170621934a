/*
 * sse_parser: bytes are gathered up to each line end; a blank line hands the event over.
 */
#include "ingest/sse_parser.h"

#include "ingest/meter.h"

#include <string.h>

/* Every line but the last has text, so at most this much follows the text that was found to fit. */
#define LINE_ENDS 8

void sse_parser_init(struct sse_parser *p, size_t event_max, sse_event_fn *fn, void *arg)
{
    memset(p, 0, sizeof *p);
    p->event_max = event_max;
    p->fn = fn;
    p->arg = arg;
    buffer_init(&p->raw, event_max + LINE_ENDS);
    buffer_init(&p->data, event_max + LINE_ENDS);
}

void sse_parser_free(struct sse_parser *p)
{
    buffer_free(&p->raw);
    buffer_free(&p->data);
}

static void event_emit(struct sse_parser *p, bool goes_on, bool oversize)
{
    struct sse_event event = {.raw = buffer_view(&p->raw), .goes_on = goes_on, .oversize = oversize};
    event.data = p->has_data && !oversize ? buffer_view(&p->data) : SV_NULL;
    p->fn(p->arg, &event);
    buffer_clear(&p->raw);
    buffer_clear(&p->data);
    p->has_data = false;
    p->line = 0;
}

/* A complete line, without its end. */
static void line_take(struct sse_parser *p, struct strview line)
{
    if (!p->begun && sv_starts_with(line, SV_LIT("\xef\xbb\xbf")))
        line = (struct strview){line.ptr + 3, line.len - 3};
    if (sv_is_empty(line) || !sv_starts_with(line, SV_LIT("data")) || (line.len > 4 && line.ptr[4] != ':'))
        return;
    struct strview value = line.len > 4 ? (struct strview){line.ptr + 5, line.len - 5} : SV_LIT("");
    if (value.len > 0 && value.ptr[0] == ' ')
        value = (struct strview){value.ptr + 1, value.len - 1};
    /* data never outgrows raw, whose cap is the same */
    if (p->has_data && !buffer_append_byte(&p->data, '\n'))
        return;
    if (buffer_append_sv(&p->data, value))
        p->has_data = true;
}

static void byte_add(struct sse_parser *p, char c)
{
    if (!buffer_append_byte(&p->raw, (uint8_t)c))
        p->failed = true;
}

static bool is_line_empty(const struct sse_parser *p)
{
    return p->oversize ? p->line_empty : p->line == p->raw.len;
}

/* c is CR or LF and ends a line. */
static void line_end(struct sse_parser *p, char c)
{
    bool empty = is_line_empty(p);
    if (!p->oversize && !empty)
        line_take(p, (struct strview){p->raw.data + p->line, p->raw.len - p->line});
    p->begun = true; /* also with an empty line: a byte order mark stands before all others */
    byte_add(p, c);
    p->line = p->raw.len;
    p->line_empty = true;
    p->after_cr = c == '\r';
    p->after_event = empty;
    if (!empty)
        return;
    bool rest = p->oversize;
    p->oversize = false;
    event_emit(p, rest, rest);
}

static void text_add(struct sse_parser *p, struct strview text)
{
    p->line_empty = false;
    p->after_cr = false;
    while (text.len > 0) {
        size_t fits = p->raw.len < p->event_max ? p->event_max - p->raw.len : 0;
        fits = fits < text.len ? fits : text.len;
        if (!buffer_append(&p->raw, text.ptr, fits))
            p->failed = true;
        text = (struct strview){text.ptr + fits, text.len - fits};
        if (text.len == 0)
            break;
        if (!p->oversize)
            meter_add(METER_SSE_OVERSIZE, 1);
        event_emit(p, p->oversize, true);
        p->oversize = true;
    }
}

static void lf_of_cr(struct sse_parser *p)
{
    p->after_cr = false;
    byte_add(p, '\n');
    if (p->after_event)
        event_emit(p, true, false);
    else
        p->line = p->raw.len;
}

void sse_parser_feed(struct sse_parser *p, struct strview bytes)
{
    while (bytes.len > 0) {
        size_t len = 0;
        while (len < bytes.len && bytes.ptr[len] != '\n' && bytes.ptr[len] != '\r')
            len++;
        if (len > 0)
            text_add(p, (struct strview){bytes.ptr, len});
        if (len < bytes.len) {
            char c = bytes.ptr[len];
            if (c == '\n' && p->after_cr)
                lf_of_cr(p);
            else
                line_end(p, c);
            len++;
        }
        bytes = (struct strview){bytes.ptr + len, bytes.len - len};
    }
}

void sse_parser_end(struct sse_parser *p)
{
    if (p->raw.len == 0)
        return;
    if (!p->oversize && p->line < p->raw.len)
        line_take(p, (struct strview){p->raw.data + p->line, p->raw.len - p->line});
    event_emit(p, p->oversize, p->oversize);
}
