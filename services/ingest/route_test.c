#include "ingest/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *const extra[] = {"/my/chat", "/agents/"};
static const struct route_table table = {extra, 2, NULL};
static const struct route_table behind_v1 = {extra, 2, "/v1"};

struct case_row {
    const char *method;
    const char *path;
    bool is_call;
    enum spend_operation operation;
};

static void test_what_is_a_call_and_what_passes(void **state)
{
    (void)state;
    static const struct case_row rows[] = {
        {"POST", "/v1/chat/completions", true, OPERATION_CHAT},
        {"POST", "/chat/completions", true, OPERATION_CHAT},
        {"POST", "/v1/chat/completions/", true, OPERATION_CHAT},
        {"POST", "//v1//chat/completions", true, OPERATION_CHAT},
        {"POST", "/v1/%63hat/completions", true, OPERATION_CHAT},
        {"POST", "/%761/chat%2Fcompletions", true, OPERATION_CHAT},
        {"POST", "/openai/deployments/gpt-4o/chat/completions", true, OPERATION_CHAT},
        {"POST", "/engines/gpt-4o/completions", true, OPERATION_COMPLETION},
        {"POST", "/v1/completions", true, OPERATION_COMPLETION},
        {"POST", "/v1/responses", true, OPERATION_RESPONSES},
        {"POST", "/anthropic/v1/messages", true, OPERATION_MESSAGES},
        {"POST", "/v1/messages/batches", true, OPERATION_BATCH},
        {"POST", "/v1/embeddings", true, OPERATION_EMBEDDINGS},
        {"POST", "/v2/rerank", true, OPERATION_RERANK},
        {"POST", "/v1/images/generations", true, OPERATION_IMAGE},
        {"POST", "/v1/audio/speech", true, OPERATION_SPEECH},
        {"POST", "/v1/audio/transcriptions", true, OPERATION_TRANSCRIPTION},
        {"POST", "/v1/batches", true, OPERATION_BATCH},
        {"POST", "/v1/fine_tuning/jobs", true, OPERATION_FINE_TUNE},
        {"POST", "/v1/threads/t/runs", true, OPERATION_OTHER},
        {"POST", "/gemini/v1beta/models/x:generateContent", true, OPERATION_OTHER},
        {"POST", "/v1/messages/count_tokens", false, OPERATION_OTHER},
        {"POST", "/anthropic/v1/messages/count_tokens/", false, OPERATION_OTHER},
        {"POST", "/v1/responses/input_tokens", false, OPERATION_OTHER},
        {"POST", "/gemini/v1beta/models/x:countTokens", false, OPERATION_OTHER},
        {"POST", "/v1/count_tokens", true, OPERATION_OTHER},
        {"POST", "/agents/messages/count_tokens", true, OPERATION_OTHER},
        {"POST", "/my/chat", true, OPERATION_OTHER},
        {"POST", "/agents/one", true, OPERATION_OTHER},
        {"POST", "/my/chat/x", false, OPERATION_OTHER},
        {"POST", "/key/generate", false, OPERATION_OTHER},
        {"POST", "/admin/chat/completions", true, OPERATION_CHAT},
        {"POST", "/cursor/chat/completions", true, OPERATION_CHAT},
        {"POST", "/queue/chat/completions", true, OPERATION_CHAT},
        {"POST", "/azure/deployments/x/chat/completions", true, OPERATION_CHAT},
        {"POST", "/mistral/v1/embeddings", true, OPERATION_EMBEDDINGS},
        {"POST", "/v1beta/models/x:generateContent", true, OPERATION_OTHER},
        {"POST", "/models/x:streamGenerateContent", true, OPERATION_OTHER},
        {"POST", "/x/models/y%3agenerateContent/", true, OPERATION_OTHER},
        {"POST", "/v1beta/models/x:countTokens", true, OPERATION_OTHER},
        {"POST", "/openai/v1/chat/completions/messages/count_tokens", true, OPERATION_OTHER},
        {"POST", "/v1/%6dessages/count_tokens", true, OPERATION_OTHER},
        {"POST", "/gemini/v1beta/models/x%3AcountTokens", true, OPERATION_OTHER},
        {"POST", "/vertex-ai/v1/projects/p/models/claude:rawPredict", true, OPERATION_OTHER},
        {"POST", "/cohere/v2/chat", true, OPERATION_OTHER},
        {"POST", "/responses/compact", true, OPERATION_OTHER},
        {"POST", "/threads/t/runs", true, OPERATION_OTHER},
        {"POST", "/rag/query", true, OPERATION_OTHER},
        {"POST", "/search", true, OPERATION_OTHER},
        {"POST", "/search/tool", true, OPERATION_OTHER},
        {"POST", "/search_tools", false, OPERATION_OTHER},
        {"POST", "/search_tools/test_connection", true, OPERATION_OTHER},
        {"POST", "/utils/test_policies_and_guardrails", true, OPERATION_OTHER},
        {"POST", "/utils/token_counter", false, OPERATION_OTHER},
        {"POST", "/vector_stores/v/search", true, OPERATION_OTHER},
        {"POST", "/realtime/client_secrets", true, OPERATION_OTHER},
        {"POST", "/prompts/test", true, OPERATION_OTHER},
        {"POST", "/ocr", true, OPERATION_OTHER},
        /* servers that look at neither case nor a segment's parameters */
        {"POST", "/Chat/Completions", true, OPERATION_CHAT},
        {"POST", "/chat/completions;v=1", true, OPERATION_CHAT},
        {"POST", "/chat;a/completions;b", true, OPERATION_CHAT},
        {"POST", "/chat%3Ba/completions%3b", true, OPERATION_CHAT},
        {"POST", "/V1/anything", true, OPERATION_OTHER},
        {"POST", "/v1;x/anything", true, OPERATION_OTHER},
        {"POST", "/My/Chat", true, OPERATION_OTHER},
        {"POST", "/chat/completions/;x", true, OPERATION_CHAT},
        {"POST", "/chat/completions%2f%3bx", true, OPERATION_CHAT},
        {"POST", "/;x/v1/anything", true, OPERATION_OTHER},
        {"POST", "/;/v1/audio/speech", true, OPERATION_SPEECH},
        {"POST", "/models/x;y:generateContent", true, OPERATION_OTHER},
        {"POST", "/models/x%3by:streamGenerateContent", true, OPERATION_OTHER},
        {"POST", "/usage/ai/chat", true, OPERATION_OTHER},
        {"POST", "/guardrails/apply_guardrail", true, OPERATION_OTHER},
        {"POST", "/guardrails/register", false, OPERATION_OTHER},
        {"POST", "/v1/messages/count_tokens;x", true, OPERATION_OTHER},
        {"POST", "/v1/Messages/count_tokens", true, OPERATION_OTHER},
        {"POST", "/gemini/v1beta/models/x:generateContent;:countTokens", true, OPERATION_OTHER},
        {"POST", "/admin/notchat/completionsx", false, OPERATION_OTHER},
        {"POST", "/xchat/incompletions", false, OPERATION_OTHER},
        {"GET", "/cursor/chat/completions", false, OPERATION_OTHER},
        {"GET", "/v1/chat/completions", false, OPERATION_OTHER},
        {"GET", "/v1/models", false, OPERATION_OTHER},
        {"PUT", "/v1/chat/completions", false, OPERATION_OTHER},
        {"POST", "/", false, OPERATION_OTHER},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct route r = route_find(&table, sv_of(rows[i].method), sv_of(rows[i].path));
        if (r.is_call != rows[i].is_call || r.operation != rows[i].operation)
            fail_msg("%s %s: call %d operation %s", rows[i].method, rows[i].path, r.is_call,
                     spend_operation_name(r.operation));
    }
}

