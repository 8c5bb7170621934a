"""A fake OpenAI-compatible provider for the demo and the tests, from the standard library alone.

What it answers is told by the prompt, so that the order survives any proxy on the way: a message that holds

    fake: prompt=120 cached=20 completion=45 reasoning=10

sets the tokens it reports (without it: a quarter of the text's bytes in, 16 out). More words of that line:
    chunks=N       content chunks of a stream (default 4)     bytes=N     length of the reply's text
    delay_ms=N     wait before the first byte                 chunk_ms=N  wait between chunks
    split=N        write the stream N bytes at a time         crlf=1      end its lines with CR LF
    status=N       answer that error instead                  usage=none  report no usage
    cut=N          break the connection after N chunks (a stream) or N bytes of the body
    model=NAME     reply with another model's name            tier=NAME   reply with a service tier
    ref=NAME       nothing; it stands in the log, as the whole order does

POST ../chat/completions, plain and SSE (a usage chunk only if stream_options.include_usage asks for it); the other operations as
fake_shapes.py writes them, their order a body's or a form's `fake`, or what any of their texts says; GET ../models;
POST /callbacks takes LiteLLM's generic_api callbacks and writes one line each to --callbacks. Any other path echoes the
request's body (?chunked=N: in chunks of N bytes; ?status=N: with that status).

Every answer is one JSON line in --log, flushed before the reply's last byte leaves: the provider's own account of what
it did, a witness for the tests. Authorization is never written.
"""

import argparse
import asyncio
import hashlib
import json
import re
import signal
import sys
import time
import uuid
from urllib.parse import parse_qs, urlsplit

import fake_shapes

HEAD_BYTES = 64 * 1024
BODY_BYTES = 64 * 1024 * 1024
ORDER = re.compile(r"fake:((?:\s+[a-z_]+=[^\s=]+)+)")
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 408: "Request Timeout",
           429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}
SECRETS = ("authorization", "x-api-key", "api-key")


class Gone(Exception):
    """The client went away, or the order was to go away from it."""


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        split = urlsplit(target)
        self.path = split.path
        self.query = {name: values[-1] for name, values in parse_qs(split.query).items()}

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name), None)


async def read_chunked(reader):
    body = bytearray()
    while True:
        size = int((await reader.readuntil(b"\n")).split(b";")[0], 16)
        if size:
            body += await reader.readexactly(size)
        await reader.readuntil(b"\n")
        if size == 0:
            return bytes(body)
        if len(body) > BODY_BYTES:
            raise ValueError("body too long")


async def read_request(reader, writer):
    """The next request of a connection, or None when the client is done with it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    known = {name.lower(): value for name, value in headers}
    if known.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in known.get("transfer-encoding", "").lower():
        body = await read_chunked(reader)
    else:
        body = await reader.readexactly(int(known.get("content-length", "0")))
    return Request(method, target, headers, body)


def prompt_text(document):
    """All text a chat request carries, message after message."""
    texts = []
    for message in document.get("messages") or []:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(texts)


def read_order(document, text):
    """The words of the last `fake:` line; a JSON object `fake` in the body counts too, and wins."""
    order = {}
    for match in ORDER.finditer(text):
        order = dict(word.split("=", 1) for word in match.group(1).split())
    if isinstance(document.get("fake"), dict):
        order.update({name: str(value) for name, value in document["fake"].items()})
    return order


def texts_of(value):
    """Every text in a document, wherever it stands."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_of(item)


