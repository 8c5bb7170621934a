/*
 * options: reads flags, environment and files by the table, one row at a time: find the text, check it, store
 * it. Owns nothing that lasts: names and copies go into the caller's arena. A secret's value never gets into
 * an error.
 */
#include "run/options.h"

#include "run/listen_address.h"
#include "run/option_row.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_FILE_BYTES 16384
#define ROWS_MAX          128

enum {
    VAL_HELP = 256, /* getopt_long answers with characters, too */
    VAL_VERSION,
    VAL_CHECK,
    VAL_PRINT,
    VAL_ROW
}; /* VAL_ROW + 2 x row (+ 1: its -file flag) */

/* What the command line said about one row. */
struct given {
    const char *text;
    const char *file;
    const char **item; /* LIST: room for argc of them */
    size_t item_count;
};

struct parse {
    const struct options_spec *spec;
    int argc;
    char **argv;
    char *fields; /* the options struct */
    struct arena *memory;
    struct err *err;
    struct option *flags;
    struct given *given;
    bool help;
    bool version;
    bool check;
    const char *print;
};

/* A value on its way into the struct, and where it came from, for people. */
struct value {
    const char *text; /* NULL: none */
    char from[OPTION_TEXT_MAX];
};

/* Every complaint here is for the person who starts the program. */
#define refuse(err, ...) err_set((err), ERR_INVALID, FATE_FATAL, __VA_ARGS__)

static bool no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_FATAL, "options: out of memory");
}

/* The table as getopt_long wants it. */
static bool flags_make(struct parse *p)
{
    static const struct option fixed[] = {
        {"help", no_argument, NULL, VAL_HELP},
        {"version", no_argument, NULL, VAL_VERSION},
        {"check-config", no_argument, NULL, VAL_CHECK},
        {"print-options", required_argument, NULL, VAL_PRINT},
    };
    size_t rows = p->spec->count;
    assert(rows <= ROWS_MAX);
    p->flags = arena_alloc(p->memory, (2 * rows + 5) * sizeof *p->flags);
    p->given = arena_alloc(p->memory, (rows + 1) * sizeof *p->given);
    if (p->flags == NULL || p->given == NULL)
        return no_memory(p->err);
    memcpy(p->flags, fixed, sizeof fixed);
    struct option *flag = p->flags + sizeof fixed / sizeof fixed[0];
    for (size_t i = 0; i < rows; i++) {
        const struct option_row *row = &p->spec->rows[i];
        bool secret = row->secrecy == OPTION_SECRET;
        assert(!secret || row->type == OPTION_STRING);
        char name[OPTION_TEXT_MAX];
        option_row_flag(row, name);
        struct strview plain = arena_printf(p->memory, "%s", name);
        struct strview file = arena_printf(p->memory, "%s-file", name);
        if (sv_is_null(plain) || sv_is_null(file))
            return no_memory(p->err);
        int val = VAL_ROW + 2 * (int)i;
        bool alone = secret || row->type == OPTION_BOOL;
        *flag++ = (struct option){plain.ptr, alone ? optional_argument : required_argument, NULL, val};
        if (secret)
            *flag++ = (struct option){file.ptr, required_argument, NULL, val + 1};
    }
    return true;
}

static bool take_row(struct parse *p, size_t i, bool file)
{
    const struct option_row *row = &p->spec->rows[i];
    struct given *given = &p->given[i];
    char name[OPTION_TEXT_MAX];
    char env[OPTION_TEXT_MAX];
    option_row_flag(row, name);
    option_row_env(row, env);
    if (file) {
        given->file = optarg;
    } else if (row->secrecy == OPTION_SECRET) {
        return refuse(
            p->err,
            "--%s is a secret, and a command line can be read by others: set %s or give --%s-file=PATH", name,
            env, name);
    } else if (row->type == OPTION_LIST) {
        if (given->item == NULL)
            given->item = arena_alloc(p->memory, (size_t)p->argc * sizeof *given->item);
        if (given->item == NULL)
            return no_memory(p->err);
        given->item[given->item_count++] = optarg;
    } else {
        given->text = optarg == NULL ? "true" : optarg;
    }
    return true;
}

