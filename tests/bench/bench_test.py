"""The benches work; and what no quiet machine is needed for: the memory of 2,000 slow streams. Nothing here asserts a time."""

import json
import subprocess

from stack import ROOT


def bench(name, *args):
    done = subprocess.run([str(ROOT / "tests" / "bench" / name), *args, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_ingest_beside_haproxy_in_one_short_run():
    _, result = bench("ingest", "--runs", "1", "--seconds", "1", "--skip", "litellm")
    assert set(result["medians"]) == {"plain", "stream of 50"}
    for by in result["medians"].values():
        assert by["ingest"]["rps"] > 0 and by["haproxy"]["cpu_us"] > 0
    assert len(result["targets"]) == 3


def test_2000_slow_streams_at_once_stay_within_40_mib():
    code, result = bench("streams", "--streams", "2000", "--limit-mib", "40", "--pause-ms", "1000", "--events", "12")
    assert code == 0, result


def test_holds_beside_pgbench_and_beside_their_bills_in_one_short_run():
    _, result = bench("holds", "--runs", "1", "--seconds", "1", "--rates", "1000")
    assert set(result["throughput"]) == {"1", "16", "64", "256"} and all(m["rate"] > 0 and m["pgbench"] > 0 for m in result["throughput"].values())
    assert result["latency"]["1000"]["calls_a_request"] >= 1
    assert result["together"] == {"calls_s": result["together"]["calls_s"], "deadlocks": 0, "breaches": 0}
    assert len(result["targets"]) == 3
