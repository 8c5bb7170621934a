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
    gate_health_init(&h, "http://ledger", 3600LL * US_PER_SECOND, 1800LL * US_PER_SECOND);
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
    gate_health_init(&h, "http://ledger", 3600LL * US_PER_SECOND, 1800LL * US_PER_SECOND);
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

/* A probe asks for nothing: it may be answered where a call is not. */
static void test_what_only_probes_are_answered_by_is_on_trial(void **state)
{
    (void)state;
    struct gate_health h;
    gate_health_init(&h, "http://ledger", 3600LL * US_PER_SECOND, 1800LL * US_PER_SECOND);
    gate_health_failed(&h, 503, &none);
    gate_health_probed(&h); /* the first answer ever: nothing speaks against it */
    assert_true(!h.away && h.answered_once && meter_value(METER_GATE_AWAY) == 0);
    for (int i = 0; i < 3; i++) {
        gate_health_failed(&h, 503, &none);
        h.failing_us = i == 0 ? h.failing_us - h.wait_us : h.failing_us;
        gate_health_check(&h);
        assert_true(h.away && meter_value(METER_GATE_AWAY) == 1); /* from the second on at once */
        gate_health_probed(&h);
        gate_health_check(&h);
        assert_true(!h.away && meter_value(METER_GATE_AWAY) == 1); /* a call may try */
    }
    h.on_trial_us -= h.trial_us; /* what was asked at its end may still fail */
    gate_health_check(&h);
    assert_true(meter_value(METER_GATE_AWAY) == 1);
    h.on_trial_us -= h.wait_us; /* none has failed for so long */
    gate_health_check(&h);
    assert_true(!h.away && h.on_trial_us == 0 && meter_value(METER_GATE_AWAY) == 0);
    gate_health_failed(&h, 503, &none);
    assert_false(h.away);
    h.failing_us -= h.wait_us;
    gate_health_check(&h);
    gate_health_probed(&h);
    gate_health_answered(&h); /* a call was */
    assert_true(!h.away && h.on_trial_us == 0 && meter_value(METER_GATE_AWAY) == 0);
}

static void test_it_tells_why(void **state)
{
    (void)state;
    struct gate_health h;
    struct err err = {.code = ERR_TIMEOUT};
    gate_health_init(&h, "http://ledger", 0, 0);
    assert_int_equal(h.away_for, METER_GATE_AWAY_UNREACHABLE);
    gate_health_failed(&h, 0, &err);
    assert_int_equal(h.away_for, METER_GATE_AWAY_SLOW);
    err.code = ERR_HTTP;
    gate_health_failed(&h, 0, &err);
    gate_health_waited(&h); /* a call that had to, for that */
    assert_int_equal(h.away_for, METER_GATE_AWAY_UNREACHABLE);
    gate_health_answered(&h);
    gate_health_waited(&h);
    assert_int_equal(h.away_for, METER_GATE_AWAY_SLOW);
}

int main(void)
{
    meter_open();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_that_never_answered_is_away_at_once),
        cmocka_unit_test(test_one_that_answered_is_waited_for_as_long_as_a_call_may_wait),
        cmocka_unit_test(test_what_only_probes_are_answered_by_is_on_trial),
        cmocka_unit_test(test_it_tells_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
