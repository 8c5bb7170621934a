/*
 * arena: memory given back all at once. A record's strings live in one arena, so nothing is freed piecemeal.
 * Has a cap: a hostile record cannot make it grow past it.
 */
#ifndef SPEND_BASE_ARENA_H
#define SPEND_BASE_ARENA_H

#include "base/err.h"
#include "base/strview.h"

struct arena_block;

struct arena {
    struct arena_block *head;
    size_t used; /* bytes handed out */
    size_t cap;  /* most bytes it hands out */
};

void arena_init(struct arena *a, size_t cap);
/* 16-byte aligned, zeroed. NULL at the cap or out of memory. */
void *arena_alloc(struct arena *a, size_t size) NODISCARD;
/* A NUL-terminated copy in the arena. false at the cap. A null view stays null. */
bool arena_dup(struct arena *a, struct strview v, struct strview *out) NODISCARD;
/* printf into the arena; NUL-terminated view, SV_NULL at the cap. */
struct strview arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Forgets everything, keeps one block for the next use. */
void arena_reset(struct arena *a);
void arena_free(struct arena *a);

#endif
