/*
 * stream_ask: offsets into the body, one replacement.
 */
#include "ingest/stream_ask.h"

static size_t offset_of(const struct json_scan *s, const char *at)
{
    return (size_t)(at - s->begin);
}

bool stream_ask_read(struct stream_ask *ask, struct json_scan *s, const struct json_value *value)
{
    ask->has_options = true;
    ask->options_kind = value->kind;
    ask->options_at = offset_of(s, value->raw.ptr);
    ask->options_len = value->raw.len;
    ask->options_empty = true;
    ask->has_flag = false;
    if (value->kind != JSON_KIND_OBJECT)
        return json_scan_skip(s, value, NULL);
    struct json_value key;
    struct json_value item;
    while (json_scan_member(s, &key, &item)) {
        ask->options_empty = false;
        struct strview whole = SV_NULL;
        const char *at = item.raw.ptr;
        if (!json_scan_skip(s, &item, &whole))
            return false;
        if (!json_scan_text_is(&key, SV_LIT("include_usage")))
            continue;
        bool quoted = item.kind == JSON_KIND_STRING;
        ask->has_flag = true;
        ask->flag_true = item.kind == JSON_KIND_TRUE;
        ask->flag_at = offset_of(s, at) - (quoted ? 1 : 0);
        ask->flag_len = offset_of(s, s->at) - ask->flag_at;
    }
    return !s->failed;
}

struct body_edit stream_ask_plan(const struct stream_ask *ask)
{
    struct body_edit none = {.needed = false};
    if (!ask->has_root)
        return none;
    if (!ask->has_options)
        return (struct body_edit){true, ask->root_inside, 0,
                                  SV_LIT("\"stream_options\":{\"include_usage\":true},")};
    if (ask->options_kind == JSON_KIND_NULL)
        return (struct body_edit){true, ask->options_at, ask->options_len,
                                  SV_LIT("{\"include_usage\":true}")};
    if (ask->options_kind != JSON_KIND_OBJECT || (ask->has_flag && ask->flag_true))
        return none;
    if (ask->has_flag)
        return (struct body_edit){true, ask->flag_at, ask->flag_len, SV_LIT("true")};
    return (struct body_edit){true, ask->options_at + 1, 0,
                              ask->options_empty ? SV_LIT("\"include_usage\":true")
                                                 : SV_LIT("\"include_usage\":true,")};
}
