"""When parts of the gate fail, live: what callers are told, what is counted, what rings, and that nothing stays held. Each row of
docs/ingest.md's table has its test here, with its option both ways."""

import contextlib
import json
import re
import shutil
import signal
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest

from gate_bench import ENFORCE, Caller, GateBench, chat, cost, fresh
from ingest_test import close_readers, record_of
from stack import Stack, http, wait_until

ONE = cost()  # what a chat() is held for, and costs
WAIT_S = 2
LIFETIME_S = 6
HTTP = {"deny": 503, "allow": 200}


class Provider(BaseHTTPRequestHandler):
    """Answers with the usage that a text asks for; `hold=NAME` waits until NAME is let go, a stream's first chunk is sent before."""

    protocol_version = "HTTP/1.1"
    seen = []  # texts
    held = {}  # NAME: event

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["messages"][0]["content"]
        self.seen.append(text)
        prompt, completion = (int(re.search(rf"{word}=(\d+)", text)[1]) for word in ("prompt", "completion"))
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        name = re.search(r"hold=(\S+)", text)
        event = self.held[name[1]] if name else None
        with contextlib.suppress(OSError):  # the caller may be gone, or its ingest
            (self.stream if body.get("stream") else self.whole)(body["model"], usage, event)

    def whole(self, model, usage, event):
        if event:
            event.wait(120)
        data = json.dumps({"id": "c", "object": "chat.completion", "model": model, "usage": usage,
                           "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, model, usage, event):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        first = {"id": "c", "object": "chat.completion.chunk", "model": model, "choices": [{"index": 0, "delta": {"content": "hi"}}]}
        self.wfile.write(f"data: {json.dumps(first)}\n\n".encode())
        self.wfile.flush()
        if event:
            event.wait(120)
        self.wfile.write(f"data: {json.dumps({**first, 'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
        self.close_connection = True


class Front(BaseHTTPRequestHandler):
    """What may stand between an ingest and the ledger: it passes on what is asked, or answers by itself."""

    protocol_version = "HTTP/1.1"
    port = None
    status = None  # its own answer
    pause_s = 0  # .. and how long that takes, but for the first call's
    has_answered = False

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status, data = self.status, b"bad gateway"
        if status is not None:
            time.sleep(Front.pause_s if Front.has_answered else 0)
            Front.has_answered = Front.has_answered or self.path == "/v1/holds"
        else:
            there = HTTPConnection("127.0.0.1", self.port, timeout=30)
            there.request("POST", self.path, body, {key: value for key, value in self.headers.items() if key.lower() != "host"})
            reply = there.getresponse()
            status, data = reply.status, reply.read()
            there.close()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Faults(GateBench):
    def __init__(self, stack, upstream):
        super().__init__(stack)
        self.upstream = upstream

    @property
    def ledger(self):
        return self.stack.services["ledger"]

    @contextlib.contextmanager
    def ingest(self, wait=True, **options):
        """An ingest of its own with these options, at --gate=enforce unless told otherwise."""
        name = fresh("ingest")
        env = {**ENFORCE, "SPEND_GATE_WAIT": f"{WAIT_S}s", "SPEND_GATE_RENEW": "1s", "SPEND_GATE_TRIAL": f"{WAIT_S}s", "SPEND_SPEND_LOG_SECRET": "s",
               **{f"SPEND_{option}": value for option, value in options.items()}}
        service = self.stack.ingest(name, upstream=self.upstream, env=env, journal=self.stack.dir / name).start(wait=wait)
        try:
            yield service
        finally:
            service.stop()
            del self.stack.services[name]

    def ensure_ledger(self):
        """Whatever a test left of it."""
        if self.ledger.alive:
            self.ledger.kill(signal.SIGCONT)
            self.ledger.wait_ready()
        else:
            self.ledger.start()

    def account_with_budget(self, limit=1000 * ONE):
        account = self.account()
        return [f"account_id={account}"], self.budget("account", account, limit)

    def holds(self, call_id):
        return self.query("SELECT state, forced, billed_nanos, extract(epoch FROM admitted_at) * 1000000 FROM spend.hold WHERE call_id = %s", call_id)

    @contextlib.contextmanager
    def locked(self, sql, *args):
        with psycopg.connect(self.stack.database_url()) as db:
            db.execute(sql, args)
            yield
            db.rollback()

    def check_nothing_held(self):
        wait_until(self.nothing_held, 60, "nothing held")
        assert self.breaches() == []


def serve(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module", name="world")
def world_fixture():
    server = serve(Provider)
    with Stack(parts=("kafka", "postgres")) as stack:
        stack.migrate()
        stack.ledger(env={"SPEND_HOLD_LIFETIME": f"{LIFETIME_S}s"}).start()
        stack.attributor().start()
        yield Faults(stack, f"http://127.0.0.1:{server.server_address[1]}")
        close_readers()
        stack.stop_services()
        assert stack.deadlocks() == 0
    server.shutdown()


@pytest.fixture(name="gate")
def gate_fixture(world):
    yield world
    world.ensure_ledger()


@contextlib.contextmanager
def held_call(ingest, tags, **body):
    """A call that the provider holds: (its name, a dict in which its answer appears, the function that lets it go on)."""
    name, answer, event = fresh("hold"), {}, threading.Event()
    Provider.held[name] = event

    def run():
        caller = Caller(ingest.port, 180)
        with contextlib.suppress(OSError):
            answer["it"] = caller.call(chat(order=f"hold={name}", **body), tags)
        caller.close()

    def finish():
        event.set()
        thread.join(60)
        return answer.get("it")
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield name, finish
    finally:
        finish()


def reached_provider(name):
    return any(name in text for text in Provider.seen)


def metric(ingest, name, **labels):
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return ingest.metrics()[name + ("{" + inside + "}" if inside else "")]


def gate_total(ingest, result):
    return metric(ingest, "spend_ingest_gate_total", result=result)


def timed(call):
    began = time.monotonic()
    answer = call()
    return answer, time.monotonic() - began


def check_away(gate, ingest, caller, tags, way, reason):
    """The ledger has just gone: the first call waits, those that follow do not."""
    upstream = len(Provider.seen)
    first, waited = timed(lambda: caller.call(chat(), tags))
    assert first.status == HTTP[way] and waited < WAIT_S + 2, (first.raw, waited)
    wait_until(lambda: metric(ingest, "spend_ingest_gate_away") == 1, 30, "the gauge is up")
    later, waited = timed(lambda: caller.call(chat(), tags))
    assert later.status == HTTP[way] and waited < WAIT_S / 2, (later.raw, waited)
    assert metric(ingest, "spend_ingest_gate_unanswered_total", reason=reason) >= 1, ingest.metrics()
    assert ingest.ready()  # all ingests would be unready at once
    for answer in (first, later):
        record = record_of(gate.stack, answer.call_id)
        if way == "deny":
            assert (answer.error["type"], answer.error["code"]) == ("ledger_unavailable", "503") and int(answer.headers["retry-after"]) > 0
            assert (record["gate"], record["outcome"]) == ("held", "rejected")
        else:
            assert (record["gate"], record["outcome"]) == ("forced", "completed")
    assert len(Provider.seen) == upstream + (2 if way == "allow" else 0)
    assert gate_total(ingest, "refused" if way == "deny" else "forced") == 2
    assert metric(ingest, "spend_ingest_refused_total", reason="ledger_away") == (2 if way == "deny" else 0)
    assert "gate_away" in ingest.log()


def check_back(gate, ingest, caller, tags, budget, billed):
    wait_until(lambda: metric(ingest, "spend_ingest_gate_away") == 0, 60, "the gauge is down")
    assert caller.call(chat(), tags).status == 200
    wait_until(lambda: metric(ingest, "spend_ingest_gate_untold") == 0, 30, "all told")
    gate.await_amounts(budget, (billed + 1) * ONE, timeout_s=60)
    gate.check_nothing_held()
    assert metric(ingest, "spend_ingest_gate_dropped_total") == 0 and metric(ingest, "spend_ingest_gate_invalid_total") == 0


def ledger_killed(gate):
    gate.ledger.kill()
    return gate.ledger.start


def ledger_stopped(gate):
    gate.ledger.kill(signal.SIGSTOP)
    return lambda: gate.ledger.kill(signal.SIGCONT)


def postgres_killed(gate):
    gate.stack.kill_part("postgres")
    return lambda: gate.stack.up("postgres")


@pytest.mark.parametrize("way", HTTP)
@pytest.mark.parametrize("fault, reason", [(ledger_killed, "unreachable"), (ledger_stopped, "slow"), (postgres_killed, "postgres")])
def test_the_ledger_or_its_postgres_goes_and_comes_back(gate, fault, reason, way):
    with gate.ingest(ON_LEDGER_DOWN=way) as ingest:
        tags, budget = gate.account_with_budget()
        caller = gate.caller(ingest.name)
        assert caller.call(chat(), tags).status == 200
        gate.await_amounts(budget, ONE)
        mend = fault(gate)
        try:
            check_away(gate, ingest, caller, tags, way, reason)
        finally:
            mend()
        check_back(gate, ingest, caller, tags, budget, 3 if way == "allow" else 1)
        caller.close()


@pytest.mark.parametrize("pause_s", [0, WAIT_S * 0.7])  # the deadline finds a request under way
@pytest.mark.parametrize("way", HTTP)
def test_what_stands_before_the_ledger_answers_for_it(gate, way, pause_s):
    front = serve(Front)
    Front.port, Front.status, Front.pause_s, Front.has_answered = gate.ledger.port, None, pause_s, False
    with gate.ingest(ON_LEDGER_DOWN=way, LEDGER_URL=f"http://127.0.0.1:{front.server_address[1]}") as ingest:
        tags, budget = gate.account_with_budget()
        caller = gate.caller(ingest.name)
        with held_call(ingest, tags) as (name, finish):
            wait_until(lambda: reached_provider(name), 30, "let through")
            Front.status = 502
            check_away(gate, ingest, caller, tags, way, "error")
            assert finish().status == 200
            gate.await_amounts(budget, (3 if way == "allow" else 1) * ONE)  # billed, though nobody could be told
            Front.status = None
        check_back(gate, ingest, caller, tags, budget, 3 if way == "allow" else 1)
        caller.close()
    front.shutdown()


@pytest.mark.parametrize("lockers, others, pause_s", [(2, 4, 0), (1, 1, 0.7)])
def test_an_account_that_somebody_has_locked_takes_the_gate_from_nobody_else(gate, lockers, others, pause_s):
    with gate.ingest(ON_LEDGER_DOWN="deny") as ingest:
        (locked, _), (free, budget) = gate.account_with_budget(), gate.account_with_budget()
        answers, stop = {"locked": [], "free": []}, threading.Event()

        def run(name, tags):
            caller = gate.caller(ingest.name)
            while not stop.wait(pause_s if name == "free" else 0):
                answers[name].append(caller.call(chat(model="gpt-4o-mini"), tags).status)  # so many would change what is held for gpt-4o
            caller.close()
        with gate.locked("SELECT FROM spend.balance b JOIN spend.account a ON a.id = b.account_id WHERE a.account_id = %s FOR UPDATE OF b",
                         locked[0].removeprefix("account_id=")):
            callers = [threading.Thread(target=run, args=args) for args in [("locked", locked)] * lockers + [("free", free)] * others]
            for thread in callers:
                thread.start()
            wait_until(lambda: len(answers["locked"]) >= 4 and len(answers["free"]) >= 4, 60, "who is locked out has waited in vain")
            assert metric(ingest, "spend_ingest_gate_away") == 0
        wait_until(lambda: answers["locked"][-1] == 200, 30, "it is let through again")
        stop.set()
        for thread in callers:
            thread.join()
        assert set(answers["free"]) == {200} and answers["locked"][:3] == [503] * 3, answers
        gate.await_amounts(budget, len(answers["free"]) * cost(model="gpt-4o-mini"), timeout_s=60)
        gate.check_nothing_held()


def test_a_call_let_through_is_held_afterwards_in_its_own_time_and_ended_by_its_bill(gate):
    with gate.ingest(ON_LEDGER_DOWN="allow") as ingest:
        tags, budget = gate.account_with_budget(limit=1)  # even so
        gate.ledger.kill()
        with held_call(ingest, tags) as (name, finish):
            wait_until(lambda: reached_provider(name), 30, "let through")
            gate.ledger.start()
            gate.await_amounts(budget, 0, ONE)
            assert gate.breaches() == []
            answer = finish()
        record = record_of(gate.stack, answer.call_id)
        assert (answer.status, record["gate"]) == (200, "forced")
        gate.await_amounts(budget, ONE)
        gate.check_nothing_held()
        assert gate.query("SELECT extract(epoch FROM admitted_at) * 1000000 FROM spend.call WHERE call_id = %s",
                          answer.call_id) == [(record["admitted_at"],)]


def test_the_forced_hold_stands_in_the_window_of_when_the_call_was_let_through(gate):
    """The bill does not come: what is seen is the hold."""
    attributor = gate.stack.services["attributor"]
    with gate.ingest(ON_LEDGER_DOWN="allow") as ingest:
        tags, budget = gate.account_with_budget()
        attributor.stop()
        gate.ledger.kill()
        caller = gate.caller(ingest.name)
        answer = caller.call(chat(), tags)
        caller.close()
        record = record_of(gate.stack, answer.call_id)
        gate.ledger.start()
        wait_until(lambda: gate.holds(answer.call_id), 30, "the forced hold")
        wait_until(lambda: gate.holds(answer.call_id) == [("captured", True, ONE, record["admitted_at"])], 30, "captured")
        assert gate.amounts(budget) == (0, ONE) and gate.breaches() == []
        attributor.start()
        gate.await_amounts(budget, ONE, timeout_s=60)
        gate.check_nothing_held()


@pytest.mark.parametrize("way, status", [("allow", 200), ("deny", 400)])
def test_a_model_without_a_price(gate, way, status):
    with gate.ingest(ON_UNPRICED=way) as ingest:
        tags, budget = gate.account_with_budget()
        caller = gate.caller(ingest.name)
        answer = caller.call(chat(model="no-such-model"), tags)
        caller.close()
        assert answer.status == status, answer.raw
        assert metric(ingest, "spend_ingest_gate_unpriced_total") == 1
        assert metric(ingest, "spend_ingest_refused_total", reason="unpriced") == (way == "deny")
        assert gate_total(ingest, "held" if way == "allow" else "refused") == 1
        assert record_of(gate.stack, answer.call_id)["outcome"] == ("rejected" if way == "deny" else "completed")
        if way == "deny":
            assert answer.error["type"] == "unpriced_model"
            wait_until(lambda: [row[0] for row in gate.holds(answer.call_id)] in ([], ["voided"]), 30, "nothing stands for it")
        assert gate.amounts(budget) == (0, 0)
        wait_until(lambda: metric(ingest, "spend_ingest_gate_untold") == 0, 30, "told")
        gate.api("POST", "/v1/holds/void", [{"call_id": answer.call_id}], token="ingest")  # else it stands until it is priced


@pytest.mark.parametrize("down", HTTP)
@pytest.mark.parametrize("cold", ["wait", "serve"])
def test_a_start_without_the_ledger(gate, cold, down):
    tags, budget = gate.account_with_budget()
    gate.ledger.kill()
    with gate.ingest(wait=False, ON_COLD_START=cold, ON_LEDGER_DOWN=down) as ingest:
        wait_until(lambda: "gate_away" in ingest.log(), 30, "it has asked in vain")
        if cold == "serve":
            ingest.wait_ready()
        wait_until(lambda: "kafka" not in http("GET", ingest.admin_url + "/readyz")[2].decode(), 30, "the rest is ready")
        status, _, text = http("GET", ingest.admin_url + "/readyz")
        assert status == (503 if cold == "wait" else 200)
        assert cold == "serve" or "gate: the ledger's gate has not answered yet" in text.decode()
        caller = gate.caller(ingest.name)
        answer, waited = timed(lambda: caller.call(chat(), tags))
        assert answer.status == HTTP[down] and waited < WAIT_S, answer.raw  # whoever comes all the same
        gate.ledger.start()
        ingest.wait_ready()
        wait_until(lambda: caller.call(chat(), tags).status == 200, 30, "calls pass")
        caller.close()
        wait_until(lambda: metric(ingest, "spend_ingest_gate_untold") == 0, 30, "all told")
        assert gate_total(ingest, "forced") == (1 if down == "allow" else 0)
        wait_until(lambda: gate.amounts(budget)[0] > 0 and gate.amounts(budget)[1] == 0, 60, "billed")


@pytest.mark.parametrize("way", HTTP)
def test_a_wrong_token_is_said(gate, way):
    with gate.ingest(wait=False, LEDGER_TOKEN="not-the-token", ON_LEDGER_DOWN=way, ON_COLD_START="serve") as ingest:
        ingest.wait_ready()
        caller = gate.caller(ingest.name)
        answer = caller.call(chat(), ["account_id=nobody"])
        caller.close()
        assert answer.status == HTTP[way]
        wait_until(lambda: metric(ingest, "spend_ingest_gate_away") == 1, 30, "the gauge is up")
        assert metric(ingest, "spend_ingest_gate_unanswered_total", reason="error") == 1
        assert "gate_away status=401" in ingest.log() and "set SPEND_LEDGER_TOKEN to the ledger's SPEND_INGEST_TOKEN" in ingest.log()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_quick_restart_of_the_ledger_under_load_refuses_no_call(gate, how):
    with gate.ingest(GATE_WAIT="60s", ON_LEDGER_DOWN="deny") as ingest:
        tags, budget = gate.account_with_budget()
        answers, over = [], threading.Event()

        def run():
            caller = Caller(ingest.port, 120)
            while not over.is_set():
                answers.append(caller.call(chat(), tags).status)
            caller.close()
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(answers) > 20, 60, "calls before")
            gate.ledger.stop() if how == "stop" else gate.ledger.kill()
            gate.ledger.start()
            before = len(answers)
            wait_until(lambda: len(answers) > before + 20, 60, "calls after")
        finally:
            over.set()
            for thread in threads:
                thread.join(120)
        assert set(answers) == {200}
        assert sum(value for name, value in ingest.metrics().items() if name.startswith("spend_ingest_gate_unanswered_total")) == 0
        gate.await_amounts(budget, len(answers) * ONE, timeout_s=60)
        gate.check_nothing_held()


def test_an_ingest_killed_leaves_holds_that_expire_and_calls_that_are_billed(gate):
    with gate.ingest() as ingest:
        tags, budget = gate.account_with_budget()
        with held_call(ingest, tags) as (first, _), held_call(ingest, tags) as (second, _):
            wait_until(lambda: reached_provider(first) and reached_provider(second), 30, "under way")
            gate.await_amounts(budget, 0, 2 * ONE)
            ids = [row[0] for row in gate.query("SELECT call_id FROM spend.hold WHERE state = 'placed'")]
            assert len(ids) == 2
            killed = time.monotonic()
            ingest.kill()
        gate.await_amounts(budget, 0, 0, timeout_s=60)
        assert time.monotonic() - killed >= LIFETIME_S - 2  # renewed a second before, at most
        assert {gate.holds(call_id)[0][0] for call_id in ids} == {"expired"}
        ingest.start()
        wait_until(lambda: gate.amounts(budget)[0] > 0 and gate.amounts(budget)[1] == 0, 60, "billed")
        for call_id in ids:
            call = wait_until(lambda call_id=call_id: (found := gate.api("GET", f"/v1/calls/{call_id}"))[0] == 200 and found[1], 60, "the call")
            assert (call["state"], call["outcome"], call["quality"]) == ("billed", "unknown", "estimated")
        gate.check_nothing_held()


def test_a_call_that_waits_for_the_gate_when_ingest_is_killed_costs_nothing(gate):
    with gate.ingest(GATE_WAIT="60s") as ingest:
        tags, budget = gate.account_with_budget(0)  # nothing would pass
        upstream = len(Provider.seen)
        gate.ledger.kill(signal.SIGSTOP)
        with contextlib.closing(Caller(ingest.port)) as caller:
            caller.connection.request("POST", "/v1/chat/completions", json.dumps(chat()), {"x-litellm-tags": ",".join(tags)})
            wait_until(lambda: metric(ingest, "spend_ingest_gate_waiting") == 1, 30, "it waits")
            ingest.kill()
        gate.ledger.kill(signal.SIGCONT)
        ingest.start()
        (row,) = wait_until(lambda: gate.query("SELECT c.outcome, c.raw_nanos FROM spend.call AS c JOIN spend.account AS a ON a.id = c.account"
                                               " WHERE a.account_id = %s", tags[0].partition("=")[2]), 60, "its record")
        assert row == ("rejected", 0) and gate.amounts(budget) == (0, 0) and len(Provider.seen) == upstream
        gate.check_nothing_held()


def test_an_ingest_that_stops_captures_what_runs_before_it_leaves(gate):
    """The bill does not come meanwhile: what is seen is the capture."""
    attributor = gate.stack.services["attributor"]
    with gate.ingest() as ingest:
        tags, budget = gate.account_with_budget()
        attributor.stop()
        with held_call(ingest, tags, stream=True, completion=10, max_tokens=50) as (name, finish):
            wait_until(lambda: reached_provider(name), 30, "under way")
            gate.await_amounts(budget, 0, cost(100, 50))
            ingest.kill(signal.SIGTERM)
            wait_until(lambda: "ev=draining" in ingest.log(), 30, "it drains")
            assert ingest.alive
            answer = finish()
        assert answer.status == 200 and b"[DONE]" in answer.raw
        assert ingest.process.wait(60) == 0
        assert gate.holds(answer.call_id)[0][:3] == ("captured", False, ONE)
        assert gate.amounts(budget) == (0, ONE) and gate.breaches() == []
        attributor.start()
        gate.await_amounts(budget, ONE, timeout_s=60)
        gate.check_nothing_held()


def test_observe_says_what_would_be_and_holds_and_refuses_nothing(gate):
    with gate.ingest(GATE="observe") as ingest:
        tags, budget = gate.account_with_budget(limit=1)
        with held_call(ingest, tags) as (name, finish):
            wait_until(lambda: reached_provider(name), 30, "let through")
            wait_until(lambda: gate_total(ingest, "would_block") == 1, 30, "judged")
            assert gate.amounts(budget) == (0, 0)
            answer = finish()
        assert (answer.status, answer.headers["x-spend-would-block"]) == (200, budget)
        assert record_of(gate.stack, answer.call_id)["gate"] == "observe"
        gate.await_amounts(budget, ONE)
        assert [row[0] for row in gate.holds(answer.call_id)] in ([], ["settled"])
        free, _ = gate.account_with_budget()
        with held_call(ingest, free) as (name, finish):
            wait_until(lambda: gate_total(ingest, "would_pass") == 1, 30, "judged")
            answer = finish()
        assert answer.status == 200 and "x-spend-would-block" not in answer.headers
        gate.check_nothing_held()


def test_observe_lets_all_through_while_the_ledger_is_away(gate):
    gate.ledger.kill()
    with gate.ingest(GATE="observe", ON_LEDGER_DOWN="deny") as ingest:  # ready, too
        wait_until(lambda: metric(ingest, "spend_ingest_gate_away") == 1, 30, "the gauge is up")
        caller = gate.caller(ingest.name)
        answer, waited = timed(lambda: caller.call(chat(), ["account_id=nobody"]))
        assert answer.status == 200 and waited < WAIT_S and "x-spend-would-block" not in answer.headers
        wait_until(lambda: gate_total(ingest, "unobserved") == 1, 30, "counted")
        assert gate_total(ingest, "forced") == 0 and metric(ingest, "spend_ingest_gate_untold") == 0
        gate.ledger.start()
        wait_until(lambda: metric(ingest, "spend_ingest_gate_away") == 0, 30, "the gauge is down")
        assert caller.call(chat(), ["account_id=nobody"]).status == 200
        wait_until(lambda: gate_total(ingest, "would_pass") == 1, 30, "asked again")
        caller.close()


@pytest.mark.parametrize("mode, status", [("observe", 200), ("enforce", 503)])
def test_capture_auto_fails_open_with_observe_alone(gate, mode, status):
    with gate.ingest(GATE=mode) as ingest:
        shutil.rmtree(gate.stack.dir / ingest.name)
        wait_until(lambda: metric(ingest, "spend_ingest_journal_lost") == 1, 30, "the journal's loss is seen")
        caller = gate.caller(ingest.name)
        answer = caller.call(chat(), ["account_id=nobody"])
        caller.close()
        assert answer.status == status, answer.raw
        assert metric(ingest, "spend_ingest_uncaptured_total") == (1 if mode == "observe" else 0)
        gate.check_nothing_held()


def test_no_more_is_remembered_than_gate_untold(gate):
    with gate.ingest(GATE_UNTOLD="3", ON_LEDGER_DOWN="allow") as ingest:
        tags, budget = gate.account_with_budget()
        caller = gate.caller(ingest.name)
        gate.ledger.kill()
        for _ in range(8):
            assert caller.call(chat(), tags).status == 200
        assert metric(ingest, "spend_ingest_gate_untold") == 3
        assert metric(ingest, "spend_ingest_gate_dropped_total") == 5
        gate.ledger.start()
        wait_until(lambda: metric(ingest, "spend_ingest_gate_untold") == 0, 60, "told")
        gate.await_amounts(budget, 8 * ONE, timeout_s=60)  # their bills come all the same
        gate.check_nothing_held()
        caller.close()


def test_a_caller_that_leaves_while_it_waits_for_the_gate_has_held_and_sent_nothing(gate):
    with gate.ingest(GATE_WAIT="30s") as ingest:
        tags, budget = gate.account_with_budget()
        upstream = len(Provider.seen)
        gate.ledger.kill(signal.SIGSTOP)
        caller = Caller(ingest.port)
        caller.connection.request("POST", "/v1/chat/completions", json.dumps(chat()), {"x-litellm-tags": tags[0]})
        wait_until(lambda: metric(ingest, "spend_ingest_gate_waiting") == 1, 30, "it waits")
        caller.connection.sock.close()
        caller.close()
        wait_until(lambda: metric(ingest, "spend_ingest_gate_waiting") == 0, 30, "it has left")
        assert metric(ingest, "spend_ingest_calls_total", outcome="rejected") == 1
        gate.ledger.kill(signal.SIGCONT)
        wait_until(lambda: metric(ingest, "spend_ingest_gate_untold") == 0, 30, "voided")
        assert gate.amounts(budget) == (0, 0) and len(Provider.seen) == upstream
        gate.check_nothing_held()
