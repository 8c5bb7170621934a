#include "ingest/tag_capture.h"

#include <jansson.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct tag_capture capture;
static struct arena scratch;
static struct sha256 *sha;

static bool litellm = true;
static enum spend_operation operation = OPERATION_CHAT;

static void read_request(const char *header_lines, const char *body)
{
    static struct http_headers headers;
    enum err_code code;
    assert_null(http_headers_parse(sv_of(header_lines), &headers, &code));
    arena_reset(&scratch);
    struct capture_source from = {
        .headers = &headers, .body = sv_of(body), .litellm = litellm, .operation = operation};
    assert_true(tag_capture_read(&capture, &from, sha, &scratch));
}

/* "raw@origins|.." */
static void assert_tags(const char *wanted)
{
    char got[4096] = "";
    size_t at = 0;
    for (size_t i = 0; i < capture.tags.count; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, SV_FMT "@%u|", SV_ARG(capture.tags.tags[i].raw),
                               capture.tags.tags[i].origins);
    assert_string_equal(got, wanted);
}

static void test_every_place_gives_its_tags_as_a_union(void **state)
{
    (void)state;
    read_request(
        "x-litellm-tags: h1, h2,, h1\r\nX-LiteLLM-Tags:h3\r\n",
        "{\"tags\":[\"r1\",\"h1\"],\"metadata\":{\"tags\":[\"m 1\"],\"x\":{\"tags\":[\"no\"]}},"
        "\"litellm_metadata\":{\"tags\":[\"l1\"]},\"user\":\"bob\",\"messages\":[{\"tags\":[\"no\"]}]}");
    assert_tags("h1@3|h2@1|h3@1|r1@2|m 1@4|l1@8|end_user=bob@16|");
    assert_int_equal(capture.tags.empty, 1);
    assert_false(capture.body_unparsed);
}

#define FORM              "Content-Type: multipart/form-data; boundary=B\r\n"
#define PART(name, value) "--B\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"

static void test_what_it_asks_for_at_most_is_read_in_the_body_in_extra_body_and_in_forms(void **state)
{
    (void)state;
    read_request(
        "", "{\"max_tokens\":1,\"n\":2,\"extra_body\":{\"max_tokens\":800,\"x\":{\"max_tokens\":9999}}}");
    assert_true(capture.most.max_tokens.v == 800 && capture.most.n.v == 2);
    read_request("", "{\"max_tokens\":1,\"n\":2");
    assert_false(capture.most.max_tokens.has || capture.most.n.has);
    read_request(FORM, PART("n", "3") "--B--\r\n");
    assert_int_equal(capture.most.n.v, 3);
    read_request(FORM, PART("n", "many") "--B--\r\n");
    assert_true(capture.most.n.v == INT64_MAX);
}

static void test_json_that_litellm_reads_as_a_form_is_not_read_as_json(void **state)
{
    (void)state;
    static const char *const body = "{\"model\":\"cheap\",\"tags\":[\"t\"],\"pad\":\"&model=dear&z=\"}";
    read_request("content-type: application/x-www-form-urlencoded\r\nx-litellm-tags: h\r\n", body);
    assert_true(capture.body_unparsed && sv_is_null(capture.model));
    assert_tags("h@1|");
    read_request("content-type: application/json\r\nContent-Type: x/FORMS\r\n", body);
    assert_true(capture.body_unparsed);
    read_request("content-type: application/json\r\n", body);
    assert_false(capture.body_unparsed);
    litellm = false; /* what another one reads is not known to be a form */
    read_request("content-type: application/x-www-form-urlencoded\r\n", body);
    assert_true(!capture.body_unparsed && sv_eq(capture.model, SV_LIT("cheap")));
    litellm = true;
}

