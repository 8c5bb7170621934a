"""spend-ingest against a real Kafka and a provider that does as it is told: what reaches the caller, what reaches the
upstream, and what the record on spend.calls says."""

import contextlib
import hashlib
import hmac
import io
import json
import resource
import socket
import threading
import time
import uuid
from http.client import HTTPConnection

import fastavro
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from stack import ROOT, Stack, http, unread_bytes, wait_until

KEY = "sk-canary-4711"
PROMPT = "canary prompt 0815"


def schema(name):
    return fastavro.parse_schema(json.loads((ROOT / "schemas" / f"{name}.avsc").read_text(encoding="utf-8")))


SCHEMAS = {"spend.calls": schema("spend_call"), "spend.instances": schema("instance")}


READERS = {}


class Reader:
    """All of a topic so far; each look goes on where the last one ended."""

    def __init__(self, brokers, topic):
        # a fetch that waits for records holds up what is asked behind it
        self.consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reader", "enable.auto.commit": False,
                                  "fetch.wait.max.ms": 20})
        self.topic, self.found = topic, []
        parts = self.consumer.list_topics(topic, 10).topics[topic].partitions
        self.next = dict.fromkeys(parts, 0)
        self.consumer.assign([TopicPartition(topic, part, 0) for part in parts])

    def bounds(self, part):
        try:
            return self.consumer.get_watermark_offsets(TopicPartition(self.topic, part), 10)
        except KafkaException:  # no leader yet: the topic is new, or the broker just came back
            return None

    def read(self):
        ends = {part: wait_until(lambda part=part: self.bounds(part), 30, f"{self.topic} {part}")[1] for part in self.next}
        while any(self.next[part] < end for part, end in ends.items()):
            message = self.consumer.poll(10)
            if message is None or message.error():
                continue
            self.next[message.partition()] = message.offset() + 1
            raw = message.value()
            assert raw[:2] == b"\xc3\x01"
            record = fastavro.schemaless_reader(io.BytesIO(raw[10:]), SCHEMAS[self.topic])
            self.found.append((message.key(), record, raw))
        return list(self.found)


def close_readers():
    for reader in READERS.values():
        reader.consumer.close()
    READERS.clear()


def records(stack, topic):
    """Every record of a topic: (key, record, raw bytes)."""
    key = (stack.brokers, topic)
    if key not in READERS:
        READERS[key] = Reader(*key)
    return READERS[key].read()


def record_of(stack, call_id):
    """The one record of a call; all of its records must be the same bytes."""
    def found():
        mine = [(key, record, raw) for key, record, raw in records(stack, "spend.calls")
                if record["call_id"] == uuid.UUID(call_id).bytes]
        assert len({raw for _, _, raw in mine}) <= 1, "two records of one call differ"
        assert all(key == call_id.encode() for key, _, _ in mine)
        return mine and mine[0][1]
    return wait_until(found, 20, f"the record of {call_id}", every_s=0.2)


def usage(record):
    return {name: value for name, value in record["usage"].items() if value is not None}


def chat(ingest, order, stream=False, headers=None, **body):
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"{PROMPT} fake: {order}"}], **body}
    if stream:
        body["stream"] = True
    return http("POST", ingest.url + "/v1/chat/completions", body, {"Authorization": f"Bearer {KEY}", **(headers or {})})


