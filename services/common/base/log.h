/*
 * log: one line an event, logfmt, to stderr, with stable ev= names. Values are escaped here.
 * Refuses payloads: callers give ids, names and numbers. Every ev has a counter,
 * spend_log_events_total{ev}. log_warn("event_dead_lettered", LOG_STR("reason", name),
 * LOG_INT("offset", off), LOG_END);
 */
#ifndef SPEND_BASE_LOG_H
#define SPEND_BASE_LOG_H

#include "base/err.h"
#include "base/strview.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

enum log_kind { LOG_KIND_END = 0, LOG_KIND_STR, LOG_KIND_SV, LOG_KIND_INT };

struct log_field {
    enum log_kind kind;
    const char *name;
    const char *str;
    struct strview sv;
    int64_t num;
};

#define LOG_STR(n, v) ((struct log_field){.kind = LOG_KIND_STR, .name = (n), .str = (v)})
#define LOG_SV(n, v)  ((struct log_field){.kind = LOG_KIND_SV, .name = (n), .sv = (v)})
#define LOG_INT(n, v) ((struct log_field){.kind = LOG_KIND_INT, .name = (n), .num = (int64_t)(v)})
#define LOG_ERR(e)    ((struct log_field){.kind = LOG_KIND_STR, .name = "err", .str = (e)->text})
#define LOG_END       ((struct log_field){.kind = LOG_KIND_END})

void log_open(const char *service, enum log_level least);
void log_service(const char *service);                          /* another name from now on */
bool log_level_parse(struct strview text, enum log_level *out); /* debug info warn error */

/* Thread-safe: one write(2) a line. Lines over 4 KiB are cut. */
void log_line(enum log_level level, const char *ev, const struct log_field *fields);

#define LOG_FIELDS(...)    ((const struct log_field[]){__VA_ARGS__})
#define log_debug(ev, ...) log_line(LOG_LEVEL_DEBUG, (ev), LOG_FIELDS(__VA_ARGS__))
#define log_info(ev, ...)  log_line(LOG_LEVEL_INFO, (ev), LOG_FIELDS(__VA_ARGS__))
#define log_warn(ev, ...)  log_line(LOG_LEVEL_WARN, (ev), LOG_FIELDS(__VA_ARGS__))
#define log_error(ev, ...) log_line(LOG_LEVEL_ERROR, (ev), LOG_FIELDS(__VA_ARGS__))

#endif
