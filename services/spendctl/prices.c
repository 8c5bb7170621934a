#include "command.h"

#include "base/buffer.h"
#include "base/limits.h"
#include "ledger_client.h"
#include "progress.h"
#include "table_print.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LIMIT_DEFAULT 100
#define NOTES_SHOWN   10
#define CHANGES_SHOWN 40

/* The whole file; "-" is standard input. false: said. */
static bool read_file(const char *name, struct buffer *out)
{
    ssize_t got = -1;
    int fd = strcmp(name, "-") == 0 ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    while (fd >= 0) {
        char *room = buffer_reserve(out, 1 << 16);
        if (room == NULL) {
            (void)fprintf(stderr, "spendctl: %s is larger than the %d bytes a price file may have\n", name,
                          LIMIT_PRICE_BOOK_BYTES);
            break;
        }
        got = read(fd, room, 1 << 16);
        if (got <= 0)
            break;
        buffer_grew(out, (size_t)got);
    }
    if (got < 0 && out->len + (1 << 16) <= out->cap)
        (void)fprintf(stderr, "spendctl: cannot read %s: %s\n", name, strerror(errno));
    if (fd > STDIN_FILENO)
        close(fd);
    return got == 0;
}

static void print_notes(const json_t *notes, const char *what)
{
    size_t i;
    const json_t *note;
    if (json_array_size(notes) == 0)
        return;
    printf("\n%zu %s\n", json_array_size(notes), what);
    struct table t;
    table_begin(&t, "entry", "price", "why", NULL);
    json_array_foreach(notes, i, note)
    {
        if (i < NOTES_SHOWN)
            table_row(&t, ledger_text(note, "key"), ledger_text(note, "name"), ledger_text(note, "what"));
    }
    table_end(&t);
    if (json_array_size(notes) > NOTES_SHOWN)
        puts("  .. --json shows all");
}

static void print_changes(const json_t *report)
{
    struct table t;
    size_t i;
    const json_t *change;
    const json_t *changes = json_object_get(report, "changes");
    if (json_array_size(changes) == 0)
        return;
    puts("");
    table_begin(&t, "entry", "what", "price", ">USD a unit before", ">after", NULL);
    json_array_foreach(changes, i, change)
    {
        if (i < CHANGES_SHOWN)
            table_row(&t, ledger_text(change, "key"), ledger_text(change, "what"),
                      ledger_text(change, "name"), ledger_text(change, "from"), ledger_text(change, "to"));
    }
    table_end(&t);
    if (json_array_size(changes) > CHANGES_SHOWN)
        puts("  .. --json shows up to 1,000");
}

static int print_import(const struct invocation *in, json_t *report)
{
    if (in->json)
        return ledger_print(report);
    if (json_is_true(json_object_get(report, "unchanged")))
        printf("This file is price book %" PRId64 " already: nothing changes.\n",
               ledger_number(report, "version"));
    else if (json_is_true(json_object_get(report, "dry_run")))
        printf("It would be price book %" PRId64 ". Nothing was changed.\n",
               ledger_number(report, "version"));
    else
        printf("Price book %" PRId64 " holds from %s.\n", ledger_number(report, "version"),
               ledger_text(report, "effective_from"));
    table_fact("added", "%" PRId64, ledger_number(report, "added"));
    table_fact("changed", "%" PRId64, ledger_number(report, "changed"));
    table_fact("removed", "%" PRId64, ledger_number(report, "removed"));
    print_changes(report);
    print_notes(json_object_get(report, "rounded"), "prices rounded to a femto-USD");
    print_notes(
        json_object_get(report, "skipped"),
        "entries without a price (calls at them are free, and said to be assumed), or that are no entries");
    json_decref(report);
    return EXIT_FINE;
}

int prices_import(const struct invocation *in)
{
    char path[LEDGER_PATH_BYTES];
    struct buffer file;
    json_t *report = NULL;
    const char *name = in->operand[0];
    const char *base = strrchr(name, '/') == NULL ? name : strrchr(name, '/') + 1;
    const char *dry = command_value(in, "dry-run") == NULL ? "false" : "true";
    const char *from = command_value(in, "effective-from");
    buffer_init(&file, LIMIT_PRICE_BOOK_BYTES);
    if (read_file(name, &file)) {
        progress_say("importing %zu KiB of prices ..", file.len >> 10);
        if (from == NULL)
            ledger_path(path, "/v1/prices?source={}&dry_run={}", base, dry, NULL);
        else
            ledger_path(path, "/v1/prices?source={}&dry_run={}&effective_from={}", base, dry, from, NULL);
        report = ledger_send("POST", path, buffer_view(&file));
        progress_end();
    }
    buffer_free(&file);
    return report == NULL ? EXIT_FAILED : print_import(in, report);
}

int prices_list(const struct invocation *in)
{
    int64_t limit = LIMIT_DEFAULT;
    json_t *list = command_limit(in, INT64_MAX, &limit) ? ledger_list("/v1/prices", limit) : NULL;
    if (list == NULL)
        return EXIT_FAILED;
    if (in->json)
        return ledger_print(list);
    struct table t;
    char number[3][24];
    size_t i;
    const json_t *book;
    table_begin(&t, ">book", "holds from", "recorded at", ">entries", ">changed", "source", NULL);
    json_array_foreach(json_object_get(list, "items"), i, book)
    {
        (void)snprintf(number[0], sizeof number[0], "%" PRId64, ledger_number(book, "version"));
        (void)snprintf(number[1], sizeof number[1], "%" PRId64, ledger_number(book, "entries"));
        (void)snprintf(number[2], sizeof number[2], "%" PRId64, ledger_number(book, "changed"));
        table_row(&t, number[0], ledger_text(book, "effective_from"), ledger_text(book, "recorded_at"),
                  number[1], number[2], ledger_text(book, "source"));
    }
    table_end(&t);
    json_decref(list);
    return EXIT_FINE;
}

int prices_show(const struct invocation *in)
{
    char path[LEDGER_PATH_BYTES];
    const char *book = command_value(in, "book");
    json_t *model = ledger_get(
        ledger_path(path, "/v1/prices/{}/models/{}", book == NULL ? "current" : book, in->operand[0], NULL));
    if (model == NULL)
        return EXIT_FAILED;
    if (in->json)
        return ledger_print(model);
    struct table t;
    size_t i;
    const json_t *rate;
    printf("Model %s in price book %" PRId64 "%s\n", ledger_text(model, "model"),
           ledger_number(model, "version"),
           book == NULL ? ", which holds now (one that waits for its time: spendctl prices list)" : "");
    table_fact("alias of", "%s", ledger_text(model, "alias_of"));
    table_fact("entry", "%s", ledger_text(model, "price_key"));
    table_fact("provider", "%s, mode %s", ledger_text(model, "provider"), ledger_text(model, "mode"));
    puts("");
    table_begin(&t, "price", ">USD a unit", NULL);
    json_array_foreach(json_object_get(model, "rates"), i, rate)
        table_row(&t, ledger_text(rate, "name"), ledger_text(rate, "price"));
    table_end(&t);
    json_decref(model);
    return EXIT_FINE;
}