static bool take_flag(struct parse *p, int val)
{
    switch (val) {
    case VAL_HELP:
        p->help = true;
        return true;
    case VAL_VERSION:
        p->version = true;
        return true;
    case VAL_CHECK:
        p->check = true;
        return true;
    case VAL_PRINT:
        p->print = optarg;
        return true;
    default:
        return take_row(p, (size_t)(val - VAL_ROW) / 2, (val - VAL_ROW) % 2 == 1);
    }
}

/* getopt_long takes unique beginnings of a name too; a later option would break such a command line. */
static bool is_whole_name(const struct parse *p, int index)
{
    bool apart = optarg != NULL && optarg == p->argv[optind - 1];
    struct strview rest = SV_NULL;
    struct strview written = sv_cut(sv_of(p->argv[optind - (apart ? 2 : 1)] + 2), '=', &rest);
    return sv_eq(written, sv_of(p->flags[index].name));
}

static bool read_flags(struct parse *p)
{
    optind = 0; /* glibc: begin anew */
    opterr = 0;
    for (;;) {
        int index = -1;
        int val = getopt_long(p->argc, p->argv, ":", p->flags, &index);
        if (val == -1)
            return true;
        const char *word = p->argv[optind - 1];
        if (val == ':')
            return refuse(p->err, "%s needs a value; see %s --help", word, p->spec->program);
        if (val == '?' && optopt >= VAL_HELP && optopt <= VAL_PRINT)
            return refuse(p->err, "%s: this flag takes no value", word);
        if (val == '?')
            return refuse(p->err, "%s is no option; see %s --help", word, p->spec->program);
        if (!is_whole_name(p, index))
            return refuse(p->err, "%s is no option; write --%s in full", word, p->flags[index].name);
        if (!take_flag(p, val))
            return false;
    }
}

/* A secret's file: its text without the line end. */
static bool read_file(struct parse *p, const char *path, const char **out)
{
    bool ok = false;
    struct buffer room;
    struct strview copy = SV_NULL;
    buffer_init(&room, SECRET_FILE_BYTES + 1);
    char *text = buffer_reserve(&room, SECRET_FILE_BYTES + 1);
    FILE *file = fopen(path, "re");
    size_t len = text == NULL || file == NULL ? 0 : fread(text, 1, SECRET_FILE_BYTES + 1, file);
    if (text == NULL) {
        no_memory(p->err);
        goto done;
    }
    if (file == NULL || ferror(file) != 0) {
        refuse(p->err, "cannot read %s: %s", path, strerror(errno));
        goto done;
    }
    len -= len > 0 && text[len - 1] == '\n';
    len -= len > 0 && text[len - 1] == '\r';
    if (len == 0 || len > SECRET_FILE_BYTES || memchr(text, '\0', len) != NULL) {
        refuse(p->err, "%s is empty, over 16 KiB or holds a NUL byte", path);
        goto done;
    }
    ok = arena_dup(p->memory, (struct strview){text, len}, &copy) || no_memory(p->err);
    *out = copy.ptr;
done:
    if (file != NULL)
        (void)fclose(file);
    buffer_free(&room);
    return ok;
}

static const char *environment(const char *name)
{
    const char *text = getenv(name); /* options are read before there are threads */
    return text == NULL || *text == '\0' ? NULL : text;
}

static bool find_secret(struct parse *p, const struct option_row *row, const struct given *given,
                        struct value *out)
{
    char env_file[OPTION_TEXT_MAX + 8];
    char env[OPTION_TEXT_MAX];
    option_row_env(row, env);
    (void)snprintf(env_file, sizeof env_file, "%s_FILE", env);
    const char *text = environment(env);
    const char *path = environment(env_file);
    if (given->file != NULL) {
        (void)snprintf(out->from, sizeof out->from, "%s", given->file);
        return read_file(p, given->file, &out->text);
    }
    if (text != NULL && path != NULL)
        return refuse(p->err, "both %s and %s are set: unset one of them", env, env_file);
    if (path != NULL) {
        (void)snprintf(out->from, sizeof out->from, "%s", path);
        return read_file(p, path, &out->text);
    }
    out->text = text;
    (void)snprintf(out->from, sizeof out->from, "%s", env);
    return true;
}

static bool find_plain(const struct option_row *row, const struct given *given, struct value *out)
{
    char name[OPTION_TEXT_MAX];
    char env[OPTION_TEXT_MAX];
    option_row_flag(row, name);
    option_row_env(row, env);
    out->text = given->text;
    (void)snprintf(out->from, sizeof out->from, "--%.100s", name);
    if (out->text == NULL) {
        out->text = environment(env);
        if (out->text != NULL)
            (void)snprintf(out->from, sizeof out->from, "%s", env);
    }
    return true;
}

