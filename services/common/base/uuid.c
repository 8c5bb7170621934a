/*
 * uuid: layout of RFC 9562. Aborts if the kernel gives no random bytes: ids that repeat would lose money.
 */
#include "base/uuid.h"

#include "base/sha256.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void mark(struct uuid *u, uint8_t version)
{
    u->byte[6] = (uint8_t)((u->byte[6] & 0x0f) | version << 4);
    u->byte[8] = (uint8_t)((u->byte[8] & 0x3f) | 0x80);
}

#define POOL_BYTES 256 /* up to here getrandom never returns short once the kernel is up */

static _Thread_local struct {
    uint8_t byte[POOL_BYTES];
    size_t left;
} pool;
static pthread_once_t watched = PTHREAD_ONCE_INIT;

/* A child must not give what its parent gives. */
static void pool_drop(void)
{
    pool.left = 0;
}

static void fork_watch(void)
{
    (void)pthread_atfork(NULL, NULL, pool_drop);
}

/* One call of the kernel for many ids; none is given twice. */
static void random_take(uint8_t *out, size_t len)
{
    if (pool.left < len) {
        (void)pthread_once(&watched, fork_watch);
        if (getrandom(pool.byte, sizeof pool.byte, 0) != (ssize_t)sizeof pool.byte) {
            (void)fputs("uuid: getrandom failed\n", stderr);
            abort();
        }
        pool.left = sizeof pool.byte;
    }
    pool.left -= len;
    memcpy(out, pool.byte + pool.left, len);
}

struct uuid uuid_v7(int64_t utc_us)
{
    struct uuid u;
    random_take(u.byte, sizeof u.byte);
    uint64_t us = utc_us < 0 ? 0 : (uint64_t)utc_us;
    uint64_t ms = us / 1000;
    uint64_t part = us % 1000 * 4096 / 1000; /* 12 bits of a millisecond */
    for (int i = 0; i < 6; i++)
        u.byte[i] = (uint8_t)(ms >> (40 - 8 * i));
    u.byte[6] = (uint8_t)(part >> 8);
    u.byte[7] = (uint8_t)part;
    mark(&u, 7);
    return u;
}

int64_t uuid_v7_ms(const struct uuid *u)
{
    int64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | u->byte[i];
    return ms;
}

struct uuid uuid_v8_of(struct strview source, struct strview id)
{
    uint8_t digest[SHA256_LEN];
    const uint8_t separator = 0x1f;
    struct sha256 *hash = sha256_new();
    sha256_begin(hash);
    sha256_update(hash, source.ptr, source.len);
    sha256_update(hash, &separator, 1);
    sha256_update(hash, id.ptr, id.len);
    sha256_end(hash, digest);
    sha256_free(hash);
    struct uuid u;
    memcpy(u.byte, digest, sizeof u.byte);
    mark(&u, 8);
    return u;
}

static bool dash_before(size_t byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(const struct uuid *u, char out[UUID_TEXT_LEN + 1])
{
    static const char hex[] = "0123456789abcdef";
    char *p = out;
    for (size_t i = 0; i < sizeof u->byte; i++) {
        if (dash_before(i))
            *p++ = '-';
        *p++ = hex[u->byte[i] >> 4];
        *p++ = hex[u->byte[i] & 0x0f];
    }
    *p = '\0';
}

bool uuid_parse(struct strview text, struct uuid *out)
{
    if (text.len != UUID_TEXT_LEN)
        return false;
    struct uuid u;
    const char *p = text.ptr;
    for (size_t i = 0; i < sizeof u.byte; i++) {
        if (dash_before(i) && *p++ != '-')
            return false;
        if (!sha256_from_hex((struct strview){p, 2}, &u.byte[i], 1))
            return false;
        p += 2;
    }
    *out = u;
    return true;
}

int uuid_cmp(const struct uuid *a, const struct uuid *b)
{
    int order = memcmp(a->byte, b->byte, sizeof a->byte);
    return (order > 0) - (order < 0);
}
