/*
 * usage_reader: one pass. usage, model and service_tier stand at the root, or in `response` (responses) or
 * `message` (messages). A number that is no non-negative integer is left null and counted; a total that is
 * none is noted.
 */
#include "ingest/usage_reader.h"

#include "ingest/meter.h"
#include "ingest/text_count.h"

#include <stdlib.h>
#include <string.h>

#define PATH_ROOM 128

struct feed {
    struct usage_reader *r;
    struct json_scan scan;
    struct arena *scratch;
    struct usage_seen seen;
};

void usage_reader_init(struct usage_reader *r, enum spend_operation operation)
{
    memset(r, 0, offsetof(struct usage_reader, model_room));
    r->table = usage_map(operation);
}

void usage_reader_free(struct usage_reader *r)
{
    free(r->provider_usage);
    r->provider_usage = NULL;
}

/* An empty text says nothing: a name that came before stays. */
static void text_keep(const struct json_value *v, struct arena *scratch, char *room, size_t size,
                      struct strview *out)
{
    struct strview text;
    if (v->kind != JSON_KIND_STRING || !json_scan_unescape(v, scratch, &text))
        return;
    text.len = text.len > size ? size : text.len;
    while (sv_has_control(text)) /* no record may hold one: what stands before the first */
        text.len--;
    text.len = sv_utf8_prefix(text);
    if (text.len == 0)
        return;
    memcpy(room, text.ptr, text.len);
    *out = (struct strview){room, text.len};
}

/* 500, or as some encoders write it, 500.0. */
static bool number_read(const struct json_value *v, int64_t *out)
{
    struct strview fraction;
    struct strview whole = sv_cut(v->raw, '.', &fraction);
    if (v->kind != JSON_KIND_NUMBER || !sv_to_i64(whole, out) || *out < 0)
        return false;
    for (size_t i = 0; !sv_is_null(fraction) && i < fraction.len; i++)
        if (fraction.ptr[i] != '0')
            return false;
    return true;
}

static void readable_note(struct usage_reader *r, enum usage_role role, bool readable)
{
    if (role == USAGE_ROLE_IN_TOTAL)
        r->input_unreadable = !readable;
    else if (role == USAGE_ROLE_OUT_TOTAL)
        r->output_unreadable = !readable;
}

static void number_keep(struct usage_reader *r, const char *path, size_t len, const struct json_value *v)
{
    for (size_t i = 0; i < r->table.count; i++) {
        if (strlen(r->table.row[i].path) != len || memcmp(r->table.row[i].path, path, len) != 0)
            continue;
        int64_t n = 0;
        if (v->kind == JSON_KIND_NULL)
            continue;
        bool readable = number_read(v, &n);
        r->value[i] = (struct opt_i64){.has = readable, .v = n};
        r->has_usage = r->has_usage || readable;
        readable_note(r, r->table.row[i].role, readable);
        meter_add(METER_USAGE_UNREADABLE, readable ? 0 : 1);
    }
}

/* The members of the usage object, or of one object within it (prefix "prompt_tokens_details."). */
static bool usage_members(struct feed *f, char *path, size_t prefix, int depth)
{
    struct json_value key;
    struct json_value value;
    while (json_scan_member(&f->scan, &key, &value)) {
        size_t len = prefix + key.raw.len;
        bool fits = len + 1 < PATH_ROOM;
        if (fits)
            memcpy(path + prefix, key.raw.ptr, key.raw.len);
        if (fits && value.kind == JSON_KIND_OBJECT && depth == 0) {
            path[len] = '.';
            if (!usage_members(f, path, len + 1, depth + 1))
                return false;
            continue;
        }
        if (fits && value.kind != JSON_KIND_OBJECT && value.kind != JSON_KIND_ARRAY)
            number_keep(f->r, path, len, &value);
        if (!json_scan_skip(&f->scan, &value, NULL))
            return false;
    }
    return !f->scan.failed;
}