static void test_a_form_tells_what_a_body_of_json_would(void **state)
{
    (void)state;
    read_request("x-litellm-tags: h1\r\n" FORM,
                 PART("model", "whisper-1") PART("stream", "true") PART("tags", "r1, r2")
                     PART("tags[]", "a,b")
                         PART("metadata", "{\"tags\":[\"m1\"],\"spend_logs_metadata\":{\"x\":1}}")
                             PART("litellm_metadata", "{\"tags\":[\"l1\"]}") PART("user", "bob")
                                 PART("prompt", "12345") "--B--\r\n");
    assert_tags("h1@1|r1@2|r2@2|a,b@2|m1@4|l1@8|end_user=bob@16|");
    assert_false(capture.body_unparsed);
    assert_true(capture.stream);
    assert_true(sv_eq(capture.model, SV_LIT("whisper-1")));
    assert_true(sv_eq(capture.logs_metadata, SV_LIT("{\"x\":1}")));
    assert_int_equal(capture.text_bytes, 5);
    /* metadata that is no JSON says nothing, a form that breaks off neither */
    read_request(FORM, PART("metadata", "{\"tags\":[\"m1\"]} x") PART("tags", "r1") "--B--\r\n");
    assert_tags("r1@2|");
    read_request("x-litellm-tags: h1\r\n" FORM, PART("model", "whisper-1") PART("tags", "r1") "--B");
    assert_tags("h1@1|");
    assert_true(capture.body_unparsed);
    assert_true(sv_is_null(capture.model));
    read_request(FORM FORM, PART("model", "whisper-1") "--B--\r\n"); /* which of two types holds? */
    assert_true(capture.body_unparsed);
    assert_true(sv_is_null(capture.model));
}

static void test_an_image_tells_its_variant(void **state)
{
    (void)state;
    operation = OPERATION_IMAGE;
    read_request("", "{\"model\":\"dall-e-3\",\"size\":\"1024x1792\",\"quality\":\"hd\"}");
    assert_true(sv_eq(capture.variant, SV_LIT("hd/1024-x-1792")));
    read_request("", "{\"model\":\"dall-e-3\",\"quality\":null}");
    assert_true(sv_eq(capture.variant, SV_LIT("standard/1024-x-1024")));
    read_request(FORM, PART("model", "dall-e-2") PART("size", "512x512") "--B--\r\n");
    assert_true(sv_eq(capture.variant, SV_LIT("standard/512-x-512")));
    read_request(FORM, PART("model", "dall-e-2") PART("size", "512x512") "--B");
    assert_true(sv_is_null(capture.variant));
    read_request("", "{\"size\":\"a b\"}");
    assert_true(sv_is_null(capture.variant));
    operation = OPERATION_CHAT;
    read_request("", "{\"size\":\"512x512\"}");
    assert_true(sv_is_null(capture.variant));
}

static void test_strings_split_on_commas_and_array_items_do_not(void **state)
{
    (void)state;
    read_request("",
                 "{\"tags\":\"a, b ,,c\",\"metadata\":{\"tags\":[\" a,b \",\"\",1,null,{\"x\":1},[\"y\"]]}}");
    assert_tags("a@2|b@2|c@2| a,b @4|");
    assert_int_equal(capture.tags.empty, 2);
    assert_int_equal(capture.tags.non_string, 4);
}

static void test_tags_of_duplicate_keys_are_united_and_other_fields_are_the_last(void **state)
{
    (void)state;
    read_request(
        "",
        "{\"tags\":[\"a\"],\"model\":\"x\",\"stream\":true,\"user\":\"u1\",\"tags\":[\"b\"],\"metadata\":{"
        "\"tags\":[\"c\"]},"
        "\"metadata\":{\"tags\":[\"d\"],\"tags\":[\"e\"]},\"model\":\"y\",\"stream\":false,\"user\":\"u2\"}");
    assert_tags("a@2|b@2|c@4|d@4|e@4|end_user=u2@16|");
    assert_true(sv_eq(capture.model, SV_LIT("y")));
    assert_false(capture.stream);
}

static void test_escaped_keys_and_values_are_compared_unescaped(void **state)
{
    (void)state;
    read_request(
        "", "{\"\\u0074ags\":[\"t\\u0061sk=\\u00e9\"],\"\\tags\":[\"no\"],\"m\\u006fdel\":\"g\\u0070t\"}");
    assert_tags("task=\xc3\xa9@2|");
    assert_true(sv_eq(capture.model, SV_LIT("gpt")));
}