def raw_exchange(port, data, timeout_s=10):
    """Sends bytes and reads until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
        client.sendall(data)
        got = b""
        while True:
            part = client.recv(65536)
            if not part:
                return got
            got += part


@contextlib.contextmanager
def ingest_stack():
    """A Kafka and a provider; whatever ingest was started must end well."""
    with Stack(parts=("kafka", "provider")) as stack:
        yield stack
        close_readers()
        for service in stack.services.values():
            service.stop()


@pytest.fixture(scope="module", name="stack")
def stack_fixture():
    with ingest_stack() as stack:
        stack.ingest(flags=["--header-time=1s", "--abort-drain=3s", "--beat-every=1s", "--body-bytes=4MiB"]).start()
        yield stack


@pytest.fixture(name="ingest")
def ingest_fixture(stack):
    return stack.services["ingest"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_tagged_call_is_recorded_with_the_callers_tags_and_the_providers_numbers(stack, ingest, stream):
    status, headers, _ = chat(ingest, "prompt=120 cached=20 completion=45 reasoning=10 tier=flex", stream,
                              {"x-litellm-tags": "account_id=acme, task=t1,,", "x-litellm-call-id": "theirs",
                               "x-litellm-spend-logs-metadata": '{"mine": 1}'},
                              tags=["r"], metadata={"tags": ["m"]}, litellm_metadata={"tags": ["l"]}, user="bob")
    assert status == 200
    call_id = headers["x-spend-call-id"]
    record = record_of(stack, call_id)
    tags = {tag["raw"]: tag["origins"] for tag in record["tags"]}
    assert tags == {"account_id=acme": ["header"], "task=t1": ["header"], "r": ["root"], "m": ["metadata"],
                    "l": ["litellm_metadata"], "end_user=bob": ["user"]}
    assert usage(record) == {"input": 100, "cache_read": 20, "output": 35, "reasoning": 10, "audio_in": 0, "audio_out": 0}
    assert (record["quality"], record["outcome"], record["service_tier"]) == ("final", "completed", "flex")
    assert record["stream"] == stream
    assert record["key_hash"] == hashlib.sha256(KEY.encode()).hexdigest()
    assert json.loads(record["provider_usage"])["prompt_tokens"] == 120
    seen = next(line for line in stack.provider_calls() if line["call_id"] == call_id)
    sent = {name.lower(): value for name, value in seen["headers"]}
    signature = hmac.new(stack.secret("spend_log").encode(), call_id.encode(), hashlib.sha256).hexdigest()[:32]
    assert json.loads(sent["x-litellm-spend-logs-metadata"]) == {"mine": 1, "spend_call_id": f"{call_id}.{signature}"}
    assert sent["x-litellm-tags"] == "account_id=acme, task=t1,,"
    assert not {"x-litellm-trace-id", "x-litellm-session-id"} & set(sent)


def test_a_kept_connection_takes_bodies_of_any_size(stack, ingest):
    """Memory of requests goes round between head, body and connection: none may keep another's bound."""
    client = HTTPConnection("127.0.0.1", ingest.port, timeout=30)
    for size in (10, 10, 200_000, 10, 3_000_000, 200_000, 10):
        body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "fake: prompt=5 completion=1 " + "x" * size}]})
        client.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {KEY}", "content-type": "application/json"})
        reply = client.getresponse()
        assert (reply.status, reply.read() != b"") == (200, True), size
        assert record_of(stack, reply.headers["x-spend-call-id"])["outcome"] == "completed"
    client.close()


def test_nothing_elsewhere_may_set_what_the_price_goes_by(stack, ingest):
    before = len(stack.provider_calls())
    for members in ({"extra_body": {"model": "gpt-4o-mini"}}, {"model_list": []}, {"model_id": "o3"}, {"deployment_id": "o3"}):
        status, _, body = chat(ingest, "prompt=5 completion=1", **members)
        assert (status, json.loads(body)["error"]["type"]) == (400, "price_elsewhere"), members
    assert len(stack.provider_calls()) == before
    assert chat(ingest, "prompt=5 completion=1", extra_body={"top_k": 5})[0] == 200


def test_what_asks_models_without_being_a_call_is_not_passed_on(ingest):
    refused = 'spend_ingest_refused_total{reason="not_metered"}'
    before = ingest.metrics()[refused]
    for path in ("/health", "/health?model=gpt-4o", "/health/"):
        status, _, body = http("GET", ingest.url + path)
        assert (status, json.loads(body)["error"]["type"]) == (501, "not_metered"), path
    assert ingest.metrics()[refused] == before + 3
    assert http("GET", ingest.url + "/health/liveliness")[0] != 501


def strip_ids(body, document):
    return body.replace(document["id"].encode(), b"ID").replace(str(document["created"]).encode(), b"TIME")


@pytest.mark.parametrize("order", ["chunks=5 bytes=300", "chunks=3 crlf=1", "chunks=2 split=1", "chunks=2 split=7 crlf=1"])
def test_a_stream_reaches_the_caller_as_the_provider_wrote_it_but_for_the_usage_chunk(stack, ingest, order):
    bodies = []
    for url, asks in ((ingest.url, False), (stack.provider_url, True)):
        body = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": f"x fake: {order}"}]}
        if asks:
            body["stream_options"] = {"include_usage": True}
        status, _, raw = http("POST", url + "/v1/chat/completions", body)
        assert status == 200
        events = raw.decode().replace("\r\n", "\n").split("\n\n")
        bodies.append(strip_ids(raw, json.loads(events[0][6:])))
    end = b"\r\n\r\n" if "crlf" in order else b"\n\n"
    whole = [event for event in bodies[1].split(end) if b'"choices": []' not in event]
    assert bodies[0] == end.join(whole)


