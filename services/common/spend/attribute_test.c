/*
 * attribute: the rule as a table of calls against one small registry; then what needs a registry of its own.
 */
#include "spend/attribute.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "spend/tag_set.h"

#define AT 1790000000000000LL

static const struct attribute_rules rules = {{"account_id", 10}, {"task", 4}, {"conversation", 12}};
static struct registry *registry;
static struct attribution got;

static void put(enum registry_kind kind, const char *id, struct registry_version v)
{
    struct registry_record r = {.kind = kind, .id = sv_of(id), .versions = &v, .version_count = 1};
    struct err err = {0};
    if (!registry_put(registry, &r, &err))
        fail_msg("%s", err.text);
}

static void put_key(const char *id, const char *account, enum tag_trust trust, const char *require,
                    const char *accounts)
{
    struct tag_set listed;
    tag_set_init(&listed);
    tag_set_add_list(&listed, sv_of(accounts), TAG_ORIGIN_ROOT);
    struct strview names[LIMIT_TAGS];
    for (size_t i = 0; i < listed.count; i++)
        names[i] = listed.tags[i].raw;
    struct strview wanted = sv_of(require);
    put(REGISTRY_KEY, id,
        (struct registry_version){.account_id = sv_of(account),
                                  .user = SV_LIT("ann"),
                                  .team = SV_LIT("red"),
                                  .tag_policy = {.has = trust != TRUST_DEFAULT || require != NULL,
                                                 .trust = trust,
                                                 .require = &wanted,
                                                 .require_count = require != NULL,
                                                 .accounts = names,
                                                 .account_count = listed.count}});
}

static int set_up(void **state)
{
    (void)state;
    struct err err;
    if (!registry_new(&registry, &err))
        return -1;
    struct registry_version none = {0};
    put(REGISTRY_ACCOUNT, "acme", none);
    put(REGISTRY_ACCOUNT, "beta", none);
    put(REGISTRY_ACCOUNT, "corp", none);
    put(REGISTRY_ACCOUNT, "~suspense/untagged", none);
    put(REGISTRY_TASK, "T-acme", (struct registry_version){.account_id = SV_LIT("acme")});
    put(REGISTRY_TASK, "T-beta", (struct registry_version){.account_id = SV_LIT("beta")});
    put(REGISTRY_TASK, "T-gone", (struct registry_version){.account_id = SV_LIT("gone")});
    put(REGISTRY_TASK, "T-talk",
        (struct registry_version){.account_id = SV_LIT("acme"), .conversation_id = SV_LIT("C-acme")});
    put(REGISTRY_TASK, "T-twist",
        (struct registry_version){.account_id = SV_LIT("acme"), .conversation_id = SV_LIT("C-beta")});
    put(REGISTRY_TASK, "T-label", (struct registry_version){.conversation_id = SV_LIT("C-acme")});
    put(REGISTRY_CONVERSATION, "C-acme", (struct registry_version){.account_id = SV_LIT("acme")});
    put(REGISTRY_CONVERSATION, "C-beta", (struct registry_version){.account_id = SV_LIT("beta")});
    put_key("k-acme", "acme", TRUST_DEFAULT, NULL, "");
    put_key("k-own", "acme", TRUST_OWN_ACCOUNT, NULL, "");
    put_key("k-any", "acme", TRUST_ANY, NULL, "");
    put_key("k-list", "acme", TRUST_LIST, NULL, "beta,corp");
    put_key("k-free", NULL, TRUST_DEFAULT, NULL, "");
    put_key("k-free-own", NULL, TRUST_OWN_ACCOUNT, NULL, "");
    put_key("k-free-list", NULL, TRUST_LIST, NULL, "beta");
    put_key("k-gone", "gone", TRUST_DEFAULT, NULL, "");
    put_key("k-needs", "acme", TRUST_ANY, "task", "");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    registry_free(registry);
    return 0;
}

static struct spend_call call_of(struct tag_set *set, const char *tags, const char *key)
{
    tag_set_init(set);
    if (*tags != '\0')
        tag_set_add_list(set, sv_of(tags), TAG_ORIGIN_HEADER);
    return (struct spend_call){.admitted_at = AT,
                               .received_at = AT,
                               .tags = set->tags,
                               .tag_count = set->count,
                               .key_hash = sv_of(key)};
}

static const char *const verdicts[] = {"account", "untagged", "unknown", "conflict"};

