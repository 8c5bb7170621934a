/*
 * price_book: one price file as imported: per entry named rates in femto-USD per unit. And a list of books by
 * valid time. Owns its entries. Read-only once made. Refuses floats: rates come from decimal text.
 */
#ifndef SPEND_SPEND_PRICE_BOOK_H
#define SPEND_SPEND_PRICE_BOOK_H

#include "spend/spend_call.h"

#define RATE_SCALE 15 /* decimals of a rate: femto-USD */

struct price_rate {
    struct strview name; /* the price file's own: "input_cost_per_token" */
    int64_t femtos;
};

struct price_entry {
    struct strview key;
    struct strview provider; /* litellm_provider */
    struct strview mode;
    struct price_rate *rates; /* sorted by name */
    size_t rate_count;
};

struct price_book {
    int64_t version;
    int64_t effective_from; /* 0 = from the start */
    int64_t recorded_at;
    struct strview source;
    struct strview sha256;       /* hex */
    struct price_entry *entries; /* sorted by key, memcmp order */
    size_t entry_count;
    struct arena arena; /* owns the texts */
};

struct price_import_note {
    struct strview key;
    struct strview name; /* the rate, or null */
    const char *what;    /* "rounded" or why it was skipped */
};

/* What an import did; arrays live in the book's arena. */
struct price_import {
    struct price_import_note *rounded;
    size_t rounded_count;
    struct price_import_note
        *skipped; /* entries without a usable price, fields that are no prices are not listed */
    size_t skipped_count;
};

/*
 * Reads a LiteLLM price file (JSON object: key -> entry). Unparsable text, a negative price, a duplicate key:
 * refused whole, *err says where. `sample_spec` is skipped. Version and times are set by the caller.
 */
bool price_book_parse(struct price_book **out, struct strview json, struct price_import *report,
                      struct err *err) NODISCARD;
void price_book_free(struct price_book *b); /* NULL allowed */

const struct price_entry *price_book_find(const struct price_book *b, struct strview key);
bool price_entry_rate(const struct price_entry *e, struct strview name, int64_t *femtos);

/* Books by valid time. Owns the books put in. */
struct price_list;
bool price_list_new(struct price_list **out, struct err *err) NODISCARD;
void price_list_free(struct price_list *l);
/* Takes the book over, also on failure. The same version again replaces. */
bool price_list_put(struct price_list *l, struct price_book *book, struct err *err) NODISCARD;
/* In force at `at` among those recorded by `known_by`; NULL = none. */
const struct price_book *price_list_find(const struct price_list *l, int64_t at, int64_t known_by);
const struct price_book *price_list_version(const struct price_list *l, int64_t version);
int64_t price_list_newest(const struct price_list *l); /* highest version, 0 = none */

#endif
