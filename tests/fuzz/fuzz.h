/*
 * fuzz: what the fuzzers share: an input cut into numbers and texts, and tight copies, so that the sanitizer
 * sees a byte read past an end. A property that does not hold is an assert: libFuzzer keeps the input.
 */
#ifndef SPEND_FUZZ_H
#define SPEND_FUZZ_H

#include "base/strview.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes a byte off the front; 0 when none is left. */
static inline unsigned fuzz_byte(struct strview *in)
{
    if (in->len == 0)
        return 0;
    unsigned byte = (unsigned char)in->ptr[0];
    *in = (struct strview){in->ptr + 1, in->len - 1};
    return byte;
}

/* Little endian, 16 bits. */
static inline unsigned fuzz_word(struct strview *in)
{
    unsigned low = fuzz_byte(in);
    return low | fuzz_byte(in) << 8;
}

/* At most len bytes off the front. */
static inline struct strview fuzz_text(struct strview *in, size_t len)
{
    struct strview out = {in->ptr, len < in->len ? len : in->len};
    *in = (struct strview){in->ptr + out.len, in->len - out.len};
    return out;
}

/* Splits at the first line "%%": what stands before it. The rest is what follows, empty without one. */
static inline struct strview fuzz_part(struct strview *in)
{
    const char *at = in->len == 0 ? NULL : memmem(in->ptr, in->len, "\n%%\n", 4);
    struct strview all = *in;
    size_t len = at == NULL ? all.len : (size_t)(at - all.ptr);
    size_t cut = at == NULL ? all.len : len + 4;
    *in = (struct strview){all.ptr + cut, all.len - cut};
    return (struct strview){all.ptr, len};
}

/* A copy whose every byte outside is poisoned; free() it. */
static inline char *fuzz_copy(struct strview v)
{
    char *copy = malloc(v.len > 0 ? v.len : 1);
    assert(copy != NULL);
    if (v.len > 0)
        memcpy(copy, v.ptr, v.len);
    return copy;
}

/* What an assert cannot say. */
static inline void fuzz_fail(const char *what)
{
    (void)fprintf(stderr, "%s\n", what);
    abort();
}

static inline bool fuzz_holds(struct strview whole, struct strview part)
{
    return part.len <= whole.len &&
           (part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len));
}

#endif
