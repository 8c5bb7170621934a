/*
 * twin: the line protocol, and the commands that hold state or only decode and encode.
 */
#include "twin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spend/avro_codec.h"

#define ARENA_BYTES ((size_t)64 << 20)
#define OUT_BYTES   ((size_t)64 << 20)

static void give_up(const char *why)
{
    (void)fprintf(stderr, "spend-twin: %s\n", why);
    abort();
}

struct strview twin_bytes(struct twin *t, size_t word)
{
    if (word >= t->word_count)
        give_up("a word is missing");
    struct strview hex = t->words[word];
    if (sv_eq(hex, SV_LIT("-")))
        return SV_NULL;
    size_t len = (hex.len - 1) / 2;
    uint8_t *bytes = arena_alloc(&t->arena, len + 1);
    if (bytes == NULL || hex.ptr[0] != 'x' ||
        !sha256_from_hex(sv_of_bytes(hex.ptr + 1, hex.len - 1), bytes, len))
        give_up("not hex");
    return sv_of_bytes(bytes, len);
}

int64_t twin_number(const struct twin *t, size_t word)
{
    int64_t n = 0;
    if (word >= t->word_count || !sv_to_i64(t->words[word], &n))
        give_up("not a number");
    return n;
}

void twin_say(struct twin *t, const char *text)
{
    if (!buffer_printf(&t->out, "%s%s", t->out.len == 0 ? "" : " ", text))
        give_up("the answer is too long");
}

void twin_say_bytes(struct twin *t, struct strview bytes)
{
    if (sv_is_null(bytes)) {
        twin_say(t, "-");
        return;
    }
    twin_say(t, "x");
    char *hex = buffer_reserve(&t->out, 2 * bytes.len + 1);
    if (hex == NULL)
        give_up("the answer is too long");
    sha256_to_hex((const uint8_t *)bytes.ptr, bytes.len, hex);
    buffer_grew(&t->out, 2 * bytes.len);
}

void twin_say_number(struct twin *t, int64_t n)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%lld", (long long)n);
    twin_say(t, text);
}

static void must(bool ok, const struct err *err)
{
    if (!ok)
        give_up(err->text);
}

static void state_open(struct twin *t)
{
    struct err err;
    must(registry_new(&t->registry, &err), &err);
    must(price_list_new(&t->prices, &err), &err);
}

static void state_close(struct twin *t)
{
    registry_free(t->registry);
    price_list_free(t->prices);
}

static void command_reset(struct twin *t)
{
    state_close(t);
    state_open(t);
    twin_say(t, "ok");
}

static void command_registry(struct twin *t)
{
    struct registry_record record;
    struct err err;
    must(avro_decode_registry_record(twin_bytes(t, 1), &t->arena, &record, &err), &err);
    must(registry_put(t->registry, &record, &err), &err);
    twin_say(t, "ok");
}

static void command_prices(struct twin *t)
{
    struct price_book *book = NULL;
    struct err err;
    must(avro_decode_price_book(twin_bytes(t, 1), &book, &err), &err);
    must(price_list_put(t->prices, book, &err), &err);
    twin_say(t, "ok");
}

static void say_encoded(struct twin *t, bool encoded, const struct buffer *bytes, const struct err *err)
{
    if (encoded)
        twin_say_bytes(t, buffer_view(bytes));
    else
        twin_say_bytes(t, sv_of(err->text));
}

#define RECODE(kind, type)                                                                                   \
    if (sv_eq(t->words[1], SV_LIT(#kind))) {                                                                 \
        struct type value;                                                                                   \
        if (!avro_decode_##kind(bytes, &t->arena, &value, &err))                                             \
            twin_say(t, "malformed");                                                                        \
        else                                                                                                 \
            say_encoded(t, avro_encode_##kind(&value, &out, &err), &out, &err);                              \
    }

static void recode_price_book(struct twin *t, struct strview bytes, struct buffer *out)
{
    struct price_book *book = NULL;
    struct err err;
    if (avro_decode_price_book(bytes, &book, &err))
        say_encoded(t, avro_encode_price_book(book, out, &err), out, &err);
    else
        twin_say(t, "malformed");
    price_book_free(book);
}

/* Decoded and encoded again. */
static void command_recode(struct twin *t)
{
    struct err err;
    struct buffer out;
    struct strview bytes = twin_bytes(t, 2);
    buffer_init(&out, OUT_BYTES);
    RECODE(spend_call, spend_call)
    RECODE(attributed_call, attributed_call)
    RECODE(dead_letter, dead_letter)
    RECODE(ledger_entry, ledger_entry)
    RECODE(registry_record, registry_record)
    RECODE(instance, instance)
    RECODE(budget_state, budget_state)
    if (sv_eq(t->words[1], SV_LIT("price_book")))
        recode_price_book(t, bytes, &out);
    buffer_free(&out);
}

/* A price file's bytes as a PriceBook record. */
static void command_import(struct twin *t)
{
    struct price_book *book = NULL;
    struct price_import report;
    struct err err;
    struct buffer out;
    buffer_init(&out, OUT_BYTES);
    if (price_book_parse(&book, twin_bytes(t, 1), &report, &err)) {
        book->version = 1;
        book->source = SV_LIT("");
        say_encoded(t, avro_encode_price_book(book, &out, &err), &out, &err);
    } else {
        twin_say(t, "refused");
    }
    price_book_free(book);
    buffer_free(&out);
}

static const struct {
    const char *name;
    void (*run)(struct twin *t);
} commands[] = {
    {"reset", command_reset},      {"registry", command_registry},
    {"prices", command_prices},    {"recode", command_recode},
    {"import", command_import},    {"check", twin_check},
    {"hash", twin_hash},           {"tags", twin_tags},
    {"attribute", twin_attribute}, {"rate", twin_rate},
    {"fold", twin_fold},           {"move", twin_move},
    {"money", twin_money},
};

static void line_run(struct twin *t, struct strview line)
{
    arena_reset(&t->arena);
    buffer_clear(&t->out);
    t->word_count = 0;
    for (struct strview rest = line; !sv_is_null(rest);) {
        if (t->word_count == TWIN_WORDS_MAX)
            give_up("too many words");
        t->words[t->word_count++] = sv_cut(rest, ' ', &rest);
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (sv_eq(t->words[0], sv_of(commands[i].name))) {
            commands[i].run(t);
            (void)fwrite(t->out.data, 1, t->out.len, stdout);
            (void)fputc('\n', stdout);
            return;
        }
    }
    give_up("an unknown command");
}

int main(void)
{
    struct twin *t = calloc(1, sizeof *t);
    struct err err;
    char *line = NULL;
    size_t room = 0;
    ssize_t len = 0;
    if (t == NULL)
        give_up("out of memory");
    must(avro_codec_open(&err), &err);
    arena_init(&t->arena, ARENA_BYTES);
    buffer_init(&t->out, OUT_BYTES);
    t->sha = sha256_new();
    state_open(t);
    while ((len = getline(&line, &room, stdin)) > 0) {
        if (line[len - 1] == '\n')
            len--;
        line_run(t, sv_of_bytes(line, (size_t)len));
    }
    state_close(t);
    free(line);
    sha256_free(t->sha);
    buffer_free(&t->out);
    arena_free(&t->arena);
    free(t);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
