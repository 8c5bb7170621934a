/*
 * json_scan: the reader. No stack of its own: the byte before the cursor tells whether a container was just
 * opened, and skipping a container recurses at most depth_max times.
 */
#include "base/json_scan.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte of a word is its lowest");

void json_scan_init(struct json_scan *s, struct strview text, int depth_max)
{
    const char *begin = text.ptr == NULL ? "" : text.ptr;
    *s = (struct json_scan){.at = begin, .begin = begin, .end = begin + text.len, .depth_max = depth_max};
    err_clear(&s->err);
}

static bool fail(struct json_scan *s, enum err_code code, const char *what)
{
    if (!s->failed)
        err_set(&s->err, code, FATE_DEAD_LETTER, "JSON: %s at byte %zu", what, (size_t)(s->at - s->begin));
    s->failed = true;
    return false;
}

static void skip_blanks(struct json_scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

static bool take(struct json_scan *s, char c)
{
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

/* Over bytes that need no look: eight at a time, ASCII but '"', '\\' and controls. Most of a prompt is such
 * text. */
static const char *skip_plain(const char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101;
    const uint64_t tops = 0x8080808080808080;
#ifdef __SSE2__ /* sixteen at a time; bytes above 0x7f are below zero here */
    for (; end - p >= 16; p += 16) {
        __m128i w = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i stop = _mm_or_si128(
            _mm_cmplt_epi8(w, _mm_set1_epi8(0x20)),
            _mm_or_si128(_mm_cmpeq_epi8(w, _mm_set1_epi8('"')), _mm_cmpeq_epi8(w, _mm_set1_epi8('\\'))));
        unsigned at = (unsigned)_mm_movemask_epi8(stop);
        if (at != 0)
            return p + __builtin_ctz(at);
    }
#endif
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, sizeof w);
        uint64_t quote = w ^ (ones * '"');
        uint64_t slash = w ^ (ones * '\\');
        /* A top bit is set where a byte is below 0x20, above 0x7f, or equal; behind the first one perhaps
         * falsely. */
        uint64_t stop = ((w - ones * 0x20) | w | (quote - ones) | (slash - ones)) & tops;
        if (stop != 0)
            return p + __builtin_ctzll(stop) / 8;
        p += 8;
    }
    return p;
}

/* The four hex digits at p as a number, -1 when they are not there. */
static int32_t hex4(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int32_t n = 0;
    for (int i = 0; i < 4; i++) {
        int digit = sv_hex_digit(p[i]);
        if (digit < 0)
            return -1;
        n = n << 4 | digit;
    }
    return n;
}

/*
 * The escape at p (behind its backslash) as a code point. Returns the bytes it takes, 0 when it is none. A
 * surrogate without its other half is itself.
 */
static size_t read_escape(const char *p, const char *end, uint32_t *out)
{
    static const char names[] = "\"\\/bfnrt";
    static const char means[] = "\"\\/\b\f\n\r\t";
    if (p == end)
        return 0;
    if (*p != 'u') {
        const char *hit = *p == '\0' ? NULL : strchr(names, *p);
        *out = hit == NULL ? 0 : (uint32_t)means[hit - names];
        return hit == NULL ? 0 : 1;
    }
    int32_t high = hex4(p + 1, end);
    if (high < 0)
        return 0;
    *out = (uint32_t)high;
    if (high < 0xd800 || high > 0xdbff)
        return 5;
    if (end - p < 11 || p[5] != '\\' || p[6] != 'u')
        return 5;
    int32_t low = hex4(p + 7, end);
    if (low < 0xdc00 || low > 0xdfff)
        return 5;
    *out = 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
    return 11;
}

static bool is_surrogate(uint32_t code)
{
    return code >= 0xd800 && code <= 0xdfff;
}

/* The non-ASCII characters from here on. */
static bool scan_utf8(struct json_scan *s)
{
    const char *stop = s->at;
    while (stop < s->end && (unsigned char)*stop >= 0x80)
        stop++;
    if (s->any_bytes) {
        s->at = stop;
        return true;
    }
    struct strview run = {s->at, (size_t)(stop - s->at)};
    size_t good = sv_utf8_prefix(run);
    s->at += good;
    return good == run.len || fail(s, ERR_INVALID, "not UTF-8");
}

