/*
 * route: one table of path ends that are calls wherever they stand, and the prefixes below which every POST
 * is one, but for what only counts tokens.
 */
#include "ingest/route.h"

#include <assert.h>
#include <string.h>

#define PATH_ROOM 1024

struct route_row {
    struct strview end; /* of the path, lower case */
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
    {SV_INIT(":generatecontent"), OPERATION_OTHER},
    {SV_INIT(":streamgeneratecontent"), OPERATION_OTHER},
};

/* At and below these every POST is a call. */
struct route_prefix {
    struct strview start; /* with its slash */
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
    /* what LiteLLM passes through besides */
    {SV_INIT("/vertex-ai/"), "vertex_ai"},
    {SV_INIT("/openai_passthrough/"), NULL},
    {SV_INIT("/azure/"), NULL},
    {SV_INIT("/azure_ai/"), NULL},
    {SV_INIT("/mistral/"), "mistral"},
    {SV_INIT("/cohere/"), NULL},
    {SV_INIT("/vllm/"), NULL},
    {SV_INIT("/assemblyai/"), NULL},
    {SV_INIT("/eu.assemblyai/"), NULL},
    {SV_INIT("/cursor/"), NULL},
    {SV_INIT("/v1beta/"), NULL},
    {SV_INIT("/a2a/"), NULL},
    /* what LiteLLM serves without its /v1, too, or has of its own and asks models for */
    {SV_INIT("/apply_guardrail/"), NULL},
    {SV_INIT("/guardrails/apply_guardrail/"), NULL},
    {SV_INIT("/health/test_connection/"), NULL},
    {SV_INIT("/policies/test-pipeline/"), NULL},
    {SV_INIT("/policy/templates/"), NULL},
    {SV_INIT("/search_tools/test_connection/"), NULL},
    {SV_INIT("/utils/test_policies_and_guardrails/"), NULL},
    {SV_INIT("/usage/ai/"), NULL},
    {SV_INIT("/containers/"), NULL},
    {SV_INIT("/interactions/"), NULL},
    {SV_INIT("/ocr/"), NULL},
    {SV_INIT("/prompts/"), NULL},
    {SV_INIT("/rag/"), NULL},
    {SV_INIT("/realtime/"), NULL},
    {SV_INIT("/responses/"), NULL},
    {SV_INIT("/search/"), NULL},
    {SV_INIT("/threads/"), NULL},
    {SV_INIT("/vector_stores/"), NULL},
    {SV_INIT("/videos/"), NULL},
};

/* They only count a prompt's tokens, and cost nothing anywhere. Whole paths: behind anything else such an end
 * may be one that the upstream cuts off. */
static const struct strview counting[] = {
    SV_INIT("/v1/messages/count_tokens"),
    SV_INIT("/anthropic/v1/messages/count_tokens"),
    SV_INIT("/v1/responses/input_tokens"),
    SV_INIT("/openai/v1/responses/input_tokens"),
};

/* One decoded byte off the front. */
static char byte_cut(struct strview *v)
{
    char c = v->ptr[0];
    size_t taken = 1;
    if (c == '%' && v->len >= 3 && sv_hex_digit(v->ptr[1]) >= 0 && sv_hex_digit(v->ptr[2]) >= 0) {
        c = (char)(sv_hex_digit(v->ptr[1]) * 16 + sv_hex_digit(v->ptr[2]));
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

static bool is_counting(struct strview path)
{
    for (size_t i = 0; i < sizeof counting / sizeof counting[0]; i++)
        if (sv_eq(path, counting[i]))
            return true;
    /* Google's method stands behind the model */
    return sv_starts_with(path, SV_LIT("/gemini/v1beta/models/")) &&
           sv_ends_with(path, SV_LIT(":countTokens"));
}

static const struct route_prefix *prefix_find(struct strview path)
{
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        struct strview start = prefixes[i].start;
        if (sv_starts_with(path, start) || sv_eq(path, (struct strview){start.ptr, start.len - 1}))
            return &prefixes[i];
    }
    return NULL;
}

static bool is_extra(const struct route_table *table, struct strview path)
{
    for (size_t i = 0; i < table->extra_count; i++) {
        struct strview extra = sv_of(table->extra[i]);
        bool below = sv_ends_with(extra, SV_LIT("/")) && path.len > extra.len;
        if (sv_eq_nocase((struct strview){path.ptr, below ? extra.len : path.len}, extra))
            return true;
    }
    return false;
}

static void lower(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] >= 'A' && text[i] <= 'Z')
            text[i] = (char)(text[i] + ('a' - 'A'));
}

/* Without the parameters of its segments (";v=1"), as some servers read it, and what slashes they leave. */
static struct strview bare(char *text, size_t len)
{
    size_t kept = 0;
    bool parameter = false;
    for (size_t i = 0; i < len; i++) {
        parameter = text[i] != '/' && (parameter || text[i] == ';');
        if (!parameter && !(text[i] == '/' && kept > 0 && text[kept - 1] == '/'))
            text[kept++] = text[i];
    }
    if (kept > 1 && text[kept - 1] == '/')
        kept--;
    return (struct strview){text, kept};
}

/* Calls as far as rows, prefixes and options tell; the provider where none was told before. */
static bool is_listed(const struct route_table *table, struct strview path, bool counts, struct route *out)
{
    const struct route_prefix *prefix = prefix_find(path);
    if (prefix != NULL && out->provider == NULL)
        out->provider = prefix->provider;
    /* whatever stands before a row's end: proxies serve it below many names */
    return row_find(path, &out->operation) || is_extra(table, path) || (prefix != NULL && !counts);
}

