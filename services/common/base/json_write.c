/*
 * json_write: the writer. Runs of plain text are appended whole; only what must be escaped is.
 */
#include "base/json_write.h"

#include "base/clock.h"
#include "base/money.h"

#include <inttypes.h>
#include <stdio.h>

void json_write_init(struct json_write *w, struct buffer *out)
{
    *w = (struct json_write){.out = out};
}

static void put(struct json_write *w, struct strview v)
{
    if (!w->failed && !buffer_append_sv(w->out, v))
        w->failed = true;
}

static void before_item(struct json_write *w)
{
    if (w->comma)
        put(w, SV_LIT(","));
    w->comma = true;
}

void json_write_open(struct json_write *w, char bracket)
{
    before_item(w);
    put(w, (struct strview){&bracket, 1});
    w->comma = false;
}

void json_write_close(struct json_write *w, char bracket)
{
    put(w, (struct strview){&bracket, 1});
    w->comma = true;
}

static bool must_escape(char c)
{
    return (unsigned char)c < 0x20 || c == '"' || c == '\\' || c == 0x7f;
}

static void put_escaped(struct json_write *w, char c)
{
    static const char names[] = "\"\\bfnrt";
    static const char means[] = "\"\\\b\f\n\r\t";
    char text[8];
    size_t at = sv_find(SV_LIT(means), c);
    int len = at < sizeof means - 1 ? snprintf(text, sizeof text, "\\%c", names[at])
                                    : snprintf(text, sizeof text, "\\u%04x", (unsigned int)c);
    put(w, (struct strview){text, (size_t)len});
}

/* Well-formed UTF-8. */
static void put_text(struct json_write *w, struct strview v)
{
    size_t start = 0;
    for (size_t i = 0; i < v.len; i++) {
        if (!must_escape(v.ptr[i]))
            continue;
        put(w, (struct strview){v.ptr + start, i - start});
        put_escaped(w, v.ptr[i]);
        start = i + 1;
    }
    put(w, (struct strview){v.ptr + start, v.len - start});
}

static void put_string(struct json_write *w, struct strview v)
{
    put(w, SV_LIT("\""));
    while (v.len > 0) {
        size_t good = sv_utf8_prefix(v);
        put_text(w, (struct strview){v.ptr, good});
        if (good < v.len) {
            put(w, SV_LIT("\xef\xbf\xbd"));
            good++;
        }
        v = (struct strview){v.ptr + good, v.len - good};
    }
    put(w, SV_LIT("\""));
}

void json_write_key(struct json_write *w, const char *key)
{
    before_item(w);
    put_string(w, sv_of(key));
    put(w, SV_LIT(":"));
    w->comma = false;
}

void json_write_sv(struct json_write *w, struct strview v)
{
    if (sv_is_null(v)) {
        json_write_null(w);
        return;
    }
    before_item(w);
    put_string(w, v);
}

void json_write_str(struct json_write *w, const char *text)
{
    json_write_sv(w, sv_of(text));
}

void json_write_i64(struct json_write *w, int64_t n)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%" PRId64, n);
    json_write_raw(w, (struct strview){text, (size_t)len});
}

void json_write_bool(struct json_write *w, bool b)
{
    json_write_raw(w, b ? SV_LIT("true") : SV_LIT("false"));
}

void json_write_null(struct json_write *w)
{
    json_write_raw(w, SV_LIT("null"));
}

void json_write_time(struct json_write *w, int64_t utc_us)
{
    char text[CLOCK_TEXT_MAX];
    size_t len = clock_format(utc_us, text);
    json_write_sv(w, (struct strview){text, len});
}

void json_write_usd(struct json_write *w, int64_t nanos)
{
    char text[MONEY_TEXT_MAX];
    size_t len = money_format_usd(nanos, text);
    json_write_sv(w, (struct strview){text, len});
}

void json_write_raw(struct json_write *w, struct strview json)
{
    before_item(w);
    put(w, json);
}

bool json_write_ok(const struct json_write *w)
{
    return !w->failed;
}
