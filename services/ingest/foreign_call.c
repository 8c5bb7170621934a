/*
 * foreign_call: tags and usage read by the same code as the gateway's own.
 */
#include "ingest/foreign_call.h"

#include "ingest/usage_reader.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

const char *foreign_status_name(enum foreign_status status)
{
    static const char *const names[FOREIGN_STATUSES] = {"accepted", "invalid", "duplicate", "conflict",
                                                        "evidence"};
    assert(status < FOREIGN_STATUSES);
    return names[status];
}

bool foreign_refuse(struct foreign_item *item, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(item->why, sizeof item->why, fmt, args);
    va_end(args);
    item->status = FOREIGN_INVALID;
    return false;
}

static void items_add(struct tag_set *set, struct strview array, struct strview drop, struct arena *a)
{
    struct json_scan scan;
    struct json_value root;
    struct json_value item;
    struct strview text;
    json_scan_init(&scan, array, LIMIT_JSON_DEPTH);
    scan.lax = true;
    if (!json_scan_value(&scan, &root) || root.kind != JSON_KIND_ARRAY)
        return;
    while (json_scan_item(&scan, &item)) {
        if (item.kind != JSON_KIND_STRING || !json_scan_unescape(&item, a, &text))
            tag_set_count_non_string(set);
        else if (sv_is_null(drop) || !sv_starts_with(text, drop))
            tag_set_add_item(set, text, TAG_ORIGIN_EVENT);
        if (!json_scan_skip(&scan, &item, NULL))
            return;
    }
}

void foreign_tags_add(struct tag_set *set, const struct json_pick *pick, struct strview drop, struct arena *a)
{
    if (!pick->found)
        return;
    struct strview text = json_pick_text(pick, a);
    if (pick->value.kind == JSON_KIND_ARRAY)
        items_add(set, pick->whole, drop, a);
    else if (sv_is_null(text))
        tag_set_count_non_string(set);
    else if (sv_starts_with(text, SV_LIT("["))) /* an export's array in a text */
        items_add(set, text, drop, a);
    else
        tag_set_add_list(set, text, TAG_ORIGIN_EVENT);
}

bool foreign_usage_take(struct spend_call *call, enum spend_operation table, struct strview object,
                        bool whole, struct arena *a)
{
    struct usage_reader r;
    struct usage usage;
    struct strview text = SV_NULL;
    struct strview tier = call->service_tier;
    usage_reader_init(&r, table, call->provider);
    bool ok = whole ? usage_reader_feed(&r, object, a).parsed : usage_reader_object(&r, object, a);
    usage_reader_result(&r, &usage);
    /* one side alone, or parts without their whole, would be billed as if the rest were nothing */
    bool sides = !usage_is_text(table) || (usage.units[USAGE_INPUT].has &&
                                           (usage.units[USAGE_OUTPUT].has || table == OPERATION_EMBEDDINGS));
    ok = ok && !r.input_unreadable && !r.output_unreadable && r.has_usage && sides &&
         !usage_is_empty(&usage) &&
         arena_dup(a, (struct strview){r.provider_usage, r.provider_usage_len}, &text) &&
         (!sv_is_null(tier) || arena_dup(a, r.service_tier, &tier));
    usage_reader_free(&r);
    if (!ok)
        return false;
    call->usage = usage;
    call->quality = QUALITY_FINAL;
    call->provider_usage = text;
    call->service_tier = tier;
    return true;
}
