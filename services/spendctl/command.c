#include "command.h"

#include "base/strview.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WORDS_WIDTH 16
#define FLAG_TZ                                                                                              \
    {                                                                                                        \
        "tz", "ZONE", "times in this IANA zone, or UTC; your own without: TZ, else the system's", false      \
    }
#define FLAG_LIMIT                                                                                           \
    {                                                                                                        \
        "limit", "N", "at most N lines; 100 without", false                                                  \
    }

static const struct command commands[] = {
    {.words = "account list",
     .operands = "",
     .summary = "accounts with their tier and balance",
     .help =
         "Shows the suspense accounts too: what they are below zero is spend that nobody was billed for.\n\n"
         "  spendctl account list\n  spendctl account list --json | jq -r '.items[].balance'",
     .flags = {FLAG_LIMIT},
     .run = account_list},
    {.words = "account show",
     .operands = "ACCOUNT",
     .operand_count = 1,
     .summary = "one account: balance, tier, and the tier's history",
     .help = "  spendctl account show acme\n  spendctl account show '~suspense/untagged'",
     .run = account_show},
    {.words = "account set",
     .operands = "ACCOUNT",
     .operand_count = 1,
     .summary = "makes an account, or changes its name, tier or overdraft",
     .help = "What is not given stays as it is. A new account has the tier `default` (markup 1). A change of "
             "tier holds for\n"
             "calls from a minute later on, or from --effective-from.\n\n"
             "  spendctl account set acme --name 'Acme Ltd' --tier standard\n  spendctl account set acme "
             "--overdraft none",
     .flags =
         {{"name", "TEXT", "for people", false},
          {"tier", "TIER", "which markup it pays; PUT /v1/tiers/{name} makes one", false},
          {"overdraft", "USD",
           "how far below zero the balance may fall; `none`: no limit. Calls that would take it lower are "
           "refused where ingest runs with --gate=enforce",
           false},
          {"effective-from", "TIME", "when the tier changes, like 2026-12-01T00:00:00Z", false}},
     .run = account_set},
    {.words = "account credit",
     .operands = "ACCOUNT",
     .operand_count = 1,
     .summary = "adds money to an account, once for each --external-id",
     .help = "The same --external-id again adds nothing, so a script may be run twice.\n\n"
             "  spendctl account credit acme --external-id invoice-17 --amount 250\n"
             "  spendctl account credit acme --external-id gift-1 --kind grant --amount 5 --note 'welcome'",
     .flags = {{"external-id", "ID", "your own id of this payment", true},
               {"amount", "USD", "like 12.50, at most 9 decimals", true},
               {"kind", "KIND", "top_up (without), grant, refund or opening", false},
               {"note", "TEXT", "for people", false}},
     .run = account_credit},
    {.words = "budget list",
     .operands = "",
     .summary = "budgets with what is spent, held and left",
     .help = "All of them. Of an `each` the amounts are its values': spendctl budget show BUDGET.\n\n"
             "  spendctl budget list\n  spendctl budget list --scope team --tz Europe/Berlin\n"
             "  spendctl budget list --json | jq -r '.items[] | .budget_id + \" \" + .spent'",
     .flags = {{"scope", "SCOPE", "of this scope: key, user, team, account, task, conversation, tag or model",
                false},
               FLAG_TZ},
     .run = budget_list},
    {.words = "budget show",
     .operands = "BUDGET",
     .operand_count = 1,
     .summary = "one budget: its limit, its window, what is spent; of an `each` its values",
     .help = "`last matched` is of the window of now. --json has the values shown as `largest`.\n\n"
             "  spendctl budget show acme-month\n  spendctl budget show tenants --limit 100\n"
             "  spendctl budget show tenants --value tenant=acme --tz Europe/Berlin",
     .flags = {{"value", "V", "of an `each`: this one in its own window", false},
               {"limit", "N", "of an `each`: the N values with the most spent; 20 without", false},
               FLAG_TZ},
     .run = budget_show},
    {.words = "budget set",
     .operands = "BUDGET",
     .operand_count = 1,
     .summary = "makes a budget, or changes it",
     .help =
         "There is no delete: --limit none or --mode shadow ends one. A new one needs --scope, --value or "
         "--each, --limit and --window. Of one that there is, what is "
         "not "
         "given stays\n"
         "as it is. Another scope, value, each, measure or window makes a new revision, which begins with "
         "nothing "
         "spent, so\n"
         "it wants --begin-anew. A key is named by its SHA-256 in hex, never by itself.\n\n"
         "  spendctl budget set acme-month --scope tag --value tenant=acme --limit 20 --window month --tz "
         "Europe/Berlin\n"
         "  spendctl budget set tenants --scope tag --each tenant --limit 5 --window 2592000s --mode shadow\n"
         "  spendctl budget set acme-month --limit 30",
     .flags =
         {{"scope", "SCOPE", "key, user, team, account, task, conversation, tag or model", false},
          {"value", "V", "the one it is about, byte for byte as calls have it: tenant=acme", false},
          {"each", "K", "instead: every one has a window of its own; a tag's key, else the scope", false},
          {"limit", "USD", "like 12.50; `none`: no limit; 0: nothing passes", false},
          {"window", "W", "lifetime, hour, day, week, month, quarter, year, or seconds: 3600s", false},
          {"tz", "ZONE",
           "the IANA zone in which its days begin, and times of other windows are shown; UTC without", false},
          {"anchor", "TIME", "of seconds: a window begins there, like 2026-12-01T00:00:00Z", false},
          {"measure", "M", "raw (without: what the provider charges) or billed (with the markup)", false},
          {"mode", "MODE", "hard (without), or shadow: it counts, and refuses nothing", false},
          {"thresholds", "LIST", "percent of the limit; 50,80,100 without; or none", false},
          {"begin-anew", NULL, "yes, what is spent stays behind in the old revision", false}},
     .run = budget_set},
    {.words = "budget reset",
     .operands = "BUDGET",
     .operand_count = 1,
     .summary = "closes the window of now; the rest of it begins with nothing spent",
     .help = "Nothing is set back: the window that is closed keeps what it has, with the reason.\n\n"
             "  spendctl budget reset acme-month --reason 'a limit by mistake, ticket 42'\n"
             "  spendctl budget reset tenants --value tenant=acme --reason 'agreed with Ann'",
     .flags = {{"reason", "TEXT", "kept with the reset", true},
               {"value", "V", "of an `each`: which one; needed there", false}},
     .run = budget_reset},
    {.words = "budget resets",
     .operands = "BUDGET",
     .operand_count = 1,
     .summary = "the windows that ended, what they had spent, and why they ended",
     .help = "Oldest first. `clock` is a window that ended in its time.\n\n"
             "  spendctl budget resets acme-month\n  spendctl budget resets tenants --tz UTC",
     .flags = {FLAG_TZ},
     .run = budget_resets},
    {.words = "budget lint",
     .operands = "",
     .summary = "what budgets say that cannot be meant, with the command that mends it",
     .help = "Exit code 2: something is to be mended. Looks for budgets older than a day that no call was "
             "ever of, "
             "accounts,\n"
             "keys, users and teams that nothing registers (a warning only: exit code 0), hard limits of 0, "
             "limits "
             "that a lower\n"
             "one on the same hides, limits without thresholds, and an `each` of more than 90,000 values.\n\n"
             "  spendctl budget lint\n  spendctl budget lint --json | jq -r '.checks[] | select(.status == "
             "\"fail\") "
             "| .hint'",
     .run = budget_lint},
    {.words = "explain",
     .operands = "CALL|TASK",
     .operand_count = 1,
     .summary = "the whole story of a call or a task",
     .help = "CALL is the reply's x-spend-call-id. Shows its tags and where each stood, why this account, "
             "the price line by\n"
             "line, the entries, and where the records lie. Exit code 2: a dead letter, or a finished task "
             "without a call.\n"
             "A dead letter has its cost, but no price line by line: its record does not carry the "
             "entry.\n\n"
             "  spendctl explain 0193a0b2-5c7e-7cc1-9d0e-2f6b8a1c4d3e\n  spendctl explain ticket-42\n"
             "  spendctl explain a-label --account acme",
     .flags = {{"task", NULL, "it is a task, also when it looks like a call's id", false},
               {"account", "ACCOUNT", "whose label it is: a task that calls name but nobody registered",
                false}},
     .run = explain},
    {.words = "prices import",
     .operands = "FILE",
     .operand_count = 1,
     .summary = "takes a LiteLLM price file as the next price book",
     .help =
         "FILE is LiteLLM's model_prices_and_context_window.json; - reads standard input. It is taken whole "
         "or not at\n"
         "all, and holds for calls from a minute later on. The same file again changes nothing.\n\n"
         "  spendctl prices import model_prices.json --dry-run\n  spendctl prices import model_prices.json",
     .flags = {{"dry-run", NULL, "only show what it would change", false},
               {"effective-from", "TIME", "from when it holds, like 2026-12-01T00:00:00Z", false}},
     .run = prices_import},
    {.words = "prices list",
     .operands = "",
     .summary = "the price books and since when each holds",
     .help = "  spendctl prices list",
     .flags = {FLAG_LIMIT},
     .run = prices_list},
    {.words = "prices show",
     .operands = "MODEL",
     .operand_count = 1,
     .summary = "what a model costs, through its alias when it has one",
     .help = "  spendctl prices show gpt-4o\n  spendctl prices show gpt-4o --book 1",
     .flags = {{"book", "VERSION", "in this price book; the one in force now without", false}},
     .run = prices_show},
    {.words = "version", .operands = "", .summary = "this program's version", .help = "", .run = version},
};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_overview(FILE *out)
{
    (void)fputs("spendctl: asks and configures Spendline's ledger\n\nusage: spendctl COMMAND .. [--json] "
                "[--help]\n\n",
                out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(out, "  %-*s  %s\n", WORDS_WIDTH, commands[i].words, commands[i].summary);
    (void)fputs(
        "\n`spendctl COMMAND --help` shows its flags and examples.\n"
        "environment: SPEND_LEDGER_URL (like http://127.0.0.1:4120), SPEND_LEDGER_TOKEN (the operator's or "
        "reader's);\n"
        "             after deploy/local/up: . .local/env\n"
        "exit codes:  0 fine, 1 failed, 2 found something to mend\n",
        out);
}

static void print_help(const struct command *c)
{
    printf("spendctl %s: %s\n\nusage: spendctl %s %s%s[flags]\n\n", c->words, c->summary, c->words,
           c->operands, c->operands[0] == '\0' ? "" : " ");
    for (size_t i = 0; i < COMMAND_FLAGS_MAX && c->flags[i].name != NULL; i++) {
        char flag[48];
        (void)snprintf(flag, sizeof flag, "--%s%s%s", c->flags[i].name, c->flags[i].value == NULL ? "" : " ",
                       c->flags[i].value == NULL ? "" : c->flags[i].value);
        printf("  %-24s%s%s\n", flag, c->flags[i].doc, c->flags[i].required ? " (needed)" : "");
    }
    printf("  %-24s%s\n", "--json", "the ledger's own answer, for programs");
    if (c->help[0] != '\0')
        printf("\n%s\n", c->help);
}

static int usage(const struct command *c, const char *what, const char *which)
{
    (void)fprintf(stderr, "spendctl: %s%s\n  `spendctl %s --help` shows what it takes\n", what, which,
                  c->words);
    return EXIT_FAILED;
}

/* No command begins like this; those that share the first word are named. */
static int usage_unknown(int argc, char **argv)
{
    size_t len = strlen(argv[0]);
    (void)fprintf(stderr, "spendctl: no such command: %s%s%s\n", argv[0], argc > 1 ? " " : "",
                  argc > 1 ? argv[1] : "");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strncmp(commands[i].words, argv[0], len) == 0 && commands[i].words[len] == ' ')
            (void)fprintf(stderr, "  spendctl %-*s  %s\n", WORDS_WIDTH, commands[i].words,
                          commands[i].summary);
    }
    (void)fputs("  `spendctl --help` lists all commands\n", stderr);
    return EXIT_FAILED;
}