struct route route_find(const struct route_table *table, struct strview method, struct strview path)
{
    struct route out = {.is_call = false, .operation = OPERATION_OTHER};
    char text[ROUTE_PREFIX_ROOM + PATH_ROOM];
    size_t before = sv_of(table->prefix).len;
    size_t len = 0;
    if (!sv_eq(method, SV_LIT("POST")))
        return out;
    assert(before < ROUTE_PREFIX_ROOM);
    if (before > 0)
        memcpy(text, table->prefix, before);
    if (!route_normalise(path, text + before, PATH_ROOM, &len)) {
        out.is_call = true; /* too long to judge: recorded, and loud */
        return out;
    }
    /* read in one way everywhere */
    bool plain = sv_find(path, '%') == path.len && sv_find(path, ';') == path.len;
    bool counts = plain && (is_counting((struct strview){text + before, len}) ||
                            is_counting((struct strview){text, before + len}));
    lower(text, before + len);
    struct strview own = {text + before, len};
    struct strview whole = {text, before + len}; /* what the upstream sees */
    out.is_call =
        is_listed(table, own, counts, &out) || (before > 0 && is_listed(table, whole, counts, &out));
    if (sv_find(whole, ';') == whole.len || out.operation != OPERATION_OTHER)
        return out;
    own = bare(text + before, len);
    out.is_call = is_listed(table, own, false, &out) || out.is_call;
    out.is_call = is_listed(table, bare(text, before + own.len), false, &out) || out.is_call;
    return out;
}

bool route_is_unmetered(struct strview method, struct strview path)
{
    char text[sizeof "/health/"]; /* what does not fit is another */
    size_t len = 0;
    return sv_eq(method, SV_LIT("GET")) && route_normalise(path, text, sizeof text, &len) &&
           sv_eq((struct strview){text, len}, SV_LIT("/health"));
}

static size_t decode(struct strview v, bool query, char *out, size_t room)
{
    size_t at = 0;
    while (v.len > 0 && at < room) {
        bool blank = query && v.ptr[0] == '+';
        out[at] = byte_cut(&v);
        if (blank)
            out[at] = ' ';
        at++;
    }
    return at;
}

/* The paths of LiteLLM that take a model from elsewhere than the body. */
static const struct strview model_ends[] = {
    SV_INIT("/chat/completions"),   SV_INIT("/completions"),  SV_INIT("/embeddings"),
    SV_INIT("/images/generations"), SV_INIT("/images/edits"),
};
#define MODEL_ENDS  (sizeof model_ends / sizeof model_ends[0])
#define ENGINE_ENDS 3 /* /engines/ has the first ones alone */

/* false: the path is not of that kind. */
static bool model_of_path(struct strview path, struct strview start, size_t ends, struct strview *out)
{
    for (size_t i = 0; i < ends && sv_starts_with(path, start); i++) {
        if (path.len < start.len + model_ends[i].len || !sv_ends_with(path, model_ends[i]))
            continue;
        *out = (struct strview){path.ptr + start.len, path.len - start.len - model_ends[i].len};
        return true;
    }
    return false;
}

static bool is_model_in_query(struct strview path)
{
    if (sv_eq(path, SV_LIT("/queue/chat/completions")))
        return true;
    if (sv_starts_with(path, SV_LIT("/v1/")))
        path = (struct strview){path.ptr + 3, path.len - 3};
    for (size_t i = 0; i < MODEL_ENDS; i++)
        if (sv_eq(path, model_ends[i]))
            return true;
    return false;
}

static struct strview model_of_query(struct strview query, char *out, size_t room)
{
    struct strview found = SV_NULL;
    while (!sv_is_null(query)) {
        char name[sizeof "model"]; /* one more than fits, to tell a longer name */
        struct strview rest;
        struct strview value;
        struct strview key = sv_cut(sv_cut(query, '&', &rest), '=', &value);
        size_t len = decode(key, true, name, sizeof name);
        if (!sv_is_null(value) && sv_eq((struct strview){name, len}, SV_LIT("model")))
            found = (struct strview){out, decode(value, true, out, room)};
        query = rest;
    }
    return found;
}

/* false: for certain neither its path nor its query names one. */
static bool is_model_named(struct strview target)
{
    return sv_find(target, '?') < target.len || sv_find(target, '%') < target.len ||
           sv_starts_with(target, SV_LIT("/engines/")) ||
           sv_starts_with(target, SV_LIT("/openai/deployments/"));
}

struct strview route_model(struct strview target, char *out, size_t room)
{
    if (!is_model_named(target))
        return SV_NULL;
    char text[PATH_ROOM];
    struct strview query;
    struct strview raw = sv_cut(target, '?', &query);
    struct strview path = {text, decode(raw, false, text, sizeof text)};
    struct strview model = SV_NULL;
    if (path.len == sizeof text) /* the record says operation `other` then, and no usage is read */
        return SV_NULL;
    if (model_of_path(path, SV_LIT("/openai/deployments/"), MODEL_ENDS, &model) ||
        model_of_path(path, SV_LIT("/engines/"), ENGINE_ENDS, &model)) {
        model.len = model.len > room ? room : model.len;
        memcpy(out, model.ptr, model.len);
        model.ptr = out;
    } else if (is_model_in_query(path)) {
        model = model_of_query(query, out, room);
    }
    return sv_is_empty(model) ? SV_NULL : model;
}
