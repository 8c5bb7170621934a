/*
 * events_api: the envelope, then the data, each by a table of what is sought.
 */
#include "ingest/events_api.h"

#include "base/clock.h"
#include "base/money.h"
#include "spend/price_key.h"

#include <stdio.h>

#define AHEAD_US (60 * US_PER_SECOND)

/* The attributes of an event, in the order of both tables. */
enum { ID, SOURCE, TYPE, SPECVERSION, TIME, CONTENT_TYPE, DATA, ATTRIBUTES };

static const char *const names[ATTRIBUTES] = {"id",   "source",          "type", "specversion",
                                              "time", "datacontenttype", "data"};

struct event {
    struct strview attribute[ATTRIBUTES]; /* null without one; data: JSON */
};

/* All of it is good JSON. *items: how many a batch has. */
static bool body_judge(struct strview body, bool is_batch, size_t *items)
{
    struct json_scan scan;
    struct json_value item;
    *items = 0;
    json_scan_init(&scan, body, LIMIT_JSON_DEPTH);
    if (!is_batch)
        return json_scan_whole(&scan, JSON_KIND_OBJECT);
    if (!json_scan_value(&scan, &item) || item.kind != JSON_KIND_ARRAY)
        return false;
    for (; json_scan_item(&scan, &item); (*items)++) {
        if (!json_scan_skip(&scan, &item, NULL))
            return false;
    }
    return json_scan_end(&scan);
}

static bool refuse(struct http_refusal *why, int status, const char *type, const char *message)
{
    *why = (struct http_refusal){status, type, message};
    return false;
}

bool events_open(struct events_reader *r, const struct http_headers *headers, struct strview body,
                 size_t items_max, struct http_refusal *why)
{
    struct strview rest;
    struct strview kind = sv_trim(sv_cut(http_header_last(headers, SV_LIT("content-type")), ';', &rest));
    struct json_value root;
    size_t items = 0;
    *r = (struct events_reader){.body = body};
    r->is_batch = sv_eq_nocase(kind, SV_LIT("application/cloudevents-batch+json"));
    bool structured = sv_eq_nocase(kind, SV_LIT("application/cloudevents+json"));
    if (!r->is_batch && !structured) {
        if (sv_is_null(http_header_last(headers, SV_LIT("ce-specversion"))))
            return refuse(why, 415, "not_cloudevents",
                          "send application/cloudevents+json, application/cloudevents-batch+json, or ce- "
                          "headers with a JSON body");
        r->binary = headers;
    }
    if (!body_judge(body, r->is_batch, &items))
        return refuse(why, 400, "bad_request",
                      r->is_batch ? "the body must be a JSON array of events, nested no deeper than 64"
                                  : "the body must be a JSON object, nested no deeper than 64");
    if (!r->is_batch)
        return true;
    if (items > items_max)
        return refuse(why, 413, "too_many_events",
                      "too many events in one batch: send smaller ones (--events-batch)");
    json_scan_init(&r->batch, body, LIMIT_JSON_DEPTH);
    return json_scan_value(&r->batch, &root);
}

/* A header's value: %XX is a byte. false: arena full. */
static bool header_text(struct strview v, struct arena *a, struct strview *out)
{
    char *text = arena_alloc(a, v.len + 1);
    size_t len = 0;
    *out = (struct strview){text, 0};
    for (size_t i = 0; text != NULL && i < v.len; i++) {
        bool escape = v.ptr[i] == '%' && i + 2 < v.len && sv_hex_digit(v.ptr[i + 1]) >= 0 &&
                      sv_hex_digit(v.ptr[i + 2]) >= 0;
        text[len] = v.ptr[i];
        if (escape) /* two digits make a byte */
            text[len] = (char)(unsigned char)(sv_hex_digit(v.ptr[i + 1]) << 4 | sv_hex_digit(v.ptr[i + 2]));
        len++;
        i += escape ? 2 : 0;
    }
    out->len = len;
    return text != NULL;
}

static bool binary_read(const struct events_reader *r, struct arena *a, struct event *e)
{
    char name[32];
    for (int i = 0; i < CONTENT_TYPE; i++) {
        (void)snprintf(name, sizeof name, "ce-%s", names[i]);
        struct strview value = http_header_last(r->binary, sv_of(name));
        e->attribute[i] = SV_NULL;
        if (!sv_is_null(value) && !header_text(value, a, &e->attribute[i]))
            return false;
    }
    e->attribute[CONTENT_TYPE] = http_header_last(r->binary, SV_LIT("content-type"));
    e->attribute[DATA] = r->body;
    return true;
}

