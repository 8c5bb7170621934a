#include "api_entry.h"

#include "api_credit.h"
#include "api_rows.h"

bool api_entry_list(struct api_request *r, struct err *err)
{
    static const char sql[] =
        "SELECT e.json::text, e.account_seq::text FROM entry_json AS e WHERE e.account_id = $1::text"
        " AND e.account_seq > coalesce($2::text::bigint, 0) ORDER BY e.account_seq LIMIT $3::bigint";
    int64_t account;
    return api_account_find(r, &account, err) && api_rows_list(r, sql, r->param[0], "entries", err);
}