static void test_the_rule_as_a_table(void **state)
{
    (void)state;
    static const struct {
        const char *tags, *key;
        const char *verdict; /* a route: the call got an account */
        const char *account, *task, *conversation;
    } rows[] = {
        /* nothing names an account */
        {"", NULL, "untagged", NULL, NULL, NULL},
        {"x,y=z", NULL, "untagged", NULL, NULL, NULL},
        {"", "nobody's key", "untagged", NULL, NULL, NULL},
        {"", "k-free", "untagged", NULL, NULL, NULL},
        {"task=unheard,conversation=of", NULL, "untagged", NULL, "unheard", "of"},
        {"account_id=", NULL, "untagged", NULL, NULL, NULL},
        {"account_id", NULL, "untagged", NULL, NULL, NULL},
        {"Account_id=acme", NULL, "untagged", NULL, NULL, NULL},
        /* one source */
        {"account_id=acme", NULL, "tag", "acme", NULL, NULL},
        {"account_id:acme", NULL, "tag", "acme", NULL, NULL},
        {"account_id=acme", "nobody's key", "tag", "acme", NULL, NULL},
        {"account_id=acme", "k-free", "tag", "acme", NULL, NULL},
        {"task=T-acme", NULL, "task", "acme", "T-acme", NULL},
        {"conversation=C-acme", NULL, "conversation", "acme", NULL, "C-acme"},
        {"", "k-acme", "key", "acme", NULL, NULL},
        /* the first of those that agree is the route */
        {"task=T-acme,account_id=acme", "k-acme", "tag", "acme", "T-acme", NULL},
        {"task=T-acme,conversation=C-acme", "k-acme", "task", "acme", "T-acme", "C-acme"},
        {"conversation=C-acme", "k-acme", "conversation", "acme", NULL, "C-acme"},
        /* labels */
        {"account_id=acme,task=t 1,conversation=c", NULL, "tag", "acme", "t 1", "c"},
        {"task=t,conversation=c", "k-acme", "key", "acme", "t", "c"},
        /* the task's conversation */
        {"task=T-talk", NULL, "task", "acme", "T-talk", "C-acme"},
        {"task=T-talk,conversation=other", NULL, "task", "acme", "T-talk", "other"},
        {"task=T-label", NULL, "conversation", "acme", "T-label", "C-acme"},
        {"task=T-twist", NULL, "conflict", NULL, "T-twist", "C-beta"},
        {"task=T-twist,conversation=c", NULL, "task", "acme", "T-twist", "c"},
        /* two values for one reserved key */
        {"account_id=acme,account_id=beta", NULL, "conflict", NULL, NULL, NULL},
        {"account_id=acme,account_id:acme", NULL, "tag", "acme", NULL, NULL},
        {"account_id=,account_id=acme", NULL, "tag", "acme", NULL, NULL},
        {"account_id=acme,task=1,task=2", NULL, "conflict", NULL, "1", NULL},
        {"account_id=acme,conversation=1,conversation=2", NULL, "conflict", NULL, NULL, "1"},
        /* sources that differ */
        {"account_id=acme,task=T-beta", NULL, "conflict", NULL, "T-beta", NULL},
        {"account_id=acme,conversation=C-beta", NULL, "conflict", NULL, NULL, "C-beta"},
        {"task=T-acme,conversation=C-beta", NULL, "conflict", NULL, "T-acme", "C-beta"},
        {"account_id=nobody,task=T-acme", NULL, "conflict", NULL, "T-acme", NULL}, /* before unknown */
        {"account_id=~x,task=T-acme", NULL, "conflict", NULL, "T-acme", NULL},
        /* own_account */
        {"account_id=beta", "k-acme", "conflict", NULL, NULL, NULL},
        {"account_id=beta", "k-own", "conflict", NULL, NULL, NULL},
        {"task=T-beta", "k-own", "conflict", NULL, "T-beta", NULL},
        {"conversation=C-beta", "k-own", "conflict", NULL, NULL, "C-beta"},
        {"account_id=nobody", "k-own", "conflict", NULL, NULL, NULL},
        {"account_id=acme", "k-own", "tag", "acme", NULL, NULL},
        {"account_id=beta", "k-free-own", "tag", "beta", NULL, NULL},
        /* any: the key's account is the last resort */
        {"account_id=beta", "k-any", "tag", "beta", NULL, NULL},
        {"task=T-beta", "k-any", "task", "beta", "T-beta", NULL},
        {"task=t", "k-any", "key", "acme", "t", NULL},
        {"account_id=beta,task=T-acme", "k-any", "conflict", NULL, "T-acme", NULL},
        {"account_id=nobody", "k-any", "unknown", NULL, NULL, NULL},
        /* list: whatever the source */
        {"account_id=beta", "k-list", "tag", "beta", NULL, NULL},
        {"task=T-beta", "k-list", "task", "beta", "T-beta", NULL},
        {"account_id=acme", "k-list", "conflict", NULL, NULL, NULL},
        {"", "k-list", "conflict", NULL, NULL, NULL},
        {"account_id=nobody", "k-list", "conflict", NULL, NULL, NULL},
        {"account_id=beta", "k-free-list", "tag", "beta", NULL, NULL},
        {"account_id=corp", "k-free-list", "conflict", NULL, NULL, NULL},
        {"", "k-free-list", "untagged", NULL, NULL, NULL},
        /* require */
        {"", "k-needs", "untagged", NULL, NULL, NULL},
        {"account_id=beta", "k-needs", "untagged", NULL, NULL, NULL},
        {"task=", "k-needs", "untagged", NULL, NULL, NULL},
        {"task", "k-needs", "untagged", NULL, NULL, NULL},
        {"task=t", "k-needs", "key", "acme", "t", NULL},
        {"account_id=acme,conversation=C-beta", "k-needs", "conflict", NULL, NULL,
         "C-beta"},                                                             /* after conflict */
        {"account_id=nobody", "k-needs", "untagged", NULL, NULL, NULL},         /* before unknown */
        {"account_id=a,account_id=b", "k-needs", "conflict", NULL, NULL, NULL}, /* after conflict */
        /* unknown */
        {"account_id=nobody", NULL, "unknown", NULL, NULL, NULL},
        {"account_id=Acme", NULL, "unknown", NULL, NULL, NULL},
        {"account_id= acme", NULL, "unknown", NULL, NULL, NULL},
        {"task=T-gone", NULL, "unknown", NULL, "T-gone", NULL},
        {"", "k-gone", "unknown", NULL, NULL, NULL},
        {"account_id=~suspense/untagged", NULL, "unknown", NULL, NULL, NULL},
        {"account_id=acme,task=~t", NULL, "unknown", NULL, "~t", NULL},
        {"account_id=acme,conversation=~c", NULL, "unknown", NULL, NULL, "~c"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tag_set set;
        struct spend_call call = call_of(&set, rows[i].tags, rows[i].key);
        attribute(&call, registry, &rules, &got);
        const char *verdict =
            got.verdict == ATTRIBUTE_ACCOUNT ? spend_route_name(got.route) : verdicts[got.verdict];
        if (strcmp(verdict, rows[i].verdict) != 0 || !sv_eq(got.account_id, sv_of(rows[i].account)) ||
            !sv_eq(got.task_id, sv_of(rows[i].task)) ||
            !sv_eq(got.conversation_id, sv_of(rows[i].conversation)))
            fail_msg("row \"%s\" with %s: %s, account " SV_FMT ", task " SV_FMT ", conversation " SV_FMT
                     ": %s",
                     rows[i].tags, rows[i].key, verdict, SV_ARG(got.account_id), SV_ARG(got.task_id),
                     SV_ARG(got.conversation_id), got.detail);
        assert_int_equal(got.detail[0] == '\0', got.verdict == ATTRIBUTE_ACCOUNT); /* why not, always */
    }
}

static void test_ids_over_the_limit_are_unknown(void **state)
{
    (void)state;
    char id[LIMIT_ID_BYTES + 2];
    static const char *const keys[] = {"account_id", "task", "conversation"};
    memset(id, 'x', sizeof id);
    id[LIMIT_ID_BYTES] = '\0';
    put(REGISTRY_ACCOUNT, id, (struct registry_version){0});
    for (size_t over = 0; over < 2; over++) {
        for (size_t i = 0; i < 3; i++) {
            char tag[LIMIT_TAG_BYTES + 1];
            struct tag_set set;
            id[LIMIT_ID_BYTES] = over ? 'x' : '\0';
            id[LIMIT_ID_BYTES + 1] = '\0';
            (void)snprintf(tag, sizeof tag, "%s=%s", keys[i], id);
            struct spend_call call = call_of(&set, tag, NULL);
            if (i > 0)
                tag_set_add_item(&set, SV_LIT("account_id=acme"), TAG_ORIGIN_ROOT);
            call.tag_count = set.count;
            attribute(&call, registry, &rules, &got);
            assert_int_equal(got.verdict, over ? ATTRIBUTE_UNKNOWN : ATTRIBUTE_ACCOUNT);
        }
    }
}

static void test_the_keys_tags_count_as_the_calls(void **state)
{
    (void)state;
    struct strview bound[] = {SV_LIT("account_id=beta"), SV_LIT("env:prod"), SV_LIT("shared=1")};
    put(REGISTRY_KEY, "k", (struct registry_version){.tags = bound, .tag_count = 3, .user = SV_LIT("bob")});
    struct tag_set set;
    struct spend_call call = call_of(&set, "shared=1,own", "k");
    attribute(&call, registry, &rules, &got);
    assert_int_equal(got.verdict, ATTRIBUTE_ACCOUNT);
    assert_int_equal(got.route, ROUTE_TAG);
    assert_true(sv_eq(got.account_id, SV_LIT("beta")));
    assert_true(sv_eq(got.user, SV_LIT("bob")));
    assert_true(sv_is_null(got.team));
    assert_int_equal(got.tag_count, 4);
    assert_int_equal(got.tags[0].origins, TAG_ORIGIN_HEADER | TAG_ORIGIN_KEY);
    assert_int_equal(got.tags[1].origins, TAG_ORIGIN_HEADER);
    assert_true(sv_eq(got.tags[2].raw, SV_LIT("account_id=beta")));
    assert_int_equal(got.tags[2].origins, TAG_ORIGIN_KEY);
    assert_true(sv_eq(got.tags[3].key, SV_LIT("env")) && sv_eq(got.tags[3].value, SV_LIT("prod")));

    call = call_of(&set, "account_id=acme", "k"); /* the caller's against the key's */
    attribute(&call, registry, &rules, &got);
    assert_int_equal(got.verdict, ATTRIBUTE_CONFLICT);
    assert_non_null(strstr(got.detail, "acme"));
    assert_non_null(strstr(got.detail, "beta"));
}

static void test_what_a_record_claims_of_its_key_does_not_count(void **state)
{
    (void)state;
    struct tag_set set;
    struct spend_call call = call_of(&set, "x", NULL);
    tag_set_add_item(&set, SV_LIT("account_id=acme"), TAG_ORIGIN_KEY);
    set.tags[0].origins |= TAG_ORIGIN_KEY;
    call.tag_count = set.count;
    attribute(&call, registry, &rules, &got);
    assert_int_equal(got.verdict, ATTRIBUTE_UNTAGGED);
    assert_int_equal(got.tag_count, 1);
    assert_int_equal(got.tags[0].origins, TAG_ORIGIN_HEADER);
}

static void test_full_sets_of_both_fit(void **state)
{
    (void)state;
    static char text[2 * LIMIT_TAGS][8];
    struct strview bound[LIMIT_TAGS];
    struct tag_set set;
    struct spend_call call = call_of(&set, "", "k");
    for (size_t i = 0; i < LIMIT_TAGS; i++) {
        (void)snprintf(text[i], sizeof text[i], "c%zu", i);
        (void)snprintf(text[LIMIT_TAGS + i], sizeof text[i], "k%zu", i);
        tag_set_add_item(&set, sv_of(text[i]), TAG_ORIGIN_ROOT);
        bound[i] = sv_of(text[LIMIT_TAGS + i]);
    }
    call.tag_count = set.count;
    put(REGISTRY_KEY, "k", (struct registry_version){.tags = bound, .tag_count = LIMIT_TAGS});
    attribute(&call, registry, &rules, &got);
    assert_int_equal(got.tag_count, 2 * LIMIT_TAGS);
}

static void test_facts_count_as_they_were_known_then(void **state)
{
    (void)state;
    struct registry_version versions[] = {
        {.effective_from = 0, .recorded_at = AT - 10, .account_id = SV_LIT("acme")},
        {.effective_from = AT + 60, .recorded_at = AT - 5, .account_id = SV_LIT("beta")},
    };
    struct registry_record r = {
        .kind = REGISTRY_KEY, .id = SV_LIT("k"), .versions = versions, .version_count = 2};
    struct err err;
    assert_true(registry_put(registry, &r, &err));
    static const struct {
        int64_t admitted_at, received_at;
        const char *account;
    } rows[] = {
        {AT - 11, AT - 11, NULL},   {AT - 11, AT - 10, "acme"}, {AT - 10, 0, "acme"},
        {AT + 59, AT + 59, "acme"}, {AT + 60, AT + 60, "beta"}, {AT - 500, AT + 99, "acme"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tag_set set;
        struct spend_call call = call_of(&set, "", "k");
        call.admitted_at = rows[i].admitted_at;
        call.received_at = rows[i].received_at;
        int64_t later = rows[i].received_at > rows[i].admitted_at ? rows[i].received_at : rows[i].admitted_at;
        assert_int_equal(attribute_known_by(&call), later);
        attribute(&call, registry, &rules, &got);
        assert_true(sv_eq(got.account_id, sv_of(rows[i].account)));
    }
}

static uint32_t seed;

static uint32_t pick(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 12) % below;
}

/* Once decided, a call stays decided: whatever is recorded after known_by changes no byte of the answer. */
static void test_later_facts_change_nothing(void **state)
{
    (void)state;
    static const char *const words[] = {"acme", "beta", "corp", "gone", "new", "T-acme", "T-new", "C-beta"};
    static struct attribution before;
    seed = 42;
    for (int round = 0; round < 3000; round++) {
        char tags[200];
        struct tag_set set;
        const char *account = words[pick(8)];
        const char *task = words[pick(8)];
        const char *conversation = words[pick(8)];
        const char *key = pick(2) == 0 ? "k-any" : "k-new";
        (void)snprintf(tags, sizeof tags, "account_id=%s,task=%s,conversation=%s", account, task,
                       conversation);
        struct spend_call call = call_of(&set, pick(4) == 0 ? "task=T-new" : tags, key);
        attribute(&call, registry, &rules, &before);
        struct registry_version late = {
            .effective_from = 0, .recorded_at = AT + 1, .account_id = sv_of(words[pick(5)])};
        put(REGISTRY_ACCOUNT, "new", late);
        put(REGISTRY_TASK, "T-new", late);
        put(REGISTRY_CONVERSATION, "new", late);
        put(REGISTRY_KEY, "k-new", late);
        attribute(&call, registry, &rules, &got);
        assert_int_equal(got.verdict, before.verdict);
        assert_string_equal(got.detail, before.detail);
        assert_true(sv_eq(got.account_id, before.account_id));
        assert_int_equal(got.route, before.route);
    }
}

static void test_other_names_can_be_reserved(void **state)
{
    (void)state;
    static const struct attribute_rules own = {{"tenant", 6}, {"job", 3}, {"chat", 4}};
    struct tag_set set;
    struct spend_call call = call_of(&set, "tenant:acme,job:T-acme,chat:c,account_id=beta,task=T-beta", NULL);
    attribute(&call, registry, &own, &got);
    assert_int_equal(got.verdict, ATTRIBUTE_ACCOUNT);
    assert_true(sv_eq(got.account_id, SV_LIT("acme")));
    assert_true(sv_eq(got.conversation_id, SV_LIT("c")));
}

static void test_a_long_detail_is_cut_between_characters(void **state)
{
    (void)state;
    char value[3][LIMIT_TAG_BYTES];
    struct tag_set set;
    struct spend_call call = call_of(&set, "", NULL);
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(value[i], sizeof value[i], "account_id=%zu", i);
        for (size_t k = 12; k + 3 < sizeof value[i]; k += 3)
            memcpy(value[i] + k, "\xe2\x82\xac", 4);
        tag_set_add_item(&set, sv_of(value[i]), TAG_ORIGIN_ROOT);
    }
    call.tag_count = set.count;
    attribute(&call, registry, &rules, &got);
    assert_int_equal(got.verdict, ATTRIBUTE_CONFLICT);
    assert_true(strlen(got.detail) > LIMIT_DETAIL_BYTES - 5);
    assert_true(sv_is_utf8(sv_of(got.detail)));
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_the_rule_as_a_table),
        CASE(test_ids_over_the_limit_are_unknown),
        CASE(test_the_keys_tags_count_as_the_calls),
        CASE(test_what_a_record_claims_of_its_key_does_not_count),
        CASE(test_full_sets_of_both_fit),
        CASE(test_facts_count_as_they_were_known_then),
        CASE(test_later_facts_change_nothing),
        CASE(test_other_names_can_be_reserved),
        CASE(test_a_long_detail_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
