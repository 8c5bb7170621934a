/*
 * err: fills, wraps and names errors. No allocation, so that out of memory can be reported too.
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Errors end up in one log line and in one line of a terminal. */
static void flatten(char *text)
{
    for (char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    }
}

bool err_set(struct err *err, enum err_code code, enum err_fate fate, const char *fmt, ...)
{
    if (err == NULL)
        return false;
    err->code = code;
    err->fate = fate;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    flatten(err->text);
    return false;
}

bool err_wrap(struct err *err, const char *fmt, ...)
{
    if (err == NULL)
        return false;
    char context[sizeof err->text];
    va_list args;
    va_start(args, fmt);
    int written = vsnprintf(context, sizeof context, fmt, args);
    va_end(args);
    size_t len = written < 0 ? 0 : strnlen(context, sizeof context);
    /* Two bytes for ": ", one for the NUL; what does not fit is cut from the old text's end. */
    if (len > sizeof err->text - 3)
        len = sizeof err->text - 3;
    size_t keep = strnlen(err->text, sizeof err->text);
    if (keep > sizeof err->text - 3 - len)
        keep = sizeof err->text - 3 - len;
    memmove(err->text + len + 2, err->text, keep);
    memcpy(err->text, context, len);
    memcpy(err->text + len, ": ", 2);
    err->text[len + 2 + keep] = '\0';
    flatten(err->text);
    return false;
}

void err_clear(struct err *err)
{
    *err = (struct err){.code = ERR_NONE, .fate = FATE_OK};
}

const char *err_code_name(enum err_code code)
{
    static const char *const names[] = {
        [ERR_NONE] = "none",         [ERR_MEMORY] = "memory",
        [ERR_FULL] = "full",         [ERR_INVALID] = "invalid",
        [ERR_OVERFLOW] = "overflow", [ERR_NOT_FOUND] = "not_found",
        [ERR_CONFLICT] = "conflict", [ERR_IO] = "io",
        [ERR_KAFKA] = "kafka",       [ERR_POSTGRES] = "postgres",
        [ERR_HTTP] = "http",         [ERR_TIMEOUT] = "timeout",
        [ERR_STATE] = "state",
    };
    size_t count = sizeof names / sizeof names[0];
    return (size_t)code < count ? names[code] : "unknown";
}
