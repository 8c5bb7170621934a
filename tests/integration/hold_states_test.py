"""Every state of a hold under everything that can happen to it; the same at once from many sides; and a ledger that is killed
between any two steps."""

import itertools
import re
import threading
import uuid
from decimal import Decimal

import psycopg
import pytest

from api_test import fresh, put
from budget_test import LIFETIME, budget
from hold_test import COST, amounts, ask, call, capture, end, forced, observe, parts, place, two_held
from ledger_bench import attributed, dead, holding_ledger
from oracle import build
from stack import wait_until

BILL = 700  # nanos
HELD = {"0": Decimal(0), "P": COST, "C": Decimal("0.0002")}  # nothing, as placed, as captured
OPEN = ("placed", "captured")

# answer, row afterwards, what is held afterwards. "twice" is two places in one request; "late" a hold whose time is up.
TABLE = """
         | place               | twice               | forced              | observe             | renew               | capture             | void               | bill        | sweep        | late         | park        | malformed
none     | placed   placed P   | placed   placed P   | placed   placed P   | observed none     0 | unknown  none    0  | voided   voided   0 | voided   voided  0 | - settled 0 | - none     0 | - none     0 | - voided  0 | - voided  0
placed   | placed   placed P   | placed   placed P   | placed   placed P   | observed placed   P | placed   placed  P  | captured captured C | voided   voided  0 | - none    0 | - placed   P | - expired  0 | - voided  0 | - voided  0
forced   | placed   placed P   | placed   placed P   | placed   placed P   | observed placed   P | placed   placed  P  | captured captured C | voided   voided  0 | - none    0 | - placed   P | - expired  0 | - voided  0 | - voided  0
unpriced | placed   placed P   | placed   placed P   | placed   placed P   | observed placed   P | placed   placed  P  | captured captured C | voided   voided  0 | - none    0 | - placed   P | - expired  0 | - voided  0 | - voided  0
captured | captured captured C | captured captured C | captured captured C | observed captured C | captured captured C | captured captured C | voided  voided  0  | - none    0 | - captured C | - captured C | - voided  0 | - voided  0
settled  | settled  settled 0  | settled  settled 0  | settled  settled 0  | observed settled  0 | settled  settled 0  | settled  settled  0 | settled  settled 0 | - none    0 | - settled  0 | - settled  0 | - settled 0 | - settled 0
billed   | settled  none    0  | settled  none    0  | settled  none    0  | observed none     0 | settled  none    0  | settled  none     0 | settled  voided  0 | - none    0 | - none     0 | - none     0 | - voided  0 | - voided  0
voided   | voided   voided  0  | voided   voided  0  | voided   voided  0  | observed voided   0 | voided   voided  0  | voided   voided   0 | voided   voided  0 | - none    0 | - voided   0 | - voided   0 | - voided  0 | - voided  0
refused  | refused  refused 0  | refused  refused 0  | placed   placed  P  | refused  refused  0 | refused  refused 0  | refused  refused  0 | refused  refused 0 | - none    0 | - refused  0 | - refused  0 | - refused 0 | - refused 0
expired  | expired  expired 0  | expired  expired 0  | expired  expired 0  | observed expired  0 | expired  expired 0  | expired  expired  0 | expired  expired 0 | - none    0 | - expired  0 | - expired  0 | - expired 0 | - expired 0
"""
STATES = ("none", "placed", "forced", "unpriced", "captured", "settled", "billed", "voided", "refused", "expired")
OPERATIONS = ("place", "twice", "forced", "observe", "renew", "capture", "void", "bill", "sweep", "late", "park", "malformed")
CELLS = list(itertools.product(STATES, OPERATIONS))


def expected():
    head, *rows = TABLE.strip("\n").split("\n")
    names = [name.strip() for name in head.split("|")[1:]]
    return {(state.strip(), name): tuple(cell.split()) for state, *cells in (row.split("|") for row in rows)
            for name, cell in zip(names, cells, strict=True)}


@pytest.fixture(scope="module")
def bench():
    with holding_ledger() as bench:
        yield bench


