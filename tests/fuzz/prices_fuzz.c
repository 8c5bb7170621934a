/*
 * prices: a price file, and behind a line of "%%" the one that follows it. What is taken is sorted, has no
 * price below zero, is found by its keys, survives Avro, and differs from itself in nothing.
 */
#include "fuzz.h"

#include "spend/avro_codec.h"
#include "spend/price_diff.h"
#include "spend/price_key.h"
#include "spend/price_tiers.h"
#include "spend/rater.h"

#define ARENA_ROOM ((size_t)4 << 20)

static struct price_book *parse(struct strview text)
{
    struct price_book *book = NULL;
    struct price_import report;
    struct err err = {0};
    char *copy = fuzz_copy(text);
    bool ok = price_book_parse(&book, (struct strview){copy, text.len}, &report, &err);
    free(copy); /* the book owns its texts */
    assert(ok == (book != NULL));
    assert(ok || (err.fate == FATE_DEAD_LETTER && err.text[0] != '\0'));
    for (size_t i = 0; i < report.rounded_count; i++)
        assert(report.rounded[i].what != NULL && !sv_is_null(report.rounded[i].name));
    if (ok) {
        book->version = 7;
        book->source = SV_LIT("fuzz");
    }
    return book;
}

static void entry_check(const struct price_book *book, const struct price_entry *entry)
{
    struct price_tiers tiers;
    int64_t femtos = 0;
    assert(price_book_find(book, entry->key) == entry);
    assert(price_key_find(book, OPERATION_CHAT, SV_NULL, entry->key) != NULL || entry->key.len == 0);
    (void)price_key_pixels(entry->key);
    (void)price_key_has_sizes(book, entry->key);
    for (size_t i = 0; i < entry->rate_count; i++) {
        assert(entry->rates[i].femtos >= 0 && sv_is_utf8(entry->rates[i].name));
        assert(i == 0 || sv_cmp(entry->rates[i - 1].name, entry->rates[i].name) < 0);
        assert(price_entry_rate(entry, entry->rates[i].name, &femtos) && femtos == entry->rates[i].femtos);
    }
    if (!price_tiers_read(entry, &tiers))
        return;
    int64_t units = 0;
    for (size_t i = 0; i < tiers.count; i++) {
        assert(i == 0 || tiers.from[i] > tiers.from[i - 1]);
        units += price_tiers_slice(&tiers, i, 1000000);
    }
    assert(tiers.count == 0 || units <= 1000000);
}

/* No price makes a negative bill, whatever was used; the sum is an overflow or the lines'. */
static void rate_check(const struct price_book *book, const struct price_entry *entry, int64_t units)
{
    for (int operation = 0; operation < OPERATION_COUNT; operation++) {
        struct spend_call call = {.operation = (enum spend_operation)operation,
                                  .model_requested = entry->key,
                                  .outcome = OUTCOME_COMPLETED,
                                  .quality = QUALITY_FINAL,
                                  .admitted_at = 1795421624000000};
        struct rate_result result;
        struct err err = {0};
        for (int c = 0; c < USAGE_COUNT; c++)
            call.usage.units[c] = OPT_I64(units + c);
        if (!rater_rate_with(&call, book, entry, &result, &err)) {
            assert(err.fate == FATE_DEAD_LETTER);
            continue;
        }
        assert(result.line_count <= RATE_LINES_MAX);
        assert(result.verdict == RATE_UNPRICED || result.raw_nanos >= 0);
        for (size_t i = 0; i < result.line_count; i++)
            assert(result.lines[i].units >= 0 && result.lines[i].femtos >= 0 && result.lines[i].per > 0);
    }
}

static bool book_same(const struct price_book *a, const struct price_book *b)
{
    bool same = a->entry_count == b->entry_count;
    for (size_t i = 0; same && i < a->entry_count; i++) {
        const struct price_entry *x = &a->entries[i];
        const struct price_entry *y = &b->entries[i];
        same = sv_eq(x->key, y->key) && x->rate_count == y->rate_count;
        for (size_t k = 0; same && k < x->rate_count; k++)
            same = sv_eq(x->rates[k].name, y->rates[k].name) && x->rates[k].femtos == y->rates[k].femtos;
    }
    return same;
}

static void book_check(const struct price_book *book)
{
    struct price_book *back = NULL;
    struct buffer bytes;
    struct err err = {0};
    for (size_t i = 0; i < book->entry_count; i++) {
        assert(i == 0 || sv_cmp(book->entries[i - 1].key, book->entries[i].key) < 0);
        entry_check(book, &book->entries[i]);
        if (i < 4)
            rate_check(book, &book->entries[i], i % 2 == 0 ? 123456 : INT64_MAX / 4);
    }
    buffer_init(&bytes, LIMIT_PRICE_BOOK_BYTES);
    if (!avro_encode_price_book(book, &bytes, &err))
        fuzz_fail(err.text);
    if (!avro_decode_price_book(buffer_view(&bytes), &back, &err))
        fuzz_fail(err.text);
    assert(book_same(book, back));
    price_book_free(back);
    buffer_free(&bytes);
}

static void diff_check(const struct price_book *from, const struct price_book *to)
{
    struct price_diff there;
    struct price_diff back;
    struct price_diff none;
    struct arena a;
    arena_init(&a, ARENA_ROOM);
    assert(price_diff_make(from, to, &a, &there) && price_diff_make(to, from, &a, &back));
    assert(price_diff_make(to, to, &a, &none) && none.change_count == 0 &&
           none.added + none.changed + none.removed == 0);
    assert(there.added == back.removed && there.removed == back.added && there.changed == back.changed);
    assert(there.change_count + there.left_out >= there.added + there.changed + there.removed);
    assert((there.change_count == 0) == book_same(from, to));
    arena_free(&a);
}

static void list_check(struct price_book *from, struct price_book *to)
{
    struct price_list *list = NULL;
    struct err err = {0};
    to->version = 8;
    to->effective_from = to->recorded_at = 1000;
    assert(price_list_new(&list, &err));
    assert(price_list_put(list, to, &err) && price_list_put(list, from, &err));
    assert(price_list_find(list, 999, 5000) == from && price_list_find(list, 1000, 5000) == to);
    assert(price_list_find(list, 1000, 999) == from && price_list_newest(list) == 8);
    price_list_free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct strview in = {(const char *)data, size};
    struct price_book *from = parse(fuzz_part(&in));
    struct price_book *to = parse(in);
    if (from != NULL)
        book_check(from);
    if (to != NULL)
        book_check(to);
    if (from != NULL && to != NULL) {
        diff_check(from, to);
        list_check(from, to);
        return 0;
    }
    price_book_free(from);
    price_book_free(to);
    return 0;
}
