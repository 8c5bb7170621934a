/*
 * form_scan: bytes between delimiters; each part has header lines, of which one names the field. What another
 * parser could read differently is no form here: then nothing of it counts, and the call is loud.
 */
#include "ingest/form_scan.h"

#include "ingest/http_head.h"

#include <string.h>

static struct strview sv_from(struct strview v, size_t at)
{
    return (struct strview){v.ptr + at, v.len - at};
}

static size_t find(struct strview v, struct strview word)
{
    const char *at = v.ptr == NULL || v.len < word.len ? NULL : memmem(v.ptr, v.len, word.ptr, word.len);
    return at == NULL ? v.len : (size_t)(at - v.ptr);
}

/*
 * The next parameter of a header's value: ; name=value, or name="value". false: no more. *wrong: it could be
 * read in another way: escapes, quotes within, names with a charset of their own, a parameter without value.
 */
static bool parameter_next(struct strview *rest, struct strview *name, struct strview *value, bool *wrong)
{
    size_t at = sv_find(*rest, ';');
    if (*wrong || at == rest->len)
        return false;
    *name = sv_trim(sv_cut(sv_from(*rest, at + 1), '=', value));
    bool quoted = !sv_is_empty(*value) && value->ptr[0] == '"';
    struct strview text = quoted ? sv_from(*value, 1) : *value;
    size_t end = sv_is_null(text) ? 0 : sv_find(text, quoted ? '"' : ';');
    *wrong = sv_is_empty(*value) || !http_is_token(*name) || sv_find(*name, '*') < name->len ||
             sv_find(text, '\\') < end || (quoted && end == text.len);
    if (*wrong)
        return false;
    *rest = sv_from(text, quoted ? end + 1 : end);
    *value = quoted ? (struct strview){text.ptr, end} : sv_trim((struct strview){text.ptr, end});
    *wrong = quoted ? sv_has_control(*value) : !http_is_token(*value);
    if (*wrong)
        return false;
    /* behind a quoted value only the next parameter may stand */
    *wrong = quoted && sv_trim((struct strview){rest->ptr, sv_find(*rest, ';')}).len > 0;
    return !*wrong;
}

static void type_read(struct form_scan *s, struct strview content_type, struct strview *boundary)
{
    struct strview rest = content_type;
    struct strview name;
    struct strview value;
    while (parameter_next(&rest, &name, &value, &s->failed)) {
        if (sv_eq_nocase(name, SV_LIT("boundary"))) {
            s->failed = s->failed || !sv_is_null(*boundary);
            *boundary = value;
        } else if (sv_eq_nocase(name, SV_LIT("charset"))) {
            s->failed = s->failed || !sv_eq_nocase(value, SV_LIT("utf-8"));
        }
    }
    s->failed = s->failed || boundary->ptr == NULL || boundary->len == 0 || boundary->len > FORM_BOUNDARY_MAX;
}

bool form_scan_init(struct form_scan *s, struct strview content_type, struct strview body)
{
    struct strview rest;
    struct strview boundary = SV_NULL;
    memset(s, 0, sizeof *s);
    if (!sv_eq_nocase(sv_trim(sv_cut(content_type, ';', &rest)), SV_LIT("multipart/form-data")))
        return false;
    type_read(s, content_type, &boundary);
    if (s->failed || boundary.ptr == NULL)
        return true;
    memcpy(s->delimiter, "\r\n--", 4);
    memcpy(s->delimiter + 4, boundary.ptr, boundary.len);
    s->delimiter_len = 4 + boundary.len;
    struct strview first = {s->delimiter + 2, s->delimiter_len - 2};
    s->failed = !sv_starts_with(body, first);
    s->rest = s->failed ? SV_NULL : sv_from(body, first.len);
    return true;
}

/* What stands behind a delimiter: the end of its line, or of all. */
static bool line_end(struct form_scan *s)
{
    s->ended = sv_starts_with(s->rest, SV_LIT("--"));
    s->failed = !s->ended && !sv_starts_with(s->rest, SV_LIT("\r\n"));
    return !s->failed && !s->ended;
}

static bool is_plain(struct strview name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '_' && c != '-' && c != '.' && c != '[' && c != ']')
            return false;
    }
    return name.len > 0;
}

static void disposition_read(struct form_scan *s, struct strview value, struct strview *name, bool *file)
{
    struct strview key;
    struct strview text;
    bool is_data = sv_eq_nocase(sv_trim(sv_cut(value, ';', &text)), SV_LIT("form-data"));
    s->failed = s->failed || !is_data || !sv_is_null(*name); /* a part has one name */
    while (parameter_next(&value, &key, &text, &s->failed)) {
        if (sv_eq_nocase(key, SV_LIT("filename"))) {
            *file = true;
        } else if (sv_eq_nocase(key, SV_LIT("name"))) {
            s->failed = s->failed || !sv_is_null(*name) || !is_plain(text);
            *name = text;
        }
    }
    s->failed = s->failed || sv_is_null(*name);
}

/* What a part's header lines (each begins with CR LF) say of it. */
static void headers_read(struct form_scan *s, struct strview head, struct strview *name, bool *file)
{
    while (head.len > 2 && !s->failed) {
        struct strview line = sv_from(head, 2);
        struct strview value;
        line.len = find(line, SV_LIT("\r\n"));
        head = sv_from(head, 2 + line.len);
        struct strview key = sv_cut(line, ':', &value);
        s->failed =
            sv_is_null(value) || key.len == 0 || sv_trim(key).len != key.len; /* folded, or no header */
        if (!s->failed && sv_eq_nocase(key, SV_LIT("content-disposition")))
            disposition_read(s, value, name, file);
    }
}

bool form_scan_next(struct form_scan *s, struct form_field *out)
{
    const struct strview delimiter = {s->delimiter, s->delimiter_len};
    while (!s->failed && !s->ended && line_end(s)) {
        bool file = false;
        size_t head = find(s->rest, SV_LIT("\r\n\r\n"));
        struct strview part = head == s->rest.len ? SV_NULL : sv_from(s->rest, head + 4);
        /* an empty value's delimiter begins where its headers end */
        struct strview from = head == s->rest.len ? SV_NULL : sv_from(s->rest, head + 2);
        size_t end = find(from, delimiter);
        s->failed = sv_is_null(part) || end == from.len || find(s->rest, delimiter) < head;
        if (s->failed)
            break;
        out->name = SV_NULL;
        out->value = (struct strview){part.ptr, end < 2 ? 0 : end - 2};
        headers_read(s, (struct strview){s->rest.ptr, head}, &out->name, &file);
        s->rest = sv_from(from, end + s->delimiter_len);
        s->failed = s->failed || sv_is_null(out->name);
        if (!file && !s->failed)
            return true;
    }
    return false;
}
