"""The real clients of OpenAI, Anthropic and LiteLLM through ingest, as they come: each is given the very objects that it is given
without ingest in between, and each of its calls is on spend.calls with its tags, model, key and exact usage."""

import functools
import hashlib
import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from ingest_test import close_readers, records, usage
from stack import ROOT, Stack, wait_until

KEY = "sk-clients-4711"
CHAT = ("gpt-4o", {"input": 100, "cache_read": 20, "output": 35, "reasoning": 10})
TEXT = ("gpt-3.5-turbo-instruct", {"input": 120, "output": 45})
GPT5 = ("gpt-5", CHAT[1])
CLAUDE = ("claude-haiku-4-5", {"input": 120, "cache_read": 20, "cache_write_5m": 20, "cache_write_1h": 10, "output": 45})
NONE, NO_CLAUDE = ("gpt-4o", {}), ("claude-haiku-4-5", {})
VECTOR = ("text-embedding-3-small", {"input": 120})
SPOKEN = ("tts-1", {"characters": 22})
# scenario of clients.py: how many calls, operation, (model, classes), streamed, outcome
OPENAI = {
    "chat": (1, "chat", CHAT, False, "completed"),
    "chat_raw": (1, "chat", CHAT, False, "completed"),
    "chat_stream": (1, "chat", CHAT, True, "completed"),
    "chat_stream_usage": (1, "chat", CHAT, True, "completed"),
    "chat_stream_pieces": (1, "chat", CHAT, True, "completed"),
    "chat_body_tags": (1, "chat", CHAT, False, "completed"),
    "chat_left": (1, "chat", CHAT, True, "aborted"),
    "completion": (1, "completion", TEXT, False, "completed"),
    "completion_stream": (1, "completion", TEXT, True, "completed"),
    "completion_stream_usage": (1, "completion", TEXT, True, "completed"),
    "responses": (1, "responses", GPT5, False, "completed"),
    "responses_stream": (1, "responses", GPT5, True, "completed"),
    "embeddings": (1, "embeddings", VECTOR, False, "completed"),
    "images": (1, "image", ("gpt-image-1", {"input": 10, "image_in": 40, "output": 60}), False, "completed"),
    "speech": (1, "speech", SPOKEN, False, "completed"),
    "speech_stream": (1, "speech", SPOKEN, False, "completed"),
    "transcription": (1, "transcription", ("gpt-4o-transcribe", {"audio_in": 14, "output": 5}), False, "completed"),
    "error_400": (1, "chat", NONE, False, "failed"),
    "error_429": (1, "chat", NONE, False, "failed"),
    "error_500": (1, "chat", NONE, True, "failed"),
    "retried": (2, "chat", NONE, False, "failed"),
    "models": (0, None, None, None, None),
    "async_chat": (1, "chat", CHAT, False, "completed"),
    "async_stream": (1, "chat", CHAT, True, "completed"),
    "async_many": (10, "chat", CHAT, False, "completed"),
    "async_left": (1, "chat", CHAT, True, "aborted"),
}
ANTHROPIC = {
    "messages": (1, "messages", CLAUDE, False, "completed"),
    "messages_events": (1, "messages", CLAUDE, True, "completed"),
    "messages_helper": (1, "messages", CLAUDE, True, "completed"),
    "count_tokens": (0, None, None, None, None),
    "messages_error_400": (1, "messages", NO_CLAUDE, False, "failed"),
    "messages_error_429": (1, "messages", NO_CLAUDE, False, "failed"),
    "messages_error_500": (1, "messages", NO_CLAUDE, False, "failed"),
}
LITELLM = {
    "litellm_chat": (1, "chat", CHAT, False, "completed"),
    "litellm_stream": (1, "chat", CHAT, True, "completed"),
    "litellm_messages": (1, "messages", CLAUDE, False, "completed"),
    "litellm_messages_stream": (1, "messages", CLAUDE, True, "completed"),
    "litellm_responses": (1, "responses", GPT5, False, "completed"),
    "litellm_embeddings": (1, "embeddings", VECTOR, False, "completed"),
    "litellm_error": (1, "chat", NONE, False, "failed"),
}
RAISED = {400: "BadRequestError", 429: "RateLimitError", 500: "InternalServerError"}
# client, environment that holds it, scenarios; LiteLLM's environment has an older client of OpenAI's, too
CLIENTS = {"openai": ("openai", "clients", OPENAI), "openai-older": ("openai", "litellm", OPENAI),
           "anthropic": ("anthropic", "clients", ANTHROPIC), "litellm": ("litellm", "litellm", LITELLM)}
