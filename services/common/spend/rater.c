/*
 * rater: applies the prices of one entry to a call. The rules are docs/prices.md; where LiteLLM charges
 * nothing for lack of a price, so does this, and says so (rating `assumed`); what no rule here covers is
 * unpriced, never cheap.
 */
#include "spend/rater.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/money.h"
#include "spend/price_key.h"
#include "spend/price_tiers.h"

/* The prices this rater applies. */
enum price {
    PRICE_INPUT,
    PRICE_CACHE_READ,
    PRICE_WRITE_5M,
    PRICE_WRITE_1H,
    PRICE_AUDIO_IN,
    PRICE_IMAGE_IN,
    PRICE_INPUT_PLAIN,
    PRICE_OUTPUT,
    PRICE_REASONING,
    PRICE_AUDIO_OUT,
    PRICE_IMAGE_OUT,
    PRICE_EACH_OUT,
    PRICE_EACH_IN,
    PRICE_PIXEL,
    PRICE_CHARACTER,
    PRICE_SECOND_OUT,
    PRICE_SECOND_IN,
    PRICE_QUERY,
    PRICES /* ends a list */
};
enum variant { PLAIN, FLEX, PRIORITY, BATCH, ABOVE_128K, ABOVE_200K, ABOVE_272K, VARIANTS };

#define IN  "input_cost_per_token"
#define OUT "output_cost_per_token"
#define CR  "cache_read_input_token_cost"
#define CW  "cache_creation_input_token_cost"
#define EACH_VARIANT(base)                                                                                   \
    {                                                                                                        \
        base, base "_flex", base "_priority", base "_batches", base "_above_128k_tokens",                    \
            base "_above_200k_tokens", base "_above_272k_tokens"                                             \
    }

/* LiteLLM knows no variants of those with one name. */
static const char *const price_names[PRICES][VARIANTS] = {
    [PRICE_INPUT] = EACH_VARIANT(IN),
    [PRICE_CACHE_READ] = EACH_VARIANT(CR),
    [PRICE_WRITE_5M] = EACH_VARIANT(CW),
    [PRICE_WRITE_1H] = {CW "_above_1hr"},
    [PRICE_AUDIO_IN] = {"input_cost_per_audio_token"},
    [PRICE_IMAGE_IN] = {"input_cost_per_image_token"},
    [PRICE_INPUT_PLAIN] = {IN},
    [PRICE_OUTPUT] = EACH_VARIANT(OUT),
    [PRICE_REASONING] = {"output_cost_per_reasoning_token"},
    [PRICE_AUDIO_OUT] = {"output_cost_per_audio_token"},
    [PRICE_IMAGE_OUT] = {"output_cost_per_image_token"},
    [PRICE_EACH_OUT] = {"output_cost_per_image"},
    [PRICE_EACH_IN] = {"input_cost_per_image"},
    [PRICE_PIXEL] = {"input_cost_per_pixel"},
    [PRICE_CHARACTER] = {"input_cost_per_character"},
    [PRICE_SECOND_OUT] = {"output_cost_per_second"},
    [PRICE_SECOND_IN] = {"input_cost_per_second"},
    [PRICE_QUERY] = {"input_cost_per_query"},
};

static const int64_t thresholds[VARIANTS] = {
    [ABOVE_128K] = 128000, [ABOVE_200K] = 200000, [ABOVE_272K] = 272000};
#define ABOVE_IGNORED 256000 /* LiteLLM drops this one from what it reads */

/* What a usage class is made of; decides which total it belongs to. */
enum side { SIDE_IN, SIDE_OUT, SIDE_OTHER, SIDES };

#define CLASS_PRICES 3

/* How a usage class is priced: by the first of its prices that the entry has. */
struct class_rule {
    enum usage_class usage_class;
    enum side side;
    enum price prices[CLASS_PRICES];
    bool free_without; /* no price: LiteLLM charges nothing for it */
    int64_t per;       /* units the price is for */
};

