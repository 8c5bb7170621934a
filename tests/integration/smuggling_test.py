"""No request that two parsers could read differently passes spend-ingest: proved by an upstream that counts each
connection and each byte that reaches it."""

import json
import socket
import threading

import pytest
from ingest_test import raw_exchange
from smuggling import NEXT, OTHERWISE, SMUGGLED
from stack import Stack, wait_until

REFUSED = 'spend_ingest_refused_total{reason="framing"}'


class Counter:
    """A TCP server that answers each request head with 200 and keeps everything it was sent."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections, self.bytes = 0, b""
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def serve(self, link):
        with link:
            while part := link.recv(65536):
                self.bytes += part
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * part.count(b"\r\n\r\n"))

    def seen(self):
        return self.connections, len(self.bytes)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture(scope="module", name="counter")
def counter_fixture():
    counter = Counter()
    yield counter
    counter.close()


@pytest.fixture(scope="module", name="ingest")
def ingest_fixture(counter):
    with Stack(parts=("kafka",)) as stack:
        yield stack.ingest(upstream=f"http://127.0.0.1:{counter.port}").start()


def refused(ingest, request):
    """The status and type of the one answer to a request with another behind it, after which ingest closed."""
    raw = raw_exchange(ingest.port, request + NEXT)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head, raw
    return int(head.split(b" ")[1]), json.loads(body)["error"]["type"]  # a second answer would be no JSON


def split(request, ingest):
    """The same, byte by byte as far as the answer lets it come."""
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for at in range(len(request)):
                client.send(request[at:at + 1])
        except ConnectionError:
            pass
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_the_corpus_is_large_and_says_each_thing_once():
    assert len(SMUGGLED) >= 60
    assert len(set(SMUGGLED.values())) == len(SMUGGLED)


@pytest.mark.parametrize("name", SMUGGLED)
def test_what_could_be_smuggled_is_answered_400_and_closed(ingest, counter, name):
    before = counter.seen()
    assert refused(ingest, SMUGGLED[name]) == (400, "bad_request")
    assert counter.seen() == before


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_the_protocol_refuses_in_another_way_is_closed_too(ingest, counter, name):
    status, request = OTHERWISE[name]
    before = counter.seen()
    assert refused(ingest, request)[0] == status
    assert counter.seen() == before


def test_nothing_is_smuggled_byte_by_byte_either(ingest, counter):
    before, seen = ingest.metrics()[REFUSED], counter.seen()
    for name, request in SMUGGLED.items():
        assert split(request + NEXT, ingest).startswith(b"HTTP/1.1 400 "), name
    assert ingest.metrics()[REFUSED] == before + len(SMUGGLED)
    assert counter.seen() == seen


def test_the_upstream_counts_what_does_reach_it(ingest, counter):
    before = ingest.metrics()[REFUSED]
    good = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    raw = raw_exchange(ingest.port, good + NEXT.replace(b"Host: a", b"Host: a\r\nConnection: close"))
    assert raw.count(b"HTTP/1.1 200") == 2
    # these two, and nothing of all that stands above
    wait_until(lambda: counter.bytes.count(b"\r\n\r\n") == 2, 10, "both requests")
    assert counter.connections >= 1 and b"POST /echo " in counter.bytes and b"GET /stolen " in counter.bytes
    # ours has one framing, whatever the caller's was
    assert b"Content-Length: 1\r\n" in counter.bytes and b"chunked" not in counter.bytes.lower()
    assert ingest.metrics()[REFUSED] == before
