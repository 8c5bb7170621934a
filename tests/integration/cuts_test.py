"""Replies cut at every byte, by the upstream and by the caller: one record each, with the outcome, quality and usage that the rules of
docs/ingest.md give, told here from the bytes alone; nothing is kept of such calls, neither memory nor descriptors."""

import gzip
import json
import re

import pytest
from cuts import Bench, Call, body_of, descriptors, is_whole, memory_kib
from fake_shapes import Completion, Messages, Responses, sse
from ingest_test import ingest_stack, records, usage
from stack import wait_until

TEXT = "hello"
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
        return (outcome, "estimated", {"input": tokens(len(TEXT)), "output": tokens(text_in(text))}) if outcome != "failed" \
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
    flags = ["--upstream-idle=300ms", "--connections=2000"]
    with ingest_stack() as stack:
        for name, more in {"patient": ["--abort-drain=60s"], "hasty": ["--abort-drain=100ms"],
                           "strict": ["--upstream-time=500ms", "--sse-event-bytes=4KiB", "--reply-bytes=8KiB"]}.items():
            stack.ingest(name, upstream=bench.url, journal=stack.dir / f"journal-{name}", flags=flags + more,
                         env={"ASAN_OPTIONS": "quarantine_size_mb=1"}).start()
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
