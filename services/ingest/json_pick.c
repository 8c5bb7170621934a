/*
 * json_pick: goes down into objects that a path leads into, and over all else.
 */
#include "ingest/json_pick.h"

#include "base/limits.h"

#include <string.h>

struct search {
    struct json_scan scan;
    struct json_pick *pick;
    size_t count;
};

/* The part of pick's path behind `above`, which is empty or ends in a dot; null when it stands elsewhere, or
 * begins otherwise than an unescaped key. */
static struct strview rest_of(const struct json_pick *pick, struct strview above,
                              const struct json_value *key)
{
    if (strncmp(pick->path, above.ptr, above.len) != 0)
        return SV_NULL;
    const char *rest = pick->path + above.len;
    bool other = !key->escaped && (key->raw.len == 0 || key->raw.ptr[0] != rest[0]);
    return other ? SV_NULL : sv_of(rest);
}

static bool object_read(struct search *s, struct strview above);

/* One member: *below is the path of what is sought within it, null when nothing is. */
static bool member_read(struct search *s, struct strview above, const struct json_value *key,
                        const struct json_value *value)
{
    struct strview below = SV_NULL;
    struct json_pick *at = NULL;
    for (size_t i = 0; i < s->count; i++) {
        struct strview more;
        struct strview rest = rest_of(&s->pick[i], above, key);
        if (sv_is_null(rest) || !json_scan_text_is(key, sv_cut(rest, '.', &more)))
            continue;
        s->pick[i].found = false; /* the last one counts */
        if (sv_is_null(more))
            at = &s->pick[i];
        else
            below = (struct strview){s->pick[i].path, (size_t)(more.ptr - s->pick[i].path)};
    }
    bool deeper = value->kind == JSON_KIND_OBJECT && !sv_is_null(below);
    if (!(deeper ? object_read(s, below) : json_scan_skip(&s->scan, value, NULL)))
        return false;
    if (at == NULL || value->kind == JSON_KIND_NULL)
        return true;
    bool container = value->kind == JSON_KIND_OBJECT || value->kind == JSON_KIND_ARRAY;
    at->found = true;
    at->value = *value;
    at->whole = value->raw;
    if (container)
        at->whole.len = (size_t)(s->scan.at - value->raw.ptr);
    return true;
}

static bool object_read(struct search *s, struct strview above)
{
    struct json_value key;
    struct json_value value;
    while (json_scan_member(&s->scan, &key, &value))
        if (!member_read(s, above, &key, &value))
            return false;
    return !s->scan.failed;
}

bool json_pick(struct strview object, struct json_pick *pick, size_t count)
{
    struct search s = {.pick = pick, .count = count};
    struct json_value root;
    for (size_t i = 0; i < count; i++)
        pick[i].found = false;
    json_scan_init(&s.scan, object, LIMIT_REPLY_JSON_DEPTH);
    s.scan.lax = true;
    return json_scan_value(&s.scan, &root) && root.kind == JSON_KIND_OBJECT && object_read(&s, SV_LIT("")) &&
           json_scan_end(&s.scan);
}

struct strview json_pick_text(const struct json_pick *pick, struct arena *a)
{
    struct strview text;
    if (!pick->found || pick->value.kind != JSON_KIND_STRING || !json_scan_unescape(&pick->value, a, &text))
        return SV_NULL;
    return text;
}

struct strview json_pick_object(const struct json_pick *pick, struct arena *a)
{
    if (pick->found && pick->value.kind == JSON_KIND_OBJECT)
        return pick->whole;
    struct strview text = sv_trim(json_pick_text(pick, a));
    return sv_starts_with(text, SV_LIT("{")) ? text : SV_NULL;
}
