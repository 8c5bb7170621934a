/*
 * outbox: rows of table outbox.
 */
#include "outbox.h"

#include "spend/avro_codec.h"
#include <stdio.h>

#define CE_TYPE "spend.dead_letter"

const char outbox_entries_sql[] =
    "INSERT INTO outbox (accounts, first_seqs, counts, windows) VALUES ($1, $2, $3, $4)";

bool outbox_copy_begin(struct pg_session *pg, struct err *err)
{
    return pg_copy_begin(pg, "COPY outbox (topic, key, value, ce_id, ce_type, ce_time) FROM STDIN BINARY",
                         err);
}

/* A record that fills its topic has no room beside a dead letter's own fields: the rest is where origin
 * points. */
static bool encode(const struct dead_letter *letter, struct buffer *out, struct err *err)
{
    char detail[LIMIT_DETAIL_BYTES];
    struct dead_letter cut = *letter;
    if (avro_encode_dead_letter(letter, out, err))
        return true;
    if (err->code != ERR_FULL || cut.original.len <= OUTBOX_ORIGINAL_BYTES)
        return false;
    cut.original.len = OUTBOX_ORIGINAL_BYTES;
    size_t kept = letter->detail.len < sizeof detail - 80 ? letter->detail.len : sizeof detail - 80;
    (void)snprintf(detail, sizeof detail, "%.*s (original cut at %zu of %zu bytes)", (int)kept,
                   letter->detail.ptr, cut.original.len, letter->original.len);
    cut.detail = sv_of(detail);
    cut.detail.len = sv_utf8_prefix(cut.detail);
    return avro_encode_dead_letter(&cut, out, err);
}

bool outbox_copy_put(struct pg_session *pg, struct pg_fields *scratch, const struct dead_letter *letter,
                     enum dead_reason reason, struct strview key, int64_t now_us, struct err *err)
{
    char id[128];
    struct buffer value;
    buffer_init(&value, LIMIT_DEAD_LETTER_BYTES);
    bool ok = encode(letter, &value, err);
    if (ok) {
        (void)snprintf(id, sizeof id, SV_FMT "/%d/%lld%s", SV_ARG(letter->origin.topic),
                       letter->origin.partition, (long long)letter->origin.offset,
                       letter->kind == DEAD_KIND_NOTICE ? "/notice" : "");
        pg_fields_clear(scratch);
        pg_put_str(scratch, dead_reasons[reason].topic);
        if (key.len > OUTBOX_KEY_BYTES)
            key.len = OUTBOX_KEY_BYTES;
        pg_put_bytes(scratch, key);
        pg_put_bytes(scratch, buffer_view(&value));
        pg_put_str(scratch, id);
        pg_put_str(scratch, CE_TYPE);
        pg_put_time(scratch, now_us);
        ok = pg_copy_row(pg, scratch, err);
    }
    buffer_free(&value);
    return ok;
}
