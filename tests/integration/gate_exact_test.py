"""The gate is exact: a limit of k calls lets k pass, whatever the number of callers and of ingests, and no fewer; and when calls cost
something else than was held for them, a window passes its limit by no more than I7 allows: S + U + D, printed for each run.

SPEND_EXACT_RUNS: runs of each number of callers and ingests (3 in tests/run; 50 by command)."""

import os
import random
import threading

import pytest

from calls import now_us
from gate_bench import Caller, chat, cost, fresh, running_gate
from stack import wait_until

RUNS = int(os.environ.get("SPEND_EXACT_RUNS", "3"))
INGESTS = ("ingest", "ingest-2", "ingest-3", "ingest-4")
CALLERS = (1, 2, 16, 64, 256)
WAYS = [(callers, ingests, seed) for callers in CALLERS for ingests in range(1, 5) for seed in range(RUNS)]
LAG_US = 500_000  # a capture may still be on its way for so long after its caller was answered


@pytest.fixture(scope="module")
def gate():
    with running_gate(INGESTS) as bench:
        yield bench


class Run:
    """So many callers share out the calls of one tag."""

    def __init__(self, gate, callers, ingests, bodies):
        self.gate, self.bodies = gate, list(bodies)
        self.account = gate.account()
        self.tag = f"tenant={fresh('t')}"
        self.lock, self.answers, self.errors = threading.Lock(), [], []
        self.ports = [gate.stack.services[name].port for name in INGESTS[:ingests]]
        self.threads = [threading.Thread(target=self.work, args=(self.ports[i % ingests],)) for i in range(callers)]

    def work(self, port):
        caller = Caller(port)
        try:
            while True:
                with self.lock:
                    if not self.bodies:
                        return
                    body = self.bodies.pop()
                answer = caller.call(body, [f"account_id={self.account}", self.tag])
                answer.ended_us = now_us()
                with self.lock:
                    self.answers.append((answer, body))
        except Exception as error:  # a thread's own would be seen by nobody
            self.errors.append(repr(error))
        finally:
            caller.close()

    def all(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors[:3]
        assert {answer.status for answer, _ in self.answers} <= {200, 400}, [a.raw for a, _ in self.answers if a.status not in (200, 400)][:3]
        return [(answer, body) for answer, body in self.answers if answer.status == 200]


@pytest.mark.parametrize("callers, ingests, seed", WAYS)
def test_a_limit_of_k_calls_lets_k_pass(gate, callers, ingests, seed):
    rng = random.Random(f"{callers} {ingests} {seed}")
    k = rng.randrange(1, 3 * callers + 10)
    prompt, completion = rng.randrange(100, 400), rng.randrange(1, 50)
    bodies = [chat(prompt, completion, order=f"delay_ms={rng.randrange(0, 20)}") for _ in range(k + callers + rng.randrange(1, 10))]
    run = Run(gate, callers, ingests, bodies)
    limit = k * cost(prompt, completion) + rng.randrange(0, cost(prompt, completion))
    budget = gate.budget("tag", run.tag, limit)
    assert len(run.all()) == k
    gate.await_amounts(budget, k * cost(prompt, completion))
    seen = gate.shown(budget)
    assert (seen["ungated"], seen["held"]) == ("0", "0"), seen


def over(body, actual):
    """By how much a call cost more than was held for it."""
    return max(0, actual - cost(body["prompt"], body["most"]))


@pytest.mark.parametrize("callers, ingests", [(16, 2), (64, 4), (256, 4)])
@pytest.mark.parametrize("seed", range(RUNS))
def test_a_limit_is_passed_by_no_more_than_the_open_holds_were_short_of(gate, callers, ingests, seed):
    rng = random.Random(f"random {callers} {ingests} {seed}")
    plans = [{"prompt": rng.randrange(100, 400), "most": rng.randrange(1, 60), "used": rng.randrange(0, 120)} for _ in range(4 * callers)]
    by_text = {}
    for number, plan in enumerate(plans):
        body = chat(plan["prompt"], plan["used"], order=f"delay_ms={rng.randrange(0, 60)} ref=n{number}", max_tokens=plan["most"])
        by_text[body["messages"][0]["content"]] = plan
        plan["body"] = body
    run = Run(gate, callers, ingests, [plan["body"] for plan in plans])
    limit = sum(cost(plan["prompt"], plan["used"]) for plan in plans) // 3
    budget = gate.budget("tag", run.tag, limit)
    passed = [(answer, by_text[body["messages"][0]["content"]]) for answer, body in run.all()]
    spent = sum(cost(plan["prompt"], plan["used"]) for _, plan in passed)
    gate.await_amounts(budget, spent)
    ((last,),) = gate.query("SELECT (extract(epoch FROM max(admitted_at)) * 1000000)::bigint FROM spend.call WHERE call_id = ANY (%s::uuid[])",
                            [answer.call_id for answer, _ in passed])
    s = sum(over(plan, cost(plan["prompt"], plan["used"])) for answer, plan in passed if answer.ended_us >= last - LAG_US)
    seen = gate.shown(budget)
    u, d = seen["ungated"], seen.get("away", "0")
    print(f"callers {callers} ingests {ingests} seed {seed}: limit {limit} spent {spent} over {spent - limit} S {s} U {u} D {d} nano-USD")
    assert (u, d) == ("0", "0") and spent <= limit + s
    assert len(passed) < len(plans)


def test_nothing_is_held_when_all_is_over(gate):
    wait_until(gate.nothing_held, 60, "nothing held")
    assert gate.breaches() == []
