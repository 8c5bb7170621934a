/*
 * ingest_options: the table's rows and the rules between options.
 */
#include "ingest/ingest_options.h"

#include "ingest/upstream.h"

#include <string.h>

#define INGEST_ROW(...) OPTION_ROW(struct ingest_options, __VA_ARGS__)
static const struct option_row rows[] = {INGEST_OPTIONS(INGEST_ROW)};

static bool options_agree(const void *options, const struct options_rest *rest, struct err *err)
{
    (void)rest;
    const struct ingest_options *o = options;
    struct upstream_address address;
    if (strcmp(o->gate, "off") != 0 && o->ledger_url == NULL)
        return err_set(err, ERR_INVALID, FATE_FATAL, "--gate=%s needs --ledger-url, the ledger's API",
                       o->gate);
    if (o->journal_bytes < 2 * o->journal_segment_bytes)
        return err_set(err, ERR_INVALID, FATE_FATAL,
                       "--journal-bytes must hold at least two segments (--journal-segment-bytes)");
    if (strcmp(o->proxy_log, "bill") == 0 && o->spend_log_secret == NULL)
        return err_set(err, ERR_INVALID, FATE_FATAL,
                       "--proxy-log=bill needs --spend-log-secret: without it a call that was captured here "
                       "cannot be told from one that was not, and would be billed twice");
    return upstream_address_parse(o->upstream_url, &address, err);
}

const struct options_spec ingest_options_spec = {
    .program = "spend-ingest",
    .summary = "stands in front of an LLM proxy and records each call with the caller's own tags",
    .rows = rows,
    .count = OPTION_COUNT(rows),
    .check = options_agree,
};
