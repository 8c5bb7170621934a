/*
 * price_book: reads a LiteLLM price file strictly, in one pass, with every price as decimal text.
 * A price is a number whose field name holds "cost", at the top of an entry, or inside an object or array
 * whose name holds "cost" or "pricing"; such a nested price is named by its path
 * ("search_context_cost_per_query.search_context_size_low"), one of a range of tokens by where that begins
 * ("tiered_pricing.from_32000.input_cost_per_token"). docs/prices.md.
 */
#include "spend/price_book.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_scan.h"
#include "base/money.h"

#define BOOK_ARENA_BYTES ((size_t)64 << 20) /* an 8 MiB file's texts, rates and notes fit many times */
#define PATH_BYTES       256                /* a nested price's name */
#define NEST_MAX         8                  /* levels below an entry where prices are looked for */

/* A growing array of plain values, copied into the arena when it is whole. */
struct list {
    char *items;
    size_t size; /* of one */
    size_t count;
    size_t room;
};

struct import {
    struct json_scan scan;
    struct price_book *book;
    struct list entries; /* struct price_entry */
    struct list rates;   /* struct price_rate, of the entry being read */
    struct list rounded; /* struct price_import_note */
    struct list skipped;
    struct strview key; /* of the entry being read */
    char path[PATH_BYTES];
    struct err *err;
};

static bool out_of_memory(struct import *im)
{
    return err_set(im->err, ERR_MEMORY, FATE_DEAD_LETTER, "price file: out of memory, or too large");
}

static bool list_add(struct import *im, struct list *l, const void *item)
{
    if (l->count == l->room) {
        size_t room = l->room == 0 ? 64 : l->room * 2;
        char *items = reallocarray(l->items, room, l->size);
        if (items == NULL)
            return out_of_memory(im);
        l->items = items;
        l->room = room;
    }
    memcpy(l->items + l->count++ * l->size, item, l->size);
    return true;
}

static bool list_keep(struct import *im, const struct list *l, void **out, size_t *count)
{
    *out = arena_alloc(&im->book->arena, l->count * l->size);
    *count = l->count;
    if (*out == NULL)
        return out_of_memory(im);
    if (l->count > 0)
        memcpy(*out, l->items, l->count * l->size);
    return true;
}

static bool refuse(struct import *im, const char *why)
{
    return err_set(im->err, ERR_INVALID, FATE_DEAD_LETTER, "price file: entry " SV_FMT ", %s: %s",
                   SV_ARG(im->key), im->path[0] == '\0' ? "itself" : im->path, why);
}

static bool refuse_scan(struct import *im)
{
    if (im->err != NULL)
        *im->err = im->scan.err;
    if (im->err != NULL)
        im->err->fate = FATE_DEAD_LETTER;
    return err_wrap(im->err, "price file");
}

static bool take_text(struct import *im, const struct json_value *v, struct strview *out)
{
    struct strview text;
    if (!json_scan_unescape(v, &im->book->arena, &text))
        return refuse(im, "a text that cannot be read");
    return arena_dup(&im->book->arena, text, out) || out_of_memory(im);
}

static bool text_holds(struct strview text, const char *word)
{
    return text.len > 0 && memmem(text.ptr, text.len, word, strlen(word)) != NULL;
}

/* One price, named by im->path. */
static bool take_rate(struct import *im, struct strview number)
{
    struct price_rate rate = {0};
    struct err err;
    bool was_rounded = false;
    if (!money_parse_decimal(number, RATE_SCALE, &rate.femtos, &was_rounded, &err))
        return refuse(im, err.text);
    if (number.ptr[0] == '-') /* also one that rounds to zero */
        return refuse(im, "a price below zero");
    if (!arena_dup(&im->book->arena, sv_of(im->path), &rate.name))
        return out_of_memory(im);
    if (was_rounded) {
        struct price_import_note note = {im->key, rate.name, "rounded"};
        if (!list_add(im, &im->rounded, &note))
            return false;
    }
    return list_add(im, &im->rates, &rate);
}

/* Puts a name behind what the path holds up to `at`. */
static bool path_put(struct import *im, size_t at, struct strview name)
{
    size_t dot = at > 0 ? 1 : 0;
    if (at + dot + name.len + 1 > sizeof im->path)
        return refuse(im, "a name that is too long");
    if (dot > 0)
        im->path[at] = '.';
    if (name.len > 0)
        memcpy(im->path + at + dot, name.ptr, name.len);
    im->path[at + dot + name.len] = '\0';
    return true;
}