static const struct class_rule class_rules[] = {
    {USAGE_INPUT, SIDE_IN, {PRICE_INPUT, PRICES}, true, 1},
    {USAGE_CACHE_READ, SIDE_IN, {PRICE_CACHE_READ, PRICES}, true, 1},
    {USAGE_CACHE_WRITE_5M, SIDE_IN, {PRICE_WRITE_5M, PRICES}, true, 1},
    {USAGE_CACHE_WRITE_1H, SIDE_IN, {PRICE_WRITE_1H, PRICES}, true, 1},
    {USAGE_AUDIO_IN, SIDE_IN, {PRICE_AUDIO_IN, PRICES}, true, 1},
    {USAGE_IMAGE_IN, SIDE_IN, {PRICE_IMAGE_IN, PRICE_INPUT_PLAIN, PRICES}, true, 1},
    {USAGE_OUTPUT, SIDE_OUT, {PRICE_OUTPUT, PRICES}, true, 1},
    {USAGE_REASONING, SIDE_OUT, {PRICE_REASONING, PRICE_OUTPUT, PRICES}, true, 1},
    {USAGE_AUDIO_OUT, SIDE_OUT, {PRICE_AUDIO_OUT, PRICE_OUTPUT, PRICES}, true, 1},
    {USAGE_IMAGE_OUT, SIDE_OUT, {PRICE_IMAGE_OUT, PRICE_OUTPUT, PRICES}, true, 1},
    {USAGE_IMAGES, SIDE_OTHER, {PRICE_EACH_OUT, PRICE_EACH_IN, PRICE_PIXEL}, false, 1},
    {USAGE_CHARACTERS, SIDE_OTHER, {PRICE_CHARACTER, PRICES}, false, 1},
    {USAGE_SECONDS_MILLI, SIDE_OTHER, {PRICE_SECOND_OUT, PRICE_SECOND_IN, PRICES}, true, 1000},
    {USAGE_REQUESTS, SIDE_OTHER, {PRICE_QUERY, PRICES}, true, 1},
};
#define CLASS_RULES (sizeof class_rules / sizeof class_rules[0])

/* Where a provider's own rule replaces those of the classes. */
enum habit {
    HABIT_NONE,
    HABIT_UNTIERED,  /* no flex, no priority price */
    HABIT_FLAT,      /* one price in, one out, whatever the tokens are */
    HABIT_SURCHARGE, /* flat, and reasoning costs its own price besides */
    HABIT_XAI,       /* one price out */
    HABIT_DASHSCOPE, /* cached and reasoning tokens apart from the others of their side; by ranges */
    HABIT_BATCH,     /* whoever it is: one price in, one out, else half of the plain ones */
};

