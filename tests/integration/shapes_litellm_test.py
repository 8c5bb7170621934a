"""Every operation through the real LiteLLM: its very bytes, exact usage, billed, and at LiteLLM's own cost as its callback tells it."""

import contextlib
from decimal import Decimal

import pytest

from integration.settle import settle
from shapes_test import SHAPES, form
from stack import Stack, http, wait_until
from tee import Tee

ACCOUNT = "shapes-acme"
ASK_AGAIN = 6
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x fake: prompt=120 cached=20 completion=45 reasoning=10"}]}
WAYS = [("chat", False), ("chat", True)]
ASKED = [("chat", "asked"), ("completion", "asked")]  # streams whose caller asked for usage
WAYS += [(name, stream) for name, shape in SHAPES.items() for stream in (False, True)[:1 + shape[2]]] + [("transcription", False)]


def ask(url, key, way):
    """What one call was answered: headers and bytes."""
    name, stream = way
    headers = {"Authorization": f"Bearer {key}", "x-litellm-tags": f"account_id={ACCOUNT}"}
    if name == "transcription":
        body, kind = form({"model": "gpt-4o-transcribe", "prompt": "fake: prompt=14 audio=14 completion=5"})
        status, reply, raw = http("POST", url + "/v1/audio/transcriptions", body, {**headers, **kind}, 60)
    else:
        path, body = ("/v1/chat/completions", CHAT) if name == "chat" else SHAPES[name][:2]
        if name == "messages":
            body = {**body, "model": "claude-haiku-4-5"}
        body = {**body, **({"stream": True} if stream else {}), **({"stream_options": {"include_usage": True}} if stream == "asked" else {})}
        status, reply, raw = http("POST", url + path, body, headers, 60)
    assert status == 200, (way, status, raw)
    return reply, raw


def way_of(callback):
    """LiteLLM mints ids of its own for images, audio and reranking: a callback is known by what it is about."""
    name = {"acompletion": "chat", "atext_completion": "completion", "aresponses": "responses", "anthropic_messages": "messages",
            "aembedding": "embeddings", "arerank": "rerank", "aspeech": "speech", "atranscription": "transcription",
            "aimage_generation": {"dall-e-3": "images", "dall-e-2": "images_sized"}.get(callback["model_group"], "image_tokens"),
            }[callback["call_type"]]
    return name, bool(callback["stream"])


@pytest.fixture(scope="module")
def told():
    """For each way of asking: the call as the ledger tells it, LiteLLM's callback, what the caller got, and what ingest did."""
    with Stack(parts=("kafka", "postgres", "provider", "litellm")) as stack, contextlib.closing(Tee(stack.port("litellm"))) as tee:
        stack.start_services(upstream=tee.url)
        assert stack.api("PUT", f"/v1/accounts/{ACCOUNT}", {"name": "Acme"})[0] in (200, 201)
        calls = {}

        def heard():
            return {way_of(callback): callback for callback in stack.litellm_callbacks() if callback}
        for _ in range(ASK_AGAIN):  # LiteLLM loses callbacks that come while it POSTs others
            for way in [way for way in WAYS if way not in heard()]:
                calls[way] = ask(stack.services["ingest"].url, stack.litellm_key, way)
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: len(heard()) == len(WAYS), 15, "LiteLLM's callbacks")
                break
        assert len(heard()) == len(WAYS), set(WAYS) - set(heard())
        settle(stack)
        calls |= {way: ask(stack.services["ingest"].url, stack.litellm_key, way) for way in ASKED}
        ids = {way: reply["x-spend-call-id"] for way, (reply, _) in calls.items()}
        passed = tee.replies()
        yield {way: (stack.api("GET", f"/v1/calls/{call_id}")[1], heard().get(way), calls[way], passed[call_id]) for way, call_id in ids.items()}


# Where LiteLLM's figure is another, and why
DIFFERS = {
    ("messages", True): "it does not read how the cache writes of a stream split: those for an hour at the price of five minutes",
    ("images_sized", False): "it does not hand the size that was asked for to its look-up: every dall-e-2 image at the price of 1024x1024",
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[0]}-{'stream' if way[1] else 'plain'}")
def test_a_shape_costs_what_litellm_says(told, way):
    name, _ = way
    call, callback, _, _ = told[way]
    classes = SHAPES[name][3] if name in SHAPES else {
        "chat": {"input": 100, "cache_read": 20, "output": 35, "reasoning": 10},
        "transcription": {"audio_in": 14, "output": 5}}[name]
    assert {unit: value for unit, value in call["usage"].items() if value} == {unit: value for unit, value in classes.items() if value}
    assert (call["state"], call["outcome"], call["quality"], call["account_id"]) == ("billed", "completed", "final", ACCOUNT), call
    agrees = abs(Decimal(call["raw"]) - Decimal(repr(callback["response_cost"]))) <= Decimal("0.000000001")
    assert agrees == (way not in DIFFERS), (call["raw"], callback["response_cost"], call["lines"])


# what ingest makes anew, and what it adds
FRAMING = {"connection", "keep-alive", "transfer-encoding", "content-length", "x-spend-call-id"}


def lines(headers):
    return [(name.lower(), value) for name, value in headers.items() if name.lower() not in FRAMING]


@pytest.mark.parametrize("way", WAYS + ASKED, ids=lambda way: f"{way[0]}-{ {False: 'plain', True: 'stream'}.get(way[1], way[1])}")
def test_a_caller_gets_litellms_own_bytes(told, way):
    """All of them, but for the chunk with usage that ingest asked for."""
    _, _, (headers, raw), (_, their_headers, theirs) = told[way]
    assert lines(headers) == lines(their_headers)
    if way in (("chat", True), ("completion", True)):
        events = theirs.split(b"\n\n")
        usage = [event for event in events if b'"usage":{' in event.replace(b" ", b"")]
        assert len(usage) == 1, usage
        theirs = b"\n\n".join(event for event in events if event not in usage)
    assert raw == theirs