def row_of(bench, one):
    rows = bench.query("SELECT state FROM hold WHERE call_id = %s", (one["call_id"],))
    return rows[0]["state"] if rows else "none"


class Cell:
    def __init__(self, bench, state):
        self.bench, self.api = bench, bench.stack.api
        self.account = bench.account()
        self.tags = [f"account_id={self.account}", *(["stop=here"] if state == "refused" else [])]
        self.call = call(self.tags)
        self.record = build.call(self.tags, gate="held", call_id=uuid.UUID(self.call["call_id"]).bytes, model_requested="held")
        self.answer, self.bills = "-", state in ("settled", "billed")

    def bill(self, account=None, raw=BILL):
        self.bench.feeder.bill(attributed(self.record, account or self.account, raw))

    def prepare(self, state):
        if state in ("placed", "unpriced", "captured", "billed", "expired", "refused"):
            place(self.api, self.call)
        if state == "forced":
            place(self.api, forced(self.call))
        if state == "captured":
            capture(self.api, self.call, input=40, output=10)
        if state == "voided":
            end(self.api, "/void", self.call)
        if state == "unpriced":
            self.bench.feeder.letter(dead(self.record, "unpriced", None))
        if self.bills:
            self.bill()

    def operate(self, operation):
        if operation in ("place", "twice", "forced", "observe"):
            one = forced(self.call) if operation == "forced" else self.call
            answers = (observe if operation == "observe" else place)(self.api, *[one] * (2 if operation == "twice" else 1))
            self.answer = answers[0]["state"]
            assert answers == answers[:1] * len(answers)
            assert answers[0]["admitted"] == (operation == "observe" or self.answer in OPEN)
        elif operation in ("renew", "void"):
            (self.answer,) = end(self.api, f"/{operation}", self.call)
        elif operation == "capture":
            self.answer = capture(self.api, self.call, input=40, output=10)
        elif operation == "bill":
            self.bill()
            self.bills = True
        elif operation == "park":
            self.bill("nobody-knows-it")
        elif operation == "malformed":
            self.bench.feeder.malformed(self.record)

    def outcome(self, made):
        status, seen = self.api("GET", f"/v1/budgets/{made['budget_id']}?value={self.account}")
        held = Decimal(self.api("GET", f"/v1/accounts/{self.account}")[1]["held"])
        if status == 404:  # nothing has had that account
            seen = {"held": "0", "spent": "0"}
        assert Decimal(seen["held"]) == held
        assert Decimal(seen["spent"]) == (Decimal(BILL) / 10**9 if self.bills else 0)
        return self.answer, row_of(self.bench, self.call), next(name for name, amount in HELD.items() if amount == held)


def expire(bench, calls):
    """Their time is up, and two sweeps have been since."""
    bench.execute("UPDATE hold SET expires_at = clock_timestamp() - interval '1 second' WHERE call_id = ANY (%s::uuid[])",
                  ([one["call_id"] for one in calls],))
    for _ in range(2):
        (before,) = bench.query("SELECT ran_at FROM hold_sweep_run")
        wait_until(lambda since=before: bench.query("SELECT ran_at FROM hold_sweep_run")[0] != since, 30, "holds were swept")


@pytest.fixture(scope="module")
def walked(bench):
    """{(state, operation): what came of it}, all cells side by side."""
    made = put(bench.stack.api, f"/v1/budgets/{fresh('each')}", scope="account", each="account", limit="100", window=LIFETIME)
    budget(bench.stack.api, "tag", "stop=here", "0")
    cells = {cell: Cell(bench, cell[0]) for cell in CELLS}
    for (state, _), cell in cells.items():
        cell.prepare(state)
    bench.settle()
    expire(bench, [cell.call for (state, _), cell in cells.items() if state == "expired"])
    for (state, _), cell in cells.items():
        assert row_of(bench, cell.call) == {"forced": "placed", "unpriced": "placed", "billed": "none"}.get(state, state)
    for (_, operation), cell in cells.items():
        cell.operate(operation)
    expire(bench, [cell.call for (_, operation), cell in cells.items() if operation == "late"])
    bench.settle()
    assert bench.breaches() == []
    return {name: cell.outcome(made) for name, cell in cells.items()}


