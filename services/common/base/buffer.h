/*
 * buffer: bytes that grow up to a cap and never past it.
 */
#ifndef SPEND_BASE_BUFFER_H
#define SPEND_BASE_BUFFER_H

#include "base/err.h"
#include "base/strview.h"

#include <assert.h>
#include <string.h>

struct buffer {
    char *data;
    size_t len;
    size_t room; /* allocated */
    size_t cap;  /* most bytes it will ever hold */
};

void buffer_init(struct buffer *b, size_t cap);
void buffer_free(struct buffer *b);
void buffer_clear(struct buffer *b); /* keeps the memory */

/* Each returns false at the cap or out of memory, and then the buffer is unchanged. */
static inline bool buffer_append(struct buffer *b, const void *ptr, size_t len) NODISCARD;
static inline bool buffer_append_sv(struct buffer *b, struct strview v) NODISCARD;
static inline bool buffer_append_byte(struct buffer *b, uint8_t byte) NODISCARD;
/* A number in base 10 or 16, as printf's %llu and %llx write it. */
bool buffer_append_uint(struct buffer *b, uint64_t n, unsigned base) NODISCARD;
bool buffer_printf(struct buffer *b, const char *fmt, ...) PRINTF_LIKE(2, 3) NODISCARD;
/* Room for `len` more bytes at the end; the caller writes them and then calls buffer_grew. NULL at the cap.
 */
static inline char *buffer_reserve(struct buffer *b, size_t len) NODISCARD;
static inline void buffer_grew(struct buffer *b, size_t len);
/* Drops `len` bytes at the front. */
void buffer_consume(struct buffer *b, size_t len);
struct strview buffer_view(const struct buffer *b);

/* As a rule there is room: a record is made of many small pieces. */

bool buffer_grow(struct buffer *b, size_t len) NODISCARD; /* the slow way: room for len more */

static inline char *buffer_reserve(struct buffer *b, size_t len)
{
    if ((b->data == NULL || len > b->room - b->len) && !buffer_grow(b, len))
        return NULL;
    return b->data + b->len;
}

static inline void buffer_grew(struct buffer *b, size_t len)
{
    assert(len <= b->room - b->len);
    b->len += len;
}

static inline bool buffer_append(struct buffer *b, const void *ptr, size_t len)
{
    if (len == 0)
        return true;
    if (buffer_reserve(b, len) == NULL)
        return false;
    memcpy(b->data + b->len, ptr, len);
    b->len += len;
    return true;
}

static inline bool buffer_append_sv(struct buffer *b, struct strview v)
{
    return buffer_append(b, v.ptr, v.len);
}

static inline bool buffer_append_byte(struct buffer *b, uint8_t byte)
{
    if ((b->data == NULL || b->len == b->room) && !buffer_grow(b, 1))
        return false;
    b->data[b->len++] = (char)byte;
    return true;
}

#endif
