/*
 * http: the bytes as a request, as a reply, and as chunks. However they arrive, they are read the same; a
 * request that passes is read in one way by a reader made of other stuff; and what goes upstream for it has
 * one framing, one host and nothing else than its own lines.
 */
#include "fuzz.h"

#include "ingest/http_chunk.h"
#include "ingest/http_guard.h"
#include "ingest/reply_head.h"
#include "ingest/route.h"
#include "ingest/upstream_request.h"

#include <stdio.h>

#define HEAD_MAX 2048

struct body {
    enum chunk_step end;
    char *bytes;
    size_t len;
    size_t left; /* bytes behind it */
};

static struct body chunks_read(struct strview in, size_t step, bool lenient)
{
    struct http_chunk c;
    struct body out = {.end = CHUNK_MORE, .bytes = malloc(in.len + 1), .left = in.len};
    http_chunk_init(&c, lenient);
    for (size_t at = 0; at < in.len && out.end == CHUNK_MORE; at += step) {
        struct strview piece = {in.ptr + at, in.len - at < step ? in.len - at : step};
        struct strview data;
        while ((out.end = http_chunk_next(&c, &piece, &data)) == CHUNK_DATA) {
            memcpy(out.bytes + out.len, data.ptr, data.len);
            out.len += data.len;
        }
        out.left = (size_t)(in.ptr + in.len - piece.ptr);
    }
    return out;
}

/* One chunk's size line as the RFC's grammar has it, without extensions. -1: it is none. */
static long size_line(struct strview *in)
{
    long size = 0;
    size_t digits = 0;
    for (; digits < in->len && sv_hex_digit(in->ptr[digits]) >= 0; digits++)
        size = size * 16 + sv_hex_digit(in->ptr[digits]) < 0x100000000
                   ? size * 16 + sv_hex_digit(in->ptr[digits])
                   : 0x100000000;
    if (digits == 0 || digits > 8 || in->len < digits + 2 || memcmp(in->ptr + digits, "\r\n", 2) != 0)
        return -1;
    (void)fuzz_text(in, digits + 2);
    return size;
}

/* The whole body at once, by another way than the machine's; NULL when it is not one. */
static char *chunks_of_other_stuff(struct strview in, size_t *len, size_t *left)
{
    char *out = malloc(in.len + 1);
    *len = 0;
    for (;;) {
        long size = size_line(&in);
        if (size < 0 || (size_t)size + 2 > in.len || memcmp(in.ptr + size, "\r\n", 2) != 0) {
            free(out);
            return NULL;
        }
        memcpy(out + *len, in.ptr, (size_t)size);
        *len += (size_t)size;
        (void)fuzz_text(&in, (size_t)size + 2);
        *left = in.len;
        if (size == 0)
            return out;
    }
}

static void chunks_check(struct strview in)
{
    struct body whole = chunks_read(in, in.len + 1, false);
    struct body bytes = chunks_read(in, 1, false);
    struct body lenient = chunks_read(in, 7, true);
    assert(whole.end == bytes.end && whole.len == bytes.len &&
           memcmp(whole.bytes, bytes.bytes, whole.len) == 0);
    assert(whole.left == bytes.left || whole.end != CHUNK_END);
    size_t len = 0;
    size_t left = 0;
    char *other = chunks_of_other_stuff(in, &len, &left);
    assert((other != NULL) == (whole.end == CHUNK_END));
    if (other != NULL) {
        assert(len == whole.len && left == whole.left && memcmp(other, whole.bytes, len) == 0);
        assert(lenient.end == CHUNK_END && lenient.len == len && lenient.left == left);
    }
    free(other);
    free(whole.bytes);
    free(bytes.bytes);
    free(lenient.bytes);
}

static bool is_printable(struct strview v)
{
    for (size_t i = 0; i < v.len; i++)
        if (((unsigned char)v.ptr[i] < 0x20 && v.ptr[i] != '\t') || v.ptr[i] == 0x7f)
            return false;
    return true;
}