static bool usage_read(struct feed *f, const struct json_value *value)
{
    if (value->kind != JSON_KIND_OBJECT)
        return json_scan_skip(&f->scan, value, NULL);
    char path[PATH_ROOM];
    struct opt_i64 before[USAGE_ROWS_MAX];
    bool had_usage = f->r->has_usage;
    memcpy(before, f->r->value, sizeof before);
    f->seen.usage = true;
    if (!usage_members(f, path, 0, 0)) { /* cut: its last number may be, too */
        memcpy(f->r->value, before, sizeof before);
        f->r->has_usage = had_usage;
        return false;
    }
    struct strview whole = {value->raw.ptr, (size_t)(f->scan.at - value->raw.ptr)};
    bool fits = whole.len <= LIMIT_PROVIDER_USAGE_BYTES && sv_is_utf8(whole);
    free(f->r->provider_usage);
    f->r->provider_usage = fits ? malloc(whole.len) : NULL;
    f->r->provider_usage_len = whole.len;
    if (f->r->provider_usage != NULL)
        memcpy(f->r->provider_usage, whole.ptr, whole.len);
    else
        meter_add(METER_USAGE_CUT, 1);
    return true;
}

/* One choice, or its delta: *idle ends when a member but `index` says anything. */
static bool choice_read(struct feed *f, const struct json_value *choice, bool *idle)
{
    struct json_value key;
    struct json_value value;
    if (choice->kind != JSON_KIND_OBJECT) {
        *idle = false;
        return json_scan_skip(&f->scan, choice, NULL);
    }
    while (json_scan_member(&f->scan, &key, &value)) {
        if (value.kind == JSON_KIND_OBJECT && json_scan_text_is(&key, SV_LIT("delta"))) {
            if (!choice_read(f, &value, idle))
                return false;
            continue;
        }
        if (value.kind != JSON_KIND_NULL && !json_scan_text_is(&key, SV_LIT("index")))
            *idle = false;
        if (!text_count(&f->scan, &key, &value, &f->r->text_bytes))
            return false;
    }
    return !f->scan.failed;
}

static bool choices_read(struct feed *f, const struct json_value *value)
{
    if (value->kind != JSON_KIND_ARRAY)
        return json_scan_skip(&f->scan, value, NULL);
    struct json_value item;
    f->seen.choices_idle = true;
    while (json_scan_item(&f->scan, &item))
        if (!choice_read(f, &item, &f->seen.choices_idle))
            return false;
    return !f->scan.failed;
}

static bool member_read(struct feed *f, const struct json_value *key, const struct json_value *value,
                        bool root);

static bool members_read(struct feed *f, bool root)
{
    struct json_value key;
    struct json_value value;
    while (json_scan_member(&f->scan, &key, &value))
        if (!member_read(f, &key, &value, root))
            return false;
    return !f->scan.failed;
}

static bool member_read(struct feed *f, const struct json_value *key, const struct json_value *value,
                        bool root)
{
    struct usage_reader *r = f->r;
    if (json_scan_text_is(key, SV_LIT("usage")))
        return usage_read(f, value);
    if (json_scan_text_is(key, SV_LIT("choices")))
        return choices_read(f, value);
    if (json_scan_text_is(key, SV_LIT("model"))) {
        text_keep(value, f->scratch, r->model_room, sizeof r->model_room, &r->model);
    } else if (json_scan_text_is(key, SV_LIT("service_tier"))) {
        text_keep(value, f->scratch, r->tier_room, sizeof r->tier_room, &r->service_tier);
    } else if (root && json_scan_text_is(key, SV_LIT("error"))) {
        r->has_error = r->has_error || value->kind == JSON_KIND_OBJECT || value->kind == JSON_KIND_STRING;
    } else if (root && value->kind == JSON_KIND_OBJECT &&
               (json_scan_text_is(key, SV_LIT("response")) || json_scan_text_is(key, SV_LIT("message")))) {
        return members_read(f, false);
    } else if (root) {
        return text_count(&f->scan, key, value, &r->text_bytes);
    }
    return json_scan_skip(&f->scan, value, NULL);
}

struct usage_seen usage_reader_feed(struct usage_reader *r, struct strview text, struct arena *scratch)
{
    struct feed f = {.r = r, .scratch = scratch};
    struct json_value root;
    json_scan_init(&f.scan, text, LIMIT_REPLY_JSON_DEPTH);
    f.scan.lax = f.scan.any_bytes = true; /* what stands before the usage must not hide it */
    if (!json_scan_value(&f.scan, &root))
        return f.seen;
    bool ok = root.kind == JSON_KIND_OBJECT ? members_read(&f, true) : json_scan_skip(&f.scan, &root, NULL);
    f.seen.parsed = ok && json_scan_end(&f.scan);
    return f.seen;
}

void usage_reader_result(const struct usage_reader *r, struct usage *out)
{
    bool mismatch = false;
    usage_resolve(&r->table, r->value, out, &mismatch);
    if (mismatch)
        meter_add(METER_USAGE_MISMATCH, 1);
}
