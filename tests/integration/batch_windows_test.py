"""A batch that needs windows which its records do not tell of: it gets them, once, and is applied."""

import uuid

from api_test import fresh
from budget_test import budget, get
from ledger_bench import attributed
from oracle import build
from stack import wait_until


def redrive():
    return {"redrive": {"id": uuid.uuid4().bytes, "at": build.now_us(), "set": None}, "route": "redrive"}


def restart(bench):
    bench.stack.services["ledger"].stop()
    bench.start()


def test_windows_that_a_batch_learns_of_one_by_one_do_not_stop_it(bench, api):
    """Two calls were redriven; of the accounts' windows one is remembered. Better measurements come under the first account."""
    base, first, second = (bench.account() for _ in range(3))
    budgets = [budget(api, "account", account, "10") for account in (first, second)]
    calls = [build.call([], quality="estimated") for _ in range(2)]
    for call, account in zip(calls, (first, second)):
        bench.feeder.bill(attributed(call, base, 500), 0)
        bench.feeder.bill(attributed(call, account, 500, **redrive()), 0)
    bench.settle()
    restart(bench)
    bench.feeder.bill(attributed(build.call([]), second, 1), 0)
    bench.settle()
    for call in calls:
        bench.feeder.bill(attributed({**call, "quality": "final"}, base, 700), 0)
    bench.settle()
    assert [get(api, made)["spent"] for made in budgets] == ["0.0000007", "0.000000701"]
    assert bench.breaches() == []


def test_a_window_that_only_the_calls_own_row_tells_of_is_opened(bench, api):
    """The record that came later says another time: the call stays where it was admitted."""
    account, tag = bench.account(), f"tenant={fresh('t')}"
    made = budget(api, "tag", tag, "10", {"kind": "interval", "seconds": 1})
    wait_until(lambda: build.now_us() % 1_000_000 > 100_000, 5, "some way into a second")
    call = build.call([tag], quality="estimated")
    bench.feeder.bill(attributed(call, account, 500))
    bench.settle()
    restart(bench)
    better = {**call, "source": "proxy_log", "source_id": "x", "quality": "final", "admitted_at": call["admitted_at"] - 2_000_000}
    bench.feeder.bill(attributed(better, account, 700))
    bench.settle()
    assert bench.call(call)["raw_nanos"] == 700
    rows = bench.query("SELECT w.spent_nanos FROM budget_window AS w JOIN budget AS b ON b.id = w.budget WHERE b.budget_id = %s AND w.spent_nanos <> 0",
                       [made["budget_id"]])
    assert [row["spent_nanos"] for row in rows] == [700]
    assert bench.breaches() == []
