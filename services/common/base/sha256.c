/*
 * sha256: OpenSSL's plain functions. EVP takes memory for each digest, which costs more than a short one
 * does.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/sha256.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHA256_BLOCK 64

struct sha256 {
    SHA256_CTX context;
};

static void must(bool ok)
{
    if (!ok) {
        (void)fputs("sha256: OpenSSL failed\n", stderr);
        abort();
    }
}

struct sha256 *sha256_new(void)
{
    struct sha256 *s = malloc(sizeof *s);
    must(s != NULL);
    return s;
}

void sha256_free(struct sha256 *s)
{
    free(s);
}

void sha256_begin(struct sha256 *s)
{
    must(SHA256_Init(&s->context) == 1);
}

void sha256_update(struct sha256 *s, const void *ptr, size_t len)
{
    if (len > 0)
        must(SHA256_Update(&s->context, ptr, len) == 1);
}

void sha256_end(struct sha256 *s, uint8_t out[SHA256_LEN])
{
    must(SHA256_Final(out, &s->context) == 1);
}

void sha256_of(struct strview v, uint8_t out[SHA256_LEN])
{
    struct sha256 s;
    sha256_begin(&s);
    sha256_update(&s, v.ptr, v.len);
    sha256_end(&s, out);
}

void sha256_hex_of(struct strview v, char out[SHA256_HEX_LEN + 1])
{
    uint8_t digest[SHA256_LEN];
    sha256_of(v, digest);
    sha256_to_hex(digest, sizeof digest, out);
}

/* One padded key and what follows it. */
static void keyed(const uint8_t *key, uint8_t pad, struct strview text, uint8_t out[SHA256_LEN])
{
    struct sha256 s;
    uint8_t block[SHA256_BLOCK];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = key[i] ^ pad;
    sha256_begin(&s);
    sha256_update(&s, block, sizeof block);
    sha256_update(&s, text.ptr, text.len);
    sha256_end(&s, out);
}

void sha256_hmac(struct strview key, struct strview text, uint8_t out[SHA256_LEN])
{
    uint8_t block[SHA256_BLOCK] = {0};
    uint8_t inner[SHA256_LEN];
    if (key.len > sizeof block)
        sha256_of(key, block);
    else if (key.len > 0)
        memcpy(block, key.ptr, key.len);
    keyed(block, 0x36, text, inner);
    keyed(block, 0x5c, sv_of_bytes(inner, sizeof inner), out);
    OPENSSL_cleanse(block, sizeof block);
}

void sha256_to_hex(const uint8_t *bytes, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 0x0f];
    }
    *out = '\0';
}

bool sha256_from_hex(struct strview hex, uint8_t *out, size_t len)
{
    if (hex.len != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = sv_hex_digit(hex.ptr[2 * i]);
        int low = sv_hex_digit(hex.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool sha256_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}
