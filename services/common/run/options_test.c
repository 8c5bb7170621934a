#include "run/options.h"

#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST_OPTIONS(X)                                                                                      \
    X(listen, STRING, "127.0.0.1:4100", 1, 30, PLAIN, OPTIONAL, "x.listen", "where it listens | or not")     \
    X(batch_max, INT, "2000", 1, 10000, PLAIN, OPTIONAL, "x.batchMax", "most records in one transaction")    \
    X(body_bytes, SIZE, "32MiB", 1024, 1 << 30, PLAIN, OPTIONAL, NULL, "most bytes of a body")               \
    X(config_lead, DURATION, "60s", 0, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, NULL, "how far ahead")         \
    X(verbose, BOOL, "false", 0, 0, PLAIN, OPTIONAL, NULL, "says more")                                      \
    X(gate, ENUM, "off|observe|enforce", 0, 0, PLAIN, OPTIONAL, NULL, "the gate")                            \
    X(call_path, LIST, NULL, 0, 3, PLAIN, OPTIONAL, NULL, "a further path")                                  \
    X(color, LIST, "red,green", 0, 3, PLAIN, OPTIONAL, NULL, "a list with a default")                        \
    X(database_url, STRING, NULL, 0, 0, SECRET, REQUIRED, "x.databaseUrl", "Postgres connection string")     \
    X(token, STRING, NULL, 4, 8, SECRET, OPTIONAL, NULL, "a token")                                          \
    X(note, STRING, NULL, 0, 0, PLAIN, OPTIONAL, NULL, "any text")                                           \
    X(admin, LISTEN, "127.0.0.1:4101", 0, 0, PLAIN, OPTIONAL, NULL, "an address to listen on")

struct test_options {
    TEST_OPTIONS(OPTION_FIELD)
};

#define TEST_ROW(...) OPTION_ROW(struct test_options, __VA_ARGS__)
static const struct option_row rows[] = {TEST_OPTIONS(TEST_ROW)};

/* What one call of options_parse gave. Its strings live until the next. */
static struct test_options got;
static struct err err;
static struct options_rest rest;
static struct arena memory;
static char page[65536];

static struct options_spec spec = {
    .program = "spend-test",
    .summary = "a program for tests",
    .rows = rows,
    .count = OPTION_COUNT(rows),
};

