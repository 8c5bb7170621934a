/*
 * tag_capture: one pass over the headers, one over the body. A body that turns out to be neither JSON nor a
 * form gives nothing: its tags are dropped again and those of the headers stand alone. Read as Python reads
 * it, so that no upstream understands what we do not.
 */
#include "ingest/tag_capture.h"

#include "ingest/form_scan.h"
#include "ingest/meter.h"
#include "ingest/route.h"
#include "ingest/text_count.h"
#include "spend/price_key.h"

#include <string.h>

static const struct strview logs_header = SV_INIT("x-litellm-spend-logs-metadata");

struct body_reader {
    struct json_scan scan;
    enum spend_operation operation;
    struct tag_capture *out;
    struct arena *scratch;
    struct strview user;
    bool has_user;
    struct strview quality; /* of images */
    struct strview size;
    struct strview logs; /* the caller's own logs metadata in `metadata` */
    struct strview litellm_logs;
    bool named_for_stream; /* the model is named where a stream's reply does not tell .. */
    bool may_stream;       /* .. and it may be one */
};

/* Where the first control character of a well-formed text stands; its length without one. */
static size_t control_find(struct strview v)
{
    size_t at = 0;
    for (; at < v.len; at++) {
        unsigned char c = (unsigned char)v.ptr[at];
        bool c1 = c == 0xc2 && at + 1 < v.len && (unsigned char)v.ptr[at + 1] < 0xa0;
        if (c < 0x20 || c == 0x7f || c1)
            break;
    }
    return at;
}

struct strview tag_capture_text(struct strview v)
{
    if (v.ptr == NULL)
        return v;
    struct strview cut = {v.ptr, v.len > LIMIT_TEXT_BYTES ? LIMIT_TEXT_BYTES : v.len};
    if (!sv_is_plain(cut)) {
        cut.len = sv_utf8_prefix(cut);
        cut.len = control_find(cut);
    }
    if (cut.len != v.len)
        meter_add(METER_TEXT_CUT, 1);
    return cut;
}

/* "Bearer x" gives x, anything else itself. */
static struct strview bearer(struct strview v)
{
    struct strview word = {v.ptr, 7};
    if (v.len > 7 && (sv_eq_nocase(word, SV_LIT("bearer ")) || sv_eq_nocase(word, SV_LIT("bearer\t"))))
        return sv_trim((struct strview){v.ptr + 7, v.len - 7});
    return v;
}