def test_the_table_is_whole(bench):
    assert expected().keys() == set(CELLS)
    (row,) = bench.query("SELECT pg_get_constraintdef(oid) AS words FROM pg_constraint WHERE conname = 'hold_state_check'")
    assert set(re.findall(r"'(\w+)'", row["words"])) == set(STATES) - {"none", "forced", "unpriced", "billed"}


@pytest.mark.parametrize(("state", "operation"), CELLS)
def test_a_hold_and_what_happens_to_it(walked, state, operation):
    assert walked[state, operation] == expected()[state, operation]


# -- what others tell of a call

def foreign(record, **fields):
    """What the proxy's own log says of the same call, with --proxy-log=bill."""
    return {**record, "source": "proxy_log", "source_id": "1", "gate": "off", **fields}


def test_what_others_tell_of_a_call_that_goes_on_ends_no_hold(bench, api):
    account, tag = bench.account(), f"tenant={fresh('t')}"
    tags = [f"account_id={account}", tag]
    made, mine = budget(api, "tag", tag, str(COST)), budget(api, "account", account)
    one = call(tags)
    assert place(api, one)[0]["state"] == "placed"
    record = build.call(tags, gate="held", call_id=uuid.UUID(one["call_id"]).bytes, model_requested="held")
    bench.feeder.bill(attributed(foreign(record, outcome="failed", quality="estimated"), account, 0))  # one attempt of several
    bench.settle()
    assert amounts(api, made) == (0, COST) and place(api, call(tags))[0]["state"] == "refused"
    assert end(api, "/renew", one) == ["placed"] and place(api, one)[0]["state"] == "placed"
    bench.feeder.letter(dead(foreign(record, tags=[]), "untagged", 700))  # it is faster than ingest, and was stripped
    bench.settle()
    assert amounts(api, mine)[1] == COST and capture(api, one, input=40, output=10) == "captured"
    bench.feeder.bill(attributed(record, account, 800))
    bench.settle()
    assert amounts(api, made) == amounts(api, mine) == (Decimal("0.0000008"), 0)
    assert parts(api, made) == parts(api, mine) == (800, 0, 0) and place(api, one)[0]["state"] == "settled"
    bench.feeder.bill(attributed({**record, "received_at": record["received_at"] + 1, "outcome": "completed"}, account, 800))
    bench.settle()
    assert parts(api, made) == (800, 0, 0) and bench.breaches() == []


def test_what_only_others_tell_of_ends_a_captured_hold_after_an_hour(bench, api):
    account, made, tags, lost, fresh_one = two_held(bench, api)
    failed = call(tags)
    assert place(api, failed)[0]["state"] == "placed"
    for one, told in ((failed, {"outcome": "failed", "quality": "estimated"}), (lost, {}), (fresh_one, {})):
        capture(api, one, input=40, output=10)
        record = build.call(tags, call_id=uuid.UUID(one["call_id"]).bytes, model_requested="held")
        bench.feeder.bill(attributed(foreign(record, **told), account, 900 if not told else 0))  # the gateway's is lost with its disk
    bench.settle()
    held = amounts(api, made)[1]
    bench.execute("UPDATE hold SET changed_at = clock_timestamp() - interval '61 min' WHERE call_id = ANY (%s::uuid[])",
                  ([failed["call_id"], lost["call_id"]],))
    wait_until(lambda: end(api, "/renew", lost) == ["settled"], 30, "the hold ended")  # in the sweep that has seen the other one
    assert end(api, "/renew", failed, fresh_one) == ["captured"] * 2 and amounts(api, made) == (Decimal("0.0000018"), held * 2 / 3)
    end(api, "/void", failed, fresh_one)
    assert bench.breaches() == []


def test_tombstones_go_as_fast_as_they_came(bench):
    bench.execute("INSERT INTO hold (call_id, state, admitted_at, expires_at, changed_at) SELECT gen_random_uuid(), 'refused', now(), now(),"
                  " now() - interval '61 min' FROM generate_series(1, 150000)")
    wait_until(lambda: bench.query("SELECT count(*) AS n FROM hold WHERE changed_at < now() - interval '61 min'")[0]["n"] == 0, 60, "all are gone")


