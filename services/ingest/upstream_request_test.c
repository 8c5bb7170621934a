#include "ingest/upstream_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct tag_capture capture;
static struct http_request_head head;
static struct arena scratch;
static struct sha256 *sha;
static const struct upstream_address to = {.name = "up:1", .prefix = "/base"};
static const struct uuid call_id = {{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16}};

static bool bills_log;

/* What goes upstream for this request, whole, into out. */
static void make(const char *request, bool is_call, bool litellm, char *out, size_t room)
{
    struct upstream_request r = {.begun = false};
    struct http_refusal why;
    struct err err = {0};
    size_t scanned = 0;
    struct strview in = sv_of(request);
    assert_int_equal(http_guard(in, &scanned, 32768, &head, &why), GUARD_OK);
    struct strview body = {in.ptr + head.bytes, in.len - head.bytes};
    arena_reset(&scratch);
    struct capture_source from = {.headers = &head.headers, .body = body, .litellm = true};
    assert_true(tag_capture_read(&capture, &from, sha, &scratch));
    struct body_edit edit = {.needed = false};
    if (is_call && capture.stream)
        edit = stream_ask_plan(&capture.ask);
    struct upstream_marks marks = {&call_id, &capture, SV_LIT("secret"), litellm, true, bills_log};
    if (!upstream_request_make(&r, &to, &head, body, &edit, is_call ? &marks : NULL, &err))
        fail_msg("%s", err.text);
    size_t at = 0;
    for (int i = 0; i < 4; i++) {
        assert_true(at + r.piece[i].len < room);
        if (r.piece[i].len > 0)
            memcpy(out + at, r.piece[i].ptr, r.piece[i].len);
        at += r.piece[i].len;
    }
    out[at] = '\0';
    upstream_request_free(&r);
}

#define ID    "01020304-0506-7008-800a-0b0c0d0e0f10"
#define MARKS "Accept-Encoding: identity\r\nx-litellm-call-id: " ID "\r\nx-litellm-spend-logs-metadata: "
/* HMAC-SHA-256("secret", ID), its first half: made with another implementation */
#define SIGNED "\"spend_call_id\":\"" ID ".368daa1569d1f4d4986178f90c2a5c43\"}\r\n"

static void test_what_only_passes_keeps_all_but_framing_and_hop_by_hop(void **state)
{
    (void)state;
    char out[4096];
    make("PUT /x?q=1 HTTP/1.1\r\nHost: me\r\nX-A:  b \r\nConnection: X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n"
         "Accept-Encoding: br\r\nx-litellm-call-id: theirs\r\nContent-Length: 2\r\nx-spend-x: 1\r\n\r\nhi",
         false, true, out, sizeof out);
    assert_string_equal(out, "PUT /base/x?q=1 HTTP/1.1\r\nHost: up:1\r\nX-A: b\r\nAccept-Encoding: br\r\n"
                             "x-litellm-call-id: theirs\r\nContent-Length: 2\r\n\r\nhi");
    make("GET /x HTTP/1.1\r\nHost: me\r\n\r\n", false, true, out, sizeof out);
    assert_string_equal(out, "GET /base/x HTTP/1.1\r\nHost: up:1\r\n\r\n");
}

static void test_a_call_carries_our_ids_and_authorization_untouched(void **state)
{
    (void)state;
    char out[4096];
    make("POST /v1/chat/completions HTTP/1.1\r\nHost: me\r\nAuthorization: Bearer sk-1\r\nx-litellm-call-id: "
         "theirs\r\n"
         "accept-encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
         true, true, out, sizeof out);
    assert_string_equal(
        out, "POST /base/v1/chat/completions HTTP/1.1\r\nHost: up:1\r\nAuthorization: Bearer sk-1\r\n"
             "Content-Length: 2\r\n" MARKS "{" SIGNED "\r\n{}");
    make("POST /v1/chat/completions HTTP/1.1\r\nHost: me\r\nx-litellm-call-id: theirs\r\nContent-Length: "
         "2\r\n\r\n{}",
         true, false, out, sizeof out);
    assert_string_equal(
        out, "POST /base/v1/chat/completions HTTP/1.1\r\nHost: up:1\r\nx-litellm-call-id: theirs\r\n"
             "Content-Length: 2\r\nAccept-Encoding: identity\r\n\r\n{}");
}