static bool is_word(struct strview words, const char *text)
{
    while (!sv_is_null(words)) {
        if (sv_eq(sv_cut(words, '|', &words), sv_of(text)))
            return true;
    }
    return false;
}

static bool read_bool(const char *text, bool *out)
{
    *out = is_word(sv_of("true|yes|on|1"), text);
    return *out || is_word(sv_of("false|no|off|0"), text);
}

static bool read_number(const struct option_row *row, const char *text, int64_t *out)
{
    struct strview v = sv_of(text);
    bool ok = row->type == OPTION_INT    ? sv_to_i64(v, out)
              : row->type == OPTION_SIZE ? sv_to_size(v, out)
                                         : sv_to_duration_us(v, out);
    return ok && *out >= row->min && *out <= row->max;
}

static bool fits(const struct option_row *row, const char *text)
{
    size_t len = strlen(text);
    char host[LISTEN_HOST_BYTES];
    uint16_t port;
    struct err ignored;
    if (row->type == OPTION_ENUM)
        return is_word(sv_of(row->fallback), text);
    if (row->type == OPTION_LISTEN)
        return listen_address_split(text, host, &port, &ignored);
    return row->max == 0 || (len >= (size_t)row->min && len <= (size_t)row->max);
}

/* Puts the text where the row's field lies; false when the row does not take it. */
static bool store_text(const struct option_row *row, const char *text, char *fields)
{
    int64_t number = 0;
    bool yes = false;
    void *field = fields + row->offset;
    switch (row->type) {
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        if (!read_number(row, text, &number))
            return false;
        memcpy(field, &number, sizeof number);
        return true;
    case OPTION_BOOL:
        if (!read_bool(text, &yes))
            return false;
        memcpy(field, &yes, sizeof yes);
        return true;
    case OPTION_STRING:
    case OPTION_LISTEN:
    case OPTION_ENUM:
        if (!fits(row, text))
            return false;
        memcpy(field, &text, sizeof text);
        return true;
    case OPTION_LIST:
        break;
    }
    return false;
}

static bool list_split(struct parse *p, const char *text, const char ***items, size_t *count)
{
    size_t commas = 0;
    for (const char *c = text; *c != '\0'; c++)
        commas += *c == ',';
    *items = arena_alloc(p->memory, (commas + 1) * sizeof **items);
    *count = 0;
    if (*items == NULL)
        return no_memory(p->err);
    struct strview rest = sv_of(text);
    while (!sv_is_null(rest)) {
        struct strview item = sv_trim(sv_cut(rest, ',', &rest));
        struct strview copy = SV_NULL;
        if (sv_is_empty(item))
            continue;
        if (!arena_dup(p->memory, item, &copy))
            return no_memory(p->err);
        (*items)[(*count)++] = copy.ptr;
    }
    return true;
}

static bool store_list(struct parse *p, const struct option_row *row, const struct given *given)
{
    struct value value = {0};
    const char **items = given->item;
    size_t count = given->item_count;
    (void)find_plain(row, given, &value);
    const char *text = value.text != NULL ? value.text : row->fallback;
    if (items == NULL && text != NULL && !list_split(p, text, &items, &count))
        return false;
    if (count > (size_t)row->max)
        return refuse(p->err, "%s has %zu items; give at most %lld", value.from, count, (long long)row->max);
    struct option_list list = {items, count};
    memcpy(p->fields + row->offset, &list, sizeof list);
    return true;
}

static bool missing(const struct option_row *row, struct err *err)
{
    char name[OPTION_TEXT_MAX];
    char env[OPTION_TEXT_MAX];
    option_row_flag(row, name);
    option_row_env(row, env);
    if (row->secrecy == OPTION_SECRET)
        return refuse(err, "%.60s is missing: set %.70s or give --%.60s-file=PATH", name, env, name);
    return refuse(err, "--%.60s is missing: give it, or set %.70s (%.80s)", name, env, row->doc);
}

static bool refuse_value(const struct option_row *row, const struct value *value, struct err *err)
{
    char values[OPTION_TEXT_MAX];
    option_row_values(row, values);
    if (row->secrecy == OPTION_SECRET)
        return refuse(err, "%.100s must be %.100s", value->from, values);
    return refuse(err, "%.70s: \"%.60s\" must be %.100s", value->from, value->text, values);
}