def test_a_locked_account_keeps_no_other_hold_and_no_window_from_ending(bench, api):
    """Its own holds, however many, end when it is free again."""
    theirs, mine = bench.account(), bench.account()
    stuck, free, lost = [call([f"account_id={theirs}"]) for _ in range(1100)], call([f"account_id={mine}"]), call([f"account_id={theirs}"])
    made = budget(api, "account", mine, window={"kind": "interval", "seconds": 2})
    opened = ("SELECT count(*) AS n FROM budget_window AS w JOIN budget AS b ON b.id = w.budget WHERE b.budget_id = %s", (made["budget_id"],))

    def state(one):
        return bench.query("SELECT state FROM hold WHERE call_id = %s", (one["call_id"],))[0]["state"]
    for at in range(0, len(stuck), 200):
        assert {a["state"] for a in place(api, *stuck[at:at + 200])} == {"placed"}
    assert [a["state"] for a in place(api, free, lost)] == ["placed"] * 2

    def states():
        rows = bench.query("SELECT DISTINCT state FROM hold WHERE call_id = ANY (%s::uuid[])", ([one["call_id"] for one in stuck],))
        return {row["state"] for row in rows}
    capture(api, lost, input=40, output=10)
    record = build.call([f"account_id={theirs}"], call_id=uuid.UUID(lost["call_id"]).bytes, model_requested="held")
    bench.feeder.bill(attributed(foreign(record), theirs, 900))
    bench.settle()
    with psycopg.connect(bench.stack.database_url("postgres"), options="-c search_path=spend") as other:
        other.execute("SELECT FROM balance b JOIN account a ON a.id = b.account_id WHERE a.account_id = %s FOR UPDATE OF b", (theirs,))
        bench.execute("UPDATE hold SET expires_at = now() - CASE call_id WHEN %s THEN 1 ELSE 2 END * interval '1 s'"
                      " WHERE call_id = ANY (%s::uuid[])", (free["call_id"], [one["call_id"] for one in (*stuck, free)]))
        bench.execute("UPDATE hold SET changed_at = now() - interval '61 min' WHERE call_id = %s", (lost["call_id"],))
        wait_until(lambda: state(free) == "expired", 30, "the other one expired")
        before = bench.query(*opened)[0]["n"]
        wait_until(lambda: bench.query(*opened)[0]["n"] >= before + 2, 30, "its windows go on")
        assert states() == {"placed"} and state(lost) == "captured" and bench.stack.services["ledger"].ready()
        other.rollback()
    wait_until(lambda: states() == {"expired"} and state(lost) == "settled", 30, "they ended too")
    assert bench.breaches() == []


def test_who_has_a_row_for_long_is_waited_for_once_a_second_and_not_by_each(bench, api):
    mine, asked = bench.account(), 10
    one = call([f"account_id={mine}"])
    before = bench.stack.long_waits()
    with psycopg.connect(bench.stack.database_url("postgres"), options="-c search_path=spend") as other:
        other.execute("SELECT FROM balance b JOIN account a ON a.id = b.account_id WHERE a.account_id = %s FOR UPDATE OF b", (mine,))
        for _ in range(asked):
            assert place(api, one)[0]["state"] == "busy"
        other.rollback()
    assert 1 <= bench.stack.long_waits() - before <= asked / 2
    assert place(api, one)[0]["state"] == "placed" and end(api, "/void", one) == ["voided"]


