/*
 * usage_map: the rows. A new operation or a provider's new field is a row here.
 */
#include "ingest/usage_map.h"

#include "base/money.h"

/* OpenAI's chat and legacy completions; LiteLLM adds the cache fields for Anthropic models, contained in
 * prompt_tokens. */
static const struct usage_row chat[] = {
    {SV_INIT("prompt_tokens"), USAGE_ROLE_IN_TOTAL, USAGE_INPUT},
    {SV_INIT("completion_tokens"), USAGE_ROLE_OUT_TOTAL, USAGE_OUTPUT},
    {SV_INIT("total_tokens"), USAGE_ROLE_TOTAL, USAGE_COUNT},
    {SV_INIT("cache_read_input_tokens"), USAGE_ROLE_IN_PART, USAGE_CACHE_READ},
    {SV_INIT("prompt_tokens_details.cached_tokens"), USAGE_ROLE_IN_PART, USAGE_CACHE_READ},
    {SV_INIT("cache_creation_input_tokens"), USAGE_ROLE_WRITTEN, USAGE_CACHE_WRITE_5M},
    {SV_INIT("prompt_tokens_details.cache_creation_tokens"), USAGE_ROLE_WRITTEN, USAGE_CACHE_WRITE_5M},
    {SV_INIT("prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens"),
     USAGE_ROLE_IN_PART, USAGE_CACHE_WRITE_5M},
    {SV_INIT("prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens"),
     USAGE_ROLE_IN_PART, USAGE_CACHE_WRITE_1H},
    {SV_INIT("prompt_tokens_details.audio_tokens"), USAGE_ROLE_IN_PART, USAGE_AUDIO_IN},
    {SV_INIT("prompt_tokens_details.image_tokens"), USAGE_ROLE_IN_PART, USAGE_IMAGE_IN},
    {SV_INIT("completion_tokens_details.reasoning_tokens"), USAGE_ROLE_OUT_PART, USAGE_REASONING},
    {SV_INIT("completion_tokens_details.audio_tokens"), USAGE_ROLE_OUT_PART, USAGE_AUDIO_OUT},
    {SV_INIT("completion_tokens_details.image_tokens"), USAGE_ROLE_OUT_PART, USAGE_IMAGE_OUT},
};

static const struct usage_row responses[] = {
    {SV_INIT("input_tokens"), USAGE_ROLE_IN_TOTAL, USAGE_INPUT},
    {SV_INIT("output_tokens"), USAGE_ROLE_OUT_TOTAL, USAGE_OUTPUT},
    {SV_INIT("total_tokens"), USAGE_ROLE_TOTAL, USAGE_COUNT},
    {SV_INIT("input_tokens_details.cached_tokens"), USAGE_ROLE_IN_PART, USAGE_CACHE_READ},
    {SV_INIT("input_tokens_details.audio_tokens"), USAGE_ROLE_IN_PART, USAGE_AUDIO_IN},
    {SV_INIT("output_tokens_details.reasoning_tokens"), USAGE_ROLE_OUT_PART, USAGE_REASONING},
    {SV_INIT("output_tokens_details.audio_tokens"), USAGE_ROLE_OUT_PART, USAGE_AUDIO_OUT},
};

/* Anthropic's: input_tokens holds no cached and no written ones. */
static const struct usage_row messages[] = {
    {SV_INIT("input_tokens"), USAGE_ROLE_CLASS, USAGE_INPUT},
    {SV_INIT("output_tokens"), USAGE_ROLE_OUT_TOTAL, USAGE_OUTPUT},
    {SV_INIT("cache_read_input_tokens"), USAGE_ROLE_IN_PART, USAGE_CACHE_READ},
    {SV_INIT("cache_creation_input_tokens"), USAGE_ROLE_WRITTEN, USAGE_CACHE_WRITE_5M},
    {SV_INIT("cache_creation.ephemeral_5m_input_tokens"), USAGE_ROLE_IN_PART, USAGE_CACHE_WRITE_5M},
    {SV_INIT("cache_creation.ephemeral_1h_input_tokens"), USAGE_ROLE_IN_PART, USAGE_CACHE_WRITE_1H},
};

static const struct usage_row embeddings[] = {
    {SV_INIT("total_tokens"), USAGE_ROLE_IN_TOTAL, USAGE_INPUT}, /* some tell no other */
    {SV_INIT("prompt_tokens"), USAGE_ROLE_IN_TOTAL, USAGE_INPUT},
    {SV_INIT("prompt_tokens_details.image_tokens"), USAGE_ROLE_IN_PART, USAGE_IMAGE_IN},
    {SV_INIT("prompt_tokens_details.audio_tokens"), USAGE_ROLE_IN_PART, USAGE_AUDIO_IN},
};

