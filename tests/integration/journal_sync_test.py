"""spend-ingest --journal-sync=disk with a disk that is held up and refuses by order (slow_disk.c): what reaches the upstream,
the caller and Kafka before the disk has it, and how many calls one sync takes along."""

import contextlib
import os
import socket
import subprocess
import uuid

import pytest
from stack import ROOT, http, wait_until
from ingest_faults_test import Upstream, call_id_of, post, read_message, reply, reply_body
from ingest_test import ingest_stack, record_of, records

CALLS = 8


class Disk:
    """The orders to slow_disk.c, and its log."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.library = folder / "slow_disk.so"
        source = ROOT / "tests" / "integration" / "slow_disk.c"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(self.library), str(source)], check=True)

    @property
    def env(self):
        # sanitizers want to be the first library, unless told that this one may be
        return {"LD_PRELOAD": str(self.library), "SLOW_DISK": str(self.folder),
                "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0"}

    @contextlib.contextmanager
    def order(self, name):
        (self.folder / name).touch()
        try:
            yield
        finally:
            (self.folder / name).unlink()

    def syncs(self, kind=".seg"):
        path = self.folder / "log"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return sum(line.endswith(kind) for line in lines)


@pytest.fixture(scope="module", name="stack")
def stack_fixture():
    with ingest_stack() as stack:
        yield stack


@pytest.fixture(name="upstream")
def upstream_fixture():
    upstream = Upstream()
    yield upstream
    upstream.close()


@contextlib.contextmanager
def running(stack, upstream, name, *flags):
    disk = Disk(stack.dir / f"disk-{name}")
    ingest = stack.ingest(name, upstream=upstream.url, journal=stack.dir / f"journal-{name}", env=disk.env,
                          flags=["--journal-sync=disk", "--beat-every=300ms", *flags]).start()
    yield ingest, disk
    ingest.stop()


def wanted(ingest):
    return ingest.metrics()["spend_ingest_journal_sync_records_total"]


def rounds(ingest):
    return ingest.metrics()["spend_ingest_journal_sync_seconds_count"]


def on_topic(stack, ingest):
    """Records of this ingest's own instances on spend.calls."""
    names = {path.name for path in (stack.dir / f"journal-{ingest.name}").iterdir()}
    return [record for _, record, _ in records(stack, "spend.calls") if str(record["instance"]) in names]


def received(client):
    """What has come until now, left where it is."""
    client.setblocking(False)
    try:
        return client.recv(1 << 20, socket.MSG_PEEK)
    except BlockingIOError:
        return b""
    finally:
        client.settimeout(10)


def test_nothing_goes_on_before_the_disk_has_it_and_all_that_wait_go_with_one_sync(stack, upstream):
    with running(stack, upstream, "order") as (ingest, disk), contextlib.ExitStack() as sockets:
        assert disk.syncs("/journal-order") == 0  # nothing was wanted yet
        clients = [sockets.enter_context(socket.create_connection(("127.0.0.1", ingest.port), timeout=10))
                   for _ in range(CALLS + 1)]
        body = reply_body("x" * 300)
        with disk.order("hold"):
            clients[0].sendall(post())
            wait_until(lambda: disk.syncs("") == 1, 10, "the first call's sync under way")
            for client in clients[1:]:
                client.sendall(post())
            wait_until(lambda: wanted(ingest) == CALLS + 1, 10, "all calls in the journal")
            clients.pop().close()  # does not wait any longer: rejected
            wait_until(lambda: wanted(ingest) == CALLS + 2, 10, "the leaver finished")
            assert upstream.requests == [] and rounds(ingest) == 0 and ingest.ready()
        wait_until(lambda: len(upstream.requests) == CALLS, 10, "all requests upstream")
        assert rounds(ingest) == disk.syncs() == 2  # the first one's, and one for all others
        assert disk.syncs("/journal-order") == 1 and disk.syncs(".seg") == 2  # and the new directory's name
        done = wait_until(lambda: on_topic(stack, ingest), 10, "the leaver's record")
        assert [record["outcome"] for record in done] == ["rejected"]
        before = wanted(ingest)
        with disk.order("hold"):
            for _ in range(CALLS):
                upstream.answers.put([reply(body)])
            wait_until(lambda: wanted(ingest) == before + CALLS, 10, "all replies finished")
            assert all(received(client).endswith(body[:-1]) for client in clients)
            assert len(on_topic(stack, ingest)) == 1 and rounds(ingest) == 2
        ids = [call_id_of(raw) for raw in map(read_message, clients) if raw.endswith(body)]
        assert len(ids) == CALLS and rounds(ingest) <= 4
        assert {record_of(stack, call_id)["outcome"] for call_id in ids} == {"completed"}
        assert sorted(record["seq"] for record in on_topic(stack, ingest)) == list(range(1, CALLS + 2))


