/*
 * options_print: the pages made of an option table: --help, and --print-options for the reference and the
 * chart.
 */
#include "run/options.h"

#include "base/json_write.h"
#include "run/option_row.h"

#include <stdio.h>
#include <string.h>

#define DOC_COLUMN 30

static const char *metavar(enum option_type type)
{
    static const char *const names[] = {
        [OPTION_STRING] = "TEXT", [OPTION_LISTEN] = "ADDRESS", [OPTION_INT] = "N",
        [OPTION_SIZE] = "SIZE",   [OPTION_DURATION] = "TIME",  [OPTION_BOOL] = "BOOL",
        [OPTION_ENUM] = "WORD",   [OPTION_LIST] = "TEXT",
    };
    return names[type];
}

static const char *type_name(enum option_type type)
{
    static const char *const names[] = {
        [OPTION_STRING] = "string", [OPTION_LISTEN] = "string",     [OPTION_INT] = "int",
        [OPTION_SIZE] = "size",     [OPTION_DURATION] = "duration", [OPTION_BOOL] = "bool",
        [OPTION_ENUM] = "enum",     [OPTION_LIST] = "list",
    };
    return names[type];
}

/* "default 2000; a whole number from 1 to 10000" and the like. */
static void facts(const struct option_row *row, char out[2 * OPTION_TEXT_MAX])
{
    char room[OPTION_TEXT_MAX];
    char values[OPTION_TEXT_MAX];
    const char *fallback = option_row_default(row, room);
    option_row_values(row, values);
    const char *state = row->need == OPTION_REQUIRED ? "required; " : "";
    if (fallback != NULL)
        (void)snprintf(out, (size_t)2 * OPTION_TEXT_MAX, "default %s; %s", fallback, values);
    else
        (void)snprintf(out, (size_t)2 * OPTION_TEXT_MAX, "%s%s", state, values);
}

static bool help_row(const struct option_row *row, struct buffer *out)
{
    char flag[OPTION_TEXT_MAX];
    char env[OPTION_TEXT_MAX];
    char left[2 * OPTION_TEXT_MAX];
    char fact[2 * OPTION_TEXT_MAX];
    option_row_flag(row, flag);
    option_row_env(row, env);
    facts(row, fact);
    bool secret = row->secrecy == OPTION_SECRET;
    if (secret)
        (void)snprintf(left, sizeof left, "--%s-file=PATH", flag);
    else
        (void)snprintf(left, sizeof left, "--%s=%s", flag, metavar(row->type));
    if (strlen(left) >= DOC_COLUMN && !buffer_printf(out, "  %s\n", left))
        return false;
    if (strlen(left) >= DOC_COLUMN)
        left[0] = '\0';
    return buffer_printf(out, "  %-*s %s\n", DOC_COLUMN, left, row->doc) &&
           buffer_printf(out, "  %-*s %s; %s%s\n", DOC_COLUMN, "", env, secret ? "a secret; " : "", fact);
}

bool options_print_help(const struct options_spec *spec, struct buffer *out)
{
    if (!buffer_printf(out, "%s: %s\n\nUsage: %s [OPTION]... %s\n\n", spec->program,
                       spec->summary == NULL ? "" : spec->summary, spec->program,
                       spec->operands == NULL ? "" : spec->operands))
        return false;
    for (size_t i = 0; i < spec->count; i++) {
        if (!help_row(&spec->rows[i], out))
            return false;
    }
    return buffer_printf(
        out, "\n"
             "  --check-config                 read and check all of this, start nothing: exit code 0, or 2\n"
             "                                 and what is wrong\n"
             "  --print-options=md|json        this table for documents and programs\n"
             "  --help, --version\n"
             "\n"
             "A flag goes before the environment, the environment before the default.\n"
             "Secrets come from the environment or a file (SPEND_NAME_FILE), never from a flag.\n");
}

