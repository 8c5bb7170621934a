/*
 * twin: one line in, one line out. Words are separated by one blank; bytes are hex behind an 'x', null is
 * "-". State: the registry and the price list that `registry` and `prices` fill, until `reset`.
 */
#ifndef SPEND_TESTS_TWIN_H
#define SPEND_TESTS_TWIN_H

#include "base/buffer.h"
#include "spend/price_book.h"
#include "spend/registry.h"

#define TWIN_WORDS_MAX 4096

struct twin {
    struct registry *registry;
    struct price_list *prices;
    struct arena arena; /* of the line at hand */
    struct sha256 *sha;
    struct strview words[TWIN_WORDS_MAX];
    size_t word_count;
    struct buffer out;
};

/* Words. Aborts on what the driver may not send. */
struct strview twin_bytes(struct twin *t, size_t word);
int64_t twin_number(const struct twin *t, size_t word);

/* The answer's words. */
void twin_say(struct twin *t, const char *text);
void twin_say_bytes(struct twin *t, struct strview bytes);
void twin_say_number(struct twin *t, int64_t n);

/* Rules; each answers one line. */
void twin_check(struct twin *t);
void twin_hash(struct twin *t);
void twin_tags(struct twin *t);
void twin_attribute(struct twin *t);
void twin_rate(struct twin *t);
void twin_fold(struct twin *t);
void twin_move(struct twin *t);
void twin_money(struct twin *t);

#endif
