#include "price_import.h"

#include "base/limits.h"
#include "base/money.h"
#include "pg_query.h"
#include "spend/avro_codec.h"
#include <stdio.h>

#define REPORT_BYTES (4 << 20)

bool price_import_read(struct price_import_draft *draft, struct strview file, struct err *err)
{
    *draft = (struct price_import_draft){.book = NULL};
    if (!price_book_parse(&draft->book, file, &draft->report, err))
        return false;
    for (size_t i = 0; i < draft->book->entry_count; i++) {
        if (draft->book->entries[i].rate_count > 0)
            return true;
    }
    /* some other JSON, an error page: as a book it would leave every call without a price */
    return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "price file: no entry of it has a price");
}

bool price_import_compare(struct price_import_draft *draft, const struct price_book *stands, int64_t newest,
                          struct err *err)
{
    draft->before = newest;
    if (!price_diff_make(stands, draft->book, &draft->book->arena, &draft->diff))
        return err_set(err, ERR_MEMORY, FATE_DEAD_LETTER, "price file: out of memory, or too large");
    /* a file that an earlier release read otherwise is another book */
    draft->same = stands != NULL && sv_eq(stands->sha256, draft->book->sha256) &&
                  draft->diff.added + draft->diff.changed + draft->diff.removed == 0;
    return true;
}

void price_import_free(struct price_import_draft *draft)
{
    price_book_free(draft->book);
    draft->book = NULL;
}

static void view_count(struct json_write *w, const char *key, size_t n)
{
    json_write_key(w, key);
    json_write_i64(w, (int64_t)n);
}

static void view_notes(struct json_write *w, const char *key, const struct price_import_note *notes,
                       size_t count)
{
    json_write_key(w, key);
    json_write_open(w, '[');
    for (size_t i = 0; i < count; i++) {
        json_write_open(w, '{');
        json_write_key(w, "key");
        json_write_sv(w, notes[i].key);
        json_write_key(w, "name");
        json_write_sv(w, notes[i].name);
        json_write_key(w, "what");
        json_write_str(w, notes[i].what);
        json_write_close(w, '}');
    }
    json_write_close(w, ']');
}

/* Prices in femto-USD a unit, as decimal text of USD; null: new, or gone. */
static void view_price(struct json_write *w, const char *key, struct opt_i64 femtos)
{
    char text[MONEY_TEXT_MAX];
    json_write_key(w, key);
    if (femtos.has)
        json_write_sv(w, sv_of_bytes(text, money_format_scaled(femtos.v, RATE_SCALE, text)));
    else
        json_write_null(w);
}

static void view_changes(struct json_write *w, const struct price_diff *diff)
{
    json_write_key(w, "changes");
    json_write_open(w, '[');
    for (size_t i = 0; i < diff->change_count; i++) {
        const struct price_change *change = &diff->changes[i];
        json_write_open(w, '{');
        json_write_key(w, "key");
        json_write_sv(w, change->key);
        json_write_key(w, "what");
        json_write_str(w, !sv_is_null(change->name) ? "changed" : change->is_new ? "added" : "removed");
        json_write_key(w, "name");
        json_write_sv(w, change->name);
        view_price(w, "from", change->from);
        view_price(w, "to", change->to);
        json_write_close(w, '}');
    }
    json_write_close(w, ']');
    view_count(w, "changes_left_out", diff->left_out);
}

void price_import_view(struct json_write *w, const struct price_import_draft *draft)
{
    view_count(w, "added", draft->diff.added);
    view_count(w, "changed", draft->diff.changed);
    view_count(w, "removed", draft->diff.removed);
    view_changes(w, &draft->diff);
    view_notes(w, "rounded", draft->report.rounded, draft->report.rounded_count);
    view_notes(w, "skipped", draft->report.skipped, draft->report.skipped_count);
}

static bool put_book(struct pg_session *pg, const struct price_book *book, const struct config_stamp *stamp,
                     struct strview report, struct strview record, struct err *err)
{
    return pg_query(
        pg,
        "INSERT INTO price_book (version, effective_from, recorded_at, source, sha256, report, record,"
        " config_version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        PG_ARGS(PG_I64(book->version), PG_TIME(book->effective_from), PG_TIME(book->recorded_at),
                PG_TEXT(book->source), PG_TEXT(book->sha256), PG_JSON(report), PG_BYTES(record),
                PG_I64(stamp->version)),
        NULL, err);
}

