#include "ledger_client.h"

#include "command.h"
#include "run/http_client.h"
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URL_BYTES  (LEDGER_PATH_BYTES + 512)
#define AUTH_BYTES 600

#define HTTP_CREATED 201

const char *ledger_path(char out[LEDGER_PATH_BYTES], const char *pattern, ...)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    size_t len = 0;
    va_list texts;
    va_start(texts, pattern);
    for (const char *p = pattern; *p != '\0' && len < LEDGER_PATH_BYTES - 4; p++) {
        if (p[0] != '{' || p[1] != '}') {
            out[len++] = *p;
            continue;
        }
        p++;
        const char *text = va_arg(texts, const char *);
        assert(text != NULL);
        for (; *text != '\0' && len < LEDGER_PATH_BYTES - 4; text++) {
            if (strchr(plain, *text) != NULL)
                out[len++] = *text;
            else
                len += (size_t)snprintf(out + len, 4, "%%%02X", (unsigned char)*text);
        }
    }
    va_end(texts);
    out[len] = '\0';
    return out;
}

static void say(const char *message, const char *hint)
{
    (void)fprintf(stderr, "spendctl: %s\n", message);
    if (hint != NULL && hint[0] != '\0')
        (void)fprintf(stderr, "  %s\n", hint);
}

/* Where and with which token; false: said. */
static bool connection(char url[URL_BYTES], char auth[AUTH_BYTES], const char *path)
{
    const char *base = getenv("SPEND_LEDGER_URL");
    const char *token = getenv("SPEND_LEDGER_TOKEN");
    if (base == NULL || base[0] == '\0') {
        say("SPEND_LEDGER_URL is not set",
            "set it to the ledger's address, like http://127.0.0.1:4120; after "
            "deploy/local/up: . .local/env");
        return false;
    }
    size_t len = strlen(base);
    while (len > 0 && base[len - 1] == '/')
        len--;
    if (snprintf(url, URL_BYTES, "%.*s%s", (int)len, base, path) >= URL_BYTES ||
        snprintf(auth, AUTH_BYTES, "Authorization: Bearer %s", token == NULL ? "" : token) >= AUTH_BYTES) {
        say("SPEND_LEDGER_URL or SPEND_LEDGER_TOKEN is too long", "look at what they are set to");
        return false;
    }
    return true;
}

/* The ledger's hints speak of its API; for what spendctl does itself, in spendctl's words. */
static const char *own_words(const char *hint)
{
    static const struct {
        const char *part; /* of the ledger's hint; the first that is in it counts */
        const char *words;
    } own[] = {
        {"PUT /v1/accounts/", "make it: spendctl account set ACCOUNT; all there are: spendctl account list"},
        {"needs ?account_id=", "is it a label that calls carry? say whose: spendctl explain TASK --account "
                               "ACCOUNT; or register it with PUT /v1/tasks/{id}"},
        {"leave account_id out", "leave --account out for a registered task"},
        {"use a version of GET", "--book takes a number of: spendctl prices list"},
        {"GET /v1/prices lists", "what there is: spendctl prices list"},
        {"PUT /v1/models/", "import a newer file: spendctl prices import FILE; or give the model an alias: "
                            "PUT /v1/models/{alias} {\"price_key\": ..}"},
        {"leave effective_from out",
         "leave --effective-from out for as soon as possible; this release cannot "
         "bill calls of the past anew"},
        {"make it with PUT /v1/budgets/",
         "make it: spendctl budget set BUDGET --scope .. --value .. --limit .. "
         "--window ..; all there are: spendctl budget list"},
        {"name one of GET /v1/budgets/",
         "name one with --value; what it has seen: spendctl budget show BUDGET"},
        {"see GET /v1/budgets/", "what it has seen: spendctl budget show BUDGET"},
        {"use a new external_id", "use a new external_id (--external-id) for another credit"},
    };
    for (size_t i = 0; hint != NULL && i < sizeof own / sizeof own[0]; i++) {
        if (strstr(hint, own[i].part) != NULL)
            return own[i].words;
    }
    return hint;
}