/* v without any occurrence of the word, as Python's str.replace leaves it. */
static bool word_drop(struct strview v, struct strview word, struct arena *a, struct strview *out)
{
    size_t len = 0;
    char *copy = arena_alloc(a, v.len + 1);
    if (copy == NULL)
        return false;
    while (v.len > 0) {
        size_t step = sv_starts_with(v, word) ? word.len : 1;
        if (step == 1)
            copy[len++] = v.ptr[0];
        v = (struct strview){v.ptr + step, v.len - step};
    }
    *out = (struct strview){copy, len};
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* The first `Credential=` (followed by `Bearer` and blanks, when asked) with a text up to '/', ',' or a
 * blank. */
static struct strview credential_find(struct strview v, bool bearer_first)
{
    const struct strview start = bearer_first ? SV_LIT("Credential=Bearer") : SV_LIT("Credential=");
    for (; v.len > 0; v = (struct strview){v.ptr + 1, v.len - 1}) {
        if (!sv_starts_with(v, start))
            continue;
        size_t at = start.len;
        while (bearer_first && at < v.len && is_space(v.ptr[at]))
            at++;
        size_t end = at;
        while (end < v.len && v.ptr[end] != '/' && v.ptr[end] != ',' && !is_space(v.ptr[end]))
            end++;
        if (end > at && !(bearer_first && at == start.len))
            return (struct strview){v.ptr + at, end - at};
    }
    return SV_NULL;
}

/* As LiteLLM reads x-litellm-api-key (bare: a key alone is one) and Authorization. */
static bool litellm_key(struct strview v, bool bare, struct arena *a, struct strview *out)
{
    static const struct strview words[] = {SV_INIT("Bearer "), SV_INIT("Basic "), SV_INIT("bearer ")};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (sv_starts_with(v, words[i]))
            return word_drop(v, words[i], a, out);
    *out = bare ? v : SV_NULL;
    if (!sv_starts_with(v, SV_LIT("AWS4-HMAC-SHA256")))
        return true;
    struct strview credential = credential_find(v, true);
    if (sv_is_null(credential))
        credential = credential_find(v, false);
    if (!sv_is_null(credential))
        *out = credential;
    return true;
}

static bool key_find(const struct capture_source *from, struct arena *a, struct strview *out)
{
    struct strview value = SV_NULL;
    size_t place = 0;
    *out = SV_NULL;
    for (size_t i = 0; i < HTTP_KEY_HEADERS && sv_is_empty(value); i++) {
        value = http_header_last(from->headers, http_key_headers[i]);
        place = i;
    }
    if (sv_is_empty(value))
        return true;
    if (from->litellm && place < 2)
        return litellm_key(value, place == 0, a, out);
    *out = from->litellm ? value : bearer(value);
    return true;
}

static bool key_hash(const struct capture_source *from, struct sha256 *sha, struct arena *a,
                     struct strview *out)
{
    struct strview key;
    *out = SV_NULL;
    if (!key_find(from, a, &key))
        return false;
    if (sv_is_empty(key))
        return true;
    uint8_t hash[SHA256_LEN];
    sha256_begin(sha);
    sha256_update(sha, key.ptr, key.len);
    sha256_end(sha, hash);
    char *hex = arena_alloc(a, SHA256_HEX_LEN + 1);
    if (hex == NULL)
        return false;
    sha256_to_hex(hash, sizeof hash, hex);
    *out = (struct strview){hex, SHA256_HEX_LEN};
    return true;
}

/* As LiteLLM reads a header: Latin-1 to it, so any byte will do, and Python's JSON. */
static bool is_json_object(struct strview text)
{
    struct json_scan scan;
    if (sv_is_empty(text))
        return false;
    json_scan_init(&scan, text, LIMIT_JSON_DEPTH);
    scan.lax = scan.any_bytes = true;
    return json_scan_whole(&scan, JSON_KIND_OBJECT);
}

static void headers_read(struct tag_capture *out, const struct http_headers *headers)
{
    for (size_t i = 0; i < headers->count; i++)
        if (sv_eq_nocase(headers->item[i].name, SV_LIT("x-litellm-tags")))
            tag_set_add_list(&out->tags, headers->item[i].value, TAG_ORIGIN_HEADER);
}

static bool string_of(struct body_reader *r, const struct json_value *v, struct strview *out)
{
    return json_scan_unescape(v, r->scratch, out);
}

/* A string that cannot be unescaped: it holds \u0000, or is past every limit. */
static void tag_refuse(struct tag_set *tags)
{
    tags->refused++;
    if (tags->fault == TAG_FAULT_NONE)
        tags->fault = TAG_FAULT_CONTROL;
}

/* `tags`: an array of strings, or one string with commas. */
static bool tags_read(struct body_reader *r, const struct json_value *value, enum tag_origin origin)
{
    struct strview text;
    struct json_value item;
    if (value->kind == JSON_KIND_STRING) {
        if (!string_of(r, value, &text))
            tag_refuse(&r->out->tags);
        else
            tag_set_add_list(&r->out->tags, text, origin);
        return true;
    }
    if (value->kind != JSON_KIND_ARRAY) {
        if (value->kind != JSON_KIND_NULL)
            tag_set_count_non_string(&r->out->tags);
        return json_scan_skip(&r->scan, value, NULL);
    }
    while (json_scan_item(&r->scan, &item)) {
        if (item.kind != JSON_KIND_STRING)
            tag_set_count_non_string(&r->out->tags);
        else if (string_of(r, &item, &text))
            tag_set_add_item(&r->out->tags, text, origin);
        else
            tag_refuse(&r->out->tags);
        if (!json_scan_skip(&r->scan, &item, NULL))
            return false;
    }
    return !r->scan.failed;
}

static bool metadata_read(struct body_reader *r, const struct json_value *value, enum tag_origin origin)
{
    struct json_value key;
    struct json_value item;
    struct strview *logs = origin == TAG_ORIGIN_METADATA ? &r->logs : &r->litellm_logs;
    *logs = SV_NULL; /* of two objects the last counts */
    if (value->kind != JSON_KIND_OBJECT)
        return json_scan_skip(&r->scan, value, NULL);
    while (json_scan_member(&r->scan, &key, &item)) {
        struct strview whole = SV_NULL;
        bool ok = json_scan_text_is(&key, SV_LIT("tags")) ? tags_read(r, &item, origin)
                                                          : json_scan_skip(&r->scan, &item, &whole);
        if (!ok)
            return false;
        if (json_scan_text_is(&key, SV_LIT("spend_logs_metadata")))
            *logs = item.kind == JSON_KIND_OBJECT ? whole : SV_NULL;
    }
    return !r->scan.failed;
}

static bool scalar_text(struct body_reader *r, const struct json_value *value, struct strview *out)
{
    *out = SV_NULL;
    if (value->kind == JSON_KIND_STRING && !string_of(r, value, out))
        *out = SV_NULL;
    return json_scan_skip(&r->scan, value, NULL);
}

static void speech_read(struct body_reader *r, const struct json_value *value)
{
    r->out->characters.has = value->kind == JSON_KIND_STRING;
    if (r->out->characters.has)
        r->out->characters.v = text_characters(value);
}

/* LiteLLM takes the model that it asks from these, while its reply says the one of `model`; from those behind
 * them only a stream's reply does. */
static const struct strview model_names[] = {
    SV_INIT("model_list"),
    SV_INIT("model_id"),
    SV_INIT("deployment_id"),
    SV_INIT("fallbacks"),
    SV_INIT("context_window_fallbacks"),
    SV_INIT("content_policy_fallbacks"),
    SV_INIT("router_settings_override"),
    SV_INIT("mock_testing_fallbacks"),
    SV_INIT("mock_testing_context_fallbacks"),
    SV_INIT("mock_testing_content_policy_fallbacks"),
};
#define MODEL_NAMES  (sizeof model_names / sizeof model_names[0])
#define MODEL_ALWAYS 3

static void model_name_note(struct body_reader *r, size_t name)
{
    *(name < MODEL_ALWAYS ? &r->out->price_elsewhere : &r->named_for_stream) = true;
}

static bool is_model_name(const struct json_value *key, size_t *name)
{
    for (size_t i = 0; i < MODEL_NAMES; i++) {
        *name = i;
        if (json_scan_text_is(key, model_names[i]))
            return true;
    }
    return false;
}

/* What LiteLLM's client puts over the request, last of all. */
static bool extra_body_read(struct json_scan *scan, const struct json_value *value, struct tag_capture *out,
                            enum spend_operation operation, bool *prices_found)
{
    static const struct strview prices[] = {
        SV_INIT("model"),  SV_INIT("messages"),      SV_INIT("prompt"), SV_INIT("input"),
        SV_INIT("n"),      SV_INIT("quality"),       SV_INIT("size"),   SV_INIT("service_tier"),
        SV_INIT("stream"), SV_INIT("stream_options")};
    struct json_value key;
    struct json_value item;
    if (value->kind != JSON_KIND_OBJECT)
        return json_scan_skip(scan, value, NULL);
    while (json_scan_member(scan, &key, &item)) {
        for (size_t i = 0; i < sizeof prices / sizeof prices[0]; i++)
            if (json_scan_text_is(&key, prices[i]))
                *prices_found = true;
        most_asked_read(&out->most, operation, &key, &item);
        if (!json_scan_skip(scan, &item, NULL))
            return false;
    }
    return !scan->failed;
}

static bool member_read(struct body_reader *r, const struct json_value *key, const struct json_value *value)
{
    struct tag_capture *out = r->out;
    size_t name;
    if (json_scan_text_is(key, SV_LIT("tags")))
        return tags_read(r, value, TAG_ORIGIN_ROOT);
    if (json_scan_text_is(key, SV_LIT("metadata")))
        return metadata_read(r, value, TAG_ORIGIN_METADATA);
    if (json_scan_text_is(key, SV_LIT("litellm_metadata")))
        return metadata_read(r, value, TAG_ORIGIN_LITELLM_METADATA);
    if (json_scan_text_is(key, SV_LIT("user"))) {
        r->has_user = value->kind == JSON_KIND_STRING;
        return scalar_text(r, value, &r->user);
    }
    if (json_scan_text_is(key, SV_LIT("model")))
        return scalar_text(r, value, &out->model);
    if (r->operation == OPERATION_IMAGE && json_scan_text_is(key, SV_LIT("quality")))
        return scalar_text(r, value, &r->quality);
    if (r->operation == OPERATION_IMAGE && json_scan_text_is(key, SV_LIT("size")))
        return scalar_text(r, value, &r->size);
    if (json_scan_text_is(key, SV_LIT("stream"))) {
        out->stream = value->kind == JSON_KIND_TRUE;
        r->may_stream |= value->kind != JSON_KIND_FALSE && value->kind != JSON_KIND_NULL;
        return json_scan_skip(&r->scan, value, NULL);
    }
    most_asked_read(&out->most, r->operation, key, value);
    if (json_scan_text_is(key, SV_LIT("extra_body")))
        return extra_body_read(&r->scan, value, out, r->operation, &out->price_elsewhere);
    if (is_model_name(key, &name))
        model_name_note(r, name);
    if (json_scan_text_is(key, SV_LIT("stream_options")))
        return stream_ask_read(&out->ask, &r->scan, value);
    if (r->operation == OPERATION_SPEECH && json_scan_text_is(key, SV_LIT("input")))
        speech_read(r, value);
    return text_count(&r->scan, key, value, &out->text_bytes);
}

static bool body_read(struct body_reader *r, struct strview body)
{
    struct json_value root;
    struct json_value key;
    struct json_value value;
    json_scan_init(&r->scan, body, LIMIT_JSON_DEPTH);
    r->scan.lax = true;
    if (!json_scan_value(&r->scan, &root))
        return false;
    if (root.kind != JSON_KIND_OBJECT)
        return json_scan_skip(&r->scan, &root, NULL) && json_scan_end(&r->scan);
    r->out->ask.has_root = true;
    r->out->ask.root_inside = (size_t)(root.raw.ptr - r->scan.begin) + 1;
    while (json_scan_member(&r->scan, &key, &value))
        if (!member_read(r, &key, &value))
            return false;
    return !r->scan.failed && json_scan_end(&r->scan);
}

/* A form's metadata: JSON in a text. */
static void metadata_text(struct body_reader *r, struct strview text, enum tag_origin origin)
{
    struct json_value root;
    struct tag_set before = r->out->tags;
    json_scan_init(&r->scan, text, LIMIT_JSON_DEPTH);
    r->scan.lax = true;
    if (!json_scan_value(&r->scan, &root) || root.kind != JSON_KIND_OBJECT ||
        !metadata_read(r, &root, origin) || !json_scan_end(&r->scan))
        r->out->tags = before; /* no JSON: it says nothing */
}

static void field_read(struct body_reader *r, const struct form_field *field)
{
    struct tag_capture *out = r->out;
    int64_t number = 0;
    for (size_t i = 0; i < MODEL_NAMES; i++)
        if (sv_eq(field->name, model_names[i]))
            model_name_note(r, i);
    if (sv_eq(field->name, SV_LIT("tags")))
        tag_set_add_list(&out->tags, field->value, TAG_ORIGIN_ROOT);
    else if (sv_eq(field->name, SV_LIT("tags[]")))
        tag_set_add_item(&out->tags, field->value, TAG_ORIGIN_ROOT);
    else if (sv_eq(field->name, SV_LIT("metadata")))
        metadata_text(r, field->value, TAG_ORIGIN_METADATA);
    else if (sv_eq(field->name, SV_LIT("litellm_metadata")))
        metadata_text(r, field->value, TAG_ORIGIN_LITELLM_METADATA);
    else if (sv_eq(field->name, SV_LIT("model")))
        out->model = field->value;
    else if (sv_eq(field->name, SV_LIT("stream"))) {
        out->stream = sv_eq_nocase(field->value, SV_LIT("true"));
        r->may_stream = true;
    } else if (sv_eq(field->name, SV_LIT("quality")))
        r->quality = field->value;
    else if (sv_eq(field->name, SV_LIT("size")))
        r->size = field->value;
    else if (sv_eq(field->name, SV_LIT("n")))
        most_asked_note(&out->most.n, sv_to_i64(field->value, &number) ? number : INT64_MAX);
    else if (sv_eq(field->name, SV_LIT("user"))) {
        r->has_user = true;
        r->user = field->value;
    } else if (sv_eq(field->name, SV_LIT("prompt")))
        out->text_bytes += field->value.len;
}

/* false: it is no form, or a broken one. */
static bool form_read(struct body_reader *r, const struct http_headers *headers, struct strview body)
{
    struct form_scan scan;
    struct form_field field;
    size_t types = 0;
    for (size_t i = 0; i < headers->count; i++)
        types += sv_eq_nocase(headers->item[i].name, SV_LIT("content-type")) ? 1 : 0;
    if (types != 1 || !form_scan_init(&scan, http_header_last(headers, SV_LIT("content-type")), body))
        return false;
    while (form_scan_next(&scan, &field))
        field_read(r, &field);
    if (!scan.failed)
        return true;
    tag_set_init(&r->out->tags); /* it said nothing */
    headers_read(r->out, headers);
    r->out->model = r->quality = r->size = SV_NULL;
    r->out->stream = r->has_user = false;
    r->out->text_bytes = 0;
    return false;
}

/* Behind a place too deep for us LiteLLM may still read one; deeper still, nobody can say. */
static bool may_hide_price(struct tag_capture *out, enum spend_operation operation, struct strview body)
{
    struct json_scan scan;
    struct json_value key;
    struct json_value value;
    bool found = false;
    size_t name;
    json_scan_init(&scan, body, LIMIT_REPLY_JSON_DEPTH);
    scan.lax = true;
    if (!json_scan_value(&scan, &value) || value.kind != JSON_KIND_OBJECT)
        return scan.err.code == ERR_FULL;
    while (json_scan_member(&scan, &key, &value)) {
        found = found || is_model_name(&key, &name);
        if (!(json_scan_text_is(&key, SV_LIT("extra_body"))
                  ? extra_body_read(&scan, &value, out, operation, &found)
                  : json_scan_skip(&scan, &value, NULL)))
            break;
    }
    return found || (scan.failed && scan.err.code == ERR_FULL);
}

/*
 * A body that could not be read. What is no JSON says nothing; one nested too deep for us may be read by the
 * upstream, so what stood before the deep place counts.
 */
static void body_drop(struct body_reader *r, const struct http_headers *headers, struct strview body)
{
    struct tag_capture *out = r->out;
    out->body_unparsed = true;
    out->ask = (struct stream_ask){.has_root = false};
    out->characters.has = out->most.max_tokens.has = out->most.n.has = false;
    if (r->scan.err.code == ERR_FULL) {
        out->price_elsewhere = out->price_elsewhere || may_hide_price(out, r->operation, body);
        tag_refuse(&out->tags);
        if (r->has_user)
            tag_set_add_user(&out->tags, r->user, r->scratch);
        return;
    }
    tag_set_init(&out->tags);
    headers_read(out, headers);
    out->stream = false;
    out->model = SV_NULL;
}

/* LiteLLM 1.83.14 lets the header replace what the body says; on these paths it looks into `litellm_metadata`
 * alone, elsewhere into `metadata` first. */
static struct strview logs_of_body(const struct body_reader *r, struct strview target)
{
    static const struct strview words[] = {SV_INIT("thread"),       SV_INIT("assistant"), SV_INIT("batches"),
                                           SV_INIT("/v1/messages"), SV_INIT("responses"), SV_INIT("files")};
    struct strview ignored;
    struct strview path = sv_cut(target, '?', &ignored);
    if (sv_is_null(r->logs))
        return r->litellm_logs;
    for (size_t i = 0; i < sizeof words / sizeof words[0] && !sv_is_null(path); i++) {
        if (memmem(path.ptr, path.len, words[i].ptr, words[i].len) != NULL)
            return r->litellm_logs;
    }
    return r->logs;
}

static struct strview logs_of_header(const struct capture_source *from)
{
    struct strview text = http_header_last(from->headers, logs_header);
    if (is_json_object(text))
        return text;
    meter_add(METER_LOGS_METADATA_DROPPED, from->litellm && !sv_is_empty(text) ? 1 : 0);
    return SV_NULL;
}

/* What path or query name goes before the body's model. */
static bool model_named(struct tag_capture *out, const struct capture_source *from, struct arena *scratch)
{
    out->stamp = SV_NULL;
    if (!from->litellm)
        return true;
    char *room = arena_alloc(scratch, LIMIT_TEXT_BYTES + 1);
    if (room == NULL)
        return false;
    struct strview named = tag_capture_text(route_model(from->target, room, LIMIT_TEXT_BYTES + 1));
    if (sv_is_null(named) || sv_eq(named, out->model))
        return true;
    out->stamp = out->body_unparsed ? SV_LIT("") : out->model;
    out->model = named;
    return true;
}

/* It reads a form wherever the type says the word: JSON in it would tell us something else. */
static bool is_form_to_litellm(const struct capture_source *from)
{
    for (size_t i = 0; from->litellm && i < from->headers->count; i++) {
        const struct http_header *line = &from->headers->item[i];
        if (!sv_eq_nocase(line->name, SV_LIT("content-type")))
            continue;
        for (size_t at = 0; at + 4 <= line->value.len; at++)
            if (sv_eq_nocase((struct strview){line->value.ptr + at, 4}, SV_LIT("form")))
                return true;
    }
    return false;
}

bool tag_capture_read(struct tag_capture *out, const struct capture_source *from, struct sha256 *sha,
                      struct arena *scratch)
{
    const struct http_headers *headers = from->headers;
    struct strview body = from->body;
    if (!key_hash(from, sha, scratch, &out->key_hash))
        return false;
    tag_set_init(&out->tags);
    out->body_unparsed = out->stream = out->price_elsewhere = false;
    out->text_bytes = 0;
    out->characters = (struct opt_i64){.has = false};
    out->most = (struct most_asked){.n.has = false};
    out->ask = (struct stream_ask){.has_root = false};
    out->model = out->variant = SV_NULL;
    out->user_agent = tag_capture_text(http_header_last(headers, SV_LIT("user-agent")));
    out->logs_metadata = logs_of_header(from);
    out->logs_metadata_of_header = !sv_is_null(out->logs_metadata);
    headers_read(out, headers);
    struct body_reader r = {.operation = from->operation, .out = out, .scratch = scratch};
    if (form_read(&r, headers, body) || (!is_form_to_litellm(from) && body_read(&r, body))) {
        if (r.has_user)
            tag_set_add_user(&out->tags, r.user, scratch);
        if (from->operation == OPERATION_IMAGE)
            out->variant = price_key_variant(r.quality, r.size, scratch);
        if (!out->logs_metadata_of_header)
            out->logs_metadata = logs_of_body(&r, from->target);
    } else {
        body_drop(&r, headers, body);
        out->text_bytes = body.len;
    }
    out->price_elsewhere |= r.named_for_stream && r.may_stream;
    out->model = tag_capture_text(out->model);
    return model_named(out, from, scratch);
}
