"""The fake provider is a witness of the oracle: what it says it answered must be what left it."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "fake_provider.py"
PROMPT = "fake: prompt=120 cached=20 completion=45 reasoning=10"


class Server:
    def __init__(self, directory):
        self.log_path = directory / "provider.jsonl"
        self.callbacks_path = directory / "callbacks.jsonl"
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), "--log", str(self.log_path), "--callbacks", str(self.callbacks_path)],
            stderr=subprocess.PIPE, text=True)
        self.port = int(re.search(r"listens on (\d+)", self.process.stderr.readline()).group(1))

    def call(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply, reply.read()

    def chat(self, text, **more):
        body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more})
        return self.call("POST", "/v1/chat/completions", body, {"Authorization": "Bearer sk-secret"})

    def lines(self):
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]


@pytest.fixture
def server(tmp_path):
    one = Server(tmp_path)
    yield one
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(10) == 0


def events(body):
    return [line[6:] for line in re.split(rb"\r?\n", body) if line.startswith(b"data: ")]


def test_a_plain_reply_reports_the_usage_the_prompt_asked_for_and_logs_the_same(server):
    reply, body = server.chat(PROMPT)
    usage = json.loads(body)["usage"]
    assert (reply.status, usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (200, 120, 45, 165)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 20
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 10
    (line,) = server.lines()
    assert line["usage_sent"] == usage and line["outcome"] == "finished" and line["id"] == json.loads(body)["id"]
    assert "sk-secret" not in server.log_path.read_text()


def test_a_stream_has_a_usage_chunk_only_when_it_was_asked_for(server):
    _, with_usage = server.chat(PROMPT, stream=True, stream_options={"include_usage": True})
    _, without = server.chat(PROMPT, stream=True)
    last = json.loads(events(with_usage)[-2])
    assert events(with_usage)[-1] == events(without)[-1] == b"[DONE]"
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 165
    assert b"usage" not in without
    assert [line["usage_sent"] is None for line in server.lines()] == [False, True]


def test_split_and_crlf_change_the_bytes_but_not_the_events(server):
    _, plain = server.chat(PROMPT, stream=True, stream_options={"include_usage": True})
    _, split = server.chat(PROMPT + " split=1 crlf=1", stream=True, stream_options={"include_usage": True})
    assert b"\r\n\r\n" in split
    assert [json.loads(e).get("usage") for e in events(plain)[:-1]] == [json.loads(e).get("usage") for e in events(split)[:-1]]


def test_a_cut_stream_ends_without_its_end_and_says_so(server):
    with pytest.raises(http.client.IncompleteRead) as cut:
        server.chat(PROMPT + " cut=2", stream=True)
    assert len(events(cut.value.partial)) == 2
    assert [line["outcome"] for line in server.lines()] == ["cut"]


def test_a_client_that_leaves_is_logged_as_gone(server):
    body = json.dumps({"model": "m", "stream": True,
                       "messages": [{"role": "user", "content": "fake: chunks=1000 chunk_ms=1"}]}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        client.recv(100)
    while not server.log_path.read_text():
        pass
    assert server.lines()[0]["outcome"] == "client_gone"


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_scripted_errors_answer_their_status_and_no_usage(server, status):
    reply, body = server.chat(f"fake: status={status}")
    assert reply.status == status and "usage" not in json.loads(body)
    assert server.lines()[0]["status"] == status and server.lines()[0]["usage"] is None


def test_no_usage_means_none_in_the_reply(server):
    _, body = server.chat("fake: usage=none")
    assert "usage" not in json.loads(body) and server.lines()[0]["usage"] is None


def test_without_an_order_the_usage_is_the_same_each_time(server):
    first, second = (json.loads(server.chat("hello there")[1])["usage"] for _ in range(2))
    assert first == second and first["prompt_tokens"] == 3


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("query", ["", "?chunked=7", "?status=404"])
def test_any_other_path_gives_back_the_same_bytes(server, method, query):
    body = bytes(range(256)) * 9
    reply, got = server.call(method, "/files/x%20y" + query, body, {"Content-Type": "application/x-y"})
    assert got == body and reply.headers["Content-Type"] == "application/x-y"
    assert reply.headers["x-echo-target"] == "/files/x%20y" + query
    assert reply.status == (404 if "404" in query else 200)


def test_a_chunked_request_is_put_together(server):
    reply, got = server.call("POST", "/echo", iter([b"one", b"two" * 50000]), {"Content-Type": "a/b"})
    assert reply.status == 200 and got == b"one" + b"two" * 50000


def test_callbacks_are_written_one_a_line_nulls_too(server):
    server.call("POST", "/callbacks", json.dumps([{"id": 1}, None, {"id": 2}]))
    assert [json.loads(line) for line in server.callbacks_path.read_text().splitlines()] == [{"id": 1}, None, {"id": 2}]
