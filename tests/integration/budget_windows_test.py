"""S4, a reset forgotten: three windows in a row for every scope kind end by themselves, one reset row a window, with a ledger killed
across the boundary, with two ledgers of which one is an hour ahead, with and without calls."""

import os
import subprocess
from datetime import datetime, timedelta, timezone

import pytest

from api_test import fresh, put
from ledger_bench import attributed, key_hash, running_ledger
from oracle import build
from stack import ROOT, wait_until

SECONDS = 6
WINDOWS = 3
USD = 1_000_000_000


@pytest.fixture(scope="module", name="shifted")
def fixture_shifted(tmp_path_factory):
    """The environment of a process that is an hour ahead of everybody."""
    library = tmp_path_factory.mktemp("clock") / "shifted_clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, ROOT / "tests/integration/shifted_clock.c"], check=True)
    # sanitizers want to be the first library, unless told that this one may be
    return {"LD_PRELOAD": str(library), "SHIFT_S": "3600",
            "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0"}


def utc(bench):
    return bench.query("SELECT clock_timestamp() AS now")[0]["now"]


def await_time(bench, when):
    wait_until(lambda: utc(bench) >= when, 60, f"{when}", every_s=0.1)


def make(bench, name, idle):
    """A budget of every scope kind on one made-up call; idle ones are about calls that never come."""
    tag = f"tenant={name}"
    values = {"key": key_hash(name), "user": f"u-{name}", "team": f"t-{name}", "account": bench.account(), "task": f"j-{name}",
              "conversation": f"c-{name}", "tag": tag, "model": f"m-{name}"}
    anchor = utc(bench) + timedelta(seconds=2)
    window = {"kind": "interval", "seconds": SECONDS, "anchor": anchor.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    for scope, value in values.items():
        put(bench.stack.api, f"/v1/budgets/{name}-{scope}", scope=scope, value=value, limit="100", window=window)

    def bill(dollars):
        call = build.call([tag], key_hash=values["key"], model_requested=values["model"])
        bench.feeder.bill(attributed(call, values["account"], dollars * USD, user=values["user"], team=values["team"],
                                     task_id=values["task"], conversation_id=values["conversation"]))
    return anchor, (lambda _: None) if idle else bill


def rows(bench, name):
    """{scope: [(start, spent)]} of the windows from the anchor on, and how many resets each has."""
    found = bench.query("SELECT r.scope, w.window_start AS start, w.window_end AS finish, w.spent_nanos, (SELECT count(*) FROM budget_reset x"
                        " WHERE x.opened = w.id) AS resets FROM budget b JOIN budget_revision r ON r.budget = b.id JOIN budget_window w"
                        " ON w.budget = b.id WHERE b.budget_id LIKE %s ORDER BY r.scope, w.window_start", (name + "-%",))
    out = {}
    for row in found:
        out.setdefault(row["scope"], []).append(row)
    return out


def check(bench, name, anchor, spent):
    """Every scope has one row a window, ended where the next begins, one reset row each, and spent what it should."""
    by_scope = rows(bench, name)
    assert len(by_scope) == 8
    for scope, windows in by_scope.items():
        assert [w["resets"] for w in windows] == [0] + [1] * (len(windows) - 1), (scope, windows)
        assert all(left["finish"] == right["start"] for left, right in zip(windows, windows[1:])), scope
        own = [w for w in windows if w["start"] >= anchor]
        assert [w["start"] for w in own[:WINDOWS]] == [anchor + timedelta(seconds=SECONDS * i) for i in range(WINDOWS)], scope
        assert [w["spent_nanos"] for w in own[:WINDOWS]] == [s * USD for s in spent], (scope, own)


def live(bench, name, at_boundary, spent=(1, 2, 4)):
    anchor, bill = make(bench, name, idle=not any(spent))
    for number, dollars in enumerate(spent):
        await_time(bench, anchor + timedelta(seconds=SECONDS * number + 0.5))
        bill(dollars)
        bench.feeder.flush()
        await_time(bench, anchor + timedelta(seconds=SECONDS * (number + 1) - 1))
        at_boundary(number)
    end = anchor + timedelta(seconds=SECONDS * WINDOWS)
    wait_until(lambda: all(w[-1]["start"] >= end for w in rows(bench, name).values()), 60, "the windows after the last")
    bench.settle()
    check(bench, name, anchor, spent)


@pytest.fixture(scope="module", name="fast")
def fixture_fast():
    with running_ledger() as bench:
        for service in bench.stack.services.values():
            service.stop()
        bench.start(SPEND_WINDOW_TICK="1s")
        yield bench


def test_idle_budgets_are_reset_by_the_clock_alone(fast):
    live(fast, fresh("idle"), lambda _: None, (0, 0, 0))


def test_a_ledger_killed_across_the_boundary(fast):
    def kill(number):
        ledger = fast.stack.services["ledger"]
        ledger.kill()
        await_time(fast, utc(fast) + timedelta(seconds=2))
        ledger.start()
    live(fast, fresh("killed"), kill)


def test_two_ledgers_of_which_one_is_an_hour_ahead(fast, shifted):
    ahead = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("ts=%Y-%m-%dT%H:%M")
    other = fast.stack.ledger("ahead").start(env={"SPEND_WINDOW_TICK": "1s", **shifted})
    live(fast, fresh("two"), lambda number: (fast.stack.services["ledger"].kill(), fast.stack.services["ledger"].start())
         if number == 1 else None)
    assert ahead[:-1] in other.log(), other.log_tail()
    other.stop()
