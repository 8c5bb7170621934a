/*
 * sse: a byte for limits, a byte for where the stream is cut, and the stream. Cut anywhere, it gives the same
 * events, the same bytes to the caller and the same usage; what a plain reader of lines sees in it is what we
 * see.
 */
#include "fuzz.h"

#include "ingest/stream_filter.h"

#define STEPS 2 /* ways to cut */

struct told {
    struct buffer raw;    /* all bytes again */
    struct buffer events; /* data, each with its mark */
    size_t oversize;
};

static void on_event(void *arg, const struct sse_event *event)
{
    struct told *t = arg;
    assert(buffer_append_sv(&t->raw, event->raw));
    t->oversize += event->oversize ? 1 : 0;
    assert(!event->oversize || sv_is_null(event->data));
    if (!sv_is_null(event->data))
        assert(buffer_append_sv(&t->events, event->data) && buffer_append_byte(&t->events, 0x1e));
}

/* Pieces of at most step bytes; 0: all at once. */
static struct strview piece_cut(struct strview *rest, size_t step)
{
    return fuzz_text(rest, step == 0 ? rest->len : step);
}

static void parse(struct strview in, size_t step, size_t event_max, struct told *t)
{
    struct sse_parser p;
    *t = (struct told){.oversize = 0};
    buffer_init(&t->raw, 1 << 20);
    buffer_init(&t->events, 1 << 20);
    sse_parser_init(&p, event_max, on_event, t);
    for (struct strview rest = in; rest.len > 0;)
        sse_parser_feed(&p, piece_cut(&rest, step));
    sse_parser_end(&p);
    assert(!p.failed && sv_eq(buffer_view(&t->raw), in.len == 0 ? buffer_view(&t->raw) : in));
    sse_parser_free(&p);
}

static void told_free(struct told *t)
{
    buffer_free(&t->raw);
    buffer_free(&t->events);
}

/* One line off the front, without its end. */
static struct strview line_cut(struct strview *rest)
{
    size_t len = 0;
    while (len < rest->len && rest->ptr[len] != '\r' && rest->ptr[len] != '\n')
        len++;
    struct strview line = fuzz_text(rest, len);
    bool cr = rest->len > 0 && rest->ptr[0] == '\r';
    (void)fuzz_text(rest, cr && rest->len > 1 && rest->ptr[1] == '\n' ? 2 : 1);
    return line;
}

/* The data of all events, read line by line from the whole. */
static void lines_read(struct strview in, struct buffer *events)
{
    struct buffer data;
    bool has = false;
    buffer_init(&data, 1 << 20);
    if (in.len >= 3 && memcmp(in.ptr, "\xef\xbb\xbf", 3) == 0)
        (void)fuzz_text(&in, 3);
    while (in.len > 0) {
        struct strview line = line_cut(&in);
        struct strview value = SV_NULL;
        if (line.len == 4 && memcmp(line.ptr, "data", 4) == 0)
            value = SV_LIT("");
        else if (line.len > 4 && memcmp(line.ptr, "data:", 5) == 0)
            value = (struct strview){line.ptr + 5, line.len - 5};
        if (value.len > 0 && value.ptr[0] == ' ')
            (void)fuzz_text(&value, 1);
        if (!sv_is_null(value)) {
            assert(!has || buffer_append_byte(&data, '\n'));
            assert(buffer_append_sv(&data, value));
            has = true;
        }
        if (has && (line.len == 0 || in.len == 0)) {
            assert(buffer_append_sv(events, buffer_view(&data)) && buffer_append_byte(events, 0x1e));
            buffer_clear(&data);
            has = false;
        }
    }
    buffer_free(&data);
}

static void parser_check(struct strview in, size_t step, size_t event_max)
{
    struct told whole;
    struct buffer plain;
    parse(in, 0, event_max, &whole);
    const size_t steps[STEPS] = {1, step};
    for (size_t i = 0; i < STEPS; i++) {
        struct told cut;
        parse(in, steps[i], event_max, &cut);
        assert(sv_eq(buffer_view(&cut.events), buffer_view(&whole.events)) && cut.oversize == whole.oversize);
        told_free(&cut);
    }
    buffer_init(&plain, 1 << 20);
    lines_read(in, &plain);
    assert(whole.oversize > 0 || (plain.len == whole.events.len &&
                                  (plain.len == 0 || memcmp(plain.data, whole.events.data, plain.len) == 0)));
    buffer_free(&plain);
    told_free(&whole);
}

struct filtered {
    struct buffer out;
    struct usage usage;
    size_t events;
    bool done;
};

static void filter(struct strview in, size_t step, size_t event_max, bool filters, struct filtered *f)
{
    struct stream_filter s;
    struct usage_reader reader;
    struct arena scratch;
    usage_reader_init(&reader, OPERATION_CHAT, SV_NULL);
    arena_init(&scratch, 1 << 20);
    buffer_init(&f->out, 1 << 20);
    stream_filter_init(&s, &reader, &scratch, event_max, filters);
    for (struct strview rest = in; rest.len > 0;)
        assert(stream_filter_feed(&s, piece_cut(&rest, step), &f->out));
    assert(stream_filter_end(&s, &f->out));
    usage_reader_result(&reader, &f->usage);
    f->events = s.events;
    f->done = s.done;
    stream_filter_free(&s);
    usage_reader_free(&reader);
    arena_free(&scratch);
}

static bool usage_same(const struct usage *a, const struct usage *b)
{
    for (int c = 0; c < USAGE_COUNT; c++)
        if (a->units[c].has != b->units[c].has || (a->units[c].has && a->units[c].v != b->units[c].v))
            return false;
    return true;
}

/* What is left out of `in`: bytes of it in order, nothing new. */
static bool is_subsequence(struct strview part, struct strview in)
{
    size_t at = 0;
    for (size_t i = 0; i < in.len && at < part.len; i++)
        at += in.ptr[i] == part.ptr[at] ? 1 : 0;
    return at == part.len;
}

static void filter_check(struct strview in, size_t step, size_t event_max)
{
    struct filtered whole;
    struct filtered cut;
    struct filtered read;
    filter(in, 0, event_max, true, &whole);
    filter(in, step, event_max, true, &cut);
    filter(in, 1, event_max, false, &read);
    assert(whole.out.len == cut.out.len && whole.events == cut.events && whole.done == cut.done);
    assert(whole.out.len == 0 || memcmp(whole.out.data, cut.out.data, whole.out.len) == 0);
    assert(usage_same(&whole.usage, &cut.usage) && usage_same(&whole.usage, &read.usage));
    assert(read.out.len == 0 && read.events == whole.events && read.done == whole.done);
    assert(is_subsequence(buffer_view(&whole.out), in));
    /* without usage nothing is taken out */
    assert(memmem(in.ptr, in.len, "usage", 5) != NULL || memchr(in.ptr, '\\', in.len) != NULL ||
           whole.out.len == in.len);
    buffer_free(&whole.out);
    buffer_free(&cut.out);
    buffer_free(&read.out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t limits[] = {1 << 16, 16, 64, 300};
    struct strview in = {(const char *)data, size};
    size_t event_max = limits[fuzz_byte(&in) % 4];
    size_t step = 1 + fuzz_byte(&in) % 64;
    char *copy = fuzz_copy(in);
    in.ptr = copy;
    parser_check(in, step, event_max);
    filter_check(in, step, event_max);
    free(copy);
    return 0;
}
