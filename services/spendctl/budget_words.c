#include "budget_words.h"

#include "base/money.h"
#include "ledger_client.h"
#include "zone.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MINUTE 60
#define HOUR   3600
#define DAY    86400

bool budget_nanos(const json_t *budget, const char *key, int64_t *nanos)
{
    struct err err;
    const char *text = json_string_value(json_object_get(budget, key));
    return text != NULL && money_parse_usd(sv_of(text), nanos, &err);
}

bool budget_is_lifetime(const json_t *budget)
{
    return strcmp(ledger_text(json_object_get(budget, "window"), "kind"), "lifetime") == 0;
}

static const char *say(char out[BUDGET_WORDS_MAX], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static const char *say(char out[BUDGET_WORDS_MAX], const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(out, BUDGET_WORDS_MAX, fmt, args);
    va_end(args);
    return out;
}

const char *budget_about(const json_t *budget, char out[BUDGET_WORDS_MAX])
{
    const char *scope = ledger_text(budget, "scope");
    const char *value = json_string_value(json_object_get(budget, "value"));
    const char *each = json_string_value(json_object_get(budget, "each"));
    if (value != NULL)
        return say(out, "%s %s", scope, value);
    if (strcmp(scope, "tag") == 0)
        return say(out, "each value of tag %s", each == NULL ? "-" : each);
    return say(out, "each %s", scope);
}

const char *budget_limit(const json_t *budget, char out[BUDGET_WORDS_MAX])
{
    const char *limit = json_string_value(json_object_get(budget, "limit"));
    return limit == NULL ? say(out, "none") : say(out, "%s USD", limit);
}

/* At most 16 of at most 4 digits: they fit. */
const char *budget_thresholds(const json_t *budget, char out[BUDGET_WORDS_MAX])
{
    const json_t *thresholds = json_object_get(budget, "thresholds");
    const json_t *highest = json_object_get(budget, "threshold_crossed"); /* stays, whatever the limit does */
    size_t len = 0;
    size_t i;
    const json_t *percent;
    json_array_foreach(thresholds, i, percent)
    {
        int64_t p = json_integer_value(percent);
        const char *reached = json_is_integer(highest) && p <= json_integer_value(highest) ? " reached" : "";
        (void)snprintf(out + len, BUDGET_WORDS_MAX - len, "%s%" PRId64 " %%%s", i == 0 ? "" : ", ", p,
                       reached);
        len = strlen(out);
    }
    return len == 0 ? say(out, "none") : out;
}

const char *budget_window(const json_t *budget, char out[BUDGET_WORDS_MAX])
{
    const json_t *window = json_object_get(budget, "window");
    const char *kind = ledger_text(window, "kind");
    int64_t seconds = ledger_number(window, "seconds");
    char anchor[ZONE_TIME_MAX];
    if (strcmp(kind, "calendar") == 0)
        return say(out, "calendar %s in %s", ledger_text(window, "period"), ledger_text(window, "tz"));
    if (strcmp(kind, "interval") != 0)
        return say(out, "%s", kind);
    int64_t unit = seconds % DAY == 0 ? DAY : seconds % HOUR == 0 ? HOUR : seconds % MINUTE == 0 ? MINUTE : 1;
    const char *name = unit == DAY ? "day" : unit == HOUR ? "hour" : unit == MINUTE ? "minute" : "second";
    (void)zone_time(json_string_value(json_object_get(window, "anchor")), anchor);
    if (seconds == DAY) /* no calendar day: it does not go with the clocks */
        return say(out, "every 24 hours, counted from %s", anchor);
    if (seconds == unit)
        return say(out, "every %s, counted from %s", name, anchor);
    return say(out, "every %" PRId64 " %ss, counted from %s", seconds / unit, name, anchor);
}

bool budget_read_window(const char *text, json_t *window)
{
    static const char *const periods[] = {"hour", "day", "week", "month", "quarter", "year"};
    struct strview v = sv_of(text);
    const char *kind = NULL;
    const char *period = NULL;
    int64_t seconds = 0;
    if (strcmp(text, "lifetime") == 0)
        kind = text;
    for (size_t i = 0; i < sizeof periods / sizeof periods[0]; i++) {
        if (strcmp(text, periods[i]) == 0) {
            kind = "calendar";
            period = text;
        }
    }
    if (v.len > 1 && text[v.len - 1] == 's' && sv_to_i64((struct strview){text, v.len - 1}, &seconds))
        kind = "interval";
    if (kind == NULL)
        return false;
    json_object_set_new(window, "kind", json_string(kind));
    json_object_set_new(window, "period", period == NULL ? json_null() : json_string(period));
    json_object_set_new(window, "seconds",
                        strcmp(kind, "interval") == 0 ? json_integer(seconds) : json_null());
    return true;
}

json_t *budget_read_thresholds(const char *text)
{
    json_t *list = json_array();
    struct strview rest = sv_of(text);
    if (strcmp(text, "none") == 0)
        return list;
    while (!sv_is_null(rest)) {
        int64_t percent = 0;
        if (!sv_to_i64(sv_trim(sv_cut(rest, ',', &rest)), &percent)) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, json_integer(percent));
    }
    return list;
}

const char *budget_quote(const char *text, char out[BUDGET_WORDS_MAX])
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/=:@%+,";
    size_t len = 0;
    if (*text != '\0' && strspn(text, plain) == strlen(text))
        return say(out, "%s", text);
    out[len++] = '\'';
    for (; *text != '\0' && len < BUDGET_WORDS_MAX - 6; text++) {
        if (*text == '\'') {
            memcpy(out + len, "'\\'", 3);
            len += 3;
        }
        out[len++] = *text;
    }
    out[len++] = '\'';
    out[len] = '\0';
    return out;
}