static void test_a_body_that_is_no_json_leaves_the_headers_tags(void **state)
{
    (void)state;
    const char *bodies[] = {"{\"tags\":[\"r\"]", "{\"tags\":[\"r\"]} x", "",
                            "--boundary\r\n",    "{\"tags\":[\"r\"],}",  "{\"tags\":[\"r\xff\"]}",
                            "{'tags':['r']}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        read_request("x-litellm-tags: h\r\n", bodies[i]);
        assert_tags("h@1|");
        assert_true(capture.body_unparsed);
        assert_true(sv_is_null(capture.model));
        assert_int_equal(capture.text_bytes, strlen(bodies[i]));
    }
    read_request("x-litellm-tags: h\r\n", "[1]");
    assert_false(capture.body_unparsed);
}

static void test_texts_end_before_their_first_control_character(void **state)
{
    (void)state;
    static const struct {
        struct strview text;
        struct strview kept;
    } rows[] = {
        {SV_INIT("gpt\x01x"), SV_INIT("gpt")},
        {SV_INIT("a\tb"), SV_INIT("a")},
        {SV_INIT("a\0b"), SV_INIT("a")},
        {SV_INIT("a\x7f"), SV_INIT("a")},
        {SV_INIT("\xc3\xa9\xc2\x85z"), SV_INIT("\xc3\xa9")},
        {SV_INIT("\xc2\x80"), SV_INIT("")},
        {SV_INIT("\xc2\xa0\xe2\x82\xac"), SV_INIT("\xc2\xa0\xe2\x82\xac")},
        {SV_INIT("a\xff"), SV_INIT("a")},
        {SV_INIT(""), SV_INIT("")},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct strview got = tag_capture_text(rows[i].text);
        if (!sv_eq(got, rows[i].kept) || sv_has_control(got))
            fail_msg("row %zu", i);
    }
    assert_true(sv_is_null(tag_capture_text(SV_NULL)));
    read_request("User-Agent: a\tb\r\n", "{\"model\":\"m\\u0001x\"}");
    assert_true(sv_eq(capture.model, SV_LIT("m")));
    assert_true(sv_eq(capture.user_agent, SV_LIT("a")));
}

static void test_bodies_that_only_pythons_reader_takes_are_read(void **state)
{
    (void)state;
    read_request("", "{\"tags\":[\"a\\ud83d\",\"\\ude00b\"],\"model\":\"m\",\"stream\":true,\"top_p\":NaN,"
                     "\"x\":[Infinity,-Infinity],\"messages\":[{\"content\":\"\\ud83d\"}]}");
    assert_tags("a\xef\xbf\xbd@2|\xef\xbf\xbd"
                "b@2|");
    assert_false(capture.body_unparsed);
    assert_true(sv_eq(capture.model, SV_LIT("m")));
    assert_true(capture.stream);
    const char *still_none[] = {"{\"a\":nan}", "{\"a\":-NaN}", "{\"a\":Infinit}", "{\"a\":\"\\ud83\"}",
                                "{\"a\":+1}"};
    for (size_t i = 0; i < sizeof still_none / sizeof still_none[0]; i++) {
        read_request("", still_none[i]);
        assert_true(capture.body_unparsed);
    }
}

static void test_a_body_nested_too_deep_keeps_what_stood_before(void **state)
{
    (void)state;
    char body[1024];
    char deep[256];
    memset(deep, '[', 80);
    memset(deep + 80, ']', 80);
    deep[160] = '\0';
    (void)snprintf(
        body, sizeof body,
        "{\"tags\":[\"a\"],\"user\":\"bob\",\"model\":\"m\",\"stream\":true,\"x\":%s,\"user\":\"late\"}",
        deep);
    read_request("x-litellm-tags: h\r\n", body);
    assert_tags("h@1|a@2|end_user=bob@16|");
    assert_true(capture.tags.fault != TAG_FAULT_NONE);
    assert_true(capture.body_unparsed);
    assert_true(sv_eq(capture.model, SV_LIT("m")));
    assert_true(capture.stream);
    assert_false(stream_ask_plan(&capture.ask).needed);
    assert_int_equal(capture.text_bytes, strlen(body));
}

