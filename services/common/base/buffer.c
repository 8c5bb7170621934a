/*
 * buffer: one growing allocation. Doubles, so appending is linear in the bytes appended; never past its cap.
 */
#include "base/buffer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 256

void buffer_init(struct buffer *b, size_t cap)
{
    *b = (struct buffer){.cap = cap};
}

void buffer_free(struct buffer *b)
{
    free(b->data);
    b->data = NULL;
    b->len = 0;
    b->room = 0;
}

void buffer_clear(struct buffer *b)
{
    b->len = 0;
}

bool buffer_grow(struct buffer *b, size_t len)
{
    if (len > b->cap || b->cap - len < b->len)
        return false;
    size_t need = b->len + len;
    if (need > PTRDIFF_MAX)
        return false;
    size_t room = b->room == 0 ? FIRST_ROOM : b->room;
    while (room < need)
        room = room > b->cap / 2 ? b->cap : room * 2;
    if (room > b->cap)
        room = b->cap;
    char *data = realloc(b->data, room == 0 ? 1 : room);
    if (data == NULL)
        return false;
    b->data = data;
    b->room = room;
    return true;
}

bool buffer_append_uint(struct buffer *b, uint64_t n, unsigned base)
{
    char text[20];
    size_t at = sizeof text;
    do
        text[--at] = "0123456789abcdef"[n % base];
    while ((n /= base) > 0);
    return buffer_append(b, text + at, sizeof text - at);
}

bool buffer_printf(struct buffer *b, const char *fmt, ...)
{
    char small[512];
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    bool ok = false;
    int len = vsnprintf(small, sizeof small, fmt, args);
    if (len >= 0 && (size_t)len < sizeof small) {
        ok = buffer_append(b, small, (size_t)len);
    } else if (len >= 0) {
        /* vsnprintf writes a NUL, which must fit although it is not kept: so print aside, then append. */
        char *big = malloc((size_t)len + 1);
        if (big != NULL) {
            (void)vsnprintf(big, (size_t)len + 1, fmt, again);
            ok = buffer_append(b, big, (size_t)len);
            free(big);
        }
    }
    va_end(again);
    va_end(args);
    return ok;
}

void buffer_consume(struct buffer *b, size_t len)
{
    assert(len <= b->len);
    if (len == 0)
        return;
    memmove(b->data, b->data + len, b->len - len);
    b->len -= len;
}

struct strview buffer_view(const struct buffer *b)
{
    return (struct strview){b->data == NULL ? "" : b->data, b->len};
}