/* The string whose opening quote was just taken. */
static bool scan_string(struct json_scan *s, struct json_value *out)
{
    const char *start = s->at;
    *out = (struct json_value){.kind = JSON_KIND_STRING};
    for (;;) {
        s->at = skip_plain(s->at, s->end);
        if (s->at == s->end)
            return fail(s, ERR_INVALID, "the text ends inside a string");
        unsigned char c = (unsigned char)*s->at;
        uint32_t code = 0;
        if (c == '"')
            break;
        if (c < 0x20)
            return fail(s, ERR_INVALID, "a control character inside a string");
        if (c >= 0x80) {
            if (!scan_utf8(s))
                return false;
        } else if (c == '\\') {
            size_t len = read_escape(s->at + 1, s->end, &code);
            if (len == 0 || (is_surrogate(code) && !s->lax))
                return fail(s, ERR_INVALID, "a bad escape");
            s->at += len + 1;
            out->escaped = true;
        } else {
            s->at++;
        }
    }
    out->raw = (struct strview){start, (size_t)(s->at - start)};
    s->at++;
    return true;
}

static bool take_digits(struct json_scan *s)
{
    const char *start = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
        s->at++;
    return s->at > start;
}

static bool scan_number(struct json_scan *s, struct json_value *out)
{
    const char *start = s->at;
    (void)take(s, '-');
    if (!take(s, '0') && !take_digits(s))
        return fail(s, ERR_INVALID, "a bad number");
    if (take(s, '.') && !take_digits(s))
        return fail(s, ERR_INVALID, "a bad number");
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '-'))
            (void)take(s, '+');
        if (!take_digits(s))
            return fail(s, ERR_INVALID, "a bad number");
    }
    *out = (struct json_value){.kind = JSON_KIND_NUMBER, .raw = {start, (size_t)(s->at - start)}};
    return true;
}

static bool scan_word(struct json_scan *s, const char *word, enum json_kind kind, struct json_value *out)
{
    struct strview want = sv_of(word);
    struct strview rest = {s->at, (size_t)(s->end - s->at)};
    if (!sv_starts_with(rest, want))
        return fail(s, ERR_INVALID, "no value");
    *out = (struct json_value){.kind = kind, .raw = {s->at, want.len}};
    s->at += want.len;
    return true;
}

static bool scan_open(struct json_scan *s, enum json_kind kind, struct json_value *out)
{
    if (s->depth >= s->depth_max)
        return fail(s, ERR_FULL, "nested too deep");
    *out = (struct json_value){.kind = kind, .raw = {s->at, 1}};
    s->at++;
    s->depth++;
    return true;
}

static bool scan_lax_number(struct json_scan *s, struct json_value *out)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    struct strview rest = {s->at, (size_t)(s->end - s->at)};
    bool digit = *s->at >= '0' && *s->at <= '9'; /* as a rule */
    for (size_t i = 0; !digit && i < sizeof words / sizeof words[0]; i++)
        if (sv_starts_with(rest, sv_of(words[i])))
            return scan_word(s, words[i], JSON_KIND_NUMBER, out);
    return scan_number(s, out);
}

bool json_scan_value(struct json_scan *s, struct json_value *out)
{
    if (s->failed)
        return false;
    skip_blanks(s);
    if (s->at == s->end)
        return fail(s, ERR_INVALID, "the text ends where a value belongs");
    switch (*s->at) {
    case '{':
        return scan_open(s, JSON_KIND_OBJECT, out);
    case '[':
        return scan_open(s, JSON_KIND_ARRAY, out);
    case '"':
        s->at++;
        return scan_string(s, out);
    case 't':
        return scan_word(s, "true", JSON_KIND_TRUE, out);
    case 'f':
        return scan_word(s, "false", JSON_KIND_FALSE, out);
    case 'n':
        return scan_word(s, "null", JSON_KIND_NULL, out);
    default:
        return s->lax ? scan_lax_number(s, out) : scan_number(s, out);
    }
}

/* True: another element follows, its comma taken. False: the container was closed, or an error. */
static bool more(struct json_scan *s, char open, char close)
{
    if (s->failed || s->depth == 0)
        return false;
    bool first = s->at[-1] == open; /* nothing else ends in an opening bracket: strings end in a quote */
    skip_blanks(s);
    if (take(s, close)) {
        s->depth--;
        return false;
    }
    if (!first && !take(s, ','))
        return fail(s, ERR_INVALID, "a comma or the end of the container is missing");
    return true;
}

