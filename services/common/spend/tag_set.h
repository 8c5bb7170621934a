/*
 * tag_set: the union of a call's tags over every place they can stand, the same bytes once, order and origins
 * kept. One function makes the tag set; gate, record and entry use it. Owns nothing but its array; texts are
 * views or arena copies. Refuses to know about HTTP or JSON: callers hand in header values and unescaped
 * strings.
 */
#ifndef SPEND_SPEND_TAG_SET_H
#define SPEND_SPEND_TAG_SET_H

#include "spend/spend_call.h"

/* Why an item did not become a tag. */
enum tag_fault {
    TAG_FAULT_NONE = 0,
    TAG_FAULT_TOO_MANY, /* over LIMIT_TAGS different tags, or behind TAG_SET_ITEMS of any kind */
    TAG_FAULT_TOO_LONG, /* over LIMIT_TAG_BYTES */
    TAG_FAULT_CONTROL,  /* a control character */
    TAG_FAULT_ENCODING, /* not UTF-8 */
};

/* Items that are compared with the tags; more, also the same again, are only counted: a body may hold
 * millions. */
#define TAG_SET_ITEMS 4096

struct tag_set {
    struct tag tags[LIMIT_TAGS];
    size_t count;
    uint64_t items;       /* that were not empty */
    uint64_t empty;       /* items dropped for being empty */
    uint64_t non_string;  /* array items ignored for not being strings */
    uint64_t refused;     /* items that ran into a fault */
    enum tag_fault fault; /* the first */
};

void tag_set_init(struct tag_set *s);

/* One x-litellm-tags header line or a JSON string: split on ',', each trimmed (blank, tab), empties dropped.
 */
void tag_set_add_list(struct tag_set *s, struct strview text, enum tag_origin origin);
/* One array item or bound tag, taken as it is; empty: dropped and counted. LiteLLM's own "User-Agent: .."
 * tags are not ours to judge here. */
void tag_set_add_item(struct tag_set *s, struct strview text, enum tag_origin origin);
/* body `user`: becomes the tag end_user=<user>. The arena holds the text. */
void tag_set_add_user(struct tag_set *s, struct strview user, struct arena *a);
void tag_set_count_non_string(struct tag_set *s);
/* A call's tags, their texts in the arena, and whether one was refused. false: arena full. */
bool tag_set_take(const struct tag_set *s, struct arena *a, struct spend_call *out) NODISCARD;

/* key = before the first '=', else before the first ':', else null. */
void tag_split(struct strview raw, struct strview *key, struct strview *value);

/*
 * The value of a reserved key. TAG_VALUE_TWO when two different values stand: *value and *other hold them.
 * An empty value names nothing.
 */
enum tag_value { TAG_VALUE_NONE, TAG_VALUE_ONE, TAG_VALUE_TWO };
enum tag_value tag_find_value(const struct tag *tags, size_t count, struct strview key, struct strview *value,
                              struct strview *other);

#endif
