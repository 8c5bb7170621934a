#include "api_credit.h"

#include "api_body.h"
#include "api_fact.h"
#include "base/money.h"
#include "config_write.h"
#include "pg_query.h"
#include "spend/ledger_entry.h"

struct credit {
    int64_t account;
    struct strview external_id;
    struct strview kind;
    int64_t amount_nanos;
    struct strview note;
};

bool api_account_find(struct api_request *r, int64_t *account, struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = pg_query(r->pg, "SELECT id FROM account WHERE account_id = $1", PG_ARGS(PG_TEXT(r->param[0])),
                       &rows, err);
    if (ok && pg_rows_count(rows) == 0)
        ok = api_refuse(r, 404, "not_found", api_facts[REGISTRY_ACCOUNT].hint,
                        "there is no account \"" SV_FMT "\"", SV_ARG(r->param[0]));
    if (ok)
        *account = pg_get_i64(rows, 0, 0);
    pg_rows_free(rows);
    return ok;
}

static bool read(struct api_request *r, struct credit *c)
{
    enum { EXTERNAL_ID, KIND, AMOUNT, NOTE, FIELDS };
    static const struct api_field fields[FIELDS] = {
        [EXTERNAL_ID] = {"external_id", API_FIELD_ID, API_FIELD_REQUIRED},
        [KIND] = {"kind", API_FIELD_TEXT, API_FIELD_REQUIRED},
        [AMOUNT] = {"amount", API_FIELD_MONEY, API_FIELD_REQUIRED},
        [NOTE] = {"note", API_FIELD_TEXT, API_FIELD_OPTIONAL},
    };
    struct api_value v[FIELDS];
    enum entry_kind kind;
    if (!api_id_check(r, "account", r->param[0]) || !api_body_read(r, "a credit", r->body, fields, FIELDS, v))
        return false;
    *c = (struct credit){.external_id = v[EXTERNAL_ID].text,
                         .kind = v[KIND].text,
                         .amount_nanos = v[AMOUNT].number,
                         .note = v[NOTE].text};
    if (!entry_kind_parse(c->kind, &kind) ||
        (kind != ENTRY_TOP_UP && kind != ENTRY_GRANT && kind != ENTRY_REFUND && kind != ENTRY_OPENING))
        return api_refuse(r, 400, "invalid", "use top_up, grant, refund or opening",
                          "a credit's kind is not \"" SV_FMT "\"", SV_ARG(c->kind));
    /* an account can come with a debt; every other credit adds money */
    if (c->amount_nanos == 0 || (c->amount_nanos < 0 && kind != ENTRY_OPENING))
        return api_refuse(r, 400, "invalid", "give a positive amount (an opening may be negative)",
                          "the amount is %s", c->amount_nanos == 0 ? "zero" : "negative");
    return true;
}

/* Locks the balance: everything about the account's entries is in one hand until the end of the transaction.
 */
static bool lock(struct api_request *r, const struct credit *c, int64_t *balance, int64_t *seq,
                 struct err *err)
{
    struct pg_rows *rows = NULL;
    if (!pg_query(r->pg, "SELECT amount_nanos, seq FROM balance WHERE account_id = $1 FOR UPDATE",
                  PG_ARGS(PG_I64(c->account)), &rows, err))
        return false;
    *balance = pg_get_i64(rows, 0, 0);
    *seq = pg_get_i64(rows, 0, 1);
    pg_rows_free(rows);
    return true;
}

/* Writes the credit of that external_id as the reply, if there is one. Another amount or kind: refused. */
static bool view(struct api_request *r, const struct credit *c, bool *found, struct err *err)
{
    static const char sql[] =
        "SELECT amount_nanos = $3 AND kind = $4, kind || ' of ' || usd(amount_nanos), json::text"
        " FROM credit_json WHERE account = $1 AND external_id = $2";
    struct pg_rows *rows = NULL;
    bool ok = pg_query(
        r->pg, sql,
        PG_ARGS(PG_I64(c->account), PG_TEXT(c->external_id), PG_I64(c->amount_nanos), PG_TEXT(c->kind)),
        &rows, err);
    *found = ok && pg_rows_count(rows) > 0;
    if (*found && !pg_get_bool(rows, 0, 0))
        ok = api_refuse(r, 409, "conflict", "use a new external_id for another credit",
                        "external_id \"" SV_FMT "\" is a " SV_FMT " already", SV_ARG(c->external_id),
                        SV_ARG(pg_get(rows, 0, 1)));
    else if (*found)
        json_write_raw(&r->json, pg_get(rows, 0, 2));
    pg_rows_free(rows);
    return ok;
}

/* The entry, its credit row, the balance, and the outbox row that has it published: under the balance's lock.
 */
static bool post(struct api_request *r, const struct credit *c, int64_t seq, int64_t balance_after,
                 struct err *err)
{
    static const char sql[] =
        "WITH e AS (INSERT INTO entry (account_id, account_seq, amount_nanos, balance_after_nanos, "
        "posted_at, "
        "kind, cause,"
        " external_id) VALUES ($1, $2, $3, $4, clock_timestamp(), $5, 'credit', $6)"
        " RETURNING account_id, account_seq, posted_at),"
        " c AS (INSERT INTO credit (account, external_id, account_seq, kind, amount_nanos, note, posted_at)"
        " SELECT e.account_id, $6, e.account_seq, $5, $3, $7, e.posted_at FROM e),"
        " o AS (INSERT INTO outbox (accounts, first_seqs, counts) VALUES (ARRAY[$1], ARRAY[$2], "
        "ARRAY[1::bigint]))"
        " UPDATE balance SET amount_nanos = $4, seq = $2 WHERE account_id = $1";
    return pg_query(r->pg, sql,
                    PG_ARGS(PG_I64(c->account), PG_I64(seq), PG_I64(c->amount_nanos), PG_I64(balance_after),
                            PG_TEXT(c->kind), PG_TEXT(c->external_id), PG_TEXT(c->note)),
                    NULL, err);
}

bool api_credit_post(struct api_request *r, struct err *err)
{
    struct credit c;
    int64_t balance = 0;
    int64_t seq = 0;
    bool found = false;
    if (!api_query_end(r) || !read(r, &c) || !api_account_find(r, &c.account, err) ||
        !pg_session_begin(r->pg, err) || !lock(r, &c, &balance, &seq, err) || !view(r, &c, &found, err))
        return false;
    if (found)
        return true;
    if (!money_add(balance, c.amount_nanos, &balance))
        return api_refuse(r, 400, "invalid", "give a smaller amount", "the balance would be out of range");
    r->status = 201;
    return post(r, &c, seq + 1, balance, err) &&
           config_write_audit(r->pg, api_role_name(r->role), "post credit", r->param[0], r->body, err) &&
           view(r, &c, &found, err) && pg_session_commit(r->pg, err);
}
