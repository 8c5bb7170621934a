"""Load for the tests: seeded calls through one or more ingests, repeats on spend.calls, and snapshots of the ledger.

A call's plan says which account, task and conversation its tags name, where the tags stand, and what tokens the fake
provider is to report: the plan is what the caller knows, so a test can compare it with what was billed.
"""

import http.client
import json
import random
import threading
import time

import psycopg
from confluent_kafka import Consumer, Producer

FORMS = ("header", "two_headers", "messy_header", "root", "metadata", "litellm_metadata", "mixed", "doubled")


class Plan:
    """One call a caller makes. tags are in the order they are sent."""

    def __init__(self, number, rng, accounts):
        self.number = number
        self.account = rng.choice(accounts) if accounts else None
        self.task = f"task-{rng.randrange(200)}" if rng.random() < 0.7 else None
        self.conversation = f"conv-{rng.randrange(50)}" if rng.random() < 0.4 else None
        self.stream = rng.random() < 0.2
        self.form = rng.choice(FORMS)
        self.model = rng.choice(("gpt-4o", "gpt-4o-mini"))
        self.prompt, self.completion = rng.randrange(1, 4000), rng.randrange(0, 900)
        self.cached, self.reasoning = rng.randrange(0, self.prompt + 1), rng.randrange(0, self.completion + 1)
        self.key = f"sk-load-{rng.randrange(20)}"

    @property
    def tags(self):
        named = (("account_id", self.account), ("task", self.task), ("conversation", self.conversation))
        return [f"{key}={value}" for key, value in named if value is not None]

    def request(self):
        """(headers, body): the tags where the plan's form puts them."""
        body = {"model": self.model, "messages": [{"role": "user", "content": self.text()}]}
        if self.stream:
            body["stream"] = True
        headers = [("content-type", "application/json"), ("authorization", f"Bearer {self.key}")]
        tags = self.tags
        if self.form == "header":
            headers.append(("x-litellm-tags", ",".join(tags)))
        elif self.form == "two_headers":
            headers += [("x-litellm-tags", tag) for tag in tags]
        elif self.form == "messy_header":
            headers.append(("X-LiteLLM-Tags", " ,, " + " , ".join(tags) + " ,"))
        elif self.form == "root":
            body["tags"] = tags
        elif self.form == "metadata":
            body["metadata"] = {"tags": tags}
        elif self.form == "litellm_metadata":
            body["litellm_metadata"] = {"tags": tags}
        elif self.form == "mixed":
            headers += [("x-litellm-tags", tag) for tag in tags[:1]]
            body["tags"] = tags[1:2]
            body["metadata"] = {"tags": tags[2:]}
        else:
            headers.append(("x-litellm-tags", ",".join(tags + tags)))
            body["metadata"] = {"tags": tags}
        return headers, json.dumps(body).encode()

    def text(self):
        return (f"fake: prompt={self.prompt} cached={self.cached} completion={self.completion} "
                f"reasoning={self.reasoning} ref=n{self.number}")


class Result:
    def __init__(self, plan, status, call_id, error=None):
        self.plan, self.status, self.call_id, self.error = plan, status, call_id, error


