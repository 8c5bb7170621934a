"""spend-ingest between callers it must refuse and upstreams that do not keep to the rules: raw sockets on both sides."""

import contextlib
import json
import queue
import re
import shutil
import signal
import socket
import struct
import threading
import time

import pytest
from stack import unread_bytes, wait_until
from ingest_test import ingest_stack, record_of, records, usage


class Upstream:
    """A provider of raw bytes: each request it reads is answered by the next answer, a list of bytes to send with "close"
    or "reset" between or after them, or a function that gets the connection and the request."""

    def __init__(self):
        self.requests, self.answers = [], queue.Queue()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(ConnectionError):
            while (request := read_message(connection)) is not None:
                self.requests.append(request)
                for step in self.answers.get(timeout=20):
                    if callable(step):
                        step(connection)
                    elif step == "close":
                        return
                    elif step == "reset":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                        return
                    else:
                        connection.sendall(step)

    def close(self):
        self.listener.close()


def read_message(connection, got=b""):
    """One message with a Content-Length or none; None when the other side is gone."""
    while b"\r\n\r\n" not in got:
        part = connection.recv(65536)
        if not part:
            return None
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        part = connection.recv(65536)
        if not part:
            return None
        body += part
    return head + b"\r\n\r\n" + body


def post(prompt="p", last=False, **body):
    raw = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": prompt}], **body}).encode()
    close = b"Connection: close\r\n" if last else b""
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n%s" % (close, len(raw), raw)


def reply_body(text="fine", prompt=7, completion=5, **more):
    return json.dumps({"model": "gpt-4o", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
                       "usage": {"prompt_tokens": prompt, "completion_tokens": completion}, **more}).encode()


def reply(body, length=None, head=b""):
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s" % (
        head, len(body) if length is None else length, body)


def call_id_of(raw):
    return raw.split(b"x-spend-call-id: ")[1][:36].decode()


