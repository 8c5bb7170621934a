/*
 * http_guard: a smuggling corpus, each refused; and what must pass.
 */
#include "ingest/http_guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HEADER_BYTES 32768
#define GOOD         "Host: a\r\n"

struct bad_case {
    const char *what;
    const char *bytes;
    size_t len;
    int status;
};
#define BAD(what, status, text)                                                                              \
    {                                                                                                        \
        what, text, sizeof(text) - 1, status                                                                 \
    }

static const struct bad_case corpus[] = {
    /* two framings */
    BAD("CL and TE", 400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD("TE and CL", 400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"),
    BAD("CL 0 and TE", 400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD("two CL, different", 400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n"),
    BAD("two CL, the same", 400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n"),
    BAD("two CL in other case", 400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\ncontent-LENGTH: 4\r\n\r\n"),
    BAD("a list of CL", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\n"),
    BAD("CL with a sign", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n"),
    BAD("CL negative", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    BAD("CL hex", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\n"),
    BAD("CL with letters", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4a\r\n\r\n"),
    BAD("CL empty", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
    BAD("CL with an inner blank", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\n"),
    BAD("CL beyond int64", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"),
    BAD("CL with a leading zero", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n\r\n"),
    BAD("CL with an underscore", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 4\r\n\r\n"),
    BAD("TE with an underscore", 400, "POST / HTTP/1.1\r\nHost: a\r\ntransfer_Encoding: chunked\r\n\r\n"),
    BAD("CL with a point", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4.0\r\n\r\n"),
    BAD("two TE", 400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD("TE identity", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    BAD("TE gzip, chunked", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    BAD("TE chunked, identity", 400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n"),
    BAD("TE xchunked", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
    BAD("TE chunked;q=1", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n"),
    BAD("TE quoted", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n"),
    BAD("TE with vertical tab", 400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0b"
        "chunked\r\n\r\n"),
    BAD("TE empty", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \r\n\r\n"),
    BAD("TE folded", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"),
    /* names and colons */
    BAD("blank before the colon", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n"),
    BAD("tab before the colon", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 4\r\n\r\n"),
    BAD("blank before the name", 400, "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n"),
    BAD("first line folded", 400, "POST / HTTP/1.1\r\n Host: a\r\n\r\n"),
    BAD("folded value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"),
    BAD("folded by tab", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\t2\r\n\r\n"),
    BAD("no colon", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    BAD("empty name", 400, "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
    BAD("name with a slash", 400, "GET / HTTP/1.1\r\nHost: a\r\nX/Y: 1\r\n\r\n"),
    BAD("name with a high byte", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\xe9: 1\r\n\r\n"),
    BAD("name with NUL", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\0Y: 1\r\n\r\n"),
    BAD("name with CR", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\rY: 1\r\n\r\n"),
    /* controls and line ends */
    BAD("NUL in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nx-litellm-tags: a\0b\r\n\r\n"),
    BAD("CR in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
    BAD("DEL in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n"),
    BAD("escape in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[0m\r\n\r\n"),
    BAD("bare LF after the request line", 400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
    BAD("bare LF after a header", 400, "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    BAD("bare LF ends the head", 400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
    BAD("LF only", 400, "GET / HTTP/1.1\nHost: a\n\n"),
    BAD("CR CR LF", 400, "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    BAD("empty first line", 400, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("LF first", 400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    /* host */
    BAD("no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
    BAD("two Hosts", 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    BAD("two Hosts, the same", 400, "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"),
    BAD("Host with a comma", 400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    BAD("Host with a slash", 400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    BAD("Host empty", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    BAD("Host of a port alone", 400, "GET / HTTP/1.1\r\nHost: :80\r\n\r\n"),
    BAD("Host with two ports", 400, "GET / HTTP/1.1\r\nHost: a:80:81\r\n\r\n"),
    BAD("Host with a word for a port", 400, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    BAD("Host with a query", 400, "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"),
    BAD("Host with a backslash", 400, "GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n"),
    BAD("Host with a high byte", 400, "GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n"),
    BAD("Host with an open bracket", 400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    BAD("Host with a tail behind its bracket", 400, "GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n"),
    BAD("Host with user info", 400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    /* keys: who is charged must be who is let in */
    BAD("two Authorization", 400,
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nauthorization: a\r\n\r\n"),
    BAD("two x-litellm-api-key", 400,
        "GET / HTTP/1.1\r\nHost: a\r\nx-litellm-api-key: a\r\nX-LiteLLM-API-Key: b\r\n\r\n"),
    BAD("two api-key", 400, "GET / HTTP/1.1\r\nHost: a\r\napi-key: a\r\napi-key: b\r\n\r\n"),
    BAD("two x-api-key", 400, "GET / HTTP/1.1\r\nHost: a\r\nx-api-key: a\r\nx-api-key:\r\n\r\n"),
    BAD("two x-goog-api-key", 400,
        "GET / HTTP/1.1\r\nHost: a\r\nx-goog-api-key: a\r\nx-goog-api-key: b\r\n\r\n"),
    BAD("two ocp-apim-subscription-key", 400,
        "GET / HTTP/1.1\r\nHost: a\r\nOcp-Apim-Subscription-Key: a\r\nOcp-Apim-Subscription-Key: b\r\n\r\n"),
    BAD("a key that Connection names", 400,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-API-key\r\nx-api-key: a\r\n\r\n"),
    BAD("Authorization that Connection names", 400,
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nConnection: authorization\r\n\r\n"),
    BAD("Content-Type that Connection names", 400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: b/c\r\nConnection: content-type\r\n\r\n"),
    BAD("Host that Connection names", 400, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close,,HOST\r\n\r\n"),
    BAD("tags that Connection names", 400,
        "GET / HTTP/1.1\r\nHost: a\r\nx-litellm-tags: b\r\nConnection: x-litellm-tags\r\n\r\n"),
    BAD("a key named by the second Connection line", 400,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\napi-key: a\r\nConnection: api-key\r\n\r\n"),
    /* request line */
    BAD("absolute target", 400, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("target without slash", 400, "GET v1/models HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("asterisk", 400, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("fragment", 400, "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("blank in the target", 400, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("NUL in the target", 400, "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("high byte in the target", 400, "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("dot segments", 400, "POST /a/../v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("dot segments with parameters", 400, "POST /a/..;x/v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("a dot segment with an encoded parameter", 400, "POST /.%3bx/v1/foo HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("encoded dot segments", 400, "POST /a/%2e%2E/v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("dot segments behind encoded slashes", 400,
        "POST /a%2f..%2Fv1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("backslashes for slashes", 400, "POST /a\\chat\\completions HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an encoded question mark", 400,
        "POST /openai/v1/chat/completions%3F/messages/count_tokens HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an encoded number sign", 400,
        "POST /gemini/v1beta/models/g:generateContent%23:countTokens HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an encoded percent sign", 400, "POST /mistral/v1/chat/%2563ompletions HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an encoded line feed in the path", 400, "POST /chat/completions%0A HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an encoded carriage return", 400, "GET /chat/completions%0d HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an encoded tab", 400, "POST /chat%09/completions HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an encoded unit separator", 400, "POST /chat/completions%1F HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an encoded DEL", 400, "POST /chat/completions%7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an encoded NUL in the path", 400, "POST /chat/completions%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("one dot", 400, "POST /v1/./chat/completions HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("no version", 400, "GET /\r\nHost: a\r\n\r\n"),
    BAD("lower-case version", 400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
    BAD("HTTP/1.1 with a tail", 400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    BAD("HTTP/1.10", 400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    BAD("two blanks", 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("tab instead of blank", 400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("blank before the method", 400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("method with a control", 400, "GE\x01T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("h2c upgrade", 400,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"),
    BAD("HTTP/2 preface", 505, "PRI * HTTP/2.0\r\n\r\n"),
    BAD("HTTP/1.0", 505, "GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
    BAD("CONNECT", 405, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("TRACE", 405, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("lower-case method", 405, "post / HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("WebSocket", 501,
        "GET /v1/realtime HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    BAD("another expectation", 417, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n"),
    BAD("another expectation before the known one", 417,
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nExpect: 100-continue\r\n\r\n"),
};
#define CORPUS (sizeof corpus / sizeof corpus[0])

static enum guard_verdict judge(struct strview in, struct http_request_head *head, struct http_refusal *why)
{
    size_t scanned = 0;
    *why = (struct http_refusal){0};
    return http_guard(in, &scanned, HEADER_BYTES, head, why);
}

static void test_every_request_that_two_parsers_could_read_differently_is_refused(void **state)
{
    (void)state;
    assert_true(CORPUS >= 60);
    for (size_t i = 0; i < CORPUS; i++) {
        struct http_request_head head;
        struct http_refusal why;
        enum guard_verdict verdict = judge((struct strview){corpus[i].bytes, corpus[i].len}, &head, &why);
        if (verdict != GUARD_REFUSED || why.status != corpus[i].status)
            fail_msg("%s: verdict %d status %d", corpus[i].what, (int)verdict, why.status);
        assert_non_null(why.type);
        assert_non_null(why.message);
    }
}

static void test_a_refusal_does_not_depend_on_how_the_bytes_arrive(void **state)
{
    (void)state;
    for (size_t i = 0; i < CORPUS; i++) {
        struct http_request_head head;
        struct http_refusal why = {0};
        size_t scanned = 0;
        enum guard_verdict verdict = GUARD_MORE;
        for (size_t len = 1; len <= corpus[i].len && verdict == GUARD_MORE; len++)
            verdict = http_guard((struct strview){corpus[i].bytes, len}, &scanned, HEADER_BYTES, &head, &why);
        if (verdict != GUARD_REFUSED || why.status != corpus[i].status)
            fail_msg("%s: verdict %d status %d", corpus[i].what, (int)verdict, why.status);
    }
}

static void test_an_honest_request_passes_with_its_views(void **state)
{
    (void)state;
    const char text[] =
        "POST /v1/chat/completions?x=../1 HTTP/1.1\r\nHost: a:80\r\nX-Litellm-Tags:  a, b \r\n"
        "Expect: 100-Continue\r\nConnection: keep-alive, close\r\nContent-Length: 12\r\n\r\nnext";
    struct http_request_head head;
    struct http_refusal why;
    assert_int_equal(judge(sv_of(text), &head, &why), GUARD_OK);
    assert_int_equal(head.bytes, sizeof text - 1 - 4);
    assert_true(sv_eq(head.method, SV_LIT("POST")));
    assert_true(sv_eq(head.path, SV_LIT("/v1/chat/completions")));
    assert_true(sv_eq(head.target, SV_LIT("/v1/chat/completions?x=../1")));
    assert_true(sv_eq(http_header_last(&head.headers, SV_LIT("x-litellm-tags")), SV_LIT("a, b")));
    assert_int_equal(head.headers.content_length, 12);
    assert_true(head.headers.close);
    assert_true(head.expect_continue);
    assert_false(head.headers.chunked);
}

static void test_different_key_headers_may_stand_side_by_side(void **state)
{
    (void)state;
    struct http_request_head head;
    struct http_refusal why;
    assert_int_equal(judge(SV_LIT("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nx-api-key: b\r\n"
                                  "Connection: x-litellm-api-key-not\r\n\r\n"),
                           &head, &why),
                     GUARD_OK);
}

static void test_every_kind_of_host_and_of_plain_path_passes(void **state)
{
    (void)state;
    const char *good[] = {
        "GET / HTTP/1.1\r\nHost: api.example-1.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:4100\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:4100\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: spend_ingest:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
        "GET /key/a%2Fb...c/.well-known/%2e%2e%2e?x=\\..%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /~a/b:c(d)/100%25/ HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, TE\r\nTE: trailers\r\n\r\n",
        "GET /a%20b%7e%80%1/%0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct http_request_head head;
        struct http_refusal why;
        if (judge(sv_of(good[i]), &head, &why) != GUARD_OK)
            fail_msg("%s: %s", good[i], why.message);
    }
}

static void test_chunked_is_known_in_any_case(void **state)
{
    (void)state;
    struct http_request_head head;
    struct http_refusal why;
    assert_int_equal(
        judge(SV_LIT("POST / HTTP/1.1\r\nHost: a\r\ntransfer-ENCODING: Chunked\r\n\r\n"), &head, &why),
        GUARD_OK);
    assert_true(head.headers.chunked);
    assert_int_equal(head.headers.content_length, HTTP_LENGTH_NONE);
}

static void test_the_limits_of_a_head_hold_whole_or_not(void **state)
{
    (void)state;
    struct http_request_head head;
    struct http_refusal why;
    size_t scanned = 0;
    static char text[HEADER_BYTES + 64];
    int at = snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" GOOD "X: ");
    memset(text + at, 'x', sizeof text - (size_t)at);
    assert_int_equal(
        http_guard((struct strview){text, HEADER_BYTES - 1}, &scanned, HEADER_BYTES, &head, &why),
        GUARD_MORE);
    assert_int_equal(http_guard((struct strview){text, HEADER_BYTES}, &scanned, HEADER_BYTES, &head, &why),
                     GUARD_REFUSED);
    assert_int_equal(why.status, 431);
    static const char end[] = {'\r', '\n', '\r', '\n'};
    memcpy(text + sizeof text - sizeof end, end, sizeof end);
    assert_int_equal(judge((struct strview){text, sizeof text}, &head, &why), GUARD_REFUSED);
    assert_int_equal(why.status, 431);
}

static void test_the_hundred_and_first_header_line_is_one_too_many(void **state)
{
    (void)state;
    static char text[8192];
    for (int lines = 99; lines <= 100; lines++) {
        int at = snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" GOOD);
        for (int i = 0; i < lines; i++)
            at += snprintf(text + at, sizeof text - (size_t)at, "X%d: y\r\n", i);
        at += snprintf(text + at, sizeof text - (size_t)at, "\r\n");
        struct http_request_head head;
        struct http_refusal why;
        enum guard_verdict verdict = judge((struct strview){text, (size_t)at}, &head, &why);
        assert_int_equal(verdict, lines == 99 ? GUARD_OK : GUARD_REFUSED);
        if (verdict == GUARD_REFUSED)
            assert_int_equal(why.status, 431);
    }
}

static void test_hop_by_hop_and_own_headers_are_not_passed_on(void **state)
{
    (void)state;
    struct http_request_head head;
    struct http_refusal why;
    assert_int_equal(
        judge(SV_LIT("GET / HTTP/1.1\r\nHost: a\r\nConnection: x-Secret , close\r\n\r\n"), &head, &why),
        GUARD_OK);
    const char *ours[] = {
        "Connection",         "keep-alive",        "TE",       "Trailer", "Upgrade",
        "Content-Length",     "Transfer-Encoding", "X-SECRET", "Expect",  "X-Spend-Would-Block",
        "proxy-authorization"};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert_true(http_header_is_ours(&head.headers, sv_of(ours[i])));
    assert_false(http_header_is_ours(&head.headers, SV_LIT("authorization")));
    assert_false(http_header_is_ours(&head.headers, SV_LIT("x-litellm-tags")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_request_that_two_parsers_could_read_differently_is_refused),
        cmocka_unit_test(test_a_refusal_does_not_depend_on_how_the_bytes_arrive),
        cmocka_unit_test(test_an_honest_request_passes_with_its_views),
        cmocka_unit_test(test_different_key_headers_may_stand_side_by_side),
        cmocka_unit_test(test_every_kind_of_host_and_of_plain_path_passes),
        cmocka_unit_test(test_chunked_is_known_in_any_case),
        cmocka_unit_test(test_the_limits_of_a_head_hold_whole_or_not),
        cmocka_unit_test(test_the_hundred_and_first_header_line_is_one_too_many),
        cmocka_unit_test(test_hop_by_hop_and_own_headers_are_not_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
