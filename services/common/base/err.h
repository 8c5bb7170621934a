/*
 * err: what went wrong and what becomes of the thing it went wrong with.
 * The fate is decided where the error is born; one switch per loop acts on it.
 * Owns nothing. Refuses to format anything secret: callers never pass keys or payloads.
 */
#ifndef SPEND_BASE_ERR_H
#define SPEND_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

#define NODISCARD              __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

enum err_code {
    ERR_NONE = 0,
    ERR_MEMORY,   /* allocation failed */
    ERR_FULL,     /* a named limit was reached */
    ERR_INVALID,  /* input that breaks its contract */
    ERR_OVERFLOW, /* a number that does not fit */
    ERR_NOT_FOUND,
    ERR_CONFLICT, /* the stored state says otherwise */
    ERR_IO,       /* disk, socket */
    ERR_KAFKA,
    ERR_POSTGRES,
    ERR_HTTP,
    ERR_TIMEOUT,
    ERR_STATE, /* not possible now: closed, fenced, not ready */
};

enum err_fate {
    FATE_OK = 0,
    FATE_RETRY,       /* the same thing again, later */
    FATE_DEAD_LETTER, /* this record can never succeed: park it with its bytes */
    FATE_FATAL,       /* the process cannot go on: exit non-zero and be restarted */
};

struct err {
    enum err_code code;
    enum err_fate fate;
    char text[240]; /* one line, no newline, for people */
};

/* Fills *err (may be NULL) and returns false, so that `return err_set(..)` reads well. */
bool err_set(struct err *err, enum err_code code, enum err_fate fate, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Puts "context: " in front of the text already there and returns false. */
bool err_wrap(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

void err_clear(struct err *err);

/* "invalid", "full", ..: the stable name used in logs and API errors. */
const char *err_code_name(enum err_code code);

#endif