def talk(port, request):
    """Sends a request and reads until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.fixture(scope="module", name="stack")
def stack_fixture():
    with ingest_stack() as stack:
        yield stack


@pytest.fixture(scope="module", name="upstream")
def upstream_fixture():
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="module", name="ingest")
def ingest_fixture(stack, upstream):
    return stack.ingest("faults", upstream=upstream.url, journal=stack.dir / "journal-faults",
                        flags=["--abort-drain=500ms", "--upstream-idle=30s"]).start()


def test_starters_of_one_new_directory_each_get_a_journal_of_their_own(stack, upstream):
    """One may see another's directory before its lock stands, and take it for a dead one's."""
    names = [f"starter-{number}" for number in range(6)]
    journal = stack.dir / "journal-starters"
    for _ in range(3):
        for name in names:
            (stack.services.get(name) or stack.ingest(name, upstream=upstream.url, journal=journal)).start(wait=False)
        for name in names:
            stack.services[name].wait_ready()
        assert len([path for path in journal.iterdir() if path.is_dir()]) == len(names)
        for name in names:
            stack.services[name].stop()
        for path in sorted(journal.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def test_a_refused_request_is_answered_once_and_the_connection_goes_on(stack, upstream):
    ingest = stack.ingest("full", upstream=upstream.url, journal=stack.dir / "journal-full",
                          flags=["--journal-bytes=2MiB", "--journal-segment-bytes=1MiB"]).start()
    stack.kill_part("kafka")
    big = post(tags=[f"{number:0250d}" for number in range(60)])
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
        for sent in range(1, 400):
            upstream.answers.put([reply(reply_body())])
            client.sendall(big)
            if b"HTTP/1.1 503" in (raw := read_message(client)):
                break
        upstream.answers.get_nowait()
        assert b"journal_full" in raw and len(upstream.requests) == sent - 1
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):  # one reply, no more
            client.recv(1)
        client.settimeout(10)
        upstream.answers.put([reply(b"echo")])
        client.sendall(b"GET /models HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET /key HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_message(client).endswith(b"echo")
        upstream.answers.put([reply(b"echo 2")])
        assert read_message(client).endswith(b"echo 2")
    assert b"/models" in upstream.requests[-2] and len(upstream.requests) == sent + 1
    assert ingest.metrics()['spend_ingest_refused_total{reason="journal_full"}'] == 1
    stack.up("kafka")
    wait_until(lambda: ingest.metrics()["spend_ingest_journal_undelivered"] == 0, 60, "all delivered")
    assert len(upstream.requests) == sent + 1
    ingest.stop()


WHOLE = reply_body(prompt=70, completion=50)


def all_read(connection):
    """A reset takes away what the other side has not read."""
    wait_until(lambda: unread_bytes(connection.getsockname()[1]) == 0, 10, "ingest has read it all")


@pytest.mark.parametrize("answer", [
    [reply(WHOLE, len(WHOLE) + 9), "close"],
    [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(WHOLE), WHOLE), "close"],
    [b"HTTP/1.1 200 OK\r\n\r\n" + WHOLE, all_read, "reset"],
], ids=["length", "chunked", "reset"])
def test_usage_that_came_whole_counts_however_untidily_the_reply_ends(stack, upstream, ingest, answer):
    upstream.answers.put(answer)
    record = record_of(stack, call_id_of(talk(ingest.port, post())))
    assert (record["outcome"], record["quality"]) == ("failed", "partial")
    assert usage(record) == {"input": 70, "output": 50}


def test_a_plain_reply_cut_by_the_drain_is_estimated_by_its_bytes(stack, upstream, ingest):
    part = WHOLE[:len(WHOLE) - 12]  # in the midst of a number
    upstream.answers.put([reply(part, len(WHOLE)), lambda _: time.sleep(2), "close"])
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
        client.sendall(post())
        got = b""
        while part not in got:
            got += client.recv(65536)
    record = record_of(stack, call_id_of(got))
    assert (record["outcome"], record["quality"]) == ("aborted", "estimated")
    assert usage(record) == {"input": 1, "output": -(-len(part) // 4)}


def test_a_crash_in_a_plain_reply_is_billed_for_what_had_come(stack, upstream):
    ingest = stack.ingest("crash", upstream=upstream.url, journal=stack.dir / "journal-crash").start()
    part = reply_body("x" * 4000)[:3000]
    upstream.answers.put([reply(part, 9000), lambda _: time.sleep(3), "close"])
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
        client.sendall(post())
        got = b""
        while part not in got:
            got += client.recv(65536)
    ingest.kill()
    ingest.start()
    record = record_of(stack, call_id_of(got))
    assert (record["outcome"], record["quality"], usage(record)) == ("unknown", "estimated", {"input": 1, "output": 750})
    ingest.stop()


def test_a_reply_nobody_asked_for_goes_to_nobody(stack, upstream, ingest):
    stale, connections = reply(reply_body("stale", 1000, 1000)), []
    upstream.answers.put([reply(reply_body("first")), connections.append])
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
        client.sendall(post())
        assert b"first" in read_message(client)
        wait_until(lambda: connections and ingest.metrics()["spend_ingest_upstream_idle"] > 0, 10, "an idle link")
        upstream.answers.put([reply(reply_body("second"))])
        ingest.kill(signal.SIGSTOP)  # it learns of both at once, of the request first
        try:
            client.sendall(post())
            connections[0].sendall(stale)
        finally:
            ingest.kill(signal.SIGCONT)
        raw = read_message(client)
    assert b"second" in raw and b"stale" not in raw
    assert usage(record_of(stack, call_id_of(raw))) == {"input": 7, "output": 5}


def test_replies_may_have_many_header_lines_and_a_bad_one_is_left_out(stack, upstream, ingest):
    lines = b"".join(b"llm_provider-x-%d: v\r\n" % number for number in range(400)) + b"X-Bad: a\x01b\r\nX-Good: g\r\n"
    upstream.answers.put([reply(WHOLE, head=lines)])
    raw = talk(ingest.port, post(last=True))
    assert raw.startswith(b"HTTP/1.1 200") and raw.endswith(WHOLE)
    assert raw.count(b"llm_provider-x-") == 400 and b"X-Good: g" in raw and b"X-Bad" not in raw
    record = record_of(stack, call_id_of(raw))
    assert (record["outcome"], record["quality"], usage(record)) == ("completed", "final", {"input": 70, "output": 50})


@pytest.mark.parametrize("line", [b"Transfer-Encoding: chunked\x01", b"Connection: clo\x01se", b" folded", b"X : y"])
def test_a_bad_line_about_framing_still_fails_the_reply(upstream, ingest, line):
    upstream.answers.put([reply(WHOLE, head=line + b"\r\n")])
    assert talk(ingest.port, post(last=True)).startswith(b"HTTP/1.1 502")


def test_texts_of_a_reply_that_no_record_may_hold_cost_only_themselves(stack, upstream, ingest):
    body = reply_body(prompt=70, completion=50, service_tier="fl\u0001ex", model="gpt\u0001x")
    upstream.answers.put([reply(body)])
    record = record_of(stack, call_id_of(talk(ingest.port, post(last=True))))
    assert (record["outcome"], record["quality"], usage(record)) == ("completed", "final", {"input": 70, "output": 50})
    assert (record["model_replied"], record["service_tier"]) == ("gpt", "fl")
    upstream.answers.put([reply(WHOLE, head=b"x-litellm-call-id: a\tb\r\n")])
    record = record_of(stack, call_id_of(talk(ingest.port, post(last=True))))
    assert (record["quality"], usage(record)) == ("final", {"input": 70, "output": 50})
    assert ingest.metrics()["spend_ingest_unfinished_total"] == 0


@pytest.mark.parametrize("behind", [b"", b"GET /models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"], ids=["alone", "pipelined"])
def test_a_steady_slow_reader_gets_all_however_long_ago_its_reply_was_done_upstream(stack, upstream, behind):
    name = "slow-reader" + ("-pipelined" if behind else "")
    ingest = stack.ingest(name, upstream=upstream.url, journal=stack.dir / f"journal-{name}",
                          flags=["--idle-time=1s", "--header-time=1s"]).start()
    body = reply_body("x" * 350_000)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)  # small buffers: what waits, waits with us
        client.connect(("127.0.0.1", ingest.port))
        client.settimeout(10)
        for answer in [body, b"models"][:2 if behind else 1]:
            upstream.answers.put([reply(answer)])
        client.sendall(post() + behind)
        got = b""
        while body not in got:
            part = client.recv(6000)
            assert part, f"cut after {len(got)} bytes"
            got += part
            time.sleep(0.03)
        if behind:
            assert read_message(client, got.partition(body)[2]).endswith(b"models")
    ingest.stop()


def beats_of(stack, instance):
    return [record for _, record, _ in records(stack, "spend.instances") if str(record["instance"]) == instance]


def segment_records(path):
    """(seq, kind, offset) of each record, by its magic."""
    raw = path.read_bytes()
    heads = (struct.unpack_from("<IIIIQ", raw, at) + (at,) for at in range(64, len(raw) - 48, 8))
    return [(seq, kind, at) for magic, _, _, kind, seq, at in heads if magic == 0x4C4A5053]


def boot_of_another_machine(journal):
    """As after its power was cut: the boot id in the lock is not that of now."""
    lock = (journal / "lock").read_text(encoding="ascii")
    (journal / "lock").write_text("0" * 36 + lock[36:], encoding="ascii")


@pytest.mark.parametrize("damage", ["record", "header", "power"])
def test_a_damaged_journal_is_not_continued_nor_beaten_closed_but_set_aside(stack, upstream, damage):
    folder = stack.dir / f"journal-damaged-{damage}"
    ingest = stack.ingest(f"damaged-{damage}", upstream=upstream.url, journal=folder, flags=["--beat-every=300ms"]).start()
    ids = []
    for _ in range(3):
        upstream.answers.put([reply(WHOLE)])
        ids.append(call_id_of(talk(ingest.port, post(last=True))))
    old = next(folder.iterdir())
    wait_until(lambda: ingest.metrics()["spend_ingest_journal_undelivered"] == 0, 30, "all delivered")
    wait_until(lambda: [b for b in beats_of(stack, old.name) if b["next_seq"] == 4], 20, "a beat that knows of all")
    ingest.kill()
    segment = min(path for path in old.glob("*.seg") if segment_records(path))
    raw = bytearray(segment.read_bytes())
    of_third = [at for seq, _, at in segment_records(segment) if seq == 3]
    for at in of_third if damage == "record" else [20] if damage == "header" else []:
        raw[at + 20] ^= 1
    if damage == "power":  # another boot of the machine; pages that were not written read as zeros
        raw[of_third[0]:] = bytes(len(raw) - of_third[0])
        boot_of_another_machine(old)
    segment.write_bytes(raw)
    ingest.start()
    wait_until(lambda: "ev=journal_set_aside" in ingest.log(), 20, "the journal set aside")
    assert sorted(path.suffix for path in folder.iterdir()) == ["", ".damaged"]
    upstream.answers.put([reply(WHOLE)])
    record = record_of(stack, call_id_of(talk(ingest.port, post(last=True))))
    assert str(record["instance"]) != old.name and record["seq"] == 1
    metrics = ingest.metrics()
    told = {"record": metrics["spend_ingest_journal_skipped_bytes_total"] > 0,
            "header": metrics["spend_ingest_journal_damaged_total"] == 1,
            "power": re.search(f"ev=journal_recovered instance={old.name} own=no finished=[012] open=0 skipped=0 damaged=0 cut=yes "
                               "boot=1 next_seq=3", ingest.log())}
    assert told[damage], ingest.log()
    assert metrics["spend_ingest_journals_set_aside"] == 1
    ingest.restart()
    assert ingest.log().count("ev=journal_set_aside") == 1
    last = beats_of(stack, old.name)[-1]
    assert (last["state"], last["next_seq"]) == ("alive", 4)
    if damage == "record":
        shutil.rmtree(next(folder.glob("*.damaged")))
        wait_until(lambda: ingest.metrics()["spend_ingest_journals_set_aside"] == 0, 20, "the directory missed")
    ingest.stop()


def test_a_journal_that_was_closed_survives_the_machine(stack, upstream):
    folder = stack.dir / "journal-closed"
    ingest = stack.ingest("closed", upstream=upstream.url, journal=folder).start()
    upstream.answers.put([reply(WHOLE)])
    first = record_of(stack, call_id_of(talk(ingest.port, post(last=True))))
    ingest.stop()
    old, = folder.iterdir()
    boot_of_another_machine(old)
    ingest.start()
    wait_until(lambda: not old.exists(), 20, "the closed journal removed")
    assert "ev=journal_set_aside" not in ingest.log() and len(list(folder.iterdir())) == 1
    upstream.answers.put([reply(WHOLE)])
    second = record_of(stack, call_id_of(talk(ingest.port, post(last=True))))
    assert first["instance"] != second["instance"] and second["seq"] == 1
    assert [beat["state"] for beat in beats_of(stack, old.name)][-1] == "closed"
    ingest.stop()


def test_an_answer_that_comes_before_the_whole_request_was_read_reaches_the_caller(stack):
    """A provider that refuses by the head alone answers and closes while we still send."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ingest = stack.ingest("early", upstream=url, journal=stack.dir / "journal-early").start()
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
                sender = threading.Thread(target=client.sendall, args=(post("x" * 4_000_000),))
                sender.start()
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                raw = read_message(client)
                sender.join()
            assert raw.startswith(b"HTTP/1.1 401") and raw.endswith(b"{}")
            record = record_of(stack, call_id_of(raw))
            assert (record["outcome"], record["upstream_status"], usage(record)) == ("failed", 401, {})
        threading.Thread(target=lambda: [listener.accept()[0].close() for _ in range(2)], daemon=True).start()
        raw = talk(ingest.port, post("x" * 4_000_000, last=True))  # no answer at all is a 502 as ever
        assert raw.startswith(b"HTTP/1.1 502")
        ingest.stop()


