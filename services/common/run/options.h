/*
 * options: one table a service makes its struct fields, parser, range checks, --help and reference page.
 * A value comes from the flag --name, else from the environment SPEND_NAME, else from the table's default.
 * Secrets come from SPEND_NAME or from a file (--name-file, SPEND_NAME_FILE), never from a flag: other users
 * can read a command line. Printed, they are ***. Refuses: abbreviated flags, unknown flags, values out of
 * range. Unknown SPEND_* variables belong to others.
 *
 *   #define LEDGER_OPTIONS(X) \
 *       X(database_url, STRING, NULL, 0, 0, SECRET, REQUIRED, "databaseUrl", "Postgres connection string") \
 *       X(batch_max, INT, "2000", 1, 10000, PLAIN, OPTIONAL, "batchMax", "most records in one transaction") \
 *       X(config_lead, DURATION, "60s", 0, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, "configLead", "..") \
 *       OPTIONS_COMMON(X)
 *   struct ledger_options { LEDGER_OPTIONS(OPTION_FIELD) };
 *   #define LEDGER_ROW(...) OPTION_ROW(struct ledger_options, __VA_ARGS__)
 *   static const struct option_row rows[] = {LEDGER_OPTIONS(LEDGER_ROW)};
 *   static const struct options_spec spec = {.program = "spend-ledger", .rows = rows, .count =
 * OPTION_COUNT(rows)};
 *   ...
 *   if (!options_start(&spec, argc, argv, &options, &memory, &rest, &exit_code))
 *       return exit_code;
 */
#ifndef SPEND_RUN_OPTIONS_H
#define SPEND_RUN_OPTIONS_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/err.h"

/*           field of the struct      a row's min and max       the default text
 * STRING    const char *name         length, when max > 0      NULL: the field is NULL
 * LISTEN    const char *name         -                         an address to listen on, see listen_address.h
 * INT       int64_t name             the number
 * SIZE      int64_t name             bytes ("64KiB")
 * DURATION  int64_t name_us          microseconds ("250ms")
 * BOOL      bool name                -                         "true" or "false"
 * ENUM      const char *name         -                         all words, "off|observe|enforce"; the first is
 * the default LIST      struct option_list name  max = most items          comma separated, or NULL A LIST
 * flag is repeatable, one item each; its environment value is split on commas. Flags replace the
 * environment's.
 */
enum option_type {
    OPTION_STRING,
    OPTION_LISTEN,
    OPTION_INT,
    OPTION_SIZE,
    OPTION_DURATION,
    OPTION_BOOL,
    OPTION_ENUM,
    OPTION_LIST,
};

enum option_secrecy { OPTION_PLAIN, OPTION_SECRET };

/* A REQUIRED option must be given, unless there are operands: a sub-command checks its own needs in
 * spec.check. */
enum option_need { OPTION_OPTIONAL, OPTION_REQUIRED };

struct option_list {
    const char *const *item;
    size_t count;
};

struct option_row {
    const char *field; /* "batch_max": flag --batch-max, environment SPEND_BATCH_MAX */
    enum option_type type;
    size_t offset;
    const char *fallback;
    int64_t min;
    int64_t max;
    enum option_secrecy secrecy;
    enum option_need need;
    const char *helm; /* the chart's value, NULL when the chart does not set it */
    const char *doc;  /* one sentence, lower case, no full stop */
};

struct options_rest {
    char **item; /* what is not a flag, in order */
    size_t count;
};

struct options_spec {
    const char *program;  /* "spend-ledger" */
    const char *summary;  /* one line for --help */
    const char *operands; /* for --help, "[migrate]"; NULL when operands_max is 0 */
    size_t operands_max;  /* more are refused */
    const struct option_row *rows;
    size_t count;
    /* Rules between options; may be NULL. Its err is shown as it is and must say what to do. */
    bool (*check)(const void *options, const struct options_rest *rest, struct err *err);
};