/* An item of an array is named by its place, one with a `range` of numbers by where that begins. scan: a copy
 * to look ahead with. */
static struct strview item_name(struct json_scan scan, const struct json_value *item, size_t place, char *out,
                                size_t size)
{
    struct json_value key;
    struct json_value v;
    int64_t from = -1;
    struct err ignored;
    while (item->kind == JSON_KIND_OBJECT && json_scan_member(&scan, &key, &v)) {
        struct json_scan inside = scan;
        struct json_value first;
        if (v.kind == JSON_KIND_ARRAY && json_scan_text_is(&key, SV_LIT("range")) &&
            json_scan_item(&inside, &first) && first.kind == JSON_KIND_NUMBER &&
            !money_parse_decimal(first.raw, 0, &from, NULL, &ignored))
            from = -1;
        if (!json_scan_skip(&scan, &v, NULL))
            break;
    }
    int len = from >= 0 ? snprintf(out, size, "from_%" PRId64, from) : snprintf(out, size, "%zu", place);
    return sv_of_bytes(out, (size_t)len);
}

static bool take_nested(struct import *im, const struct json_value *container, bool all, int depth);

/* The value whose name was put into the path. `all`: every number counts, whatever its name. */
static bool take_value(struct import *im, struct strview name, const struct json_value *v, bool all,
                       int depth)
{
    bool is_price = all || text_holds(name, "cost");
    bool is_container = v->kind == JSON_KIND_OBJECT || v->kind == JSON_KIND_ARRAY;
    if (is_container && (is_price || depth > 0 || text_holds(name, "pricing")))
        return take_nested(im, v, is_price, depth);
    if (is_container)
        return json_scan_skip(&im->scan, v, NULL) || refuse_scan(im);
    if (!is_price || v->kind == JSON_KIND_NULL)
        return true;
    /* A price in quotes is read as LiteLLM reads it; any other word there is no price, and guessing costs
     * money. */
    if (v->kind != JSON_KIND_NUMBER && v->kind != JSON_KIND_STRING)
        return refuse(im, "not a number");
    return take_rate(im, v->raw);
}

static bool take_nested(struct import *im, const struct json_value *container, bool all, int depth)
{
    size_t at = strlen(im->path);
    struct json_value key;
    struct json_value v;
    if (depth == NEST_MAX)
        return refuse(im, "prices nested too deep");
    for (size_t i = 0;; i++) {
        char room[32];
        struct strview name = SV_NULL;
        if (container->kind == JSON_KIND_OBJECT) {
            if (!json_scan_member(&im->scan, &key, &v))
                break;
            if (!take_text(im, &key, &name))
                return false;
        } else {
            if (!json_scan_item(&im->scan, &v))
                break;
            name = item_name(im->scan, &v, i, room, sizeof room);
        }
        if (!path_put(im, at, name) || !take_value(im, name, &v, all, depth + 1))
            return false;
    }
    im->path[at] = '\0';
    return !im->scan.failed || refuse_scan(im);
}

static int compare_rates(const void *a, const void *b)
{
    return sv_cmp(((const struct price_rate *)a)->name, ((const struct price_rate *)b)->name);
}

static int compare_entries(const void *a, const void *b)
{
    return sv_cmp(((const struct price_entry *)a)->key, ((const struct price_entry *)b)->key);
}

static bool finish_entry(struct import *im, struct price_entry *entry)
{
    void *rates;
    if (!list_keep(im, &im->rates, &rates, &entry->rate_count))
        return false;
    entry->rates = rates;
    qsort(entry->rates, entry->rate_count, sizeof *entry->rates, compare_rates);
    for (size_t i = 1; i < entry->rate_count; i++) {
        if (compare_rates(&entry->rates[i - 1], &entry->rates[i]) == 0)
            return refuse(im, "the same price twice");
    }
    if (entry->rate_count == 0) {
        struct price_import_note note = {im->key, SV_NULL, "no price"};
        if (!list_add(im, &im->skipped, &note))
            return false;
    }
    return list_add(im, &im->entries, entry);
}

static bool take_entry(struct import *im)
{
    struct price_entry entry = {.key = im->key};
    struct json_value key;
    struct json_value v;
    im->rates.count = 0;
    while (json_scan_member(&im->scan, &key, &v)) {
        struct strview name = SV_NULL;
        im->path[0] = '\0';
        if (!take_text(im, &key, &name) || !path_put(im, 0, name))
            return false;
        bool ok = true;
        if (v.kind == JSON_KIND_STRING && sv_eq(name, SV_LIT("litellm_provider")))
            ok = take_text(im, &v, &entry.provider);
        else if (v.kind == JSON_KIND_STRING && sv_eq(name, SV_LIT("mode")))
            ok = take_text(im, &v, &entry.mode);
        else
            ok = take_value(im, name, &v, false, 0);
        if (!ok)
            return false;
    }
    im->path[0] = '\0';
    return im->scan.failed ? refuse_scan(im) : finish_entry(im, &entry);
}

