#include "api_hold.h"

#include "api_body.h"
#include "base/json_scan.h"
#include "hold.h"
#include "spend/tag_set.h"

#include <string.h>

/* The items of a JSON array of at most HOLD_AT_ONCE, as text. */
static bool read_items(struct api_request *r, struct strview *item, size_t *count)
{
    struct json_scan scan;
    struct json_value value;
    *count = 0;
    json_scan_init(&scan, r->body, LIMIT_JSON_DEPTH);
    bool ok = json_scan_value(&scan, &value) && value.kind == JSON_KIND_ARRAY;
    while (ok && json_scan_item(&scan, &value)) {
        if (*count == HOLD_AT_ONCE)
            return api_refuse(r, 400, "invalid", "send at most 256 calls at once",
                              "too many calls in one request");
        ok = json_scan_skip(&scan, &value, &item[*count]);
        (*count)++;
    }
    return (ok && !scan.failed && json_scan_end(&scan)) ||
           api_refuse(r, 400, "invalid", "send a JSON array of calls", "the body is no JSON array");
}

static bool read_call_id(struct api_request *r, struct strview text, struct uuid *out)
{
    return uuid_parse(text, out) || api_refuse(r, 400, "invalid", "give the call's UUID",
                                               "call_id \"" SV_FMT "\" is none", SV_ARG(text));
}

static bool read_operation(struct api_request *r, struct strview text, enum spend_operation *out)
{
    return spend_operation_parse(text, out) ||
           api_refuse(r, 400, "invalid", "see docs/openapi.yaml for the operations",
                      "there is no operation \"" SV_FMT "\"", SV_ARG(text));
}