enum options_verdict {
    OPTIONS_RUN,   /* go on */
    OPTIONS_DONE,  /* --help and the like: *out has the text for stdout; exit 0 */
    OPTIONS_USAGE, /* err says what is wrong and what to do; exit 2 */
};

/*
 * Fills *options (a struct of OPTION_FIELDs). Strings lie in *memory, argv or the environment: keep them
 * alive. argv is reordered (operands last). --help, --version, --check-config and --print-options=md|json are
 * answered in *out. A secret's file has at most 16 KiB; 64 KiB of *memory are plenty for real ones.
 */
enum options_verdict options_parse(const struct options_spec *spec, int argc, char **argv, void *options,
                                   struct arena *memory, struct options_rest *rest, struct buffer *out,
                                   struct err *err) NODISCARD;

/* options_parse for main(): prints what there is to print. false: return *exit_code (0 or 2) from main. */
bool options_start(const struct options_spec *spec, int argc, char **argv, void *options,
                   struct arena *memory, struct options_rest *rest, int *exit_code) NODISCARD;

/* The pages behind --help and --print-options. */
bool options_print_help(const struct options_spec *spec, struct buffer *out) NODISCARD;
bool options_print_markdown(const struct options_spec *spec, struct buffer *out) NODISCARD;
bool options_print_json(const struct options_spec *spec, struct buffer *out) NODISCARD;

#define OPTIONS_COMMON(X)                                                                                    \
    X(kafka_brokers, STRING, NULL, 1, 4096, PLAIN, REQUIRED, "kafka.brokers",                                \
      "Kafka bootstrap servers, host:port,..")                                                               \
    X(kafka_conf, LIST, NULL, 0, 64, PLAIN, OPTIONAL, "kafka.conf",                                          \
      "any librdkafka property, name=value; repeatable")                                                     \
    X(log_level, ENUM, "info|debug|warn|error", 0, 0, PLAIN, OPTIONAL, "logLevel",                           \
      "least level that is logged")

#define OPTION_COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* X for the struct's fields. */
#define OPTION_FIELD(name, type, ...) OPTION_FIELD_##type(name)
#define OPTION_FIELD_STRING(name)     const char *name;
#define OPTION_FIELD_LISTEN(name)     const char *name;
#define OPTION_FIELD_INT(name)        int64_t name;
#define OPTION_FIELD_SIZE(name)       int64_t name;
#define OPTION_FIELD_DURATION(name)   int64_t name##_us;
#define OPTION_FIELD_BOOL(name)       bool name;
#define OPTION_FIELD_ENUM(name)       const char *name;
#define OPTION_FIELD_LIST(name)       struct option_list name;

/* X for the table: OPTION_ROW(struct x_options, name, type, ..). */
#define OPTION_ROW(owner, name, kind, def, low, high, secret, required, value, text)                         \
    {                                                                                                        \
        .field = #name,                                                                                      \
        .type = OPTION_##kind,                                                                               \
        .offset = OPTION_OFFSET_##kind(owner, name),                                                         \
        .fallback = (def),                                                                                   \
        .min = (low),                                                                                        \
        .max = (high),                                                                                       \
        .secrecy = OPTION_##secret,                                                                          \
        .need = OPTION_##required,                                                                           \
        .helm = (value),                                                                                     \
        .doc = (text),                                                                                       \
    },
#define OPTION_OFFSET_STRING(owner, name)   offsetof(owner, name)
#define OPTION_OFFSET_LISTEN(owner, name)   offsetof(owner, name)
#define OPTION_OFFSET_INT(owner, name)      offsetof(owner, name)
#define OPTION_OFFSET_SIZE(owner, name)     offsetof(owner, name)
#define OPTION_OFFSET_DURATION(owner, name) offsetof(owner, name##_us)
#define OPTION_OFFSET_BOOL(owner, name)     offsetof(owner, name)
#define OPTION_OFFSET_ENUM(owner, name)     offsetof(owner, name)
#define OPTION_OFFSET_LIST(owner, name)     offsetof(owner, name)

#endif
