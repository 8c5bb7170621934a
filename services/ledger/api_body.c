#include "api_body.h"

#include "base/clock.h"
#include "base/json_scan.h"
#include "base/limits.h"
#include "base/money.h"
#include <assert.h>
#include <string.h>

#define TEXT_BYTES 2000

static bool refuse_field(struct api_request *r, const char *name, const char *want)
{
    return api_refuse(r, 400, "invalid", "see docs/openapi.yaml for the body", "\"%s\" must be %s", name,
                      want);
}

static bool read_text(struct api_request *r, const char *name, const struct json_value *json,
                      struct strview *out)
{
    if (json->kind != JSON_KIND_STRING || !json_scan_unescape(json, r->arena, out))
        return refuse_field(r, name, "a string");
    if (out->len > TEXT_BYTES || sv_has_control(*out))
        return refuse_field(r, name, "at most 2000 bytes without control characters");
    return true;
}

/* The decimal text of an amount: a string's inside, or an integer's digits. A real has passed through a
 * double somewhere, and has lost what it lost. */
static bool read_decimal(struct api_request *r, const char *name, const struct json_value *json,
                         struct strview *out)
{
    int64_t integer;
    if (json->kind == JSON_KIND_NUMBER && json_scan_i64(json, &integer)) {
        *out = json->raw;
        return true;
    }
    if (json->kind != JSON_KIND_STRING || !json_scan_unescape(json, r->arena, out))
        return refuse_field(r, name, "a decimal string like \"12.50\" (or an integer, never a JSON real)");
    return true;
}

static bool read_number(struct api_request *r, const struct api_field *field, const struct json_value *json,
                        int64_t *out)
{
    struct strview text = SV_NULL;
    struct err why;
    if (!read_decimal(r, field->name, json, &text))
        return false;
    bool ok = field->type == API_FIELD_MONEY ? money_parse_usd(text, out, &why)
                                             : money_parse_markup(text, out, &why);
    if (!ok)
        return api_refuse(r, 400, "invalid",
                          field->type == API_FIELD_MONEY
                              ? "give USD with at most 9 decimals, like \"12.50\""
                              : "give a factor with at most 6 decimals, like \"1.30\"",
                          "\"%s\": %s", field->name, why.text);
    return true;
}

static bool read_time(struct api_request *r, const char *name, const struct json_value *json, int64_t *out)
{
    struct strview text;
    if (json->kind != JSON_KIND_STRING || !json_scan_unescape(json, r->arena, &text) ||
        !clock_parse(text, out))
        return refuse_field(r, name, "an RFC 3339 time like \"2026-11-23T07:00:00Z\"");
    return true;
}

static bool read_texts(struct api_request *r, const char *name, struct json_scan *scan,
                       const struct json_value *json, struct api_value *out)
{
    if (json->kind != JSON_KIND_ARRAY)
        return refuse_field(r, name, "an array of strings");
    out->texts = arena_alloc(r->arena, LIMIT_TAGS * sizeof *out->texts);
    if (out->texts == NULL)
        return refuse_field(r, name, "shorter");
    struct json_value item;
    while (json_scan_item(scan, &item)) {
        if (out->text_count == LIMIT_TAGS)
            return refuse_field(r, name, "at most 64 strings");
        struct strview *text = &out->texts[out->text_count];
        if (!read_text(r, name, &item, text))
            return false;
        if (text->len == 0 || text->len > LIMIT_TAG_BYTES)
            return refuse_field(r, name, "strings of 1 to 256 bytes");
        out->text_count++;
    }
    return true;
}

static bool read_integers(struct api_request *r, const char *name, struct json_scan *scan,
                          const struct json_value *json, struct api_value *out)
{
    if (json->kind != JSON_KIND_ARRAY)
        return refuse_field(r, name, "an array of integers");
    out->integers = arena_alloc(r->arena, LIMIT_TAGS * sizeof *out->integers);
    if (out->integers == NULL)
        return refuse_field(r, name, "shorter");
    struct json_value item;
    while (json_scan_item(scan, &item)) {
        if (out->integer_count == LIMIT_TAGS)
            return refuse_field(r, name, "at most 64 integers");
        if (item.kind != JSON_KIND_NUMBER || !json_scan_i64(&item, &out->integers[out->integer_count++]))
            return refuse_field(r, name, "an array of integers");
    }
    return true;
}

