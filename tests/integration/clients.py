"""The providers' own Python clients at work, as their users write it: `clients.py openai|anthropic|litellm BASE_URL KEY MARK`
prints what one of them was given, a JSON object {scenario: result}. Nothing but the URL and the key is set; each call has a tag
`task=MARK.SCENARIO`.

Run by clients_test.py in an environment that has the client, which the tests' own has not.
"""

import asyncio
import contextlib
import io
import json
import sys

ORDER = "prompt=120 cached=20 completion=45 reasoning=10"
WRITTEN = "prompt=120 cached=20 written=30 hour=10 completion=45"


def told(order):
    return f"hello there fake: {order}"


def messages(order=ORDER):
    return [{"role": "user", "content": told(order)}]


def task(name):
    return f"task={sys.argv[4]}.{name}"


def tags(name):
    return {"x-litellm-tags": f"account_id=acme,{task(name)}"}


def plain(value):
    """As JSON can say it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, bytes):
        return value.hex()
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def attempt(call):
    """What came of it: the client's own errors are a result like any other."""
    try:
        return plain(call())
    except Exception as error:
        return {"raised": type(error).__name__, "status": getattr(error, "status_code", None), "text": str(error)}


async def attempt_async(call):
    try:
        return plain(await call())
    except Exception as error:
        return {"raised": type(error).__name__, "status": getattr(error, "status_code", None), "text": str(error)}


def early(stream):
    """The first of it; the rest is left."""
    with stream:
        return next(iter(stream))


def openai_calls(client):
    """{scenario: what to do}."""
    def chat(name, order=ORDER, **more):
        return client.chat.completions.create(model="gpt-4o", messages=messages(order), extra_headers=tags(name), **more)

    def speak_streamed(name):
        with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input=told("units=1"),
                                                                extra_headers=tags(name)) as reply:
            return list(reply.iter_bytes())

    def raw(name):
        reply = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=messages(), extra_headers=tags(name))
        return [reply.parse(), sorted({header.lower() for header in reply.headers} & {"content-type", "content-length"})]

    def retried(name, status):
        return client.with_options(max_retries=1).chat.completions.create(
            model="gpt-4o", messages=messages(f"status={status}"), extra_headers=tags(name))
    text = {"model": "gpt-3.5-turbo-instruct", "prompt": told(ORDER)}
    respond = {"model": "gpt-5", "input": told(ORDER)}
    speak = {"model": "tts-1", "voice": "alloy", "input": told("units=1")}
    usage = {"stream_options": {"include_usage": True}}
    return {
        "chat": chat,
        "chat_raw": raw,
        "chat_stream": lambda name: list(chat(name, stream=True)),
        "chat_stream_usage": lambda name: list(chat(name, stream=True, **usage)),
        "chat_stream_pieces": lambda name: list(chat(name, ORDER + " split=1 chunks=2", stream=True)),
        "chat_body_tags": lambda name: client.chat.completions.create(
            model="gpt-4o", messages=messages(), extra_body={"metadata": {"tags": [task(name), "account_id=acme"]}}, user="bob"),
        "chat_left": lambda name: early(chat(name, ORDER + " chunks=5 chunk_ms=80", stream=True)),
        "completion": lambda name: client.completions.create(**text, extra_headers=tags(name)),
        "completion_stream": lambda name: list(client.completions.create(**text, stream=True, extra_headers=tags(name))),
        "completion_stream_usage": lambda name: list(client.completions.create(**text, stream=True, **usage, extra_headers=tags(name))),
        "responses": lambda name: client.responses.create(**respond, extra_headers=tags(name)),
        "responses_stream": lambda name: list(client.responses.create(**respond, stream=True, extra_headers=tags(name))),
        "embeddings": lambda name: client.embeddings.create(
            model="text-embedding-3-small", input=told("prompt=120"), encoding_format="float", extra_headers=tags(name)),
        "images": lambda name: client.images.generate(
            model="gpt-image-1", prompt=told("prompt=50 images=40 completion=60"), n=2, extra_headers=tags(name)),
        "speech": lambda name: client.audio.speech.create(**speak, extra_headers=tags(name)).read(),
        "speech_stream": speak_streamed,
        "transcription": lambda name: client.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=("a.mp3", io.BytesIO(b"fake audio")), prompt=told("prompt=14 audio=14 completion=5"),
            extra_headers=tags(name)),
        "error_400": lambda name: chat(name, "status=400"),
        "error_429": lambda name: chat(name, "status=429"),
        "error_500": lambda name: chat(name, "status=500", stream=True),
        "retried": lambda name: retried(name, 500),
        "models": lambda name: len(client.models.list(extra_headers=tags(name)).data) > 0,
    }