static void clean_environment(void)
{
    static const char *const names[] = {
        "SPEND_LISTEN",        "SPEND_ADMIN",
        "SPEND_BATCH_MAX",     "SPEND_BODY_BYTES",
        "SPEND_CONFIG_LEAD",   "SPEND_VERBOSE",
        "SPEND_GATE",          "SPEND_CALL_PATH",
        "SPEND_COLOR",         "SPEND_TOKEN",
        "SPEND_TOKEN_FILE",    "SPEND_NOTE",
        "SPEND_DATABASE_URL",  "SPEND_DATABASE_URL_FILE",
        "SPEND_KAFKA_BROKERS",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unsetenv(names[i]);
}

/* Words are separated by one blank. The program's name is put in front. */
static enum options_verdict parse(const char *line)
{
    static char words[1024];
    static char *argv[64];
    int argc = 0;
    (void)snprintf(words, sizeof words, "spend-test%s%s", *line == '\0' ? "" : " ", line);
    for (char *word = words; word != NULL;) {
        char *blank = strchr(word, ' ');
        if (blank != NULL)
            *blank++ = '\0';
        argv[argc++] = word;
        word = blank;
    }
    argv[argc] = NULL;
    arena_free(&memory);
    arena_init(&memory, 1 << 20);
    memset(&got, 0x5a, sizeof got); /* what was on a main()'s stack */
    err_clear(&err);
    struct buffer out;
    buffer_init(&out, sizeof page - 1);
    enum options_verdict verdict = options_parse(&spec, argc, argv, &got, &memory, &rest, &out, &err);
    memcpy(page, out.len == 0 ? "" : out.data, out.len);
    page[out.len] = '\0';
    buffer_free(&out);
    return verdict;
}

static void refused(const char *line, const char *because)
{
    assert_int_equal(parse(line), OPTIONS_USAGE);
    if (strstr(err.text, because) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", line, err.text, because);
}

static int setup(void **state)
{
    (void)state;
    clean_environment();
    (void)setenv("SPEND_DATABASE_URL", "postgres://secret@db", 1);
    spec.operands = NULL;
    spec.operands_max = 0;
    spec.check = NULL;
    return 0;
}

static void test_defaults_fill_every_field(void **state)
{
    (void)state;
    assert_int_equal(parse(""), OPTIONS_RUN);
    assert_string_equal(got.listen, "127.0.0.1:4100");
    assert_int_equal(got.batch_max, 2000);
    assert_int_equal(got.body_bytes, 32 << 20);
    assert_int_equal(got.config_lead_us, 60 * US_PER_SECOND);
    assert_false(got.verbose);
    assert_string_equal(got.gate, "off");
    assert_int_equal(got.call_path.count, 0);
    assert_int_equal(got.color.count, 2);
    assert_string_equal(got.color.item[1], "green");
    assert_string_equal(got.database_url, "postgres://secret@db");
    assert_null(got.token);
    assert_null(got.note);
    assert_int_equal(rest.count, 0);
}

static void test_a_flag_goes_before_the_environment_before_the_default(void **state)
{
    (void)state;
    (void)setenv("SPEND_BATCH_MAX", "7", 1);
    (void)setenv("SPEND_GATE", "observe", 1);
    (void)setenv("SPEND_VERBOSE", "yes", 1);
    (void)setenv("SPEND_CONFIG_LEAD", "250ms", 1);
    (void)setenv("SPEND_BODY_BYTES", "", 1); /* empty is unset */
    assert_int_equal(parse("--batch-max=8 --gate enforce"), OPTIONS_RUN);
    assert_int_equal(got.batch_max, 8);
    assert_string_equal(got.gate, "enforce");
    assert_true(got.verbose);
    assert_int_equal(got.config_lead_us, 250000);
    assert_int_equal(got.body_bytes, 32 << 20);
    assert_int_equal(parse(""), OPTIONS_RUN);
    assert_int_equal(got.batch_max, 7);
    assert_string_equal(got.gate, "observe");
    assert_int_equal(parse("--batch-max=8 --batch-max=9 --verbose=off --note="), OPTIONS_RUN);
    assert_int_equal(got.batch_max, 9);
    assert_false(got.verbose);
    assert_string_equal(got.note, "");
    assert_int_equal(parse("--verbose --body-bytes 1GiB"), OPTIONS_RUN);
    assert_true(got.verbose);
    assert_int_equal(got.body_bytes, 1 << 30);
}

static void test_lists_repeat_as_flags_and_split_in_the_environment(void **state)
{
    (void)state;
    (void)setenv("SPEND_CALL_PATH", " /a , ,/b,", 1);
    assert_int_equal(parse(""), OPTIONS_RUN);
    assert_int_equal(got.call_path.count, 2);
    assert_string_equal(got.call_path.item[0], "/a");
    assert_string_equal(got.call_path.item[1], "/b");
    assert_int_equal(parse("--call-path=/x,y --call-path /z --color=blue"), OPTIONS_RUN);
    assert_int_equal(got.call_path.count, 2);
    assert_string_equal(got.call_path.item[0], "/x,y");
    assert_string_equal(got.call_path.item[1], "/z");
    assert_int_equal(got.color.count, 1);
    refused("--color=1 --color=2 --color=3 --color=4", "--color has 4 items; give at most 3");
    (void)setenv("SPEND_COLOR", "1,2,3,4", 1);
    refused("", "SPEND_COLOR has 4 items; give at most 3");
}

static void test_values_out_of_range_are_refused_with_the_range(void **state)
{
    (void)state;
    refused("--batch-max=0", "--batch-max: \"0\" must be a whole number from 1 to 10000");
    refused("--batch-max=10001", "from 1 to 10000");
    refused("--batch-max=ten", "a whole number");
    refused("--batch-max=", "a whole number");
    refused("--body-bytes=1000", "a size in bytes, KiB, MiB or GiB from 1KiB to 1GiB");
    refused("--config-lead=2h", "a time such as 250ms, 5s or 10m from 0us to 1h");
    refused("--verbose=maybe", "true or false");
    refused("--gate=on", "one of off, observe, enforce");
    refused("--gate=off|observe", "one of off");
    refused("--admin=foo", "--admin: \"foo\" must be host:port");
    refused("--check-config --admin=localhost:65536", "must be host:port");
    refused("--listen=", "a text of 1 to 30 bytes");
    refused("--listen=0123456789012345678901234567890", "a text of 1 to 30 bytes");
    (void)setenv("SPEND_BATCH_MAX", "99999", 1);
    refused("", "SPEND_BATCH_MAX: \"99999\" must be");
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_unknown_and_abbreviated_flags_are_refused(void **state)
{
    (void)state;
    refused("--bogus", "--bogus is no option; see spend-test --help");
    refused("-v", "is no option");
    refused("--batch=5", "write --batch-max in full");
    refused("--batch 5", "write --batch-max in full");
    refused("--batch-max", "--batch-max needs a value");
    refused("--help=x", "takes no value");
    refused("--hel", "write --help in full");
    refused("stray", "\"stray\" is not understood here");
    refused("--verbose false", "\"false\" is not understood here");
}

static void test_a_secret_on_the_command_line_is_refused_and_not_repeated(void **state)
{
    (void)state;
    refused("--database-url=postgres://u:hunter2@h",
            "set SPEND_DATABASE_URL or give --database-url-file=PATH");
    assert_null(strstr(err.text, "hunter2"));
    (void)setenv("SPEND_TOKEN", "muchtoolong-hunter2", 1);
    refused("", "SPEND_TOKEN must be a text of 4 to 8 bytes");
    assert_null(strstr(err.text, "hunter2"));
}

static void write_file(char path[32], const void *bytes, size_t len)
{
    (void)snprintf(path, 32, "/tmp/options_test.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    (void)close(fd);
}

static void test_secrets_come_from_files_too(void **state)
{
    (void)state;
    char path[32];
    char line[100];
    write_file(path, "filed\r\n", 7);
    (void)snprintf(line, sizeof line, "--token-file=%s", path);
    assert_int_equal(parse(line), OPTIONS_RUN);
    assert_string_equal(got.token, "filed");
    (void)setenv("SPEND_TOKEN", "envir", 1);
    assert_int_equal(parse(line), OPTIONS_RUN); /* a flag before the environment */
    assert_string_equal(got.token, "filed");
    (void)setenv("SPEND_TOKEN_FILE", path, 1);
    refused("", "both SPEND_TOKEN and SPEND_TOKEN_FILE are set");
    (void)unsetenv("SPEND_TOKEN");
    assert_int_equal(parse(""), OPTIONS_RUN);
    assert_string_equal(got.token, "filed");
    (void)unlink(path);
    refused("", "cannot read /tmp/options_test.");
}

static void test_a_bad_secret_file_is_refused(void **state)
{
    (void)state;
    static char big[20000];
    memset(big, 'x', sizeof big);
    const struct {
        const char *bytes;
        size_t len;
        const char *because;
    } cases[] = {
        {"", 0, "is empty"},
        {"\n", 1, "is empty"},
        {"ab\0cd", 5, "NUL byte"},
        {big, sizeof big, "over 16 KiB"},
        {"much too long", 13, "must be a text of 4 to 8 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[32];
        char line[100];
        write_file(path, cases[i].bytes, cases[i].len);
        (void)snprintf(line, sizeof line, "--token-file=%s", path);
        refused(line, cases[i].because);
        (void)unlink(path);
    }
    refused("--token-file=/tmp", "cannot read /tmp");
}

static void test_what_is_missing_is_named_with_the_way_to_give_it(void **state)
{
    (void)state;
    (void)unsetenv("SPEND_DATABASE_URL");
    refused("", "database-url is missing: set SPEND_DATABASE_URL or give --database-url-file=PATH");
}

struct common_options {
    OPTIONS_COMMON(OPTION_FIELD)
    struct option_list needed;
};

#define COMMON_ROW(...) OPTION_ROW(struct common_options, __VA_ARGS__)

static void test_common_options_need_the_brokers(void **state)
{
    (void)state;
    static const struct option_row common[] = {OPTIONS_COMMON(COMMON_ROW) COMMON_ROW(
        needed, LIST, NULL, 0, 5, PLAIN, REQUIRED, NULL, "a list that must be given")};
    struct options_spec own = {.program = "p", .rows = common, .count = OPTION_COUNT(common)};
    struct common_options options;
    struct arena own_memory;
    struct buffer out;
    arena_init(&own_memory, 1 << 16);
    buffer_init(&out, 1000);
    char *none[] = {(char[]){"p"}, NULL};
    assert_int_equal(options_parse(&own, 1, none, &options, &own_memory, &rest, &out, &err), OPTIONS_USAGE);
    assert_string_equal(err.text,
                        "--kafka-brokers is missing: give it, or set SPEND_KAFKA_BROKERS (Kafka bootstrap "
                        "servers, host:port,..)");
    (void)setenv("SPEND_KAFKA_BROKERS", "a:1,b:2", 1);
    assert_int_equal(options_parse(&own, 1, none, &options, &own_memory, &rest, &out, &err), OPTIONS_USAGE);
    assert_string_equal(err.text,
                        "--needed is missing: give it, or set SPEND_NEEDED (a list that must be given)");
    char *some[] = {(char[]){"p"}, (char[]){"--needed=x"}, (char[]){"--kafka-conf=linger.ms=5"}, NULL};
    assert_int_equal(options_parse(&own, 3, some, &options, &own_memory, &rest, &out, &err), OPTIONS_RUN);
    assert_string_equal(options.kafka_brokers, "a:1,b:2");
    assert_string_equal(options.kafka_conf.item[0], "linger.ms=5");
    assert_string_equal(options.log_level, "info");
    arena_free(&own_memory);
    buffer_free(&out);
}

static bool only_migrate(const void *options, const struct options_rest *words, struct err *why)
{
    const struct test_options *o = options;
    if (words->count == 1 && strcmp(words->item[0], "migrate") != 0)
        return err_set(why, ERR_INVALID, FATE_FATAL, "no command \"%s\": try migrate", words->item[0]);
    return o->batch_max != 13 || err_set(why, ERR_INVALID, FATE_FATAL, "thirteen is not done");
}

static void test_operands_and_the_programs_own_rules(void **state)
{
    (void)state;
    spec.operands = "[migrate]";
    spec.operands_max = 1;
    spec.check = only_migrate;
    (void)unsetenv("SPEND_DATABASE_URL");
    assert_int_equal(parse("migrate --batch-max=5"),
                     OPTIONS_RUN); /* what is required is required without operands */
    assert_int_equal(rest.count, 1);
    assert_string_equal(rest.item[0], "migrate");
    assert_int_equal(got.batch_max, 5);
    assert_null(got.database_url);
    assert_int_equal(parse("--batch-max=5 -- migrate"), OPTIONS_RUN);
    refused("mend", "no command \"mend\": try migrate");
    refused("migrate now", "\"now\" is not understood here");
    refused("migrate --batch-max=13", "thirteen is not done");
}

static void test_check_config_says_good_or_why_not(void **state)
{
    (void)state;
    assert_int_equal(parse("--check-config"), OPTIONS_DONE);
    assert_string_equal(page, "spend-test: the configuration is good\n");
    refused("--check-config --batch-max=0", "must be a whole number");
}

static void test_help_and_version_need_no_configuration(void **state)
{
    (void)state;
    (void)unsetenv("SPEND_DATABASE_URL");
    assert_int_equal(parse("--version"), OPTIONS_DONE);
    assert_string_equal(page, "spend-test " SPEND_VERSION "\n");
    assert_int_equal(parse("--help"), OPTIONS_DONE);
    static const char *const parts[] = {
        "spend-test: a program for tests\n",
        "Usage: spend-test [OPTION]...",
        "  --batch-max=N                  most records in one transaction\n",
        "SPEND_BATCH_MAX; default 2000; a whole number from 1 to 10000\n",
        "  --database-url-file=PATH       Postgres connection string\n",
        "SPEND_DATABASE_URL; a secret; required; a text\n",
        "SPEND_GATE; default off; one of off, observe, enforce\n",
        "  --check-config                 read and check all of this, start nothing: exit code 0, or 2\n",
        "--print-options=md|json",
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strstr(page, parts[i]) == NULL)
            fail_msg("\"%s\" is not in:\n%s", parts[i], page);
    }
    assert_null(strstr(page, "secret@db"));
}

static void test_the_markdown_page_has_a_row_an_option(void **state)
{
    (void)state;
    assert_int_equal(parse("--print-options=md"), OPTIONS_DONE);
    size_t lines = 0;
    for (const char *p = page; *p != '\0'; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 2 + OPTION_COUNT(rows));
    assert_non_null(strstr(
        page, "| `--listen` | `SPEND_LISTEN` | `127.0.0.1:4100` | a text of 1 to 30 bytes | x.listen | "
              "where it listens \\| or not |\n"));
    assert_non_null(
        strstr(page, "| `--database-url-file` | `SPEND_DATABASE_URL` (secret) | required | a text |"));
    refused("--print-options=helm", "must be md or json");
}

static void test_the_json_page_has_every_fact(void **state)
{
    (void)state;
    assert_int_equal(parse("--print-options=json"), OPTIONS_DONE);
    json_t *root = json_loads(page, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    const json_t *list = json_object_get(root, "options");
    assert_int_equal(json_array_size(list), OPTION_COUNT(rows));
    const json_t *batch = json_array_get(list, 1);
    assert_string_equal(json_string_value(json_object_get(batch, "name")), "batch-max");
    assert_string_equal(json_string_value(json_object_get(batch, "env")), "SPEND_BATCH_MAX");
    assert_string_equal(json_string_value(json_object_get(batch, "type")), "int");
    assert_string_equal(json_string_value(json_object_get(batch, "default")), "2000");
    assert_int_equal(json_integer_value(json_object_get(batch, "max")), 10000);
    const json_t *gate = json_array_get(list, 5);
    assert_int_equal(json_array_size(json_object_get(gate, "words")), 3);
    const json_t *secret = json_array_get(list, 8);
    assert_true(json_is_true(json_object_get(secret, "secret")));
    assert_true(json_is_true(json_object_get(secret, "required")));
    assert_true(json_is_null(json_object_get(secret, "default")));
    json_decref(root);
}

static void stops_at_its_memory(bool (*print)(const struct options_spec *, struct buffer *))
{
    struct buffer out;
    buffer_init(&out, sizeof page);
    assert_true(print(&spec, &out));
    size_t whole = out.len;
    buffer_free(&out);
    for (size_t cap = 0; cap < whole; cap++) {
        buffer_init(&out, cap);
        assert_false(print(&spec, &out));
        buffer_free(&out);
    }
}

static void test_pages_and_values_stop_at_their_memory(void **state)
{
    (void)state;
    stops_at_its_memory(options_print_help);
    stops_at_its_memory(options_print_json);
    stops_at_its_memory(options_print_markdown);
    (void)setenv("SPEND_CALL_PATH", "/a,/b", 1);
    bool ran = false;
    for (size_t cap = 0; cap < 20000 && !ran; cap += 16) {
        struct arena small;
        struct buffer out;
        char *argv[] = {(char[]){"p"}, (char[]){"--color=x"}, NULL};
        arena_init(&small, cap);
        buffer_init(&out, 1000);
        ran = options_parse(&spec, 2, argv, &got, &small, &rest, &out, &err) == OPTIONS_RUN;
        assert_true(ran || err.code == ERR_MEMORY);
        arena_free(&small);
        buffer_free(&out);
    }
    assert_true(ran);
}

/* stdout and stderr of options_start go to /dev/null here: only the exit code is looked at. */
static int exit_code_of(const char *flag)
{
    char words[2][40] = {"p"};
    (void)snprintf(words[1], sizeof words[1], "%s", flag);
    char *argv[] = {words[0], words[1], NULL};
    int saved[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)fflush(stdout);
    (void)dup2(null, STDOUT_FILENO);
    (void)dup2(null, STDERR_FILENO);
    int code = -1;
    arena_free(&memory);
    arena_init(&memory, 1 << 20);
    bool run = options_start(&spec, 2, argv, &got, &memory, &rest, &code);
    (void)dup2(saved[0], STDOUT_FILENO);
    (void)dup2(saved[1], STDERR_FILENO);
    (void)close(saved[0]);
    (void)close(saved[1]);
    (void)close(null);
    assert_int_equal(run, code == -1);
    return code;
}

/* getopt_long also answers with ':' and '?': the 22nd row was taken for one of them. */
static void test_every_row_of_a_long_table_is_a_flag(void **state)
{
    (void)state;
    enum { MANY = 128 };
    static struct option_row many[MANY];
    static char names[MANY][24];
    char line[64];
    for (int i = 0; i < MANY; i++) {
        many[i] = (struct option_row){.field = names[i],
                                      .type = OPTION_STRING,
                                      .offset = offsetof(struct test_options, note),
                                      .secrecy = OPTION_PLAIN,
                                      .need = OPTION_OPTIONAL,
                                      .doc = "one of many"};
        (void)snprintf(names[i], sizeof names[i], "row_%d_end", i);
    }
    spec.rows = many;
    spec.count = MANY;
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(line, sizeof line, "--row-%d-end=v%d", i, i);
        if (parse(line) != OPTIONS_RUN)
            fail_msg("%s: %s", line, err.text);
    }
    spec.rows = rows;
    spec.count = OPTION_COUNT(rows);
}

static void test_exit_codes(void **state)
{
    (void)state;
    assert_int_equal(exit_code_of("--batch-max=5"), -1);
    assert_int_equal(exit_code_of("--check-config"), 0);
    assert_int_equal(exit_code_of("--help"), 0);
    assert_int_equal(exit_code_of("--batch-max=0"), 2);
    assert_int_equal(exit_code_of("--bogus"), 2);
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&memory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_defaults_fill_every_field, setup),
        cmocka_unit_test_setup(test_a_flag_goes_before_the_environment_before_the_default, setup),
        cmocka_unit_test_setup(test_lists_repeat_as_flags_and_split_in_the_environment, setup),
        cmocka_unit_test_setup(test_values_out_of_range_are_refused_with_the_range, setup),
        cmocka_unit_test_setup(test_unknown_and_abbreviated_flags_are_refused, setup),
        cmocka_unit_test_setup(test_a_secret_on_the_command_line_is_refused_and_not_repeated, setup),
        cmocka_unit_test_setup(test_secrets_come_from_files_too, setup),
        cmocka_unit_test_setup(test_a_bad_secret_file_is_refused, setup),
        cmocka_unit_test_setup(test_what_is_missing_is_named_with_the_way_to_give_it, setup),
        cmocka_unit_test_setup(test_common_options_need_the_brokers, setup),
        cmocka_unit_test_setup(test_operands_and_the_programs_own_rules, setup),
        cmocka_unit_test_setup(test_check_config_says_good_or_why_not, setup),
        cmocka_unit_test_setup(test_help_and_version_need_no_configuration, setup),
        cmocka_unit_test_setup(test_the_markdown_page_has_a_row_an_option, setup),
        cmocka_unit_test_setup(test_the_json_page_has_every_fact, setup),
        cmocka_unit_test_setup(test_pages_and_values_stop_at_their_memory, setup),
        cmocka_unit_test_setup(test_every_row_of_a_long_table_is_a_flag, setup),
        cmocka_unit_test_setup(test_exit_codes, setup),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
