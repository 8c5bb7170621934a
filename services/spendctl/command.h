/*
 * command: what spendctl can be asked: one table of commands (in command.c), their flags, their
 * help, and the reading of a command line by it. Refuses unknown flags and words, and says what there is.
 */
#ifndef SPENDCTL_COMMAND_H
#define SPENDCTL_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMMAND_FLAGS_MAX    12
#define COMMAND_OPERANDS_MAX 2

enum exit_code {
    EXIT_FINE = 0,
    EXIT_FAILED = 1, /* it could not be done, or was asked for wrongly */
    EXIT_MEND = 2,   /* done, and it found something that somebody has to mend */
};

struct command_flag {
    const char *name;  /* "amount": --amount */
    const char *value; /* what stands for its value in the help; NULL: a switch */
    const char *doc;
    bool required;
};

struct command;

/* One command line, read. */
struct invocation {
    const struct command *command;
    const char *operand[COMMAND_OPERANDS_MAX]; /* NULL: not given */
    const char *value[COMMAND_FLAGS_MAX]; /* by the flag's place in the table; a switch that is set: "" */
    bool json;
};

struct command {
    const char *words;    /* "account credit" */
    const char *operands; /* "ACCOUNT", "" */
    size_t operand_count; /* all are needed */
    const char *summary;
    const char *help; /* more to say, and examples */
    struct command_flag flags[COMMAND_FLAGS_MAX];
    int (*run)(const struct invocation *in);
};

/* The value of a flag of the command by its name, NULL when it was not given. Aborts on a name it does not
 * have. */
const char *command_value(const struct invocation *in, const char *flag);

/* The number that --limit gives, 1 to most; *limit stays without it. false: said. */
bool command_limit(const struct invocation *in, int64_t most, int64_t *limit);

/* Runs what argv asks for; the exit code of the process. */
int command_run(int argc, char **argv);

int account_list(const struct invocation *in);
int account_show(const struct invocation *in);
int account_set(const struct invocation *in);
int account_credit(const struct invocation *in);
int budget_list(const struct invocation *in);
int budget_show(const struct invocation *in);
int budget_set(const struct invocation *in);
int budget_reset(const struct invocation *in);
int budget_resets(const struct invocation *in);
int budget_lint(const struct invocation *in);
int explain(const struct invocation *in);
int prices_import(const struct invocation *in);
int prices_list(const struct invocation *in);
int prices_show(const struct invocation *in);
int version(const struct invocation *in);

#endif