static bool row_settle(struct parse *p, const struct option_row *row, const struct given *given,
                       bool need_required)
{
    char room[OPTION_TEXT_MAX];
    struct value value = {0};
    if (row->type == OPTION_LIST) {
        if (!store_list(p, row, given))
            return false;
        struct option_list list;
        memcpy(&list, p->fields + row->offset, sizeof list);
        return list.count > 0 || row->need == OPTION_OPTIONAL || !need_required || missing(row, p->err);
    }
    bool found =
        row->secrecy == OPTION_SECRET ? find_secret(p, row, given, &value) : find_plain(row, given, &value);
    if (!found)
        return false;
    if (value.text == NULL) {
        const char *fallback = option_row_default(row, room);
        struct strview copy = SV_NULL;
        memset(p->fields + row->offset, 0, row->type == OPTION_BOOL ? sizeof(bool) : sizeof(int64_t));
        if (fallback == NULL)
            return row->need == OPTION_OPTIONAL || !need_required || missing(row, p->err);
        if (!arena_dup(p->memory, sv_of(fallback), &copy))
            return no_memory(p->err);
        value.text = copy.ptr;
    }
    return store_text(row, value.text, p->fields) || refuse_value(row, &value, p->err);
}

static bool rows_settle(struct parse *p, const struct options_rest *rest)
{
    if (rest->count > p->spec->operands_max)
        return refuse(p->err,
                      "\"%.80s\" is not understood here; flags are written --name=value, see %s --help",
                      rest->item[p->spec->operands_max], p->spec->program);
    for (size_t i = 0; i < p->spec->count; i++) {
        if (!row_settle(p, &p->spec->rows[i], &p->given[i], rest->count == 0))
            return false;
    }
    return p->spec->check == NULL || p->spec->check(p->fields, rest, p->err);
}

static bool answer(const struct parse *p, struct buffer *out)
{
    if (p->help)
        return options_print_help(p->spec, out);
    if (p->version)
        return buffer_printf(out, "%s %s\n", p->spec->program, SPEND_VERSION);
    if (strcmp(p->print, "md") == 0)
        return options_print_markdown(p->spec, out);
    return options_print_json(p->spec, out);
}

static enum options_verdict answered(bool ok, struct err *err)
{
    if (ok)
        return OPTIONS_DONE;
    err_set(err, ERR_FULL, FATE_FATAL, "options: the page is too long");
    return OPTIONS_USAGE;
}

enum options_verdict options_parse(const struct options_spec *spec, int argc, char **argv, void *options,
                                   struct arena *memory, struct options_rest *rest, struct buffer *out,
                                   struct err *err)
{
    struct parse p = {
        .spec = spec, .argc = argc, .argv = argv, .fields = options, .memory = memory, .err = err};
    if (!flags_make(&p) || !read_flags(&p))
        return OPTIONS_USAGE;
    *rest = (struct options_rest){argv + optind, (size_t)(argc - optind)};
    if (p.print != NULL && !is_word(sv_of("md|json"), p.print)) {
        refuse(err, "--print-options: \"%.60s\" must be md or json", p.print);
        return OPTIONS_USAGE;
    }
    if (p.help || p.version || p.print != NULL)
        return answered(answer(&p, out), err);
    if (!rows_settle(&p, rest))
        return OPTIONS_USAGE;
    if (p.check)
        return answered(buffer_printf(out, "%s: the configuration is good\n", spec->program), err);
    return OPTIONS_RUN;
}

bool options_start(const struct options_spec *spec, int argc, char **argv, void *options,
                   struct arena *memory, struct options_rest *rest, int *exit_code)
{
    struct err err;
    struct buffer out;
    err_clear(&err);
    buffer_init(&out, 1 << 20);
    enum options_verdict verdict = options_parse(spec, argc, argv, options, memory, rest, &out, &err);
    if (verdict == OPTIONS_DONE) {
        (void)fwrite(out.data, 1, out.len, stdout);
        *exit_code = fflush(stdout) == 0 ? 0 : 1;
    } else if (verdict == OPTIONS_USAGE) {
        (void)fprintf(stderr, "%s: %s\n", spec->program, err.text);
        *exit_code = 2;
    }
    buffer_free(&out);
    return verdict == OPTIONS_RUN;
}