def test_a_slow_readers_last_byte_waits_for_the_disk_too(stack, upstream):
    """What waits to be sent goes on flowing meanwhile, but for that byte."""
    body = reply_body("x" * 400_000)
    with running(stack, upstream, "slow") as (ingest, disk), contextlib.ExitStack() as orders, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", ingest.port))
        client.settimeout(10)
        upstream.answers.put([lambda _: orders.enter_context(disk.order("hold")), reply(body)])
        client.sendall(post())
        got = b""
        while not got.endswith(body[:-1]):
            got += client.recv(1 << 20)
        assert wanted(ingest) == 2 and received(client) == b""
        orders.close()
        assert client.recv(10) == body[-1:]


@pytest.mark.parametrize("capture", ["fail_closed", "fail_open"])
def test_a_disk_that_refuses_keeps_calls_out_or_is_counted(stack, upstream, capture):
    name = capture.replace("_", "-")
    with running(stack, upstream, name, f"--capture={capture}") as (ingest, disk):
        with disk.order("fail"):
            if capture == "fail_open":
                upstream.answers.put([reply(reply_body())])
            status, headers, raw = http("POST", ingest.url + "/v1/chat/completions", {"model": "gpt-4o"})
            metrics = ingest.metrics()
            assert metrics["spend_ingest_journal_sync_failures_total"] > 0 and "ev=journal_not_synced" in ingest.log()
            wait_until(lambda: not ingest.ready(), 10, "not ready")
            assert b"the disk did not take" in http("GET", ingest.admin_url + "/readyz")[2]
            if capture == "fail_closed":
                assert status == 503 and headers["Retry-After"] == "1" and b'"journal_failed"' in raw and not upstream.requests
                assert metrics['spend_ingest_refused_total{reason="journal_failed"}'] == 1
            else:
                assert status == 200 and len(upstream.requests) == 1
                assert metrics["spend_ingest_not_on_disk_total"] == 2  # let through, and ended
            record = record_of(stack, headers["x-spend-call-id"])
            assert record["outcome"] == ("rejected" if capture == "fail_closed" else "completed")
        wait_until(ingest.ready, 10, "ready again without a call")
        upstream.answers.put([reply(reply_body())])
        status, headers, _ = http("POST", ingest.url + "/v1/chat/completions", {"model": "gpt-4o"})
        assert status == 200 and record_of(stack, headers["x-spend-call-id"])["outcome"] == "completed"


def test_a_reply_whose_record_the_disk_refuses_still_reaches_its_caller_and_kafka(stack, upstream):
    with running(stack, upstream, "late") as (ingest, disk), contextlib.ExitStack() as orders:
        upstream.answers.put([lambda _: orders.enter_context(disk.order("fail")), reply(reply_body())])
        status, headers, _ = http("POST", ingest.url + "/v1/chat/completions", {"model": "gpt-4o"})
        assert status == 200 and ingest.metrics()["spend_ingest_not_on_disk_total"] == 1
        assert record_of(stack, headers["x-spend-call-id"])["outcome"] == "completed"


def test_a_kill_while_the_disk_is_slow_loses_nothing(stack, upstream):
    with running(stack, upstream, "killed") as (ingest, disk), socket.create_connection(("127.0.0.1", ingest.port)) as client:
        with disk.order("hold"):
            client.sendall(post())
            wait_until(lambda: wanted(ingest) == 1, 10, "the call in the journal")
            wait_until(lambda: b"the disk has not answered" in http("GET", ingest.admin_url + "/readyz")[2], 20, "not ready")
            ingest.kill()
        ingest.start()
        record, = wait_until(lambda: on_topic(stack, ingest), 20, "its record")
        assert (record["outcome"], record["seq"]) == ("unknown", 1) and uuid.UUID(bytes=record["call_id"])
        assert disk.syncs() >= 2 and not upstream.requests  # recovery waits for the disk as well