/* The command whose words argv begins with, one or two. *used: how many. */
static const struct command *find(int argc, char **argv, int *used)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const char *blank = strchr(commands[i].words, ' ');
        size_t first = blank == NULL ? strlen(commands[i].words) : (size_t)(blank - commands[i].words);
        *used = blank == NULL ? 1 : 2;
        if (argc < *used || strlen(argv[0]) != first || strncmp(argv[0], commands[i].words, first) != 0)
            continue;
        if (blank == NULL || strcmp(argv[1], blank + 1) == 0)
            return &commands[i];
    }
    return NULL;
}

/* Takes a flag and its value; *at is left at the last word taken. false: usage was printed. */
static bool take_flag(struct invocation *in, int argc, char **argv, int *at)
{
    const char *name = argv[*at] + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals == NULL ? strlen(name) : (size_t)(equals - name);
    for (size_t i = 0; i < COMMAND_FLAGS_MAX && in->command->flags[i].name != NULL; i++) {
        const struct command_flag *flag = &in->command->flags[i];
        if (strlen(flag->name) != len || strncmp(flag->name, name, len) != 0)
            continue;
        if (flag->value == NULL && equals != NULL)
            return usage(in->command, "this flag takes no value: ", argv[*at]) == EXIT_FINE;
        if (flag->value != NULL && equals == NULL && *at + 1 >= argc)
            return usage(in->command, "a value is missing after ", argv[*at]) == EXIT_FINE;
        if (flag->value == NULL)
            in->value[i] = "";
        else
            in->value[i] = equals != NULL ? equals + 1 : argv[++*at];
        return true;
    }
    return usage(in->command, "no such flag: ", argv[*at]) == EXIT_FINE;
}

