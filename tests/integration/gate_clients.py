"""What the Python clients of OpenAI and LiteLLM make of a refused call: `gate_clients.py openai|litellm URL KEY,.. SCENARIO ..` prints
{key: {scenario: what came of it}}: the exception's class and what a program can read off it, and when each request went out.

Run by gate_clients_test.py in an environment that has the client, which the tests' own has not.
"""

import asyncio
import contextlib
import json
import sys
import time

MODEL = "gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "hello there fake: prompt=30 completion=3"}]
BODY = {"model": MODEL, "messages": MESSAGES, "max_tokens": 3}


def facts(error):
    """What a program sees of a client's error: what LiteLLM adds of its own is the same for every proxy."""
    response = getattr(error, "response", None)
    return {"raised": type(error).__name__, "kinds": [kind.__name__ for kind in type(error).__mro__], "body": getattr(error, "body", None),
            "retry_after": response.headers.get("retry-after") if response is not None else None,
            **{name: getattr(error, name, None) for name in ("status_code", "code", "type", "param", "message")}}


class Openai:
    def __init__(self, url, key):
        import openai
        self.openai, self.url, self.key, self.sent = openai, url + "/v1", key, []

    def client(self, max_retries=0):
        hooks = {"request": [lambda _: self.sent.append(time.monotonic())]}
        return self.openai.OpenAI(base_url=self.url, api_key=self.key, max_retries=max_retries,
                                  http_client=self.openai.DefaultHttpxClient(event_hooks=hooks))

    async def asked(self, **more):
        async def note(_):
            self.sent.append(time.monotonic())
        async with self.openai.AsyncOpenAI(base_url=self.url, api_key=self.key, max_retries=0,
                                           http_client=self.openai.DefaultAsyncHttpxClient(event_hooks={"request": [note]})) as client:
            reply = await client.chat.completions.create(**BODY, **more)
            return [chunk async for chunk in reply] if more else reply

    def calls(self):
        def chat(max_retries=0, **more):
            return self.client(max_retries).chat.completions.create(**BODY, **more)
        return {
            "chat": chat,
            "stream": lambda: list(chat(stream=True)),
            "async": lambda: asyncio.run(self.asked()),
            "async_stream": lambda: asyncio.run(self.asked(stream=True)),
            "responses": lambda: self.client().responses.create(model=MODEL, input="hello there"),
            "embeddings": lambda: self.client().embeddings.create(model="text-embedding-3-small", input="hello there"),
            "retried": lambda: chat(max_retries=2),
            "retried_stream": lambda: list(chat(max_retries=2, stream=True)),
        }


class Litellm:
    def __init__(self, url, key):
        import litellm
        self.litellm, self.sent = litellm, []
        self.to = {"api_base": url + "/v1", "api_key": key, "max_retries": 0, "messages": MESSAGES, "max_tokens": 3}

    def calls(self):
        def chat(provider, **more):
            return self.litellm.completion(model=f"{provider}/{MODEL}", **{**self.to, **more})

        async def streamed(provider):
            return [chunk async for chunk in await self.litellm.acompletion(model=f"{provider}/{MODEL}", stream=True, **self.to)]
        scenarios = {}
        for provider in ("openai", "litellm_proxy"):
            scenarios |= {
                f"{provider}": lambda provider=provider: chat(provider),
                f"{provider}_stream": lambda provider=provider: list(chat(provider, stream=True)),
                f"{provider}_async": lambda provider=provider: asyncio.run(self.litellm.acompletion(model=f"{provider}/{MODEL}", **self.to)),
                f"{provider}_async_stream": lambda provider=provider: asyncio.run(streamed(provider)),
            }
        return scenarios


def outcome(client, call):
    client.sent.clear()
    try:
        call()
        found = {"raised": None}
    except Exception as error:
        found = facts(error)
    return {**found, "waits": [later - sooner for sooner, later in zip(client.sent, client.sent[1:])]}


def main(which, url, keys, *wanted):
    clients = {key: {"openai": Openai, "litellm": Litellm}[which](url, key) for key in keys.split(",")}
    return {key: {name: outcome(client, call) for name, call in client.calls().items() if name in wanted} for key, client in clients.items()}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # LiteLLM likes to talk
        results = main(*sys.argv[1:])
    json.dump(results, sys.stdout, default=str)
