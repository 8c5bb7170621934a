/*
 * price_list: the price books, sorted by version.
 */
#include <stdlib.h>
#include <string.h>

#include "spend/price_book.h"

struct price_list {
    struct price_book **books;
    size_t count;
    size_t room;
};

bool price_list_new(struct price_list **out, struct err *err)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "price_list: out of memory");
    return true;
}

void price_list_free(struct price_list *l)
{
    if (l == NULL)
        return;
    for (size_t i = 0; i < l->count; i++)
        price_book_free(l->books[i]);
    free(l->books);
    free(l);
}

/* Index of the first book of this version or a later one. */
static size_t position(const struct price_list *l, int64_t version)
{
    size_t at = 0;
    while (at < l->count && l->books[at]->version < version)
        at++;
    return at;
}

bool price_list_put(struct price_list *l, struct price_book *book, struct err *err)
{
    size_t at = position(l, book->version);
    if (at < l->count && l->books[at]->version == book->version) {
        price_book_free(l->books[at]);
        l->books[at] = book;
        return true;
    }
    if (l->count == l->room) {
        size_t room = l->room == 0 ? 8 : l->room * 2;
        struct price_book **books = reallocarray(l->books, room, sizeof(struct price_book *));
        if (books == NULL) {
            price_book_free(book);
            return err_set(err, ERR_MEMORY, FATE_FATAL, "price_list: out of memory");
        }
        l->books = books;
        l->room = room;
    }
    memmove(l->books + at + 1, l->books + at, (l->count - at) * sizeof(struct price_book *));
    l->books[at] = book;
    l->count++;
    return true;
}

const struct price_book *price_list_find(const struct price_list *l, int64_t at, int64_t known_by)
{
    const struct price_book *best = NULL;
    for (size_t i = 0; i < l->count; i++) {
        const struct price_book *b = l->books[i];
        if (b->effective_from > at || b->recorded_at > known_by)
            continue;
        if (best == NULL || b->effective_from > best->effective_from ||
            (b->effective_from == best->effective_from && b->recorded_at >= best->recorded_at))
            best = b;
    }
    return best;
}

const struct price_book *price_list_version(const struct price_list *l, int64_t version)
{
    size_t at = position(l, version);
    return at < l->count && l->books[at]->version == version ? l->books[at] : NULL;
}

int64_t price_list_newest(const struct price_list *l)
{
    return l->count == 0 ? 0 : l->books[l->count - 1]->version;
}
