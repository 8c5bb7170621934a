#include "api_time.h"

#include "api_rows.h"

bool api_time_get(struct api_request *r, struct err *err)
{
    static const char sql[] =
        "SELECT json_build_object('time', rfc3339(t), 'time_us', floor(extract(epoch FROM t) * "
        "1000000)::bigint)::text"
        " FROM (SELECT greatest(clock_timestamp(), changed_at, watermark) AS t FROM config_version) AS now "
        "WHERE $1::text IS NULL AND $2::text IS NULL LIMIT $3::bigint";
    return api_query_end(r) && api_rows_get(r, sql, SV_NULL, "time", "", err);
}
