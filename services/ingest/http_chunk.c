/*
 * http_chunk: one byte a step outside of data, which is handed over in whole pieces.
 */
#include "ingest/http_chunk.h"

#define SIZE_DIGITS_MAX 8
#define SKIP_BYTES_MAX  8192

enum chunk_state {
    SIZE,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START,
    TRAILER,
    TRAILER_LF,
    END_LF,
    BAD
};

void http_chunk_init(struct http_chunk *c, bool lenient)
{
    *c = (struct http_chunk){.state = SIZE, .lenient = lenient};
}

static enum chunk_state after_size(struct http_chunk *c, char byte)
{
    int digit = sv_hex_digit(byte);
    if (digit >= 0) {
        if (++c->digits > SIZE_DIGITS_MAX)
            return BAD;
        c->left = c->left * 16 + (uint64_t)digit;
        return SIZE;
    }
    if (c->digits == 0)
        return BAD;
    if (byte == '\r')
        return SIZE_LF;
    return c->lenient && (byte == ';' || byte == ' ' || byte == '\t') ? EXTENSION : BAD;
}

/* A byte that is read over, up to the line's CR. */
static enum chunk_state skip(struct http_chunk *c, char byte, enum chunk_state here, enum chunk_state at_cr)
{
    if (byte == '\r')
        return at_cr;
    if (++c->skipped > SKIP_BYTES_MAX || ((unsigned char)byte < 0x20 && byte != '\t'))
        return BAD;
    return here;
}

static enum chunk_state after_size_line(struct http_chunk *c, char byte)
{
    if (byte != '\n')
        return BAD;
    c->digits = 0;
    return c->left == 0 ? TRAILER_START : DATA;
}

static enum chunk_state step(struct http_chunk *c, char byte)
{
    switch ((enum chunk_state)c->state) {
    case SIZE:
        return after_size(c, byte);
    case EXTENSION:
        return skip(c, byte, EXTENSION, SIZE_LF);
    case SIZE_LF:
        return after_size_line(c, byte);
    case DATA_CR:
        return byte == '\r' ? DATA_LF : BAD;
    case DATA_LF:
        return byte == '\n' ? SIZE : BAD;
    case TRAILER_START:
        if (byte == '\r')
            return END_LF;
        return c->lenient ? skip(c, byte, TRAILER, BAD) : BAD;
    case TRAILER:
        return skip(c, byte, TRAILER, TRAILER_LF);
    case TRAILER_LF:
        return byte == '\n' ? TRAILER_START : BAD;
    case END_LF:
        c->last = byte == '\n';
        return BAD;
    case DATA:
    case BAD:
        break;
    }
    return BAD;
}

enum chunk_step http_chunk_next(struct http_chunk *c, struct strview *in, struct strview *data)
{
    while (in->len > 0) {
        if (c->state == DATA) {
            size_t len = c->left < in->len ? (size_t)c->left : in->len;
            *data = (struct strview){in->ptr, len};
            *in = (struct strview){in->ptr + len, in->len - len};
            c->left -= len;
            if (c->left == 0)
                c->state = DATA_CR;
            return CHUNK_DATA;
        }
        char byte = *in->ptr;
        *in = (struct strview){in->ptr + 1, in->len - 1};
        c->state = (int)step(c, byte);
        if (c->last)
            return CHUNK_END;
        if (c->state == BAD)
            return CHUNK_BAD;
    }
    return CHUNK_MORE;
}