def send(url, plan, timeout_s=60):
    """Makes the call; a broken connection is a result like any other."""
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    headers, body = plan.request()
    call_id = None
    try:
        connection.putrequest("POST", "/v1/chat/completions", skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        reply = connection.getresponse()
        call_id = reply.getheader("x-spend-call-id")
        reply.read()
        return Result(plan, reply.status, call_id)
    except (OSError, http.client.HTTPException) as error:
        return Result(plan, None, call_id, repr(error))
    finally:
        connection.close()


class Load:
    """Callers in threads until `count` calls have been answered with 200. Broken and refused calls are made again, as new calls."""

    def __init__(self, urls, accounts, count, callers=16, seed=1, untagged=0.02):
        self.urls, self.accounts, self.count, self.callers, self.untagged = urls, accounts, count, callers, untagged
        self.results, self.lock, self.number = [], threading.Lock(), 0
        self.rng = random.Random(seed)
        self.stopped = threading.Event()
        self.threads = []

    @property
    def answered(self):
        with self.lock:
            return sum(result.status == 200 for result in self.results)

    def next_plan(self):
        with self.lock:
            self.number += 1
            accounts = self.accounts if self.rng.random() >= self.untagged else None
            return Plan(self.number, self.rng, accounts), self.rng.choice(self.urls())

    def caller(self):
        while not self.stopped.is_set() and self.answered < self.count:
            plan, url = self.next_plan()
            result = send(url, plan)
            with self.lock:
                self.results.append(result)
            if result.status != 200:
                self.stopped.wait(0.05)  # a service is away: the caller's own back-off

    def start(self):
        self.threads = [threading.Thread(target=self.caller, daemon=True) for _ in range(self.callers)]
        for thread in self.threads:
            thread.start()
        return self

    @property
    def done(self):
        return not any(thread.is_alive() for thread in self.threads)

    def join(self, timeout_s):
        end = time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
        self.stopped.set()
        assert self.done, f"only {self.answered} of {self.count} calls were answered in {timeout_s} s"
        return self.results


class Repeater:
    """Reads spend.calls and produces every n-th record to it again, bytes unchanged: what an at-least-once producer may do."""

    def __init__(self, brokers, every=20):
        self.brokers, self.every, self.repeated = brokers, every, 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(60)

    def run(self):
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": "repeater", "auto.offset.reset": "earliest", "log_level": 2})
        producer = Producer({"bootstrap.servers": self.brokers, "enable.idempotence": True, "log_level": 2})
        consumer.subscribe(["spend.calls"])
        seen = 0
        while not self.stopped.is_set():
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue
            seen += 1
            if seen % self.every == 0:
                producer.produce("spend.calls", message.value(), message.key(), headers=message.headers())
                self.repeated += 1
            producer.poll(0)
        producer.flush(30)
        consumer.close()


BALANCES = """
SELECT a.account_id, b.amount_nanos, b.seq, coalesce(sum(e.amount_nanos), 0)::bigint, count(e.*), coalesce(max(e.account_seq), 0)
FROM spend.balance b JOIN spend.account a ON a.id = b.account_id LEFT JOIN spend.entry e ON e.account_id = b.account_id
GROUP BY 1, 2, 3"""
CHAINS = """
SELECT account_id, account_seq FROM (
  SELECT account_id, account_seq, balance_after_nanos - amount_nanos AS before,
         coalesce(lag(balance_after_nanos) OVER w, 0) AS expected, coalesce(lag(account_seq) OVER w, 0) + 1 AS next
  FROM spend.entry WINDOW w AS (PARTITION BY account_id ORDER BY account_seq)) x
WHERE before <> expected OR next <> account_seq"""
BILLS = """
SELECT c.call_id, coalesce(c.billed_nanos, 0), coalesce(sum(e.amount_nanos), 0)
FROM spend.call c FULL JOIN spend.entry e ON e.call_id = c.call_id
WHERE c.call_id IS NOT NULL OR e.call_id IS NOT NULL
GROUP BY 1, 2 HAVING coalesce(c.billed_nanos, 0) <> -coalesce(sum(e.amount_nanos), 0)"""

OPEN = "FROM spend.hold WHERE state IN ('placed', 'captured')"
WINDOWS = f"""
WITH spent AS (SELECT id, sum(n)::bigint AS n FROM (SELECT unnest(windows_raw) AS id, coalesce(raw_nanos, 0) AS n FROM spend.call
    UNION ALL SELECT unnest(windows_billed), coalesce(billed_nanos, 0) FROM spend.call) x GROUP BY id),
  held AS (SELECT id, sum(n)::bigint AS n FROM (SELECT unnest(windows_raw) AS id, raw_nanos AS n {OPEN}
    UNION ALL SELECT unnest(windows_billed), billed_nanos {OPEN}) x GROUP BY id)
SELECT w.id, w.spent_nanos, coalesce(s.n, 0), w.held_nanos, coalesce(h.n, 0)
FROM spend.budget_window w LEFT JOIN spent s USING (id) LEFT JOIN held h USING (id)
WHERE w.spent_nanos <> coalesce(s.n, 0) OR w.held_nanos <> coalesce(h.n, 0)"""
HELD = f"""
SELECT b.account_id, b.held_nanos, coalesce(h.n, 0) FROM spend.balance b
LEFT JOIN (SELECT account AS account_id, sum(billed_nanos)::bigint AS n {OPEN} GROUP BY account) h USING (account_id)
WHERE b.held_nanos <> coalesce(h.n, 0)"""


def check_snapshot(database_url):
    """I5 in one committed snapshot: balances, chains, bills equal their entries, and windows and balances what was spent and is held.
    Returns what is wrong, and the count of entries."""
    wrong = []
    with psycopg.connect(database_url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        entries = 0
        for account, amount, seq, total, count, last in connection.execute(BALANCES):
            entries += count
            if amount != total or seq != count or seq != last:
                wrong.append(f"{account}: balance {amount}, entries sum {total}; seq {seq}, {count} entries, last {last}")
        wrong += [f"chain broken at account {a} seq {s}" for a, s in connection.execute(CHAINS)]
        wrong += [f"call {c}: billed {b}, entries {-e}" for c, b, e in connection.execute(BILLS)]
        wrong += [f"window {w}: spent {s}, its calls {cs}; held {h}, its holds {hs}" for w, s, cs, h, hs in connection.execute(WINDOWS)]
        wrong += [f"account {a}: held {h}, its holds {hs}" for a, h, hs in connection.execute(HELD)]
    return wrong, entries


class Sampler:
    """Takes snapshots until left; keeps what was wrong in any."""

    def __init__(self, database_url, every_s=0.5):
        self.database_url, self.every_s, self.wrong, self.samples = database_url, every_s, [], 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(60)

    def run(self):
        while not self.stopped.wait(self.every_s):
            try:
                self.wrong += check_snapshot(self.database_url)[0]
                self.samples += 1
            except psycopg.OperationalError:
                continue  # Postgres is being restarted: no snapshot to judge
