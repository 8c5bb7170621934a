/*
 * registry: histories in, the version that holds for a call out.
 */
#include "spend/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct registry *registry;

static int set_up(void **state)
{
    (void)state;
    struct err err;
    return registry_new(&registry, &err) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    registry_free(registry);
    return 0;
}

static void put(enum registry_kind kind, const char *id, struct registry_version *versions, size_t count)
{
    struct registry_record r = {.kind = kind, .id = sv_of(id), .versions = versions, .version_count = count};
    struct err err = {0};
    if (!registry_put(registry, &r, &err))
        fail_msg("%s", err.text);
}

static void beat(int64_t watermark, int64_t price_version)
{
    struct registry_record r = {.kind = REGISTRY_HEARTBEAT,
                                .id = SV_LIT("config"),
                                .watermark = OPT_I64(watermark),
                                .price_version = OPT_I64(price_version)};
    struct err err;
    assert_true(registry_put(registry, &r, &err));
}

static void test_the_greatest_effective_time_known_then_wins(void **state)
{
    (void)state;
    struct registry_version versions[] = {
        {.effective_from = 0, .recorded_at = 100, .tier = SV_LIT("first")},
        {.effective_from = 500, .recorded_at = 200, .tier = SV_LIT("second")},
        {.effective_from = 500, .recorded_at = 300, .tier = SV_LIT("second again")},
        {.effective_from = 400, .recorded_at = 350, .tier = SV_LIT("earlier")},
        {.effective_from = 900, .recorded_at = 360, .tier = SV_LIT("later")},
    };
    static const struct {
        int64_t at, known_by;
        const char *tier; /* NULL: no such fact */
    } rows[] = {
        {1000, 99, NULL},       {1000, 100, "first"},       {-1, 1000, NULL},
        {0, 100, "first"},      {499, 200, "first"},        {500, 200, "second"},
        {500, 199, "first"},    {500, 299, "second"},       {500, 300, "second again"},
        {450, 1000, "earlier"}, {450, 349, "first"},        {899, 1000, "second again"},
        {900, 1000, "later"},   {900, 359, "second again"}, {INT64_MAX, INT64_MAX, "later"},
    };
    put(REGISTRY_ACCOUNT, "a", versions, 5);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct registry_version *v =
            registry_find(registry, REGISTRY_ACCOUNT, SV_LIT("a"), rows[i].at, rows[i].known_by);
        if (rows[i].tier == NULL)
            assert_null(v);
        else
            assert_true(v != NULL && sv_eq(v->tier, sv_of(rows[i].tier)));
    }
}

static void test_kinds_and_ids_are_apart(void **state)
{
    (void)state;
    struct registry_version v = {.account_id = SV_LIT("x")};
    put(REGISTRY_TASK, "a", &v, 1);
    assert_null(registry_find(registry, REGISTRY_ACCOUNT, SV_LIT("a"), 1, 1));
    assert_null(registry_find(registry, REGISTRY_TASK, SV_LIT("A"), 1, 1));
    assert_null(registry_find(registry, REGISTRY_TASK, SV_LIT("ab"), 1, 1));
    assert_null(registry_find(registry, REGISTRY_TASK, SV_LIT(""), 1, 1));
    assert_null(registry_find(registry, REGISTRY_TASK, SV_NULL, 1, 1));
    assert_non_null(registry_find(registry, REGISTRY_TASK, SV_LIT("a"), 1, 1));
    assert_int_equal(registry_count(registry, REGISTRY_TASK), 1);
    assert_int_equal(registry_count(registry, REGISTRY_ACCOUNT), 0);
}