def test_a_caller_who_leaves_during_such_an_answer_pays_for_it(stack):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ingest = stack.ingest("early-left", upstream=url, journal=stack.dir / "journal-early-left").start()
        with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
            sender = threading.Thread(target=client.sendall, args=(post("x" * 16_000_000, stream=True),))
            sender.start()
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(STREAM_HEAD + chunked(STREAM_TEXT))
            raw = b""
            while b"hello" not in raw:
                raw += client.recv(65536)
            sender.join()
        with connection:
            wait_until(lambda: ingest.metrics()["spend_ingest_connections"] == 0, 20, "the caller gone")
            connection.sendall(chunked(STREAM_USAGE, STREAM_DONE) + b"0\r\n\r\n")
            record = record_of(stack, call_id_of(raw))
        assert (record["outcome"], record["quality"]) == ("aborted", "final")
        assert usage(record) == {"input": 10, "output": 5}
        ingest.stop()


def chunked(*events):
    return b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_TEXT = b'data: {"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
STREAM_ERROR = b'data: {"error":{"message":"no"}}\n\n'
STREAM_USAGE = b'data: {"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}\n\n'
STREAM_DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("events, outcome, quality", [
    ((STREAM_TEXT, STREAM_USAGE, STREAM_DONE), "completed", "final"),
    ((STREAM_TEXT, STREAM_DONE), "completed", "estimated"),
    ((STREAM_TEXT, STREAM_ERROR, STREAM_DONE), "failed", "unknown"),
    ((STREAM_TEXT, STREAM_USAGE), "failed", "partial"),
], ids=["usage", "no-usage", "error", "not-done"])
def test_a_stream_that_said_it_is_done_is_whole_whatever_became_of_its_last_chunk(stack, upstream, ingest, events, outcome, quality):
    upstream.answers.put([STREAM_HEAD + chunked(*events), "close"])
    record = record_of(stack, call_id_of(talk(ingest.port, post(stream=True))))
    assert (record["outcome"], record["quality"]) == (outcome, quality)


def test_a_ledger_that_is_away_keeps_no_calls_out_but_the_clock_is_said_to_be_unknown(stack, upstream):
    ingest = stack.ingest("clockless", upstream=upstream.url, journal=stack.dir / "journal-clockless",
                          env={"SPEND_LEDGER_URL": "http://127.0.0.1:9"}).start()
    wait_until(lambda: "ev=clock_unknown" in ingest.log(), 10, "the warning")
    assert ingest.ready() and ingest.metrics()["spend_ingest_clock_known"] == 0
    ingest.stop()