static bool structured_read(struct strview text, struct arena *a, struct event *e, struct foreign_item *item)
{
    struct json_pick pick[ATTRIBUTES] = {{.path = NULL}};
    for (int i = 0; i < ATTRIBUTES; i++)
        pick[i].path = names[i];
    if (!json_pick(text, pick, ATTRIBUTES))
        return foreign_refuse(item, "an event is a JSON object");
    for (int i = 0; i < DATA; i++)
        e->attribute[i] = json_pick_text(&pick[i], a);
    e->attribute[DATA] = pick[DATA].found ? pick[DATA].whole : SV_NULL;
    return true;
}

static bool is_name(struct strview v)
{
    return !sv_is_empty(v) && v.len <= LIMIT_TEXT_BYTES && sv_is_utf8(v) && !sv_has_control(v);
}

static bool is_json_type(struct strview v)
{
    struct strview rest;
    v = sv_trim(sv_cut(v, ';', &rest));
    return sv_is_null(v) || sv_eq_nocase(v, SV_LIT("application/json"));
}

static bool envelope_check(const struct event *e, int64_t now_us, struct foreign_item *item)
{
    const struct strview *at = e->attribute;
    int64_t time_us = 0;
    if (!is_name(at[ID]))
        return foreign_refuse(item, "id: a text of 1 to %d bytes is needed", LIMIT_TEXT_BYTES);
    item->id = at[ID];
    if (!is_name(at[SOURCE]))
        return foreign_refuse(item, "source: a text of 1 to %d bytes is needed", LIMIT_TEXT_BYTES);
    if (!sv_eq(at[SPECVERSION], SV_LIT("1.0")))
        return foreign_refuse(item, "specversion must be 1.0");
    if (!sv_eq(at[TYPE], SV_LIT(EVENTS_TYPE)))
        return foreign_refuse(item, "type must be " EVENTS_TYPE);
    if (!is_json_type(at[CONTENT_TYPE]))
        return foreign_refuse(item, "datacontenttype must be application/json");
    if (sv_is_null(at[TIME]) || !clock_parse(at[TIME], &time_us))
        return foreign_refuse(item, "time: when the call was made, in RFC 3339, is needed");
    if (time_us > now_us + AHEAD_US)
        return foreign_refuse(item, "time is more than 60 s in the future");
    item->call.admitted_at = time_us;
    item->call.source_id = at[ID];
    item->call.upstream = at[SOURCE];
    item->call.call_id = uuid_v8_of(at[SOURCE], at[ID]);
    return true;
}

enum {
    OPERATION,
    PROVIDER,
    MODEL,
    TAGS,
    KEY_HASH,
    USER,
    USAGE,
    TIER,
    OUTCOME,
    COST,
    STREAM,
    QUALITY,
    SIZE,
    MEMBERS
};

/* A text that may be left out. false: it is there and none. */
static bool text_member(const struct json_pick *pick, struct arena *a, struct strview *out,
                        struct foreign_item *item)
{
    *out = json_pick_text(pick, a);
    return !pick->found || !sv_is_null(*out) || foreign_refuse(item, "%s must be a text", pick->path);
}

static bool words_read(const struct json_pick *pick, struct arena *a, struct foreign_item *item)
{
    struct spend_call *call = &item->call;
    struct strview operation;
    struct strview outcome;
    if (!text_member(&pick[OPERATION], a, &operation, item) ||
        !text_member(&pick[PROVIDER], a, &call->provider, item) ||
        !text_member(&pick[MODEL], a, &call->model_requested, item) ||
        !text_member(&pick[KEY_HASH], a, &call->key_hash, item) ||
        !text_member(&pick[TIER], a, &call->service_tier, item) ||
        !text_member(&pick[OUTCOME], a, &outcome, item))
        return false;
    if (!spend_operation_parse(operation, &call->operation) || call->operation >= OPERATION_BATCH)
        return foreign_refuse(item, "operation must be chat, completion, responses, messages, embeddings, "
                                    "rerank, image, speech or transcription");
    if (sv_is_empty(call->model_requested))
        return foreign_refuse(item, "model is needed");
    call->outcome = OUTCOME_COMPLETED;
    if (!sv_is_null(outcome) && !spend_outcome_parse(outcome, &call->outcome))
        return foreign_refuse(item, "outcome must be completed, aborted, failed, rejected or unknown");
    if (call->operation == OPERATION_IMAGE)
        call->variant =
            price_key_variant(json_pick_text(&pick[QUALITY], a), json_pick_text(&pick[SIZE], a), a);
    call->stream = pick[STREAM].found && pick[STREAM].value.kind == JSON_KIND_TRUE;
    return true;
}

