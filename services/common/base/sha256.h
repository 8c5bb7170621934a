/*
 * sha256: OpenSSL's SHA-256 and HMAC-SHA-256 behind four calls. Aborts if OpenSSL fails: it cannot, short of
 * a bug.
 */
#ifndef SPEND_BASE_SHA256_H
#define SPEND_BASE_SHA256_H

#include "base/strview.h"

#define SHA256_LEN     32
#define SHA256_HEX_LEN 64

struct sha256;

struct sha256 *sha256_new(void); /* one per thread, reused; aborts out of memory */
void sha256_free(struct sha256 *s);
void sha256_begin(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *ptr, size_t len);
void sha256_end(struct sha256 *s, uint8_t out[SHA256_LEN]);

void sha256_of(struct strview v, uint8_t out[SHA256_LEN]);
void sha256_hex_of(struct strview v, char out[SHA256_HEX_LEN + 1]);
void sha256_hmac(struct strview key, struct strview text, uint8_t out[SHA256_LEN]);
void sha256_to_hex(const uint8_t *bytes, size_t len, char *out);    /* lower case, NUL: 2 x len + 1 bytes */
bool sha256_from_hex(struct strview hex, uint8_t *out, size_t len); /* exactly 2 x len digits, either case */
bool sha256_equal(const uint8_t *a, const uint8_t *b, size_t len);  /* constant time */

#endif