static bool copy_entry(struct pg_session *pg, int64_t version, const struct price_entry *e,
                       struct pg_fields *row, struct arena *scratch, struct err *err)
{
    arena_reset(scratch);
    struct strview *names = arena_alloc(scratch, (e->rate_count + 1) * sizeof *names);
    int64_t *femtos = arena_alloc(scratch, (e->rate_count + 1) * sizeof *femtos);
    if (names == NULL || femtos == NULL)
        return err_set(err, ERR_FULL, FATE_DEAD_LETTER, "price file: an entry has too many prices");
    for (size_t i = 0; i < e->rate_count; i++) {
        names[i] = e->rates[i].name;
        femtos[i] = e->rates[i].femtos;
    }
    pg_fields_clear(row);
    pg_put_i64(row, version);
    pg_put_text(row, e->key);
    pg_put_text(row, e->provider);
    pg_put_text(row, e->mode);
    pg_put_text_array(row, names, e->rate_count);
    pg_put_i64_array(row, femtos, e->rate_count);
    return pg_copy_row(pg, row, err);
}

static bool put_prices(struct pg_session *pg, const struct price_book *book, struct err *err)
{
    struct pg_fields row;
    struct arena scratch;
    pg_fields_init(&row);
    arena_init(&scratch, LIMIT_PRICE_BOOK_BYTES);
    bool ok = pg_copy_begin(
        pg, "COPY price (version, key, provider, mode, names, femtos) FROM STDIN (FORMAT binary)", err);
    for (size_t i = 0; ok && i < book->entry_count; i++)
        ok = copy_entry(pg, book->version, &book->entries[i], &row, &scratch, err);
    ok = ok && pg_copy_end(pg, err);
    pg_fields_free(&row);
    arena_free(&scratch);
    return ok;
}

/* The audit keeps which file it was; the report is in the book's row. */
static bool audit(struct pg_session *pg, const struct price_book *book, const char *actor, struct err *err)
{
    char version[MONEY_TEXT_MAX];
    char detail[SHA256_HEX_LEN + 20];
    size_t len = money_format_scaled(book->version, 0, version);
    int size = snprintf(detail, sizeof detail, "{\"sha256\":\"" SV_FMT "\"}", SV_ARG(book->sha256));
    return config_write_audit(pg, actor, "post prices", (struct strview){version, len},
                              (struct strview){detail, (size_t)size}, err);
}

bool price_import_put(struct pg_session *pg, struct price_import_draft *draft,
                      const struct config_stamp *stamp, int64_t effective_from, struct strview source,
                      const char *actor, struct err *err)
{
    bool ok = false;
    struct price_book *book = draft->book;
    struct buffer record, report;
    struct json_write w;
    buffer_init(&record, LIMIT_PRICE_BOOK_BYTES);
    buffer_init(&report, REPORT_BYTES);
    json_write_init(&w, &report);
    book->version = draft->before + 1;
    book->effective_from = effective_from;
    book->recorded_at = stamp->recorded_at;
    if (!arena_dup(&book->arena, source, &book->source)) {
        err_set(err, ERR_FULL, FATE_DEAD_LETTER, "price file: too large");
        goto done;
    }
    json_write_open(&w, '{');
    price_import_view(&w, draft);
    json_write_close(&w, '}');
    if (!json_write_ok(&w)) {
        err_set(err, ERR_FULL, FATE_DEAD_LETTER, "price file: its report is too long");
        goto done;
    }
    ok = avro_encode_price_book(book, &record, err) &&
         put_book(pg, book, stamp, buffer_view(&report), buffer_view(&record), err) &&
         put_prices(pg, book, err) &&
         config_write_book(pg, stamp, book->version, buffer_view(&record), err) &&
         audit(pg, book, actor, err);
done:
    buffer_free(&record);
    buffer_free(&report);
    return ok;
}
