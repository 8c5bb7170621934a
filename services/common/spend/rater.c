/*
 * rater: finds the price of a call and applies it. The rules are docs/prices.md; where LiteLLM charges
 * nothing for lack of a price, so does this, and says so (rating `assumed`); what no rule here covers is
 * unpriced, never cheap.
 */
#include "spend/rater.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/money.h"

/* The prices this rater applies. */
enum price {
    PRICE_INPUT,
    PRICE_CACHE_READ,
    PRICE_WRITE_5M,
    PRICE_WRITE_1H,
    PRICE_OUTPUT,
    PRICE_REASONING,
    PRICES
};
enum variant { PLAIN, FLEX, PRIORITY, ABOVE_128K, ABOVE_200K, ABOVE_272K, VARIANTS };

#define IN  "input_cost_per_token"
#define OUT "output_cost_per_token"
#define CR  "cache_read_input_token_cost"
#define CW  "cache_creation_input_token_cost"
#define EACH_VARIANT(base)                                                                                   \
    {                                                                                                        \
        base, base "_flex", base "_priority", base "_above_128k_tokens", base "_above_200k_tokens",          \
            base "_above_272k_tokens"                                                                        \
    }

/* LiteLLM knows no variants of the last two of these: NULL. */
static const char *const price_names[PRICES][VARIANTS] = {
    [PRICE_INPUT] = EACH_VARIANT(IN),    [PRICE_CACHE_READ] = EACH_VARIANT(CR),
    [PRICE_WRITE_5M] = EACH_VARIANT(CW), [PRICE_WRITE_1H] = {CW "_above_1hr"},
    [PRICE_OUTPUT] = EACH_VARIANT(OUT),  [PRICE_REASONING] = {"output_cost_per_reasoning_token"},
};

static const int64_t thresholds[VARIANTS] = {
    [ABOVE_128K] = 128000, [ABOVE_200K] = 200000, [ABOVE_272K] = 272000};
#define ABOVE_IGNORED 256000 /* LiteLLM drops this one from what it reads */

/* How a usage class is priced: its own price, else the fallback's; PRICES: there is none. */
struct class_rule {
    enum usage_class usage_class;
    enum price own;
    enum price fallback;
    bool free_without; /* no price: LiteLLM charges nothing for it */
};

static const struct class_rule class_rules[] = {
    {USAGE_INPUT, PRICE_INPUT, PRICES, false},
    {USAGE_CACHE_READ, PRICE_CACHE_READ, PRICES, true},
    {USAGE_CACHE_WRITE_5M, PRICE_WRITE_5M, PRICES, true},
    {USAGE_CACHE_WRITE_1H, PRICE_WRITE_1H, PRICES, true},
    {USAGE_OUTPUT, PRICE_OUTPUT, PRICES, false},
    {USAGE_REASONING, PRICE_REASONING, PRICE_OUTPUT, false},
};
#define CLASS_RULES (sizeof class_rules / sizeof class_rules[0])

/* One rating under way. */
struct rating {
    const struct spend_call *call;
    const struct price_entry *entry;
    struct strview provider;
    enum variant tier;  /* PLAIN, FLEX, PRIORITY */
    enum variant above; /* the highest threshold the prompt passed; PLAIN: none */
    int64_t prompt;     /* tokens in, of every class */
    struct rate_result *out;
};

static void say(struct rate_result *out, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Adds a sentence to the detail; a cut does not split a character. */
static void say(struct rate_result *out, const char *fmt, ...)
{
    size_t at = strlen(out->detail);
    if (at > 0)
        at += (size_t)snprintf(out->detail + at, sizeof out->detail - at, "; ");
    if (at >= sizeof out->detail)
        return;
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(out->detail + at, sizeof out->detail - at, fmt, args);
    va_end(args);
    if (len >= (int)(sizeof out->detail - at))
        out->detail[sv_utf8_prefix(sv_of(out->detail))] = '\0';
}

static void assume(struct rate_result *out, const char *why, const char *what)
{
    out->rating = RATING_ASSUMED;
    say(out, "%s%s", why, what);
}

static bool is_one_of(struct strview v, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (sv_eq(v, sv_of(*words)))
            return true;
    }
    return false;
}

