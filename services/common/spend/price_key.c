/*
 * price_key: LiteLLM's look-up order.
 */
#include "spend/price_key.h"

#include <string.h>

#define VARIANT_WORD_BYTES 32

struct strview price_key_provider(struct strview provider)
{
    if (sv_starts_with(provider, SV_LIT("vertex_ai-")))
        return SV_LIT("vertex_ai");
    if (sv_eq(provider, SV_LIT("bedrock_converse")))
        return SV_LIT("bedrock");
    return provider;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The first number directly before the letter, as 70 in "llama-3-70B"; -1: none. */
static int64_t size_in(struct strview model, char letter)
{
    for (size_t i = 0; i < model.len; i++) {
        size_t end = i;
        while (end < model.len && is_digit(model.ptr[end]))
            end++;
        int64_t n;
        if (end > i && end < model.len && (model.ptr[end] | 0x20) == letter &&
            sv_to_i64(sv_of_bytes(model.ptr + i, end - i), &n))
            return n;
        if (end > i)
            i = end;
    }
    return -1;
}

/* together_ai charges by size. NULL: by its own entry. */
static const struct price_entry *find_by_size(const struct price_book *book, enum spend_operation operation,
                                              struct strview model)
{
    static const struct {
        char letter;
        int64_t up_to;
        const char *key;
    } sizes[] = {{'b', 4, "together-ai-up-to-4b"},
                 {'b', 8, "together-ai-4.1b-8b"},
                 {'b', 21, "together-ai-8.1b-21b"},
                 {'b', 41, "together-ai-21.1b-41b"},
                 {'b', 80, "together-ai-41.1b-80b"},
                 {'b', 110, "together-ai-81.1b-110b"},
                 {'m', 150, "together-ai-embedding-up-to-150m"},
                 {'m', 350, "together-ai-embedding-151m-to-350m"}};
    char letter = operation == OPERATION_EMBEDDINGS ? 'm' : 'b';
    int64_t size = size_in(model, letter);
    for (size_t i = 0; size >= 0 && i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].letter == letter && size <= sizes[i].up_to)
            return price_book_find(book, sv_of(sizes[i].key));
    }
    return NULL;
}

/* "a/b/c", its empty parts left out. */
static const struct price_entry *find_path(const struct price_book *book, const struct strview part[3])
{
    char key[3 * LIMIT_TEXT_BYTES + 3];
    size_t len = 0;
    for (int i = 0; i < 3; i++) {
        if (part[i].len > LIMIT_TEXT_BYTES)
            return NULL;
        if (part[i].len == 0)
            continue;
        if (len > 0)
            key[len++] = '/';
        memcpy(key + len, part[i].ptr, part[i].len);
        len += part[i].len;
    }
    return price_book_find(book, sv_of_bytes(key, len));
}

const struct price_entry *price_key_find(const struct price_book *book, enum spend_operation operation,
                                         struct strview provider, struct strview model)
{
    if (sv_is_empty(model))
        return NULL;
    const struct price_entry *entry = NULL;
    struct strview tail;
    provider = price_key_provider(provider);
    (void)sv_cut(model, '/', &tail);
    if (sv_eq(provider, SV_LIT("together_ai")))
        entry = find_by_size(book, operation, model);
    if (entry == NULL)
        entry = find_path(book, (const struct strview[]){provider, model, SV_LIT("")});
    if (entry == NULL)
        entry = price_book_find(book, model);
    if (entry == NULL && !sv_is_empty(tail))
        entry = price_book_find(book, tail);
    return entry;
}

static bool is_word(struct strview v)
{
    for (size_t i = 0; i < v.len; i++) {
        char c = v.ptr[i];
        if (!is_digit(c) && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && c != '-' && c != '_')
            return false;
    }
    return v.len <= VARIANT_WORD_BYTES;
}

