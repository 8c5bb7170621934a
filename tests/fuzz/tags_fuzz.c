/*
 * tags: what a request says about itself: a byte for upstream and operation, the target, header lines, and
 * behind a line of "%%" the body: JSON, a form or neither. Whatever they hold, what is captured can be
 * recorded, and the record says it again.
 */
#include "fuzz.h"

#include "ingest/call_record.h"
#include "ingest/form_scan.h"
#include "ingest/route.h"
#include "spend/avro_codec.h"

#define ARENA_ROOM ((size_t)4 << 20)

static void text_check(struct strview v, size_t most)
{
    assert(v.len <= most && sv_is_utf8(v) && !sv_has_control(v));
}

/* The tags of the headers, in order, by a reader of its own. */
static size_t header_items(const struct http_headers *h, struct strview *item, size_t room)
{
    size_t count = 0;
    for (size_t i = 0; i < h->count; i++) {
        const char *at = h->item[i].value.ptr;
        const char *end = at + h->item[i].value.len;
        if (!sv_eq_nocase(h->item[i].name, SV_LIT("X-LiteLLM-Tags")))
            continue;
        while (at <= end) {
            const char *comma = at < end ? memchr(at, ',', (size_t)(end - at)) : NULL;
            struct strview v = sv_trim((struct strview){at, (size_t)((comma == NULL ? end : comma) - at)});
            if (v.len > 0 && count < room)
                item[count++] = v;
            at = (comma == NULL ? end : comma) + 1;
        }
    }
    return count;
}

static void tags_check(const struct tag_capture *c, const struct http_headers *h)
{
    const struct tag_set *s = &c->tags;
    struct strview item[256];
    size_t items = header_items(h, item, 256);
    assert(s->count <= LIMIT_TAGS && (s->refused > 0) == (s->fault != TAG_FAULT_NONE));
    for (size_t i = 0; i < s->count; i++) {
        const struct tag *tag = &s->tags[i];
        text_check(tag->raw, LIMIT_TAG_BYTES);
        assert(tag->raw.len > 0 && tag->origins != 0);
        assert(sv_is_null(tag->key) || tag->key.len + 1 + tag->value.len == tag->raw.len);
        for (size_t k = 0; k < i; k++)
            assert(!sv_eq(s->tags[k].raw, tag->raw));
        /* a body that says nothing and is not merely too deep leaves the header's */
        assert(!c->body_unparsed || s->refused > 0 || tag->origins == TAG_ORIGIN_HEADER);
    }
    for (size_t i = 0; i < items && s->refused == 0; i++) {
        size_t at = 0;
        while (at < s->count && !sv_eq(s->tags[at].raw, item[i]))
            at++;
        assert(at < s->count && (s->tags[at].origins & TAG_ORIGIN_HEADER) != 0);
    }
}

/* The lines of a text as items of several places, beside a set of another make. */
static void set_check(struct strview in)
{
    struct tag_set s;
    struct tag model[LIMIT_TAGS];
    size_t count = 0;
    uint64_t refused = 0;
    unsigned place = 0;
    tag_set_init(&s);
    while (!sv_is_null(in)) {
        struct strview item = sv_cut(in, '\n', &in);
        unsigned origin = 1U << place++ % 5;
        size_t at = 0;
        tag_set_add_item(&s, item, (enum tag_origin)origin);
        while (at < count && !sv_eq(model[at].raw, item))
            at++;
        bool sound = item.len <= LIMIT_TAG_BYTES && sv_is_utf8(item) && !sv_has_control(item);
        if (item.len == 0)
            continue;
        if (at < count)
            model[at].origins |= origin;
        else if (sound && count < LIMIT_TAGS)
            model[count++] = (struct tag){.raw = item, .origins = origin};
        else
            refused++;
    }
    assert(s.count == count && s.refused == refused);
    for (size_t i = 0; i < count; i++)
        assert(sv_eq(s.tags[i].raw, model[i].raw) && s.tags[i].origins == model[i].origins);
}

static void form_check(const struct http_headers *h, struct strview body)
{
    struct form_scan scan;
    struct form_field field;
    const char *last = body.ptr;
    if (!form_scan_init(&scan, http_header_last(h, SV_LIT("content-type")), body))
        return;
    while (form_scan_next(&scan, &field)) {
        struct strview after = {field.value.ptr + field.value.len, 0};
        assert(fuzz_holds(body, field.name) && fuzz_holds(body, field.value) && field.name.len > 0);
        assert(field.name.ptr > last && field.value.ptr > field.name.ptr);
        after.len = (size_t)(body.ptr + body.len - after.ptr);
        assert(sv_starts_with(after, (struct strview){scan.delimiter, scan.delimiter_len}) ||
               (field.value.len == 0 && field.value.ptr[-2] == '\r'));
        last = field.value.ptr;
    }
    assert(scan.failed != scan.ended);
}

