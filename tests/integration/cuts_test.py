"""Replies cut at every byte, by the upstream and by the caller: one record each, with the outcome, quality and usage that the rules of
docs/ingest.md give, told here from the bytes alone; nothing is kept of such calls, neither memory nor descriptors."""

import gzip
import json
import re
import subprocess

import pytest
from cuts import Bench, Call, body_of, is_whole, memory_kib, sockets
from fake_shapes import Completion, Messages, Responses, sse
from ingest_test import ingest_stack, records, usage
from stack import ROOT, wait_until

TEXT = "hello"
KEPT_BYTES = 128  # a call, of what a round may add
ROUNDS = 8
EVENT_BYTES = 4096
TOLD = {"prompt": 120, "cached": 20, "written": 30, "hour": 10, "completion": 45, "reasoning": 10}
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHAT_PATH = b"/v1/chat/completions"


def chunked(events, head=CHUNKED):
    return head + b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


def chat_event(**more):
    return sse(None, {"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": TEXT}}], **more})


USAGE = {"prompt_tokens": 120, "completion_tokens": 45, "prompt_tokens_details": {"cached_tokens": 20},
         "completion_tokens_details": {"reasoning_tokens": 10}}
USAGE_EVENT = sse(None, {"model": "gpt-4o", "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"


def request(path, stream=True, **body):
    return path, json.dumps({"model": "gpt-4o", **({"stream": True} if stream else {}), **body}).encode()


def recording(shape):
    """A stream as a provider writes it."""
    return [sse(*event) for event in shape({"model": "m"}, TOLD, 7).stream()]


CHAT_BODY = {"messages": [{"role": "user", "content": TEXT}]}
ASKED = {**CHAT_BODY, "stream_options": {"include_usage": True}}
CACHED = {"input": 100, "cache_read": 20, "output": 35, "reasoning": 10}
CLAUDE = {"input": 120, "cache_read": 20, "cache_write_5m": 20, "cache_write_1h": 10}
# events, request, classes once one, two .. usage objects have come whole, what ends it
STREAMS = {
    "chat": ([chat_event(), chat_event(), USAGE_EVENT, DONE], request(CHAT_PATH, **ASKED), [CACHED], "data: [DONE]"),
    "messages": (recording(Messages), request(b"/v1/messages", **CHAT_BODY), [{**CLAUDE, "output": 1}, {**CLAUDE, "output": 45}],
                 'data: {"type": "message_stop"}'),
    "responses": (recording(Responses), request(b"/v1/responses", input=TEXT), [CACHED], None),
}
STREAMS["filtered"] = (STREAMS["chat"][0], request(CHAT_PATH, **CHAT_BODY), [CACHED], "data: [DONE]")


def wire_of(name):
    return chunked(STREAMS[name][0])


def usages_in(text):
    """How many usage objects stand in it whole."""
    count = 0
    for match in re.finditer(r'"usage": (?=\{)', text):
        try:
            json.JSONDecoder().raw_decode(text, match.end())
            count += 1
        except ValueError:
            pass
    return count


def text_in(text):
    """Bytes of what a stream says: whole strings alone, and not those of the whole reply at its end."""
    lines = [line.partition('"response":')[0] for line in text.split("\n")]
    return sum(len(said) for line in lines for said in re.findall(r'"(?:content|text|delta)": "([^"]*)"', line))


def tokens(count):
    return -(-count // 4)


def estimate(output_bytes):
    return {"input": tokens(len(TEXT)), "output": tokens(output_bytes)}


def is_done(name, text):
    """The stream has said that it is over."""
    end = STREAMS[name][3]
    if end:
        return end in text
    last = text.rpartition("data: ")[2]
    return '"response.completed"' in last and last.count("{") == last.count("}")


def due_of(name, wire):
    """What the caller is given of so much of it."""
    body = body_of(wire)
    if body is None or name != "filtered":
        return body
    whole = body[:body.rfind(b"\n\n") + 2] if b"\n\n" in body else b""
    return whole.replace(USAGE_EVENT, b"")


def expected(name, call):
    """(outcome, quality, classes) by the rules; told from what the upstream had sent and who left."""
    came = call.wire[:call.cut] if call.upstream != "rest" else call.wire
    before = body_of(call.wire[:call.cut])
    text = (body_of(came) or b"").decode()
    left, stays_head = call.caller in ("fin", "rst", "half"), body_of(came) is None
    had_all = before is not None and is_done(name, before.decode()) and (before.endswith(b"\n\n") or is_whole(came[:call.cut]))
    whole = is_whole(came) or is_done(name, text)
    if stays_head and not (left and call.upstream == "hold"):
        return "failed", "unknown", {}
    outcome = "completed" if whole and (had_all or not left) else "aborted" if left else "failed"
    count = usages_in(text)
    if count == 0:
        return (outcome, "estimated", estimate(text_in(text))) if outcome != "failed" \
            else (outcome, "unknown", {})
    classes = STREAMS[name][2][count - 1]
    if outcome == "aborted" and count < len(STREAMS[name][2]) and tokens(text_in(text)) > classes["output"]:
        return outcome, "estimated", {**classes, "output": tokens(text_in(text))}
    return outcome, "final" if whole else "partial", classes


@pytest.fixture(scope="module", name="bench")
def bench_fixture():
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture(scope="module", name="stack")
def stack_fixture(bench):
    flags = ["--upstream-idle=300ms", f"--sse-event-bytes={EVENT_BYTES}"]
    with ingest_stack() as stack:
        for name, more in {"patient": ["--abort-drain=60s"], "hasty": ["--abort-drain=100ms"],
                           "impatient": ["--upstream-time=2s"]}.items():
            stack.ingest(name, upstream=bench.url, journal=stack.dir / f"journal-{name}", flags=flags + more).start()
        yield stack


def nonzero(record):
    return {name: value for name, value in usage(record).items() if value or name in ("input", "output")}


def check(stack, bench, calls, rule):
    """Each call's one record is what the rule says; all that differ are told."""
    bench.match(records(stack, "spend.calls"))
    wrong = []
    for call in calls:
        assert call.record is not None, f"no record of the call cut at {call.cut}"
        got = (call.record["outcome"], call.record["quality"], nonzero(call.record))
        if got != rule(call):
            wrong.append(f"cut at {call.cut} behind {call.wire[:call.cut][-30:]!r}: {got}, not {rule(call)}")
    assert not wrong, f"{len(wrong)} of {len(calls)}\n" + "\n".join(wrong[:12])


def check_given(name, call):
    """What reached the caller."""
    if call.caller in ("fin", "rst", "half"):
        assert call.due is None or call.body.startswith(call.due), call.cut
    elif call.upstream == "rest":
        assert call.body == due_of(name, call.wire), call.cut
    elif call.due is None:
        assert call.got.startswith(b"HTTP/1.1 502"), call.cut
    else:
        assert call.body == call.due and is_whole(call.got) == is_whole(call.wire[:call.cut]), call.cut


# the upstream, the caller
WAYS = [("fin", "stay"), ("rst", "stay"), ("hold", "fin"), ("rest", "rst"), ("rest", "pause")]


def sweep(name, upstream, caller):
    wire, ask = wire_of(name), STREAMS[name][1]
    return [Call(ask, wire, cut, upstream, caller, due_of(name, wire[:cut])) for cut in range(len(wire) + 1)]


@pytest.mark.parametrize("upstream, caller", [*WAYS, ("gone", "half")])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_at_every_byte_has_one_true_record(stack, bench, name, upstream, caller):
    ingest = stack.services["hasty" if upstream == "hold" else "patient"]
    calls = sweep(name, upstream, caller)
    bench.run(calls, ingest)
    check(stack, bench, calls, lambda call: expected(name, call))
    for call in calls:
        check_given(name, call)


@pytest.mark.parametrize("upstream", ["fin", "rst"])
def test_a_stream_without_framing_ends_where_its_connection_closes(stack, bench, upstream):
    """Nothing tells a cut from an end but a reset."""
    wire = CHUNKED.replace(b"Transfer-Encoding: chunked\r\n", b"") + b"".join(STREAMS["chat"][0])
    calls = [Call(STREAMS["chat"][1], wire, cut, upstream, "stay", body_of(wire[:cut])) for cut in range(len(wire))]

    def rule(call):
        body = (body_of(call.wire[:call.cut]) or b"").decode()
        if upstream == "rst" or call.due is None:
            return expected("chat", call)
        return ("completed", "final", CACHED) if usages_in(body) else ("completed", "estimated", estimate(text_in(body)))
    bench.run(calls, stack.services["patient"])
    check(stack, bench, calls, rule)
    for call in calls:
        assert call.due is None or (call.body == call.due and is_whole(call.got) == (upstream == "fin"))


@pytest.fixture(scope="module", name="lean")
def lean_fixture(stack, bench):
    """Two ingests without sanitizers, which keep memory of their own: a call's 160 bytes kept on purpose could not be told from theirs."""
    for command in (["--preset", "release"], ["--build", "--preset", "release", "--target", "spend-ingest"]):
        subprocess.run(["cmake", *command], cwd=ROOT, check=True, capture_output=True)
    found = {}
    for name, drain in (("patient", "60s"), ("hasty", "100ms")):
        found[name] = stack.ingest(f"lean-{name}", upstream=bench.url, journal=stack.dir / f"journal-lean-{name}",
                                   flags=["--upstream-idle=300ms", f"--abort-drain={drain}"])
        found[name].program = ROOT / "build/release/bin/spend-ingest"
        found[name].start()
    return found


@pytest.mark.parametrize("name", ["patient", "hasty"])
def test_neither_memory_nor_sockets_are_kept_of_all_that(stack, bench, lean, name):
    """A round of every way to be cut, again and again: what is kept of each call grows in every round, all else comes to an end."""
    ingest = lean[name]
    ways = [way for way in WAYS if (way[0] == "hold") == (name == "hasty")]

    def idle():
        wait_until(lambda: ingest.metrics()["spend_ingest_upstream_idle"] == 0, 10, "no link kept")

    def grown():
        """Bytes a call that a round added; no socket may be left."""
        before = memory_kib(ingest.process), sockets(ingest.process), bench.last
        for upstream, caller in ways:
            bench.run(sweep("chat", upstream, caller) + sweep("filtered", upstream, caller), ingest)
        idle()
        wait_until(lambda: sockets(ingest.process) <= before[1], 10, "sockets given back")
        return (memory_kib(ingest.process) - before[0]) * 1024 / (bench.last - before[2])
    bench.run(sweep("chat", *ways[0]), ingest)
    idle()
    rounds = [grown()]
    while len(rounds) < ROUNDS and rounds[-1] >= KEPT_BYTES:
        rounds.append(grown())
    assert rounds[-1] < KEPT_BYTES, f"it keeps of each call {rounds} bytes"
    bench.match(records(stack, "spend.calls"))


# -- replies that are no stream

PLAIN = json.dumps({"model": "gpt-4o", "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}}],
                    "usage": USAGE, "object": "chat.completion"}).encode()
PLAIN_ASK = request(CHAT_PATH, stream=False, **CHAT_BODY)
CALLER_WAYS = [("fin", "stay"), ("hold", "fin"), ("rest", "rst")]


def reply(body, more=b"", status=b"200 OK"):
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s" % (status, more, len(body), body)


def expected_plain(call, readable):
    came = call.wire[:call.cut] if call.upstream != "rest" else call.wire
    body, left = body_of(came), call.caller in ("fin", "rst")
    whole, had_all = is_whole(came), is_whole(call.wire[:call.cut])
    if body is None and not (left and call.upstream == "hold"):
        return "failed", "unknown", {}
    outcome = "completed" if whole and (had_all or not left) else "aborted" if left else "failed"
    if readable and usages_in((body or b"").decode()):
        return outcome, "final" if whole else "partial", CACHED
    return (outcome, "unknown", {}) if outcome == "failed" else (outcome, "estimated", estimate(len(body or b"")))


@pytest.mark.parametrize("upstream, caller", CALLER_WAYS)
@pytest.mark.parametrize("kind", ["length", "gzip"])
def test_a_plain_reply_cut_at_every_byte_has_one_true_record(stack, bench, kind, upstream, caller):
    wire = reply(PLAIN) if kind == "length" else reply(gzip.compress(PLAIN, mtime=0), b"Content-Encoding: gzip\r\n")
    calls = [Call(PLAIN_ASK, wire, cut, upstream, caller, body_of(wire[:cut])) for cut in range(len(wire) + 1)]
    bench.run(calls, stack.services["hasty" if upstream == "hold" else "patient"])
    check(stack, bench, calls, lambda call: expected_plain(call, kind == "length"))
    for call in calls:
        check_given("plain", call)


# -- streams that are not as they should be, whole and a byte at a time: what is expected, outcome, quality, classes

SAID = len(TEXT)
TWICE = sse(None, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
ZERO = sse(None, {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}})
HUGE = sse(None, {"choices": [{"index": 0, "delta": {"content": "x" * 5000}}]})
ERROR = b'event: error\ndata: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'
FINAL = ("completed", "final", CACHED)
GUESSED = ("completed", "estimated", estimate(SAID))
ODD = {
    "crlf": (b"".join((chat_event(), USAGE_EVENT, DONE)).replace(b"\n", b"\r\n"), FINAL),
    "cr": (b"".join((chat_event(), USAGE_EVENT, DONE)).replace(b"\n", b"\r"), FINAL),
    "mixed line ends": (chat_event().replace(b"\n\n", b"\r\n\r") + USAGE_EVENT.replace(b"\n\n", b"\n\r\n") + DONE, FINAL),
    "byte order mark": (b"\xef\xbb\xbf" + chat_event() + USAGE_EVENT + DONE, FINAL),
    "comments and fields": (b": hello\n\n:\n\nid: 7\nretry: 10\n\n" + chat_event() + b"event: x\nid\n" + USAGE_EVENT + b": bye\n\n" + DONE, FINAL),
    "no colon": (b"data\n\nnonsense\n\n" + chat_event() + b"datax: {}\n\n" + USAGE_EVENT + DONE, FINAL),
    "no blank": (b"data:" + USAGE_EVENT[6:] + DONE, FINAL),
    "many data lines": (USAGE_EVENT.replace(b", ", b",\ndata: ") + DONE, FINAL),
    "no JSON": (b"data: {nonsense\n\ndata: 7\n\ndata: []\n\n" + USAGE_EVENT + DONE, FINAL),
    "NUL": (b'data: {"choices": [{"delta": {"content": "a\0b"}}]}\n\n' + b"data: \0\n\n" + USAGE_EVENT + DONE, FINAL),
    "no UTF-8": (b'data: {"choices": [{"delta": {"content": "\xff\xfe\xc3"}}]}\n\n' + USAGE_EVENT + DONE, FINAL),
    "deep": (b'data: {"x": ' + b"[" * 500 + b"]" * 500 + b"}\n\n" + USAGE_EVENT + DONE, FINAL),
    "huge": (HUGE + USAGE_EVENT + DONE, FINAL),
    "huge usage": (chat_event() + sse(None, {"x": "x" * 5000, "choices": [], "usage": USAGE}) + DONE, GUESSED),
    "no end of the last event": (chat_event() + USAGE_EVENT[:-2], FINAL),
    "no done": (chat_event() + USAGE_EVENT, FINAL),
    "twice": (chat_event() + TWICE + USAGE_EVENT + DONE, FINAL),
    "twice, in a content chunk": (chat_event(usage={"prompt_tokens": 7, "completion_tokens": 3}) + USAGE_EVENT + DONE, FINAL),
    "behind done": (chat_event() + DONE + USAGE_EVENT, FINAL),
    "zero": (chat_event() + ZERO + DONE, ("completed", "final", {"input": 0, "output": 0})),
    "null": (chat_event() + sse(None, {"choices": [], "usage": None}) + DONE, GUESSED),
    "empty": (chat_event() + sse(None, {"choices": [], "usage": {}}) + DONE, GUESSED),
    "missing": (chat_event() + DONE, GUESSED),
    "one side": (chat_event() + sse(None, {"choices": [], "usage": {"prompt_tokens": 120}}) + DONE, ("completed", "final", {"input": 120})),
    "negative": (chat_event() + sse(None, {"choices": [], "usage": {"prompt_tokens": 120, "completion_tokens": -1}}) + DONE,
                 ("completed", "estimated", {"input": 120, "output": tokens(SAID)})),
    "text for numbers": (chat_event() + sse(None, {"choices": [], "usage": {"prompt_tokens": "many", "completion_tokens": "7"}}) + DONE, GUESSED),
    "error": (chat_event() + ERROR, ("failed", "unknown", {})),
    "error and usage": (chat_event() + ERROR + USAGE_EVENT + DONE, FINAL),
    "error and done": (chat_event() + ERROR + DONE, ("failed", "unknown", {})),
    "nothing": (b"", ("completed", "estimated", estimate(0))),
}


def without_usage_chunks(body):
    """What a caller is given who did not ask for usage."""
    kept = b""
    for event in re.findall(rb".+?(?:(?:\r\n|\n|\r(?!\n)){2}|$)", body, re.S):
        lines = re.split(rb"\r\n|\n|\r", event)
        data = b"\n".join(line[5:] for line in lines if line.startswith(b"data:"))
        try:
            document = json.loads(data) if len(event) < EVENT_BYTES else None
        except ValueError:
            document = None
        if not (isinstance(document, dict) and isinstance(document.get("usage"), dict) and document.get("choices") == []):
            kept += event
    return kept


@pytest.mark.parametrize("ask", ["asked", "filtered"])
def test_streams_that_are_not_as_they_should_be(stack, bench, ask):
    """Whatever it is, it goes to the caller as it came, but for chunks with usage that the caller did not ask for."""
    calls, rules = [], {}
    for odd, rule in ODD.values():
        for events in ([odd] if odd else [], [odd[at:at + 1] for at in range(len(odd))]):
            wire = chunked(events)
            calls.append(Call(request(CHAT_PATH, **(ASKED if ask == "asked" else CHAT_BODY)), wire, len(wire), "rest", "stay", b""))
            rules[calls[-1]] = rule
    bench.run(calls, stack.services["patient"])
    check(stack, bench, calls, lambda call: rules[call])
    for call in calls:
        assert is_whole(call.got)
        assert call.body == (body_of(call.wire) if ask == "asked" else without_usage_chunks(body_of(call.wire)))


# -- upstreams that say too little, or no

ERRORS = {
    "400 with a body": (reply(b'{"error": {"message": "no"}}', status=b"400 Bad Request"), 400),
    "429 without a body": (reply(b"", b"Retry-After: 1\r\n", b"429 Too Many Requests"), 429),
    "500 with usage": (reply(PLAIN, status=b"500 Internal Server Error"), 500),
    "502 in chunks": (chunked([b"<html>"], CHUNKED.replace(b"200 OK", b"502 Bad Gateway")), 502),
    "503 until it closes": (b"HTTP/1.1 503 Service Unavailable\r\n\r\nbusy", 503),
    "529 as a stream": (chunked([ERROR], CHUNKED.replace(b"200 OK", b"529 Overloaded")), 529),
}


@pytest.mark.parametrize("ask", [PLAIN_ASK, request(CHAT_PATH, **CHAT_BODY)], ids=["plain", "stream"])
def test_an_error_of_the_upstream_reaches_the_caller_and_costs_nothing(stack, bench, ask):
    calls = [Call(ask, wire, len(wire), "fin", "stay", b"") for wire, _ in ERRORS.values()]
    bench.run(calls, stack.services["patient"])
    check(stack, bench, calls, lambda call: ("failed", "unknown", {}))
    for call, (wire, status) in zip(calls, ERRORS.values()):
        assert call.got.startswith(b"HTTP/1.1 %d " % status) and call.body == body_of(wire)
        assert call.record["upstream_status"] == status


def test_a_silent_upstream_is_left_after_its_time(stack, bench):
    """Before a byte, within the head, and in mid-stream before and behind usage."""
    wire = wire_of("chat")
    cuts = [0, 20, wire.index(b"\r\n\r\n") + 4, wire.index(USAGE_EVENT), wire.index(USAGE_EVENT) + len(USAGE_EVENT), wire.index(DONE) + len(DONE)]
    calls = [Call(STREAMS["chat"][1], wire, cut, "hold", "stay", body_of(wire[:cut])) for cut in cuts]
    bench.run(calls, stack.services["impatient"])
    check(stack, bench, calls, lambda call: expected("chat", call))
    assert [call.record["outcome"] for call in calls] == ["failed"] * 5 + ["completed"]
    for call in calls:
        assert call.got.startswith(b"HTTP/1.1 504" if call.due is None else b"HTTP/1.1 200")
        assert call.due is None or call.body == call.due