/* One rating under way. */
struct rating {
    const struct spend_call *call;
    const struct price_entry *entry;
    enum habit habit;
    enum variant tier;         /* PLAIN, FLEX, PRIORITY, BATCH */
    enum variant above[SIDES]; /* the highest threshold passed; PLAIN: none */
    int64_t tokens[SIDES];     /* in, and out, of every class */
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

static bool overflow(struct err *err)
{
    return err_set(err, ERR_OVERFLOW, FATE_DEAD_LETTER, "rater: the cost does not fit");
}

static bool entry_has(const struct rating *r, const char *name, int64_t *femtos)
{
    return name != NULL && price_entry_rate(r->entry, sv_of(name), femtos);
}

static enum habit habit_of(struct strview provider)
{
    static const struct {
        const char *provider;
        enum habit habit;
    } habits[] = {
        {"anthropic", HABIT_UNTIERED},   {"azure", HABIT_UNTIERED},  {"azure_ai", HABIT_UNTIERED},
        {"deepseek", HABIT_UNTIERED},    {"databricks", HABIT_FLAT}, {"fireworks_ai", HABIT_FLAT},
        {"perplexity", HABIT_SURCHARGE}, {"xai", HABIT_XAI},         {"dashscope", HABIT_DASHSCOPE},
    };
    for (size_t i = 0; i < sizeof habits / sizeof habits[0]; i++) {
        if (sv_eq(provider, sv_of(habits[i].provider)))
            return habits[i].habit;
    }
    return HABIT_NONE;
}

static void tier_find(struct rating *r, struct strview provider)
{
    struct strview tier = r->call->service_tier;
    r->habit = habit_of(provider);
    if (sv_eq_nocase(tier, SV_LIT("batch"))) {
        r->habit = HABIT_BATCH;
        r->tier = BATCH;
    } else if (r->habit == HABIT_NONE) {
        r->tier = sv_eq_nocase(tier, SV_LIT("flex"))       ? FLEX
                  : sv_eq_nocase(tier, SV_LIT("priority")) ? PRIORITY
                                                           : PLAIN;
    }
}

/* Thresholds */

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

/* vertex_ai's own: with a price above 128k, all costs one price in and one out, each by its own count. */
static bool is_vertex_128k(struct rating *r, struct strview provider)
{
    int64_t ignored;
    if (r->habit != HABIT_NONE || !sv_eq(provider, SV_LIT("vertex_ai")) ||
        (!entry_has(r, price_names[PRICE_INPUT][ABOVE_128K], &ignored) &&
         !entry_has(r, price_names[PRICE_OUTPUT][ABOVE_128K], &ignored)))
        return false;
    r->habit = HABIT_FLAT;
    r->tier = PLAIN;
    for (int side = SIDE_IN; side <= SIDE_OUT; side++)
        r->above[side] = r->tokens[side] > thresholds[ABOVE_128K] ? ABOVE_128K : PLAIN;
    return true;
}

/* The highest threshold below the prompt. false: a threshold this rater has no row for. */
static bool threshold_find(struct rating *r)
{
    enum variant above = PLAIN;
    for (size_t i = 0; i < r->entry->rate_count; i++) {
        int64_t threshold = threshold_of(r->entry->rates[i].name);
        if (threshold == 0 || r->tokens[SIDE_IN] <= threshold)
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
        if (v > above)
            above = v;
    }
    r->above[SIDE_IN] = r->above[SIDE_OUT] = above;
    return true;
}

/* Applying */

/* The name of the price that holds: above the threshold, else the tier's, else the plain one. NULL: no price.
 */
static const char *choose(const struct rating *r, const struct class_rule *rule, enum price price,
                          struct rate_line *line)
{
    const enum variant order[] = {r->above[rule->side], r->tier};
    const char *const *names = price_names[price];
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if (order[i] != PLAIN && entry_has(r, names[order[i]], &line->femtos))
            return names[order[i]];
    }
    bool has = entry_has(r, names[PLAIN], &line->femtos);
    /* image models without a price of output: all they put out are images */
    const char *image = price_names[PRICE_IMAGE_OUT][PLAIN];
    if (price == PRICE_OUTPUT && (!has || line->femtos == 0) && entry_has(r, image, &line->femtos))
        return image;
    if (has && r->tier == BATCH && rule->side != SIDE_OTHER) {
        line->per = 2;
        assume(r->out, "half of the price, as in LiteLLM's batches: ", names[PLAIN]);
    }
    return has ? names[PLAIN] : NULL;
}

/* The prices a class may have here; the first that the entry has counts. */
static const enum price *prices_of(const struct rating *r, const struct class_rule *rule)
{
    static const enum price flat[SIDES][2] = {{PRICE_INPUT, PRICES}, {PRICE_OUTPUT, PRICES}};
    static const enum price cached[] = {PRICE_CACHE_READ, PRICE_INPUT, PRICES};
    int64_t ignored;
    bool own = false; /* the class's own, though its side is flat */
    switch (r->habit) {
    case HABIT_NONE:
    case HABIT_UNTIERED:
        return rule->prices;
    case HABIT_FLAT:
    case HABIT_SURCHARGE:
        break;
    case HABIT_XAI:
        own = rule->side == SIDE_IN;
        break;
    case HABIT_DASHSCOPE:
        if (rule->usage_class == USAGE_CACHE_READ)
            return cached;
        own = rule->usage_class == USAGE_REASONING;
        break;
    case HABIT_BATCH:
        own =
            rule->usage_class == USAGE_CACHE_READ && !entry_has(r, price_names[PRICE_INPUT][BATCH], &ignored);
        break;
    }
    return own || rule->side == SIDE_OTHER ? rule->prices : flat[rule->side];
}

/* The price of a class, in the line. An image priced by its size costs its pixels'. */
static void class_price(const struct rating *r, const struct class_rule *rule, struct rate_line *line)
{
    const enum price *prices = prices_of(r, rule);
    for (size_t i = 0; i < CLASS_PRICES && prices[i] != PRICES && line->rate_name == NULL; i++) {
        int64_t pixels = prices[i] == PRICE_PIXEL ? price_key_pixels(r->entry->key) : 1;
        if (pixels == 0)
            pixels = price_key_pixels(r->call->variant);
        line->rate_name = choose(r, rule, prices[i], line);
        if (pixels == 0 || __builtin_mul_overflow(line->femtos, pixels, &line->femtos))
            line->rate_name = NULL;
    }
}

static void line_add(struct rating *r, const struct rate_line *line)
{
    struct rate_result *out = r->out;
    assert(out->line_count < RATE_LINES_MAX);
    out->lines[out->line_count++] = *line;
    if (line->assumed)
        assume(out, "free for lack of a price: ", usage_class_name(line->usage_class));
}