static void test_faulty_tags_are_skipped_and_the_first_64_kept(void **state)
{
    (void)state;
    char body[4096];
    int at = snprintf(body, sizeof body, "{\"tags\":[\"a\\u0001b\",\"nul\\u0000\"");
    for (int i = 0; i < 70; i++)
        at += snprintf(body + at, sizeof body - (size_t)at, ",\"t%d\"", i);
    (void)snprintf(body + at, sizeof body - (size_t)at, "]}");
    read_request("", body);
    assert_int_equal(capture.tags.count, 64);
    assert_int_equal(capture.tags.refused, 8);
    assert_true(capture.tags.fault != TAG_FAULT_NONE);
    assert_true(sv_eq(capture.tags.tags[63].raw, SV_LIT("t63")));
}

static void assert_key(const char *lines, const char *key)
{
    char hex[SHA256_HEX_LEN + 1];
    read_request(lines, "{}");
    if (key == NULL) {
        if (!sv_is_null(capture.key_hash))
            fail_msg("a key in: %s", lines);
        return;
    }
    sha256_hex_of(sv_of(key), hex);
    if (!sv_eq(capture.key_hash, sv_of(hex)))
        fail_msg("%s: not %s", lines, key);
}

static void test_the_key_is_hashed_as_litellm_stores_it(void **state)
{
    (void)state;
    static const struct {
        const char *lines;
        const char *key;
    } rows[] = {
        {"Authorization: Bearer sk-1\r\n", "sk-1"},
        {"Authorization: bearer sk-1\r\n", "sk-1"},
        {"Authorization: Basic sk-1\r\n", "sk-1"},
        {"Authorization: Bearer Bearer sk-1\r\n", "sk-1"},
        {"Authorization: Bearer  sk-1\r\n", " sk-1"},
        {"Authorization: Bearer bearer sk-1\r\n", "bearer sk-1"},
        {"Authorization: sk-1\r\n", NULL}, /* LiteLLM wants a word before it there */
        {"Authorization: BEARER sk-1\r\n", NULL},
        {"Authorization: AWS4-HMAC-SHA256 Credential=Bearer sk-1/20260101/x, SignedHeaders=h\r\n", "sk-1"},
        {"Authorization: AWS4-HMAC-SHA256 Credential=Bearer  \tsk-1,x\r\n", "sk-1"},
        {"Authorization: AWS4-HMAC-SHA256 Credential=sk-1/20260101\r\n", "sk-1"},
        {"Authorization: AWS4-HMAC-SHA256 Credential=Bearer /x\r\n", "Bearer"},
        {"Authorization: AWS4-HMAC-SHA256 Credential=/x Credential=Bearer sk-1\r\n", "sk-1"},
        {"Authorization: AWS4-HMAC-SHA256 x\r\n", NULL},
        {"Authorization: sk-2\r\nx-api-key: sk-1\r\n", NULL}, /* the first that is there decides */
        {"x-litellm-api-key: sk-1\r\n", "sk-1"},
        {"x-litellm-api-key: Basic sk-1\r\n", "sk-1"},
        {"x-litellm-api-key: AWS4-HMAC-SHA256 x\r\n", "AWS4-HMAC-SHA256 x"},
        {"x-api-key: sk-1\r\n", "sk-1"},
        {"x-api-key: Bearer sk-1\r\n", "Bearer sk-1"},
        {"api-key: sk-1\r\nx-api-key: no\r\n", "sk-1"},
        {"x-goog-api-key: sk-1\r\nOcp-Apim-Subscription-Key: no\r\n", "sk-1"},
        {"Ocp-Apim-Subscription-Key: sk-1\r\n", "sk-1"},
        {"Authorization: Bearer other\r\nx-litellm-api-key: Bearer sk-1\r\n", "sk-1"},
        {"x-api-key: other\r\nAuthorization: Bearer sk-1\r\n", "sk-1"},
        {"Authorization: \r\nx-api-key: sk-1\r\n", "sk-1"},
        {"Authorization: \r\n", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_key(rows[i].lines, rows[i].key);
}

static void test_before_other_upstreams_a_key_needs_no_word(void **state)
{
    (void)state;
    litellm = false;
    assert_key("Authorization: sk-1\r\n", "sk-1");
    assert_key("Authorization: bEARER  sk-1\r\n", "sk-1");
    assert_key("api-key: sk-1\r\n", "sk-1");
    assert_key("Authorization: \r\n", NULL);
    litellm = true;
}

static void read_named(const char *target, const char *body)
{
    static struct http_headers none;
    struct capture_source from = {.headers = &none, .target = sv_of(target), .body = sv_of(body)};
    from.litellm = litellm;
    arena_reset(&scratch);
    assert_true(tag_capture_read(&capture, &from, sha, &scratch));
}

static void test_litellm_takes_the_model_of_path_or_query_before_the_bodys(void **state)
{
    (void)state;
    read_named("/v1/chat/completions?model=dear", "{\"model\":\"cheap\"}");
    assert_true(sv_eq(capture.model, SV_LIT("dear")));
    assert_true(sv_eq(capture.stamp, SV_LIT("cheap")));
    read_named("/engines/dear/completions?model=x", "{\"model\":\"cheap\"}");
    assert_true(sv_eq(capture.model, SV_LIT("dear")));
    read_named("/v1/chat/completions?model=same", "{\"model\":\"same\"}");
    assert_true(sv_eq(capture.model, SV_LIT("same")));
    assert_true(sv_is_null(capture.stamp));
    read_named("/v1/chat/completions?model=dear", "{}");
    assert_true(sv_eq(capture.model, SV_LIT("dear")));
    assert_true(sv_is_null(capture.stamp));
    read_named("/v1/chat/completions?model=dear", "{");
    assert_true(sv_eq(capture.model, SV_LIT("dear")));
    assert_true(sv_eq(capture.stamp, SV_LIT(""))); /* some text it may be */
    litellm = false;
    read_named("/v1/chat/completions?model=dear", "{\"model\":\"cheap\"}");
    assert_true(sv_eq(capture.model, SV_LIT("cheap")));
    assert_true(sv_is_null(capture.stamp));
    litellm = true;
}

static void test_the_callers_logs_metadata_is_its_header_else_its_body(void **state)
{
    (void)state;
    const char *body = "{\"metadata\":{\"spend_logs_metadata\":{\"b\":1}}}";
    read_request("", body);
    assert_true(sv_eq(capture.logs_metadata, SV_LIT("{\"b\":1}")));
    assert_false(capture.logs_metadata_of_header);
    read_request("x-litellm-spend-logs-metadata: {\"h\":1}\r\n", body);
    assert_true(sv_eq(capture.logs_metadata, SV_LIT("{\"h\":1}")));
    assert_true(capture.logs_metadata_of_header);
    read_request("x-litellm-spend-logs-metadata: nonsense\r\n", body);
    assert_true(sv_eq(capture.logs_metadata, SV_LIT("{\"b\":1}")));
    read_request("", "{\"metadata\":{\"spend_logs_metadata\":{\"b\":1}}");
    assert_true(sv_is_null(capture.logs_metadata));
    read_request("x-litellm-spend-logs-metadata: {\"h\": [NaN, \"Zo\xeb\"]}\r\n",
                 body); /* as Python reads it */
    assert_true(sv_eq(capture.logs_metadata, SV_LIT("{\"h\": [NaN, \"Zo\xeb\"]}")));
}

static void test_the_bodys_logs_metadata_is_the_one_litellm_takes(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        const char *body;
        struct strview logs;
    } rows[] = {
        {"/v1/chat/completions",
         "{\"metadata\":{\"spend_logs_metadata\":{\"a\":1}},\"metadata\":{\"spend_logs_metadata\":{\"b\":1}}"
         "}",
         SV_INIT("{\"b\":1}")},
        {"/v1/chat/completions",
         "{\"metadata\":{\"spend_logs_metadata\":{\"a\":1}},\"metadata\":{\"x\":1}}",
         {0}},
        {"/v1/chat/completions", "{\"metadata\":{\"spend_logs_metadata\":{\"a\":1}},\"metadata\":null}", {0}},
        {"/v1/chat/completions", "{\"litellm_metadata\":{\"spend_logs_metadata\":{\"l\":1}},\"metadata\":{}}",
         SV_INIT("{\"l\":1}")},
        {"/v1/chat/completions",
         "{\"litellm_metadata\":{\"spend_logs_metadata\":{\"l\":1}},\"metadata\":{\"spend_logs_metadata\":{"
         "\"a\":1}}}",
         SV_INIT("{\"a\":1}")},
        {"/v1/responses?x=1",
         "{\"litellm_metadata\":{\"spend_logs_metadata\":{\"l\":1}},\"metadata\":{\"spend_logs_metadata\":{"
         "\"a\":1}}}",
         SV_INIT("{\"l\":1}")},
        {"/anthropic/v1/messages", "{\"metadata\":{\"spend_logs_metadata\":{\"a\":1}}}", {0}},
        {"/v1/chat/completions?x=responses", "{\"metadata\":{\"spend_logs_metadata\":{\"a\":1}}}",
         SV_INIT("{\"a\":1}")},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        read_named(rows[i].target, rows[i].body);
        if (!sv_eq(capture.logs_metadata, rows[i].logs))
            fail_msg("%s %s: " SV_FMT, rows[i].target, rows[i].body, SV_ARG(capture.logs_metadata));
    }
}

/* The body after the edit, as jansson reads it. */
static json_t *edited(const char *body)
{
    char out[1024];
    read_request("", body);
    struct body_edit edit = stream_ask_plan(&capture.ask);
    if (!edit.needed)
        return NULL;
    (void)snprintf(out, sizeof out, "%.*s" SV_FMT "%s", (int)edit.at, body, SV_ARG(edit.put),
                   body + edit.at + edit.cut);
    json_t *json = json_loads(out, 0, NULL);
    if (json == NULL)
        fail_msg("no JSON any more: %s", out);
    return json;
}

static void test_usage_is_asked_for_by_one_edit_that_keeps_all_else(void **state)
{
    (void)state;
    const char *bodies[] = {
        "{\"stream\":true,\"model\":\"m\"}",
        " {\n\"stream\":true, \"stream_options\":{}, \"model\":\"m\"}",
        "{\"stream\":true,\"stream_options\":{ \"x\":1},\"model\":\"m\"}",
        "{\"stream\":true,\"stream_options\":null,\"model\":\"m\"}",
        "{\"stream\":true,\"stream_options\":{\"include_usage\":false,\"x\":1},\"model\":\"m\"}",
        "{\"stream\":true,\"stream_options\":{\"x\":1,\"include_usage\":\"no\"},\"model\":\"m\"}",
        "{\"stream\":true,\"stream_options\":{\"include_usage\":{\"a\":[1]}},\"model\":\"m\"}",
        "{\"stream_options\":{\"include_usage\":true},\"stream_options\":{},\"model\":\"m\"}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        json_t *json = edited(bodies[i]);
        assert_non_null(json);
        assert_true(json_is_true(json_object_get(json_object_get(json, "stream_options"), "include_usage")));
        assert_string_equal(json_string_value(json_object_get(json, "model")), "m");
        json_decref(json);
    }
    assert_null(edited("{\"stream\":true,\"stream_options\":{\"include_usage\":true}}"));
    assert_null(edited("{\"stream\":true,\"stream_options\":\"x\"}"));
    assert_null(edited("[1]"));
}

static void test_only_what_carries_text_is_counted_for_estimates(void **state)
{
    (void)state;
    read_request("", "{\"model\":\"mmmm\",\"messages\":[{\"role\":\"user\",\"content\":\"12345\"},{"
                     "\"content\":[{\"type\":\"text\","
                     "\"text\":\"678\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:xxxxxxxx\"}}]}]"
                     ",\"user\":\"uuuu\"}");
    assert_int_equal(capture.text_bytes, 8);
}

/* Too deep for us, not for LiteLLM: what stands behind is looked at all the same. */
static void test_nothing_deep_hides_what_sets_the_price(void **state)
{
    (void)state;
    static char body[4096];
    char open[1001];
    char close[1001];
    static const struct {
        int depth;
        const char *behind;
        bool found;
    } rows[] = {{80, "\"extra_body\":{\"model\":\"o3\"}", true},
                {80, "\"extra_body\":{\"top_k\":1}", false},
                {80, "\"x\":1", false},
                {80, "\"deployment_id\":\"o3\"", true},
                {600, "\"x\":1", true}}; /* nobody can say */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memset(open, '[', sizeof open);
        memset(close, ']', sizeof close);
        open[rows[i].depth] = close[rows[i].depth] = '\0';
        (void)snprintf(body, sizeof body, "{\"model\":\"a\",\"metadata\":{\"d\":%s%s},%s}", open, close,
                       rows[i].behind);
        read_request("", body);
        assert_true(capture.body_unparsed && capture.price_elsewhere == rows[i].found);
    }
}

