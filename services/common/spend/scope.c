/*
 * scope: the table's rows, and the two ways in which a subject has values.
 */
#include "spend/scope.h"

#include "spend/tag_set.h"

#include <string.h>

/* Where the values of a scope stand: an offset into struct scope_subject. */
typedef size_t scope_values_fn(const struct scope_subject *subject, enum scope_kind kind, size_t member,
                               struct scope_value *out);

struct scope_row {
    const char *name;
    const char *label;
    scope_values_fn *values;
    size_t member;
};

static size_t scope_one(const struct scope_subject *subject, enum scope_kind kind, size_t member,
                        struct scope_value *out)
{
    struct strview value;
    memcpy(&value, (const char *)subject + member, sizeof value);
    if (sv_is_empty(value))
        return 0;
    *out = (struct scope_value){.kind = kind, .value = value, .key = SV_NULL};
    return 1;
}

static bool is_among(const struct scope_value *values, size_t count, struct strview raw)
{
    for (size_t i = 0; i < count; i++)
        if (sv_eq(values[i].value, raw))
            return true;
    return false;
}

static size_t scope_tags(const struct scope_subject *subject, enum scope_kind kind, size_t member,
                         struct scope_value *out)
{
    size_t count = 0;
    size_t tags = subject->tag_count < (size_t)2 * LIMIT_TAGS ? subject->tag_count : (size_t)2 * LIMIT_TAGS;
    (void)member;
    for (size_t i = 0; i < tags; i++) {
        struct strview raw = subject->tags[i].raw;
        struct strview key;
        struct strview value;
        if (sv_is_empty(raw) || is_among(out, count, raw))
            continue;
        tag_split(raw, &key, &value);
        out[count++] = (struct scope_value){.kind = kind, .value = raw, .key = key};
    }
    return count;
}

#define SCOPE_ROW(kind, name, label, values, member)                                                         \
    [SCOPE_##kind] = {(name), (label), (values), offsetof(struct scope_subject, member)},
static const struct scope_row rows[SCOPE_KIND_COUNT] = {SCOPES(SCOPE_ROW)};

const char *scope_name(enum scope_kind kind)
{
    return rows[kind].name;
}

const char *scope_label(enum scope_kind kind)
{
    return rows[kind].label;
}

bool scope_parse(struct strview name, enum scope_kind *out)
{
    for (int i = 0; i < SCOPE_KIND_COUNT; i++) {
        if (sv_eq(name, sv_of(rows[i].name))) {
            *out = (enum scope_kind)i;
            return true;
        }
    }
    return false;
}

size_t scope_values(const struct scope_subject *subject, struct scope_value out[SCOPE_VALUES_MAX])
{
    size_t count = 0;
    for (int i = 0; i < SCOPE_KIND_COUNT; i++)
        count += rows[i].values(subject, (enum scope_kind)i, rows[i].member, &out[count]);
    return count;
}
