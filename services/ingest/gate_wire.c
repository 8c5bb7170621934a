#include "ingest/gate_wire.h"

#include "base/clock.h"
#include "base/json_scan.h"
#include "base/json_write.h"
#include "ingest/json_pick.h"

static void write_id(struct json_write *json, const struct uuid *call_id)
{
    char text[UUID_TEXT_LEN + 1];
    uuid_format(call_id, text);
    json_write_key(json, "call_id");
    json_write_str(json, text);
}

static void write_text(struct json_write *json, const char *key, struct strview text)
{
    if (sv_is_null(text))
        return;
    json_write_key(json, key);
    json_write_sv(json, text);
}

static void write_number(struct json_write *json, const char *key, const struct opt_i64 *n)
{
    if (!n->has)
        return;
    json_write_key(json, key);
    json_write_i64(json, n->v);
}

/* What both questions say of a call. */
static void write_call(struct json_write *json, const struct spend_call *call)
{
    write_id(json, &call->call_id);
    json_write_key(json, "operation");
    json_write_str(json, spend_operation_name(call->operation));
    write_text(json, "model", call->model_requested);
    write_text(json, "provider", call->provider);
    write_text(json, "variant", call->variant);
}

bool gate_wire_place(const struct spend_call *call, const struct gate_size *size, struct buffer *out)
{
    struct json_write json;
    json_write_init(&json, out);
    json_write_open(&json, '{');
    write_call(&json, call);
    json_write_key(&json, "tags");
    json_write_open(&json, '[');
    for (size_t i = 0; i < call->tag_count; i++)
        json_write_sv(&json, call->tags[i].raw);
    json_write_close(&json, ']');
    write_text(&json, "key_hash", call->key_hash);
    json_write_key(&json, "body_bytes");
    json_write_i64(&json, size->body_bytes);
    write_number(&json, "max_tokens", &size->max_tokens);
    write_number(&json, "n", &size->n);
    json_write_close(&json, '}');
    return json_write_ok(&json);
}

bool gate_wire_force(struct strview place, int64_t admitted_at, struct buffer *out)
{
    char time[CLOCK_TEXT_MAX];
    (void)clock_format(admitted_at, time);
    return buffer_append(out, place.ptr, place.len - 1) &&
           buffer_printf(out, ",\"forced\":1,\"admitted_at\":\"%s\"}", time);
}

bool gate_wire_capture(const struct spend_call *call, struct buffer *out)
{
    struct json_write json;
    json_write_init(&json, out);
    json_write_open(&json, '{');
    write_call(&json, call);
    json_write_key(&json, "outcome");
    json_write_str(&json, spend_outcome_name(call->outcome));
    write_text(&json, "model_replied", call->model_replied);
    write_text(&json, "service_tier", call->service_tier);
    bool opened = false;
    for (int i = 0; i < USAGE_COUNT; i++) {
        if (!call->usage.units[i].has)
            continue;
        if (!opened) {
            json_write_key(&json, "usage");
            json_write_open(&json, '{');
        }
        opened = true;
        write_number(&json, usage_class_name((enum usage_class)i), &call->usage.units[i]);
    }
    if (opened)
        json_write_close(&json, '}');
    json_write_close(&json, '}');
    return json_write_ok(&json);
}

bool gate_wire_id(const struct uuid *call_id, struct buffer *out)
{
    struct json_write json;
    json_write_init(&json, out);
    json_write_open(&json, '{');
    write_id(&json, call_id);
    json_write_close(&json, '}');
    return json_write_ok(&json);
}

static enum gate_reply_state state_of(const struct json_pick *word)
{
    static const struct {
        struct strview word;
        enum gate_reply_state state;
    } rows[] = {{SV_INIT("placed"), GATE_REPLY_PLACED},
                {SV_INIT("captured"), GATE_REPLY_PLACED},
                {SV_INIT("observed"), GATE_REPLY_OBSERVED},
                {SV_INIT("refused"), GATE_REPLY_REFUSED},
                {SV_INIT("busy"), GATE_REPLY_BUSY}};
    for (size_t i = 0; word->found && i < sizeof rows / sizeof rows[0]; i++)
        if (json_scan_text_is(&word->value, rows[i].word))
            return rows[i].state;
    return GATE_REPLY_OVER;
}

/* It has an item. */
static bool is_filled(const struct json_pick *list)
{
    struct json_scan scan;
    struct json_value value;
    if (!list->found || list->value.kind != JSON_KIND_ARRAY)
        return false;
    json_scan_init(&scan, list->whole, LIMIT_JSON_DEPTH);
    return json_scan_value(&scan, &value) && json_scan_item(&scan, &value);
}

static bool read_one(struct strview json, struct gate_reply *out)
{
    enum { ID, STATE, AT, PRICED, CONFLICT, BLOCKING, WARNINGS, PICKS };
    struct json_pick p[PICKS] = {{.path = "call_id"}, {.path = "state"},    {.path = "admitted_at"},
                                 {.path = "priced"},  {.path = "conflict"}, {.path = "blocking"},
                                 {.path = "warnings"}};
    *out = (struct gate_reply){.state = GATE_REPLY_OVER};
    if (!json_pick(json, p, PICKS) || !p[ID].found || !uuid_parse(p[ID].value.raw, &out->call_id) ||
        !p[STATE].found)
        return false;
    out->state = state_of(&p[STATE]);
    out->priced = !p[PRICED].found || p[PRICED].value.kind != JSON_KIND_FALSE;
    if (p[CONFLICT].found && p[CONFLICT].value.kind == JSON_KIND_STRING)
        out->conflict = p[CONFLICT].value.raw;
    if (is_filled(&p[BLOCKING]))
        out->blocking = p[BLOCKING].whole;
    out->warns = is_filled(&p[WARNINGS]);
    return !p[AT].found || clock_parse(p[AT].value.raw, &out->admitted_at);
}

bool gate_wire_read(struct strview body, struct gate_reply *out, size_t room, size_t *count)
{
    struct json_pick items = {.path = "items"};
    struct json_scan scan;
    struct json_value value;
    struct strview whole;
    *count = 0;
    if (!json_pick(body, &items, 1) || !items.found || items.value.kind != JSON_KIND_ARRAY)
        return false;
    json_scan_init(&scan, items.whole, LIMIT_JSON_DEPTH);
    if (!json_scan_value(&scan, &value))
        return false;
    while (json_scan_item(&scan, &value)) {
        if (*count == room || !json_scan_skip(&scan, &value, &whole) || !read_one(whole, &out[*count]))
            return false;
        (*count)++;
    }
    return !scan.failed;
}