def test_a_stream_that_asked_for_usage_gets_it(ingest):
    _, _, raw = chat(ingest, "prompt=9", True, stream_options={"include_usage": True})
    assert b'"choices": [], "usage"' in raw


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("size", [0, 1, 70000, 3000000])
def test_any_other_path_passes_byte_for_byte_and_is_not_recorded(ingest, method, size):
    before = ingest.metrics()['spend_ingest_requests_total{kind="call"}']
    body = bytes((i * 7 + i // 251) % 256 for i in range(size))
    for query in ("a=1&b=%2F", "chunked=1000"):
        status, headers, raw = http(method, f"{ingest.url}/key/any%20thing?{query}", body or None)
        assert status == 200 and raw == body
        assert headers["x-echo-method"] == method and headers["x-echo-target"] == f"/key/any%20thing?{query}"
        assert "x-spend-call-id" not in headers
    assert ingest.metrics()['spend_ingest_requests_total{kind="call"}'] == before


def test_head_and_empty_replies_have_no_body(ingest):
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
        client.sendall(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\nPOST /y?status=204 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
                       b"GET /z?status=304 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        raw = b"".join(iter(lambda: client.recv(65536), b""))
    assert raw.count(b"HTTP/1.1 ") == 3
    assert [part.split(b" ")[0] for part in raw.split(b"HTTP/1.1 ")[1:]] == [b"200", b"204", b"304"]


def test_pipelined_requests_are_answered_in_order_and_chunked_bodies_taken(ingest):
    requests = b""
    for number in range(20):
        text = b"body %d" % number
        last = b"Connection: close\r\n" if number == 19 else b""
        if number % 2:
            requests += b"POST /echo HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n%s" % (last, len(text), text)
        else:
            requests += b"POST /echo HTTP/1.1\r\nHost: a\r\n%sTransfer-Encoding: chunked\r\n\r\n3\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (
                last, text[:3], len(text) - 3, text[3:])
    raw = raw_exchange(ingest.port, requests)
    at = [raw.index(b"body %d" % number) for number in range(20)]
    assert at == sorted(at) and raw.count(b"HTTP/1.1 200") == 20


def test_expect_100_continue_is_answered_before_the_body_comes(ingest):
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        assert b"".join(iter(lambda: client.recv(65536), b"")).endswith(b"abc")


def test_limits_of_head_body_and_time_are_answered(ingest):
    assert raw_exchange(ingest.port, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431")
    assert raw_exchange(ingest.port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n").startswith(b"HTTP/1.1 413")
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"x" * 1048576 + b"\r\n"
    chunked += (b"100000\r\n" + b"x" * 1048576 + b"\r\n") * 4
    assert raw_exchange(ingest.port, chunked).startswith(b"HTTP/1.1 413")
    assert raw_exchange(ingest.port, b"GET / HTTP/1.1\r\nHos").startswith(b"HTTP/1.1 408")
    assert raw_exchange(ingest.port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\nx").startswith(b"HTTP/1.1 408")


def test_an_upstreams_error_is_a_failed_call_without_usage(stack, ingest):
    status, headers, raw = chat(ingest, "status=429")
    assert status == 429 and b"fake error 429" in raw
    record = record_of(stack, headers["x-spend-call-id"])
    assert (record["outcome"], record["quality"], record["upstream_status"]) == ("failed", "unknown", 429)
    assert usage(record) == {}


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_without_usage_is_estimated_by_its_text(stack, ingest, stream):
    status, headers, _ = chat(ingest, "usage=none bytes=41", stream)
    record = record_of(stack, headers["x-spend-call-id"])
    assert status == 200 and (record["outcome"], record["quality"]) == ("completed", "estimated")
    assert usage(record) == {"input": -(-len(f"{PROMPT} fake: usage=none bytes=41") // 4), "output": 11}


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_the_upstream_cuts_is_cut_for_the_caller_and_free(stack, ingest, stream):
    body = json.dumps({"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": "x fake: cut=3 bytes=500"}]})
    raw = raw_exchange(ingest.port, b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body), body.encode()))
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and not rest.endswith(b"0\r\n\r\n")
    call_id = next(line for line in head.decode().split("\r\n") if line.startswith("x-spend-call-id")).split(": ")[1]
    record = record_of(stack, call_id)
    assert (record["outcome"], record["quality"], usage(record)) == ("failed", "unknown", {})


def leave(ingest, order, stream, wait_for):
    """Opens a call and hangs up after the bytes `wait_for` (none: once it is under way). The call's id, when a head came."""
    body = json.dumps({"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": f"{PROMPT} fake: {order}"}]})
    got = b""
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode()))
        while wait_for and wait_for not in got:
            got += client.recv(65536)
        if not wait_for:
            wait_until(lambda: ingest.metrics()["spend_ingest_exchanges"] > 0, 10, "the call under way")
    lines = [line for line in got.decode(errors="replace").split("\r\n") if line.startswith("x-spend-call-id")]
    return lines[0].split(": ")[1] if lines else None