WAYS = [("provider", client) for client in CLIENTS] + [("litellm", "openai"), ("litellm", "anthropic")]
CASES = [(*way, scenario) for way in WAYS for scenario in CLIENTS[way[1]][2]]
# asked for usage on the caller's behalf, LiteLLM writes null where it writes zeros of its own making otherwise
USAGE_DIFFERS = ("litellm", "openai", "completion_stream")
# what a provider makes anew for each answer
ANEW = [(re.compile(r'"(chatcmpl|cmpl|resp|msg)[-_][A-Za-z0-9_=-]+"'), '"ID"'), (re.compile(r'"id": "[0-9a-f-]{36}"'), '"id": "ID"'),
        (re.compile(r'"(created|created_at|completed_at)": [0-9.]+'), '"TIME": 0')]


def run(way, client, url, key):
    """{scenario: result} of one client's program."""
    program, environment, scenarios = CLIENTS[client]
    done = subprocess.run([ROOT / f".local/{environment}/bin/python", ROOT / "tests/integration/clients.py", program, url, key,
                           f"{way}.{client}"], capture_output=True, text=True, check=False,
                          env={**os.environ, "NO_PROXY": "127.0.0.1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
    assert done.returncode == 0, done.stderr
    for pattern, instead in ANEW:
        done.stdout = pattern.sub(instead, done.stdout)
    found = json.loads(done.stdout)
    assert set(found) == set(scenarios)
    return found


@pytest.fixture(scope="module", name="world")
def world_fixture():
    """The stack, and for each way and client what it was told without and with ingest in between."""
    with Stack(parts=("kafka", "provider", "litellm")) as stack:
        urls = {"provider": stack.provider_url, "litellm": stack.litellm_url}
        told = {}
        for way, client in WAYS:
            name = f"ingest-{way}"
            ingest = stack.services.get(name) or stack.ingest(name, upstream=urls[way], journal=stack.dir / f"journal-{way}").start()
            key = stack.litellm_key if way == "litellm" else KEY
            with ThreadPoolExecutor(2) as pool:
                told[way, client] = list(pool.map(functools.partial(run, way, client, key=key), (urls[way], ingest.url)))
        yield stack, told
        close_readers()


def recorded(stack, task, expected):
    """The records of a scenario, found by its tag."""
    def found():
        mine = [record for _, record, _ in records(stack, "spend.calls") if f"task={task}" in [tag["raw"] for tag in record["tags"]]]
        return len(mine) >= expected and [mine]
    return wait_until(found, 20, f"the records of {task}")[0]


@pytest.mark.parametrize("way, client, scenario", CASES)
def test_a_client_is_given_what_it_is_given_without_ingest_and_each_call_is_recorded(world, way, client, scenario):
    stack, told = world
    without, through = (results[scenario] for results in told[way, client])
    if (way, client, scenario) == USAGE_DIFFERS:
        assert {chunk["usage"] is None for chunk in through} == {True} and {chunk["usage"] is None for chunk in without} == {False}
        through, without = ([{**chunk, "usage": None} for chunk in chunks] for chunks in (through, without))
    assert through == without
    count, operation, used, stream, outcome = CLIENTS[client][2][scenario]
    raised = through["raised"] if isinstance(through, dict) and "raised" in through else None
    assert raised == (RAISED[through["status"]] if outcome == "failed" else None), through
    found = recorded(stack, f"{way}.{client}.{scenario}", count)
    assert len(found) == count
    key = stack.litellm_key if way == "litellm" else KEY
    for record in found:
        assert record["operation"] == operation
        assert (record["model_requested"], {name: value for name, value in usage(record).items() if value}) == used
        assert (record["stream"], record["outcome"]) == (stream, outcome)
        assert record["quality"] == ("final" if used[1] else "unknown")
        assert record["key_hash"] == hashlib.sha256(key.encode()).hexdigest()
        assert {tag["raw"] for tag in record["tags"]} - {"end_user=bob"} == {"account_id=acme", f"task={way}.{client}.{scenario}"}


def test_nothing_else_was_recorded(world):
    stack, _ = world
    assert len(records(stack, "spend.calls")) == sum(CLIENTS[client][2][scenario][0] for _, client, scenario in CASES)