/* Lines of the head, each with a colon but the first, cut by CR LF alone. */
static size_t lines_check(struct strview head, bool request)
{
    size_t lines = 0;
    while (head.len > 2) {
        const char *end = memmem(head.ptr, head.len, "\r\n", 2);
        assert(end != NULL);
        struct strview line = fuzz_text(&head, (size_t)(end - head.ptr));
        (void)fuzz_text(&head, 2);
        assert(!request || is_printable(line));
        assert(lines == 0 || (line.ptr[0] != ' ' && line.ptr[0] != '\t' && sv_find(line, ':') < line.len));
        lines++;
    }
    assert(head.len == 2 && memcmp(head.ptr, "\r\n", 2) == 0);
    return lines - 1;
}

static size_t name_count(const struct http_headers *h, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < h->count; i++)
        count += sv_eq_nocase(h->item[i].name, sv_of(name)) ? 1 : 0;
    return count;
}

static void framing_check(const struct http_headers *h)
{
    char digits[32];
    (void)snprintf(digits, sizeof digits, "%lld", (long long)h->content_length);
    bool length = h->content_length != HTTP_LENGTH_NONE;
    assert(!(h->chunked && length));
    assert(name_count(h, "content-length") == (length ? 1 : 0));
    assert(name_count(h, "transfer-encoding") == (h->chunked ? 1 : 0));
    assert(!length || sv_eq(http_header_last(h, SV_LIT("content-length")), sv_of(digits)));
}

static void path_check(struct strview path)
{
    char text[HEAD_MAX];
    size_t len = 0;
    assert(route_normalise(path, text, sizeof text, &len));
    struct strview rest = {text, len};
    while (!sv_is_null(rest)) {
        struct strview segment = sv_cut(rest, '/', &rest);
        assert(!sv_eq(segment, SV_LIT(".")) && !sv_eq(segment, SV_LIT("..")));
    }
}

/* The next line that is neither hop-by-hop nor one that we make. */
static const struct http_header *line_next(const struct http_headers *h, size_t *at)
{
    static const char *const made[] = {"host", "accept-encoding", "x-litellm-call-id",
                                       "x-litellm-spend-logs-metadata"};
    for (; *at < h->count; ++*at) {
        bool ours = http_header_is_ours(h, h->item[*at].name);
        for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
            ours = ours || sv_eq_nocase(h->item[*at].name, sv_of(made[i]));
        if (!ours)
            return &h->item[(*at)++];
    }
    return NULL;
}

static void passed_on_check(const struct http_headers *came, const struct http_headers *sent)
{
    size_t at = 0;
    size_t other = 0;
    for (;;) {
        const struct http_header *a = line_next(came, &at);
        const struct http_header *b = line_next(sent, &other);
        assert((a == NULL) == (b == NULL));
        if (a == NULL)
            return;
        assert(sv_eq(a->name, b->name) && sv_eq(a->value, b->value));
    }
}

/* What goes upstream passes the same guard, with the framing that we made. */
static void upstream_check(const struct http_request_head *head, struct strview body, bool litellm)
{
    struct arena arena;
    struct sha256 *sha = sha256_new();
    struct tag_capture capture;
    struct upstream_address to;
    struct upstream_request r = {.begun = false};
    struct http_request_head sent;
    struct http_refusal why;
    struct err err = {0};
    struct uuid id = {{1, 2, 3}};
    size_t scanned = 0;
    struct route_table none = {0};
    struct route route = route_find(&none, head->method, head->path);
    struct capture_source from = {&head->headers, head->target, body, litellm, route.operation};
    struct upstream_marks marks = {&id, &capture, SV_LIT("secret"), litellm, true, false};
    arena_init(&arena, 1 << 20);
    assert(upstream_address_parse("http://up:1/base", &to, &err));
    assert(tag_capture_read(&capture, &from, sha, &arena));
    struct body_edit edit = stream_ask_plan(&capture.ask);
    assert(upstream_request_make(&r, &to, head, body, &edit, route.is_call ? &marks : NULL, &err));
    struct strview text = buffer_view(&r.head);
    size_t len = r.piece[1].len + r.piece[2].len + r.piece[3].len;
    enum guard_verdict verdict = http_guard(text, &scanned, 1 << 20, &sent, &why);
    assert(verdict == GUARD_OK || (verdict == GUARD_REFUSED && why.status == 431)); /* over 100 with ours */
    if (verdict == GUARD_OK) {
        assert(sent.bytes == text.len && !sent.headers.chunked && !sent.expect_continue &&
               !sent.headers.close);
        assert(sent.headers.content_length == (int64_t)len ||
               (len == 0 && sent.headers.content_length == HTTP_LENGTH_NONE));
        assert(sv_eq(http_header_last(&sent.headers, SV_LIT("host")), SV_LIT("up:1")));
        passed_on_check(&head->headers, &sent.headers);
    }
    upstream_request_free(&r);
    sha256_free(sha);
    arena_free(&arena);
}

