"""Every operation through ingest, plain and streamed: the caller's bytes are the provider's, the record says what was used."""

import hashlib
import uuid

import pytest

from ingest_test import record_of, stack_fixture, usage  # noqa: F401
from stack import http, wait_until

ORDER = "prompt=120 cached=20 written=30 hour=10 completion=45 reasoning=10 units=2"
TEXT = {"input": f"hello there fake: {ORDER}"}
MESSAGES = {"messages": [{"role": "user", "content": TEXT["input"]}], "max_tokens": 50}
CACHED = {"input": 100, "cache_read": 20, "output": 35, "reasoning": 10}
TOKENS = {"input": 120, "output": 45}
CLAUDE = {"input": 120, "cache_read": 20, "cache_write_5m": 20, "cache_write_1h": 10, "output": 45}
# path, body, does it stream, the classes
SHAPES = {
    "completion": ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": TEXT["input"]}, True, TOKENS),
    "responses": ("/v1/responses", {"model": "gpt-5", **TEXT}, True, CACHED),
    "messages": ("/v1/messages", {"model": "claude-sonnet-4-5", **MESSAGES}, True, CLAUDE),
    "embeddings": ("/v1/embeddings", {"model": "text-embedding-3-small", **TEXT}, False, {"input": 120}),
    "rerank": ("/v1/rerank", {"model": "rerank-v3.5", "query": TEXT["input"], "documents": ["a", "b"]}, False, {"requests": 2}),
    "images": ("/v1/images/generations", {"model": "dall-e-3", "prompt": "a cat fake: units=1", "n": 2}, False, {"images": 2}),
    "images_sized": ("/v1/images/generations", {"model": "dall-e-2", "prompt": "a cat fake: units=1", "size": "512x512"}, False,
                     {"images": 1}),
    "image_tokens": ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "a cat fake: prompt=50 images=40 completion=60"},
                     False, {"input": 10, "image_in": 40, "output": 60}),
    "speech": ("/v1/audio/speech", {"model": "tts-1", "voice": "alloy", "input": "hello  there fake: units=1"}, False,
               {"characters": 22}),
}


def operation_of(name):
    return "image" if name.startswith("image") else name


def send(url, path, body, headers=None):
    return http("POST", url + path, body, {"x-litellm-tags": "account_id=acme", **(headers or {})}, 30)


def reply_hash(stack, call_id):
    """What the provider says that it answered."""
    return wait_until(lambda: next((line["reply_sha256"] for line in stack.provider_calls() if line["call_id"] == call_id), None), 10,
                      "the provider's account of it")


WAYS = [(name, stream, split) for name, shape in SHAPES.items() for stream in (False, True)[:1 + shape[2]] for split in (False, True)]


@pytest.mark.parametrize("name, stream, split", WAYS)
def test_a_shape_is_passed_byte_by_byte_and_its_usage_is_exact(stack, name, stream, split):
    path, body, _, classes = SHAPES[name]
    if split:
        body = {key: f"{value} split=1" if isinstance(value, str) and "fake:" in value else value for key, value in body.items()}
    if stream and name == "completion":
        body = {**body, "stream_options": {"include_usage": True}}
    status, headers, raw = send(stack.services["ingest"].url, path, {**body, **({"stream": True} if stream else {})})
    assert status == 200
    call_id = headers["x-spend-call-id"]
    assert hashlib.sha256(raw).hexdigest() == reply_hash(stack, call_id)
    record = record_of(stack, call_id)
    assert usage(record) == classes if not (split and name == "speech") else usage(record) == {"characters": 29}
    assert (record["operation"], record["outcome"], record["quality"]) == (operation_of(name), "completed", "final")
    assert (record["model_requested"], record["stream"]) == (body["model"], stream)
    assert [tag["raw"] for tag in record["tags"]] == ["account_id=acme"]


def form(fields, file=b"fake audio"):
    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
             for name, value in fields.items()]
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n'.encode() + file + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


@pytest.mark.parametrize("order, classes, quality", [
    ("prompt=14 audio=14 completion=5", {"input": 0, "audio_in": 14, "output": 5}, "final"),
    ("seconds=7.25", {"seconds_milli": 7250}, "final"),
    ("units=1", {}, "unknown"),
])
def test_a_transcription_is_read_from_its_form_and_its_reply(stack, order, classes, quality):
    body, headers = form({"model": "gpt-4o-transcribe", "prompt": f"fake: {order}", "metadata": '{"tags": ["task=t1"]}', "user": "bob"})
    status, reply, raw = send(stack.services["ingest"].url, "/v1/audio/transcriptions", body, headers)
    assert status == 200
    call_id = reply["x-spend-call-id"]
    assert hashlib.sha256(raw).hexdigest() == reply_hash(stack, call_id)
    record = record_of(stack, call_id)
    assert (usage(record), record["quality"], record["model_requested"]) == (classes, quality, "gpt-4o-transcribe")
    assert {tag["raw"] for tag in record["tags"]} == {"account_id=acme", "task=t1", "end_user=bob"}
    assert not record["body_unparsed"]


def test_an_edit_of_an_image_is_read_from_its_form_and_its_reply(stack):
    body, headers = form({"model": "gpt-image-1", "prompt": "fake: prompt=50 images=40 completion=60"}, b"\x89PNG fake image")
    status, reply, raw = send(stack.services["ingest"].url, "/v1/images/edits", body, headers)
    assert status == 200
    call_id = reply["x-spend-call-id"]
    assert hashlib.sha256(raw).hexdigest() == reply_hash(stack, call_id)
    record = record_of(stack, call_id)
    assert (record["operation"], record["model_requested"], record["quality"]) == ("image", "gpt-image-1", "final")
    assert usage(record) == {"input": 10, "image_in": 40, "output": 60}


def test_a_usage_chunk_asked_for_on_the_callers_behalf_is_taken_out_again(stack):
    path, body, _, classes = SHAPES["completion"]
    status, headers, raw = send(stack.services["ingest"].url, path, {**body, "stream": True})
    assert status == 200 and b'"usage"' not in raw and raw.endswith(b"data: [DONE]\n\n")
    record = record_of(stack, headers["x-spend-call-id"])
    assert (usage(record), record["quality"]) == (classes, "final")


@pytest.mark.parametrize("name", SHAPES)
def test_an_error_costs_nothing(stack, name):
    path, body, _, _ = SHAPES[name]
    body = {key: f"{value} status=500" if isinstance(value, str) and "fake:" in value else value for key, value in body.items()}
    if "messages" in body:
        body["messages"] = [{"role": "user", "content": "fake: status=500"}]
    status, headers, _ = send(stack.services["ingest"].url, path, body)
    assert status == 500
    record = record_of(stack, headers["x-spend-call-id"])
    assert (record["outcome"], usage(record), record["quality"]) == ("failed", {}, "unknown")
