#include "price_store.h"

#include "config_write.h"
#include "pg_query.h"
#include "price_file.h"
#include "price_import.h"
#include "spend/avro_codec.h"
#include <stdlib.h>

struct price_store {
    struct price_list *list;
};

bool price_store_new(struct price_store **out, struct err *err)
{
    struct price_store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "price_store: out of memory");
    if (!price_list_new(&s->list, err)) {
        free(s);
        return false;
    }
    *out = s;
    return true;
}

void price_store_free(struct price_store *s)
{
    if (s == NULL)
        return;
    price_list_free(s->list);
    free(s);
}

static bool load(struct price_store *s, struct pg_session *pg, int64_t version, struct err *err)
{
    struct price_book *book;
    struct pg_rows *rows = NULL;
    bool ok = pg_query(pg, "SELECT record FROM price_book WHERE version = $1", PG_ARGS(PG_I64(version)),
                       &rows, err);
    if (ok && pg_rows_count(rows) == 0)
        ok = err_set(err, ERR_NOT_FOUND, FATE_FATAL, "price_store: there is no price book %lld",
                     (long long)version);
    ok = ok && avro_decode_price_book(pg_get(rows, 0, 0), &book, err) && price_list_put(s->list, book, err);
    pg_rows_free(rows);
    return ok;
}

bool price_store_book(struct price_store *s, struct pg_session *pg, int64_t version,
                      const struct price_book **out, struct err *err)
{
    *out = price_list_version(s->list, version);
    if (*out == NULL && !load(s, pg, version, err))
        return false;
    *out = price_list_version(s->list, version);
    return true;
}

/* Under the configuration lock nobody else can be putting in a first book. */
static bool put_first(struct pg_session *pg, struct price_import_draft *draft, bool *loaded, struct err *err)
{
    struct config_stamp stamp;
    struct pg_rows *rows = NULL;
    if (!pg_session_begin(pg, err) || !config_write_begin(pg, &stamp, err) ||
        !pg_session_query(pg, "SELECT count(*) FROM price_book", NULL, &rows, err))
        return false;
    *loaded = pg_get_i64(rows, 0, 0) == 0;
    pg_rows_free(rows);
    if (!*loaded)
        return true;
    return price_import_read(draft, price_file(), err) && price_import_compare(draft, NULL, 0, err) &&
           price_import_put(pg, draft, &stamp, 0, SV_LIT(PRICE_FILE_SOURCE), "migrate", err) &&
           pg_session_commit(pg, err);
}

bool price_store_load_first(struct pg_session *pg, bool *loaded, struct err *err)
{
    struct price_import_draft draft = {.book = NULL};
    bool did = false;
    bool ok = put_first(pg, &draft, &did, err);
    pg_session_rollback(pg);
    price_import_free(&draft);
    if (loaded != NULL)
        *loaded = ok && did;
    return ok;
}
