/*
 * gate_refusal: the ledger's words are JSON already: they are put in as they came.
 */
#include "ingest/gate_refusal.h"

#include "base/clock.h"
#include "base/json_scan.h"
#include "base/limits.h"
#include "base/money.h"
#include "ingest/json_pick.h"

#include <string.h>

#define BALANCE_STATUS 402

/* How LiteLLM names what a budget is about; its keys go without a name. */
static const struct {
    struct strview scope;
    const char *word;
} words[] = {{SV_INIT("key"), NULL},    {SV_INIT("user"), "User"},
             {SV_INIT("team"), "Team"}, {SV_INIT("account"), "Account"},
             {SV_INIT("task"), "Task"}, {SV_INIT("conversation"), "Conversation"},
             {SV_INIT("tag"), "Tag"},   {SV_INIT("model"), "Model"}};

enum { BUDGET_ID, SCOPE, VALUE, WINDOW_END, LIMIT, SPENT, HELD, ESTIMATE, PICKS };

/* One of the ledger's blocks: views into its text, strings still escaped. */
struct block {
    struct json_pick pick[PICKS];
    bool is_balance;
};

struct blocks {
    struct json_scan scan;
    struct block now;
};

static bool blocks_open(struct blocks *b, struct strview blocking)
{
    struct json_value root;
    json_scan_init(&b->scan, blocking, LIMIT_JSON_DEPTH);
    return json_scan_value(&b->scan, &root) && root.kind == JSON_KIND_ARRAY;
}

/* false: the last was read, or it is none (b->scan.failed). */
static bool blocks_next(struct blocks *b)
{
    struct json_value value;
    struct strview whole;
    const struct block fresh = {.pick = {[BUDGET_ID] = {.path = "budget_id"},
                                         [SCOPE] = {.path = "scope"},
                                         [VALUE] = {.path = "value"},
                                         [WINDOW_END] = {.path = "window_end"},
                                         [LIMIT] = {.path = "limit"},
                                         [SPENT] = {.path = "spent"},
                                         [HELD] = {.path = "held"},
                                         [ESTIMATE] = {.path = "estimate"}}};
    if (!json_scan_item(&b->scan, &value) || !json_scan_skip(&b->scan, &value, &whole))
        return false;
    b->now = fresh;
    if (!json_pick(whole, b->now.pick, PICKS)) {
        b->scan.failed = true;
        return false;
    }
    b->now.is_balance = !b->now.pick[BUDGET_ID].found;
    return true;
}

static struct strview text_of(const struct json_pick *pick)
{
    return pick->found && pick->value.kind == JSON_KIND_STRING ? pick->value.raw : SV_LIT("0");
}

/* One more of those that block, as the inside of a JSON string: what is put in is escaped already. */
static bool write_block(const struct block *b, bool first, struct buffer *out)
{
    struct strview limit = text_of(&b->pick[LIMIT]);
    struct strview spent = text_of(&b->pick[SPENT]);
    if (b->is_balance)
        return buffer_printf(out, "%sAccount balance has been exhausted! Balance: " SV_FMT ", held: " SV_FMT,
                             first ? "" : "; ", SV_ARG(limit), SV_ARG(text_of(&b->pick[HELD])));
    const char *word = NULL;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (sv_eq(text_of(&b->pick[SCOPE]), words[i].scope))
            word = words[i].word;
    struct strview value = text_of(&b->pick[VALUE]);
    return buffer_printf(out, "%s", first ? "Budget has been exceeded! " : "; ") &&
           (word == NULL || (buffer_printf(out, "%s=", word) && buffer_append_sv(out, value) &&
                             buffer_append_byte(out, ' '))) &&
           buffer_printf(out, "Current cost: " SV_FMT ", Max budget: " SV_FMT, SV_ARG(spent), SV_ARG(limit));
}