def test_what_somebody_else_has_locked_is_busy_and_the_rest_is_decided(bench, api):
    mine, theirs, tag = bench.account(), bench.account(), f"tenant={fresh('t')}"
    budgets = [budget(api, "account", mine), budget(api, "account", theirs), budget(api, "tag", tag)]
    calls = [call([f"account_id={mine}"]), call([f"account_id={theirs}"]), call([tag]), call([f"account_id={mine}", tag])]
    place(api, *(call([f"account_id={account}"], size=0, tokens=0) for account in (mine, theirs)), call([tag], size=0, tokens=0))
    window = ("SELECT FROM budget_window w JOIN budget b ON b.id = w.budget WHERE b.budget_id = %s FOR UPDATE OF w", (budgets[2]["budget_id"],))
    balance = ("SELECT FROM balance b JOIN account a ON a.id = b.account_id WHERE a.account_id = %s FOR UPDATE OF b", (theirs,))
    for locks, want in (((balance,), ["placed", "busy", "placed", "placed"]), ((window,), ["placed", "placed", "busy", "busy"]),
                        ((balance, window), ["placed", "busy", "busy", "busy"])):
        with psycopg.connect(bench.stack.database_url("postgres"), options="-c search_path=spend") as other:
            for sql, args in locks:
                other.execute(sql, args)
            answers = place(api, *calls)
            assert [a["state"] for a in answers] == want and [a["admitted"] for a in answers] == [s == "placed" for s in want]
            assert place(api, calls[0])[0] == answers[0]  # its answer stands; the others' is still to come
            other.rollback()
        assert [a["state"] for a in place(api, *calls)] == ["placed"] * 4
        assert [amounts(api, made)[1] for made in budgets] == [2 * COST, COST, 2 * COST]
        end(api, "/void", *calls)
        calls = [{**one, "call_id": str(uuid.uuid4())} for one in calls]
    assert bench.breaches() == []


def test_a_call_that_others_told_of_can_still_be_held(bench, api):
    account, tag = bench.account(), f"tenant={fresh('t')}"
    tags = [f"account_id={account}", tag]
    made = budget(api, "tag", tag)
    one = call(tags)
    record = build.call(tags, gate="forced", call_id=uuid.UUID(one["call_id"]).bytes, model_requested="held")
    bench.feeder.bill(attributed(foreign(record), account, 600))
    bench.settle()
    assert parts(api, made) == (600, 600, 0)
    assert place(api, forced(one))[0]["state"] == "placed"
    bench.feeder.bill(attributed(record, account, 600))
    bench.settle()
    assert parts(api, made) == (600, 0, 600) and amounts(api, made)[1] == 0 and bench.breaches() == []


@pytest.mark.parametrize("order", ["gateway first", "others first", "at once"])
def test_what_was_forced_is_away_whoever_prices_it(bench, api, order):
    account, tag = bench.account(), f"tenant={fresh('t')}"
    tags = [f"account_id={account}", tag]
    made = budget(api, "tag", tag)
    record = build.call(tags, gate="forced", model_requested="nobody-prices-it", quality="estimated")
    jobs = [lambda: bench.feeder.letter(dead(record, "unpriced", None)), lambda: bench.feeder.bill(attributed(foreign(record, quality="final"), account, 500))]
    for job in jobs if order != "others first" else reversed(jobs):
        job()
        if order != "at once":
            bench.settle()
    bench.settle()
    assert parts(api, made) == (500, 0, 500)


# -- the same at once

def at_once(*jobs):
    failures = []

    def run(job):
        try:
            job()
        except Exception as error:  # noqa: BLE001: told by the main thread
            failures.append(error)
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def no_hold_of_a_billed_call(bench):
    return bench.query("SELECT count(*) AS n FROM hold h JOIN call c USING (call_id) WHERE h.state IN ('placed', 'captured')"
                       " AND c.raw_nanos IS NOT NULL")[0]["n"] == 0


@pytest.mark.parametrize("late", [False, True])
def test_one_call_placed_by_many_at_once_is_held_once(bench, api, late):
    account = bench.account()
    made = budget(api, "account", account)
    calls = [call([f"account_id={account}"]) for _ in range(20)]
    if late:
        place(api, *calls)
    seen = []
    at_once(*[lambda: seen.append(place(api, *calls)) for _ in range(8)])
    assert all(answers == seen[0] for answers in seen) and {a["state"] for a in seen[0]} == {"placed"}
    assert Decimal(api("GET", f"/v1/budgets/{made['budget_id']}")[1]["held"]) == 20 * COST
    end(api, "/void", *calls)
    assert bench.breaches() == []