static void test_what_sets_the_price_elsewhere_is_told(void **state)
{
    (void)state;
    static const char *const prices[] = {
        "{\"model\":\"a\",\"extra_body\":{\"model\":\"b\"}}",
        "{\"extra_body\":{\"x\":{},\"service_tier\":\"priority\"},\"model\":\"a\"}",
        "{\"extra_body\":{\"mod\\u0065l\":\"b\"},\"extra_body\":{},\"model\":\"a\"}",
        "{\"model\":\"a\",\"model_list\":[{\"model_name\":\"a\"}]}",
        "{\"model_id\":\"b\",\"model\":\"a\"}",
        "{\"model\":\"a\",\"fallbacks\":[\"b\"],\"stream\":true}",
        "{\"stream\":1,\"model\":\"a\",\"mock_testing_fallbacks\":true}",
        "{\"stream\":true,\"stream\":false,\"model\":\"a\",\"router_settings_override\":{}}",
        "{\"deployment\\u005fid\":null,\"model\":\"a\"}",
    };
    static const char *const others[] = {
        "{\"model\":\"a\",\"extra_body\":{\"metadata\":{\"model\":\"b\"},\"top_k\":1}}",
        "{\"model\":\"a\",\"extra_body\":[{\"model\":\"b\"}]}",
        "{\"model\":\"a\",\"fallbacks\":[\"b\"]}",
        "{\"model\":\"a\",\"fallbacks\":[\"b\"],\"stream\":false,\"context_window_fallbacks\":[]}",
        "{\"model\":\"a\",\"metadata\":{\"extra_body\":{\"model\":\"b\"},\"model_id\":\"b\"}}",
    };
    for (size_t i = 0; i < sizeof prices / sizeof prices[0]; i++) {
        read_request("", prices[i]);
        assert_true(capture.price_elsewhere && sv_eq(capture.model, SV_LIT("a")));
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        read_request("", others[i]);
        assert_true(!capture.price_elsewhere && sv_eq(capture.model, SV_LIT("a")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_sets_the_price_elsewhere_is_told),
        cmocka_unit_test(test_nothing_deep_hides_what_sets_the_price),
        cmocka_unit_test(test_what_it_asks_for_at_most_is_read_in_the_body_in_extra_body_and_in_forms),
        cmocka_unit_test(test_json_that_litellm_reads_as_a_form_is_not_read_as_json),
        cmocka_unit_test(test_every_place_gives_its_tags_as_a_union),
        cmocka_unit_test(test_a_form_tells_what_a_body_of_json_would),
        cmocka_unit_test(test_an_image_tells_its_variant),
        cmocka_unit_test(test_strings_split_on_commas_and_array_items_do_not),
        cmocka_unit_test(test_tags_of_duplicate_keys_are_united_and_other_fields_are_the_last),
        cmocka_unit_test(test_escaped_keys_and_values_are_compared_unescaped),
        cmocka_unit_test(test_a_body_that_is_no_json_leaves_the_headers_tags),
        cmocka_unit_test(test_texts_end_before_their_first_control_character),
        cmocka_unit_test(test_bodies_that_only_pythons_reader_takes_are_read),
        cmocka_unit_test(test_a_body_nested_too_deep_keeps_what_stood_before),
        cmocka_unit_test(test_faulty_tags_are_skipped_and_the_first_64_kept),
        cmocka_unit_test(test_the_key_is_hashed_as_litellm_stores_it),
        cmocka_unit_test(test_before_other_upstreams_a_key_needs_no_word),
        cmocka_unit_test(test_litellm_takes_the_model_of_path_or_query_before_the_bodys),
        cmocka_unit_test(test_the_callers_logs_metadata_is_its_header_else_its_body),
        cmocka_unit_test(test_the_bodys_logs_metadata_is_the_one_litellm_takes),
        cmocka_unit_test(test_usage_is_asked_for_by_one_edit_that_keeps_all_else),
        cmocka_unit_test(test_only_what_carries_text_is_counted_for_estimates),
    };
    sha = sha256_new();
    arena_init(&scratch, 1 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&scratch);
    sha256_free(sha);
    return failed;
}
