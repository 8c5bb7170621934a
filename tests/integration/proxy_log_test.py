"""What LiteLLM's own log says of calls: evidence by default, billed on demand, and never the second bill of a call that went
through ingest, whichever is told first."""

import contextlib
import json
import uuid
from decimal import Decimal

import pytest

from integration.settle import judge, read_topic, settle
from shapes_litellm_test import ASK_AGAIN, WAYS, ask, way_of
from stack import ROOT, Stack, http, wait_until

ACCOUNT = "shapes-acme"  # what ask() tags its calls with
DATA = ROOT / "tests/testdata/litellm"
CAPTURED = sorted(DATA.glob("callback_*.json"))


def tell(ingest, token, payloads, status=202):
    """Posts payloads as LiteLLM does; the answer's items."""
    got, _, raw = http("POST", ingest.url + "/spend/v1/litellm", payloads if isinstance(payloads, bytes) else
                       json.dumps(payloads).encode(), {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}, 60)
    assert got == status, (got, raw)
    return json.loads(raw).get("items")


def suspense(stack):
    """The sum of what waits in suspense, in USD."""
    return sum(Decimal(stack.api("GET", f"/v1/accounts/~suspense%2F{reason}")[1]["balance"])
               for reason in ("untagged", "unknown", "conflict", "unpriced"))


def balance(stack):
    return Decimal(stack.api("GET", f"/v1/accounts/{ACCOUNT}")[1]["balance"])


@pytest.fixture(scope="module")
def heard():
    """A stack whose every way of calling went through LiteLLM; LiteLLM's callbacks, by way; ids, by way."""
    with Stack(parts=("kafka", "postgres", "provider", "litellm"), env={"SPEND_PROXY_LOG": "bill"}) as stack:
        stack.start_services(upstream=stack.litellm_url)
        assert stack.api("PUT", f"/v1/accounts/{ACCOUNT}", {"name": "Acme"})[0] in (200, 201)
        first = stack.ingest("first", upstream=stack.litellm_url, journal=stack.dir / "first").start()
        early, late = {}, {}

        def told():
            return {callback["metadata"]["spend_logs_metadata"]["spend_call_id"].partition(".")[0]: callback
                    for callback in stack.litellm_callbacks() if callback}

        def ask_all(ingest, into):
            for _ in range(ASK_AGAIN):  # LiteLLM loses callbacks that come while it POSTs others
                for way in [way for way in WAYS if into.get(way) not in told()]:
                    into[way] = ask(ingest.url, stack.litellm_key, way)[0]["x-spend-call-id"]
                with contextlib.suppress(TimeoutError):
                    wait_until(lambda: set(into.values()) <= set(told()), 15, "LiteLLM's callbacks")
                    return
        ask_all(stack.services["ingest"], late)
        # what the other one captures stays in its journal: Kafka is not there for it
        first.restart(wait=False, env={"SPEND_KAFKA_BROKERS": "127.0.0.1:1"})
        wait_until(lambda: answers(first), 30, "the one without Kafka")
        ask_all(first, early)
        first.kill()
        settle_but(stack, "first")
        yield stack, told(), early, late


def answers(ingest):
    try:
        return http("GET", ingest.url + "/health/liveliness", timeout_s=5)[0] == 200
    except OSError:
        return False


def settle_but(stack, name):
    service = stack.services.pop(name)
    settle(stack)
    stack.services[name] = service


def raw_of(stack, call_id):
    status, call = stack.api("GET", f"/v1/calls/{call_id}")
    return (call["state"], call["raw"], call["account_id"]) if status == 200 else None


def test_ids_come_back_signed_whatever_the_shape(heard):
    _, told, early, late = heard
    assert set(early) == set(late) == set(WAYS)
    for way, call_id in [*early.items(), *late.items()]:
        assert way_of(told[call_id]) == way


def test_a_callback_that_comes_last_changes_nothing(heard):
    stack, told, _, late = heard
    before = {way: raw_of(stack, call_id) for way, call_id in late.items()}
    money = balance(stack), suspense(stack)
    items = tell(stack.services["ingest"], stack.secret("ingest"), [None, *(told[call_id] for call_id in late.values()), None])
    assert [(item["status"], item["call_id"]) for item in items] == [("accepted", call_id) for call_id in late.values()]
    settle_but(stack, "first")
    assert {way: raw_of(stack, call_id) for way, call_id in late.items()} == before
    assert all(state == "billed" for state, _, _ in before.values()), before
    assert (balance(stack), suspense(stack)) == money


def test_a_callback_that_comes_first_is_the_same_bill(heard):
    """Where LiteLLM kept nothing of the tags the cost waits in suspense until ingest's own record comes; all is billed once."""
    stack, told, early, late = heard
    money = balance(stack)
    waited = suspense(stack)
    tell(stack.services["ingest"], stack.secret("operator"), [told[call_id] for call_id in early.values()])
    settle_but(stack, "first")
    told_by_litellm = [raw_of(stack, call_id) for call_id in early.values()]
    assert {"dead", "billed"} == {state for state, _, _ in told_by_litellm}
    assert suspense(stack) < waited
    assert money + waited - balance(stack) - suspense(stack) == sum(Decimal(raw or 0) for _, raw, _ in told_by_litellm)
    stack.services["first"].start(env={"SPEND_KAFKA_BROKERS": stack.brokers})
    settle(stack)
    assert suspense(stack) == waited
    for way, call_id in early.items():
        assert raw_of(stack, call_id) == raw_of(stack, late[way]), way
    bills = [Decimal(raw_of(stack, call_id)[1] or 0) for call_id in early.values()]
    assert balance(stack) == money - sum(bills)