static bool read_value(struct api_request *r, const struct api_field *field, struct json_scan *scan,
                       const struct json_value *json, struct api_value *out)
{
    switch (field->type) {
    case API_FIELD_TEXT:
        return read_text(r, field->name, json, &out->text);
    case API_FIELD_ID:
        return read_text(r, field->name, json, &out->text) && api_id_check(r, field->name, out->text);
    case API_FIELD_MONEY:
    case API_FIELD_MARKUP:
        return read_number(r, field, json, &out->number);
    case API_FIELD_TIME:
        return read_time(r, field->name, json, &out->number);
    case API_FIELD_TEXTS:
        return read_texts(r, field->name, scan, json, out);
    case API_FIELD_INTEGER:
        return (json->kind == JSON_KIND_NUMBER && json_scan_i64(json, &out->number)) ||
               refuse_field(r, field->name, "an integer");
    case API_FIELD_INTEGERS:
        return read_integers(r, field->name, scan, json, out);
    case API_FIELD_OBJECT:
        if (json->kind != JSON_KIND_OBJECT)
            return refuse_field(r, field->name, "an object");
        return json_scan_skip(scan, json, &out->text) || refuse_field(r, field->name, "well-formed JSON");
    }
    return false;
}

static bool refuse_unknown(struct api_request *r, const char *of, struct strview name,
                           const struct api_field *fields, size_t count)
{
    char known[200] = "";
    size_t len = 0;
    for (size_t i = 0; i < count && len + strlen(fields[i].name) + 3 < sizeof known; i++) {
        if (i > 0)
            len = (size_t)(stpcpy(known + len, ", ") - known);
        len = (size_t)(stpcpy(known + len, fields[i].name) - known);
    }
    char hint[260] = "it has: ";
    memcpy(hint + strlen(hint), known, len + 1);
    return api_refuse(r, 400, "unknown_field", hint, "%s has no field \"%.*s\"", of,
                      (int)(name.len < 80 ? name.len : 80), name.ptr);
}

static bool read_member(struct api_request *r, const char *of, struct json_scan *scan,
                        const struct json_value *key, const struct json_value *json,
                        const struct api_field *fields, size_t count, struct api_value *values)
{
    for (size_t i = 0; i < count; i++) {
        if (!json_scan_text_is(key, sv_of(fields[i].name)))
            continue;
        if (values[i].given)
            return api_refuse(r, 400, "invalid", "send each field once", "\"%s\" stands there twice",
                              fields[i].name);
        values[i].given = true;
        if (json->kind == JSON_KIND_NULL)
            return true;
        values[i].present = true;
        return read_value(r, &fields[i], scan, json, &values[i]);
    }
    return refuse_unknown(r, of, key->raw, fields, count);
}

bool api_body_read(struct api_request *r, const char *of, struct strview json, const struct api_field *fields,
                   size_t count, struct api_value *values)
{
    assert(count <= API_FIELDS_MAX);
    struct json_scan scan;
    struct json_value top, key, value;
    memset(values, 0, count * sizeof *values);
    json_scan_init(&scan, sv_is_empty(json) ? SV_LIT("{}") : json, LIMIT_JSON_DEPTH);
    if (!json_scan_value(&scan, &top) || top.kind != JSON_KIND_OBJECT)
        return api_refuse(r, 400, "invalid", "send a JSON object", "%s: %s", of,
                          scan.failed ? scan.err.text : "the body is no JSON object");
    while (json_scan_member(&scan, &key, &value)) {
        if (!read_member(r, of, &scan, &key, &value, fields, count, values))
            return false;
    }
    if (scan.failed || !json_scan_end(&scan))
        return api_refuse(r, 400, "invalid", "send a JSON object", "%s: %s", of,
                          scan.failed ? scan.err.text : "something follows the JSON object");
    for (size_t i = 0; i < count; i++) {
        if (fields[i].need == API_FIELD_REQUIRED && !values[i].present)
            return api_refuse(r, 400, "invalid", "see docs/openapi.yaml for the body", "%s needs \"%s\"", of,
                              fields[i].name);
    }
    return true;
}
