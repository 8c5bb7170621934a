/*
 * tag_set: the union of a call's tags, in the order first seen.
 * A refused item never silently vanishes: it is counted and the first fault is kept for the caller's answer.
 */
#include "spend/tag_set.h"

#include <string.h>

#define END_USER "end_user="

void tag_set_init(struct tag_set *s)
{
    s->count = 0;
    s->items = 0;
    s->empty = 0;
    s->non_string = 0;
    s->refused = 0;
    s->fault = TAG_FAULT_NONE;
}

static void refuse(struct tag_set *s, enum tag_fault fault)
{
    s->refused++;
    if (s->fault == TAG_FAULT_NONE)
        s->fault = fault;
}

static enum tag_fault judge(struct strview text)
{
    if (text.len > LIMIT_TAG_BYTES)
        return TAG_FAULT_TOO_LONG;
    if (sv_is_plain(text))
        return TAG_FAULT_NONE;
    if (!sv_is_utf8(text))
        return TAG_FAULT_ENCODING;
    if (sv_has_control(text))
        return TAG_FAULT_CONTROL;
    return TAG_FAULT_NONE;
}

void tag_set_add_item(struct tag_set *s, struct strview text, enum tag_origin origin)
{
    if (sv_is_empty(text)) {
        s->empty++;
        return;
    }
    if (++s->items > TAG_SET_ITEMS) {
        refuse(s, TAG_FAULT_TOO_MANY);
        return;
    }
    enum tag_fault fault = judge(text);
    if (fault != TAG_FAULT_NONE) {
        refuse(s, fault);
        return;
    }
    for (size_t i = 0; i < s->count; i++) {
        if (sv_eq(s->tags[i].raw, text)) {
            s->tags[i].origins |= (unsigned)origin;
            return;
        }
    }
    if (s->count == LIMIT_TAGS) {
        refuse(s, TAG_FAULT_TOO_MANY);
        return;
    }
    struct tag *tag = &s->tags[s->count++];
    tag->raw = text;
    tag->origins = (unsigned)origin;
    tag_split(text, &tag->key, &tag->value);
}

void tag_set_add_list(struct tag_set *s, struct strview text, enum tag_origin origin)
{
    if (sv_is_null(text))
        return;
    struct strview rest = text;
    while (!sv_is_null(rest)) {
        struct strview item = sv_cut(rest, ',', &rest);
        tag_set_add_item(s, sv_trim(item), origin);
    }
}

void tag_set_add_user(struct tag_set *s, struct strview user, struct arena *a)
{
    size_t prefix = sizeof END_USER - 1;
    if (sv_is_empty(user)) {
        s->empty++;
        return;
    }
    if (user.len > LIMIT_TAG_BYTES - prefix) { /* before anything is copied: a user can be a whole body */
        refuse(s, TAG_FAULT_TOO_LONG);
        return;
    }
    char *text = arena_alloc(a, prefix + user.len);
    if (text == NULL) {
        refuse(s, TAG_FAULT_TOO_LONG);
        return;
    }
    memcpy(text, END_USER, prefix);
    memcpy(text + prefix, user.ptr, user.len);
    tag_set_add_item(s, sv_of_bytes(text, prefix + user.len), TAG_ORIGIN_USER);
}

void tag_set_count_non_string(struct tag_set *s)
{
    s->non_string++;
}

bool tag_set_take(const struct tag_set *s, struct arena *a, struct spend_call *out)
{
    out->tags_truncated = s->fault != TAG_FAULT_NONE;
    out->tag_count = s->count;
    out->tags = s->count == 0 ? NULL : arena_alloc(a, s->count * sizeof *out->tags);
    for (size_t i = 0; i < s->count && out->tags != NULL; i++) {
        out->tags[i].origins = s->tags[i].origins;
        if (!arena_dup(a, s->tags[i].raw, &out->tags[i].raw))
            return false;
        tag_split(out->tags[i].raw, &out->tags[i].key, &out->tags[i].value);
    }
    return s->count == 0 || out->tags != NULL;
}

void tag_split(struct strview raw, struct strview *key, struct strview *value)
{
    size_t at = sv_find(raw, '=');
    if (at == raw.len)
        at = sv_find(raw, ':');
    if (sv_is_null(raw) || at == raw.len) {
        *key = SV_NULL;
        *value = SV_NULL;
        return;
    }
    *key = sv_of_bytes(raw.ptr, at);
    *value = sv_of_bytes(raw.ptr + at + 1, raw.len - at - 1);
}

enum tag_value tag_find_value(const struct tag *tags, size_t count, struct strview key, struct strview *value,
                              struct strview *other)
{
    *value = SV_NULL;
    *other = SV_NULL;
    for (size_t i = 0; i < count; i++) {
        if (!sv_eq(tags[i].key, key) || sv_is_empty(tags[i].value))
            continue;
        if (sv_is_null(*value)) {
            *value = tags[i].value;
        } else if (!sv_eq(*value, tags[i].value)) {
            *other = tags[i].value;
            return TAG_VALUE_TWO;
        }
    }
    return sv_is_null(*value) ? TAG_VALUE_NONE : TAG_VALUE_ONE;
}
