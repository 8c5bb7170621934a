/*
 * usage_map: which number of a provider's usage object is which usage class, by operation. One table, pure.
 */
#ifndef SPEND_INGEST_USAGE_MAP_H
#define SPEND_INGEST_USAGE_MAP_H

#include "spend/spend_call.h"

enum usage_role {
    USAGE_ROLE_CLASS,     /* stands for itself */
    USAGE_ROLE_IN_PART,   /* its class, and contained in the input total */
    USAGE_ROLE_OUT_PART,  /* its class, and contained in the output total */
    USAGE_ROLE_WRITTEN,   /* a part of the input: all cache writes, those for an hour too */
    USAGE_ROLE_IN_TOTAL,  /* its class = it - the parts */
    USAGE_ROLE_OUT_TOTAL, /* the same */
    USAGE_ROLE_TOTAL,     /* checked: input total + output total */
    USAGE_ROLE_ELSE,      /* its class, where no other number of the call is above zero */
};

struct usage_row {
    struct strview path; /* within the usage object: "prompt_tokens_details.cached_tokens" */
    enum usage_role role;
    enum usage_class class;
};

#define USAGE_ROWS_MAX 16

/* Numbers that stand outside a usage object. */
#define USAGE_PATH_DATA       "/data"       /* items of the reply's `data` */
#define USAGE_PATH_DURATION   "/duration"   /* the reply's own, in seconds */
#define USAGE_PATH_CHARACTERS "/characters" /* of the request's `input` */

struct usage_table {
    const struct usage_row *row;
    size_t count;          /* 0: nothing is read for this operation */
    bool reasoning_beside; /* the provider counts reasoning beside the output, not within */
};

/* provider: as in the price file; null when it is not known. */
struct usage_table usage_map(enum spend_operation operation, struct strview provider);

/* Where tokens in and out can be estimated by the text that went in and out. */
bool usage_is_text(enum spend_operation operation);

/*
 * The disjoint classes from the rows' values. Two rows of one class (a provider's old and new name): the
 * later one. A missing number stays null. *mismatch: parts exceed their total, or the totals' sum is not the
 * provider's.
 */
void usage_resolve(const struct usage_table *table, const struct opt_i64 *value, struct usage *out,
                   bool *mismatch);

#endif
