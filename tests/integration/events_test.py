"""Calls that others tell of as CloudEvents: each is billed once, each item is answered, and 202 means that Kafka has it."""

import datetime
import hashlib
import json
import uuid

import pytest

from integration.settle import judge, settle
from stack import Stack, http, wait_until

ACCOUNT = "events-acme"
USAGE = {"prompt_tokens": 120, "completion_tokens": 45, "total_tokens": 165, "prompt_tokens_details": {"cached_tokens": 20}}
RAW = "0.000725"  # gpt-4o: 100 x 2.50 + 20 x 1.25 + 45 x 10 USD a million
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


@pytest.fixture(scope="module")
def stack():
    with Stack(env={"SPEND_EVENTS_TIME": "3s"}) as stack:
        stack.start_services()
        assert stack.api("PUT", f"/v1/accounts/{ACCOUNT}", {"name": "Acme"})[0] in (200, 201)
        yield stack
        settle(stack)
        judge(stack, provider=False)


def now():
    return datetime.datetime.now(datetime.UTC).isoformat()


def event(number, data=None, **more):
    return {"specversion": "1.0", "id": number, "source": "batcher/1", "type": "spend.call", "time": now(),
            "data": {"operation": "chat", "provider": "openai", "model": "gpt-4o", "tags": [f"account_id={ACCOUNT}"],
                     "usage": USAGE, **(data or {})}, **more}


def call_id(number, source="batcher/1"):
    """UUIDv8 of SHA-256 of source, 0x1F, id: made here without Spendline's code."""
    raw = bytearray(hashlib.sha256(f"{source}\x1f{number}".encode()).digest()[:16])
    raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


def post(stack, body, kind=STRUCTURED, headers=None, token="ingest", path="/spend/v1/events", method="POST", timeout_s=30):
    auth = {"Authorization": f"Bearer {stack.secret(token)}"} if token else {}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, reply, raw = http(method, stack.services["ingest"].url + path, raw, {"Content-Type": kind, **auth, **(headers or {})},
                              timeout_s)
    return status, json.loads(raw), reply


def told(stack, number):
    def known():
        status, call = stack.api("GET", f"/v1/calls/{call_id(number)}")
        return status == 200 and call
    return wait_until(known, 30, f"the call of {number}")


def test_the_three_modes_bill_the_same(stack):
    one = event("structured")
    assert post(stack, one)[:2] == (202, {"items": [{"id": "structured", "status": "accepted", "call_id": call_id("structured")}]})
    batch = [event("b1"), event("b2", {"operation": "messages", "model": "claude-haiku-4-5", "provider": "anthropic", "usage": {
        "input_tokens": 100, "cache_read_input_tokens": 20, "output_tokens": 45}})]
    status, answer, _ = post(stack, batch, BATCH, token="operator")
    assert status == 202 and [item["status"] for item in answer["items"]] == ["accepted"] * 2
    binary = {f"ce-{name}": value for name, value in event("binary").items() if name != "data"}
    assert post(stack, event("x")["data"], "application/json", binary)[0] == 202
    for number in ("structured", "b1", "binary"):
        call = told(stack, number)
        assert (call["state"], call["raw"], call["account_id"], call["outcome"]) == ("billed", RAW, ACCOUNT, "completed"), call
    assert told(stack, "b2")["raw"] == "0.000327"  # 100 x 1.00 + 20 x 0.10 + 45 x 5 USD a million
    assert told(stack, "structured")["admitted_at"][:19] == one["time"][:19]


def test_each_item_is_answered_in_its_place(stack):
    bad = event("i2", {"operation": "dance"})
    late = event("i4", time=(datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)).isoformat())
    same = event("i1")
    status, answer, _ = post(stack, [same, bad, same, late, {**same, "data": {**same["data"], "model": "gpt-4o-mini"}}], BATCH)
    assert status == 202
    items = answer["items"]
    assert [item["status"] for item in items] == ["accepted", "invalid", "duplicate", "invalid", "conflict"]
    assert [item["id"] for item in items] == ["i1", "i2", "i1", "i4", "i1"]
    assert items[1]["call_id"] is None and "operation must be" in items[1]["reason"]
    assert "future" in items[3]["reason"]
    told(stack, "i1")


def test_the_same_event_again_is_billed_once(stack):
    again = event("again")
    for _ in range(3):
        assert post(stack, again)[0] == 202
    settle(stack)
    assert told(stack, "again")["raw"] == RAW
    entries = [entry for entry in stack.api("GET", f"/v1/accounts/{ACCOUNT}/entries?limit=1000")[1]["items"]
               if entry["call_id"] == call_id("again")]
    assert [entry["amount"] for entry in entries] == ["-" + RAW], entries


def test_no_usage_is_no_price_and_zero_is_zero(stack):
    assert post(stack, event("none", {"usage": None}))[0] == 202
    assert post(stack, event("zero", {"usage": {"prompt_tokens": 0, "completion_tokens": 0}}))[0] == 202
    call = told(stack, "none")
    assert (call["state"], call["reason"], call["raw"]) == ("dead", "unpriced", None)
    call = told(stack, "zero")
    assert (call["state"], call["raw"]) == ("billed", "0")


def test_who_may_send_and_what(stack):
    good = event("refused")
    assert post(stack, good, token=None)[0] == 401
    assert post(stack, good, token="reader")[0] == 401
    assert post(stack, good, "text/plain")[0] == 415
    assert post(stack, b"{", STRUCTURED)[0] == 400
    assert post(stack, [good] * 1001, BATCH)[0] == 413
    assert post(stack, good, path="/spend/v1/else")[0] == 404
    assert post(stack, good, method="PUT")[0] == 405
    assert stack.api("GET", f"/v1/calls/{call_id('refused')}")[0] == 404
    assert not [call for call in stack.provider_calls() if call["path"].startswith("/spend/")]


def test_202_means_that_kafka_has_it(stack):
    """Without Kafka the sender is told to come again; what it sent is billed once whatever it does."""
    stack.kill_part("kafka")
    lost = event("outage")
    status, answer, headers = post(stack, lost, timeout_s=60)
    assert (status, answer["error"]["type"], headers["Retry-After"]) == (503, "unconfirmed", "1")
    gone = event("gone")
    with pytest.raises(OSError):
        post(stack, gone, timeout_s=1)  # its sender leaves before it is answered
    stack.services["ingest"].restart(wait=False)
    stack.up("kafka")
    stack.services["ingest"].wait_ready()
    assert wait_until(lambda: post(stack, lost)[0] == 202, 60, "Kafka takes events again")
    for number in ("outage", "gone"):
        assert told(stack, number)["raw"] == RAW
    settle(stack)
    entries = stack.api("GET", f"/v1/accounts/{ACCOUNT}/entries?limit=1000")[1]["items"]
    assert [entry["amount"] for entry in entries if entry["call_id"] == call_id("outage")] == ["-" + RAW]