def test_bills_places_captures_and_voids_of_the_same_calls_at_once(bench, api):
    bench.stack.ledger("second").start(env={"SPEND_WINDOW_TICK": "1s"})
    account = bench.account()
    made = budget(api, "account", account)
    tags = [f"account_id={account}"]

    def to_ledger(name):
        return lambda method, path, body=None, token="operator": bench.stack.api(method, path, body, token, name)
    for _ in range(8):
        calls = [call(tags) for _ in range(60)]
        voided = calls[40:]

        def bills(calls=calls):
            for one in calls[:40]:
                record = build.call(tags, gate="held", call_id=uuid.UUID(one["call_id"]).bytes, model_requested="held")
                bench.feeder.bill(attributed(record, account, BILL))
            bench.feeder.flush()

        def places(name, order, calls=calls):
            for at in order:
                place(to_ledger(name), *[forced(c) if name == "second" else c for c in calls[at:at + 10]])

        def captures(calls=calls):
            for at in range(0, 40, 20):
                ask(api, "/capture", [{"call_id": c["call_id"], "operation": "chat", "outcome": "completed", "model": "held",
                                       "usage": {"input": 40, "output": 10}} for c in calls[at:at + 20]])

        def ends(voided=voided, calls=calls):
            end(to_ledger("second"), "/renew", *calls)
            end(to_ledger("second"), "/void", *voided)
        at_once(bills, lambda: places("ledger", range(0, 60, 10)), lambda: places("second", range(50, -10, -10)), captures, ends)
        assert bench.breaches() == []
        bench.settle()
        assert no_hold_of_a_billed_call(bench)
        states = {row_of(bench, one) for one in voided}
        assert states == {"voided"}, states
    seen = api("GET", f"/v1/budgets/{made['budget_id']}")[1]
    assert (Decimal(seen["spent"]), seen["held"]) == (Decimal(8 * 40 * BILL) / 10**9, "0")
    assert bench.stack.deadlocks() == 0
    bench.stack.services["second"].stop()


# -- killed between any two steps

STEPS = ("place", "capture", "bill")


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_ledger_killed_between_any_two_steps_leaves_nothing_held(bench, api, forgotten):
    """forgotten: ingest dies with it, and only what lies in Kafka goes on."""
    account = bench.account()
    made = budget(api, "account", account)
    tags = [f"account_id={account}"]
    calls = {cut: call(tags) for cut in range(len(STEPS) + 1)}

    def step(name, one):
        if name == "place":
            assert place(api, one)[0]["admitted"]
        elif name == "capture":
            assert capture(api, one, input=40, output=10) == "captured"
        else:
            record = build.call(tags, gate="held", call_id=uuid.UUID(one["call_id"]).bytes, model_requested="held")
            bench.feeder.bill(attributed(record, account, BILL))
            bench.feeder.flush()
    for cut, one in calls.items():
        for name in STEPS[:cut]:
            step(name, one)
    under_way = [call(tags) for _ in range(200)]
    done = []

    def places():
        for at in range(0, 200, 5):
            try:
                done.append(place(api, *under_way[at:at + 5]))
            except (OSError, AssertionError):
                return
    threads = [threading.Thread(target=places) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(done) >= 4, 30, "it is in the middle of it")
    bench.stack.services["ledger"].kill()
    for thread in threads:
        thread.join()
    assert bench.breaches() == []
    bench.start(SPEND_WINDOW_TICK="1s")
    for cut, one in calls.items():
        for name in STEPS[cut:] if not forgotten else ("bill",) if cut == 2 else ():
            step(name, one)
    bench.settle()
    assert no_hold_of_a_billed_call(bench)
    expire(bench, [*calls.values(), *under_way])
    assert bench.breaches() == []
    billed = len(calls) if not forgotten else 2
    seen = api("GET", f"/v1/budgets/{made['budget_id']}")[1]
    assert (Decimal(seen["spent"]), seen["held"]) == (Decimal(billed * BILL) / 10**9, "0")
    assert api("GET", f"/v1/accounts/{account}")[1]["held"] == "0"
