"""spend.budgets: the newest window of each value of a budget, as the publisher finds it when a window has changed."""

import contextlib
import itertools
import os
import random
import signal
import threading
import uuid
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from api_test import at, fresh, put
from budget_test import LIFETIME, MONTH, USD, get
from hold_test import call, capture, end, place, settled
from ledger_bench import attributed, holding_ledger
from oracle import avro, build, money
from oracle.kafka import Tail
from stack import wait_until

TOPIC = "spend.budgets"
DAY = 86_400_000_000
STEP = 10  # every change here adds so much to what a window has spent
PUBLISHER_LOCK = 8318260036551835651


class Budgets:
    """Budgets and changes of their windows as SQL, and what is told of them."""

    def __init__(self, bench):
        self.bench = bench
        self.tail = Tail(bench.stack.brokers, (TOPIC,))
        self.made = []

    def query(self, sql, *args):
        return self.bench.query(sql, args, role="spend_owner")

    def make(self, name=None, limit=5_000_000_000, hard=True, **revision):
        """A budget of one value whose windows are days that are half over, so that none ends in a test; (id, budget_id)."""
        name = name or f"budget-{uuid.uuid4().hex[:8]}"
        (row,) = self.query("INSERT INTO budget (budget_id, revision, limit_nanos, hard, thresholds, created_at, changed_at,"
                            " config_version) VALUES (%s, 1, %s, %s, '{50}', now(), now(), 1) RETURNING id", name, limit, hard)
        self.revise(row["id"], 1, **revision)
        self.made.append(name)
        return row["id"], name

    def revise(self, budget, number, scope="tag", value="tenant:acme", each=None, measure="raw", window="interval", period=None,
               seconds=DAY // 1_000_000):
        self.query("INSERT INTO budget_revision (budget, revision, effective_from, scope, value, each, measure, window_kind, period,"
                   " seconds, anchor) VALUES (%s, %s, '2020-01-01', %s, %s, %s, %s, %s, %s, %s, now() - make_interval(secs => %s))"
                   " RETURNING 1", budget, number, scope, value, each, measure, window, period,
                   seconds if window == "interval" else None, 1000 * DAY // 1_000_000 + seconds / 2)
        self.query("UPDATE budget SET revision = %s WHERE id = %s RETURNING 1", number, budget)

    def open(self, budget, value="tenant:acme", days=0, revision=1, most=100):
        """The window of so many days from now; that it is the newest now is published, too, with n 0."""
        (row,) = self.query("SELECT id FROM window_open(%s, %s, %s, now() + make_interval(days => %s), %s)",
                            budget, revision, value, days, most)
        return row["id"]

    def change(self, *rows, spent=STEP, held=0):
        """Each row of the outbox names some windows, which change; all of it in one transaction, as a batch does it."""
        with psycopg.connect(self.bench.stack.database_url("spend_owner"), options="-c search_path=spend") as db:
            for row in rows:
                db.execute("UPDATE budget_window SET spent_nanos = spent_nanos + %s, held_nanos = held_nanos + %s,"
                           " version = version + 1 WHERE id = ANY (%s)", (spent, held, list(row)))
                db.execute("INSERT INTO outbox (windows) VALUES (%s)", (list(row),))

    def window(self, number):
        (row,) = self.query("SELECT (extract(epoch FROM window_start) * 1000000)::bigint AS window_start, CASE WHEN window_end"
                            " < 'infinity' THEN (extract(epoch FROM window_end) * 1000000)::bigint END AS window_end, version,"
                            " spent_nanos, held_nanos FROM budget_window WHERE id = %s", number)
        return row

    def publish(self):
        wait_until(lambda: not self.query("SELECT 1 FROM outbox LIMIT 1"), 30, "outbox published")

    def records(self, name):
        """Of one budget, in order, once the outbox is empty."""
        self.publish()
        self.tail.refresh()
        return [r for r in self.tail.records[TOPIC] if r.key.startswith(name.encode() + b"\x1f")]

    def states(self, name):
        """Of its windows that have changed since they were opened."""
        return [state for state in (avro.BUDGET.decode(r.value) for r in self.records(name)) if state["n"] > 0]

    def published(self, service="ledger"):
        """How many states this ledger says it has published."""
        return self.bench.stack.services[service].metrics()['spend_ledger_published_total{kind="budget"}']

    def publish_more(self, service):
        """While windows change all the time: waits until this ledger has published some more states."""
        before = self.published(service)
        wait_until(lambda: self.published(service) >= before + 5, 30, f"more states published by {service}")


@pytest.fixture(scope="module")
def bench():
    with holding_ledger() as bench:
        yield bench


@pytest.fixture(scope="module")
def budgets(bench):
    made = Budgets(bench)
    breaches = bench.breaches  # but for what no call has spent
    bench.breaches = lambda: [b for b in breaches() if not any(b.startswith(f"budget {name} ") for name in made.made)]
    yield made
    made.tail.close()


def test_a_state_says_what_its_window_is_and_has(budgets):
    kinds = (
        dict(scope="tag", value="tenant:acme", window="calendar", period="year"),
        dict(scope="account", value="acme", window="lifetime", hard=False, limit=None, measure="billed"),
        dict(scope="model", value="a model", limit=0, window="interval", seconds=3600),
        dict(scope="task", value="\u00e9" * 256, name="b" * 128))
    before = build.now_us()
    made = [budgets.make(**kind) for kind in kinds]
    windows = [budgets.open(budget, kind["value"]) for (budget, _), kind in zip(made, kinds, strict=True)]
    budgets.publish()
    budgets.change(windows, spent=123, held=45)
    for kind, (_, name), window in zip(kinds, made, windows, strict=True):
        *_, record = budgets.records(name)
        row = budgets.window(window)
        state = avro.BUDGET.decode(record.value)
        assert state == {
            "budget_id": name, "scope": kind["scope"], "value": kind["value"], "revision": 1,
            "window_start": row["window_start"], "window_end": row["window_end"], "n": 1,
            "limit_nanos": kind.get("limit", 5_000_000_000), "measure": kind.get("measure", "raw"),
            "mode": "hard" if kind.get("hard", True) else "shadow", "spent_nanos": 123, "held_nanos": 45, "threshold_crossed": None}
        assert state["window_start"] <= before
        assert state["window_end"] is None if kind.get("window") == "lifetime" else before < state["window_end"] <= before + 366 * DAY
        assert record.key == name.encode() + b"\x1f" + kind["value"].encode()
        headers = {key: value.decode() for key, value in record.headers.items()}
        assert headers.pop("ce_id") == f"{name}/{kind['value']}/{row['window_start']}/1"
        assert before <= datetime.fromisoformat(headers.pop("ce_time")).timestamp() * 1e6 <= build.now_us()
        (given,) = budgets.query("SELECT pub_seq FROM publisher")
        assert headers == {"ce_source": "spend-ledger", "ce_type": "spend.budget", "ce_specversion": "1.0",
                           "spend_pub_seq": str(given["pub_seq"])}


def test_one_set_says_one_state_of_each_value(budgets):
    budget, name = budgets.make(scope="tag", value=None, each="tenant")
    other, its_name = budgets.make()
    values = [f"tenant:{n}" for n in range(3)]
    windows = [budgets.open(budget, value, most=2) for value in values]  # the third is one too many
    late = budgets.open(budget, values[0], days=1)
    its_window = budgets.open(other)
    budgets.publish()
    before = budgets.published()
    budgets.change(windows, [windows[0], windows[0], late], [its_window, windows[2]], windows)
    assert sorted((s["value"], s["n"], s["spent_nanos"]) for s in budgets.states(name)) == [
        ("tenant:0", 1, STEP), ("tenant:1", 2, 2 * STEP), ("~other", 3, 3 * STEP)]
    assert [(s["value"], s["n"]) for s in budgets.states(its_name)] == [("tenant:acme", 1)]
    assert budgets.published() - before == 4


def test_a_change_of_an_old_window_publishes_the_newest(budgets):
    budget, name = budgets.make()
    old = budgets.open(budget)
    budgets.change([old], spent=700)
    budgets.publish()
    new = budgets.open(budget, days=1)  # one that is due would be opened by the clock
    budgets.change([new], spent=5)
    budgets.publish()
    budgets.change([old], spent=1)
    # what is opened late, before one that is there, is no newer one
    gap, its_name = budgets.make()
    newest = budgets.open(gap)
    budgets.change([budgets.open(gap, days=-3)])
    told = [avro.BUDGET.decode(r.value) for r in budgets.records(its_name)]
    assert {(s["window_start"], s["n"]) for s in told} == {(budgets.window(newest)["window_start"], 0)}
    first, second, third = budgets.states(name)
    assert (first["window_start"], first["n"], first["spent_nanos"]) == (budgets.window(old)["window_start"], 1, 700)
    assert second == third and second["window_start"] == first["window_end"] == first["window_start"] + DAY
    assert (second["n"], second["spent_nanos"]) == (1, 5)


def test_a_state_has_the_limit_and_mode_of_when_it_is_read(budgets):
    budget, name = budgets.make()
    window = budgets.open(budget)
    budgets.change([window])
    budgets.publish()
    budgets.query("UPDATE budget SET limit_nanos = 7, hard = false WHERE id = %s RETURNING 1", budget)
    budgets.change([window])
    assert [(s["n"], s["limit_nanos"], s["mode"]) for s in budgets.states(name)] == [(1, 5_000_000_000, "hard"), (2, 7, "shadow")]


def test_a_revision_that_is_not_in_force_is_not_told(budgets):
    budget, name = budgets.make()
    old = budgets.open(budget)
    budgets.change([old])
    budgets.publish()
    budgets.revise(budget, 2, measure="billed", window="lifetime")
    budgets.change([old])
    budgets.publish()
    new = budgets.open(budget, revision=2)
    budgets.publish()
    budgets.change([old, new])
    assert [(s["revision"], s["measure"], s["n"]) for s in budgets.states(name)] == [(1, "raw", 1), (2, "billed", 1)]


def test_windows_count_in_the_size_of_a_set(budgets):
    budget, name = budgets.make()
    window = budgets.open(budget)
    budgets.publish()
    budgets.change(*[[window] * 9000] * 5)
    numbers = [int(r.headers["spend_pub_seq"]) for r in budgets.records(name)][1:]
    assert numbers == [numbers[0], numbers[0] + 1]


def test_a_set_of_many_values_of_a_large_budget_is_read_in_time(budgets):
    budget, name = budgets.make(value=None, each="tenant", window="lifetime")
    budgets.query("WITH w AS (INSERT INTO budget_window (budget, revision, value, window_start, window_end) SELECT %s, 1,"
                  " 'tenant:' || n, '2020-01-01', 'infinity' FROM generate_series(1, 100000) AS n RETURNING *), v AS (INSERT INTO"
                  " budget_value SELECT budget, revision, value, id, window_end FROM w) SELECT 1", budget)
    windows = [row["id"] for row in budgets.query("SELECT id FROM budget_window WHERE budget = %s ORDER BY value LIMIT 20000", budget)]
    budgets.change(*(windows[n:n + 500] for n in range(0, 20000, 500)))
    assert len({r.key for r in budgets.records(name)}) == 20000
    budgets.query("SELECT budget_tell(%s)", name)  # its limit was changed: what each value is has changed
    told = [r for r in budgets.records(name) if avro.BUDGET.decode(r.value)["n"] == 2 or b"\x1ftenant:99999" in r.key]
    numbers = [r.headers["spend_pub_seq"] for r in budgets.records(name)[-100_000:]]
    assert len({r.key for r in budgets.records(name)}) == 100_000 and len(told) > 20_000
    assert len(set(numbers)) >= 4 and max(map(numbers.count, set(numbers))) <= 25_000


# -- as others read it, of what the API and calls do

def micros(text):
    return text and (at(text) - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


def kept(budgets, name, value):
    """What a reader of committed records ends with that keeps a key's greatest version; versions never fall, and equals are the same."""
    last, version = None, ()
    for record in budgets.records(name):
        state = avro.BUDGET.decode(record.value)
        if state["value"] != value:
            continue
        before, version = version, (state["revision"], state["window_start"], state["n"])
        assert before < version or (before == version and state == last)
        assert before[1:] <= version[1:]  # the two alone are enough for one who knows no revisions
        last = state
    return last


def told(budgets, api, made, value, **want):
    """The state that is told, which is what the API shows."""
    seen = get(api, made) if made["each"] is None else get(api, made, f"?value={value.replace('=', '%3D')}")
    state = kept(budgets, made["budget_id"], value)
    assert state is not None
    assert {key: state[key] for key in ("budget_id", "scope", "value", "revision", "measure", "mode", "threshold_crossed")} == {
        key: seen[key] for key in ("budget_id", "scope", "value", "revision", "measure", "mode", "threshold_crossed")}
    assert (state["window_start"], state["window_end"]) == (micros(seen["window_start"]), micros(seen["window_end"]))
    amounts = {"limit": state["limit_nanos"], "spent": state["spent_nanos"], "held": state["held_nanos"]}
    assert amounts == {key: None if seen[key] is None else money.parse_decimal(seen[key], 9)[0] for key in amounts}
    assert {key: state[key] for key in want} == want
    return state


def test_every_change_is_told_as_the_api_shows_it(bench, api, budgets):
    account, tag = bench.account(), f"tenant={fresh('t')}"
    name = fresh("told")
    body = {"scope": "tag", "value": tag, "limit": "10", "window": LIFETIME}

    def change(**more):
        body.update(more)
        return put(api, f"/v1/budgets/{name}", **body)

    def bill(record, raw, **fields):
        bench.feeder.bill(attributed(record, account, raw, **fields))
        bench.settle()
    made = change()
    told(budgets, api, made, tag, spent_nanos=0, held_nanos=0, revision=1, threshold_crossed=None)
    one = build.call([tag], quality="estimated")
    bill(one, 6 * USD)
    told(budgets, api, made, tag, spent_nanos=6 * USD, threshold_crossed=50)
    bill({**one, "quality": "final"}, 3 * USD)
    told(budgets, api, made, tag, spent_nanos=3 * USD, threshold_crossed=50)
    first, second, third = (call([tag]) for _ in range(3))
    place(api, first, second, third)
    told(budgets, api, made, tag, held_nanos=3 * 1_250_000)
    capture(api, first, input=100, output=10)
    assert told(budgets, api, made, tag)["held_nanos"] not in (0, 3 * 1_250_000)
    end(api, "/void", second)
    told(budgets, api, made, tag)
    settled(bench, first, account, USD, [tag])
    bench.settle()
    told(budgets, api, made, tag, spent_nanos=4 * USD, held_nanos=1_250_000)
    budgets.query("UPDATE hold SET expires_at = now() - interval '1 s' WHERE call_id = %s RETURNING 1", third["call_id"])
    wait_until(lambda: get(api, made)["held"] == "0", 30, "the hold expired")
    told(budgets, api, made, tag, held_nanos=0)
    for more, want in (({"limit": "5"}, {"limit_nanos": 5 * USD, "threshold_crossed": 80}), ({"limit": None}, {"limit_nanos": None}),
                       ({"mode": "shadow"}, {"mode": "shadow"}), ({"limit": "0"}, {"limit_nanos": 0, "threshold_crossed": 100}),
                       ({"limit": "40"}, {"threshold_crossed": 100}), ({"thresholds": [5, 90, 200]}, {"threshold_crossed": 100})):
        before = told(budgets, api, made, tag)["n"]
        change(**more)
        assert told(budgets, api, made, tag, **want)["n"] > before
    assert api("POST", f"/v1/budgets/{name}/reset", {"reason": "a test"})[0] == 200
    told(budgets, api, made, tag, spent_nanos=0, threshold_crossed=None, revision=1)
    bill({**one, "outcome": "completed", "quality": "final", "received_at": one["received_at"] + 1}, 3 * USD)  # of the old window
    told(budgets, api, made, tag, spent_nanos=0)
    for revision, more in enumerate(({"measure": "billed"}, {"window": MONTH},
                                     {"window": {"kind": "interval", "seconds": 20 * 365 * 86400, "anchor": "2020-01-01T00:00:00Z"}}), 2):
        change(**more)
        told(budgets, api, made, tag, revision=revision, spent_nanos=0)
        bill(build.call([tag]), USD)
        told(budgets, api, made, tag, revision=revision, spent_nanos=USD)
    other = f"tenant={fresh('t')}"
    last = kept(budgets, name, tag)
    change(value=other)
    told(budgets, api, made, other, revision=5, spent_nanos=0)
    assert kept(budgets, name, tag) == last and last["revision"] == 4  # over, since the budget has a greater one


def test_what_the_clock_resets_is_told_of_every_value(bench, api, budgets):
    account, key = bench.account(), fresh("k")
    made = put(api, f"/v1/budgets/{fresh('told')}", scope="tag", each=key, limit="1", window=LIFETIME)
    assert budgets.records(made["budget_id"]) == []  # nothing has a value yet
    for value in ("a", "b", "c"):
        bench.feeder.bill(attributed(build.call([f"{key}={value}"]), account, USD))
    bench.settle()
    for value in ("a", "b", "c"):
        told(budgets, api, made, f"{key}={value}", spent_nanos=USD, threshold_crossed=100)
    put(api, f"/v1/budgets/{made['budget_id']}", scope="tag", each=key, limit="2", window=LIFETIME)
    for value in ("a", "b", "c"):
        told(budgets, api, made, f"{key}={value}", limit_nanos=2 * USD, threshold_crossed=100)
    put(api, f"/v1/budgets/{made['budget_id']}", scope="tag", value=f"{key}=a", limit="2", window={"kind": "interval", "seconds": 5})
    bench.feeder.bill(attributed(build.call([f"{key}=a"]), account, USD))
    bench.settle()

    def is_reset():
        states = [avro.BUDGET.decode(r.value) for r in budgets.records(made["budget_id"])]
        spends = [(s["window_start"], s["spent_nanos"]) for s in states if s["revision"] == 2]
        return any(later > start and spent == USD for start, spent in spends for later, nothing in spends[-1:] if nothing == 0)
    wait_until(is_reset, 30, "the window rolled")
    final = put(api, f"/v1/budgets/{made['budget_id']}", scope="tag", value=f"{key}=a", limit="2", window=LIFETIME)
    told(budgets, api, final, f"{key}=a", revision=3, spent_nanos=0, threshold_crossed=None)


def test_a_reset_before_a_window_that_is_open_already_sets_nothing_back(api, budgets):
    """A call of a clock ahead has opened the next window; what is left of this one is not newer."""
    name, value = fresh("told"), fresh("core")
    put(api, f"/v1/budgets/{name}", scope="team", value=value, limit="1", window={"kind": "calendar", "period": "day"})
    (row,) = budgets.query("SELECT id FROM budget WHERE budget_id = %s", name)
    ahead = budgets.window(budgets.open(row["id"], value, days=1))
    assert kept(budgets, name, value)["window_start"] == ahead["window_start"]
    assert api("POST", f"/v1/budgets/{name}/reset", {"reason": "a test"})[0] == 200
    assert kept(budgets, name, value)["window_start"] == ahead["window_start"]


def test_a_kill_between_commit_and_publish_loses_and_doubles_nothing(bench, api, budgets):
    account, tag = bench.account(), f"tenant={fresh('t')}"
    made = put(api, f"/v1/budgets/{fresh('told')}", scope="tag", value=tag, limit="4", window=LIFETIME)
    before = kept(budgets, made["budget_id"], tag)
    stack = bench.stack
    with psycopg.connect(stack.database_url("spend_owner"), options="-c search_path=spend") as holder:
        holder.execute("SELECT FROM publisher FOR UPDATE")  # no set gets a number
        for _ in range(3):
            bench.feeder.bill(attributed(build.call([tag]), account, USD))
        bench.feeder.flush()
        wait_until(lambda: get(api, made)["spent"] == "3", 30, "the calls charged")
        place(api, call([tag]))
        budgets.tail.refresh()
        assert [avro.BUDGET.decode(r.value) for r in budgets.tail.records[TOPIC]
                if r.key.startswith(made["budget_id"].encode())] == [before]
        stack.services["ledger"].kill()
        holder.rollback()
    bench.start(SPEND_WINDOW_TICK="1s")
    bench.settle()
    bench.check_entries()
    assert [r.key for r in bench.tail.records["spend.entries"]].count(account.encode()) == 3
    state = told(budgets, api, made, tag, spent_nanos=3 * USD, held_nanos=1_250_000, threshold_crossed=50)
    records = budgets.records(made["budget_id"])
    assert {avro.BUDGET.decode(r.value)["n"] for r in records} == {before["n"], state["n"]}
    assert len({r.headers["spend_pub_seq"] for r in records}) == len(records)  # no set came twice


# -- under kills


@contextlib.contextmanager
def charging(budgets, windows):
    """Every batch of entries charges these windows too, in its own row of the outbox."""
    ids = ",".join(map(str, windows))
    with psycopg.connect(budgets.bench.stack.database_url("spend_owner"), options="-c search_path=spend") as db:
        db.execute(f"""CREATE FUNCTION test_charge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.accounts IS NOT NULL THEN
                UPDATE spend.budget_window SET spent_nanos = spent_nanos + {STEP}, version = version + 1 WHERE id IN ({ids});
                NEW.windows := coalesce(NEW.windows, '{{}}') || ARRAY[{ids}]::bigint[];
            END IF;
            RETURN NEW;
        END $$""")
        db.execute("CREATE TRIGGER test_charge BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION test_charge()")
    try:
        yield
    finally:
        with psycopg.connect(budgets.bench.stack.database_url("spend_owner"), options="-c search_path=spend") as db:
            db.execute("DROP TRIGGER test_charge ON outbox")
            db.execute("DROP FUNCTION test_charge()")


@contextlib.contextmanager
def changing(budgets, budget, values, seed):
    """Until the end some windows of these values, old and new ones, change all the time; now and then one is opened."""
    rng, stop, failed = random.Random(seed), threading.Event(), []
    windows = [budgets.open(budget, value) for value in values]

    def run():
        try:
            day = 0
            while not stop.wait(0.003):
                if rng.random() < 0.02:
                    day += 1
                    windows.append(budgets.open(budget, rng.choice(values), days=day))
                budgets.change(sorted(rng.sample(windows, rng.randint(1, 3))))
        except BaseException as error:
            failed.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        assert not failed, failed


def leader_and_other(bench):
    """Of the two ledgers the one whose publisher leads, and the one that stands by."""
    def leads(name):
        return bench.stack.services[name].metrics()['spend_ledger_leads{job="publisher"}'] == 1
    pairs = (("ledger", "second"), ("second", "ledger"))
    return wait_until(lambda: next((pair for pair in pairs if leads(pair[0]) and not leads(pair[1])), None), 30, "one leads")


def check_growth(budgets, name):
    """Of each key (window_start, n) never falls, n says what the window had spent then, and the last state is Postgres's."""
    told = {}
    for record in budgets.records(name):
        told.setdefault(record.key, []).append((record.partition, avro.BUDGET.decode(record.value)))
    for states in told.values():
        assert len({partition for partition, _ in states}) == 1
        for (_, before), (_, after) in itertools.pairwise(states):
            assert (before["window_start"], before["n"]) <= (after["window_start"], after["n"])
        assert all(state["spent_nanos"] == STEP * state["n"] for _, state in states)
    newest = budgets.query("SELECT v.value, w.id FROM budget_value v JOIN budget b ON b.id = v.budget JOIN budget_window w"
                           " ON w.id = v.newest WHERE b.budget_id = %s", name)
    for row in newest:
        last, window = told[f"{name}\x1f{row['value']}".encode()][-1][1], budgets.window(row["id"])
        assert {key: last[key] for key in ("window_start", "window_end", "n", "spent_nanos", "held_nanos")} == {
            "n": window.pop("version"), **window}
    assert len(told) == len(newest)
    return sum(map(len, told.values()))


def kill_before_delete(budgets, victim, feed):
    """Kills a publisher whose set, one with entries, is on Kafka and not deleted here yet."""
    stack = budgets.bench.stack
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'DELETE FROM outbox%'"
    with (psycopg.connect(stack.database_url("spend_owner"), options="-c search_path=spend") as holder,
          psycopg.connect(stack.database_url(), autocommit=True) as admin):
        def is_held():
            feed()
            return holder.execute("SELECT id FROM outbox WHERE pub_seq IS NOT NULL AND accounts IS NOT NULL"
                                  " FOR UPDATE SKIP LOCKED").fetchall()
        wait_until(is_held, 30, "a set held", every_s=0.01)
        (pid,) = wait_until(lambda: admin.execute(waiting).fetchone(), 30, "the set published")
        stack.services[victim].kill()
        admin.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))  # else it would delete the set all the same
        holder.rollback()


def test_states_only_grow_and_entries_come_once_over_kills(budgets):
    bench = budgets.bench
    bench.start("ledger", "second")
    values = [f"tenant:{n}" for n in range(4)]
    budget, name = budgets.make(value=None, each="tenant")
    beside, its_name = budgets.make()
    charged = budgets.open(beside)
    budgets.publish()
    account = bench.account()
    fed = []

    def feed():
        fed.append(attributed(build.call(), account, 1))
        bench.feeder.bill(fed[-1], partition=len(fed) % 12)
        bench.feeder.flush()
    with charging(budgets, [charged]), changing(budgets, budget, values, seed=1):
        for just_then in (True, False):
            victim, other = leader_and_other(bench)
            feed()
            budgets.publish_more(victim)
            if just_then:
                kill_before_delete(budgets, victim, feed)
            else:
                bench.stack.services[victim].kill()
            budgets.publish_more(other)
            bench.stack.services[victim].start()
        wait_until(lambda: bench.balance(account) == -len(fed), 60, "calls applied")
    bench.settle()
    bench.check_entries()
    assert check_growth(budgets, name) > 15
    check_growth(budgets, its_name)
    # every set with entries has the state of the window that they were charged to
    entries = {r.headers["spend_pub_seq"] for r in bench.tail.records["spend.entries"] if r.key == account.encode()}
    assert entries == {r.headers["spend_pub_seq"] for r in budgets.records(its_name)[1:]}


def freeze_with_a_set(budgets, window):
    """A leader that has read a set and not sent it, for Kafka does not answer, stands still; it, and who stands by."""
    stack = budgets.bench.stack
    leads, other = leader_and_other(budgets.bench)
    read = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle' AND query LIKE 'SELECT b.budget_id%%'"
    kafka = stack.part_pid("kafka")
    os.kill(kafka, signal.SIGSTOP)
    try:
        budgets.change([window])
        wait_until(lambda: budgets.query("SELECT 1 FROM outbox WHERE pub_seq IS NOT NULL"), 10, "the set numbered")
        wait_until(lambda: budgets.bench.query(read), 10, "the set read")
        stack.services[leads].kill(signal.SIGSTOP)
    finally:
        os.kill(kafka, signal.SIGCONT)
    return stack.services[leads], other


def test_states_only_grow_when_a_leader_that_was_cut_off_wakes(budgets):
    bench = budgets.bench
    bench.start("ledger", "second")
    budget, name = budgets.make()
    window = budgets.open(budget)
    budgets.change([window])
    budgets.publish()
    frozen, other = freeze_with_a_set(budgets, window)
    try:
        before = budgets.published(other)
        budgets.change([window], [window])
        ended = bench.query("SELECT pg_terminate_backend(pid, 10000) AS ended FROM pg_locks WHERE locktype = 'advisory' AND granted"
                            " AND (classid::bigint << 32 | objid::bigint) = %s", (PUBLISHER_LOCK,))
        assert [row["ended"] for row in ended] == [True]
        wait_until(lambda: budgets.published(other) > before, 30, "the other one publishes")
        waits = frozen.log().count("ev=job_waits job=publisher")
    finally:
        frozen.kill(signal.SIGCONT)
    wait_until(lambda: frozen.log().count("ev=job_waits job=publisher") > waits, 60, "the one that woke up is told")
    frozen.kill()  # 2.0.2 may leak the offsets that a fenced producer was sending, and the sanitizer tells at the end
    budgets.change([window])
    check_growth(budgets, name)
    states = [state["n"] for state in budgets.states(name)]
    assert states[0] == 1 and states[-1] == 5 and 2 not in states  # 2 is what the frozen one had read


# -- when the position was forgotten


def alter(admin, kind, name, **values):
    entries = [ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET) for key, value in values.items()]
    for done in admin.incremental_alter_configs([ConfigResource(kind, name, incremental_configs=entries)]).values():
        done.result(30)


