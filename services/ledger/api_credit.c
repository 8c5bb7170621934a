#include "api_credit.h"

#include "api_account.h"
#include "api_body.h"
#include "api_view.h"
#include "base/money.h"
#include "config_write.h"
#include "pg_session.h"
#include "spend/ledger_entry.h"

struct credit {
    int64_t account;
    struct strview external_id;
    enum entry_kind kind;
    int64_t amount_nanos;
    struct strview note;
    int64_t account_seq;
    int64_t balance_after_nanos;
    int64_t posted_at;
};

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
    if (!api_id_check(r, "account", r->param[0]) || !api_body_read(r, "a credit", r->body, fields, FIELDS, v))
        return false;
    c->external_id = v[EXTERNAL_ID].text;
    c->amount_nanos = v[AMOUNT].number;
    c->note = v[NOTE].text;
    if (!entry_kind_parse(v[KIND].text, &c->kind) || (c->kind != ENTRY_TOP_UP && c->kind != ENTRY_GRANT &&
                                                      c->kind != ENTRY_REFUND && c->kind != ENTRY_OPENING))
        return api_refuse(r, 400, "invalid", "use top_up, grant, refund or opening",
                          "a credit's kind is not \"" SV_FMT "\"", SV_ARG(v[KIND].text));
    /* an account can come with a debt; every other credit adds money */
    if (c->amount_nanos == 0 || (c->amount_nanos < 0 && c->kind != ENTRY_OPENING))
        return api_refuse(r, 400, "invalid", "give a positive amount (an opening may be negative)",
                          "the amount is %s", c->amount_nanos == 0 ? "zero" : "negative");
    return true;
}

/* Locks the balance: everything about the account's entries is in one hand until the end of the transaction.
 */
static bool lock(struct api_request *r, struct credit *c, int64_t *balance, struct err *err)
{
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    pg_fields_init(&args);
    pg_put_i64(&args, c->account);
    bool ok = pg_session_query(r->pg,
                               "SELECT amount_nanos, seq FROM balance"
                               " WHERE account = $1 FOR UPDATE",
                               &args, &rows, err);
    if (ok) {
        *balance = pg_get_i64(rows, 0, 0);
        c->account_seq = pg_get_i64(rows, 0, 1) + 1;
    }
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

/* The credit of that external_id, if there is one. Another amount or kind: refused. */
static bool find(struct api_request *r, struct credit *c, bool *found, struct err *err)
{
    static const char sql[] =
        "SELECT c.account_seq, c.amount_nanos, c.kind, e.balance_after_nanos, c.posted_at"
        " FROM credit AS c JOIN entry AS e ON e.account = c.account"
        " AND e.account_seq = c.account_seq WHERE c.account = $1 AND c.external_id = $2";
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    pg_fields_init(&args);
    pg_put_i64(&args, c->account);
    pg_put_text(&args, c->external_id);
    bool ok = pg_session_query(r->pg, sql, &args, &rows, err);
    *found = ok && pg_rows_count(rows) > 0;
    if (*found && (pg_get_i64(rows, 0, 1) != c->amount_nanos ||
                   !sv_eq(pg_get(rows, 0, 2), sv_of(entry_kind_name(c->kind))))) {
        char usd[MONEY_TEXT_MAX];
        money_format_usd(pg_get_i64(rows, 0, 1), usd);
        ok = api_refuse(r, 409, "conflict", "use a new external_id for another credit",
                        "external_id \"" SV_FMT "\" is a " SV_FMT " of %s already", SV_ARG(c->external_id),
                        SV_ARG(pg_get(rows, 0, 2)), usd);
    } else if (*found) {
        c->account_seq = pg_get_i64(rows, 0, 0);
        c->balance_after_nanos = pg_get_i64(rows, 0, 3);
        c->posted_at = pg_get_time(rows, 0, 4);
    }
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

/* The entry, its credit row, the balance, and the outbox row that has it published: under the balance's lock.
 */
static bool post(struct api_request *r, struct credit *c, struct err *err)
{
    static const char sql[] =
        "WITH e AS (INSERT INTO entry (account, account_seq, amount_nanos, balance_after_nanos, posted_at, "
        "kind, cause,"
        " external_id) VALUES ($1, $2, $3, $4, clock_timestamp(), $5, 'credit', $6)"
        " RETURNING account, account_seq, posted_at),"
        " c AS (INSERT INTO credit (account, external_id, account_seq, kind, amount_nanos, note, posted_at)"
        " SELECT e.account, $6, e.account_seq, $5, $3, $7, e.posted_at FROM e),"
        " b AS (UPDATE balance SET amount_nanos = $4, seq = $2 WHERE account = $1),"
        " o AS (INSERT INTO outbox (accounts, first_seqs, counts) VALUES (ARRAY[$1], ARRAY[$2], "
        "ARRAY[1::bigint]))"
        " SELECT posted_at FROM e";
    struct pg_fields args;
    struct pg_rows *rows = NULL;
    pg_fields_init(&args);
    pg_put_i64(&args, c->account);
    pg_put_i64(&args, c->account_seq);
    pg_put_i64(&args, c->amount_nanos);
    pg_put_i64(&args, c->balance_after_nanos);
    pg_put_str(&args, entry_kind_name(c->kind));
    pg_put_text(&args, c->external_id);
    pg_put_text(&args, c->note);
    bool ok = pg_session_query(r->pg, sql, &args, &rows, err);
    if (ok)
        c->posted_at = pg_get_time(rows, 0, 0);
    pg_rows_free(rows);
    pg_fields_free(&args);
    return ok;
}

static void view(struct json_write *w, const struct api_request *r, const struct credit *c)
{
    json_write_open(w, '{');
    api_view_text(w, "account_id", r->param[0]);
    json_write_key(w, "account_seq");
    json_write_i64(w, c->account_seq);
    api_view_text(w, "external_id", c->external_id);
    api_view_text(w, "kind", sv_of(entry_kind_name(c->kind)));
    api_view_usd(w, "amount", OPT_I64(c->amount_nanos));
    api_view_usd(w, "balance_after", OPT_I64(c->balance_after_nanos));
    api_view_time(w, "posted_at", OPT_I64(c->posted_at));
    json_write_close(w, '}');
}

bool api_credit_post(struct api_request *r, struct err *err)
{
    struct credit c = {.account = 0};
    int64_t balance = 0;
    bool found = false;
    if (!api_query_end(r) || !read(r, &c) || !api_account_find(r, &c.account, err) ||
        !pg_session_begin(r->pg, err) || !lock(r, &c, &balance, err) || !find(r, &c, &found, err))
        return false;
    if (!found) {
        if (!money_add(balance, c.amount_nanos, &c.balance_after_nanos))
            return api_refuse(r, 400, "invalid", "give a smaller amount",
                              "the balance would be out of range");
        if (!post(r, &c, err) ||
            !config_write_audit(r->pg, api_role_name(r->role), "post credit", r->param[0], r->body, err) ||
            !pg_session_commit(r->pg, err))
            return false;
        r->status = 201;
    }
    view(&r->json, r, &c);
    return true;
}