static bool take_file(struct import *im)
{
    struct json_value key;
    struct json_value v;
    if (!json_scan_value(&im->scan, &v))
        return refuse_scan(im);
    if (v.kind != JSON_KIND_OBJECT)
        return err_set(im->err, ERR_INVALID, FATE_DEAD_LETTER, "price file: not a JSON object");
    while (json_scan_member(&im->scan, &key, &v)) {
        im->path[0] = '\0';
        if (!take_text(im, &key, &im->key))
            return false;
        bool is_long = im->key.len > LIMIT_TEXT_BYTES; /* no record could say that it was priced by it */
        if (v.kind == JSON_KIND_OBJECT && !is_long && !sv_eq(im->key, SV_LIT("sample_spec"))) {
            if (!take_entry(im))
                return false;
            continue;
        }
        struct price_import_note note = {im->key, SV_NULL, is_long ? "its key is too long" : "not an entry"};
        if ((v.kind != JSON_KIND_OBJECT || is_long) && !list_add(im, &im->skipped, &note))
            return false;
        if (!json_scan_skip(&im->scan, &v, NULL))
            return refuse_scan(im);
    }
    return (!im->scan.failed && json_scan_end(&im->scan)) || refuse_scan(im);
}

static bool finish_book(struct import *im, struct strview json, struct price_import *report)
{
    void *entries;
    void *rounded;
    void *skipped;
    struct price_book *book = im->book;
    if (!list_keep(im, &im->entries, &entries, &book->entry_count) ||
        !list_keep(im, &im->rounded, &rounded, &report->rounded_count) ||
        !list_keep(im, &im->skipped, &skipped, &report->skipped_count))
        return false;
    report->rounded = rounded;
    report->skipped = skipped;
    book->entries = entries;
    qsort(book->entries, book->entry_count, sizeof *book->entries, compare_entries);
    for (size_t i = 1; i < book->entry_count; i++) {
        im->key = book->entries[i].key;
        if (compare_entries(&book->entries[i - 1], &book->entries[i]) == 0)
            return refuse(im, "stands twice");
    }
    char hex[SHA256_HEX_LEN + 1];
    sha256_hex_of(json, hex);
    return arena_dup(&book->arena, sv_of(hex), &book->sha256) || out_of_memory(im);
}

bool price_book_parse(struct price_book **out, struct strview json, struct price_import *report,
                      struct err *err)
{
    struct import im = {
        .book = calloc(1, sizeof *im.book),
        .entries = {.size = sizeof(struct price_entry)},
        .rates = {.size = sizeof(struct price_rate)},
        .rounded = {.size = sizeof(struct price_import_note)},
        .skipped = {.size = sizeof(struct price_import_note)},
        .err = err,
    };
    bool ok = false;
    *out = NULL;
    *report = (struct price_import){0};
    if (im.book == NULL)
        return out_of_memory(&im);
    arena_init(&im.book->arena, BOOK_ARENA_BYTES);
    json_scan_init(&im.scan, json, LIMIT_JSON_DEPTH);
    ok = take_file(&im) && finish_book(&im, json, report);
    free(im.entries.items);
    free(im.rates.items);
    free(im.rounded.items);
    free(im.skipped.items);
    if (!ok) {
        price_book_free(im.book);
        *report = (struct price_import){0};
        return false;
    }
    *out = im.book;
    return true;
}

void price_book_free(struct price_book *b)
{
    if (b == NULL)
        return;
    arena_free(&b->arena);
    free(b);
}

const struct price_entry *price_book_find(const struct price_book *b, struct strview key)
{
    struct price_entry wanted = {.key = key};
    if (b->entry_count == 0)
        return NULL;
    return bsearch(&wanted, b->entries, b->entry_count, sizeof *b->entries, compare_entries);
}

bool price_entry_rate(const struct price_entry *e, struct strview name, int64_t *femtos)
{
    struct price_rate wanted = {.name = name};
    if (e->rate_count == 0)
        return false;
    const struct price_rate *hit = bsearch(&wanted, e->rates, e->rate_count, sizeof *e->rates, compare_rates);
    if (hit == NULL)
        return false;
    *femtos = hit->femtos;
    return true;
}