def abort_records(brokers, partitions, count):
    """What a publisher leaves that fails again and again: a topic's end without a record for its readers."""
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": "budget-state-test"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(count):
        for partition in partitions:
            producer.produce(TOPIC, b"aborted", b"aborted", partition=partition, headers={"spend_pub_seq": str(10**6 + number)})
    producer.flush(30)
    producer.abort_transaction(30)


def test_a_set_of_windows_alone_is_not_sent_again_from_a_compacted_topic(budgets):
    """What a kill between Kafka's commit and the DELETE leaves, when the group's position has expired since."""
    bench = budgets.bench
    admin = AdminClient({"bootstrap.servers": bench.stack.brokers})
    alter(admin, ConfigResource.Type.BROKER, "1", log_cleaner_backoff_ms="100")
    alter(admin, ConfigResource.Type.TOPIC, TOPIC, segment_ms="100", min_cleanable_dirty_ratio="0.001")
    budget, name = budgets.make()
    window = budgets.open(budget)
    for _ in range(15):
        budgets.change([window])
        budgets.publish()

    def is_compacted():
        budgets.change([window])  # a segment ends when a record comes
        budgets.publish()
        fresh = Tail(bench.stack.brokers, (TOPIC,))
        fresh.refresh()
        fresh.close()
        return sum(r.key.startswith(name.encode()) for r in fresh.records[TOPIC]) < 8
    wait_until(is_compacted, 40, "the topic compacted")
    last = budgets.records(name)[-1]
    for service in bench.stack.services.values():
        service.stop()
    abort_records(bench.stack.brokers, range(3), 100)
    budgets.query("INSERT INTO outbox (pub_seq, windows) VALUES (%s, %s) RETURNING 1",
                  int(last.headers["spend_pub_seq"]), [window])
    wait_until(lambda: admin.delete_consumer_groups(["spend-publisher"])["spend-publisher"].result(20) is None, 30,
               "position deleted")
    bench.start()
    assert budgets.records(name)[-1] == last
    budgets.change([window])
    assert int(budgets.records(name)[-1].headers["spend_pub_seq"]) == int(last.headers["spend_pub_seq"]) + 1
