"""A journal that is lost, whole or in part, while ingest runs or between its runs: named by instance, counted."""

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys

import pytest
from ingest_test import chat, ingest_stack, record_of, records
from oracle.gaps import losses
from oracle.kafka import Record
from stack import ROOT, http as ask, wait_until
from witness import numbers


@pytest.fixture(scope="module", name="stack")
def stack_fixture():
    with ingest_stack() as stack:
        yield stack


@contextlib.contextmanager
def streams(ingest, count):
    """Calls under way that bring text until left, or until ingest is gone; yields their ids."""
    ids, connections = [], []
    body = json.dumps({"model": "gpt-4o", "stream": True,
                       "messages": [{"role": "user", "content": "fake: chunks=100 bytes=4000 chunk_ms=50"}]})
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", ingest.port, timeout=30)
        connections.append(connection)
        connection.request("POST", "/v1/chat/completions", body)
        reply = connection.getresponse()
        ids.append(reply.getheader("x-spend-call-id"))
        assert reply.read1(100)
    yield ids, connections
    for connection in connections:
        connection.close()


def gaps(stack):
    done = subprocess.run([sys.executable, "-m", "tests.oracle.gaps", "--brokers", stack.brokers, "--silent", "2"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2), done.stderr
    return done.stdout.splitlines()


def of(lines, instance):
    return next((line for line in lines if instance in line), None)


def beaten(stack, instance, next_seq):
    """A heartbeat that tells of all numbers below."""
    beats = [beat for _, beat, _ in records(stack, "spend.instances") if str(beat["instance"]) == instance]
    return beats and beats[-1]["next_seq"] == next_seq


def run(stack, name, done, under_way):
    """An ingest with calls that are delivered and calls under way, killed: (ingest, its journal's directory, instance)."""
    folder = stack.dir / f"journal-{name}"
    ingest = stack.ingest(name, journal=folder, flags=["--beat-every=300ms"]).start()
    for _ in range(done):
        assert chat(ingest, "prompt=3")[0] == 200
    journal, = folder.iterdir()
    with streams(ingest, under_way):
        wait_until(lambda: ingest.metrics()["spend_ingest_journal_undelivered"] == under_way, 20, "delivered")
        wait_until(lambda: beaten(stack, journal.name, done + under_way + 1), 20, "a beat that knows of all")
        ingest.kill()
    return ingest, journal, journal.name


def test_a_journal_that_vanishes_under_ingest_is_named_at_once_and_what_it_held_is_delivered(stack):
    folder = stack.dir / "journal-vanishing"
    ingest = stack.ingest("vanishing", journal=folder, flags=["--beat-every=300ms"]).start()
    old, = folder.iterdir()
    with streams(ingest, 2) as (ids, connections):
        shutil.rmtree(old)
        wait_until(lambda: ingest.metrics()["spend_ingest_journal_lost"] == 1, 10, "the loss counted")
        assert f"lvl=error svc=ingest ev=journal_lost instance={old.name} undelivered=2 oldest_open_seq=1 next_seq=3" in ingest.log()
        assert f"gone from {folder}: {old.name}" in ask("GET", ingest.admin_url + "/readyz")[2].decode()
        status, headers, raw = chat(ingest, "prompt=3")
        assert (status, headers["Retry-After"]) == (503, "1") and b'"journal_failed"' in raw
        for connection in connections:
            connection.close()
        assert {record_of(stack, call_id)["outcome"] for call_id in ids} == {"aborted"}
    ingest.stop()
    ingest.start()
    status, headers, _ = chat(ingest, "prompt=3")
    record = record_of(stack, headers["x-spend-call-id"])
    assert status == 200 and str(record["instance"]) != old.name and record["seq"] == 1
    assert of(gaps(stack), old.name) is None  # closed in good order: Kafka has all of it
    ingest.stop()


def test_a_volume_that_was_lost_between_two_runs_is_named_by_instance_and_count(stack):
    ingest, journal, instance = run(stack, "volume", 3, 4)
    shutil.rmtree(journal.parent)
    journal.parent.mkdir()
    ingest.start()
    line = wait_until(lambda: of(gaps(stack), instance), 20, "the loss named", every_s=0.5)
    assert line.startswith(f"instance {instance}: 4 calls lost, seq 4-7; silent since ")
    other, = journal.parent.iterdir()
    assert of(gaps(stack), other.name) is None and ingest.ready()
    ingest.stop()


@pytest.mark.parametrize("loss, lost", [("removed", 4), ("emptied", 4), ("halved", 2)])
def test_a_segment_that_was_lost_between_two_runs_is_named_and_no_number_is_given_twice(stack, loss, lost):
    ingest, journal, instance = run(stack, loss, 2, 2 if loss == "halved" else 4)
    segment = max(journal.glob("*.seg"))
    segment.unlink() if loss == "removed" else os.truncate(segment, 0 if loss == "emptied" else 200)
    ingest.start()
    wait_until(lambda: "ev=journal_set_aside" in ingest.log(), 20, "the journal set aside")
    assert f"lvl=error svc=ingest ev=journal_recovered instance={instance}" in ingest.log()
    assert ingest.metrics()["spend_ingest_journals_set_aside"] == 1
    line = wait_until(lambda: of(gaps(stack), instance), 20, "the loss named", every_s=0.5)
    assert line.startswith(f"instance {instance}: {lost} calls lost, seq 3-{lost + 2}; silent since ")
    record = record_of(stack, chat(ingest, "prompt=3")[1]["x-spend-call-id"])
    assert str(record["instance"]) != instance and record["seq"] == 1
    assert all(len(calls) == 1 for seqs in numbers(stack).values() for calls in seqs.values())
    ingest.stop()


def test_a_journal_that_cannot_be_read_stops_the_start_and_is_named(stack):
    ingest, journal, instance = run(stack, "unreadable", 1, 1)
    segment = max(journal.glob("*.seg"))
    away = segment.rename(segment.with_suffix(".away"))
    segment.mkdir()
    ingest.start(wait=False)
    wait_until(lambda: not ingest.alive, 20, "the start refused")
    assert f"journal {instance}: journal: cannot open {segment.name}" in ingest.log_tail(1)
    segment.rmdir()
    away.rename(segment)
    ingest.start()
    wait_until(lambda: sorted(numbers(stack)[instance]) == [1, 2], 20, "both calls")
    ingest.stop()


def made(topic, value):
    return Record(topic, 0, 0, value.get("at", value.get("finished_at")), None, value)


@pytest.mark.parametrize("beat, seqs, now, found", [
    (("alive", 4, 4), [1, 2, 3], 5, None),
    (("alive", 9, 4), [1, 2, 3, 7], 5, None),  # under way
    (("alive", 9, 5), [1, 2, 3, 7], 5, (1, [[4, 4]], False)),
    (("alive", 9, 4), [1, 2, 3, 7], 100, (4, [[4, 6], [8, 8]], True)),
    (("alive", 4, 4), [1, 2, 3], 100, (0, [], True)),
    (("closed", 4, 4), [1, 2, 3], 100, None),
    (("closed", 4, 4), [1, 3], 5, (1, [[2, 2]], False)),
    (None, [2, 4], 100, (2, [[1, 1], [3, 3]], True)),
])
def test_what_is_missing_is_counted(monkeypatch, beat, seqs, now, found):
    from oracle import gaps as module
    monkeypatch.setattr(module, "readable", lambda schema, record: record.value)
    calls = [made("spend.calls", {"instance": "i", "seq": seq, "at": 10**6}) for seq in seqs]
    beats = [made("spend.instances", {"instance": "i", "state": beat[0], "next_seq": beat[1], "oldest_open_seq": beat[2],
                                      "at": 10**6})] if beat else []
    told = losses({"spend.calls": calls, "spend.instances": beats}, now * 10**6, 60 * 10**6)
    assert [(loss.count, loss.seqs, loss.silent) for loss in told] == ([found] if found else [])
