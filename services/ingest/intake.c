/*
 * intake: reads a request's items one by one, journals each, and keeps only what the answer says of it.
 */
#include "ingest/intake.h"

#include "base/clock.h"
#include "base/json_write.h"
#include "base/log.h"
#include "ingest/call_record.h"
#include "ingest/clock_probe.h"
#include "ingest/events_api.h"
#include "ingest/meter.h"

#include <stdlib.h>
#include <string.h>

#define ANSWER_BYTES (128 << 20) /* items and their ids are bounded: this one is never met */
#define OWN_PATHS    "/spend/v1/"

/* What is remembered of an item: the same again within one request is told so. */
struct taken {
    struct uuid call_id;
    uint8_t hash[SHA256_LEN];
};

struct intake {
    struct gateway *gateway;
    struct client *client; /* NULL: gone, or answered */
    struct buffer answer;
    size_t pending; /* journalled, not reported by Kafka yet */
    int64_t until_us;
    struct intake *older;
    struct intake *newer;
};

/* A request while it is read. */
struct reading {
    struct intake *in;
    struct events_reader events;
    struct litellm_reader litellm;
    bool is_events;
    bool waits; /* the answer, for Kafka */
    struct json_write json;
    struct taken *taken;
    size_t taken_count;
    size_t unrecorded;   /* of LiteLLM's, which never come again */
    enum err_code fault; /* the journal's, when it takes no more */
};

/* However it is spelt: what is ours never goes upstream. LiteLLM has paths of its own below /spend/. */
bool intake_is_ours(struct strview path)
{
    char plain[sizeof OWN_PATHS];
    size_t len = sizeof plain;
    if (!route_normalise(path, plain, sizeof plain, &len))
        len = sizeof plain; /* its beginning */
    return sv_starts_with((struct strview){plain, len}, SV_LIT(OWN_PATHS));
}

static void intake_free(struct intake *in)
{
    *(in->older == NULL ? &in->gateway->intakes : &in->older->newer) = in->newer;
    if (in->newer != NULL)
        in->newer->older = in->older;
    buffer_free(&in->answer);
    free(in);
}

static struct intake *intake_new(struct client *c)
{
    struct gateway *g = c->gateway;
    struct intake *in = calloc(1, sizeof *in);
    if (in == NULL)
        return NULL;
    in->gateway = g;
    in->until_us = clock_mono_us() + g->options->events_time_us;
    buffer_init(&in->answer, ANSWER_BYTES);
    in->newer = g->intakes;
    if (in->newer != NULL)
        in->newer->older = in;
    g->intakes = in;
    return in;
}

static struct client *client_take(struct intake *in)
{
    struct client *c = in->client;
    in->client = NULL;
    if (c != NULL)
        c->intake = NULL;
    return c;
}

/* Kafka has one more of them. */
static void on_delivered(void *arg)
{
    struct intake *in = arg;
    if (--in->pending > 0)
        return;
    struct client *c = client_take(in);
    if (c != NULL)
        client_reply(c, 202, buffer_view(&in->answer));
    intake_free(in);
}

void intake_client_gone(struct intake *in)
{
    in->client = NULL; /* its pending reports free it */
    buffer_free(&in->answer);
}

void intake_tick(struct gateway *g, int64_t now_us)
{
    static const struct http_refusal late = {
        503, "unconfirmed", "Kafka has not taken all events yet: send the same ones again, each counts once"};
    for (struct intake *in = g->intakes, *next; in != NULL; in = next) {
        next = in->newer;
        if (in->client == NULL || now_us < in->until_us)
            continue;
        meter_add(METER_EVENTS_UNCONFIRMED, 1);
        struct client *c = client_take(in);
        buffer_free(&in->answer);
        client_answer(c, &late, NULL);
    }
}

void intake_forget(struct gateway *g)
{
    for (struct journal_call *call = journal_oldest(g->journal); call != NULL; call = call->newer)
        call->on_delivered = NULL;
    for (struct intake *in = g->intakes, *next; in != NULL; in = next) {
        next = in->newer;
        intake_free(in);
    }
}

static bool is_allowed(const struct gateway *g, const struct http_headers *headers)
{
    struct strview given = http_header_last(headers, SV_LIT("authorization"));
    struct strview word = {given.ptr, 7};
    uint8_t digest[SHA256_LEN];
    bool allowed = false;
    if (given.len <= 7 || !sv_eq_nocase(word, SV_LIT("bearer ")))
        return false;
    sha256_of(sv_trim((struct strview){given.ptr + 7, given.len - 7}), digest);
    for (size_t i = 0; i < g->token_count; i++)
        allowed = sha256_equal(digest, g->token[i], SHA256_LEN) || allowed;
    return allowed;
}