static bool read_place(struct api_request *r, struct strview json, struct hold_item *out)
{
    enum {
        CALL_ID,
        TAGS,
        KEY_HASH,
        OPERATION,
        MODEL,
        PROVIDER,
        VARIANT,
        BODY_BYTES,
        MAX_TOKENS,
        N,
        FORCED,
        ADMITTED_AT,
        FIELDS
    };
    static const struct api_field fields[FIELDS] = {
        [CALL_ID] = {"call_id", API_FIELD_TEXT, API_FIELD_REQUIRED},
        [TAGS] = {"tags", API_FIELD_TEXTS, API_FIELD_OPTIONAL},
        [KEY_HASH] = {"key_hash", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [OPERATION] = {"operation", API_FIELD_TEXT, API_FIELD_REQUIRED},
        [MODEL] = {"model", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [PROVIDER] = {"provider", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [VARIANT] = {"variant", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [BODY_BYTES] = {"body_bytes", API_FIELD_INTEGER, API_FIELD_OPTIONAL},
        [MAX_TOKENS] = {"max_tokens", API_FIELD_INTEGER, API_FIELD_OPTIONAL},
        [N] = {"n", API_FIELD_INTEGER, API_FIELD_OPTIONAL},
        [FORCED] = {"forced", API_FIELD_INTEGER, API_FIELD_OPTIONAL},
        [ADMITTED_AT] = {"admitted_at", API_FIELD_TIME, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    struct spend_call *call = &out->gate.call;
    if (!api_body_read(r, "a call", json, fields, FIELDS, v) ||
        !read_call_id(r, v[CALL_ID].text, &call->call_id) ||
        !read_operation(r, v[OPERATION].text, &call->operation))
        return false;
    if (v[BODY_BYTES].number < 0 || v[MAX_TOKENS].number < 0 || v[N].number < 0)
        return api_refuse(r, 400, "invalid", "give sizes of zero or more", "a size is negative");
    call->tags = arena_alloc(r->arena, v[TAGS].text_count * sizeof *call->tags + 1);
    if (call->tags == NULL)
        return api_refuse(r, 413, "too_large", "send fewer calls at once", "the calls do not fit");
    for (size_t i = 0; i < v[TAGS].text_count; i++) {
        struct tag *tag = &call->tags[call->tag_count++];
        *tag = (struct tag){.raw = v[TAGS].texts[i], .origins = TAG_ORIGIN_HEADER};
        tag_split(tag->raw, &tag->key, &tag->value);
    }
    call->key_hash = v[KEY_HASH].text;
    call->model_requested = v[MODEL].text;
    call->provider = v[PROVIDER].text;
    call->variant = v[VARIANT].text;
    out->gate.body_bytes = v[BODY_BYTES].number;
    out->gate.max_tokens = (struct opt_i64){.has = v[MAX_TOKENS].present, .v = v[MAX_TOKENS].number};
    out->gate.n = (struct opt_i64){.has = v[N].present, .v = v[N].number};
    out->forced = v[FORCED].number != 0;
    out->forced_at = (struct opt_i64){.has = v[ADMITTED_AT].present, .v = v[ADMITTED_AT].number};
    return out->forced || !out->forced_at.has ||
           api_refuse(r, 400, "invalid", "leave admitted_at to the ledger, or say \"forced\": 1",
                      "only a forced call was admitted before it is held");
}

static void write_call_id(struct api_request *r, const struct uuid *id, enum hold_state state)
{
    char text[UUID_TEXT_LEN + 1];
    uuid_format(id, text);
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "call_id");
    json_write_str(&r->json, text);
    json_write_key(&r->json, "state");
    json_write_str(&r->json, hold_state_name(state));
}

static void write_blocks(struct api_request *r, const char *key, struct strview blocks)
{
    json_write_key(&r->json, key);
    json_write_raw(&r->json, sv_is_empty(blocks) ? SV_LIT("[]") : blocks);
}

static void write_place(struct api_request *r, const struct hold_item *item, bool observed)
{
    write_call_id(r, &item->gate.call.call_id, item->state);
    json_write_key(&r->json, "admitted");
    json_write_bool(&r->json, observed || item->state == HOLD_PLACED || item->state == HOLD_CAPTURED);
    json_write_key(&r->json, "admitted_at");
    json_write_time(&r->json, item->admitted_at);
    json_write_key(&r->json, "priced");
    if (item->priced.has)
        json_write_bool(&r->json, item->priced.v != 0);
    else
        json_write_null(&r->json);
    json_write_key(&r->json, "conflict");
    if (item->gate.is_conflict)
        json_write_str(&r->json, item->gate.detail);
    else
        json_write_null(&r->json);
    write_blocks(r, "blocking", item->blocking);
    write_blocks(r, "warnings", item->warnings);
    json_write_close(&r->json, '}');
}

static bool read_observe(struct api_request *r, bool *out)
{
    struct strview text = api_query_get(r, "observe");
    *out = sv_eq(text, SV_LIT("true"));
    return *out || sv_is_null(text) || sv_eq(text, SV_LIT("false")) ||
           api_refuse(r, 400, "invalid", "say observe=true, or leave it out",
                      "observe is \"" SV_FMT "\", not true or false", SV_ARG(text));
}

bool api_hold_place(struct api_request *r, struct err *err)
{
    struct strview json[HOLD_AT_ONCE];
    size_t count;
    bool observe;
    if (!read_observe(r, &observe) || !api_query_end(r))
        return false;
    if (!observe)
        hold_ahead(r->holds);
    if (!read_items(r, json, &count))
        return false;
    struct hold_item *items = arena_alloc(r->arena, (count + 1) * sizeof *items);
    if (items == NULL)
        return err_set(err, ERR_MEMORY, FATE_RETRY, "holds: the arena is full");
    memset(items, 0, (count + 1) * sizeof *items);
    for (size_t i = 0; i < count; i++)
        if (!read_place(r, json[i], &items[i]))
            return false;
    if (!(observe ? hold_observe : hold_place)(r->holds, items, count, err))
        return false;
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "items");
    json_write_open(&r->json, '[');
    for (size_t i = 0; i < count; i++)
        write_place(r, &items[i], observe);
    json_write_close(&r->json, ']');
    json_write_close(&r->json, '}');
    return true;
}

static bool read_usage(struct api_request *r, struct strview json, struct usage *out)
{
    struct api_field fields[USAGE_COUNT];
    struct api_value v[USAGE_COUNT];
    for (int i = 0; i < USAGE_COUNT; i++)
        fields[i] =
            (struct api_field){usage_class_name((enum usage_class)i), API_FIELD_INTEGER, API_FIELD_OPTIONAL};
    if (!api_body_read(r, "usage", json, fields, USAGE_COUNT, v))
        return false;
    for (int i = 0; i < USAGE_COUNT; i++) {
        if (v[i].number < 0)
            return api_refuse(r, 400, "invalid", "give units of zero or more", "a usage is negative");
        out->units[i] = (struct opt_i64){.has = v[i].present, .v = v[i].number};
    }
    return true;
}

static bool read_capture(struct api_request *r, struct strview json, struct hold_capture *out)
{
    enum { CALL_ID, OPERATION, OUTCOME, MODEL, REPLIED, PROVIDER, TIER, VARIANT, USAGE, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [CALL_ID] = {"call_id", API_FIELD_TEXT, API_FIELD_REQUIRED},
        [OPERATION] = {"operation", API_FIELD_TEXT, API_FIELD_REQUIRED},
        [OUTCOME] = {"outcome", API_FIELD_TEXT, API_FIELD_REQUIRED},
        [MODEL] = {"model", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [REPLIED] = {"model_replied", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [PROVIDER] = {"provider", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [TIER] = {"service_tier", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [VARIANT] = {"variant", API_FIELD_TEXT, API_FIELD_OPTIONAL},
        [USAGE] = {"usage", API_FIELD_OBJECT, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    struct spend_call *call = &out->call;
    if (!api_body_read(r, "a call", json, fields, FIELDS, v) ||
        !read_call_id(r, v[CALL_ID].text, &call->call_id) ||
        !read_operation(r, v[OPERATION].text, &call->operation))
        return false;
    if (!spend_outcome_parse(v[OUTCOME].text, &call->outcome))
        return api_refuse(r, 400, "invalid", "see docs/openapi.yaml for the outcomes",
                          "there is no outcome \"" SV_FMT "\"", SV_ARG(v[OUTCOME].text));
    call->quality = QUALITY_FINAL;
    call->model_requested = v[MODEL].text;
    call->model_replied = v[REPLIED].text;
    call->provider = v[PROVIDER].text;
    call->service_tier = v[TIER].text;
    call->variant = v[VARIANT].text;
    return !v[USAGE].present || read_usage(r, v[USAGE].text, &call->usage);
}

bool api_hold_capture(struct api_request *r, struct err *err)
{
    struct strview json[HOLD_AT_ONCE];
    size_t count;
    if (!api_query_end(r) || !read_items(r, json, &count))
        return false;
    struct hold_capture *captures = arena_alloc(r->arena, (count + 1) * sizeof *captures);
    if (captures == NULL)
        return err_set(err, ERR_MEMORY, FATE_RETRY, "holds: the arena is full");
    memset(captures, 0, (count + 1) * sizeof *captures);
    for (size_t i = 0; i < count; i++)
        if (!read_capture(r, json[i], &captures[i]))
            return false;
    if (!hold_capture(r->holds, captures, count, err))
        return false;
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "items");
    json_write_open(&r->json, '[');
    for (size_t i = 0; i < count; i++) {
        write_call_id(r, &captures[i].call.call_id, captures[i].state);
        json_write_close(&r->json, '}');
    }
    json_write_close(&r->json, ']');
    json_write_close(&r->json, '}');
    return true;
}

typedef bool end_fn(struct hold *h, struct hold_end *calls, size_t count, struct err *err);

static bool end_calls(struct api_request *r, end_fn *end, struct err *err)
{
    struct strview json[HOLD_AT_ONCE];
    struct hold_end calls[HOLD_AT_ONCE];
    size_t count;
    if (!api_query_end(r) || !read_items(r, json, &count))
        return false;
    for (size_t i = 0; i < count; i++) {
        static const struct api_field fields[] = {{"call_id", API_FIELD_TEXT, API_FIELD_REQUIRED}};
        struct api_value v[1];
        if (!api_body_read(r, "a call", json[i], fields, 1, v) ||
            !read_call_id(r, v[0].text, &calls[i].call_id))
            return false;
    }
    if (!end(r->holds, calls, count, err))
        return false;
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "items");
    json_write_open(&r->json, '[');
    for (size_t i = 0; i < count; i++) {
        write_call_id(r, &calls[i].call_id, calls[i].state);
        json_write_close(&r->json, '}');
    }
    json_write_close(&r->json, ']');
    json_write_close(&r->json, '}');
    return true;
}

bool api_hold_renew(struct api_request *r, struct err *err)
{
    return end_calls(r, hold_renew, err);
}

bool api_hold_void(struct api_request *r, struct err *err)
{
    return end_calls(r, hold_void, err);
}
