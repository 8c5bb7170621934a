/*
 * log: one line is built on the stack and leaves by one write(2), so lines of threads never mix.
 * A value is bare when it is plain and short, else a JSON string: no value can forge a field, a line or a
 * terminal sequence.
 */
#include "base/log.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define WHOLE_BYTES    200 /* ids and numbers: half of one would be another one */
#define TAIL_BYTES     16  /* kept for the closing quote, " cut=true" and the newline */

static const char *service_name = "spend";
static _Atomic int least_level = LOG_LEVEL_INFO;

static const char *const level_names[] = {
    [LOG_LEVEL_DEBUG] = "debug",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_ERROR] = "error",
};

struct line {
    size_t len;
    bool cut;
    char text[LINE_MAX_BYTES];
};

void log_service(const char *service)
{
    service_name = service;
}

void log_open(const char *service, enum log_level least)
{
    service_name = service;
    atomic_store(&least_level, (int)least);
}

bool log_level_parse(struct strview text, enum log_level *out)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
        if (sv_eq(text, sv_of(level_names[i]))) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

/* All of it or, from the first piece that does not fit, nothing more. */
static void put(struct line *line, struct strview v)
{
    if (line->cut || v.len > sizeof line->text - TAIL_BYTES - line->len) {
        line->cut = true;
        return;
    }
    memcpy(line->text + line->len, v.ptr, v.len);
    line->len += v.len;
}

static bool is_plain(struct strview v)
{
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];
        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '=')
            return false;
    }
    return v.len > 0;
}

/* One character of well-formed UTF-8, v.len bytes. */
static void put_quoted(struct line *line, struct strview v)
{
    char text[8];
    unsigned char c = (unsigned char)v.ptr[0];
    if (v.len == 1 && (c == '"' || c == '\\')) {
        text[0] = '\\';
        text[1] = (char)c;
        put(line, (struct strview){text, 2});
    } else if (sv_has_control(v)) {
        unsigned int code = v.len == 1 ? c : (unsigned char)v.ptr[1]; /* C1 controls are 0xc2 and the code */
        int len = snprintf(text, sizeof text, "\\u%04x", code);
        put(line, (struct strview){text, (size_t)len});
    } else {
        put(line, v);
    }
}

static void put_value(struct line *line, struct strview v)
{
    if (is_plain(v) && v.len <= WHOLE_BYTES) {
        put(line, v);
        return;
    }
    put(line, SV_LIT("\""));
    bool open = !line->cut;
    for (size_t i = 0; i < v.len;) {
        size_t left = v.len - i;
        size_t len = 1;
        while (len < 4 && len < left && sv_utf8_prefix((struct strview){v.ptr + i, len}) == 0)
            len++;
        struct strview c = {v.ptr + i, len};
        bool good = sv_utf8_prefix(c) == len;
        put_quoted(line, good ? c : SV_LIT("\xef\xbf\xbd"));
        i += good ? len : 1;
    }
    if (open)
        line->text[line->len++] = '"'; /* TAIL_BYTES has room for it */
}

static void put_field(struct line *line, const char *name, struct strview value)
{
    size_t before = line->len;
    put(line, SV_LIT(" "));
    put(line, sv_of(name));
    put(line, SV_LIT("="));
    size_t named = line->len;
    if (!line->cut)
        put_value(line, value);
    if (line->cut && line->len <= named)
        line->len = before;
}

static void put_typed(struct line *line, const struct log_field *f)
{
    char number[24];
    struct strview value = f->sv;
    if (f->kind == LOG_KIND_STR)
        value = sv_of(f->str);
    if (f->kind == LOG_KIND_INT) {
        int len = snprintf(number, sizeof number, "%lld", (long long)f->num);
        value = (struct strview){number, (size_t)len};
    }
    put_field(line, f->name, sv_is_null(value) ? SV_LIT("null") : value);
}

static void write_all(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nobody listens: there is no better place to say so */
        text += n;
        len -= (size_t)n;
    }
}

void log_line(enum log_level level, const char *ev, const struct log_field *fields)
{
    bool shown = (int)level >= atomic_load(&least_level);
    /* Counted also when not shown, so that an alert does not depend on --log-level; debug lines would cost a
     * look-up. */
    if (shown || level > LOG_LEVEL_DEBUG)
        metric_add(metric_counter("spend_log_events_total",
                                  "Log lines by event, also those below --log-level", "ev", ev),
                   1);
    if (!shown)
        return;
    struct line line;
    line.len = 0;
    line.cut = false;
    char now[CLOCK_TEXT_MAX];
    size_t len = clock_format(clock_now_us(), now);
    put(&line, SV_LIT("ts="));
    put(&line, (struct strview){now, len});
    put_field(&line, "lvl", sv_of(level_names[level]));
    put_field(&line, "svc", sv_of(service_name));
    put_field(&line, "ev", sv_of(ev));
    for (const struct log_field *f = fields; f->kind != LOG_KIND_END && !line.cut; f++)
        put_typed(&line, f);
    struct strview tail = line.cut ? SV_LIT(" cut=true\n") : SV_LIT("\n");
    memcpy(line.text + line.len, tail.ptr, tail.len);
    write_all(line.text, line.len + tail.len);
}
