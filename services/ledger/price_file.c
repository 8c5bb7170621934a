#include "price_file.h"

/* PRICE_FILE_PATH comes from the build; the object depends on the file. */
__asm__(".section .rodata\n"
        "price_file_begin: .incbin \"" PRICE_FILE_PATH "\"\n"
        "price_file_end: .byte 0\n"
        ".previous\n");

extern const char price_file_begin[];
extern const char price_file_end[];

struct strview price_file(void)
{
    return (struct strview){price_file_begin, (size_t)(price_file_end - price_file_begin)};
}
