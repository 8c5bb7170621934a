/*
 * usage_map: the rows. A new operation or a provider's new field is a row here.
 */
#include "ingest/usage_map.h"

/* OpenAI's chat and legacy completions; LiteLLM adds the cache fields for Anthropic models, contained in
 * prompt_tokens. */
static const struct usage_row chat[] = {
    {"prompt_tokens", USAGE_ROLE_IN_TOTAL, USAGE_INPUT},
    {"completion_tokens", USAGE_ROLE_OUT_TOTAL, USAGE_OUTPUT},
    {"total_tokens", USAGE_ROLE_TOTAL, USAGE_COUNT},
    {"cache_read_input_tokens", USAGE_ROLE_IN_PART, USAGE_CACHE_READ},
    {"prompt_tokens_details.cached_tokens", USAGE_ROLE_IN_PART, USAGE_CACHE_READ},
    {"cache_creation_input_tokens", USAGE_ROLE_IN_PART, USAGE_CACHE_WRITE_5M},
    {"prompt_tokens_details.cache_creation_tokens", USAGE_ROLE_IN_PART, USAGE_CACHE_WRITE_5M},
    {"prompt_tokens_details.audio_tokens", USAGE_ROLE_IN_PART, USAGE_AUDIO_IN},
    {"prompt_tokens_details.image_tokens", USAGE_ROLE_IN_PART, USAGE_IMAGE_IN},
    {"completion_tokens_details.reasoning_tokens", USAGE_ROLE_OUT_PART, USAGE_REASONING},
    {"completion_tokens_details.audio_tokens", USAGE_ROLE_OUT_PART, USAGE_AUDIO_OUT},
    {"completion_tokens_details.image_tokens", USAGE_ROLE_OUT_PART, USAGE_IMAGE_OUT},
};

static const struct usage_row responses[] = {
    {"input_tokens", USAGE_ROLE_IN_TOTAL, USAGE_INPUT},
    {"output_tokens", USAGE_ROLE_OUT_TOTAL, USAGE_OUTPUT},
    {"total_tokens", USAGE_ROLE_TOTAL, USAGE_COUNT},
    {"input_tokens_details.cached_tokens", USAGE_ROLE_IN_PART, USAGE_CACHE_READ},
    {"output_tokens_details.reasoning_tokens", USAGE_ROLE_OUT_PART, USAGE_REASONING},
};

static const struct usage_row embeddings[] = {
    {"prompt_tokens", USAGE_ROLE_IN_TOTAL, USAGE_INPUT},
    {"total_tokens", USAGE_ROLE_TOTAL, USAGE_COUNT},
};

#define TABLE(rows) ((struct usage_table){(rows), sizeof(rows) / sizeof((rows)[0])})

struct usage_table usage_map(enum spend_operation operation)
{
    switch (operation) {
    case OPERATION_CHAT:
    case OPERATION_COMPLETION:
        return TABLE(chat);
    case OPERATION_RESPONSES:
        return TABLE(responses);
    case OPERATION_EMBEDDINGS:
        return TABLE(embeddings);
    case OPERATION_MESSAGES:
    case OPERATION_RERANK:
    case OPERATION_IMAGE:
    case OPERATION_SPEECH:
    case OPERATION_TRANSCRIPTION:
    case OPERATION_BATCH:
    case OPERATION_FINE_TUNE:
    case OPERATION_OTHER:
    case OPERATION_COUNT:
        break;
    }
    return (struct usage_table){NULL, 0};
}

struct totals {
    struct opt_i64 in;
    struct opt_i64 out;
    struct opt_i64 all;
    int64_t in_parts;
    int64_t out_parts;
};

static bool is_part(enum usage_role role)
{
    return role == USAGE_ROLE_IN_PART || role == USAGE_ROLE_OUT_PART;
}

/* The row is overridden: a later row of its class has a value too. */
static bool is_overridden(const struct usage_table *table, const struct opt_i64 *value, size_t at)
{
    for (size_t i = at + 1; i < table->count; i++)
        if (table->row[i].class == table->row[at].class && value[i].has)
            return true;
    return false;
}

static bool residual(struct opt_i64 total, int64_t parts, struct opt_i64 *out)
{
    if (!total.has)
        return true;
    int64_t rest = 0;
    if (__builtin_sub_overflow(total.v, parts, &rest))
        rest = -1;
    *out = OPT_I64(rest < 0 ? 0 : rest);
    return rest >= 0;
}

static void totals_read(const struct usage_table *table, const struct opt_i64 *value, struct usage *out,
                        struct totals *sum, bool *mismatch)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct usage_row *row = &table->row[i];
        if (!value[i].has || is_overridden(table, value, i))
            continue;
        if (row->role == USAGE_ROLE_IN_TOTAL)
            sum->in = value[i];
        else if (row->role == USAGE_ROLE_OUT_TOTAL)
            sum->out = value[i];
        else if (row->role == USAGE_ROLE_TOTAL)
            sum->all = value[i];
        else
            out->units[row->class] = value[i];
        int64_t *parts = row->role == USAGE_ROLE_IN_PART ? &sum->in_parts : &sum->out_parts;
        if (is_part(row->role) && __builtin_add_overflow(*parts, value[i].v, parts))
            *mismatch = true;
    }
}

void usage_resolve(const struct usage_table *table, const struct opt_i64 *value, struct usage *out,
                   bool *mismatch)
{
    *out = (struct usage){0};
    *mismatch = false;
    struct totals sum = {0};
    totals_read(table, value, out, &sum, mismatch);
    if (!residual(sum.in, sum.in_parts, &out->units[USAGE_INPUT]))
        *mismatch = true;
    if (!residual(sum.out, sum.out_parts, &out->units[USAGE_OUTPUT]))
        *mismatch = true;
    int64_t both = 0;
    if (sum.all.has && sum.in.has &&
        (__builtin_add_overflow(sum.in.v, sum.out.has ? sum.out.v : 0, &both) || both != sum.all.v))
        *mismatch = true;
}