/* A cell: no bar may end it. */
static bool cell(struct buffer *out, const char *text)
{
    if (!buffer_append(out, "| ", 2))
        return false;
    for (const char *p = text; *p != '\0'; p++) {
        if ((*p == '|' && !buffer_append_byte(out, '\\')) || !buffer_append(out, p, 1))
            return false;
    }
    return buffer_append_byte(out, ' ');
}

static bool markdown_row(const struct option_row *row, struct buffer *out)
{
    char text[3][OPTION_TEXT_MAX];
    char flag[OPTION_TEXT_MAX + 16];
    char env[OPTION_TEXT_MAX + 16];
    char fallback[OPTION_TEXT_MAX + 16];
    option_row_flag(row, text[0]);
    option_row_env(row, text[1]);
    bool secret = row->secrecy == OPTION_SECRET;
    (void)snprintf(flag, sizeof flag, "`--%s%s`", text[0], secret ? "-file" : "");
    (void)snprintf(env, sizeof env, "`%s`%s", text[1], secret ? " (secret)" : "");
    const char *set = option_row_default(row, text[2]);
    if (set != NULL)
        (void)snprintf(fallback, sizeof fallback, "`%s`", set);
    else
        (void)snprintf(fallback, sizeof fallback, "%s", row->need == OPTION_REQUIRED ? "required" : "");
    option_row_values(row, text[0]);
    return cell(out, flag) && cell(out, env) && cell(out, fallback) && cell(out, text[0]) &&
           cell(out, row->helm == NULL ? "" : row->helm) && cell(out, row->doc) &&
           buffer_append(out, "|\n", 2);
}

bool options_print_markdown(const struct options_spec *spec, struct buffer *out)
{
    if (!buffer_printf(out, "| flag | environment | default | values | chart value | meaning |\n"
                            "|---|---|---|---|---|---|\n"))
        return false;
    for (size_t i = 0; i < spec->count; i++) {
        if (!markdown_row(&spec->rows[i], out))
            return false;
    }
    return true;
}

static void key_text(struct json_write *w, const char *key, const char *text)
{
    json_write_key(w, key);
    json_write_str(w, text);
}

static bool has_range(const struct option_row *row)
{
    return row->type == OPTION_INT || row->type == OPTION_SIZE || row->type == OPTION_DURATION ||
           row->max > 0;
}

static void json_row(const struct option_row *row, struct json_write *w)
{
    char text[OPTION_TEXT_MAX];
    json_write_open(w, '{');
    option_row_flag(row, text);
    key_text(w, "name", text);
    option_row_env(row, text);
    key_text(w, "env", text);
    key_text(w, "type", type_name(row->type));
    key_text(w, "default", option_row_default(row, text));
    if (has_range(row)) {
        json_write_key(w, "min");
        json_write_i64(w, row->min);
        json_write_key(w, "max");
        json_write_i64(w, row->max);
    }
    if (row->type == OPTION_ENUM) {
        json_write_key(w, "words");
        json_write_open(w, '[');
        for (struct strview rest = sv_of(row->fallback); !sv_is_null(rest);)
            json_write_sv(w, sv_cut(rest, '|', &rest));
        json_write_close(w, ']');
    }
    json_write_key(w, "secret");
    json_write_bool(w, row->secrecy == OPTION_SECRET);
    json_write_key(w, "required");
    json_write_bool(w, row->need == OPTION_REQUIRED);
    key_text(w, "helm", row->helm);
    key_text(w, "doc", row->doc);
    json_write_close(w, '}');
}

bool options_print_json(const struct options_spec *spec, struct buffer *out)
{
    struct json_write w;
    json_write_init(&w, out);
    json_write_open(&w, '{');
    key_text(&w, "program", spec->program);
    json_write_key(&w, "options");
    json_write_open(&w, '[');
    for (size_t i = 0; i < spec->count; i++)
        json_row(&spec->rows[i], &w);
    json_write_close(&w, ']');
    json_write_close(&w, '}');
    return json_write_ok(&w) && buffer_append_byte(out, '\n');
}