def form_fields(request):
    """The fields of a multipart form that are no files."""
    boundary = re.search(r'boundary="?([^";]+)', request.header("content-type"))[1].encode()
    fields = {}
    for part in request.body.split(b"--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)[1].decode()
        if b"filename" not in head:
            fields[name] = value[:-2].decode()
    return fields


def usage_of(order, text):
    prompt = int(order.get("prompt", -(-len(text.encode()) // 4)))
    completion = int(order.get("completion", 16))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": int(order.get("cached", 0)), "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": int(order.get("reasoning", 0)), "audio_tokens": 0,
                                      "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    }


def tags_seen(document):
    """What of the body can carry tags, as it arrived: with the headers, the whole truth about a call's tags."""
    places = {"root": document.get("tags"), "user": document.get("user")}
    for name in ("metadata", "litellm_metadata"):
        inner = document.get(name)
        places[name] = inner.get("tags") if isinstance(inner, dict) else None
    return {name: value for name, value in places.items() if value is not None}


class Provider:
    def __init__(self, log, callbacks):
        self.log_file, self.callbacks_file = log, callbacks
        self.count = 0
        self.boot = uuid.uuid4().hex[:12]

    def log(self, request, **facts):
        headers = [[k, "***" if k.lower() in SECRETS else v] for k, v in request.headers]
        line = {"at": time.time(), "method": request.method, "target": request.target, "headers": headers,
                "call_id": request.header("x-litellm-call-id"), "body_bytes": len(request.body),
                "body_sha256": hashlib.sha256(request.body).hexdigest(), **facts}
        self.log_file.write(json.dumps(line) + "\n")
        self.log_file.flush()

    async def serve(self, reader, writer):
        try:
            while (request := await read_request(reader, writer)) is not None:
                await self.answer(request, writer)
                await writer.drain()
        except (Gone, ConnectionError, asyncio.IncompleteReadError):
            pass
        except (ValueError, asyncio.LimitOverrunError) as error:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            print(f"fake-provider: refused a request: {error}", file=sys.stderr)
        finally:
            writer.close()

    async def answer(self, request, writer):
        if request.path.endswith("/chat/completions") and request.method == "POST":
            await self.chat(request, writer)
        elif request.method == "POST" and (shape := fake_shapes.find(request.path)) and "fake:" in request.body.decode("latin-1"):
            self.shape(shape, request, writer)
        elif request.path.endswith("/models") and request.method == "GET":
            models = [{"id": name, "object": "model", "owned_by": "fake"} for name in ("gpt-4o", "gpt-4o-mini")]
            self.send_json(writer, 200, {"object": "list", "data": models})
        elif request.path == "/callbacks" and request.method == "POST":
            items = json.loads(request.body)
            for item in items if isinstance(items, list) else [items]:
                self.callbacks_file.write(json.dumps(item) + "\n")
            self.callbacks_file.flush()
            self.send_json(writer, 200, {})
        else:
            self.echo(request, writer)

    def send_head(self, writer, status, fields):
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", *(f"{k}: {v}" for k, v in fields)]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def send_json(self, writer, status, document):
        body = json.dumps(document).encode()
        self.send_head(writer, status, [("Content-Type", "application/json"), ("Content-Length", len(body)),
                                        ("x-request-id", f"req_{self.boot}_{self.count}")])
        writer.write(body)

    def echo(self, request, writer):
        status = int(request.query.get("status", 200))
        fields = [("Content-Type", request.header("content-type") or "application/octet-stream"),
                  ("x-echo-method", request.method), ("x-echo-target", request.target)]
        self.log(request, kind="echo", status=status)
        step = int(request.query.get("chunked", 0))
        if step and request.method != "HEAD":
            self.send_head(writer, status, fields + [("Transfer-Encoding", "chunked")])
            for at in range(0, len(request.body), step):
                part = request.body[at:at + step]
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            writer.write(b"0\r\n\r\n")
        else:
            self.send_head(writer, status, fields + [("Content-Length", len(request.body))])
            if request.method != "HEAD":
                writer.write(request.body)

    def shape(self, shape, request, writer):
        form = "multipart/form-data" in (request.header("content-type") or "")
        document = form_fields(request) if form else json.loads(request.body)
        order = read_order({}, "\n".join(texts_of(document)))
        self.count += 1
        answer = shape(document, order, self.count)
        events = answer.stream() if str(document.get("stream")).lower() == "true" else None
        if "status" in order:
            kind, body = "application/json", b'{"error": {"message": "fake error", "type": "fake_error"}}'
        elif events is None:
            kind, body = answer.plain()
        else:
            kind = "text/event-stream; charset=utf-8"
            body = b"".join(fake_shapes.sse(*event) for event in events)
            body += f"data: {answer.done}\n\n".encode() if answer.done else b""
        status = int(order.get("status", 200))
        self.log(request, kind=shape.__name__.lower(), status=status, outcome="finished", model=answer.model, order=order,
                 tags_seen=tags_seen(document), stream=events is not None, reply_sha256=hashlib.sha256(body).hexdigest())
        self.send_head(writer, status, [("Content-Type", kind), ("Content-Length", len(body)), ("x-request-id", f"req_{self.count}")])
        step = int(order.get("split", 0)) or max(1, len(body))
        for at in range(0, len(body), step):
            writer.write(body[at:at + step])

    async def chat(self, request, writer):
        try:
            document = json.loads(request.body)
            if not isinstance(document, dict):
                raise ValueError("the body is no JSON object")
            text = prompt_text(document)
            order = read_order(document, text)
        except ValueError as error:
            self.log(request, kind="chat", status=400, outcome="refused", usage=None)
            self.send_json(writer, 400, {"error": {"message": str(error), "type": "invalid_request_error"}})
            return
        self.count += 1
        call = Chat(self, request, writer, document, order, text)
        if "delay_ms" in order:
            await asyncio.sleep(int(order["delay_ms"]) / 1000)
        if "status" in order:
            call.fail(int(order["status"]))
        elif document.get("stream"):
            await call.stream()
        else:
            call.plain()


class Chat:
    """One chat completion being answered."""

    def __init__(self, provider, request, writer, document, order, text):
        self.provider, self.request, self.writer, self.order = provider, request, writer, order
        self.id = f"chatcmpl-{provider.boot}-{provider.count}"
        self.model = order.get("model", document.get("model"))
        self.usage = None if order.get("usage") == "none" else usage_of(order, text)
        options = document.get("stream_options")
        self.is_stream = bool(document.get("stream"))
        self.asked_usage = isinstance(options, dict) and options.get("include_usage") is True
        self.tags_seen = tags_seen(document)
        self.created = int(time.time())
        length = int(order.get("bytes", 0)) or 24
        self.text = ("This is a fake answer. " * (length // 23 + 1))[:length]

    def log(self, outcome, status=200):
        sent = self.usage if outcome == "finished" and (not self.is_stream or self.asked_usage) else None
        self.provider.log(self.request, kind="chat", status=status, outcome=outcome, id=self.id, model=self.model, order=self.order,
                          tags_seen=self.tags_seen, stream=self.is_stream, asked_usage=self.asked_usage, usage=self.usage, usage_sent=sent)

    def fail(self, status):
        self.usage = None
        self.log("failed", status)
        self.provider.send_json(self.writer, status, {
            "error": {"message": f"fake error {status}", "type": "fake_error", "param": None, "code": str(status)}})

    def tier(self):
        return {"service_tier": self.order["tier"]} if "tier" in self.order else {}

    def plain(self):
        document = {
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": self.text},
                         "finish_reason": "stop", "logprobs": None}],
            **({"usage": self.usage} if self.usage else {}), **self.tier(),
        }
        if "cut" in self.order:
            body = json.dumps(document).encode()
            self.log("cut")
            self.provider.send_head(self.writer, 200, [("Content-Type", "application/json"),
                                                       ("Content-Length", len(body))])
            self.writer.write(body[:int(self.order["cut"])])
            raise Gone
        self.log("finished")
        self.provider.send_json(self.writer, 200, document)

    def event(self, choices, **more):
        """One SSE event as a chunk of the chunked encoding."""
        document = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
                    "choices": choices, **self.tier(), **more}
        return self.data(json.dumps(document))

    def data(self, text):
        end = "\r\n" if "crlf" in self.order else "\n"
        return f"data: {text}{end}{end}".encode()

    async def send(self, event):
        step = int(self.order.get("split", 0)) or len(event)
        for at in range(0, len(event), step):
            if self.writer.is_closing():
                self.log("client_gone")
                raise Gone
            part = event[at:at + step]
            self.writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            if step < len(event):
                await self.writer.drain()
                await asyncio.sleep(0)

    def contents(self):
        """The stream's content events, the text in even parts."""
        count = max(1, int(self.order.get("chunks", 4)))
        nothing = {"usage": None} if self.asked_usage else {}
        step = -(-len(self.text) // count)
        yield self.event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], **nothing)
        for at in range(count):
            part = self.text[at * step:(at + 1) * step]
            yield self.event([{"index": 0, "delta": {"content": part}, "finish_reason": None}], **nothing)

    async def stream(self):
        self.provider.send_head(self.writer, 200, [("Content-Type", "text/event-stream; charset=utf-8"),
                                                   ("Cache-Control", "no-cache"), ("Transfer-Encoding", "chunked"),
                                                   ("x-request-id", f"req_{self.id}")])
        nothing = {"usage": None} if self.asked_usage else {}
        pause = int(self.order.get("chunk_ms", 0)) / 1000
        cut = int(self.order["cut"]) if "cut" in self.order else None
        try:
            for number, event in enumerate(self.contents()):
                if number == cut:
                    self.log("cut")
                    await self.writer.drain()
                    raise Gone
                await self.send(event)
                if pause:
                    await self.writer.drain()
                    await asyncio.sleep(pause)
            await self.send(self.event([{"index": 0, "delta": {}, "finish_reason": "stop"}], **nothing))
            if self.asked_usage and self.usage:
                await self.send(self.event([], usage=self.usage))
            await self.writer.drain()
        except ConnectionError as error:
            self.log("client_gone")
            raise Gone from error
        if self.writer.is_closing():
            self.log("client_gone")
            raise Gone
        self.log("finished")
        done = self.data("[DONE]")
        self.writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(done), done))


async def run(args):
    with open(args.log, "a", encoding="utf-8") as log, open(args.callbacks, "a", encoding="utf-8") as callbacks:
        provider = Provider(log, callbacks)
        host, _, port = args.listen.rpartition(":")
        server = await asyncio.start_server(provider.serve, host, int(port), limit=HEAD_BYTES, backlog=1024)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        print(f"fake-provider: listens on {server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
        await stop.wait()
        server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port; port 0 takes a free one and names it")
    parser.add_argument("--log", default="/dev/null", help="one JSON line for each answer")
    parser.add_argument("--callbacks", default="/dev/null", help="one JSON line for each callback received")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
