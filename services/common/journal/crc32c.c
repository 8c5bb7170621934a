/*
 * crc32c: the instruction takes 8 bytes a step; the table one.
 */
#include "journal/crc32c.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78U /* reflected */

static uint32_t table[256];

static void table_fill(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1U) != 0 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
        table[n] = crc;
    }
}

uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t len)
{
    if (table[1] == 0)
        table_fill();
    const uint8_t *at = bytes;
    crc = ~crc;
    for (size_t i = 0; i < len; i++)
        crc = (crc >> 8) ^ table[(crc ^ at[i]) & 0xffU];
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t len)
{
    uint64_t wide = ~crc;
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    uint32_t narrow = (uint32_t)wide;
    for (; len > 0; at++, len--)
        narrow = __builtin_ia32_crc32qi(narrow, *at);
    return ~narrow;
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t len)
{
    if (__builtin_cpu_supports("sse4.2"))
        return by_instruction(crc, bytes, len);
    return crc32c_by_table(crc, bytes, len);
}
#else
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len)
{
    return crc32c_by_table(crc, bytes, len);
}
#endif