static bool tags_read(const struct json_pick *pick, struct arena *a, struct foreign_item *item)
{
    struct tag_set set;
    tag_set_init(&set);
    foreign_tags_add(&set, &pick[TAGS], SV_NULL, a);
    struct strview user = json_pick_text(&pick[USER], a);
    if (!sv_is_empty(user))
        tag_set_add_user(&set, user, a);
    if (set.fault != TAG_FAULT_NONE)
        return foreign_refuse(item, "tags: at most %d, of 1 to %d bytes, without control characters",
                              LIMIT_TAGS, LIMIT_TAG_BYTES);
    if (set.non_string > 0)
        return foreign_refuse(item, "tags must be texts");
    return tag_set_take(&set, a, &item->call) || foreign_refuse(item, "too long");
}

static bool numbers_read(const struct json_pick *pick, struct arena *a, struct foreign_item *item)
{
    struct spend_call *call = &item->call;
    const struct json_pick *cost = &pick[COST];
    struct err err = {0};
    int64_t nanos = 0;
    if (pick[USAGE].found && pick[USAGE].value.kind != JSON_KIND_OBJECT)
        return foreign_refuse(item, "usage must be the provider's own object");
    if (pick[USAGE].found && !foreign_usage_take(call, call->operation, pick[USAGE].whole, false, a))
        return foreign_refuse(
            item,
            "usage does not tell tokens in and out in the words of %s, or holds a number that is no "
            "non-negative integer",
            spend_operation_name(call->operation));
    if (!cost->found)
        return true;
    bool scalar = cost->value.kind == JSON_KIND_NUMBER || cost->value.kind == JSON_KIND_STRING;
    if (!scalar || !money_parse_decimal(cost->whole, 9, &nanos, NULL, &err) || nanos < 0)
        return foreign_refuse(item, "reported_cost must be USD, not negative, as decimal text");
    call->reported_cost_nanos = OPT_I64(nanos);
    return true;
}

static bool data_read(struct strview data, struct arena *a, struct foreign_item *item)
{
    struct json_pick pick[MEMBERS] = {
        [OPERATION] = {.path = "operation"}, [PROVIDER] = {.path = "provider"},
        [MODEL] = {.path = "model"},         [TAGS] = {.path = "tags"},
        [KEY_HASH] = {.path = "key_hash"},   [USER] = {.path = "user"},
        [USAGE] = {.path = "usage"},         [TIER] = {.path = "service_tier"},
        [OUTCOME] = {.path = "outcome"},     [COST] = {.path = "reported_cost"},
        [STREAM] = {.path = "stream"},       [QUALITY] = {.path = "quality"},
        [SIZE] = {.path = "size"},
    };
    struct err err = {0};
    if (sv_is_null(data) || !json_pick(data, pick, MEMBERS))
        return foreign_refuse(item, "data must be a JSON object");
    if (!words_read(pick, a, item) || !tags_read(pick, a, item) || !numbers_read(pick, a, item))
        return false;
    return spend_call_check(&item->call, &err) || foreign_refuse(item, "%s", err.text);
}

bool events_next(struct events_reader *r, int64_t now_us, struct arena *a, struct foreign_item *item)
{
    struct event e = {{SV_NULL}};
    struct json_value value;
    struct strview text = r->body;
    *item = (struct foreign_item){.status = FOREIGN_ACCEPTED};
    item->call = (struct spend_call){.source = SOURCE_EVENTS_API,
                                     .received_at = now_us,
                                     .path = SV_LIT(EVENTS_PATH),
                                     .quality = QUALITY_UNKNOWN};
    if (r->over)
        return false;
    if (r->is_batch && (!json_scan_item(&r->batch, &value) || !json_scan_skip(&r->batch, &value, &text)))
        return false;
    r->over = !r->is_batch;
    bool ok = r->binary != NULL ? binary_read(r, a, &e) || foreign_refuse(item, "too long")
                                : structured_read(text, a, &e, item);
    if (ok && envelope_check(&e, now_us, item))
        (void)data_read(e.attribute[DATA], a, item);
    return true;
}
