/*
 * route: one table of path ends, and the prefixes below which every POST is a call.
 */
#include "ingest/route.h"

#include <string.h>

#define PATH_ROOM 1024

struct route_row {
    struct strview end; /* of the path, from a segment's start */
    enum spend_operation operation;
};

/* The first row that fits wins: longer ends before their own tails. */
static const struct route_row rows[] = {
    {SV_INIT("/chat/completions"), OPERATION_CHAT},
    {SV_INIT("/completions"), OPERATION_COMPLETION},
    {SV_INIT("/responses"), OPERATION_RESPONSES},
    {SV_INIT("/messages/batches"), OPERATION_BATCH},
    {SV_INIT("/messages"), OPERATION_MESSAGES},
    {SV_INIT("/embeddings"), OPERATION_EMBEDDINGS},
    {SV_INIT("/rerank"), OPERATION_RERANK},
    {SV_INIT("/images/generations"), OPERATION_IMAGE},
    {SV_INIT("/images/edits"), OPERATION_IMAGE},
    {SV_INIT("/images/variations"), OPERATION_IMAGE},
    {SV_INIT("/audio/speech"), OPERATION_SPEECH},
    {SV_INIT("/audio/transcriptions"), OPERATION_TRANSCRIPTION},
    {SV_INIT("/audio/translations"), OPERATION_TRANSCRIPTION},
    {SV_INIT("/batches"), OPERATION_BATCH},
    {SV_INIT("/fine_tuning/jobs"), OPERATION_FINE_TUNE},
};

/* A row's end counts as a call below these, and as a whole path without any of them. */
struct route_prefix {
    struct strview start;
    const char *provider;
};

static const struct route_prefix prefixes[] = {
    {SV_INIT("/v1/"), NULL},
    {SV_INIT("/openai/"), NULL},
    {SV_INIT("/anthropic/"), "anthropic"},
    {SV_INIT("/vertex_ai/"), "vertex_ai"},
    {SV_INIT("/bedrock/"), "bedrock"},
    {SV_INIT("/gemini/"), "gemini"},
    {SV_INIT("/engines/"), NULL},
    {SV_INIT("/v2/"), NULL},
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One decoded byte off the front. */
static char byte_cut(struct strview *v)
{
    char c = v->ptr[0];
    size_t taken = 1;
    if (c == '%' && v->len >= 3 && hex_digit(v->ptr[1]) >= 0 && hex_digit(v->ptr[2]) >= 0) {
        c = (char)(hex_digit(v->ptr[1]) * 16 + hex_digit(v->ptr[2]));
        taken = 3;
    }
    *v = (struct strview){v->ptr + taken, v->len - taken};
    return c;
}

bool route_normalise(struct strview path, char *out, size_t room, size_t *len)
{
    size_t at = 0;
    while (path.len > 0) {
        char c = byte_cut(&path);
        if (c == '/' && at > 0 && out[at - 1] == '/')
            continue;
        if (at == room)
            return false;
        out[at++] = c;
    }
    if (at > 1 && out[at - 1] == '/')
        at--;
    *len = at;
    return true;
}

static bool sv_ends_with(struct strview v, struct strview end)
{
    return v.len >= end.len && memcmp(v.ptr + v.len - end.len, end.ptr, end.len) == 0;
}

static bool row_find(struct strview path, enum spend_operation *operation)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (sv_ends_with(path, rows[i].end)) {
            *operation = rows[i].operation;
            return true;
        }
    }
    return false;
}

static const struct route_prefix *prefix_find(struct strview path)
{
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (sv_starts_with(path, prefixes[i].start))
            return &prefixes[i];
    return NULL;
}

static bool is_extra(const struct route_table *table, struct strview path)
{
    for (size_t i = 0; i < table->extra_count; i++) {
        struct strview extra = sv_of(table->extra[i]);
        if (sv_eq(path, extra) || (sv_ends_with(extra, SV_LIT("/")) && sv_starts_with(path, extra)))
            return true;
    }
    return false;
}

struct route route_find(const struct route_table *table, struct strview method, struct strview path)
{
    struct route out = {.is_call = false, .operation = OPERATION_OTHER};
    char text[PATH_ROOM];
    size_t len = 0;
    if (!sv_eq(method, SV_LIT("POST")))
        return out;
    if (!route_normalise(path, text, sizeof text, &len)) {
        out.is_call = true; /* too long to judge: recorded, and loud */
        return out;
    }
    struct strview plain = {text, len};
    const struct route_prefix *prefix = prefix_find(plain);
    bool known = row_find(plain, &out.operation);
    bool whole = false; /* "/chat/completions" without a prefix, as LiteLLM takes it too */
    for (size_t i = 0; known && i < sizeof rows / sizeof rows[0]; i++)
        whole = whole || sv_eq(plain, rows[i].end);
    out.is_call = prefix != NULL || whole || is_extra(table, plain);
    if (!out.is_call)
        out.operation = OPERATION_OTHER;
    if (prefix != NULL)
        out.provider = prefix->provider;
    return out;
}
