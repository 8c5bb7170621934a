/*
 * json: json_scan beside jansson: the same texts are taken and refused, the same values come out, and a
 * request's body says the same of its tags, model, user and stream to both. What json_scan.h lets differ is
 * set aside.
 */
#include "fuzz.h"

#include "ingest/tag_capture.h"

#include <jansson.h>

#define DEPTH      100
#define ARENA_ROOM ((size_t)1 << 20)

/* Numbers as jansson makes them of JSON_DECODE_INT_AS_REAL. */
static json_t *build(struct json_scan *s, const struct json_value *v, struct arena *a)
{
    struct json_value key;
    struct json_value inner;
    struct strview text = SV_NULL;
    json_t *out = NULL;
    switch (v->kind) {
    case JSON_KIND_OBJECT:
        out = json_object();
        while (json_scan_member(s, &key, &inner)) {
            struct strview name = SV_NULL;
            assert(json_scan_unescape(&key, a, &text) && json_scan_text_is(&key, text));
            assert(arena_dup(a, text, &name));
            json_object_set_new(out, name.ptr, build(s, &inner, a));
        }
        return out;
    case JSON_KIND_ARRAY:
        out = json_array();
        while (json_scan_item(s, &inner))
            json_array_append_new(out, build(s, &inner, a));
        return out;
    case JSON_KIND_STRING:
        assert(json_scan_unescape(v, a, &text) && json_scan_text_is(v, text));
        return json_stringn(text.ptr, text.len);
    case JSON_KIND_NUMBER:
        assert(arena_dup(a, v->raw, &text));
        return json_real(strtod(text.ptr, NULL));
    case JSON_KIND_TRUE:
        return json_true();
    case JSON_KIND_FALSE:
        return json_false();
    case JSON_KIND_NULL:
        break;
    }
    return json_null();
}

static bool accepted(struct strview text, bool lax)
{
    struct json_scan s;
    struct json_value v;
    struct strview whole = SV_NULL;
    json_scan_init(&s, text, DEPTH);
    s.lax = lax;
    bool ok = json_scan_value(&s, &v) && json_scan_skip(&s, &v, &whole) && json_scan_end(&s);
    assert(!ok || fuzz_holds(text, whole));
    return ok;
}

static void values_check(struct strview text, const json_t *want)
{
    struct arena a;
    struct json_scan s;
    struct json_value v;
    arena_init(&a, ARENA_ROOM);
    json_scan_init(&s, text, DEPTH);
    assert(json_scan_value(&s, &v));
    json_t *got = build(&s, &v, &a);
    assert(!s.failed && json_scan_end(&s) && json_equal(got, want));
    json_decref(got);
    arena_free(&a);
}

/* What a body says, by jansson. */
struct said {
    struct tag_set tags; /* texts are jansson's */
    const json_t *user;
};

static void item_say(struct said *said, const json_t *text, enum tag_origin origin)
{
    if (!json_is_string(text))
        tag_set_count_non_string(&said->tags);
    else
        tag_set_add_item(&said->tags, sv_of_bytes(json_string_value(text), json_string_length(text)), origin);
}

static void tags_say(struct said *said, const json_t *tags, enum tag_origin origin)
{
    if (json_is_string(tags))
        tag_set_add_list(&said->tags, sv_of_bytes(json_string_value(tags), json_string_length(tags)), origin);
    for (size_t i = 0; i < json_array_size(tags); i++)
        item_say(said, json_array_get(tags, i), origin);
    if (tags != NULL && !json_is_string(tags) && !json_is_array(tags) && !json_is_null(tags))
        tag_set_count_non_string(&said->tags);
}

/* Members in the order of the text: jansson keeps it. */
static void body_say(struct said *said, json_t *root)
{
    const char *key;
    json_t *value;
    tag_set_init(&said->tags);
    said->user = NULL;
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "tags") == 0)
            tags_say(said, value, TAG_ORIGIN_ROOT);
        else if (strcmp(key, "metadata") == 0)
            tags_say(said, json_object_get(value, "tags"), TAG_ORIGIN_METADATA);
        else if (strcmp(key, "litellm_metadata") == 0)
            tags_say(said, json_object_get(value, "tags"), TAG_ORIGIN_LITELLM_METADATA);
        else if (strcmp(key, "user") == 0 && json_is_string(value))
            said->user = value;
    }
}

static void tags_same(const struct tag_set *a, const struct tag_set *b)
{
    assert(a->count == b->count && a->items == b->items && a->empty == b->empty);
    assert(a->non_string == b->non_string && a->refused == b->refused && a->fault == b->fault);
    for (size_t i = 0; i < a->count; i++)
        assert(sv_eq(a->tags[i].raw, b->tags[i].raw) && a->tags[i].origins == b->tags[i].origins);
}