static bool take_words(struct invocation *in, int argc, char **argv)
{
    size_t operands = 0;
    bool flags = true;
    for (int i = 0; i < argc; i++) {
        if (flags && strcmp(argv[i], "--") == 0)
            flags = false;
        else if (flags && strcmp(argv[i], "--json") == 0)
            in->json = true;
        else if (flags && strncmp(argv[i], "--", 2) == 0) {
            if (!take_flag(in, argc, argv, &i))
                return false;
        } else if (operands == in->command->operand_count)
            return usage(in->command, "one word too many: ", argv[i]) == EXIT_FINE;
        else
            in->operand[operands++] = argv[i];
    }
    if (operands < in->command->operand_count)
        return usage(in->command, "it needs ", in->command->operands) == EXIT_FINE;
    for (size_t i = 0; i < COMMAND_FLAGS_MAX; i++) {
        if (in->command->flags[i].required && in->value[i] == NULL)
            return usage(in->command, "it needs --", in->command->flags[i].name) == EXIT_FINE;
    }
    return true;
}

const char *command_value(const struct invocation *in, const char *flag)
{
    size_t i = 0;
    while (i < COMMAND_FLAGS_MAX && in->command->flags[i].name != NULL &&
           strcmp(in->command->flags[i].name, flag) != 0)
        i++;
    assert(i < COMMAND_FLAGS_MAX && in->command->flags[i].name != NULL);
    return in->value[i];
}