static void test_everything_put_in_is_copied(void **state)
{
    (void)state;
    char text[] = "0123456789abcdefghij";
    struct strview tags[] = {{text, 2}, {text + 2, 2}};
    struct strview require[] = {{text + 4, 1}};
    struct strview accounts[] = {{text + 5, 1}, {text + 6, 0}};
    struct registry_version v[] = {{0},
                                   {.effective_from = 1,
                                    .recorded_at = 2,
                                    .account_id = {text + 7, 1},
                                    .tier = {text + 8, 1},
                                    .markup_ppm = OPT_I64(1300000),
                                    .user = {text + 9, 1},
                                    .team = {text + 10, 1},
                                    .tags = tags,
                                    .tag_count = 2,
                                    .tag_policy = {.has = true,
                                                   .trust = TRUST_LIST,
                                                   .require = require,
                                                   .require_count = 1,
                                                   .accounts = accounts,
                                                   .account_count = 2},
                                    .price_key = {text + 11, 1},
                                    .conversation_id = {text + 12, 1}}};
    struct registry_record r = {
        .kind = REGISTRY_KEY, .id = {text + 13, 3}, .versions = v, .version_count = 2};
    struct err err;
    assert_true(registry_put(registry, &r, &err));
    memset(text, '?', sizeof text - 1);
    memset(tags, 0, sizeof tags);
    memset(require, 0, sizeof require);
    memset(accounts, 0, sizeof accounts);
    memset(v, 0, sizeof v);
    const struct registry_version *got = registry_find(registry, REGISTRY_KEY, SV_LIT("def"), 5, 5);
    assert_non_null(got);
    assert_true(sv_eq(got->account_id, SV_LIT("7")));
    assert_true(sv_eq(got->tier, SV_LIT("8")));
    assert_true(got->markup_ppm.has && got->markup_ppm.v == 1300000);
    assert_true(sv_eq(got->user, SV_LIT("9")));
    assert_true(sv_eq(got->team, SV_LIT("a")));
    assert_true(got->tag_count == 2 && sv_eq(got->tags[0], SV_LIT("01")) &&
                sv_eq(got->tags[1], SV_LIT("23")));
    assert_true(got->tag_policy.has && got->tag_policy.trust == TRUST_LIST);
    assert_true(sv_eq(got->tag_policy.require[0], SV_LIT("4")));
    assert_true(sv_eq(got->tag_policy.accounts[0], SV_LIT("5")));
    assert_true(!sv_is_null(got->tag_policy.accounts[1]) && sv_is_empty(got->tag_policy.accounts[1]));
    assert_true(sv_eq(got->price_key, SV_LIT("b")));
    assert_true(sv_eq(got->conversation_id, SV_LIT("c")));
    got = registry_find(registry, REGISTRY_KEY, SV_LIT("def"), 0, 5);
    assert_true(sv_is_null(got->account_id) && got->tag_count == 0 && !got->tag_policy.has);
}

static void test_a_record_replaces_the_whole_history(void **state)
{
    (void)state;
    struct registry_version v = {.tier = SV_LIT("old")};
    put(REGISTRY_ACCOUNT, "a", &v, 1);
    v.tier = SV_LIT("new");
    v.recorded_at = 7;
    put(REGISTRY_ACCOUNT, "a", &v, 1);
    assert_int_equal(registry_count(registry, REGISTRY_ACCOUNT), 1);
    assert_null(registry_find(registry, REGISTRY_ACCOUNT, SV_LIT("a"), 9, 6));
    assert_true(sv_eq(registry_find(registry, REGISTRY_ACCOUNT, SV_LIT("a"), 9, 7)->tier, SV_LIT("new")));
    put(REGISTRY_ACCOUNT, "a", NULL, 0);
    assert_null(registry_find(registry, REGISTRY_ACCOUNT, SV_LIT("a"), 9, 9));
}

