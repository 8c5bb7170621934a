/*
 * exchange_call: one record in the making. Texts of the reply that fit no record are left out of it, numbers
 * never.
 */
#include "ingest/exchange_call.h"

#include "base/clock.h"
#include "base/log.h"
#include "ingest/clock_probe.h"
#include "ingest/exchange_gate.h"
#include "ingest/meter.h"

#include <string.h>

static const struct http_refusal journal_full = {503, "journal_full",
                                                 "calls cannot be recorded now, so none is let through"};
const struct http_refusal exchange_call_not_on_disk = {
    503, "journal_failed", "calls cannot be recorded now, so none is let through"};

static const struct http_refusal price_elsewhere = {
    400, "price_elsewhere",
    "what the price goes by (model, messages, prompt, input, n, quality, size, service_tier, stream, "
    "stream_options) may not stand in extra_body: set it beside extra_body; and model_list, model_id and "
    "deployment_id are no callers' to set: name the model in model; fallbacks only without stream"};

static void tags_count(const struct gateway *g, const struct tag_capture *capture)
{
    const struct tag_set *set = &capture->tags;
    struct strview value;
    struct strview other;
    meter_add(METER_TAGS_EMPTY, (int64_t)set->empty);
    meter_add(METER_TAGS_NON_STRING, (int64_t)set->non_string);
    meter_add(METER_TAGS_REFUSED, (int64_t)set->refused);
    meter_add(METER_TAGS_TRUNCATED, set->fault != TAG_FAULT_NONE ? 1 : 0);
    meter_add(METER_BODY_UNPARSED, capture->body_unparsed ? 1 : 0);
    const char *const keys[] = {g->options->tag_account, g->options->tag_task, g->options->tag_conversation};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (tag_find_value(set->tags, set->count, sv_of(keys[i]), &value, &other) != TAG_VALUE_NONE)
            return;
    meter_add(METER_TAGS_UNTAGGED, 1);
}

/* `open` in the journal. false: *why says what the caller is told. */
static bool entry_open(struct exchange *x, struct http_refusal *why)
{
    struct gateway *g = x->gateway;
    struct err err = {0};
    struct strview tags = SV_NULL;
    buffer_clear(&g->record);
    if (!call_record_encode(&x->call, &tags, &g->record, &err)) {
        log_error("call_record_refused", LOG_STR("call_id", x->call_id), LOG_ERR(&err), LOG_END);
        meter_add(METER_REFUSED_RECORD, 1);
        *why = (struct http_refusal){500, "record", "the call could not be recorded"};
        return false;
    }
    x->tags_at = (size_t)(tags.ptr - g->record.data);
    x->tags_len = tags.len;
    if (journal_begin(g->journal, &x->call.call_id, buffer_view(&g->record), &x->entry, &err)) {
        x->round = x->entry->round;
        if (g->sync != NULL) /* what changes in place later may not be on the disk when the power goes */
            journal_progress(x->entry, call_record_progress(&x->call, 0));
        return true;
    }
    if (g->fail_open) {
        meter_add(METER_UNCAPTURED, 1);
        return true;
    }
    meter_add(err.code == ERR_FULL ? METER_REFUSED_JOURNAL : METER_REFUSED_DISK, 1);
    *why = err.code == ERR_FULL ? journal_full : exchange_call_not_on_disk;
    return false;
}

/* Path and query as the upstream sees them. */
static struct strview target_of(struct gateway *g, const struct http_request_head *head)
{
    const char *prefix = upstream_address(g->upstream)->prefix;
    if (prefix[0] == '\0')
        return head->target;
    return arena_printf(&g->scratch, "%s" SV_FMT, prefix, SV_ARG(head->target));
}