/* Whether a call of the same request was told before. */
static void repeat_find(struct reading *r, struct foreign_item *item)
{
    struct taken one = {.call_id = item->call.call_id};
    spend_call_hash(&item->call, r->in->gateway->sha, one.hash);
    for (size_t i = 0; i < r->taken_count; i++) {
        if (uuid_cmp(&r->taken[i].call_id, &one.call_id) != 0)
            continue;
        if (memcmp(r->taken[i].hash, one.hash, sizeof one.hash) == 0) {
            item->status = FOREIGN_DUPLICATE;
            return;
        }
        item->status = FOREIGN_CONFLICT; /* recorded all the same: the ledger decides */
    }
    r->taken[r->taken_count++] = one;
}

/* false: the journal takes no more; what it took goes its way. */
static bool item_record(struct reading *r, struct foreign_item *item)
{
    struct gateway *g = r->in->gateway;
    struct err err = {0};
    struct strview tags = SV_NULL;
    struct journal_call *entry;
    struct spend_call *call = &item->call;
    call->instance = sv_of(journal_instance(g->journal));
    call->boot = OPT_I64((int64_t)journal_boot(g->journal));
    call->seq = OPT_I64((int64_t)journal_next_seq(g->journal));
    buffer_clear(&g->record);
    if (!call_record_encode(call, &tags, &g->record, &err)) {
        (void)foreign_refuse(item, "%s", err.text);
        return true;
    }
    if (!journal_put(g->journal, &call->call_id, buffer_view(&g->record), &entry, &err)) {
        r->fault = err.code;
        return false;
    }
    if (r->waits) {
        entry->on_delivered = on_delivered;
        entry->on_delivered_arg = r->in;
        r->in->pending++;
    }
    delivery_send(g->delivery, entry);
    return true;
}

static void item_count(const struct reading *r, const struct foreign_item *item)
{
    /* in the order of the statuses; what one of them never is stands as invalid */
    static const enum meter of_events[FOREIGN_STATUSES] = {METER_EVENTS_ACCEPTED, METER_EVENTS_INVALID,
                                                           METER_EVENTS_DUPLICATE, METER_EVENTS_CONFLICT,
                                                           METER_EVENTS_INVALID};
    static const enum meter of_proxy[FOREIGN_STATUSES] = {METER_PROXY_BILLED, METER_PROXY_INVALID,
                                                          METER_PROXY_INVALID, METER_PROXY_CONFLICT,
                                                          METER_PROXY_EVIDENCE};
    meter_add((r->is_events ? of_events : of_proxy)[item->status], 1);
    if (!r->is_events && item->status != FOREIGN_INVALID)
        meter_add(item->matched ? METER_PROXY_OURS : METER_PROXY_ELSEWHERE, 1);
    if (item->status == FOREIGN_INVALID)
        log_warn("foreign_call_invalid", LOG_SV("id", item->id), LOG_STR("err", item->why), LOG_END);
}

static void item_tell(struct reading *r, const struct foreign_item *item)
{
    char call_id[UUID_TEXT_LEN + 1];
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "id");
    json_write_sv(&r->json, item->id);
    json_write_key(&r->json, "status");
    json_write_str(&r->json, foreign_status_name(item->status));
    json_write_key(&r->json, "call_id");
    if (item->status == FOREIGN_INVALID) {
        json_write_null(&r->json);
        json_write_key(&r->json, "reason");
        json_write_str(&r->json, item->why);
    } else {
        uuid_format(&item->call.call_id, call_id);
        json_write_str(&r->json, call_id);
    }
    json_write_close(&r->json, '}');
}

static bool item_next(struct reading *r, int64_t now_us, struct foreign_item *item)
{
    struct arena *scratch = &r->in->gateway->scratch;
    arena_reset(scratch);
    return r->is_events ? events_next(&r->events, now_us, scratch, item)
                        : litellm_next(&r->litellm, now_us, scratch, item);
}

/* Events always are; LiteLLM's word when it was asked for. */
static bool is_billed(const struct reading *r)
{
    return r->is_events || r->in->gateway->litellm_rules.bill;
}

