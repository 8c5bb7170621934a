"""The gate's thread: what waits together is decided together, nothing else delays it, and nothing in it waits for ever."""

import contextlib
import json
import os
import signal
import socket
import threading
import uuid
from decimal import Decimal

import psycopg
import pytest

from api_test import fresh, put
from budget_test import budget, get
from hold_test import call
from ledger_bench import attributed, running_ledger
from oracle import build
from stack import wait_until

CONFIG_LOCK = 8318260036551835649


@pytest.fixture(scope="module")
def bench():
    with running_ledger() as bench:
        put(bench.stack.api, "/v1/models/held", price_key="gpt-4o")
        yield bench


class Asked:
    """A request on its way in a thread of its own."""

    def __init__(self, bench, what, body, method="POST", path="/v1/holds", token="ingest"):
        self.answer = None

        def run():
            self.answer = bench.stack.api(method, path + what, body, token=token)
        self.thread = threading.Thread(target=run)
        self.thread.start()

    def get(self, timeout_s=30):
        self.thread.join(timeout_s)
        assert self.answer is not None, "no answer yet"
        return self.answer

    def states(self):
        status, document = self.get()
        assert status == 200, document
        return [item["state"] for item in document["items"]]


@contextlib.contextmanager
def stopped(bench):
    """The gate's own server process does nothing meanwhile, so that what comes waits."""
    (row,) = bench.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'spend-ledger/gate'")
    os.kill(row["pid"], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(row["pid"], signal.SIGCONT)


@contextlib.contextmanager
def locked(bench, sql="LOCK TABLE hold IN ACCESS EXCLUSIVE MODE"):
    """Whoever wants it waits, for as long as its lock_timeout lets it."""
    with psycopg.connect(bench.stack.database_url(), options="-c search_path=spend") as db:
        db.execute(sql)
        yield
        db.rollback()


def metric(bench, name):
    return bench.stack.services["ledger"].metrics().get(name, 0)


def waiting(bench, count):
    wait_until(lambda: metric(bench, "spend_ledger_gate_waiting") == count, 10, f"{count} requests at the gate", every_s=0.01)


def transactions(bench):
    return metric(bench, "spend_ledger_gate_seconds_count")


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_what_waits_together_is_one_transaction_and_each_gets_its_own_answers(bench, api):
    tag = f"tenant={fresh('t')}"
    budget(api, "tag", tag, "0.0125")  # ten calls
    Asked(bench, "", [call([tag])]).states()
    before = transactions(bench)
    with stopped(bench):
        first = Asked(bench, "", [call([tag])])
        waiting(bench, 1)
        sent = []
        for number in range(1, 5):  # one after the other, so that their order is known
            sent.append([call([tag]) for _ in range(number)])
            sent[-1] = (sent[-1], Asked(bench, "", sent[-1]))
            waiting(bench, 1 + number)
        odd = [Asked(bench, "/renew", [{"call_id": str(uuid.uuid4())}]), Asked(bench, "/void", [{"call_id": str(uuid.uuid4())}])]
        waiting(bench, 7)
    assert first.states() == ["placed"] and odd[0].states() == ["unknown"] and odd[1].states() == ["voided"]
    assert [asked.states() for _, asked in sent] == [["placed"], ["placed"] * 2, ["placed"] * 3, ["placed"] * 2 + ["refused"] * 2]
    for calls, asked in sent:
        assert [item["call_id"] for item in asked.get()[1]["items"]] == [one["call_id"] for one in calls]
    assert transactions(bench) == before + 4  # the first, the four that waited, renew, void
    assert bench.breaches() == []


def test_a_request_is_never_split_and_no_transaction_has_more_than_256_calls(bench):
    before = transactions(bench)
    with stopped(bench):
        asked = [Asked(bench, "", [call()])]
        waiting(bench, 1)
        for count in (100, 156, 1, 255):
            asked.append(Asked(bench, "", [call() for _ in range(count)]))
            waiting(bench, len(asked))
    assert [len(a.states()) for a in asked] == [1, 100, 156, 1, 255]
    assert transactions(bench) == before + 3


@pytest.mark.parametrize("bad", [b"[", b"{}", b"[1]", [{"call_id": "x", "operation": "chat"}], [call() | {"max_tokens": -1}], [call() | {"colour": 1}]])
def test_one_that_is_wrong_spoils_nobody_elses(bench, bad):
    with stopped(bench):
        first = Asked(bench, "", [call()])
        waiting(bench, 1)
        asked = [Asked(bench, "", body) for body in ([call()], bad, [call(), call()])]
        waiting(bench, 4)
    assert first.states() == ["placed"]
    assert [asked[0].states(), asked[2].states()] == [["placed"], ["placed"] * 2]
    assert asked[1].get()[0] == 400


def test_other_queries_are_decided_apart(bench):
    with stopped(bench):
        first = Asked(bench, "", [call()])
        waiting(bench, 1)
        asked = [Asked(bench, query, [call()]) for query in ("", "?colour=red", "")]
        waiting(bench, 4)
    assert first.states() == asked[0].states() == asked[2].states() == ["placed"]
    assert asked[1].get()[0] == 400 and "colour" in str(asked[1].get()[1])


def test_a_slow_request_to_the_api_delays_no_call(bench):
    with locked(bench, f"SELECT pg_advisory_xact_lock({CONFIG_LOCK})"):
        slow = Asked(bench, f"/v1/accounts/{fresh('a')}", {"name": "slow"}, "PUT", "", "operator")
        wait_until(lambda: bench.query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'spend-ledger/api'"
                                       " AND wait_event_type = 'Lock'"), 10, "the API's thread waits")
        assert Asked(bench, "", [call()]).states() == ["placed"]
        assert bench.stack.api("GET", "/v1/time", token="ingest")[0] == 200  # ingest is ready or not by it
        assert slow.answer is None
    assert slow.get()[0] in (200, 201)