static void record_check(const struct tag_capture *c, const struct capture_source *from, struct arena *a)
{
    struct call_start start = {.instance = "0193c9a2-0000-7000-8000-000000000001",
                               .boot = 1,
                               .seq = 1,
                               .received_at = 1795421624000000,
                               .admitted_at = 1795421624000000,
                               .operation = from->operation,
                               .path = tag_capture_text(from->target),
                               .upstream = "up:1",
                               .request_bytes = from->body.len};
    struct spend_call call;
    struct spend_call back;
    struct buffer bytes;
    struct err err = {0};
    struct strview tags = SV_NULL;
    buffer_init(&bytes, LIMIT_CALL_BYTES);
    assert(call_record_start(&start, c, a, &call));
    if (!call_record_encode(&call, &tags, &bytes, &err))
        fuzz_fail(err.text);
    assert(avro_decode_spend_call(buffer_view(&bytes), a, &back, &err));
    assert(back.tag_count == c->tags.count && back.stream == c->stream && sv_eq(back.key_hash, c->key_hash));
    assert(sv_eq(back.model_requested, c->model) && back.body_unparsed == c->body_unparsed);
    for (size_t i = 0; i < back.tag_count; i++)
        assert(sv_eq(back.tags[i].raw, c->tags.tags[i].raw) &&
               back.tags[i].origins == c->tags.tags[i].origins);
    buffer_free(&bytes);
}

static void capture_check(const struct capture_source *from, struct arena *a)
{
    struct tag_capture c;
    struct json_scan scan;
    struct json_value root;
    struct sha256 *sha = sha256_new();
    assert(tag_capture_read(&c, from, sha, a));
    sha256_free(sha);
    text_check(c.model, LIMIT_TEXT_BYTES);
    text_check(c.user_agent, LIMIT_TEXT_BYTES);
    assert(sv_is_null(c.key_hash) || c.key_hash.len == SHA256_HEX_LEN);
    tags_check(&c, from->headers);
    if (!sv_is_null(c.logs_metadata)) {
        json_scan_init(&scan, c.logs_metadata, LIMIT_JSON_DEPTH);
        scan.lax = scan.any_bytes = true;
        assert(json_scan_value(&scan, &root) && root.kind == JSON_KIND_OBJECT);
    }
    form_check(from->headers, from->body);
    record_check(&c, from, a);
}

/* As the guard lets one pass. */
static bool is_target(struct strview v)
{
    for (size_t i = 0; i < v.len; i++)
        if (v.ptr[i] <= ' ' || v.ptr[i] == 0x7f)
            return false;
    return sv_starts_with(v, SV_LIT("/"));
}

/* "Name: value" lines as the guard leaves them; false: they would not have come so far. */
static bool headers_make(struct strview lines, struct buffer *text, struct http_headers *out)
{
    enum err_code code;
    while (!sv_is_null(lines)) {
        struct strview line = sv_cut(lines, '\n', &lines);
        if (line.len > 0 && (!buffer_append_sv(text, line) || !buffer_append_sv(text, SV_LIT("\r\n"))))
            return false;
    }
    return http_headers_parse(buffer_view(text), out, &code) == NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct strview in = {(const char *)data, size};
    unsigned flags = fuzz_byte(&in);
    struct strview lines = fuzz_part(&in);
    struct strview target = sv_cut(lines, '\n', &lines);
    struct http_headers headers;
    struct buffer text;
    struct arena arena;
    char *body = fuzz_copy(in);
    set_check((struct strview){body, in.len});
    buffer_init(&text, 64 << 10);
    arena_init(&arena, ARENA_ROOM);
    if (is_target(target) && headers_make(lines, &text, &headers)) {
        struct capture_source from = {&headers,
                                      target,
                                      {body, in.len},
                                      flags % 2 == 1,
                                      (enum spend_operation)(flags / 2 % OPERATION_COUNT)};
        capture_check(&from, &arena);
    }
    arena_free(&arena);
    buffer_free(&text);
    free(body);
    return 0;
}