struct strview price_key_variant(struct strview quality, struct strview size, struct arena *a)
{
    quality = sv_is_empty(quality) ? SV_LIT("standard") : quality;
    size = sv_is_empty(size) ? SV_LIT("1024-x-1024") : size;
    if (!is_word(quality) || !is_word(size))
        return SV_NULL;
    struct strview width;
    struct strview height = sv_cut(size, 'x', &width);
    bool bare = !sv_is_null(width) && (height.len == 0 || height.ptr[height.len - 1] != '-');
    return bare ? arena_printf(a, SV_FMT "/" SV_FMT "-x-" SV_FMT, SV_ARG(quality), SV_ARG(height),
                               SV_ARG(width))
                : arena_printf(a, SV_FMT "/" SV_FMT, SV_ARG(quality), SV_ARG(size));
}

const struct price_entry *price_key_find_image(const struct price_book *book, const struct spend_call *call,
                                               struct strview model)
{
    if (call->usage.units[USAGE_IMAGES].v <= 0 || sv_is_empty(model))
        return NULL;
    struct strview provider = price_key_provider(call->provider);
    struct strview variant = call->variant;
    struct strview size;
    struct strview last = model;
    struct strview tail;
    struct strview none = SV_LIT("");
    (void)sv_cut(variant, '/', &size);
    struct strview first = sv_cut(model, '/', &tail);
    bool prefixed = !sv_is_empty(provider) && sv_eq(first, provider) && !sv_is_null(tail);
    struct strview before = prefixed ? provider : none;
    struct strview name = prefixed ? tail : model;
    for (struct strview rest = model; !sv_is_null(rest);)
        last = sv_cut(rest, '/', &rest);
    struct strview quality = {variant.ptr, sv_is_null(size) ? 0 : variant.len - size.len - 1};
    char joined[2 * LIMIT_TEXT_BYTES + 2];
    bool openai =
        sv_is_empty(provider) || sv_eq(provider, SV_LIT("openai")) || sv_eq(provider, SV_LIT("azure"));
    if (!openai && find_path(book, (const struct strview[]){provider, name, none}) != NULL)
        return NULL; /* others have prices of their own */
    if (quality.len == 0 || size.len == 0 || quality.len + before.len > LIMIT_TEXT_BYTES)
        return NULL;
    memcpy(joined, quality.ptr, quality.len);
    joined[quality.len] = '/';
    if (before.len > 0)
        memcpy(joined + quality.len + 1, before.ptr, before.len);
    struct strview both = {joined, quality.len + (before.len > 0 ? before.len + 1 : 0)};
    const struct strview order[][3] = {
        {both, size, name}, {before, size, name}, {quality, size, last}, {none, size, last}};
    const struct price_entry *entry = NULL;
    for (size_t i = 0; i < sizeof order / sizeof order[0] && entry == NULL; i++)
        entry = find_path(book, order[i]);
    return entry;
}

/* "1024-x-1792" -> 1835008; 0: it is no size. */
static int64_t pixels_of(struct strview segment)
{
    struct strview cross = SV_LIT("-x-");
    int64_t height;
    int64_t width;
    for (size_t i = 1; i + cross.len < segment.len; i++) {
        if (sv_eq(sv_of_bytes(segment.ptr + i, cross.len), cross))
            return sv_to_i64(sv_of_bytes(segment.ptr, i), &height) && height > 0 && height <= INT16_MAX &&
                           sv_to_i64(sv_of_bytes(segment.ptr + i + cross.len, segment.len - i - cross.len),
                                     &width) &&
                           width > 0 && width <= INT16_MAX
                       ? height * width
                       : 0;
    }
    return 0;
}

int64_t price_key_pixels(struct strview key)
{
    while (!sv_is_empty(key)) {
        int64_t pixels = pixels_of(sv_cut(key, '/', &key));
        if (pixels > 0)
            return pixels;
    }
    return 0;
}

bool price_key_has_sizes(const struct price_book *book, struct strview key)
{
    for (size_t i = 0; i < book->entry_count && price_key_pixels(key) == 0; i++) {
        struct strview other = book->entries[i].key;
        if (other.len > key.len + 1 && other.ptr[other.len - key.len - 1] == '/' &&
            memcmp(other.ptr + other.len - key.len, key.ptr, key.len) == 0 && price_key_pixels(other) > 0)
            return true;
    }
    return false;
}