static void test_a_heartbeat_only_raises_the_watermark(void **state)
{
    (void)state;
    assert_int_equal(registry_watermark(registry), 0);
    assert_int_equal(registry_price_version(registry), 0);
    beat(100, 2);
    beat(90, 1);
    assert_int_equal(registry_watermark(registry), 100);
    assert_int_equal(registry_price_version(registry), 2);
    beat(101, 3);
    assert_int_equal(registry_watermark(registry), 101);
    assert_int_equal(registry_price_version(registry), 3);
    struct registry_record r = {.kind = REGISTRY_HEARTBEAT};
    struct err err;
    assert_true(registry_put(registry, &r, &err));
    assert_int_equal(registry_watermark(registry), 101);
    assert_int_equal(registry_count(registry, REGISTRY_HEARTBEAT), 0);
    struct registry_version v = {0};
    r = (struct registry_record){.kind = REGISTRY_TIER,
                                 .id = SV_LIT("t"),
                                 .versions = &v,
                                 .version_count = 1,
                                 .watermark = OPT_I64(999)};
    assert_true(registry_put(registry, &r, &err));
    assert_int_equal(registry_watermark(registry), 101);
}

static void test_what_no_ledger_writes_is_refused(void **state)
{
    (void)state;
    static struct registry_version many[LIMIT_REGISTRY_VERSIONS + 1];
    static struct strview tags[LIMIT_TAGS + 1];
    struct err err;
    struct registry_record r = {.kind = REGISTRY_TASK, .versions = many, .version_count = 1};
    assert_false(registry_put(registry, &r, &err)); /* no id */
    assert_int_equal(err.fate, FATE_DEAD_LETTER);
    r.id = SV_LIT("t");
    r.version_count = LIMIT_REGISTRY_VERSIONS + 1;
    assert_false(registry_put(registry, &r, &err));
    assert_int_equal(err.code, ERR_INVALID);
    r.version_count = LIMIT_REGISTRY_VERSIONS;
    assert_true(registry_put(registry, &r, &err));
    many[0].tags = tags;
    many[0].tag_count = LIMIT_TAGS + 1;
    assert_false(registry_put(registry, &r, &err));
    r.kind = REGISTRY_KIND_COUNT;
    assert_false(registry_put(registry, &r, &err));
    assert_int_equal(registry_count(registry, REGISTRY_TASK), 1);
}

static void test_thousands_of_facts_are_found_again(void **state)
{
    (void)state;
    char id[32];
    for (int i = 0; i < 5000; i++) {
        struct registry_version v = {.account_id = sv_of(id)};
        (void)snprintf(id, sizeof id, "task-%d", i % 4000);
        v.account_id = sv_of(id);
        put(REGISTRY_TASK, id, &v, 1);
    }
    assert_int_equal(registry_count(registry, REGISTRY_TASK), 4000);
    for (int i = 0; i < 4000; i++) {
        (void)snprintf(id, sizeof id, "task-%d", i);
        const struct registry_version *v = registry_find(registry, REGISTRY_TASK, sv_of(id), 0, 0);
        assert_true(v != NULL && sv_eq(v->account_id, sv_of(id)));
    }
}

static void test_kinds_have_words_and_trusts_both_ways(void **state)
{
    (void)state;
    static const char *const kinds[] = {"account",      "key",   "tier",     "task",
                                        "conversation", "model", "heartbeat"};
    static const char *const trusts[] = {"default", "own_account", "any", "list"};
    enum tag_trust trust;
    for (int i = 0; i < REGISTRY_KIND_COUNT; i++)
        assert_string_equal(registry_kind_name((enum registry_kind)i), kinds[i]);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(tag_trust_name((enum tag_trust)i), trusts[i]);
        assert_true(tag_trust_parse(sv_of(trusts[i]), &trust));
        assert_int_equal(trust, i);
    }
    assert_false(tag_trust_parse(SV_LIT("Any"), &trust));
    registry_free(NULL);
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_the_greatest_effective_time_known_then_wins),
        CASE(test_kinds_and_ids_are_apart),
        CASE(test_everything_put_in_is_copied),
        CASE(test_a_record_replaces_the_whole_history),
        CASE(test_a_heartbeat_only_raises_the_watermark),
        CASE(test_what_no_ledger_writes_is_refused),
        CASE(test_thousands_of_facts_are_found_again),
        CASE(test_kinds_have_words_and_trusts_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