static void request_body_check(const struct http_request_head *head, struct strview rest)
{
    if (head->headers.chunked) {
        chunks_check(rest);
        struct body body = chunks_read(rest, rest.len + 1, false);
        if (body.end == CHUNK_END)
            upstream_check(head, (struct strview){body.bytes, body.len}, true);
        free(body.bytes);
        return;
    }
    size_t len = head->headers.content_length == HTTP_LENGTH_NONE ? 0 : (size_t)head->headers.content_length;
    if (len <= rest.len)
        upstream_check(head, (struct strview){rest.ptr, len}, len % 2 == 0);
}

static void request_check(struct strview in)
{
    struct http_request_head head;
    struct http_request_head slow;
    struct http_refusal why = {0};
    struct http_refusal slow_why = {0};
    size_t scanned = 0;
    enum guard_verdict verdict = http_guard(in, &scanned, HEAD_MAX, &head, &why);
    enum guard_verdict slowly = GUARD_MORE;
    scanned = 0;
    for (size_t len = 1; len <= in.len && slowly == GUARD_MORE; len++)
        slowly = http_guard((struct strview){in.ptr, len}, &scanned, HEAD_MAX, &slow, &slow_why);
    assert(verdict == slowly);
    assert(why.status == slow_why.status || slow_why.status == 431);
    if (verdict != GUARD_OK)
        return;
    struct strview text = {in.ptr, head.bytes};
    assert(memmem(in.ptr, in.len, "\r\n\r\n", 4) == in.ptr + head.bytes - 4);
    assert(head.bytes == slow.bytes && head.headers.count == slow.headers.count);
    assert(lines_check(text, true) == head.headers.count);
    assert(name_count(&head.headers, "host") == 1 && head.headers.count <= LIMIT_HEADER_COUNT);
    framing_check(&head.headers);
    for (size_t i = 0; i < head.headers.count; i++) {
        assert(fuzz_holds(text, head.headers.item[i].name) && fuzz_holds(text, head.headers.item[i].value));
        assert(http_is_token(head.headers.item[i].name));
    }
    path_check(head.path);
    request_body_check(&head, (struct strview){in.ptr + head.bytes, in.len - head.bytes});
}

static void reply_check(struct strview in)
{
    struct reply_head head;
    struct reply_head slow;
    struct err err = {0};
    size_t scanned = 0;
    enum guard_verdict verdict = reply_head_parse(in, &scanned, false, &head, &err);
    enum guard_verdict slowly = GUARD_MORE;
    scanned = 0;
    for (size_t len = 1; len <= in.len && slowly == GUARD_MORE; len++)
        slowly = reply_head_parse((struct strview){in.ptr, len}, &scanned, false, &slow, &err);
    assert(verdict == slowly);
    if (verdict != GUARD_OK)
        return;
    assert(head.status >= 100 && head.status <= 599 && head.status != 101);
    assert(head.bytes == slow.bytes && head.framing == slow.framing && head.close == slow.close);
    assert(head.headers.count <= lines_check((struct strview){in.ptr, head.bytes}, false));
    framing_check(&head.headers);
    for (size_t i = 0; i < head.headers.count; i++)
        assert(is_printable(head.headers.item[i].value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct strview in = {(const char *)data, size};
    char *copy = fuzz_copy(in);
    in.ptr = copy;
    request_check(in);
    reply_check(in);
    chunks_check(in);
    free(copy);
    return 0;
}
