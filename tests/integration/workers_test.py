"""spend-ingest --workers: several processes on one port, each with a journal of its own, behind one admin port."""

import re
import signal
import time

from ingest_test import records
from integration.load import Load
from stack import Stack, http, process_birth, wait_until

CALLS = 1500


def worker_pids(ingest):
    """{"0": pid, ..}: the last that were started, as the log says."""
    return dict(re.findall(r"ev=worker_started worker=(\d+) pid=(\d+)", ingest.log()))


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


def test_two_workers_share_the_port_and_one_is_killed_under_load():
    with Stack(parts=("kafka", "provider")) as stack:
        ingest = stack.ingest(flags=["--workers=2", "--beat-every=200ms"]).start()
        pids = worker_pids(ingest)
        assert set(pids) == {"0", "1", "2"}  # the last one has the admin port
        load = Load(lambda: [ingest.url], ["acme"], CALLS, untagged=0).start()
        wait_until(lambda: load.answered > CALLS // 3, 120, "a third of the calls")
        stack_kill(pids["1"])
        wait_until(lambda: worker_pids(ingest)["1"] != pids["1"], 30, "worker 1 again")
        results = load.join(300)
        ingest.wait_ready()
        metrics = ingest.metrics()
        assert metrics['spend_ingest_worker_deaths_total{worker="parent",process="1"}'] == 1
        assert metrics['spend_ingest_worker_deaths_total{worker="parent",process="0"}'] == 0
        # the one that came back took its own journal up again and finished what the dead one had left
        wait_until(lambda: summed(ingest, "spend_ingest_journal_undelivered") == (0, 2), 60, "Kafka has all of it")
        check_exposition(page(ingest, "/metrics")[1])
        found = [record for _, record, _ in records(stack, "spend.calls")]
        by_instance = {}
        for record in found:
            by_instance.setdefault(record["instance"], []).append(record["seq"])
        assert len(by_instance) == 2 and all(len(seqs) > CALLS // 10 for seqs in by_instance.values())
        for instance, seqs in by_instance.items():
            assert sorted(set(seqs)) == list(range(1, max(seqs) + 1)), instance  # nothing lost
        ids = [record["call_id"] for record in found]
        assert len({(r["instance"], r["seq"]) for r in found}) == len(set(ids))  # a repeat is the same call
        answered = {result.call_id for result in results if result.status == 200}
        recorded = {str_of(record["call_id"]) for record in found if record["outcome"] == "completed"}
        assert answered <= recorded and len(answered) >= CALLS
        ingest.stop()
        beats = [record for _, record, _ in records(stack, "spend.instances")]
        assert {beat["instance"] for beat in beats} == set(by_instance)
        for instance, seqs in by_instance.items():
            last = [beat for beat in beats if beat["instance"] == instance][-1]
            assert last["closed"] and last["next_seq"] == max(seqs) + 1


def str_of(call_id):
    import uuid
    return str(uuid.UUID(bytes=call_id))


def stack_kill(pid, number=signal.SIGKILL):
    import os
    os.kill(int(pid), number)


def test_readiness_names_the_worker_and_a_drain_lets_calls_end():
    with Stack(parts=("kafka", "provider")) as stack:
        ingest = stack.ingest(flags=["--workers=2"]).start()
        pids = worker_pids(ingest)
        stack_kill(pids["0"], signal.SIGSTOP)
        status, text = wait_until(lambda: (p := page(ingest, "/healthz"))[0] == 503 and p, 30, "not live")
        assert re.fullmatch(r"worker 0: ingest: no turn for \d+ ms, 5000 ms are allowed\n", text)
        stack_kill(pids["0"], signal.SIGCONT)
        wait_until(lambda: page(ingest, "/healthz") == (200, "ok\n"), 30, "live again")
        stack_kill(pids["2"])  # the admin port's own process comes back as well
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


def test_workers_go_when_their_parent_is_killed():
    with Stack(parts=("kafka", "provider")) as stack:
        ingest = stack.ingest(flags=["--workers=2"]).start()
        pids = worker_pids(ingest)
        ingest.kill()
        wait_until(lambda: all(process_birth(pid) is None for pid in pids.values()), 60, "workers gone")
        beats = [record for _, record, _ in records(stack, "spend.instances")]
        assert len({beat["instance"] for beat in beats if beat["closed"]}) == 2
        ingest.check_log()


def test_a_start_that_cannot_work_fails_as_with_one():
    with Stack(parts=("kafka", "provider")) as stack:
        first = stack.ingest(flags=["--workers=1"]).start()
        second = stack.ingest("ingest-2", flags=["--workers=2"], env={"SPEND_LISTEN": f"127.0.0.1:{first.port}"})
        begun = time.monotonic()
        second.start(wait=False)
        assert second.process.wait(60) == 1 and time.monotonic() - begun < 30
        assert "cannot listen" in second.log()
        second.process = None