def test_the_oracle_agrees(heard):
    stack, *_ = heard
    settle(stack)
    judge(stack)


# -- what was captured from a real LiteLLM, posted as it came

# Where the bill is another than LiteLLM's figure, by model group: what it is then, and why (docs/prices.md)
EXPLAINED = {
    "pricey": ("0.000725", "0.019"),  # that deployment had a price of its own in LiteLLM's configuration; ours is the price file's
}


@pytest.fixture(scope="module")
def billed():
    """Every captured payload and row of SpendLogs, told to an ingest that bills them: name -> (call, LiteLLM's cost)."""
    with Stack(env={"SPEND_PROXY_LOG": "bill"}) as stack:
        stack.start_services()
        ingest, token = stack.services["ingest"], stack.secret("ingest")
        payloads = {path.name: json.loads(path.read_text(encoding="utf-8"))[0] for path in CAPTURED}
        rows = [json.loads(line) for line in (DATA / "spendlogs_rows.jsonl").read_text(encoding="utf-8").splitlines()]
        costs = {name: payload["response_cost"] for name, payload in payloads.items()}
        ids = {}
        for name, payload in payloads.items():
            items = tell(ingest, token, [payload])
            assert [item["status"] for item in items] == ["accepted"], (name, items)
            ids[name] = items[0]["call_id"]
        items = tell(ingest, token, (DATA / "spendlogs_rows.jsonl").read_bytes())
        assert [item["status"] for item in items] == ["accepted"] * len(rows)
        for row, item in zip(rows, items, strict=True):
            ids[row["request_id"]], costs[row["request_id"]] = item["call_id"], row["spend"]
        head, _, body = (DATA / "callback_raw_batch_with_null.http").read_bytes().partition(b"\r\n\r\n")
        assert head and {item["status"] for item in tell(ingest, token, body)} == {"accepted"}
        settle(stack)
        yield {name: (stack.api("GET", f"/v1/calls/{call_id}")[1], costs[name]) for name, call_id in ids.items()}
        judge(stack, provider=False)


def test_what_was_captured_is_billed_at_litellms_cost(billed):
    differ = set()
    for name, (call, cost) in billed.items():
        raw, cost = Decimal(call["raw"]), Decimal(repr(cost))
        if abs(raw - cost) > Decimal("0.000000001"):
            assert EXPLAINED.get(call["model_requested"]) == (str(raw), str(cost)), (name, call, cost)
            differ.add(name)
    assert len(billed) == len(CAPTURED) + 20 and len(differ) == 15, differ


# -- evidence

@pytest.fixture(scope="module")
def compare():
    with Stack() as stack:
        stack.start_services()
        yield stack


def test_by_default_nothing_of_it_is_billed(compare):
    payloads = [json.loads(path.read_text(encoding="utf-8"))[0] for path in CAPTURED]
    items = tell(compare.services["ingest"], compare.secret("ingest"), payloads)
    assert {item["status"] for item in items} == {"evidence"}
    settle(compare)
    assert not read_topic(compare.brokers, ["spend.calls"])
    metrics = compare.services["ingest"].metrics()
    assert metrics['spend_ingest_proxy_log_total{result="evidence"}'] == len(payloads)
    assert metrics['spend_ingest_proxy_log_calls_total{seen="elsewhere"}'] == len(payloads)


def forged():
    payload = json.loads((DATA / "callback_success.json").read_text(encoding="utf-8"))[0]
    payload["metadata"]["spend_logs_metadata"] = {"spend_call_id": f"{uuid.uuid4()}.{'0' * 32}"}
    return payload


def test_a_call_id_that_is_not_signed_by_us_is_a_conflict(compare):
    items = tell(compare.services["ingest"], compare.secret("ingest"), forged())
    assert [item["status"] for item in items] == ["conflict"]
    assert compare.services["ingest"].metrics()['spend_ingest_proxy_log_total{result="conflict"}'] == 1
    settle(compare)
    assert not read_topic(compare.brokers, ["spend.calls"])
    judge(compare, provider=False)


def test_where_they_are_billed_its_cost_waits_in_suspense(heard):
    stack, *_ = heard
    before = suspense(stack)
    items = tell(stack.services["ingest"], stack.secret("ingest"), [forged()])
    assert [item["status"] for item in items] == ["conflict"]
    settle(stack)
    assert raw_of(stack, items[0]["call_id"]) == ("dead", "0.000725", "~suspense/conflict")
    assert before - suspense(stack) == Decimal("0.000725")
    judge(stack)


def test_what_is_refused_whole_is_said(heard):
    """LiteLLM never sends again."""
    stack, *_ = heard
    ingest = stack.services["ingest"]
    tell(ingest, "not-the-token", [], status=401)
    tell(ingest, stack.secret("ingest"), b"[1", status=400)
    assert ingest.log().count("proxy_log_refused") == 2
