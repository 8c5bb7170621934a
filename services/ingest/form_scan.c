/*
 * form_scan: bytes between delimiters; each part has header lines, of which one names the field.
 */
#include "ingest/form_scan.h"

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

/* The next parameter of a header's value: ; name=value, or name="value". false: no more. */
static bool parameter_next(struct strview *rest, struct strview *name, struct strview *value)
{
    size_t at = sv_find(*rest, ';');
    if (at == rest->len)
        return false;
    struct strview all = sv_from(*rest, at + 1);
    *name = sv_trim(sv_cut(all, '=', value));
    if (sv_is_null(*value)) {
        *rest = SV_LIT("");
        return false;
    }
    bool quoted = value->len > 0 && value->ptr[0] == '"';
    *value = quoted ? sv_from(*value, 1) : *value;
    size_t end = 0;
    while (end < value->len && value->ptr[end] != (quoted ? '"' : ';'))
        end += quoted && value->ptr[end] == '\\' && end + 1 < value->len ? 2 : 1;
    end = end < value->len ? end : value->len;
    *rest = sv_from(*value, quoted && end < value->len ? end + 1 : end);
    *value = quoted ? (struct strview){value->ptr, end} : sv_trim((struct strview){value->ptr, end});
    return true;
}

bool form_scan_init(struct form_scan *s, struct strview content_type, struct strview body)
{
    struct strview rest;
    struct strview name;
    struct strview value;
    struct strview boundary = SV_NULL;
    memset(s, 0, sizeof *s);
    if (!sv_eq_nocase(sv_trim(sv_cut(content_type, ';', &rest)), SV_LIT("multipart/form-data")))
        return false;
    rest = content_type;
    while (parameter_next(&rest, &name, &value))
        if (sv_eq_nocase(name, SV_LIT("boundary")))
            boundary = value;
    s->failed = boundary.ptr == NULL || boundary.len == 0 || boundary.len > FORM_BOUNDARY_MAX;
    if (s->failed)
        return true;
    memcpy(s->delimiter, "\r\n--", 4);
    memcpy(s->delimiter + 4, boundary.ptr, boundary.len);
    s->delimiter_len = 4 + boundary.len;
    /* the first delimiter may stand at the very beginning */
    struct strview first = {s->delimiter + 2, s->delimiter_len - 2};
    size_t at =
        sv_starts_with(body, first) ? 0 : find(body, (struct strview){s->delimiter, s->delimiter_len}) + 2;
    s->failed = at + first.len > body.len;
    s->rest = s->failed ? SV_NULL : sv_from(body, at + first.len);
    return true;
}

/* What stands behind a delimiter on its line: nothing, or the end of all. */
static bool line_end(struct form_scan *s)
{
    s->ended = sv_starts_with(s->rest, SV_LIT("--"));
    if (s->ended)
        return false;
    while (s->rest.len > 0 && (s->rest.ptr[0] == ' ' || s->rest.ptr[0] == '\t'))
        s->rest = sv_from(s->rest, 1);
    s->failed = !sv_starts_with(s->rest, SV_LIT("\r\n"));
    return !s->failed;
}

/* What a part's header lines (each begins with CR LF) say of it. */
static void headers_read(struct strview head, struct strview *name, bool *file)
{
    while (head.len > 2) {
        struct strview line = sv_from(head, 2);
        line.len = find(line, SV_LIT("\r\n"));
        head = sv_from(head, 2 + line.len);
        struct strview value;
        struct strview key;
        struct strview text;
        if (!sv_eq_nocase(sv_trim(sv_cut(line, ':', &value)), SV_LIT("content-disposition")))
            continue;
        while (parameter_next(&value, &key, &text)) {
            *name = sv_eq_nocase(key, SV_LIT("name")) ? text : *name;
            *file = *file || sv_eq_nocase(key, SV_LIT("filename")) || sv_eq_nocase(key, SV_LIT("filename*"));
        }
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
        headers_read((struct strview){s->rest.ptr, head}, &out->name, &file);
        s->rest = sv_from(from, end + s->delimiter_len);
        if (!file && !sv_is_null(out->name))
            return true;
    }
    return false;
}
