#include "journal/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_known_values(void **state)
{
    (void)state;
    char zeros[32] = {0};
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa);
    assert_int_equal(crc32c(0, "", 0), 0);
}

static void test_instruction_and_table_agree_and_parts_join(void **state)
{
    (void)state;
    char text[257];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7);
    for (size_t len = 0; len <= sizeof text; len++) {
        assert_int_equal(crc32c(5, text, len), crc32c_by_table(5, text, len));
        assert_int_equal(crc32c(crc32c(0, text, len), text + len, sizeof text - len),
                         crc32c(0, text, sizeof text));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_instruction_and_table_agree_and_parts_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
