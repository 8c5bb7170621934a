/*
 * usage_reader: one pass. usage, model and service_tier stand at the root, or in `response` (responses) or
 * `message` (messages), the tier also in the usage object (Anthropic). A number that is no non-negative
 * integer is left null and counted; a total that is none is noted.
 */
#include "ingest/usage_reader.h"

#include "base/money.h"
#include "ingest/meter.h"
#include "ingest/text_count.h"

#include <stdlib.h>
#include <string.h>

#define PATH_ROOM   128
#define PATH_LEVELS 2 /* objects within a usage object */

struct feed {
    struct usage_reader *r;
    struct json_scan scan;
    struct arena *scratch;
    struct usage_seen seen;
    bool in_message; /* Anthropic's message_start */
};

void usage_reader_init(struct usage_reader *r, enum spend_operation operation, struct strview provider)
{
    memset(r, 0, offsetof(struct usage_reader, model_room));
    r->operation = operation;
    r->table = usage_map(operation, provider);
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

/* Seconds may have a fraction; kept to the millisecond. */
static bool seconds_read(const struct json_value *v, int64_t *milli)
{
    struct err ignored;
    return v->kind == JSON_KIND_NUMBER && money_parse_decimal(v->raw, 3, milli, NULL, &ignored) &&
           *milli >= 0;
}

static void readable_note(struct feed *f, const struct usage_row *row, bool readable)
{
    if (row->role == USAGE_ROLE_OUT_TOTAL) {
        f->r->output_unreadable = !readable;
        f->r->output_is_first = f->in_message;
    } else if (row->class == USAGE_INPUT) {
        f->r->input_unreadable = !readable;
    }
}

static const struct usage_row *row_find(struct usage_reader *r, struct strview path, struct opt_i64 **value)
{
    for (size_t i = 0; i < r->table.count; i++) {
        *value = &r->value[i];
        const struct usage_row *row = &r->table.row[i];
        if (sv_eq(row->path, path))
            return row;
    }
    return NULL;
}

static void number_keep(struct feed *f, struct strview path, const struct json_value *v)
{
    struct opt_i64 *value;
    const struct usage_row *row = row_find(f->r, path, &value);
    int64_t n = 0;
    if (row == NULL || v->kind == JSON_KIND_NULL)
        return;
    bool readable = row->class == USAGE_SECONDS_MILLI ? seconds_read(v, &n) : number_read(v, &n);
    *value = (struct opt_i64){.has = readable, .v = n};
    /* LiteLLM begins other providers' messages with zeros: they tell nothing yet */
    f->r->has_usage = f->r->has_usage || (readable && (n > 0 || !f->in_message));
    readable_note(f, row, readable);
    meter_add(METER_USAGE_UNREADABLE, readable ? 0 : 1);
}

void usage_reader_note(struct usage_reader *r, const char *path, int64_t units)
{
    struct opt_i64 *value;
    if (row_find(r, sv_of(path), &value) != NULL)
        *value = OPT_I64(units);
}

/* The members of the usage object, or of one object within it (prefix "prompt_tokens_details."). */
static bool usage_members(struct feed *f, char *path, size_t prefix, int depth)
{
    struct json_value key;
    struct json_value value;
    while (json_scan_member(&f->scan, &key, &value)) {
        size_t len = prefix + key.raw.len;
        bool fits = len + 1 < PATH_ROOM && sv_find(key.raw, '.') == key.raw.len; /* dots are the path's */
        if (fits)
            memcpy(path + prefix, key.raw.ptr, key.raw.len);
        if (fits && value.kind == JSON_KIND_OBJECT && depth < PATH_LEVELS) {
            path[len] = '.';
            if (!usage_members(f, path, len + 1, depth + 1))
                return false;
            continue;
        }
        if (fits && value.kind != JSON_KIND_OBJECT && value.kind != JSON_KIND_ARRAY)
            number_keep(f, (struct strview){path, len}, &value);
        if (depth == 0 && json_scan_text_is(&key, SV_LIT("service_tier")))
            text_keep(&value, f->scratch, f->r->tier_room, sizeof f->r->tier_room, &f->r->service_tier);
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
    const struct usage_reader before = *f->r;
    f->seen.usage = true;
    if (!usage_members(f, path, 0, 0)) { /* cut: its last number may be, too */
        *f->r = before;
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

/* How many images came. */
static bool data_count(struct feed *f)
{
    struct json_value item;
    int64_t count = 0;
    for (; json_scan_item(&f->scan, &item); count++)
        if (!json_scan_skip(&f->scan, &item, NULL))
            return false;
    usage_reader_note(f->r, USAGE_PATH_DATA, count);
    f->r->has_usage = true;
    return !f->scan.failed;
}

/* The last event of a stream that has no [DONE]. */
static bool is_last(const struct json_value *type)
{
    static const struct strview last[] = {SV_INIT("message_stop"), SV_INIT("response.completed"),
                                          SV_INIT("response.incomplete"), SV_INIT("response.failed")};
    for (size_t i = 0; i < sizeof last / sizeof last[0]; i++)
        if (type->kind == JSON_KIND_STRING && json_scan_text_is(type, last[i]))
            return true;
    return false;
}

/* What stands only at the root, and is none of what may stand deeper as well. */
static bool root_read(struct feed *f, const struct json_value *key, const struct json_value *value)
{
    enum spend_operation operation = f->r->operation;
    if (operation == OPERATION_RERANK && json_scan_text_is(key, SV_LIT("meta")))
        return usage_read(f, value);
    if (operation == OPERATION_IMAGE && value->kind == JSON_KIND_ARRAY &&
        json_scan_text_is(key, SV_LIT("data")))
        return data_count(f);
    if (operation == OPERATION_TRANSCRIPTION && json_scan_text_is(key, SV_LIT("duration")))
        number_keep(f, SV_LIT(USAGE_PATH_DURATION), value);
    if (json_scan_text_is(key, SV_LIT("type")))
        f->seen.last = is_last(value);
    return text_count(&f->scan, key, value, &f->r->text_bytes);
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
    } else if (json_scan_text_is(key, SV_LIT("error"))) { /* also that of a response */
        r->has_error = r->has_error || value->kind == JSON_KIND_OBJECT || value->kind == JSON_KIND_STRING;
    } else if (root && value->kind == JSON_KIND_OBJECT &&
               (json_scan_text_is(key, SV_LIT("response")) || json_scan_text_is(key, SV_LIT("message")))) {
        f->in_message = json_scan_text_is(key, SV_LIT("message"));
        bool ok = members_read(f, false);
        f->in_message = false;
        return ok;
    } else if (root) {
        return root_read(f, key, value);
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
    f.seen.last = f.seen.last && f.seen.parsed; /* what was cut is not the end of anything */
    return f.seen;
}

bool usage_reader_object(struct usage_reader *r, struct strview object, struct arena *scratch)
{
    struct feed f = {.r = r, .scratch = scratch};
    struct json_value root;
    json_scan_init(&f.scan, object, LIMIT_REPLY_JSON_DEPTH);
    f.scan.lax = f.scan.any_bytes = true;
    return json_scan_value(&f.scan, &root) && root.kind == JSON_KIND_OBJECT && usage_read(&f, &root) &&
           json_scan_end(&f.scan);
}

void usage_reader_result(const struct usage_reader *r, struct usage *out)
{
    bool mismatch = false;
    usage_resolve(&r->table, r->value, out, &mismatch);
    if (mismatch)
        meter_add(METER_USAGE_MISMATCH, 1);
}