def test_a_caller_who_hangs_up_pays_what_the_upstream_reports_when_read_on(stack, ingest):
    call_id = leave(ingest, "prompt=120 completion=45 chunks=5 chunk_ms=100", True, b"delta")
    record = record_of(stack, call_id)
    assert (record["outcome"], record["quality"]) == ("aborted", "final")
    assert usage(record)["input"] == 120 and usage(record)["output"] == 45


def test_a_caller_who_hangs_up_on_a_plain_call_pays_it(stack, ingest):
    before = {record["call_id"] for _, record, _ in records(stack, "spend.calls")}
    leave(ingest, "prompt=121 completion=45 delay_ms=800", False, None)
    new = wait_until(lambda: [record for _, record, _ in records(stack, "spend.calls") if record["call_id"] not in before], 20)
    assert [(record["outcome"], record["quality"], record["usage"]["input"]) for record in new] == [("aborted", "final", 121)]


def test_an_upstream_that_goes_on_for_too_long_is_left_and_estimated(stack, ingest):
    call_id = leave(ingest, "chunks=100 chunk_ms=200 bytes=4000", True, b"delta")
    record = record_of(stack, call_id)
    assert (record["outcome"], record["quality"]) == ("aborted", "estimated")
    assert 50 < record["usage"]["output"] < 500


def test_a_slow_reader_is_held_back_and_gets_all(stack, ingest):
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x fake: bytes=6000000 chunks=300"}]})
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", ingest.port))
        client.settimeout(60)
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body), body.encode()))
        looks = [0]

        def held_back():
            looks.append(unread_bytes(stack.port("provider")))
            return looks[-1] == looks[-2] > 0
        wait_until(held_back, 30, "ingest reads no more", every_s=0.2)
        raw = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert raw.count(b"data: ") == 303 and raw.endswith(b"0\r\n\r\n")
    call_id = raw.split(b"x-spend-call-id: ")[1][:36].decode()
    assert record_of(stack, call_id)["outcome"] == "completed"


def test_an_upstream_that_is_away_is_a_502_and_a_failed_call(stack):
    ingest = stack.ingest("away", upstream="http://127.0.0.1:9", journal=stack.dir / "journal-away").start()
    status, headers, raw = chat(ingest, "x")
    assert status == 502 and json.loads(raw)["error"]["type"] == "upstream_unreachable"
    record = record_of(stack, headers["x-spend-call-id"])
    assert (record["outcome"], record["upstream_status"], usage(record)) == ("failed", None, {})
    ingest.stop()


def test_keys_prompts_and_completions_are_in_no_record_log_or_metric(stack, ingest):
    _, headers, _ = chat(ingest, "prompt=3")
    record_of(stack, headers["x-spend-call-id"])
    text = b"".join(raw for _, _, raw in records(stack, "spend.calls")) + ingest.log().encode()
    text += http("GET", ingest.admin_url + "/metrics")[2]
    for secret in (KEY, PROMPT, "This is a fake answer"):
        assert secret.encode() not in text


def seqs_of(stack, instance):
    """{seq: call ids}, of every record of an instance; each call's records must be the same bytes."""
    found, bytes_of = {}, {}
    for _, record, raw in records(stack, "spend.calls"):
        if record["instance"] == instance:
            found.setdefault(record["seq"], set()).add(record["call_id"])
            assert bytes_of.setdefault(record["call_id"], raw) == raw, "two records of one call differ"
    return found


