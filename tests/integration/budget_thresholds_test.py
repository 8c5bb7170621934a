"""Thresholds of budgets: each is marked once in a window, by what moves its spend or its limit, and stays so."""

import threading

import psycopg
import pytest

from api_test import fresh, put
from budget_test import LIFETIME, USD, budget, get
from ledger_bench import attributed
from oracle import build
from stack import wait_until

METRIC = "spend_ledger_budget_thresholds_total"


@pytest.fixture(name="spend")
def fixture_spend(bench):
    """Bills one call of a tag, or another measurement of one."""
    account = bench.account()

    def run(tag, dollars, record=None, **fields):
        record = {**(record or build.call([tag])), **fields}
        bench.feeder.bill(attributed(record, account, int(dollars * USD)))
        bench.settle()
        return record
    return run


def crossed(bench, made):
    """Of each of its windows, oldest first."""
    rows = bench.query("SELECT w.thresholds_crossed FROM budget_window w JOIN budget b ON b.id = w.budget WHERE b.budget_id = %s"
                       " ORDER BY w.revision, w.window_start", (made["budget_id"],))
    return [row["thresholds_crossed"] for row in rows]


def counted(bench):
    return sum(service.metrics().get(METRIC, 0) for service in bench.stack.services.values() if service.alive)


def change(api, made, **more):
    body = {key: made[key] for key in ("scope", "value", "limit", "thresholds", "measure", "mode")}
    return put(api, f"/v1/budgets/{made['budget_id']}", **{**body, "window": LIFETIME, **more})


def test_each_is_crossed_where_it_is_reached_and_once(bench, api, spend):
    tag, before = f"tenant={fresh('t')}", counted(bench)
    made = budget(api, "tag", tag, "10")
    assert made["threshold_crossed"] is None
    for dollars, want in ((4.999999999, []), (0.000000001, [50]), (2, [50]), (1, [50, 80]), (5, [50, 80, 100]), (50, [50, 80, 100])):
        spend(tag, dollars)
        assert crossed(bench, made) == [want]
        assert get(api, made)["threshold_crossed"] == (want[-1] if want else None)
    assert counted(bench) - before == 3


def test_it_stays_crossed_over_corrections_and_limits_until_the_window_ends(bench, api, spend):
    tag, before = f"tenant={fresh('t')}", counted(bench)
    made = budget(api, "tag", tag, "10")
    one = spend(tag, 8, quality="estimated")
    one = spend(tag, 1, one, quality="partial")
    assert (get(api, made)["spent"], crossed(bench, made)) == ("1", [[50, 80]])
    spend(tag, 9, one, quality="final")
    assert crossed(bench, made) == [[50, 80]] and counted(bench) - before == 2
    change(api, made, limit="1000")
    change(api, made, limit=None)
    assert crossed(bench, made) == [[50, 80]]
    change(api, made, limit="9")
    assert crossed(bench, made) == [[50, 80, 100]] and counted(bench) - before == 3
    change(api, made, limit="9", thresholds=[25, 100, 110])
    assert crossed(bench, made) == [[25, 50, 80, 100]] and get(api, made)["threshold_crossed"] == 100
    change(api, made, limit="10", thresholds=[50, 130])
    assert api("POST", f"/v1/budgets/{made['budget_id']}/reset", {"reason": "a test"})[0] == 200
    assert get(api, made)["threshold_crossed"] is None
    spend(tag, 6)
    assert crossed(bench, made) == [[25, 50, 80, 100], [50]] and counted(bench) - before == 5
    # what comes late for the window that is over is marked there
    spend(tag, 4, build.call([tag], at=one["admitted_at"] + 1))
    assert crossed(bench, made) == [[25, 50, 80, 100, 130], [50]] and get(api, made)["threshold_crossed"] == 50


@pytest.mark.parametrize(("limit", "mode", "want"), [(None, "hard", []), ("0", "shadow", [50, 80, 100])])
def test_without_a_limit_none_is_crossed_and_of_nothing_each_by_anything(bench, api, spend, limit, mode, want):
    tag = f"tenant={fresh('t')}"
    made = budget(api, "tag", tag, limit, mode=mode)
    spend(tag, 0)
    assert crossed(bench, made) == [[]]
    spend(tag, 0.000000001)
    assert crossed(bench, made) == [want]


def test_the_largest_amounts_are_compared_exactly(bench, api, spend):
    tag = f"tenant={fresh('t')}"
    made = budget(api, "tag", tag, "9000000000", thresholds=[99, 100])
    spend(tag, 8_909_999_999)
    assert crossed(bench, made) == [[]]
    spend(tag, 1)
    assert crossed(bench, made) == [[99]]


def test_two_ledgers_cross_each_once(bench, api):
    bench.start("second")
    accounts = [bench.account() for _ in range(8)]
    tag, before = f"tenant={fresh('t')}", counted(bench)
    made = budget(api, "tag", tag, "4", thresholds=[10, 20, 30, 40, 50, 60, 70, 80, 90, 100])
    for n in range(400):
        bench.feeder.bill(attributed(build.call([tag]), accounts[n % 8], USD // 100), partition=n % 12)
    bench.settle()
    assert get(api, made)["spent"] == "4" and crossed(bench, made) == [made["thresholds"]]
    assert counted(bench) - before == 10
    bench.stack.services["second"].stop()


def test_a_limit_that_is_lowered_while_a_call_is_charged_marks_what_both_come_to(bench, api):
    """The charge has seen the old limit, and the change does not see what was not committed: it waits."""
    tag = f"tenant={fresh('t')}"
    made = budget(api, "tag", tag, "10")
    (row,) = bench.query("SELECT w.id FROM budget_window w JOIN budget b ON b.id = w.budget WHERE b.budget_id = %s", (made["budget_id"],))
    lowered = threading.Thread(target=change, args=(api, made), kwargs={"limit": "5"})
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT budget_tell%%'"
    with psycopg.connect(bench.stack.database_url("spend_owner"), options="-c search_path=spend") as charge:
        charge.execute("SELECT window_charge(ARRAY[%s], ARRAY[%s], ARRAY[0], ARRAY[0], ARRAY[0], ARRAY[now()])", (row["id"], 4 * USD))
        assert charge.execute("SELECT window_mark(ARRAY[%s])", (row["id"],)).fetchone() == (0,)
        lowered.start()
        wait_until(lambda: bench.query(waits), 30, "the change waits")
        charge.commit()
    lowered.join()
    assert crossed(bench, made) == [[50, 80]]
    bench.execute("UPDATE budget_window SET spent_nanos = 0 WHERE id = %s", (row["id"],), role="spend_owner")  # no call's
