/*
 * crc32c: CRC-32C (Castagnoli), by SSE 4.2 where the processor has it. Pure.
 */
#ifndef SPEND_JOURNAL_CRC32C_H
#define SPEND_JOURNAL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc` (0 to begin): crc32c(crc32c(0, a), b) is that of a and b together. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);
/* The same by table, for processors without the instruction and for tests. */
uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t len);

#endif