/* The price file's name of a provider: LiteLLM's own has sub-names for routes to it. */
static struct strview provider_name(struct strview provider)
{
    if (sv_starts_with(provider, SV_LIT("vertex_ai-")))
        return SV_LIT("vertex_ai");
    if (sv_eq(provider, SV_LIT("bedrock_converse")))
        return SV_LIT("bedrock");
    return provider;
}

/* Look-up */

/* The first number directly before a 'b' in the name, as in "llama-3-70b"; -1: none. */
static int64_t billions(struct strview model)
{
    for (size_t i = 0; i < model.len; i++) {
        size_t end = i;
        while (end < model.len && model.ptr[end] >= '0' && model.ptr[end] <= '9')
            end++;
        int64_t n;
        if (end > i && end < model.len && (model.ptr[end] == 'b' || model.ptr[end] == 'B') &&
            sv_to_i64(sv_of_bytes(model.ptr + i, end - i), &n))
            return n;
        if (end > i)
            i = end;
    }
    return -1;
}

/* together_ai charges by size. NULL: by its own entry. */
static const struct price_entry *find_by_size(const struct price_book *book, struct strview model)
{
    static const struct {
        int64_t up_to;
        const char *key;
    } sizes[] = {{4, "together-ai-up-to-4b"},   {8, "together-ai-4.1b-8b"},
                 {21, "together-ai-8.1b-21b"},  {41, "together-ai-21.1b-41b"},
                 {80, "together-ai-41.1b-80b"}, {110, "together-ai-81.1b-110b"}};
    int64_t size = billions(model);
    for (size_t i = 0; size >= 0 && i < sizeof sizes / sizeof sizes[0]; i++) {
        if (size <= sizes[i].up_to)
            return price_book_find(book, sv_of(sizes[i].key));
    }
    return NULL;
}

static const struct price_entry *find_joined(const struct price_book *book, struct strview provider,
                                             struct strview model)
{
    char key[2 * LIMIT_TEXT_BYTES + 2];
    if (sv_is_empty(provider) || provider.len > LIMIT_TEXT_BYTES || model.len > LIMIT_TEXT_BYTES)
        return NULL;
    memcpy(key, provider.ptr, provider.len);
    key[provider.len] = '/';
    memcpy(key + provider.len + 1, model.ptr, model.len);
    return price_book_find(book, sv_of_bytes(key, provider.len + 1 + model.len));
}

const struct price_entry *rater_find_entry(const struct price_book *book, struct strview provider,
                                           struct strview model)
{
    if (sv_is_empty(model))
        return NULL;
    const struct price_entry *entry = NULL;
    struct strview tail;
    provider = provider_name(provider);
    (void)sv_cut(model, '/', &tail);
    if (sv_eq(provider, SV_LIT("together_ai")))
        entry = find_by_size(book, model);
    if (entry == NULL)
        entry = find_joined(book, provider, model);
    if (entry == NULL)
        entry = price_book_find(book, model);
    if (entry == NULL && !sv_is_empty(tail))
        entry = price_book_find(book, tail);
    /* The first key that exists is the model's: another's price behind it would be a guess. */
    return entry != NULL && entry->rate_count > 0 ? entry : NULL;
}

/* Applying */

/* Returns true: the call is decided. */
static bool unpriced(struct rate_result *out, const char *why, struct strview what)
{
    out->verdict = RATE_UNPRICED;
    out->raw_nanos = 0;
    out->line_count = 0;
    out->rating = RATING_EXACT;
    out->detail[0] = '\0';
    say(out, "%s" SV_FMT, why, SV_ARG(what));
    return true;
}

static enum variant tier_of(struct strview tier, struct strview provider)
{
    static const char *const one_price[] = {"anthropic", "azure", "azure_ai", "deepseek", NULL};
    if (is_one_of(provider, one_price))
        return PLAIN;
    if (sv_eq_nocase(tier, SV_LIT("flex")))
        return FLEX;
    return sv_eq_nocase(tier, SV_LIT("priority")) ? PRIORITY : PLAIN;
}

