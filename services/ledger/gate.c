#include "gate.h"

#include "base/money.h"
#include "pg_query.h"
#include "registry_store.h"
#include "spend/avro_codec.h"
#include "spend/rater.h"

#include <stdlib.h>
#include <string.h>

#define BYTES_A_TOKEN 4
#define REPLIES_MOST  128 /* n of a request */
#define OUTPUTS_BYTES (16 << 20)

/* Replies of a model: twice what 95 of 100 do not exceed. */
struct model_output {
    struct strview model;
    int64_t most;
};

struct gate {
    struct gate_options options;
    struct registry_store *registry;
    struct budget_store *budgets;
    struct window_map *windows;
    struct price_list *prices;
    struct model_output *outputs; /* by model, in the arena */
    size_t output_count;
    struct arena outputs_arena;
    struct attribution attribution; /* scratch: it is large */
    struct rate_result rate;
};

bool gate_new(struct gate **out, const struct gate_options *options, struct err *err)
{
    struct gate *g = calloc(1, sizeof *g);
    if (g == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "gate: out of memory");
    g->options = *options;
    arena_init(&g->outputs_arena, OUTPUTS_BYTES);
    if (!registry_store_new(&g->registry, err) || !budget_store_new(&g->budgets, err) ||
        !window_map_new(&g->windows, options->values_max, err) || !price_list_new(&g->prices, err)) {
        gate_free(g);
        return false;
    }
    *out = g;
    return true;
}

