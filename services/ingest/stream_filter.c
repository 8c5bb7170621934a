/*
 * stream_filter: a chunk goes out again iff it holds a usage object and choices that say nothing.
 */
#include "ingest/stream_filter.h"

#include "ingest/meter.h"

static void on_event(void *arg, const struct sse_event *event)
{
    struct stream_filter *f = arg;
    if (!event->goes_on)
        f->dropping = false;
    if (!sv_is_null(event->data)) {
        f->events++;
        if (sv_eq(sv_trim(event->data), SV_LIT("[DONE]"))) {
            f->done = true;
        } else {
            struct usage_seen seen = usage_reader_feed(f->reader, event->data, f->scratch);
            arena_reset(f->scratch);
            f->done = f->done || seen.last;
            f->dropping = f->filters && seen.parsed && seen.usage && seen.choices_idle;
            meter_add(METER_USAGE_REMOVED, f->dropping ? 1 : 0);
        }
    }
    if (f->filters && !f->dropping && !buffer_append_sv(f->out, event->raw))
        f->failed = true;
}

void stream_filter_init(struct stream_filter *f, struct usage_reader *reader, struct arena *scratch,
                        size_t event_max, bool filters)
{
    *f = (struct stream_filter){.reader = reader, .scratch = scratch, .filters = filters};
    sse_parser_init(&f->parser, event_max, on_event, f);
}

void stream_filter_free(struct stream_filter *f)
{
    sse_parser_free(&f->parser);
}

bool stream_filter_feed(struct stream_filter *f, struct strview bytes, struct buffer *out)
{
    f->out = out;
    sse_parser_feed(&f->parser, bytes);
    return !f->failed && !f->parser.failed;
}

bool stream_filter_end(struct stream_filter *f, struct buffer *out)
{
    f->out = out;
    sse_parser_end(&f->parser);
    return !f->failed && !f->parser.failed;
}
