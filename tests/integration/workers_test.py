"""spend-ingest --workers: several processes on one port, each with a journal of its own, behind one admin port."""

import os
import re
import signal
import uuid
from pathlib import Path

import pytest
from ingest_test import ingest_stack, records
from integration.load import Load
from stack import http, process_birth, wait_until

CALLS = 1500


@pytest.fixture(scope="module", name="stack")
def stack_fixture():
    with ingest_stack() as stack:
        yield stack


def workers(stack, name, *flags):
    """An ingest with two workers and a journal directory of its own."""
    return stack.ingest(name, flags=["--workers=2", *flags], journal=stack.dir / name).start()


def instances(ingest):
    return {entry.name for entry in Path(ingest.env["SPEND_JOURNAL_DIR"]).iterdir()}


def worker_pids(ingest):
    """{"0": pid, ..}: the last that were started, as the log says."""
    return dict(re.findall(r"ev=worker_started worker=(\d+) pid=(\d+)", ingest.log()))


def kill(pid, number=signal.SIGKILL):
    os.kill(int(pid), number)


def page(ingest, path):
    status, _, text = http("GET", ingest.admin_url + path)
    return status, text.decode()


def summed(ingest, name):
    """A counter over all workers, and how many of them have it."""
    values = [value for key, value in ingest.metrics().items() if re.fullmatch(name + r'\{worker="\d+"(,.*)?\}', key)]
    return sum(values), len(values)


def check_exposition(text):
    """One head a family, its series together, none twice."""
    families, seen = [], set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            families.append(line.split()[2])
        elif not line.startswith("#"):
            series = line.rpartition(" ")[0]
            assert series not in seen, series
            seen.add(series)
            assert re.match(re.escape(families[-1]) + r"(_bucket|_sum|_count)?(\{|$)", series), (families[-1], series)
    assert families == sorted(set(families))


def test_two_workers_share_the_port_and_one_is_killed_under_load(stack):
    ingest = workers(stack, "shared", "--beat-every=200ms")
    pids = worker_pids(ingest)
    assert set(pids) == {"0", "1", "2"}  # the last one has the admin port
    load = Load(lambda: [ingest.url], ["acme"], CALLS, untagged=0).start()
    wait_until(lambda: load.answered > CALLS // 3, 120, "a third of the calls")
    kill(pids["1"])
    wait_until(lambda: worker_pids(ingest)["1"] != pids["1"], 30, "worker 1 again")
    results = load.join(300)
    ingest.wait_ready()
    metrics = ingest.metrics()
    assert metrics['spend_ingest_worker_deaths_total{worker="parent",process="1"}'] == 1
    assert metrics['spend_ingest_worker_deaths_total{worker="parent",process="0"}'] == 0
    # the one that came back took its own journal up again and finished what the dead one had left
    wait_until(lambda: summed(ingest, "spend_ingest_journal_undelivered") == (0, 2), 60, "Kafka has all of it")
    check_exposition(page(ingest, "/metrics")[1])
    own = instances(ingest)
    found = [record for _, record, _ in records(stack, "spend.calls") if record["instance"] in own]
    by_instance = {}
    for record in found:
        by_instance.setdefault(record["instance"], []).append(record["seq"])
    assert len(by_instance) == 2 and all(len(seqs) > CALLS // 10 for seqs in by_instance.values())
    for instance, seqs in by_instance.items():
        assert sorted(set(seqs)) == list(range(1, max(seqs) + 1)), instance  # nothing lost
    ids = [record["call_id"] for record in found]
    assert len({(r["instance"], r["seq"]) for r in found}) == len(set(ids))  # a repeat is the same call
    answered = {result.call_id for result in results if result.status == 200}
    recorded = {str(uuid.UUID(bytes=record["call_id"])) for record in found if record["outcome"] == "completed"}
    assert answered <= recorded and len(answered) >= CALLS
    ingest.stop()
    beats = [record for _, record, _ in records(stack, "spend.instances")]
    assert own == set(by_instance)
    for instance, seqs in by_instance.items():
        last = [beat for beat in beats if beat["instance"] == instance][-1]
        assert last["state"] == "closed" and last["next_seq"] == max(seqs) + 1


def test_readiness_names_the_worker_and_a_drain_lets_calls_end(stack):
    ingest = workers(stack, "drained")
    pids = worker_pids(ingest)
    kill(pids["0"], signal.SIGSTOP)
    status, text = wait_until(lambda: (p := page(ingest, "/healthz"))[0] == 503 and p, 30, "not live")
    assert re.fullmatch(r"worker 0: ingest: no turn for \d+ ms, 5000 ms are allowed\n", text)
    kill(pids["0"], signal.SIGCONT)
    wait_until(lambda: page(ingest, "/healthz") == (200, "ok\n"), 30, "live again")
    kill(pids["2"])  # the admin port's own process comes back as well
    wait_until(lambda: page(ingest, "/readyz") == (200, "ok\n"), 30, "the admin port again")
    # callers that are being served while it drains
    load = Load(lambda: [ingest.url], ["acme"], 10**6, callers=8).start()
    wait_until(lambda: load.answered > 100, 60, "calls")
    ingest.process.send_signal(signal.SIGTERM)
    assert ingest.process.wait(60) == 0
    load.stopped.set()
    wait_until(lambda: load.done, 60, "callers gone")
    cut = [result for result in load.results if result.status is None and result.call_id]
    assert not cut  # what had begun was answered whole
    assert all(process_birth(pid) is None for pid in worker_pids(ingest).values())
    ingest.check_log()


def test_workers_go_when_their_parent_is_killed(stack):
    ingest = workers(stack, "orphaned")
    pids = worker_pids(ingest)
    ingest.kill()
    wait_until(lambda: all(process_birth(pid) is None for pid in pids.values()), 60, "workers gone")
    own = instances(ingest)
    closed = {record["instance"] for _, record, _ in records(stack, "spend.instances") if record["state"] == "closed"}
    assert len(own) == 2 and own <= closed
    ingest.check_log()


def test_a_start_that_cannot_work_fails_as_with_one(stack):
    first = stack.ingest("one").start()
    second = stack.ingest("another", flags=["--workers=2"])
    second.start(wait=False, env={"SPEND_LISTEN": f"127.0.0.1:{first.port}"})
    assert second.process.wait(30) == 1
    assert "cannot listen" in second.log()
    second.process = None
