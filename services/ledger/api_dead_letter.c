#include "api_dead_letter.h"

#include "api_rows.h"
#include "spend/dead_letter.h"

bool api_dead_letter_list(struct api_request *r, struct err *err)
{
    static const char sql[] =
        "SELECT json::text, reason || '/' || call_id FROM dead_letter_json WHERE ($1::text IS NULL OR reason "
        "= $1) AND"
        " ($2::text IS NULL OR (reason, call_id) > (split_part($2, '/', 1), split_part($2, '/', 2)::uuid))"
        " ORDER BY reason, call_id LIMIT $3::bigint";
    struct strview reason = api_query_get(r, "reason");
    enum dead_reason known = DEAD_UNTAGGED;
    if (!sv_is_null(reason) && !dead_reason_parse(reason, &known))
        return api_refuse(r, 400, "invalid", "use untagged, unknown, conflict or unpriced",
                          "there is no reason \"" SV_FMT "\"", SV_ARG(reason));
    if (!sv_is_null(reason) && dead_reasons[known].account == NULL)
        return api_refuse(r, 400, "invalid",
                          "read the topic spend.dlq.malformed: such records name no call and no money",
                          "malformed records are not in the ledger");
    return api_rows_list(r, sql, reason, "dead-letters", err);
}