/* A line a class in use, of the sides from `first` on. false: no price, and *missing says for which. */
static bool price_classes(struct rating *r, enum side first, enum usage_class *missing)
{
    for (size_t i = 0; i < CLASS_RULES; i++) {
        const struct class_rule *rule = &class_rules[i];
        struct opt_i64 units = r->call->usage.units[rule->usage_class];
        struct rate_line line = {.usage_class = rule->usage_class, .units = units.v, .per = rule->per};
        if (!units.has || units.v == 0 || rule->side < first)
            continue;
        class_price(r, rule, &line);
        if (line.rate_name == NULL) {
            *missing = rule->usage_class;
            if (!rule->free_without)
                return false;
            assert(rule->prices[0] < PRICES);
            line.rate_name = price_names[rule->prices[0]][PLAIN];
            line.assumed = true;
        }
        line_add(r, &line);
    }
    return true;
}

/* perplexity's reasoning tokens, once more. */
static void price_surcharge(struct rating *r)
{
    struct opt_i64 units = r->call->usage.units[USAGE_REASONING];
    struct rate_line line = {.usage_class = USAGE_REASONING, .units = units.v, .per = 1};
    line.rate_name = price_names[PRICE_REASONING][PLAIN];
    if (units.has && units.v > 0 && entry_has(r, line.rate_name, &line.femtos))
        line_add(r, &line);
}

/* Each slice of a kind of tokens at the price of the range it falls in. */
static void price_by_ranges(struct rating *r, const struct price_tiers *tiers)
{
    const struct usage *usage = &r->call->usage;
    int64_t cached = usage->units[USAGE_CACHE_READ].v;
    int64_t reasoning = usage->units[USAGE_REASONING].v;
    const struct {
        enum usage_class usage_class;
        int64_t units;
        const char *own;
        const char *fallback;
    } kinds[] = {{USAGE_INPUT, r->tokens[SIDE_IN] - cached, IN, NULL},
                 {USAGE_CACHE_READ, cached, CR, IN},
                 {USAGE_OUTPUT, r->tokens[SIDE_OUT] - reasoning, OUT, NULL},
                 {USAGE_REASONING, reasoning, price_names[PRICE_REASONING][PLAIN], OUT}};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        for (size_t i = 0; i < tiers->count; i++) {
            struct rate_line line = {
                .usage_class = kinds[k].usage_class, .per = 1, .rate_name = kinds[k].own};
            line.units = price_tiers_slice(tiers, i, kinds[k].units);
            if (line.units == 0)
                continue;
            if (!price_tiers_rate(r->entry, tiers, i, line.rate_name, &line.femtos) || line.femtos == 0) {
                line.rate_name = kinds[k].fallback != NULL ? kinds[k].fallback : kinds[k].own;
                line.assumed = !price_tiers_rate(r->entry, tiers, i, line.rate_name, &line.femtos);
            }
            line_add(r, &line);
        }
    }
}

