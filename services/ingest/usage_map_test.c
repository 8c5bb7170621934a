/*
 * usage_map: each operation's numbers, and what they come to in disjoint classes.
 */
#include "ingest/usage_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NUMBERS_MAX 10

struct number {
    const char *path;
    int64_t v;
};

struct row {
    enum spend_operation operation;
    const char *provider;
    struct number given[NUMBERS_MAX];
    struct {
        enum usage_class class;
        int64_t v;
    } wanted[6]; /* all others null; ends with v -1 */
    bool mismatch;
};

#define END                                                                                                  \
    {                                                                                                        \
        USAGE_INPUT, -1                                                                                      \
    }

static const struct row rows[] = {
    {OPERATION_CHAT,
     NULL,
     {{"prompt_tokens", 100}, {"completion_tokens", 40}, {"total_tokens", 140}},
     {{USAGE_INPUT, 100}, {USAGE_OUTPUT, 40}, END},
     false},
    {OPERATION_CHAT, /* all writes, and how they split */
     NULL,
     {{"prompt_tokens", 630},
      {"completion_tokens", 40},
      {"total_tokens", 670},
      {"prompt_tokens_details.cached_tokens", 500},
      {"prompt_tokens_details.cache_creation_tokens", 30},
      {"prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens", 20},
      {"prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens", 10}},
     {{USAGE_INPUT, 100},
      {USAGE_CACHE_READ, 500},
      {USAGE_CACHE_WRITE_5M, 20},
      {USAGE_CACHE_WRITE_1H, 10},
      {USAGE_OUTPUT, 40},
      END},
     false},
    {OPERATION_CHAT, /* an OpenAI's reasoning is within the output */
     NULL,
     {{"prompt_tokens", 10},
      {"completion_tokens", 5},
      {"total_tokens", 15},
      {"completion_tokens_details.reasoning_tokens", 3}},
     {{USAGE_INPUT, 10}, {USAGE_OUTPUT, 2}, {USAGE_REASONING, 3}, END},
     false},
    {OPERATION_CHAT, /* beside it, as the sum says */
     NULL,
     {{"prompt_tokens", 10},
      {"completion_tokens", 5},
      {"total_tokens", 18},
      {"completion_tokens_details.reasoning_tokens", 3}},
     {{USAGE_INPUT, 10}, {USAGE_OUTPUT, 5}, {USAGE_REASONING, 3}, END},
     false},
    {OPERATION_CHAT, /* beside it, as its provider is known to count */
     "xai",
     {{"prompt_tokens", 10},
      {"completion_tokens", 5},
      {"total_tokens", 15},
      {"completion_tokens_details.reasoning_tokens", 7}},
     {{USAGE_INPUT, 10}, {USAGE_OUTPUT, 5}, {USAGE_REASONING, 7}, END},
     false},
    {OPERATION_CHAT,
     NULL,
     {{"prompt_tokens", 10}, {"completion_tokens", 5}, {"total_tokens", 16}},
     {{USAGE_INPUT, 10}, {USAGE_OUTPUT, 5}, END},
     true},
    {OPERATION_CHAT, /* parts above their total */
     NULL,
     {{"prompt_tokens", 10}, {"prompt_tokens_details.cached_tokens", 11}},
     {{USAGE_INPUT, 0}, {USAGE_CACHE_READ, 11}, END},
     true},
    {OPERATION_MESSAGES, /* input holds no cached and no written tokens */
     NULL,
     {{"input_tokens", 100},
      {"cache_read_input_tokens", 500},
      {"cache_creation_input_tokens", 30},
      {"output_tokens", 40}},
     {{USAGE_INPUT, 100}, {USAGE_CACHE_READ, 500}, {USAGE_CACHE_WRITE_5M, 30}, {USAGE_OUTPUT, 40}, END},
     false},
    {OPERATION_MESSAGES,
     NULL,
     {{"input_tokens", 1},
      {"cache_creation_input_tokens", 30},
      {"cache_creation.ephemeral_1h_input_tokens", 10},
      {"output_tokens", 4}},
     {{USAGE_INPUT, 1}, {USAGE_CACHE_WRITE_5M, 20}, {USAGE_CACHE_WRITE_1H, 10}, {USAGE_OUTPUT, 4}, END},
     false},
    {OPERATION_MESSAGES, /* a split that says less than the whole: the whole is paid */
     NULL,
     {{"cache_creation_input_tokens", 30},
      {"cache_creation.ephemeral_5m_input_tokens", 5},
      {"cache_creation.ephemeral_1h_input_tokens", 10}},
     {{USAGE_CACHE_WRITE_5M, 20}, {USAGE_CACHE_WRITE_1H, 10}, END},
     true},
    {OPERATION_MESSAGES, /* and one that says more */
     NULL,
     {{"cache_creation_input_tokens", 5}, {"cache_creation.ephemeral_1h_input_tokens", 10}},
     {{USAGE_CACHE_WRITE_5M, 0}, {USAGE_CACHE_WRITE_1H, 10}, END},
     true},
    {OPERATION_RESPONSES,
     NULL,
     {{"input_tokens", 120},
      {"input_tokens_details.cached_tokens", 20},
      {"output_tokens", 45},
      {"output_tokens_details.reasoning_tokens", 10},
      {"total_tokens", 165}},
     {{USAGE_INPUT, 100}, {USAGE_CACHE_READ, 20}, {USAGE_OUTPUT, 35}, {USAGE_REASONING, 10}, END},
     false},
    {OPERATION_EMBEDDINGS,
     NULL,
     {{"prompt_tokens", 8}, {"total_tokens", 8}, {"prompt_tokens_details.image_tokens", 3}},
     {{USAGE_INPUT, 5}, {USAGE_IMAGE_IN, 3}, END},
     false},
    {OPERATION_EMBEDDINGS, NULL, {{"total_tokens", 8}}, {{USAGE_INPUT, 8}, END}, false},
    {OPERATION_RERANK, NULL, {{"billed_units.search_units", 2}}, {{USAGE_REQUESTS, 2}, END}, false},
    {OPERATION_RERANK, NULL, {{"total_tokens", 9}}, {{USAGE_INPUT, 9}, END}, false},
    {OPERATION_IMAGE,
     NULL,
     {{"input_tokens", 50},
      {"output_tokens", 60},
      {"total_tokens", 110},
      {"input_tokens_details.image_tokens", 40},
      {"output_tokens_details.image_tokens", 55},
      {USAGE_PATH_DATA, 1}},
     {{USAGE_INPUT, 10}, {USAGE_IMAGE_IN, 40}, {USAGE_OUTPUT, 5}, {USAGE_IMAGE_OUT, 55}, END},
     false},
    {OPERATION_IMAGE, /* zeros are no usage where images came */
     NULL,
     {{"input_tokens", 0}, {"output_tokens", 0}, {"total_tokens", 0}, {USAGE_PATH_DATA, 2}},
     {{USAGE_INPUT, 0}, {USAGE_OUTPUT, 0}, {USAGE_IMAGES, 2}, END},
     false},
    {OPERATION_SPEECH, NULL, {{USAGE_PATH_CHARACTERS, 10}}, {{USAGE_CHARACTERS, 10}, END}, false},
    {OPERATION_SPEECH,
     NULL,
     {{USAGE_PATH_CHARACTERS, 10}, {"input_tokens", 3}, {"output_tokens", 70}, {"total_tokens", 73}},
     {{USAGE_INPUT, 3}, {USAGE_AUDIO_OUT, 70}, END},
     false},
    {OPERATION_TRANSCRIPTION,
     NULL,
     {{"input_tokens", 14},
      {"output_tokens", 5},
      {"total_tokens", 19},
      {"input_token_details.audio_tokens", 14},
      {USAGE_PATH_DURATION, 1500}},
     {{USAGE_INPUT, 0}, {USAGE_AUDIO_IN, 14}, {USAGE_OUTPUT, 5}, END},
     false},
    {OPERATION_TRANSCRIPTION,
     NULL,
     {{USAGE_PATH_DURATION, 1499}, {"seconds", 2000}},
     {{USAGE_SECONDS_MILLI, 2000}, END},
     false},
    {OPERATION_OTHER, NULL, {{NULL, 0}}, {END}, false},
};