/* Within `usage`, or Cohere's `meta`. */
static const struct usage_row rerank[] = {
    {SV_INIT("total_tokens"), USAGE_ROLE_CLASS, USAGE_INPUT},
    {SV_INIT("billed_units.total_tokens"), USAGE_ROLE_CLASS, USAGE_INPUT},
    {SV_INIT("billed_units.search_units"), USAGE_ROLE_CLASS, USAGE_REQUESTS},
};

/* `data`: how many images came. LiteLLM writes zeros where a provider reported no tokens. */
static const struct usage_row images[] = {
    {SV_INIT("input_tokens"), USAGE_ROLE_IN_TOTAL, USAGE_INPUT},
    {SV_INIT("output_tokens"), USAGE_ROLE_OUT_TOTAL, USAGE_OUTPUT},
    {SV_INIT("total_tokens"), USAGE_ROLE_TOTAL, USAGE_COUNT},
    {SV_INIT("input_tokens_details.image_tokens"), USAGE_ROLE_IN_PART, USAGE_IMAGE_IN},
    {SV_INIT("output_tokens_details.image_tokens"), USAGE_ROLE_OUT_PART, USAGE_IMAGE_OUT},
    {SV_INIT(USAGE_PATH_DATA), USAGE_ROLE_ELSE, USAGE_IMAGES},
    {SV_INIT("images"), USAGE_ROLE_ELSE, USAGE_IMAGES}, /* as an event tells them */
};

static const struct usage_row speech[] = {
    {SV_INIT("input_tokens"), USAGE_ROLE_IN_TOTAL, USAGE_INPUT},
    {SV_INIT("output_tokens"), USAGE_ROLE_OUT_TOTAL, USAGE_AUDIO_OUT},
    {SV_INIT("total_tokens"), USAGE_ROLE_TOTAL, USAGE_COUNT},
    {SV_INIT(USAGE_PATH_CHARACTERS), USAGE_ROLE_ELSE, USAGE_CHARACTERS},
    {SV_INIT("characters"), USAGE_ROLE_ELSE, USAGE_CHARACTERS}, /* as an event tells them */
};

/* `duration` stands at the root of the reply. */
static const struct usage_row transcription[] = {
    {SV_INIT("input_tokens"), USAGE_ROLE_IN_TOTAL, USAGE_INPUT},
    {SV_INIT("output_tokens"), USAGE_ROLE_OUT_TOTAL, USAGE_OUTPUT},
    {SV_INIT("total_tokens"), USAGE_ROLE_TOTAL, USAGE_COUNT},
    {SV_INIT("input_token_details.audio_tokens"), USAGE_ROLE_IN_PART, USAGE_AUDIO_IN},
    {SV_INIT(USAGE_PATH_DURATION), USAGE_ROLE_ELSE, USAGE_SECONDS_MILLI},
    {SV_INIT("seconds"), USAGE_ROLE_ELSE, USAGE_SECONDS_MILLI},
};

#define TABLE(rows)                                                                                          \
    {                                                                                                        \
        (rows), sizeof(rows) / sizeof((rows)[0]), false                                                      \
    }

static const struct usage_table tables[OPERATION_COUNT] = {
    [OPERATION_CHAT] = TABLE(chat),
    [OPERATION_COMPLETION] = TABLE(chat),
    [OPERATION_RESPONSES] = TABLE(responses),
    [OPERATION_MESSAGES] = TABLE(messages),
    [OPERATION_EMBEDDINGS] = TABLE(embeddings),
    [OPERATION_RERANK] = TABLE(rerank),
    [OPERATION_IMAGE] = TABLE(images),
    [OPERATION_SPEECH] = TABLE(speech),
    [OPERATION_TRANSCRIPTION] = TABLE(transcription),
};

struct usage_table usage_map(enum spend_operation operation, struct strview provider)
{
    struct usage_table table = tables[operation];
    table.reasoning_beside = sv_eq(provider, SV_LIT("xai"));
    return table;
}

bool usage_is_text(enum spend_operation operation)
{
    return operation == OPERATION_CHAT || operation == OPERATION_COMPLETION ||
           operation == OPERATION_RESPONSES || operation == OPERATION_MESSAGES ||
           operation == OPERATION_EMBEDDINGS;
}

struct total {
    struct opt_i64 value;
    enum usage_class class;
    int128 parts;
};