void gate_free(struct gate *g)
{
    if (g == NULL)
        return;
    registry_store_free(g->registry);
    budget_store_free(g->budgets);
    window_map_free(g->windows);
    price_list_free(g->prices);
    arena_free(&g->outputs_arena);
    free(g);
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool load_prices(struct gate *g, struct pg_session *pg, struct err *err)
{
    struct pg_rows *rows = NULL;
    bool ok = pg_query(pg, "SELECT record FROM price_book WHERE version > $1 ORDER BY version",
                       PG_ARGS(PG_I64(price_list_newest(g->prices))), &rows, err);
    for (size_t i = 0; ok && i < pg_rows_count(rows); i++) {
        struct price_book *book;
        ok = avro_decode_price_book(pg_get(rows, i, 0), &book, err) && price_list_put(g->prices, book, err);
    }
    pg_rows_free(rows);
    return ok;
}

bool gate_refresh(struct gate *g, struct pg_session *pg, struct err *err)
{
    struct pg_rows *rows = NULL;
    if (!pg_session_query(pg, "SELECT version FROM config_version", NULL, &rows, err))
        return false;
    int64_t now = pg_get_i64(rows, 0, 0);
    pg_rows_free(rows);
    /* the budgets last: their version, read by the registry, stands for all three */
    return now == gate_version(g) ||
           (registry_store_refresh(g->registry, pg, NULL, err) && load_prices(g, pg, err) &&
            budget_store_refresh(g->budgets, pg, registry_store_version(g->registry), err));
}

bool gate_learn_outputs(struct gate *g, struct pg_session *pg, struct err *err)
{
    static const char sql[] = "SELECT model, p95_output FROM model_output WHERE at > clock_timestamp() - "
                              "interval '1 day' ORDER BY model COLLATE \"C\"";
    struct pg_rows *rows = NULL;
    if (!pg_session_query(pg, sql, NULL, &rows, err))
        return false;
    size_t count = pg_rows_count(rows);
    arena_reset(&g->outputs_arena);
    g->output_count = 0;
    g->outputs = arena_alloc(&g->outputs_arena, count * sizeof *g->outputs + 1);
    bool ok = g->outputs != NULL;
    for (size_t i = 0; ok && i < count; i++) {
        struct model_output *o = &g->outputs[i];
        ok = arena_dup(&g->outputs_arena, pg_get(rows, i, 0), &o->model);
        o->most = at_most(pg_get_i64(rows, i, 1), INT64_MAX / 2) * 2;
        g->output_count += ok ? 1 : 0;
    }
    pg_rows_free(rows);
    return ok || err_set(err, ERR_MEMORY, FATE_RETRY, "gate: more models than fit");
}

static int by_model(const void *a, const void *b)
{
    return sv_cmp(((const struct model_output *)a)->model, ((const struct model_output *)b)->model);
}

/* What a reply of the model is held for at most. */
static int64_t output_most(const struct gate *g, struct strview model)
{
    const struct model_output key = {.model = model};
    const struct model_output *known =
        sv_is_null(model) || g->output_count == 0
            ? NULL
            : bsearch(&key, g->outputs, g->output_count, sizeof *g->outputs, by_model);
    return known == NULL ? g->options.output_cap : at_most(known->most, g->options.output_cap);
}

int64_t gate_version(const struct gate *g)
{
    return budget_store_version(g->budgets);
}

struct window_map *gate_windows(struct gate *g)
{
    return g->windows;
}

bool gate_rate(struct gate *g, const struct spend_call *call, bool *priced, int64_t *raw_nanos,
               struct err *err)
{
    if (!rater_rate(call, registry_store_registry(g->registry), g->prices, INT64_MAX, &g->rate, err))
        return false;
    *priced = g->rate.verdict == RATE_OK;
    *raw_nanos = *priced ? g->rate.raw_nanos : 0;
    return true;
}

/* What it may use at most: everything it sends, and what it asks for or may get. */
static void foresee_usage(const struct gate *g, const struct gate_call *c, struct spend_call *call)
{
    int64_t n = c->n.has && c->n.v > 1 ? at_most(c->n.v, REPLIES_MOST) : 1;
    int64_t input = c->body_bytes / BYTES_A_TOKEN + (c->body_bytes % BYTES_A_TOKEN > 0 ? 1 : 0);
    int64_t output = output_most(g, c->call.model_requested);
    if (c->max_tokens.has && c->max_tokens.v >= 0)
        output = at_most(output, c->max_tokens.v);
    call->outcome = OUTCOME_COMPLETED;
    call->quality = QUALITY_ESTIMATED;
    switch (c->call.operation) {
    case OPERATION_CHAT:
    case OPERATION_COMPLETION:
    case OPERATION_RESPONSES:
    case OPERATION_MESSAGES:
        call->usage.units[USAGE_INPUT] = OPT_I64(input);
        call->usage.units[USAGE_OUTPUT] = OPT_I64(output * n);
        break;
    case OPERATION_EMBEDDINGS:
        call->usage.units[USAGE_INPUT] = OPT_I64(input);
        break;
    case OPERATION_RERANK:
        call->usage.units[USAGE_INPUT] = OPT_I64(input);
        call->usage.units[USAGE_REQUESTS] = OPT_I64(1);
        break;
    case OPERATION_IMAGE:
        call->usage.units[USAGE_IMAGES] = OPT_I64(n);
        break;
    case OPERATION_SPEECH:
        call->usage.units[USAGE_CHARACTERS] = OPT_I64(c->body_bytes);
        break;
    case OPERATION_TRANSCRIPTION:
    case OPERATION_BATCH:
    case OPERATION_FINE_TUNE:
    case OPERATION_OTHER:
    case OPERATION_COUNT:
        break; /* nothing of the request tells what it will use */
    }
}

static bool estimate(struct gate *g, struct gate_call *c, struct err *err)
{
    struct spend_call call = c->call;
    foresee_usage(g, c, &call);
    struct strview account = c->has_account ? g->attribution.account_id : SV_NULL;
    c->markup_ppm = MARKUP_ONE_PPM;
    if (c->has_account && !registry_store_markup(g->registry, account, call.admitted_at, &c->markup_ppm))
        c->markup_ppm = MARKUP_ONE_PPM;
    /* what fits no amount is held for the most there is: it is this call's alone to be refused */
    if (!gate_rate(g, &call, &c->is_priced, &c->raw_nanos, err)) {
        if (err->code != ERR_OVERFLOW)
            return false;
        err_clear(err);
        c->is_priced = true;
        c->raw_nanos = HOLD_MOST;
    }
    c->raw_nanos = at_most(c->raw_nanos, HOLD_MOST);
    if (!money_mark_up(c->raw_nanos, c->markup_ppm, &c->billed_nanos))
        c->billed_nanos = HOLD_MOST;
    c->billed_nanos = at_most(c->billed_nanos, HOLD_MOST);
    return true;
}

/* The matches of a call, each window once: values that share ~other share it. */
static bool find_windows(struct gate *g, struct gate_call *c, struct arena *a)
{
    size_t kept = 0;
    c->window = arena_alloc(a, c->match_count * sizeof *c->window + 1);
    if (c->window == NULL)
        return false;
    for (size_t i = 0; i < c->match_count; i++) {
        int64_t window = window_map_find(g->windows, &c->match[i], c->call.admitted_at);
        size_t same = 0;
        while (same < kept && (window == 0 || c->window[same] != window))
            same++;
        if (same < kept)
            continue;
        c->match[kept] = c->match[i];
        c->window[kept++] = window;
    }
    c->match_count = kept;
    return true;
}

bool gate_resolve(struct gate *g, struct gate_call *c, int64_t at, struct arena *a, struct err *err)
{
    struct attribution *who = &g->attribution;
    c->call.admitted_at = c->call.received_at = at;
    attribute(&c->call, registry_store_registry(g->registry), &g->options.rules, who);
    c->has_account = who->verdict == ATTRIBUTE_ACCOUNT &&
                     registry_store_surrogate(g->registry, who->account_id, &c->account);
    c->is_conflict = who->verdict == ATTRIBUTE_CONFLICT;
    memcpy(c->detail, who->detail, sizeof c->detail);
    struct tag *tags = arena_alloc(a, who->tag_count * sizeof *tags + 1);
    if (tags == NULL)
        return err_set(err, ERR_MEMORY, FATE_RETRY, "gate: the arena is full");
    memcpy(tags, who->tags, who->tag_count * sizeof *tags);
    const struct scope_subject subject = {.key_hash = c->call.key_hash,
                                          .user = who->user,
                                          .team = who->team,
                                          .account_id = c->has_account ? who->account_id : SV_NULL,
                                          .task = who->task_id,
                                          .conversation = who->conversation_id,
                                          .model = c->call.model_requested,
                                          .tags = tags,
                                          .tag_count = who->tag_count};
    return estimate(g, c, err) &&
           budget_store_match(g->budgets, &subject, at, a, &c->match, &c->match_count, err) &&
           (find_windows(g, c, a) || err_set(err, ERR_MEMORY, FATE_RETRY, "gate: the arena is full"));
}