static void test_only_litellms_own_health_is_unmetered(void **state)
{
    (void)state;
    static const char *const paths[] = {"/health", "/health/", "//health", "/%68ealth"};
    static const char *const others[] = {"/health/liveliness", "/healthz", "/Health", "/v1/health", "/", ""};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        assert_true(route_is_unmetered(SV_LIT("GET"), sv_of(paths[i])));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(route_is_unmetered(SV_LIT("GET"), sv_of(others[i])));
    assert_false(route_is_unmetered(SV_LIT("POST"), SV_LIT("/health")));
}

/* --upstream-url=http://host/v1: the path that counts is the one that the upstream sees. */
static void test_the_upstreams_prefix_is_part_of_the_path(void **state)
{
    (void)state;
    struct strview post = SV_LIT("POST");
    assert_true(route_find(&behind_v1, post, SV_LIT("/assistants")).is_call);
    assert_false(route_find(&table, post, SV_LIT("/assistants")).is_call);
    assert_true(route_find(&behind_v1, post, SV_LIT("/anything/chat;x")).is_call);
    assert_int_equal(route_find(&behind_v1, post, SV_LIT("/chat/completions")).operation, OPERATION_CHAT);
    assert_false(route_find(&behind_v1, post, SV_LIT("/messages/count_tokens")).is_call);
    assert_true(route_find(&behind_v1, post, SV_LIT("/messages/count%5ftokens")).is_call);
    assert_string_equal(route_find(&behind_v1, post, SV_LIT("/gemini/x")).provider, "gemini");
    assert_true(route_find(&behind_v1, post, SV_LIT("/my/chat")).is_call);
    assert_false(route_find(&behind_v1, SV_LIT("GET"), SV_LIT("/assistants")).is_call);
}

