"""Calls through ingest that are cut at a byte, many at once: an upstream that sends what it is told and then goes, stays or goes on,
and callers that leave when they have read what was due to them."""

import asyncio
import contextlib
import re
import socket
import struct
from pathlib import Path

from stack import wait_until

AT_ONCE = 192
WAIT_S = 60
RESET = struct.pack("ii", 1, 0)


class Call:
    """One call. The upstream sends wire[:cut] and then: "fin", "rst" (it goes), "hold" (it stays until it is cut off), "rest" or "gone"
    (once all callers have left or paused it sends the rest, or goes). The caller: "stay", or when it has read what is due "fin", "rst"
    or "half" (it leaves), or "pause" (it reads no more until the upstream has sent all)."""

    def __init__(self, request, wire, cut, upstream, caller="stay", due=None):
        self.request, self.wire, self.cut, self.upstream, self.caller = request, wire, cut, upstream, caller
        self.due = due  # the body's bytes that reach the caller by then; None: not even a head
        self.number, self.got, self.record = None, b"", None
        self.asked, self.seen, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @property
    def body(self):
        return body_of(self.got)


def body_of(wire):
    """The body's bytes in what came of a reply; None before the head is whole."""
    head, end, rest = wire.partition(b"\r\n\r\n")
    if not end:
        return None
    if b"chunked" not in head.lower():
        return rest
    body = b""
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        size = int(size, 16)
        body += rest[:size]
        rest = rest[size + 2:]
    return body


def is_whole(wire):
    """Its framing says that nothing is missing."""
    head, end, rest = wire.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length:
        return len(rest) == int(length[1])
    return bool(end) and b"chunked" in head.lower() and (b"\r\n" + rest).endswith(b"\r\n0\r\n\r\n")


def reset(writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


class Bench:
    """The upstream, on an event loop that runs while calls do."""

    def __init__(self):
        self.loop, self.calls, self.go = asyncio.new_event_loop(), {}, asyncio.Event()
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024))
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.known, self.last = 0, 0

    def close(self):
        self.server.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.close()

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(re.search(rb"(?i)content-length: *(\d+)", head)[1]))
                call = self.calls[int(re.search(rb"task=(\d+)", head)[1])]
                await self.answer(call, reader, writer)
                call.over.set()
                if call.upstream != "rest" and not is_whole(call.wire[:call.cut]):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, call, reader, writer):
        call.asked.set()
        writer.write(call.wire[:call.cut])
        if call.cut == len(call.wire):
            return
        if call.upstream == "rst":
            await call.seen.wait()  # a reset may overtake what was sent
            reset(writer)
        elif call.upstream == "hold":
            await reader.read()
        elif call.upstream in ("rest", "gone"):
            await self.go.wait()
            writer.write(call.wire[call.cut:] if call.upstream == "rest" else b"")

    async def read_due(self, call, reader):
        """Reads until what is due has come, or the end."""
        while call.due is None or (body_of(call.got) is None or len(body_of(call.got)) < len(call.due)):
            part = await reader.read(65536)
            if not part:
                break
            call.got += part
        call.seen.set()

    async def make(self, call, port, left):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            path, body = call.request
            writer.write(b"POST %s HTTP/1.1\r\nHost: a\r\nx-litellm-tags: task=%d\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
                path, call.number, len(body), body))
            await call.asked.wait()
            if call.due is None:
                call.seen.set()
            if call.due is not None or call.caller == "stay":
                await self.read_due(call, reader)
            if call.caller == "half":
                writer.write_eof()
            left.release()
            if call.caller in ("fin", "rst"):
                (reset if call.caller == "rst" else asyncio.StreamWriter.close)(writer)
                return
            if call.caller == "pause":
                await call.over.wait()
            while part := await reader.read(65536):
                call.got += part
        except ConnectionError:  # it was reset
            pass
        finally:
            writer.close()

    async def run_batch(self, calls, ingest):
        self.go = asyncio.Event()
        left = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(self.make(call, ingest.port, left)) for call in calls]
        if any(call.upstream in ("rest", "gone") for call in calls):
            for _ in calls:
                await left.acquire()
            if all(call.caller != "pause" for call in calls):  # ingest has noticed
                await self.loop.run_in_executor(None, wait_until, lambda: ingest.metrics()["spend_ingest_connections"] == 0, WAIT_S,
                                                "the callers gone", 0.01)
            self.go.set()
        await asyncio.gather(*tasks, *(call.over.wait() for call in calls))

    def run(self, calls, ingest):
        """Makes the calls, a batch at once, and waits until ingest has ended them all."""
        for call in calls:
            self.last += 1
            call.number = self.last
            self.calls[call.number] = call
        for at in range(0, len(calls), AT_ONCE):
            batch = calls[at:at + AT_ONCE]
            self.loop.run_until_complete(asyncio.wait_for(self.run_batch(batch, ingest), WAIT_S))
        wait_until(lambda: ingest.metrics()["spend_ingest_exchanges"] == 0, WAIT_S, "all calls over")
        wait_until(lambda: ingest.metrics()["spend_ingest_journal_undelivered"] == 0, WAIT_S, "all delivered")

    def match(self, found):
        """Gives each call its one record, of all that are on the topic."""
        for _, record, _ in found[self.known:]:
            call = self.calls[int(record["tags"][0]["value"])]
            assert call.record is None, f"a call has two records: {record}"
            call.record = record
        self.known = len(found)


def sockets(process):
    found = 0
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += str(link.readlink()).startswith("socket:")
    return found


def memory_kib(process):
    """Resident and of its own: the journal's mapped files do not count."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1])