def test_a_dead_siblings_journal_is_adopted_beaten_closed_and_removed(stack):
    folder = stack.dir / "journal-shared"
    first = stack.ingest("first", journal=folder).start()
    second = stack.ingest("second", journal=folder).start()
    assert len(list(folder.iterdir())) == 2
    ids = [chat(service, "prompt=5")[1]["x-spend-call-id"] for service in (first, second)]
    of_second = str(record_of(stack, ids[1])["instance"])
    threading.Thread(target=leave, args=(second, "chunks=50 chunk_ms=200", True, b"[DONE]"), daemon=True).start()
    wait_until(lambda: second.metrics()["spend_ingest_exchanges"] == 1)
    second.kill()
    first.restart()
    wait_until(lambda: len(list(folder.iterdir())) == 1, 20, "the dead journal removed")
    states = [record for _, record, _ in records(stack, "spend.instances") if record["instance"] == of_second]
    assert states[-1]["state"] == "closed" and states[-1]["next_seq"] == states[-1]["oldest_open_seq"] == 3
    assert sorted(seqs_of(stack, of_second)) == [1, 2]
    first.stop()
    of_first = next(folder.iterdir()).name
    assert [r["state"] for _, r, _ in records(stack, "spend.instances") if r["instance"] == of_first][-1] == "closed"


def test_callers_notice_nothing_while_kafka_is_away_and_nothing_is_lost(stack, ingest):
    stack.kill_part("kafka")
    ids = [chat(ingest, f"prompt={number}")[1]["x-spend-call-id"] for number in range(1, 30)]
    assert ingest.metrics()["spend_ingest_journal_undelivered"] >= 29
    stack.up("kafka")
    wait_until(lambda: ingest.metrics()["spend_ingest_journal_undelivered"] == 0, 60, "all delivered")
    mine = {str(uuid.UUID(bytes=record["call_id"])): record for _, record, _ in records(stack, "spend.calls")}
    assert [mine[call_id]["usage"]["input"] for call_id in ids] == list(range(1, 30))


def test_a_full_journal_is_a_503_until_kafka_is_back(stack):
    ingest = stack.ingest("full", journal=stack.dir / "journal-full",
                          flags=["--journal-bytes=2MiB", "--journal-segment-bytes=1MiB"]).start()
    stack.kill_part("kafka")
    statuses = []
    for _ in range(4000):
        status, headers, raw = chat(ingest, "prompt=1", tags=[f"{number:0250d}" for number in range(60)])
        statuses.append(status)
        if status == 503:
            break
    assert statuses[-1] == 503 and set(statuses[:-1]) == {200}
    assert headers["Retry-After"] == "1" and json.loads(raw)["error"]["type"] == "journal_full"
    wait_until(lambda: http("GET", ingest.admin_url + "/readyz")[0] == 503, 5, "not ready")
    stack.up("kafka")
    wait_until(lambda: chat(ingest, "prompt=1")[0] == 200, 60, "calls pass again")
    wait_until(lambda: ingest.metrics()["spend_ingest_journal_undelivered"] == 0, 60, "all delivered")
    folder = next((stack.dir / "journal-full").iterdir())
    assert sorted(seqs_of(stack, folder.name)) == list(range(1, len(statuses) + 1))
    ingest.stop()


def test_accepting_goes_on_once_there_are_descriptors_again_though_nobody_left(stack):
    ingest = stack.ingest("starved", journal=stack.dir / "journal-starved").start()
    pid = ingest.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
        wait_until(lambda: "accept_failed" in ingest.log(), 10, "no descriptor left")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    ingest.stop()


def test_an_instance_is_beaten_until_it_is_closed(stack):
    folder = stack.dir / "journal-beaten"
    ingest = stack.ingest("beaten", journal=folder, flags=["--beat-every=300ms"]).start()
    instance = next(folder.iterdir()).name
    thread = threading.Thread(target=chat, args=(ingest, "prompt=5 chunks=20 chunk_ms=150", True))
    thread.start()
    wait_until(lambda: ingest.metrics()["spend_ingest_exchanges"] == 1)
    ingest.process.terminate()
    stopped_us = time.time_ns() // 1000
    thread.join()
    ingest.stop()
    beats = [record for _, record, _ in records(stack, "spend.instances") if str(record["instance"]) == instance]
    while_draining = [beat for beat in beats if beat["state"] != "closed" and beat["at"] > stopped_us + 300_000]
    assert len(while_draining) >= 3
    assert beats[-1]["state"] == "closed"


def test_sigterm_lets_a_stream_end_and_refuses_new_ones(stack):
    ingest = stack.ingest("drained", journal=stack.dir / "journal-drained").start()
    result = []
    thread = threading.Thread(target=lambda: result.append(chat(ingest, "prompt=5 chunks=10 chunk_ms=150", True)))
    thread.start()
    wait_until(lambda: ingest.metrics()["spend_ingest_exchanges"] == 1)
    ingest.stop()
    thread.join()
    assert result[0][0] == 200 and result[0][2].endswith(b"data: [DONE]\n\n")
    assert record_of(stack, result[0][1]["x-spend-call-id"])["outcome"] == "completed"