static void test_the_path_tells_the_provider_where_it_can(void **state)
{
    (void)state;
    assert_string_equal(route_find(&table, SV_LIT("POST"), SV_LIT("/anthropic/v1/messages")).provider,
                        "anthropic");
    assert_null(route_find(&table, SV_LIT("POST"), SV_LIT("/v1/messages")).provider);
}

/* NULL: the body's model it is. */
static void assert_model(const char *target, const char *wanted)
{
    char room[64];
    struct strview got = route_model(sv_of(target), room, sizeof room);
    if (!sv_eq(got, sv_of(wanted)))
        fail_msg("%s: " SV_FMT, target, SV_ARG(got));
}

static void test_path_and_query_name_the_model_where_litellm_takes_it_from_them(void **state)
{
    (void)state;
    assert_model("/v1/chat/completions", NULL);
    assert_model("/v1/chat/completions?model=gpt-4o", "gpt-4o");
    assert_model("/chat/completions?a=b&model=x&c", "x");
    assert_model("/v1/completions?model=x", "x");
    assert_model("/embeddings?model=x", "x");
    assert_model("/v1/images/generations?model=x", "x");
    assert_model("/images/edits?model=x", "x");
    assert_model("/queue/chat/completions?model=x", "x");
    assert_model("/v1/%63hat/completions?%6dodel=az%2Fx+y", "az/x y");
    assert_model("/v1/chat/completions?model=a&model=b", "b"); /* the last */
    assert_model("/v1/chat/completions?model=a&model=", NULL);
    assert_model("/v1/chat/completions?model", NULL);
    assert_model("/v1/chat/completions?models=a&Model=b&xmodel=c", NULL);
    assert_model("/v1/chat/completions?model=a?b", "a?b");
    assert_model("/engines/az/gpt-4o/chat/completions", "az/gpt-4o");
    assert_model("/openai/deployments/gpt%2D4o/chat/completions", "gpt-4o");
    assert_model("/openai/deployments/a+b/embeddings?model=x",
                 "a+b"); /* the path's, whatever the query says */
    assert_model("/openai/deployments/a/images/edits", "a");
    assert_model("/openai/deployments//embeddings?model=x", NULL);
    assert_model("/engines//chat/completions?model=x", NULL);
    assert_model("/engines/chat/completions", "chat");
    /* there the model is the body's alone */
    assert_model("//v1/chat/completions?model=x", NULL);
    assert_model("/v1/responses?model=x", NULL);
    assert_model("/v1/messages?model=x", NULL);
    assert_model("/openai/v1/chat/completions?model=x", NULL);
    assert_model("/openai/deployments/a/responses?model=x", NULL);
    assert_model("/engines/a/images/generations?model=x", NULL);
    assert_model("/anthropic/v1/chat/completions?model=x", NULL);
    assert_model("/v1/chat/completionsx?model=x", NULL);
}

static void test_a_model_too_long_is_cut(void **state)
{
    (void)state;
    char room[8];
    assert_true(sv_eq(route_model(SV_LIT("/chat/completions?model=1234%356789"), room, sizeof room),
                      SV_LIT("12345678")));
    assert_true(
        sv_eq(route_model(SV_LIT("/engines/123456789/completions"), room, sizeof room), SV_LIT("12345678")));
}

static void test_a_path_too_long_to_judge_is_recorded(void **state)
{
    (void)state;
    char path[4096];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    assert_true(route_find(&table, SV_LIT("POST"), (struct strview){path, sizeof path}).is_call);
    assert_false(route_find(&table, SV_LIT("GET"), (struct strview){path, sizeof path}).is_call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_litellms_own_health_is_unmetered),
        cmocka_unit_test(test_what_is_a_call_and_what_passes),
        cmocka_unit_test(test_the_upstreams_prefix_is_part_of_the_path),
        cmocka_unit_test(test_the_path_tells_the_provider_where_it_can),
        cmocka_unit_test(test_path_and_query_name_the_model_where_litellm_takes_it_from_them),
        cmocka_unit_test(test_a_model_too_long_is_cut),
        cmocka_unit_test(test_a_path_too_long_to_judge_is_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
