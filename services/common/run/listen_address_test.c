#include "run/listen_address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static void test_host_and_port_are_parted_at_the_last_colon(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *host;
        uint16_t port;
    } good[] = {{"127.0.0.1:4100", "127.0.0.1", 4100},
                {"localhost:0", "localhost", 0},
                {"[::1]:65535", "::1", 65535},
                {"::1:80", "::1", 80}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct err err;
        char host[LISTEN_HOST_BYTES];
        uint16_t port = 1;
        assert_true(listen_address_split(good[i].text, host, &port, &err));
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
    }
}

static void test_what_has_no_host_or_no_port_is_refused(void **state)
{
    (void)state;
    char long_host[LISTEN_HOST_BYTES + 3];
    memset(long_host, 'h', sizeof long_host);
    (void)snprintf(long_host + LISTEN_HOST_BYTES, 3, ":1");
    const char *const bad[] = {"",           "4101",        ":4101",           "localhost",    "[]",
                               "localhost:", "localhost:x", "localhost:65536", "localhost:-1", long_host};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err err;
        char host[LISTEN_HOST_BYTES];
        uint16_t port;
        assert_false(listen_address_split(bad[i], host, &port, &err));
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.text, "give host:port"));
    }
}

static void test_an_address_is_found_by_number_and_by_name(void **state)
{
    (void)state;
    struct err err;
    struct sockaddr_storage found;
    socklen_t len;
    for (int i = 0; i < 2; i++) {
        assert_true(listen_address_find(i == 0 ? "127.0.0.1:4100" : "localhost:4100", &found, &len, &err));
        assert_true(found.ss_family == AF_INET || found.ss_family == AF_INET6);
        assert_int_equal(ntohs(((const struct sockaddr_in *)&found)->sin_port), 4100); /* as IPv6 has it */
    }
    assert_false(listen_address_find("no.such.host.invalid:1", &found, &len, &err));
    assert_int_equal(err.code, ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_and_port_are_parted_at_the_last_colon),
        cmocka_unit_test(test_what_has_no_host_or_no_port_is_refused),
        cmocka_unit_test(test_an_address_is_found_by_number_and_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