bool json_scan_member(struct json_scan *s, struct json_value *key, struct json_value *value)
{
    if (!more(s, '{', '}'))
        return false;
    skip_blanks(s);
    if (!take(s, '"'))
        return fail(s, ERR_INVALID, "a key is missing");
    if (!scan_string(s, key))
        return false;
    skip_blanks(s);
    if (!take(s, ':'))
        return fail(s, ERR_INVALID, "a colon is missing");
    return json_scan_value(s, value);
}

bool json_scan_item(struct json_scan *s, struct json_value *value)
{
    return more(s, '[', ']') && json_scan_value(s, value);
}

bool json_scan_skip(struct json_scan *s, const struct json_value *value, struct strview *whole)
{
    struct json_value key = {0};
    struct json_value inner = {0};
    const char *start = value->raw.ptr;
    if (s->failed)
        return false;
    if (value->kind == JSON_KIND_OBJECT) {
        while (json_scan_member(s, &key, &inner)) {
            if (!json_scan_skip(s, &inner, NULL))
                return false;
        }
    } else if (value->kind == JSON_KIND_ARRAY) {
        while (json_scan_item(s, &inner)) {
            if (!json_scan_skip(s, &inner, NULL))
                return false;
        }
    } else if (value->kind == JSON_KIND_STRING) {
        start--;
    }
    if (s->failed)
        return false;
    if (whole != NULL)
        *whole = (struct strview){start, (size_t)(s->at - start)};
    return true;
}

bool json_scan_end(struct json_scan *s)
{
    if (s->failed)
        return false;
    if (s->depth > 0)
        return fail(s, ERR_INVALID, "a container is open at the end");
    skip_blanks(s);
    if (s->at != s->end)
        return fail(s, ERR_INVALID, "something follows the value");
    return true;
}

bool json_scan_whole(struct json_scan *s, enum json_kind kind)
{
    struct json_value root;
    return json_scan_value(s, &root) && root.kind == kind && json_scan_skip(s, &root, NULL) &&
           json_scan_end(s);
}

static size_t utf8_encode(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(lead[len] | code);
    return len;
}

/* The next bytes of a string once unescaped: *at moves on, their number is returned. 0: \u0000 or not an
 * escape. */
static size_t next_bytes(const char **at, const char *end, char out[4])
{
    if (**at != '\\') {
        out[0] = *(*at)++;
        return 1;
    }
    uint32_t code = 0;
    size_t len = read_escape(*at + 1, end, &code);
    *at += len + 1;
    return len == 0 || code == 0 ? 0 : utf8_encode(is_surrogate(code) ? 0xfffd : code, out);
}

bool json_scan_unescape(const struct json_value *v, struct arena *a, struct strview *out)
{
    *out = SV_NULL;
    if (v->kind != JSON_KIND_STRING)
        return false;
    if (!v->escaped) {
        *out = v->raw;
        return true;
    }
    char *copy = arena_alloc(a, v->raw.len + 1); /* an escape is never shorter than what it means */
    if (copy == NULL)
        return false;
    size_t len = 0;
    const char *end = v->raw.ptr + v->raw.len;
    for (const char *at = v->raw.ptr; at < end;) {
        char bytes[4];
        size_t count = next_bytes(&at, end, bytes);
        if (count == 0)
            return false;
        memcpy(copy + len, bytes, count);
        len += count;
    }
    *out = (struct strview){copy, len};
    return true;
}

bool json_scan_escaped_is(const struct json_value *v, struct strview text)
{
    size_t matched = 0;
    const char *end = v->raw.ptr + v->raw.len;
    for (const char *at = v->raw.ptr; at < end;) {
        char bytes[4];
        size_t count = next_bytes(&at, end, bytes);
        if (count == 0 || text.len - matched < count || memcmp(text.ptr + matched, bytes, count) != 0)
            return false;
        matched += count;
    }
    return matched == text.len;
}

bool json_scan_i64(const struct json_value *v, int64_t *out)
{
    return v->kind == JSON_KIND_NUMBER && sv_to_i64(v->raw, out);
}