def test_who_hangs_up_disturbs_nobody(bench):
    gone = call()
    body = json.dumps([gone]).encode()
    ledger = bench.stack.services["ledger"]
    with stopped(bench):
        first = Asked(bench, "", [call()])
        waiting(bench, 1)
        for linger in (b"\1\0\0\0\0\0\0\0", b"\0" * 8):  # by a reset, and by an end
            with socket.create_connection(("127.0.0.1", ledger.port)) as caller:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                caller.sendall(b"POST /v1/holds HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + bench.stack.secret("ingest").encode() +
                               b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                waiting(bench, 2 if linger[0] else 3)
        last = Asked(bench, "", [call()])
        waiting(bench, 4)
    assert first.states() == last.states() == ["placed"]
    assert Asked(bench, "/renew", [{"call_id": gone["call_id"]}]).states() == ["placed"]  # it did not know
    assert ledger.alive


def test_what_has_waited_too_long_is_answered_503_undecided(bench):
    calls = [call() for _ in range(14)]
    before = metric(bench, 'spend_ledger_gate_refused_total{reason="late"}')
    with locked(bench):
        asked = []
        for one in calls:  # each waits for the lock for half a second
            asked.append(Asked(bench, "/void", [{"call_id": one["call_id"]}]))
            waiting(bench, len(asked))
        assert [a.get()[0] for a in asked] == [503] * 14
    assert metric(bench, 'spend_ledger_gate_refused_total{reason="late"}') > before
    assert Asked(bench, "", calls).states() == ["placed"] * 14


def test_what_somebody_else_has_locked_takes_the_gate_from_nobody(bench):
    """Tellers ask again and again for their own locked hold; who places in between waits for one of them at most each time."""
    calls = [call() for _ in range(4)]
    assert Asked(bench, "", calls).states() == ["placed"] * 4
    stop, refused = threading.Event(), []

    def tell(one):
        while not stop.is_set():
            status, _ = bench.stack.api("POST", "/v1/holds/void", [{"call_id": one["call_id"]}], token="ingest")
            refused.append(status)
    with locked(bench, "SELECT FROM hold WHERE state = 'placed' FOR UPDATE"):
        tellers = [threading.Thread(target=tell, args=(one,)) for one in calls]
        for teller in tellers:
            teller.start()
        wait_until(lambda: len(refused) >= 4, 30, "each has been turned away")
        before = len(refused)
        for _ in range(6):
            assert Asked(bench, "", [call()]).states() == ["placed"]
        assert set(refused) == {503} and len(refused) - before <= 2 * 6
        stop.set()
    for teller in tellers:
        teller.join()


def test_a_full_queue_refuses_at_once_and_a_stop_answers_what_waits(bench):
    ledger = bench.stack.services["ledger"]
    ledger.stop()
    ledger.start(flags=["--gate-queue=2"])
    with stopped(bench):
        asked = [Asked(bench, "", [call()]) for _ in range(2)]
        waiting(bench, 2)
        status, document = bench.stack.api("POST", "/v1/holds", [call()], token="ingest")
        assert status == 503 and document["error"]["type"] == "unavailable" and "wait" in document["error"]["message"]
        assert metric(bench, 'spend_ledger_gate_refused_total{reason="full"}') == 1
        ledger.kill(signal.SIGTERM)
        wait_until(lambda: not accepts(ledger.port), 10, "it takes no more", every_s=0.01)
    assert [a.states() for a in asked] == [["placed"]] * 2
    ledger.stop()
    ledger.start(flags=[])


# -- what a hold counts for output

def answered(bench, account, model, outputs, **more):
    """As many calls of the model as outputs, each with so many tokens."""
    for output in outputs:
        usage = build.usage(input=10, output=output - output // 4, reasoning=output // 4)
        bench.feeder.bill(attributed(build.call(model_requested=model, usage=usage, **more), account, 1000))
    bench.settle()


def learn(bench, *models):
    """The watch's work, now; and a ledger that has begun anew reads it at once."""
    bench.stack.services["ledger"].stop()
    bench.execute("UPDATE model_output SET at = at - interval '1 hour'")  # it is due again
    rows = bench.query("SELECT model_output_refresh(1, 600000000)")
    assert rows[0]["model_output_refresh"] is not None
    bench.start()
    return {row["model"]: (row["calls"], row["p95_output"]) for row in bench.query("SELECT * FROM model_output") if row["model"] in models}


def tokens_held(api, model, **more):
    """Tokens out that a call of the model is held for: 10 USD a million."""
    tag = f"tenant={fresh('t')}"
    made = budget(api, "tag", tag)
    one = {name: value for name, value in call([tag], size=0, model=model, **more).items() if value is not None}
    (answer,) = api("POST", "/v1/holds", [one], token="ingest")[1]["items"]
    assert (answer["state"], answer["priced"]) == ("placed", True)
    return Decimal(get(api, made)["held"]) / Decimal("0.00001")


def test_a_hold_counts_twice_what_nearly_all_replies_of_the_model_have_once_there_are_a_hundred(bench, api):
    account = bench.account()
    few, short, wide = (fresh("model").lower() for _ in range(3))
    for model in (few, short, wide):
        put(api, f"/v1/models/{model}", price_key="gpt-4o")
    answered(bench, account, few, [100] * 99)
    answered(bench, account, few, [100] * 5, quality="partial")  # it may have been longer
    answered(bench, account, few, [100] * 5, at=build.now_us() - 25 * 3600 * 1_000_000)
    answered(bench, account, short, [100] * 95 + [5000] * 5)
    answered(bench, account, wide, [3000] * 120)
    assert learn(bench, few, short, wide) == {short: (100, 100), wide: (120, 3000)}
    assert tokens_held(api, few, tokens=None) == 4096 and tokens_held(api, few, tokens=300) == 300
    assert tokens_held(api, short, tokens=None) == 200 and tokens_held(api, short, tokens=5000) == 200
    assert tokens_held(api, short, tokens=150) == 150 and tokens_held(api, short, tokens=5000, n=3) == 600
    assert tokens_held(api, wide, tokens=None) == 4096  # the cap is less
    answered(bench, account, few, [100])
    assert learn(bench, few) == {few: (100, 100)} and tokens_held(api, few, tokens=None) == 200


def test_the_watch_looks_it_up_by_itself_and_what_is_old_goes(bench, api):
    model = fresh("model").lower()
    answered(bench, bench.account(), model, [7] * 100)
    bench.stack.services["ledger"].stop()
    bench.execute("UPDATE model_output SET at = at - interval '1 hour'")
    bench.execute("INSERT INTO model_output VALUES ('gone', 100, 5, now() - interval '1 hour')")
    bench.start()
    wait_until(lambda: bench.query("SELECT 1 FROM model_output WHERE model = %s AND p95_output = 7", (model,)), 30, "it is known")
    assert not bench.query("SELECT 1 FROM model_output WHERE model = 'gone'")