static void test_the_callers_logs_metadata_travels_with_ours(void **state)
{
    (void)state;
    char out[4096];
    make("POST / HTTP/1.1\r\nHost: me\r\nX-Litellm-Spend-Logs-Metadata: {\"a\": 1}\r\nContent-Length: "
         "2\r\n\r\n{}",
         true, true, out, sizeof out);
    assert_non_null(strstr(out, MARKS "{\"a\": 1," SIGNED));
    assert_null(strstr(out, "X-Litellm-Spend-Logs-Metadata"));
    make("POST / HTTP/1.1\r\nHost: me\r\nContent-Length: 72\r\n\r\n"
         "{\"metadata\":{\"spend_logs_metadata\":{\"k\":\n\"\xc3\xa9\xf0\x9f\x98\x80~\x7f\"}}}",
         true, true, out, sizeof out);
    assert_non_null(strstr(out, MARKS "{\"k\": \"\\u00e9\\ud83d\\ude00~\\u007f\"," SIGNED));
    make("POST / HTTP/1.1\r\nHost: me\r\nx-litellm-spend-logs-metadata: {\"a\": NaN, \"b\": \"Zo\xeb\"}\r\n"
         "Content-Length: 2\r\n\r\n{}",
         true, true, out, sizeof out);
    assert_non_null(strstr(out, MARKS "{\"a\": NaN, \"b\": \"Zo\xeb\"," SIGNED));
    make("POST / HTTP/1.1\r\nHost: me\r\nx-litellm-spend-logs-metadata: { }\r\nContent-Length: 2\r\n\r\n{}",
         true, true, out, sizeof out);
    assert_non_null(strstr(out, MARKS "{" SIGNED));
}

/* Over 8 KiB it stays as it came; where LiteLLM's log is billed ours must come back, so it goes alone. */
static void test_too_large_logs_metadata_is_left_alone_or_replaced(void **state)
{
    (void)state;
    static char request[16384];
    static char out[16384];
    char filler[8193];
    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    for (int of_body = 0; of_body < 2; of_body++) {
        (void)snprintf(request, sizeof request,
                       of_body ? "POST / HTTP/1.1\r\nHost: me\r\nContent-Length: %zu\r\n\r\n"
                                 "{\"metadata\":{\"spend_logs_metadata\":{\"a\":\"%s\"}}}"
                               : "POST / HTTP/1.1\r\nHost: me\r\nContent-Length: %zu\r\n"
                                 "X-Litellm-Spend-Logs-Metadata: {\"a\":\"%s\"}\r\n\r\n{}",
                       of_body ? strlen(filler) + 46 : (size_t)2, filler);
        bills_log = false;
        make(request, true, true, out, sizeof out);
        assert_null(strstr(out, "spend_call_id"));
        assert_true((strstr(out, "X-Litellm-Spend-Logs-Metadata: {\"a\"") != NULL) == (of_body == 0));
        bills_log = true;
        make(request, true, true, out, sizeof out);
        assert_non_null(strstr(out, MARKS "{" SIGNED));
        assert_null(strstr(out, "X-Litellm-Spend-Logs-Metadata"));
        bills_log = false;
    }
}

static void test_the_one_edit_counts_in_the_length(void **state)
{
    (void)state;
    char out[4096];
    make("POST /v1/chat/completions HTTP/1.1\r\nHost: me\r\nContent-Length: 15\r\n\r\n{\"stream\":true}",
         true, false, out, sizeof out);
    assert_non_null(strstr(out, "Content-Length: 55\r\n"));
    assert_non_null(strstr(out, "\r\n\r\n{\"stream_options\":{\"include_usage\":true},\"stream\":true}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_only_passes_keeps_all_but_framing_and_hop_by_hop),
        cmocka_unit_test(test_a_call_carries_our_ids_and_authorization_untouched),
        cmocka_unit_test(test_the_callers_logs_metadata_travels_with_ours),
        cmocka_unit_test(test_too_large_logs_metadata_is_left_alone_or_replaced),
        cmocka_unit_test(test_the_one_edit_counts_in_the_length),
    };
    sha = sha256_new();
    arena_init(&scratch, 1 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&scratch);
    sha256_free(sha);
    return failed;
}
