#include "api_request.h"

#include "api_cursor.h"
#include "base/limits.h"
#include "base/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_BYTES 400

const char *api_role_name(enum api_role role)
{
    static const char *const name[] = {[API_NOBODY] = "nobody",
                                       [API_INGEST] = "ingest",
                                       [API_READER] = "reader",
                                       [API_OPERATOR] = "operator"};
    return name[role];
}

static void write_error(struct api_request *r, int status, const char *type, const char *message,
                        const char *hint)
{
    r->status = status;
    r->refused = true;
    buffer_clear(r->reply);
    json_write_init(&r->json, r->reply);
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "error");
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "type");
    json_write_str(&r->json, type);
    json_write_key(&r->json, "message");
    json_write_str(&r->json, message);
    json_write_key(&r->json, "hint");
    json_write_str(&r->json, hint);
    json_write_close(&r->json, '}');
    json_write_close(&r->json, '}');
}

bool api_refuse(struct api_request *r, int status, const char *type, const char *hint, const char *fmt, ...)
{
    char message[MESSAGE_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    write_error(r, status, type, message, hint);
    return false;
}

void api_fail(struct api_request *r, const struct err *err)
{
    log_error("api_failed", LOG_STR("code", err_code_name(err->code)), LOG_ERR(err), LOG_END);
    if (err->fate == FATE_DEAD_LETTER)
        write_error(r, 400, "invalid", "a value of the request does not fit",
                    "see docs/openapi.yaml for what each takes");
    else if (err->fate == FATE_RETRY)
        write_error(r, 503, "unavailable", "the database did not answer as it should",
                    "send the same request again in a moment; writes are idempotent");
    else
        write_error(r, 500, "internal", "the ledger could not do this",
                    "look for ev=api_failed in the ledger's log and report it");
}

/* Percent-decodes into the arena. A NUL would be cut at the database's door: refused. */
static bool decode(struct api_request *r, struct strview in, bool plus_is_blank, struct strview *out)
{
    char *text = arena_alloc(r->arena, in.len + 1);
    size_t len = 0;
    if (text == NULL)
        return api_refuse(r, 400, "invalid", "send a shorter request", "the request's target is too long");
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '%') {
            int high = i + 2 < in.len ? sv_hex_digit(in.ptr[i + 1]) : -1;
            int low = i + 2 < in.len ? sv_hex_digit(in.ptr[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0)
                return api_refuse(r, 400, "invalid", "encode ids in paths as %XX of their UTF-8 bytes",
                                  "a percent escape of the target is malformed");
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        text[len++] = c;
    }
    *out = (struct strview){text, len};
    if (!sv_is_utf8(*out))
        return api_refuse(r, 400, "invalid", "encode ids in paths as %XX of their UTF-8 bytes",
                          "the request's target is not UTF-8");
    return true;
}

bool api_path_split(struct api_request *r, struct strview path, struct strview *part, size_t cap,
                    size_t *count)
{
    *count = 0;
    if (path.len > API_PATH_BYTES || path.len == 0 || path.ptr[0] != '/')
        return api_refuse(r, 400, "invalid", "see docs/openapi.yaml for the paths", "the path is malformed");
    struct strview rest = {path.ptr + 1, path.len - 1};
    while (!sv_is_null(rest)) {
        struct strview piece = sv_cut(rest, '/', &rest);
        if (*count == cap)
            return api_refuse(r, 404, "not_found", "see docs/openapi.yaml for the paths", "no such path");
        if (!decode(r, piece, false, &part[(*count)++]))
            return false;
    }
    return true;
}

bool api_query_read(struct api_request *r, struct strview query)
{
    struct strview rest = query;
    while (!sv_is_empty(rest)) {
        struct strview value;
        struct strview item = sv_cut(rest, '&', &rest);
        if (sv_is_empty(item))
            continue;
        struct strview name = sv_cut(item, '=', &value);
        if (r->query_count == API_QUERY_ITEMS)
            return api_refuse(r, 400, "invalid", "leave some out", "more than %d query parameters",
                              API_QUERY_ITEMS);
        struct api_query_item *q = &r->query[r->query_count++];
        if (sv_is_null(value))
            value = SV_LIT("");
        if (!decode(r, name, true, &q->name) || !decode(r, value, true, &q->value))
            return false;
    }
    return true;
}

struct strview api_query_get(struct api_request *r, const char *name)
{
    struct strview value = SV_NULL;
    for (size_t i = 0; i < r->query_count; i++) {
        if (sv_eq(r->query[i].name, sv_of(name))) {
            r->query[i].known = true;
            value = r->query[i].value;
        }
    }
    return value;
}

bool api_query_end(struct api_request *r)
{
    for (size_t i = 0; i < r->query_count; i++) {
        if (!r->query[i].known)
            return api_refuse(r, 400, "unknown_parameter",
                              "leave it out, or see docs/openapi.yaml for its spelling",
                              "unknown query parameter \"" SV_FMT "\"", SV_ARG(r->query[i].name));
    }
    return true;
}

bool api_page_read(struct api_request *r, const char *list, struct api_page *page)
{
    *page = (struct api_page){.limit = API_LIMIT_DEFAULT, .after = SV_NULL};
    struct strview limit = api_query_get(r, "limit");
    struct strview cursor = api_query_get(r, "cursor");
    if (!sv_is_null(limit) &&
        (!sv_to_i64(limit, &page->limit) || page->limit < 1 || page->limit > API_LIMIT_MAX))
        return api_refuse(r, 400, "invalid", "ask for 1 to 1000 items and follow \"next\" for more",
                          "limit is not a number from 1 to %d", API_LIMIT_MAX);
    if (!sv_is_empty(cursor) && !api_cursor_read(r->arena, list, cursor, &page->after))
        return api_refuse(r, 400, "invalid", "pass the \"next\" of this very list, unchanged",
                          "the cursor does not belong to this list");
    return true;
}

void api_page_next(struct api_request *r, const char *list, struct strview last_key, bool more)
{
    json_write_key(&r->json, "next");
    if (more)
        json_write_sv(&r->json, api_cursor_make(r->arena, list, last_key));
    else
        json_write_null(&r->json);
}

bool api_id_check(struct api_request *r, const char *what, struct strview id)
{
    if (id.len == 0 || id.len > LIMIT_ID_BYTES)
        return api_refuse(r, 400, "invalid", "use an id of 1 to 128 bytes", "the %s id is %s", what,
                          id.len == 0 ? "empty" : "longer than 128 bytes");
    if (!sv_is_utf8(id) || sv_has_control(id))
        return api_refuse(r, 400, "invalid", "use printable UTF-8", "the %s id holds control characters",
                          what);
    if (id.ptr[0] == '~')
        return api_refuse(r, 400, "invalid", "choose another id: those beginning with ~ are the ledger's own",
                          "the %s id begins with ~", what);
    return true;
}