/* Prices the file has and LiteLLM does not read: the call is billed without them, and says so. */
static void note_ignored(struct rating *r)
{
    static const char *const above_priority[VARIANTS] = {
        [ABOVE_200K] = IN "_above_200k_tokens_priority", [ABOVE_272K] = IN "_above_272k_tokens_priority"};
    const char *written = CW "_above_1hr_above_200k_tokens";
    const char *request = "input_cost_per_request";
    int64_t femtos;
    if (r->tier == PRIORITY && entry_has(r, above_priority[r->above[SIDE_IN]], &femtos))
        assume(r->out, "not applied, as in LiteLLM: ", above_priority[r->above[SIDE_IN]]);
    if (r->above[SIDE_IN] == ABOVE_200K && r->call->usage.units[USAGE_CACHE_WRITE_1H].v > 0 &&
        entry_has(r, written, &femtos))
        assume(r->out, "not applied, as in LiteLLM: ", written);
    if (entry_has(r, request, &femtos) && femtos > 0)
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

/* Tokens in and out. false: they do not fit, or a class is below zero. */
static bool tokens_sum(struct rating *r)
{
    for (size_t i = 0; i < CLASS_RULES; i++) {
        struct opt_i64 units = r->call->usage.units[class_rules[i].usage_class];
        enum side side = class_rules[i].side;
        if (units.has &&
            (units.v < 0 ||
             (side < SIDE_OTHER && __builtin_add_overflow(r->tokens[side], units.v, &r->tokens[side]))))
            return false;
    }
    return true;
}

static bool lines_sum(struct rate_result *out, struct err *err)
{
    int128 sum = 0;
    for (size_t i = 0; i < out->line_count; i++) {
        const struct rate_line *line = &out->lines[i];
        int128 cost;
        if (line->femtos < 0) /* no import makes one: it would pay the caller */
            return err_set(err, ERR_INVALID, FATE_DEAD_LETTER, "rater: a price below zero");
        if (__builtin_mul_overflow((int128)line->units * line->femtos, RATE_PER_MAX / line->per, &cost) ||
            __builtin_add_overflow(sum, cost, &sum))
            return overflow(err);
    }
    return money_from_femtos(sum, RATE_PER_MAX, &out->raw_nanos) || overflow(err);
}

/* *out was begun. */
static bool apply(const struct spend_call *call, const struct price_book *book,
                  const struct price_entry *entry, struct rate_result *out, struct err *err)
{
    struct rating r = {.call = call, .entry = entry, .out = out};
    struct strview provider =
        price_key_provider(sv_is_empty(call->provider) ? entry->provider : call->provider);
    struct price_tiers tiers = {.count = 0};
    enum usage_class missing;
    out->price_key = entry->key;
    tier_find(&r, provider);
    if (!tokens_sum(&r))
        return overflow(err);
    if (call->usage.units[USAGE_IMAGES].v > 0 && book != NULL && price_key_has_sizes(book, entry->key))
        return unpriced(out, "an image's quality and size decide its price: no entry for ",
                        sv_is_null(call->variant) ? SV_LIT("an unknown one") : call->variant);
    if (r.habit == HABIT_DASHSCOPE && !price_tiers_read(entry, &tiers))
        return unpriced(out, "tiered_pricing that cannot be read: import the price file again", SV_LIT(""));
    bool by_prompt = r.habit == HABIT_NONE || r.habit == HABIT_UNTIERED || r.habit == HABIT_XAI;
    if (!is_vertex_128k(&r, provider) && by_prompt && !threshold_find(&r))
        return unpriced(out, "no rule for a threshold of the entry", SV_LIT(""));
    if (tiers.count > 0)
        price_by_ranges(&r, &tiers);
    if (!price_classes(&r, tiers.count > 0 ? SIDE_OTHER : SIDE_IN, &missing))
        return unpriced(out, "the entry has no price for ", sv_of(usage_class_name(missing)));
    if (r.habit == HABIT_SURCHARGE)
        price_surcharge(&r);
    note_ignored(&r);
    if (!lines_sum(out, err))
        return false;
    if (out->raw_nanos == 0 && out->line_count > 0 && charges_otherwise(entry))
        assume(out, "the entry charges by another unit than the call reports", "");
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
    return needs_no_price(call, out) || apply(call, book, entry, out, err);
}

struct lookup {
    const struct spend_call *call;
    const struct registry *registry;
    const struct price_book *book;
    int64_t known_by;
    struct rate_result *out;
};

static const struct price_entry *find_named(const struct lookup *l, struct strview model)
{
    const struct price_entry *e = price_key_find_image(l->book, l->call, model);
    return e != NULL ? e : price_key_find(l->book, l->call->operation, l->call->provider, model);
}

/* The entry of one model name: its alias's, else its own. */
static const struct price_entry *find_model(const struct lookup *l, struct strview model)
{
    if (sv_is_empty(model))
        return NULL;
    const struct registry_version *alias = NULL;
    if (l->registry != NULL)
        alias = registry_find(l->registry, REGISTRY_MODEL, model, l->call->admitted_at, l->known_by);
    if (alias == NULL || sv_is_empty(alias->price_key))
        return find_named(l, model);
    const struct price_entry *entry = price_key_find_image(l->book, l->call, alias->price_key);
    if (entry == NULL)
        entry = price_book_find(l->book, alias->price_key);
    if (entry == NULL)
        entry = find_named(l, alias->price_key);
    if (entry != NULL)
        return entry;
    entry = find_named(l, model);
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
        return apply(call, book, entry, out, err);
    struct strview model = sv_is_empty(call->model_replied) ? call->model_requested : call->model_replied;
    if (sv_is_empty(model))
        return unpriced(out, "the call names no model", SV_LIT(""));
    return unpriced(out, "no price for the model ", model);
}
