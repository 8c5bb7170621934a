#include "ingest/gate_health.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct err none = {0};

static void test_one_that_never_answered_is_away_at_once(void **state)
{
    (void)state;
    struct gate_health h;
    gate_health_init(&h, "http://ledger", 3600LL * US_PER_SECOND);
    gate_health_check(&h);
    assert_false(h.away); /* it was not asked yet */
    gate_health_failed(&h, 401, &none);
    assert_true(h.away);
    assert_int_equal(h.away_for, METER_GATE_AWAY_ERROR);
    gate_health_answered(&h);
    assert_true(!h.away && h.answered_once);
}

static void test_one_that_answered_is_waited_for_as_long_as_a_call_may_wait(void **state)
{
    (void)state;
    struct gate_health h;
    gate_health_init(&h, "http://ledger", 3600LL * US_PER_SECOND);
    gate_health_answered(&h);
    gate_health_failed(&h, 503, &none);
    gate_health_failed(&h, 503, &none);
    assert_false(h.away);
    assert_int_equal(h.away_for, METER_GATE_AWAY_POSTGRES);
    h.failing_us -= h.wait_us; /* so long ago */
    gate_health_check(&h);
    assert_true(h.away);
    gate_health_answered(&h);
    gate_health_check(&h);
    assert_false(h.away);
}

static void test_it_tells_why(void **state)
{
    (void)state;
    struct gate_health h;
    struct err err = {.code = ERR_TIMEOUT};
    gate_health_init(&h, "http://ledger", 0);
    assert_int_equal(h.away_for, METER_GATE_AWAY_UNREACHABLE);
    gate_health_failed(&h, 0, &err);
    assert_int_equal(h.away_for, METER_GATE_AWAY_SLOW);
    err.code = ERR_HTTP;
    gate_health_failed(&h, 0, &err);
    assert_int_equal(h.away_for, METER_GATE_AWAY_UNREACHABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_that_never_answered_is_away_at_once),
        cmocka_unit_test(test_one_that_answered_is_waited_for_as_long_as_a_call_may_wait),
        cmocka_unit_test(test_it_tells_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
