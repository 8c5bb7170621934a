#include "base/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_known_digests(void **state)
{
    (void)state;
    char hex[SHA256_HEX_LEN + 1];
    sha256_hex_of(sv_of(""), hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_hex_of(SV_NULL, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_hex_of(sv_of("abc"), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_a_context_is_used_again_and_again(void **state)
{
    (void)state;
    struct sha256 *s = sha256_new();
    for (int round = 0; round < 3; round++) {
        uint8_t parts[SHA256_LEN];
        uint8_t whole[SHA256_LEN];
        sha256_begin(s);
        sha256_update(s, "a", 1);
        sha256_update(s, NULL, 0);
        sha256_update(s, "bc", 2);
        sha256_end(s, parts);
        sha256_of(sv_of("abc"), whole);
        assert_true(sha256_equal(parts, whole, sizeof whole));
    }
    sha256_begin(s); /* begun, left, begun again */
    sha256_update(s, "junk", 4);
    sha256_begin(s);
    uint8_t empty[SHA256_LEN];
    uint8_t want[SHA256_LEN];
    sha256_end(s, empty);
    sha256_of(sv_of(""), want);
    assert_true(sha256_equal(empty, want, sizeof want));
    sha256_free(s);
    sha256_free(NULL);
}

static void test_hmac_of_rfc_4231(void **state)
{
    (void)state;
    uint8_t mac[SHA256_LEN];
    char hex[SHA256_HEX_LEN + 1];
    sha256_hmac(sv_of("Jefe"), sv_of("what do ya want for nothing?"), mac);
    sha256_to_hex(mac, sizeof mac, hex);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    char key[131]; /* longer than a block */
    memset(key, 0xaa, sizeof key);
    sha256_hmac(sv_of_bytes(key, sizeof key), sv_of("Test Using Larger Than Block-Size Key - Hash Key First"),
                mac);
    sha256_to_hex(mac, sizeof mac, hex);
    assert_string_equal(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    sha256_hmac(SV_NULL, SV_NULL, mac);
    sha256_to_hex(mac, sizeof mac, hex);
    assert_string_equal(hex, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void test_hex_both_ways(void **state)
{
    (void)state;
    uint8_t bytes[3];
    char hex[7];
    assert_true(sha256_from_hex(sv_of("00aFf9"), bytes, 3));
    sha256_to_hex(bytes, 3, hex);
    assert_string_equal(hex, "00aff9");
    assert_false(sha256_from_hex(sv_of("00aff"), bytes, 3));
    assert_false(sha256_from_hex(sv_of("00aff90"), bytes, 3));
    assert_false(sha256_from_hex(sv_of("00af g"), bytes, 3));
    assert_false(sha256_from_hex(sv_of("g0aff9"), bytes, 3));
    assert_true(sha256_from_hex(SV_NULL, bytes, 0));
}

static void test_equal_looks_at_every_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHA256_LEN; i++) {
        uint8_t a[SHA256_LEN] = {0};
        uint8_t b[SHA256_LEN] = {0};
        assert_true(sha256_equal(a, b, sizeof a));
        b[i] = 1;
        assert_false(sha256_equal(a, b, sizeof a));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_digests),
        cmocka_unit_test(test_a_context_is_used_again_and_again),
        cmocka_unit_test(test_hmac_of_rfc_4231),
        cmocka_unit_test(test_hex_both_ways),
        cmocka_unit_test(test_equal_looks_at_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