/* Journals all. false: not all. */
static bool items_take(struct reading *r)
{
    struct foreign_item item;
    int64_t now = clock_probe_now_us();
    bool room = true;
    json_write_init(&r->json, &r->in->answer);
    json_write_open(&r->json, '{');
    json_write_key(&r->json, "items");
    json_write_open(&r->json, '[');
    while ((room || !r->is_events) && item_next(r, now, &item)) {
        bool recorded = item.status == FOREIGN_ACCEPTED || (item.status == FOREIGN_CONFLICT && is_billed(r));
        if (recorded && r->is_events)
            repeat_find(r, &item);
        if (recorded && item.status != FOREIGN_DUPLICATE && !item_record(r, &item)) {
            room = false;
            r->unrecorded++;
            continue;
        }
        item_count(r, &item);
        item_tell(r, &item);
    }
    json_write_close(&r->json, ']');
    json_write_close(&r->json, '}');
    return room && json_write_ok(&r->json);
}

static bool body_open(struct reading *r, const struct http_request_head *head, struct strview body,
                      struct http_refusal *why)
{
    const struct gateway *g = r->in->gateway;
    size_t most = (size_t)g->options->events_batch;
    if (!r->is_events)
        return litellm_open(&r->litellm, &g->litellm_rules, body, why);
    r->taken = calloc(most, sizeof *r->taken);
    *why = client_no_memory;
    return r->taken != NULL && events_open(&r->events, &head->headers, body, most, why);
}

/* false: *why. The items are in the journal, or none of them is known to be. */
static bool request_take(struct intake *in, const struct http_request_head *head, struct strview body,
                         struct http_refusal *why)
{
    struct reading r = {.in = in, .is_events = sv_eq(head->path, SV_LIT(EVENTS_PATH))};
    r.waits = r.is_events || in->gateway->sync != NULL; /* what Kafka has, no machine loses */
    bool ok = body_open(&r, head, body, why);
    if (!ok) {
        meter_add(METER_REFUSED_FOREIGN, 1);
    } else if (!items_take(&r)) {
        bool full = r.fault == ERR_FULL;
        *why = (struct http_refusal){503, full ? "journal_full" : "journal_failed",
                                     "calls cannot be recorded now: send the same again later"};
        meter_add(full ? METER_REFUSED_JOURNAL : METER_REFUSED_DISK, 1);
        meter_add(METER_UNCAPTURED, r.is_events ? 0 : (int64_t)r.unrecorded);
        ok = false;
    }
    free(r.taken);
    return ok;
}

static bool request_check(const struct gateway *g, const struct http_request_head *head,
                          struct http_refusal *why)
{
    if (!sv_eq(head->path, SV_LIT(EVENTS_PATH)) && !sv_eq(head->path, SV_LIT(LITELLM_PATH)))
        *why = (struct http_refusal){404, "not_found",
                                     "ingest's own endpoints are POST " EVENTS_PATH " and " LITELLM_PATH};
    else if (!sv_eq(head->method, SV_LIT("POST")))
        *why = (struct http_refusal){405, "method_not_allowed", "use POST"};
    else if (!is_allowed(g, &head->headers))
        *why = (struct http_refusal){
            401, "unauthorized",
            "send \"Authorization: Bearer TOKEN\" with ingest's token (SPEND_LEDGER_TOKEN of ingest) or the "
            "operator's (SPEND_OPERATOR_TOKEN), if ingest was given one"};
    else
        return true;
    meter_add(METER_REFUSED_FOREIGN, 1);
    return false;
}

void intake_refused(struct strview path, int status, const char *why)
{
    if (sv_eq(path, SV_LIT(LITELLM_PATH)))
        log_error("proxy_log_refused", LOG_INT("status", status), LOG_STR("err", why), LOG_END);
}

void intake_begin(struct client *c, const struct http_request_head *head, size_t len)
{
    struct http_refusal why = client_no_memory;
    struct strview body = head->headers.chunked
                              ? buffer_view(&c->body)
                              : (struct strview){c->in.data + head->bytes, len - head->bytes};
    struct intake *in = NULL;
    c->state = CLIENT_BUSY;
    bool ok = request_check(c->gateway, head, &why) && (in = intake_new(c)) != NULL &&
              request_take(in, head, body, &why);
    if (!ok)
        intake_refused(head->path, why.status, why.message);
    buffer_consume(&c->in, len);
    buffer_clear(&c->body);
    if (!ok)
        client_answer(c, &why, NULL);
    else if (in->pending == 0)
        client_reply(c, 202, buffer_view(&in->answer));
    if (in == NULL)
        return;
    if (in->pending == 0) {
        intake_free(in);
    } else if (ok) {
        in->client = c;
        c->intake = in;
    }
}
