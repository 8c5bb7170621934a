/*
 * option_row: names and value ranges of one option as text.
 */
#include "run/option_row.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void option_row_flag(const struct option_row *row, char out[OPTION_TEXT_MAX])
{
    (void)snprintf(out, OPTION_TEXT_MAX, "%s", row->field);
    for (char *p = out; *p != '\0'; p++) {
        if (*p == '_')
            *p = '-';
    }
}

void option_row_env(const struct option_row *row, char out[OPTION_TEXT_MAX])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    (void)snprintf(out, OPTION_TEXT_MAX, "SPEND_%s", row->field);
    for (char *p = out; *p != '\0'; p++) {
        if (*p >= 'a' && *p <= 'z')
            *p = letters[*p - 'a'];
    }
}

struct unit {
    const char *name;
    int64_t factor;
};

/* The largest unit that leaves no rest. */
static void limit_text(const struct unit *units, size_t count, int64_t n, char out[40])
{
    size_t i = 0;
    while (i + 1 < count && (n % units[i].factor != 0 || n == 0))
        i++;
    (void)snprintf(out, 40, "%" PRId64 "%s", n / units[i].factor, units[i].name);
}

static void limit_of(enum option_type type, int64_t n, char out[40])
{
    static const struct unit durations[] = {{"d", 86400 * US_PER_SECOND},
                                            {"h", 3600 * US_PER_SECOND},
                                            {"m", 60 * US_PER_SECOND},
                                            {"s", US_PER_SECOND},
                                            {"ms", 1000},
                                            {"us", 1}};
    static const struct unit sizes[] = {{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}};
    static const struct unit plain[] = {{"", 1}};
    if (type == OPTION_DURATION)
        limit_text(durations, sizeof durations / sizeof durations[0], n, out);
    else if (type == OPTION_SIZE)
        limit_text(sizes, sizeof sizes / sizeof sizes[0], n, out);
    else
        limit_text(plain, 1, n, out);
}

static void words_text(const char *words, char out[OPTION_TEXT_MAX])
{
    size_t len = (size_t)snprintf(out, OPTION_TEXT_MAX, "one of");
    for (struct strview rest = sv_of(words); !sv_is_null(rest) && len < OPTION_TEXT_MAX;) {
        struct strview word = sv_cut(rest, '|', &rest);
        len += (size_t)snprintf(out + len, OPTION_TEXT_MAX - len, " " SV_FMT "%s", SV_ARG(word),
                                sv_is_null(rest) ? "" : ",");
    }
}

void option_row_values(const struct option_row *row, char out[OPTION_TEXT_MAX])
{
    char low[40];
    char high[40];
    limit_of(row->type, row->min, low);
    limit_of(row->type, row->max, high);
    const char *what = "a whole number";
    switch (row->type) {
    case OPTION_STRING:
        if (row->max > 0)
            (void)snprintf(out, OPTION_TEXT_MAX, "a text of %s to %s bytes", low, high);
        else
            (void)snprintf(out, OPTION_TEXT_MAX, "a text");
        return;
    case OPTION_LISTEN:
        (void)snprintf(out, OPTION_TEXT_MAX, "host:port, [host]:port for IPv6");
        return;
    case OPTION_BOOL:
        (void)snprintf(out, OPTION_TEXT_MAX, "true or false");
        return;
    case OPTION_ENUM:
        words_text(row->fallback, out);
        return;
    case OPTION_LIST:
        (void)snprintf(out, OPTION_TEXT_MAX, "at most %s items", high);
        return;
    case OPTION_SIZE:
        what = "a size in bytes, KiB, MiB or GiB";
        break;
    case OPTION_DURATION:
        what = "a time such as 250ms, 5s or 10m";
        break;
    case OPTION_INT:
        break;
    }
    (void)snprintf(out, OPTION_TEXT_MAX, "%s from %s to %s", what, low, high);
}

const char *option_row_default(const struct option_row *row, char room[OPTION_TEXT_MAX])
{
    if (row->type != OPTION_ENUM || row->fallback == NULL)
        return row->fallback;
    struct strview rest = SV_NULL;
    struct strview first = sv_cut(sv_of(row->fallback), '|', &rest);
    (void)snprintf(room, OPTION_TEXT_MAX, SV_FMT, SV_ARG(first));
    return room;
}
