#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kafka/client.h"

static bool check_one(const char *pair, struct err *err)
{
    const struct kafka_settings settings = {
        .brokers = "127.0.0.1:1", .properties = &pair, .property_count = 1};
    err_clear(err);
    return kafka_settings_check(&settings, err);
}

static void test_properties_of_librdkafka_are_taken(void **state)
{
    (void)state;
    struct err err;
    assert_true(check_one("security.protocol=SASL_SSL", &err));
    assert_true(check_one(" queue.buffering.max.messages=7", &err));
    assert_true(check_one("sasl.password=a=b", &err)); /* only the first '=' separates */
}

static void test_properties_our_promises_rest_on_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const pairs[] = {
        "acks=1",
        "request.required.acks=0",
        "enable.idempotence=false",
        "message.timeout.ms=1000",
        "delivery.timeout.ms=1000",
        "retries=0",
        "message.send.max.retries=0",
        "max.in.flight=6",
        "max.in.flight.requests.per.connection=6",
        "partitioner=random",
        "enable.auto.commit=true",
        "auto.commit.enable=true",
        "enable.auto.offset.store=true",
        "auto.offset.reset=earliest",
        "isolation.level=read_uncommitted",
        "partition.assignment.strategy=cooperative-sticky",
        "enable.partition.eof=false",
        "allow.auto.create.topics=true",
        "group.id=other",
        "group.instance.id=other",
        "transactional.id=other",
        "bootstrap.servers=elsewhere:9092",
        "metadata.broker.list=elsewhere:9092",
        " acks = 1",
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct err err;
        assert_false(check_one(pairs[i], &err));
        assert_int_equal(err.code, ERR_INVALID);
        assert_int_equal(err.fate, FATE_FATAL);
        struct strview rest;
        struct strview name = sv_trim(sv_cut(sv_of(pairs[i]), '=', &rest));
        char text[64];
        (void)snprintf(text, sizeof text, "property " SV_FMT " cannot be set", SV_ARG(name));
        assert_non_null(strstr(err.text, text));
    }
}

static void test_malformed_properties_are_refused(void **state)
{
    (void)state;
    struct err err;
    assert_false(check_one("acks", &err));
    assert_false(check_one("=x", &err));
    assert_false(check_one("no.such.property=1", &err));
    assert_non_null(strstr(err.text, "no.such.property"));
    assert_false(check_one("linger.ms=soon", &err));
    char name[300];
    memset(name, 'a', sizeof name - 3);
    memcpy(name + sizeof name - 3, "=1", 3);
    assert_false(check_one(name, &err));
}

static void test_no_brokers_are_refused(void **state)
{
    (void)state;
    struct err err;
    const struct kafka_settings none = {0};
    const struct kafka_settings empty = {.brokers = ""};
    assert_false(kafka_settings_check(&none, &err));
    assert_false(kafka_settings_check(&empty, &err));
    assert_int_equal(err.fate, FATE_FATAL);
}

static void test_cloudevents_headers_are_filled_and_a_long_id_is_cut(void **state)
{
    (void)state;
    struct kafka_ce ce;
    char id[KAFKA_CE_ID_BYTES + 8];
    memset(id, 'x', sizeof id);
    kafka_ce_fill(&ce, "spend-ingest/1", "spend.call", (struct strview){id, sizeof id}, 1700000000000001);
    static const char *const names[] = {"ce_id", "ce_source", "ce_type", "ce_time", "ce_specversion"};
    static const char *const values[] = {NULL, "spend-ingest/1", "spend.call", "2023-11-14T22:13:20.000001Z",
                                         "1.0"};
    for (size_t i = 0; i < KAFKA_CE_HEADERS; i++) {
        assert_true(sv_eq(ce.header[i].name, sv_of(names[i])));
        assert_true(i == 0 || sv_eq(ce.header[i].value, sv_of(values[i])));
    }
    assert_int_equal(ce.header[0].value.len, sizeof ce.id - 1);
    kafka_ce_fill(&ce, "s", "t", (struct strview){id, 128 + 512 + 43}, 0); /* of a budget, the longest */
    assert_int_equal(ce.header[0].value.len, 128 + 512 + 43);
    kafka_ce_fill(&ce, "s", "t", SV_NULL, 0);
    assert_int_equal(ce.header[0].value.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_properties_of_librdkafka_are_taken),
        cmocka_unit_test(test_properties_our_promises_rest_on_are_refused_by_name),
        cmocka_unit_test(test_malformed_properties_are_refused),
        cmocka_unit_test(test_no_brokers_are_refused),
        cmocka_unit_test(test_cloudevents_headers_are_filled_and_a_long_id_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