static bool entry_has(const struct price_entry *entry, const char *name, int64_t *femtos)
{
    return name != NULL && price_entry_rate(entry, sv_of(name), femtos);
}

/* N of "input_cost_per_token_above_Nk_tokens", in tokens; 0: another name. */
static int64_t threshold_of(struct strview name)
{
    struct strview head = SV_LIT(IN "_above_");
    struct strview tail = SV_LIT("k_tokens");
    int64_t n;
    if (name.len <= head.len + tail.len || !sv_starts_with(name, head) ||
        !sv_eq(sv_of_bytes(name.ptr + name.len - tail.len, tail.len), tail) ||
        !sv_to_i64(sv_of_bytes(name.ptr + head.len, name.len - head.len - tail.len), &n) || n < 0 ||
        n > INT32_MAX)
        return 0;
    return n * 1000;
}

/* The highest threshold below the prompt. false: a threshold this rater has no row for. */
static bool find_threshold(struct rating *r)
{
    for (size_t i = 0; i < r->entry->rate_count; i++) {
        int64_t threshold = threshold_of(r->entry->rates[i].name);
        if (threshold == 0 || r->prompt <= threshold)
            continue;
        if (threshold == ABOVE_IGNORED) {
            assume(r->out, "not applied, as in LiteLLM: ", IN "_above_256k_tokens");
            continue;
        }
        enum variant v = ABOVE_128K;
        while (v < VARIANTS && thresholds[v] != threshold)
            v++;
        if (v == VARIANTS)
            return false;
        if (v > r->above)
            r->above = v;
    }
    return true;
}

/* The name of the price that holds: above the threshold, else the tier's, else the plain one. NULL: no price.
 */
static const char *choose(const struct rating *r, enum price price, int64_t *femtos)
{
    const enum variant order[] = {r->above, r->tier};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        const char *name = price_names[price][order[i]];
        if (order[i] != PLAIN && entry_has(r->entry, name, femtos))
            return name;
    }
    return entry_has(r->entry, price_names[price][PLAIN], femtos) ? price_names[price][PLAIN] : NULL;
}

/* Providers whose prompt or reply costs the same whatever it is made of. */
static enum price price_of(const struct rating *r, const struct class_rule *rule)
{
    static const char *const flat[] = {"databricks", "fireworks_ai", NULL};
    if (!is_one_of(r->provider, flat))
        return rule->own;
    return rule->own == PRICE_OUTPUT || rule->own == PRICE_REASONING ? PRICE_OUTPUT : PRICE_INPUT;
}

static const char *class_price(const struct rating *r, const struct class_rule *rule, int64_t *femtos)
{
    const char *name = choose(r, price_of(r, rule), femtos);
    enum price fallback = rule->fallback;
    if (rule->free_without && sv_eq(r->provider, SV_LIT("dashscope")))
        fallback = PRICE_INPUT; /* it bills cached tokens it has no price for as plain ones */
    if (name == NULL && fallback != PRICES)
        name = choose(r, fallback, femtos);
    return name;
}

/* Prices the file has and LiteLLM does not read: the call is billed without them, and says so. */
static void note_ignored(struct rating *r)
{
    static const char *const above_priority[VARIANTS] = {
        [ABOVE_200K] = IN "_above_200k_tokens_priority", [ABOVE_272K] = IN "_above_272k_tokens_priority"};
    const char *written = CW "_above_1hr_above_200k_tokens";
    const char *request = "input_cost_per_request";
    int64_t femtos;
    if (r->tier == PRIORITY && entry_has(r->entry, above_priority[r->above], &femtos))
        assume(r->out, "not applied, as in LiteLLM: ", above_priority[r->above]);
    if (r->above == ABOVE_200K && r->call->usage.units[USAGE_CACHE_WRITE_1H].v > 0 &&
        entry_has(r->entry, written, &femtos))
        assume(r->out, "not applied, as in LiteLLM: ", written);
    if (entry_has(r->entry, request, &femtos) && femtos > 0)
        assume(r->out, "not applied, as in LiteLLM: ", request);
}

