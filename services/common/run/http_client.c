/*
 * http_client: libcurl's easy interface, reset for each request; its connections stay open between requests.
 */
#include "run/http_client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 10000

struct http_client {
    CURL *curl;
    char why[CURL_ERROR_SIZE];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
}

struct http_client *http_client_new(void)
{
    (void)pthread_once(&once, init_curl);
    struct http_client *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->curl = curl_easy_init();
    if (c->curl == NULL) {
        free(c);
        return NULL;
    }
    return c;
}

void http_client_free(struct http_client *c)
{
    if (c == NULL)
        return;
    curl_easy_cleanup(c->curl);
    free(c);
}

void http_reply_free(struct http_reply *reply)
{
    buffer_free(&reply->body);
    reply->status = 0;
}

/* curl_easy_setopt is variadic: these give its arguments the types it reads. */
static bool set_text(struct http_client *c, CURLoption option, const char *text)
{
    return curl_easy_setopt(c->curl, option, text) == CURLE_OK;
}

static bool set_long(struct http_client *c, CURLoption option, long n)
{
    return curl_easy_setopt(c->curl, option, n) == CURLE_OK;
}

static bool set_big(struct http_client *c, CURLoption option, curl_off_t n)
{
    return curl_easy_setopt(c->curl, option, n) == CURLE_OK;
}

/* Returning less than it was given makes curl end the exchange with CURLE_WRITE_ERROR. */
static size_t on_body(char *ptr, size_t size, size_t count, void *arg)
{
    struct buffer *body = arg;
    return buffer_append(body, ptr, size * count) ? size * count : 0;
}

static bool set_safety(struct http_client *c, const struct http_request *request)
{
    int64_t timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : HTTP_CLIENT_TIMEOUT_MS;
    long connect_ms = (long)(timeout_ms < CONNECT_TIMEOUT_MS ? timeout_ms : CONNECT_TIMEOUT_MS);
    return set_text(c, CURLOPT_ERRORBUFFER, c->why) && set_text(c, CURLOPT_PROTOCOLS_STR, "http,https") &&
           set_text(c, CURLOPT_PROXY, "") && set_long(c, CURLOPT_FOLLOWLOCATION, 0) &&
           set_long(c, CURLOPT_NOSIGNAL, 1) && set_long(c, CURLOPT_CONNECTTIMEOUT_MS, connect_ms) &&
           set_long(c, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
}

static bool set_method(struct http_client *c, const struct http_request *request, const char *method)
{
    if (!set_text(c, CURLOPT_URL, request->url))
        return false;
    if (strcmp(method, "HEAD") == 0)
        return set_long(c, CURLOPT_NOBODY, 1);
    bool has_body = !sv_is_null(request->body);
    /* A POST or PUT without a body says so with Content-Length: 0. */
    bool sends = has_body || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0;
    if (sends && !(set_big(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len) &&
                   set_text(c, CURLOPT_POSTFIELDS, has_body ? request->body.ptr : "")))
        return false;
    return (!sends && strcmp(method, "GET") == 0) || set_text(c, CURLOPT_CUSTOMREQUEST, method);
}

static bool add_line(struct curl_slist **lines, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*lines, line);
    if (longer != NULL)
        *lines = longer;
    return longer != NULL;
}

static bool set_headers(struct http_client *c, const struct http_request *request, struct curl_slist **lines,
                        struct err *err)
{
    bool ok = add_line(lines, "Expect:"); /* no second of waiting for 100-continue */
    for (size_t i = 0; i < request->header_count && ok; i++) {
        if (strpbrk(request->header[i], "\r\n") != NULL)
            return err_set(err, ERR_INVALID, FATE_FATAL, "http: a header holds a line end");
        ok = add_line(lines, request->header[i]);
    }
    if (!ok || curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, *lines) != CURLE_OK)
        return err_set(err, ERR_MEMORY, FATE_RETRY, "http: out of memory");
    return true;
}

static bool explain(const struct http_client *c, CURLcode code, const char *method, bool full,
                    struct err *err)
{
    const char *why = c->why[0] == '\0' ? curl_easy_strerror(code) : c->why;
    if (full)
        return err_set(err, ERR_FULL, FATE_FATAL, "http %s: the answer is too long", method);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return err_set(err, ERR_TIMEOUT, FATE_RETRY, "http %s: %s", method, why);
    if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
        return err_set(err, ERR_INVALID, FATE_FATAL, "http %s: %s", method, why);
    return err_set(err, ERR_HTTP, FATE_RETRY, "http %s: %s", method, why);
}

bool http_client_send(struct http_client *c, const struct http_request *request, struct http_reply *reply,
                      struct err *err)
{
    bool ok = false;
    long status = 0;
    CURLcode code = CURLE_OK;
    struct curl_slist *lines = NULL;
    const char *method = request->method == NULL ? "GET" : request->method;
    *reply = (struct http_reply){0};
    buffer_init(&reply->body, request->reply_cap > 0 ? request->reply_cap : (size_t)HTTP_CLIENT_REPLY_BYTES);
    curl_easy_reset(c->curl);
    c->why[0] = '\0';
    if (!set_headers(c, request, &lines, err))
        goto done;
    if (!set_safety(c, request) || !set_method(c, request, method) ||
        curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body) != CURLE_OK ||
        curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &reply->body) != CURLE_OK) {
        err_set(err, ERR_MEMORY, FATE_FATAL, "http: curl refused an option");
        goto done;
    }
    code = curl_easy_perform(c->curl);
    if (code != CURLE_OK) {
        explain(c, code, method, code == CURLE_WRITE_ERROR, err);
        goto done;
    }
    if (curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK) {
        reply->status = (int)status;
        ok = true;
    }
done:
    curl_easy_reset(c->curl); /* lets go of the caller's body and headers */
    curl_slist_free_all(lines);
    if (!ok)
        http_reply_free(reply);
    return ok;
}