static struct strview text_of(const json_t *value)
{
    return json_is_string(value) ? sv_of_bytes(json_string_value(value), json_string_length(value)) : SV_NULL;
}

/* The body with the one edit is the body that asks for usage, and is no other in anything else. */
static void ask_check(struct strview body, const struct tag_capture *capture, json_t *root)
{
    struct body_edit edit = stream_ask_plan(&capture->ask);
    json_t *options = json_object_get(root, "stream_options");
    json_t *asked = json_is_object(options) ? json_copy(options) : json_object();
    if (!capture->stream || !edit.needed) {
        assert(!capture->stream || (options != NULL && !json_is_object(options) && !json_is_null(options)) ||
               json_is_true(json_object_get(options, "include_usage")));
        json_decref(asked);
        return;
    }
    size_t len = body.len - edit.cut + edit.put.len;
    char *text = malloc(len);
    memcpy(text, body.ptr, edit.at);
    memcpy(text + edit.at, edit.put.ptr, edit.put.len);
    memcpy(text + edit.at + edit.put.len, body.ptr + edit.at + edit.cut, body.len - edit.at - edit.cut);
    json_t *got = json_loadb(text, len, JSON_DECODE_INT_AS_REAL, NULL);
    json_object_set_new(asked, "include_usage", json_true());
    json_object_set_new(root, "stream_options", asked);
    assert(got != NULL && json_equal(got, root));
    json_decref(got);
    free(text);
}

static int depth_of(const json_t *value)
{
    const char *key;
    json_t *inner;
    size_t i;
    int most = 0;
    if (json_is_object(value))
        json_object_foreach((json_t *)value, key, inner) most =
            depth_of(inner) > most ? depth_of(inner) : most;
    else
        json_array_foreach(value, i, inner) most = depth_of(inner) > most ? depth_of(inner) : most;
    return json_is_object(value) || json_is_array(value) ? most + 1 : 0;
}

/* unique: no key stands twice anywhere: then the tags are compared too, which we unite. */
static void body_check(struct strview body, json_t *root, bool unique)
{
    struct arena arena;
    struct tag_capture capture;
    struct http_headers none = {.content_length = HTTP_LENGTH_NONE};
    struct sha256 *sha = sha256_new();
    struct capture_source from = {&none, SV_LIT("/"), body, false, OPERATION_CHAT};
    struct said said;
    arena_init(&arena, ARENA_ROOM);
    assert(tag_capture_read(&capture, &from, sha, &arena));
    assert(!capture.body_unparsed);
    body_say(&said, root);
    if (said.user != NULL)
        tag_set_add_user(&said.tags, text_of(said.user), &arena);
    if (unique)
        tags_same(&capture.tags, &said.tags);
    assert(capture.stream == json_is_true(json_object_get(root, "stream")));
    struct strview model = tag_capture_text(text_of(json_object_get(root, "model")));
    assert(sv_eq(capture.model, model));
    if (json_is_object(root))
        ask_check(body, &capture, root);
    sha256_free(sha);
    arena_free(&arena);
}

static bool is_set_aside(const json_error_t *why)
{
    enum json_error_code code = json_error_code(why);
    return code == json_error_numeric_overflow || code == json_error_null_character ||
           code == json_error_null_byte_in_key;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct strview in = {(const char *)data, size};
    char *copy = fuzz_copy(in);
    in.ptr = copy;
    json_error_t why;
    json_t *want = json_loadb(in.ptr, in.len, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &why);
    bool ours = accepted(in, false);
    bool lax = accepted(in, true);
    assert(lax || !ours);
    if (sv_find(in, '\0') < in.len) {
        assert(!ours && !lax);
    } else if (want == NULL && is_set_aside(&why)) {
        /* a number past double, or \u0000: spans to us */
    } else if (want != NULL && depth_of(want) > DEPTH) {
        assert(!ours && !lax);
    } else {
        assert(ours == (want != NULL));
        assert(lax == ours || memmem(in.ptr, in.len, "N", 1) != NULL ||
               memmem(in.ptr, in.len, "I", 1) != NULL || memmem(in.ptr, in.len, "\\u", 2) != NULL);
        if (ours)
            values_check(in, want);
        if (ours && depth_of(want) <= LIMIT_JSON_DEPTH) {
            json_t *unique = json_loadb(in.ptr, in.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
            body_check(in, want, unique != NULL);
            json_decref(unique);
        }
    }
    json_decref(want);
    free(copy);
    return 0;
}