/* True: tokens cost nothing here because the entry charges for something else. */
static bool charges_otherwise(const struct price_entry *entry)
{
    static const char *const units[] = {"_per_second", "_per_image", "_per_character",
                                        "_per_pixel",  "_per_query", "_per_page"};
    for (size_t i = 0; i < entry->rate_count; i++) {
        struct strview name = entry->rates[i].name;
        for (size_t k = 0; k < sizeof units / sizeof units[0] && entry->rates[i].femtos > 0; k++) {
            size_t len = strlen(units[k]);
            if (name.len > len && memcmp(name.ptr + name.len - len, units[k], len) == 0)
                return true;
        }
    }
    return false;
}

/* The first class in use that no rule covers; USAGE_COUNT: none. */
static enum usage_class uncovered(const struct usage *usage)
{
    for (int c = USAGE_AUDIO_IN; c < USAGE_COUNT; c++) {
        if (usage->units[c].has && usage->units[c].v > 0)
            return (enum usage_class)c;
    }
    return USAGE_COUNT;
}

static bool overflow(struct err *err)
{
    return err_set(err, ERR_OVERFLOW, FATE_DEAD_LETTER, "rater: the cost does not fit");
}

/* Tokens in. false: they do not fit, or a class is below zero. */
static bool sum_prompt(const struct usage *usage, int64_t *prompt)
{
    *prompt = 0;
    for (int c = 0; c < USAGE_COUNT; c++) {
        if (usage->units[c].has && usage->units[c].v < 0)
            return false;
        bool in = c <= USAGE_CACHE_WRITE_1H;
        if (in && usage->units[c].has && __builtin_add_overflow(*prompt, usage->units[c].v, prompt))
            return false;
    }
    return true;
}

/* A line a class in use. false: no price, and *missing says for which. */
static bool price_classes(struct rating *r, enum usage_class *missing)
{
    struct rate_result *out = r->out;
    for (size_t i = 0; i < CLASS_RULES; i++) {
        const struct class_rule *rule = &class_rules[i];
        struct opt_i64 units = r->call->usage.units[rule->usage_class];
        if (!units.has || units.v == 0)
            continue;
        struct rate_line *line = &out->lines[out->line_count];
        *line = (struct rate_line){.usage_class = rule->usage_class, .units = units.v};
        line->rate_name = class_price(r, rule, &line->femtos);
        if (line->rate_name == NULL) {
            *missing = rule->usage_class;
            if (!rule->free_without)
                return false;
            line->rate_name = price_names[rule->own][PLAIN];
            line->assumed = true;
            assume(out, "free for lack of a price: ", usage_class_name(rule->usage_class));
        }
        out->line_count++;
    }
    return true;
}

static bool sum_lines(struct rate_result *out, struct err *err)
{
    int128 sum = 0;
    for (size_t i = 0; i < out->line_count; i++) {
        if (out->lines[i].femtos < 0) /* no import makes one: it would pay the caller */
            return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "rater: a price below zero");
        int128 cost = (int128)out->lines[i].units * out->lines[i].femtos;
        if (__builtin_add_overflow(sum, cost, &sum))
            return overflow(err);
    }
    return money_from_femtos(sum, &out->raw_nanos) || overflow(err);
}

/* *out was begun. */
static bool apply(const struct spend_call *call, const struct price_entry *entry, struct rate_result *out,
                  struct err *err)
{
    struct rating r = {.call = call, .entry = entry, .out = out};
    r.provider = provider_name(sv_is_empty(call->provider) ? entry->provider : call->provider);
    r.tier = tier_of(call->service_tier, r.provider);
    out->price_key = entry->key;
    if (!sum_prompt(&call->usage, &r.prompt))
        return overflow(err);
    enum usage_class missing = uncovered(&call->usage);
    if (missing != USAGE_COUNT)
        return unpriced(out, "no rule yet for usage of the class ", sv_of(usage_class_name(missing)));
    for (size_t i = 0; i < entry->rate_count; i++) {
        if (sv_starts_with(entry->rates[i].name, SV_LIT("tiered_pricing.")))
            return unpriced(out, "no rule yet for tiered_pricing", SV_LIT(""));
    }
    if (!find_threshold(&r))
        return unpriced(out, "no rule for a threshold of the entry", SV_LIT(""));
    if (!price_classes(&r, &missing))
        return unpriced(out, "the entry has no price for ", sv_of(usage_class_name(missing)));
    note_ignored(&r);
    if (!sum_lines(out, err))
        return false;
    if (out->raw_nanos == 0 && out->line_count > 0 && charges_otherwise(entry))
        return unpriced(out, "the entry charges by another unit than the call reports", SV_LIT(""));
    return true;
}

