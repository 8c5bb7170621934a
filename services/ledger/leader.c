/*
 * leader: pg_try_advisory_lock, once a session.
 */
#include "leader.h"

bool leader_try(struct leader *l, struct pg_session *pg, bool *leads, struct err *err)
{
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    *leads = false;
    if (!pg_session_ready(pg, err))
        return false;
    *leads = l->generation == pg_session_generation(pg);
    if (*leads)
        return true;
    pg_fields_init(&args);
    pg_put_i64(&args, l->lock);
    bool ok = pg_session_query(pg, "SELECT pg_try_advisory_lock($1)", &args, &rows, err);
    *leads = ok && pg_get_bool(rows, 0, 0);
    l->generation = *leads ? pg_session_generation(pg) : 0;
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}