static void say_refusal(int status, const json_t *document)
{
    const json_t *error = json_object_get(document, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *hint = own_words(json_string_value(json_object_get(error, "hint")));
    char text[80];
    (void)snprintf(text, sizeof text, "the ledger answered %d", status);
    if (status == 401)
        hint = "set SPEND_LEDGER_TOKEN to the operator's or the reader's token; after deploy/local/up: . "
               ".local/env";
    say(message == NULL ? text : message, hint == NULL ? "is SPEND_LEDGER_URL the ledger's API?" : hint);
}

/* *status: the answer's, 0 without one. find: nothing is said about a 404. */
static json_t *ask(const char *method, const char *path, struct strview body, bool find, int *status)
{
    char url[URL_BYTES];
    char auth[AUTH_BYTES];
    json_t *document = NULL;
    struct http_reply reply;
    struct err err;
    *status = 0;
    if (!connection(url, auth, path))
        return NULL;
    const char *const headers[] = {auth, "Content-Type: application/json"};
    const struct http_request request = {.method = method,
                                         .url = url,
                                         .header = headers,
                                         .header_count = sv_is_null(body) ? 1 : 2,
                                         .body = body};
    struct http_client *client = http_client_new();
    if (client == NULL || !http_client_send(client, &request, &reply, &err)) {
        say(client == NULL ? "out of memory" : err.text,
            "is the ledger running at SPEND_LEDGER_URL? after deploy/local/up: . .local/env");
        http_client_free(client);
        return NULL;
    }
    document = json_loadb(reply.body.data == NULL ? "" : reply.body.data, reply.body.len, 0, NULL);
    *status = reply.status;
    if ((!find || reply.status != 404) && (reply.status >= 300 || document == NULL))
        say_refusal(reply.status, document);
    if (reply.status >= 300) {
        json_decref(document);
        document = NULL;
    }
    http_reply_free(&reply);
    http_client_free(client);
    return document;
}

json_t *ledger_get(const char *path)
{
    int status;
    return ask("GET", path, SV_NULL, false, &status);
}

json_t *ledger_find(const char *path, bool *missing)
{
    int status;
    json_t *document = ask("GET", path, SV_NULL, true, &status);
    *missing = status == 404;
    return document;
}

json_t *ledger_send(const char *method, const char *path, struct strview body)
{
    int status;
    return ask(method, path, body, false, &status);
}

json_t *ledger_send_json(const char *method, const char *path, json_t *body, bool *made)
{
    int status = 0;
    char *text = json_dumps(body, JSON_COMPACT);
    json_t *document = NULL;
    json_decref(body);
    if (text == NULL)
        say("out of memory, or a text that is not UTF-8", "");
    else
        document = ask(method, path, sv_of(text), false, &status);
    *made = status == HTTP_CREATED;
    free(text);
    return document;
}

json_t *ledger_page(const char *path, int64_t limit, json_t **next)
{
    char page[LEDGER_PATH_BYTES];
    int len =
        snprintf(page, sizeof page, "%s?limit=%" PRId64, path, limit < LEDGER_PAGE ? limit : LEDGER_PAGE);
    if (*next != NULL)
        (void)snprintf(page + len, sizeof page - (size_t)len, "&cursor=%s", json_string_value(*next));
    json_t *document = ledger_get(page);
    json_t *more = json_object_get(document, "next");
    json_decref(*next);
    *next = json_is_string(more) ? json_incref(more) : NULL;
    return document;
}

json_t *ledger_list(const char *path, int64_t limit)
{
    json_t *items = json_array();
    json_t *next = NULL;
    do {
        json_t *document = ledger_page(path, limit - (int64_t)json_array_size(items), &next);
        if (document == NULL) {
            json_decref(items);
            return NULL;
        }
        json_array_extend(items, json_object_get(document, "items"));
        json_decref(document);
    } while (next != NULL && (int64_t)json_array_size(items) < limit);
    return json_pack("{s:o, s:o}", "items", items, "next", next == NULL ? json_null() : next);
}

int ledger_print(json_t *document)
{
    int failed = json_dumpf(document, stdout, JSON_INDENT(2));
    (void)fputc('\n', stdout);
    json_decref(document);
    return failed == 0 && fflush(stdout) == 0 ? EXIT_FINE : EXIT_FAILED;
}

const char *ledger_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "-" : text;
}

int64_t ledger_number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

void ledger_put(json_t *body, const char *key, const char *text)
{
    if (text != NULL)
        json_object_set_new(body, key, json_string(text));
}
