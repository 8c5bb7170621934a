/*
 * price_import: a price file on its way in: read, compared with the book before it, and put in as the next
 * version. Owns a draft's book and comparison. Refuses a file that it cannot read whole. Knows nothing of
 * HTTP.
 */
#ifndef SPEND_LEDGER_PRICE_IMPORT_H
#define SPEND_LEDGER_PRICE_IMPORT_H

#include "base/json_write.h"
#include "config_write.h"
#include "spend/price_diff.h"

struct price_import_draft {
    struct price_book *book; /* version, times and source are set by price_import_put */
    struct price_import report;
    struct price_diff diff; /* from the book it was compared with */
    int64_t before;         /* the newest version, 0 = none */
    bool same;              /* it is that book's very file */
};

/* Reads the file. ERR_* of price_book_parse with FATE_DEAD_LETTER: the file is at fault. Free the draft. */
bool price_import_read(struct price_import_draft *draft, struct strview file, struct err *err) NODISCARD;
/* Compares with the book that it would take over from, NULL when there is none. newest: the version before.
 */
bool price_import_compare(struct price_import_draft *draft, const struct price_book *stands, int64_t newest,
                          struct err *err) NODISCARD;
void price_import_free(struct price_import_draft *draft);

/* Inside the transaction of `stamp`: rows, audit, outbox. Sets the book's version, times and source. */
bool price_import_put(struct pg_session *pg, struct price_import_draft *draft,
                      const struct config_stamp *stamp, int64_t effective_from, struct strview source,
                      const char *actor, struct err *err) NODISCARD;

/* Members added, changed, removed, changes, changes_left_out, rounded, skipped, into an open object. */
void price_import_view(struct json_write *w, const struct price_import_draft *draft);

#endif