struct totals {
    struct total in;
    struct total out;
    struct opt_i64 all;
    struct opt_i64 written; /* cache writes of every kind */
    bool mismatch;
};

/* The row is overridden: a later row of its class has a value too. */
static bool is_overridden(const struct usage_table *table, const struct opt_i64 *value, size_t at)
{
    for (size_t i = at + 1; i < table->count; i++)
        if (table->row[i].class == table->row[at].class && value[i].has)
            return true;
    return false;
}

static void row_take(const struct usage_row *row, struct opt_i64 value, struct usage *out, struct totals *sum)
{
    switch (row->role) {
    case USAGE_ROLE_IN_TOTAL:
        sum->in.value = value;
        sum->in.class = row->class;
        break;
    case USAGE_ROLE_OUT_TOTAL:
        sum->out.value = value;
        sum->out.class = row->class;
        break;
    case USAGE_ROLE_TOTAL:
        sum->all = value;
        break;
    case USAGE_ROLE_IN_PART:
    case USAGE_ROLE_OUT_PART:
    case USAGE_ROLE_CLASS:
        out->units[row->class] = value;
        if (row->role == USAGE_ROLE_IN_PART)
            sum->in.parts += value.v;
        else if (row->role == USAGE_ROLE_OUT_PART)
            sum->out.parts += value.v;
        break;
    case USAGE_ROLE_WRITTEN: /* before: it is known of all rows */
    case USAGE_ROLE_ELSE:    /* last */
        break;
    }
}

/* What was written for five minutes is what is left of all that was written. */
static void written_split(struct usage *out, struct totals *sum)
{
    struct opt_i64 *minutes = &out->units[USAGE_CACHE_WRITE_5M];
    int64_t hour = out->units[USAGE_CACHE_WRITE_1H].has ? out->units[USAGE_CACHE_WRITE_1H].v : 0;
    if (!sum->written.has)
        return;
    int64_t rest = sum->written.v > hour ? sum->written.v - hour : 0;
    sum->mismatch = sum->mismatch || sum->written.v < hour || (minutes->has && minutes->v != rest);
    if (minutes->has && minutes->v >= rest)
        return;
    sum->in.parts += rest - (minutes->has ? minutes->v : 0);
    *minutes = OPT_I64(rest);
}

/* Some count reasoning beside the output; their own sum says so. */
static bool is_beside(const struct usage_table *table, const struct usage *usage, const struct totals *sum)
{
    struct opt_i64 reasoning = usage->units[USAGE_REASONING];
    int128 both = (int128)sum->in.value.v + sum->out.value.v;
    if (!reasoning.has || !sum->out.value.has)
        return false;
    return table->reasoning_beside ||
           (sum->all.has && sum->in.value.has && both != sum->all.v && both + reasoning.v == sum->all.v);
}

static void total_split(struct total *total, struct usage *out, bool *mismatch)
{
    int128 rest = total->value.v - total->parts; /* no part is below zero */
    if (!total->value.has)
        return;
    *mismatch = *mismatch || rest < 0;
    out->units[total->class] = OPT_I64(rest < 0 ? 0 : (int64_t)rest);
}

static void else_take(const struct usage_table *table, const struct opt_i64 *value, struct usage *out)
{
    for (int c = 0; c < USAGE_COUNT; c++)
        if (out->units[c].has && out->units[c].v > 0)
            return;
    for (size_t i = 0; i < table->count; i++)
        if (table->row[i].role == USAGE_ROLE_ELSE && value[i].has)
            out->units[table->row[i].class] = value[i];
}

void usage_resolve(const struct usage_table *table, const struct opt_i64 *value, struct usage *out,
                   bool *mismatch)
{
    struct totals sum = {0};
    *out = (struct usage){0};
    for (size_t i = 0; i < table->count; i++) {
        if (!value[i].has)
            continue;
        if (table->row[i].role == USAGE_ROLE_WRITTEN)
            sum.written = value[i];
        else if (!is_overridden(table, value, i))
            row_take(&table->row[i], value[i], out, &sum);
    }
    written_split(out, &sum);
    bool beside = is_beside(table, out, &sum);
    int64_t reasoning = beside ? out->units[USAGE_REASONING].v : 0;
    sum.out.parts -= reasoning;
    int128 both = (int128)sum.in.value.v + sum.out.value.v;
    if (sum.all.has && sum.in.value.has && both != sum.all.v && both + reasoning != sum.all.v)
        sum.mismatch = true;
    total_split(&sum.in, out, &sum.mismatch);
    total_split(&sum.out, out, &sum.mismatch);
    else_take(table, value, out);
    *mismatch = sum.mismatch;
}