bool command_limit(const struct invocation *in, int64_t most, int64_t *limit)
{
    const char *wanted = command_value(in, "limit");
    int64_t number;
    if (wanted == NULL)
        return true;
    if (!sv_to_i64(sv_of(wanted), &number) || number < 1 || number > most) {
        (void)fprintf(stderr, "spendctl: --limit %s is no number above 0", wanted);
        if (most < INT64_MAX)
            (void)fprintf(stderr, " and up to %" PRId64, most);
        (void)fputc('\n', stderr);
        return false;
    }
    *limit = number;
    return true;
}

static bool asks_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    }
    return false;
}

int command_run(int argc, char **argv)
{
    int used = 0;
    struct invocation in = {.json = false};
    if (argc >= 1 && strcmp(argv[0], "--version") == 0)
        return version(&in);
    in.command = find(argc, argv, &used);
    if (asks_help(argc, argv) || (argc > 0 && strcmp(argv[0], "help") == 0)) {
        if (in.command != NULL)
            print_help(in.command);
        else
            print_overview(stdout);
        return EXIT_FINE;
    }
    if (argc == 0) {
        print_overview(stderr);
        return EXIT_FAILED;
    }
    if (in.command == NULL)
        return usage_unknown(argc, argv);
    return take_words(&in, argc - used, argv + used) ? in.command->run(&in) : EXIT_FAILED;
}