static void check(size_t number)
{
    const struct row *row = &rows[number];
    struct usage_table table = usage_map(row->operation, sv_of(row->provider));
    struct opt_i64 value[USAGE_ROWS_MAX] = {0};
    int64_t wanted[USAGE_COUNT];
    struct usage out;
    bool mismatch;
    assert_true(table.count <= USAGE_ROWS_MAX);
    for (size_t g = 0; g < NUMBERS_MAX && row->given[g].path != NULL; g++) {
        size_t i = 0;
        while (i < table.count && !sv_eq(table.row[i].path, sv_of(row->given[g].path)))
            i++;
        if (i == table.count)
            fail_msg("row %zu: no %s", number, row->given[g].path);
        value[i] = OPT_I64(row->given[g].v);
    }
    for (int c = 0; c < USAGE_COUNT; c++)
        wanted[c] = -1;
    for (size_t i = 0; row->wanted[i].v >= 0; i++)
        wanted[row->wanted[i].class] = row->wanted[i].v;
    usage_resolve(&table, value, &out, &mismatch);
    for (int c = 0; c < USAGE_COUNT; c++) {
        int64_t got = out.units[c].has ? out.units[c].v : -1;
        if (got != wanted[c])
            fail_msg("row %zu: %s is %lld, not %lld", number, usage_class_name((enum usage_class)c),
                     (long long)got, (long long)wanted[c]);
    }
    if (mismatch != row->mismatch)
        fail_msg("row %zu: mismatch %d", number, mismatch);
}

static void test_every_operation_in_disjoint_classes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check(i);
}

/* Whatever numbers come, no class is below zero and the parts never exceed what is charged. */
static void test_no_numbers_make_less_than_nothing(void **state)
{
    (void)state;
    static const int64_t edges[] = {0, 1, 7, INT64_MAX, INT64_MAX - 1};
    uint64_t seed = 20261126;
    for (int round = 0; round < 20000; round++) {
        struct usage_table table = usage_map((enum spend_operation)(round % OPERATION_COUNT), SV_NULL);
        struct opt_i64 value[USAGE_ROWS_MAX] = {0};
        struct usage out;
        bool mismatch;
        for (size_t i = 0; i < table.count; i++) {
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            value[i] = (struct opt_i64){.has = (seed >> 40) % 3 > 0, .v = edges[(seed >> 33) % 5]};
        }
        usage_resolve(&table, value, &out, &mismatch);
        for (int c = 0; c < USAGE_COUNT; c++)
            assert_true(!out.units[c].has || out.units[c].v >= 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_in_disjoint_classes),
        cmocka_unit_test(test_no_numbers_make_less_than_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