bool exchange_call_open(struct exchange *x, const struct http_request_head *head, struct strview body,
                        const struct route *route, struct http_refusal *why)
{
    struct gateway *g = x->gateway;
    int64_t now = clock_probe_now_us(); /* every time of a record is Postgres's */
    struct call_start start = {
        .call_id = uuid_v7(now),
        .instance = journal_instance(g->journal),
        .boot = journal_boot(g->journal),
        .seq = journal_next_seq(g->journal),
        .received_at = now,
        .admitted_at = now,
        .operation = route->operation,
        .provider = route->provider,
        .path = head->path,
        .upstream = upstream_address(g->upstream)->name,
        .request_bytes = body.len,
        .gate = g->gate_mode,
    };
    *why = client_no_memory;
    arena_reset(&g->scratch);
    x->is_call = true;
    reply_watch_init(&x->watch, route->operation, sv_of(route->provider), &g->scratch);
    struct capture_source from = {&head->headers, target_of(g, head), body, g->litellm, route->operation};
    if (sv_is_null(from.target) || !tag_capture_read(g->capture, &from, g->sha, &g->scratch) ||
        !call_record_start(&start, g->capture, &x->arena, &x->call) ||
        !arena_dup(&x->arena, g->capture->stamp, &x->stamp))
        return false;
    uuid_format(&start.call_id, x->call_id);
    if (g->litellm && g->capture->price_elsewhere) {
        meter_add(METER_REFUSED_PRICE, 1);
        *why = price_elsewhere;
        return false;
    }
    const struct http_refusal *unreadable = exchange_gate_unreadable(g, g->capture, body.len);
    if (unreadable != NULL) {
        *why = *unreadable;
        return false;
    }
    x->size = (struct gate_size){(int64_t)body.len, g->capture->most.max_tokens, g->capture->most.n};
    x->request_text = g->capture->text_bytes;
    if (g->capture->characters.has)
        usage_reader_note(&x->watch.reader, USAGE_PATH_CHARACTERS, g->capture->characters.v);
    struct body_edit edit = {.needed = false};
    bool chat = route->operation == OPERATION_CHAT || route->operation == OPERATION_COMPLETION;
    if (g->include_usage && chat && g->capture->stream)
        edit = stream_ask_plan(&g->capture->ask);
    x->asked = edit.needed;
    struct upstream_marks marks = {
        &start.call_id,       g->capture, g->secret, g->litellm, x->watch.reader.table.count > 0,
        g->litellm_rules.bill};
    struct err err;
    if (!upstream_request_make(&x->request, upstream_address(g->upstream), head, body, &edit, &marks, &err)) {
        *why =
            (struct http_refusal){431, "headers_too_large", "the request's headers are too large to pass on"};
        return false;
    }
    if (!entry_open(x, why))
        return false;
    tags_count(g, g->capture);
    meter_add(METER_USAGE_ASKED, x->asked ? 1 : 0);
    return true;
}

/* Whatever a reply says in texts, its numbers are recorded: evidence goes first, then every text of it. */
static bool record_make(struct exchange *x, struct err *err)
{
    struct spend_call *call = &x->call;
    struct buffer *record = &x->gateway->record;
    struct journal_record open;
    journal_read(x->entry, &open);
    struct strview tags = {open.payload.ptr + x->tags_at, x->tags_len};
    buffer_clear(record);
    if (call_record_encode(call, &tags, record, err))
        return true;
    if (!sv_is_null(call->provider_usage)) {
        call->provider_usage = SV_NULL;
        meter_add(METER_USAGE_CUT, 1);
        buffer_clear(record);
        if (call_record_encode(call, &tags, record, err))
            return true;
    }
    log_error("reply_texts_dropped", LOG_STR("call_id", x->call_id), LOG_ERR(err), LOG_END);
    meter_add(METER_TEXT_CUT, 1);
    call->model_replied = call->service_tier = call->upstream_call_id = SV_NULL;
    buffer_clear(record);
    return call_record_encode(call, &tags, record, err);
}

void exchange_call_finish(struct exchange *x, enum spend_outcome outcome, bool whole)
{
    struct gateway *g = x->gateway;
    struct err err = {0};
    if (!x->is_call || x->entry == NULL)
        return;
    int64_t now = clock_mono_us();
    struct call_end end = {.outcome = outcome,
                           .reply_whole = whole,
                           .estimate_failed = g->estimate_failed,
                           .request_text = x->request_text,
                           .stamp = x->stamp,
                           .finished_at = clock_probe_now_us(),
                           .ttfb_us = x->first_us == 0 ? -1 : x->first_us - x->started_us,
                           .duration_us = now - x->started_us,
                           .reply_bytes = x->reply_bytes};
    call_record_end(&x->call, &end, &x->watch);
    bool ok = record_make(x, &err);
    struct journal_call *entry = x->entry;
    x->entry = NULL;
    exchange_gate_finish(x);
    if (!ok || !journal_finish(entry, buffer_view(&g->record), &err)) {
        log_error("call_not_finished", LOG_STR("call_id", x->call_id), LOG_ERR(&err), LOG_END);
        journal_leave(entry, ok ? buffer_view(&g->record) : SV_NULL);
        return;
    }
    x->round = entry->round;
    call_record_count(&x->call);
    delivery_send(g->delivery, entry);
}