static void begin(struct rate_result *out, const struct price_book *book)
{
    *out = (struct rate_result){.verdict = RATE_OK, .rating = RATING_EXACT, .price_key = SV_NULL};
    out->price_version = book == NULL ? 0 : book->version;
}

/* Decided without a price. */
static bool needs_no_price(const struct spend_call *call, struct rate_result *out)
{
    if (!usage_is_empty(&call->usage))
        return false;
    if (call->outcome == OUTCOME_FAILED || call->outcome == OUTCOME_REJECTED) {
        out->rating = RATING_FREE;
        out->price_version = 0;
        say(out, "%s without usage", spend_outcome_name(call->outcome));
        return true;
    }
    return unpriced(out, "no usage was reported", SV_LIT(""));
}

bool rater_rate_with(const struct spend_call *call, const struct price_book *book,
                     const struct price_entry *entry, struct rate_result *out, struct err *err)
{
    begin(out, book);
    return needs_no_price(call, out) || apply(call, entry, out, err);
}

struct lookup {
    const struct spend_call *call;
    const struct registry *registry;
    const struct price_book *book;
    int64_t known_by;
    struct rate_result *out;
};

/* The entry of one model name: its alias's, else its own. */
static const struct price_entry *find_model(const struct lookup *l, struct strview model)
{
    if (sv_is_empty(model))
        return NULL;
    const struct registry_version *alias = NULL;
    if (l->registry != NULL)
        alias = registry_find(l->registry, REGISTRY_MODEL, model, l->call->admitted_at, l->known_by);
    if (alias == NULL || sv_is_empty(alias->price_key))
        return rater_find_entry(l->book, l->call->provider, model);
    const struct price_entry *entry = price_book_find(l->book, alias->price_key);
    if (entry == NULL || entry->rate_count == 0)
        entry = rater_find_entry(l->book, l->call->provider, alias->price_key);
    if (entry != NULL)
        return entry;
    entry = rater_find_entry(l->book, l->call->provider, model);
    if (entry != NULL) {
        l->out->rating = RATING_ASSUMED;
        say(l->out, "the alias of " SV_FMT " names " SV_FMT ", which has no price", SV_ARG(model),
            SV_ARG(alias->price_key));
    }
    return entry;
}

bool rater_rate(const struct spend_call *call, const struct registry *registry,
                const struct price_list *prices, int64_t known_by, struct rate_result *out, struct err *err)
{
    const struct price_book *book = price_list_find(prices, call->admitted_at, known_by);
    begin(out, book);
    if (needs_no_price(call, out))
        return true;
    if (book == NULL)
        return unpriced(out, "no price book was in force", SV_LIT(""));
    struct lookup l = {.call = call, .registry = registry, .book = book, .known_by = known_by, .out = out};
    const struct price_entry *entry = find_model(&l, call->model_replied);
    if (entry == NULL) {
        entry = find_model(&l, call->model_requested);
        if (entry != NULL && !sv_is_empty(call->model_replied)) {
            out->rating = RATING_ASSUMED;
            say(out, "the replied model " SV_FMT " has no price: the requested one's stands in",
                SV_ARG(call->model_replied));
        }
    }
    if (entry != NULL)
        return apply(call, entry, out, err);
    struct strview model = sv_is_empty(call->model_replied) ? call->model_requested : call->model_replied;
    if (sv_is_empty(model))
        return unpriced(out, "the call names no model", SV_LIT(""));
    return unpriced(out, "no price for the model ", model);
}
