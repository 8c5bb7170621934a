/*
 * apply_offset: the row of consumer_offset, and the bounds of the partition against it.
 */
#include "apply_offset.h"

#include "pg_query.h"
#include <string.h>

#define CLUSTER_ID_MS 5000

static const char offset_insert_sql[] =
    "INSERT INTO consumer_offset (stream, topic, partition, next, cluster_id) VALUES ($1, $2, $3, 0, $4) "
    "ON CONFLICT DO NOTHING";
static const char offset_select_sql[] =
    "SELECT next, cluster_id, last_offset, last_sha256 FROM consumer_offset "
    "WHERE stream = $1 AND topic = $2 AND partition = $3";

/* A row that is there is only read: an INSERT would wait for whoever is updating it, be it for ever. */
static bool select_offset(const struct apply_offsets *o, const struct consumer_partition *part,
                          struct pg_rows **rows, struct err *err)
{
    return pg_query(o->pg, offset_select_sql,
                    PG_ARGS(PG_STR(o->stream), PG_STR(part->topic), PG_I32(part->partition)), rows, err);
}

/* The stored offset; a partition that was never read gets a row and 0. */
static bool read_offset(const struct apply_offsets *o, const struct consumer_partition *part,
                        struct strview cluster, struct apply_offset *out, struct err *err)
{
    struct pg_rows *rows = NULL;
    *out = (struct apply_offset){0};
    bool ok = select_offset(o, part, &rows, err);
    if (ok && pg_rows_count(rows) == 0) {
        pg_rows_free(rows);
        rows = NULL;
        ok = pg_query(
                 o->pg, offset_insert_sql,
                 PG_ARGS(PG_STR(o->stream), PG_STR(part->topic), PG_I32(part->partition), PG_TEXT(cluster)),
                 NULL, err) &&
             select_offset(o, part, &rows, err);
    }
    if (ok && !sv_eq(pg_get(rows, 0, 1), cluster))
        ok = err_set(err, ERR_CONFLICT, FATE_FATAL,
                     "%s/%d was read from Kafka cluster " SV_FMT " and this is " SV_FMT
                     ": connect to that cluster, or start a new stream (--stream)",
                     part->topic, part->partition, SV_ARG(pg_get(rows, 0, 1)), SV_ARG(cluster));
    if (ok) {
        struct opt_i64 last = pg_get_opt_i64(rows, 0, 2);
        struct strview sha256 = pg_get(rows, 0, 3);
        out->next = pg_get_i64(rows, 0, 0);
        out->has_last = last.has && last.v == out->next - 1 && sha256.len == SHA256_LEN;
        if (out->has_last)
            memcpy(out->last_sha256, sha256.ptr, SHA256_LEN);
    }
    pg_rows_free(rows);
    return ok;
}

/* Records between what was applied and what is still there would be money lost in silence. */
static bool check_bounds(const struct apply_offsets *o, const struct consumer_partition *part,
                         struct apply_offset *stored, struct err *err)
{
    int64_t low = 0;
    int64_t high = 0;
    const int64_t next = stored->next;
    if (next == 0)
        return true;
    if (!consumer_bounds(o->consumer, part->topic, part->partition, &low, &high, err))
        return false;
    if (next < low)
        return err_set(err, ERR_CONFLICT, FATE_FATAL,
                       "%s/%d: %lld records after offset %lld were deleted before they were applied: bring "
                       "them back, or "
                       "accept the loss by setting next = %lld in consumer_offset",
                       part->topic, part->partition, (long long)(low - next), (long long)next,
                       (long long)low);
    stored->has_last = stored->has_last && low < next;
    return next <= high || err_set(err, ERR_STATE, FATE_FATAL,
                                   "%s/%d ends at %lld and %lld was applied: the topic was made anew, start "
                                   "a new stream (--stream)",
                                   part->topic, part->partition, (long long)high, (long long)next);
}

bool apply_offset_find(const struct apply_offsets *o, const struct consumer_partition *part,
                       struct apply_offset *out, struct err *err)
{
    struct strview cluster = consumer_cluster_id(o->consumer, CLUSTER_ID_MS);
    if (sv_is_empty(cluster))
        return err_set(err, ERR_KAFKA, FATE_RETRY, "the cluster's id is not known yet");
    return pg_session_ready(o->pg, err) && read_offset(o, part, cluster, out, err) &&
           check_bounds(o, part, out, err);
}
