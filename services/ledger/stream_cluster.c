#include "stream_cluster.h"

#include "pg_query.h"

bool stream_cluster_check(struct pg_session *pg, const char *stream, struct strview cluster, struct err *err)
{
    static const char sql[] = "SELECT topic, partition, cluster_id FROM consumer_offset WHERE stream = $1 "
                              "AND cluster_id <> $2 LIMIT 1";
    struct pg_rows *rows = NULL;
    if (sv_is_empty(cluster))
        return err_set(err, ERR_KAFKA, FATE_RETRY, "the cluster's id is not known yet");
    bool ok = pg_query(pg, sql, PG_ARGS(PG_STR(stream), PG_TEXT(cluster)), &rows, err);
    if (ok && pg_rows_count(rows) > 0)
        ok = err_set(err, ERR_CONFLICT, FATE_FATAL,
                     SV_FMT "/%lld was read from Kafka cluster " SV_FMT " and this is " SV_FMT
                            ": connect to that cluster, or start a new stream (--stream)",
                     SV_ARG(pg_get(rows, 0, 0)), (long long)pg_get_i64(rows, 0, 1),
                     SV_ARG(pg_get(rows, 0, 2)), SV_ARG(cluster));
    pg_rows_free(rows);
    return ok;
}