def openai_calls_async(client):
    def chat(name, **more):
        return client.chat.completions.create(model="gpt-4o", messages=messages(), extra_headers=tags(name), **more)

    async def streamed(name):
        return [chunk async for chunk in await chat(name, stream=True)]

    async def many(name):
        return await asyncio.gather(*(chat(name) for _ in range(10)))

    async def left(name):
        async with await client.chat.completions.create(model="gpt-4o", messages=messages(ORDER + " chunks=5 chunk_ms=80"),
                                                        stream=True, extra_headers=tags(name)) as stream:
            return await anext(aiter(stream))
    return {"async_chat": chat, "async_stream": streamed, "async_many": many, "async_left": left}


def anthropic_calls(client):
    body = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": messages(WRITTEN)}

    def helper(name):
        with client.messages.stream(**body, extra_headers=tags(name)) as stream:
            return [list(stream.text_stream), stream.get_final_message()]

    def failing(name, status):
        return client.messages.create(**{**body, "messages": messages(f"status={status}")}, extra_headers=tags(name))
    return {
        "messages": lambda name: client.messages.create(**body, extra_headers=tags(name)),
        "messages_events": lambda name: list(client.messages.create(**body, stream=True, extra_headers=tags(name))),
        "messages_helper": helper,
        "count_tokens": lambda name: client.messages.count_tokens(
            model=body["model"], messages=body["messages"], extra_headers=tags(name)),
        "messages_error_400": lambda name: failing(name, 400),
        "messages_error_429": lambda name: failing(name, 429),
        "messages_error_500": lambda name: failing(name, 500),
    }


def litellm_calls(litellm, url, key):
    to = {"api_key": key, "max_retries": 0}
    chat = {"model": "openai/gpt-4o", "messages": messages(), "api_base": url + "/v1", **to}
    claude = {"model": "anthropic/claude-haiku-4-5", "messages": messages(WRITTEN), "max_tokens": 50, "api_base": url, **to}
    return {
        "litellm_chat": lambda name: litellm.completion(**chat, extra_headers=tags(name)),
        "litellm_stream": lambda name: list(litellm.completion(**chat, stream=True, extra_headers=tags(name))),
        "litellm_messages": lambda name: litellm.completion(**claude, extra_headers=tags(name)),
        "litellm_messages_stream": lambda name: list(litellm.completion(**claude, stream=True, extra_headers=tags(name))),
        "litellm_responses": lambda name: litellm.responses(
            model="openai/gpt-5", input=told(ORDER), api_base=url + "/v1", extra_headers=tags(name), **to),
        "litellm_embeddings": lambda name: litellm.embedding(
            model="openai/text-embedding-3-small", input=[told("prompt=120")], api_base=url + "/v1", extra_headers=tags(name), **to),
        "litellm_error": lambda name: litellm.completion(**{**chat, "messages": messages("status=429")}, extra_headers=tags(name)),
    }


async def run_async(openai, url, key):
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key=key, max_retries=0) as client:
        return {name: await attempt_async(lambda call=call, name=name: call(name)) for name, call in openai_calls_async(client).items()}


def main(which, url, key, _):
    more = {}
    if which == "openai":
        import openai
        calls = openai_calls(openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0))
        more = asyncio.run(run_async(openai, url, key))
    elif which == "anthropic":
        import anthropic
        calls = anthropic_calls(anthropic.Anthropic(base_url=url, api_key=key, max_retries=0))
    else:
        import litellm
        calls = litellm_calls(litellm, url, key)
    return {name: attempt(lambda call=call, name=name: call(name)) for name, call in calls.items()} | more


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # LiteLLM likes to talk
        results = main(*sys.argv[1:])
    json.dump(results, sys.stdout)