/* When it may pass what blocks it: 0 for never. Only held: as soon as one of those calls is over. */
static int64_t wait_of(const struct block *b, int64_t now_us)
{
    int64_t spent = 0;
    int64_t limit = 0;
    int64_t estimate = 0;
    int64_t end = 0;
    bool is_held = !sv_eq(text_of(&b->pick[HELD]), SV_LIT("0"));
    if (is_held && money_parse_decimal(text_of(&b->pick[SPENT]), 9, &spent, NULL, NULL) &&
        money_parse_decimal(text_of(&b->pick[LIMIT]), 9, &limit, NULL, NULL) &&
        money_parse_decimal(text_of(&b->pick[ESTIMATE]), 9, &estimate, NULL, NULL) && spent < limit &&
        estimate <= limit - spent)
        return 1;
    if (!b->pick[WINDOW_END].found || !clock_parse(b->pick[WINDOW_END].value.raw, &end))
        return 0;
    return end <= now_us ? 1 : (end - now_us + US_PER_SECOND - 1) / US_PER_SECOND;
}

static bool error_open(struct buffer *out)
{
    return buffer_append_sv(out, SV_LIT("{\"error\":{\"message\":\""));
}

static bool error_close(struct buffer *out, const char *type, int status, struct strview budgets)
{
    return buffer_printf(out, "\",\"type\":\"%s\",\"param\":null,\"code\":\"%d\"", type, status) &&
           (sv_is_null(budgets) ||
            (buffer_append_sv(out, SV_LIT(",\"budgets\":")) && buffer_append_sv(out, budgets))) &&
           buffer_append_sv(out, SV_LIT("}}"));
}

static bool fail(struct gate_refusal *out)
{
    buffer_free(&out->body);
    return false;
}

bool gate_refusal_budget(struct strview blocking, int status, int64_t now_us, struct gate_refusal *out)
{
    struct blocks b;
    bool first = true;
    bool forever = false;
    bool balance = false;
    *out = (struct gate_refusal){.status = status};
    buffer_init(&out->body, GATE_REFUSAL_BYTES);
    if (!blocks_open(&b, blocking) || !error_open(&out->body))
        return fail(out);
    while (blocks_next(&b)) {
        if (!write_block(&b.now, first, &out->body))
            return fail(out);
        first = false;
        balance = balance || b.now.is_balance;
        int64_t wait = wait_of(&b.now, now_us);
        forever = forever || wait == 0;
        if (wait > out->retry_after_s)
            out->retry_after_s = wait;
    }
    if (b.scan.failed || first)
        return fail(out);
    if (forever)
        out->retry_after_s = 0;
    if (balance)
        out->status = BALANCE_STATUS;
    return error_close(&out->body, balance ? "balance_exhausted" : "budget_exceeded", out->status,
                       blocking) ||
           fail(out);
}

/* As in a path: what is no letter, digit or one of -._ is %XX. */
static bool write_encoded(struct strview text, struct buffer *out)
{
    bool ok = true;
    for (size_t i = 0; ok && i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c != '\0' && strchr("-._", c) != NULL);
        ok = plain ? buffer_append_byte(out, c) : buffer_printf(out, "%%%02X", c);
    }
    return ok;
}

bool gate_refusal_names(struct strview blocking, struct buffer *out)
{
    struct blocks b;
    bool first = true;
    if (!blocks_open(&b, blocking))
        return false;
    while (blocks_next(&b)) {
        struct arena a;
        struct strview id;
        arena_init(&a, (size_t)LIMIT_ID_BYTES * 8);
        bool ok = (first || buffer_append_byte(out, ','));
        if (b.now.is_balance)
            ok = ok && buffer_append_sv(out, SV_LIT("~balance"));
        else
            ok = ok && json_scan_unescape(&b.now.pick[BUDGET_ID].value, &a, &id) && write_encoded(id, out);
        arena_free(&a);
        if (!ok)
            return false;
        first = false;
    }
    return !b.scan.failed && !first;
}

bool gate_refusal_conflict(struct strview conflict, struct gate_refusal *out)
{
    *out = (struct gate_refusal){.status = 403};
    buffer_init(&out->body, GATE_REFUSAL_BYTES);
    return (error_open(&out->body) && buffer_append_sv(&out->body, conflict) &&
            error_close(&out->body, "conflict", out->status, SV_NULL)) ||
           fail(out);
}
