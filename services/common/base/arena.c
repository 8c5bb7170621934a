/*
 * arena: a list of blocks, the newest first. Blocks double in size up to a limit, so a small record costs one
 * malloc.
 */
#include "base/arena.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT       16
#define FIRST_BLOCK     4096
#define LARGEST_DOUBLED (1 << 20)

struct arena_block {
    struct arena_block *older;
    size_t size; /* of bytes */
    size_t used;
    _Alignas(ALIGNMENT) unsigned char bytes[];
};

void arena_init(struct arena *a, size_t cap)
{
    *a = (struct arena){.cap = cap};
}

static struct arena_block *block_add(struct arena *a, size_t least)
{
    size_t size = FIRST_BLOCK;
    if (a->head != NULL)
        size = a->head->size < LARGEST_DOUBLED / 2 ? a->head->size * 2 : LARGEST_DOUBLED;
    if (size < least)
        size = least;
    struct arena_block *block = malloc(sizeof *block + size);
    if (block == NULL)
        return NULL;
    block->older = a->head;
    block->size = size;
    block->used = 0;
    a->head = block;
    return block;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > a->cap || a->cap - size < a->used || size > SIZE_MAX / 2)
        return NULL;
    size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct arena_block *block = a->head;
    if (block == NULL || block->size - block->used < rounded)
        block = block_add(a, rounded);
    if (block == NULL)
        return NULL;
    void *out = block->bytes + block->used;
    block->used += rounded;
    a->used += size;
    memset(out, 0, rounded);
    return out;
}

bool arena_dup(struct arena *a, struct strview v, struct strview *out)
{
    *out = SV_NULL;
    if (sv_is_null(v))
        return true;
    char *copy = v.len == SIZE_MAX ? NULL : arena_alloc(a, v.len + 1);
    if (copy == NULL)
        return false;
    memcpy(copy, v.ptr, v.len);
    *out = (struct strview){copy, v.len};
    return true;
}

struct strview arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    struct strview out = SV_NULL;
    int len = vsnprintf(NULL, 0, fmt, args);
    char *text = len < 0 ? NULL : arena_alloc(a, (size_t)len + 1);
    if (text != NULL) {
        (void)vsnprintf(text, (size_t)len + 1, fmt, again);
        out = (struct strview){text, (size_t)len};
    }
    va_end(again);
    va_end(args);
    return out;
}

static void blocks_free(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *older = block->older;
        free(block);
        block = older;
    }
}

void arena_reset(struct arena *a)
{
    a->used = 0;
    if (a->head == NULL)
        return;
    /* The newest block is the largest, unless one oversized text made it: then it is worth keeping only if
     * small. */
    blocks_free(a->head->older);
    a->head->older = NULL;
    a->head->used = 0;
    if (a->head->size > LARGEST_DOUBLED) {
        free(a->head);
        a->head = NULL;
    }
}

void arena_free(struct arena *a)
{
    blocks_free(a->head);
    a->head = NULL;
    a->used = 0;
}
