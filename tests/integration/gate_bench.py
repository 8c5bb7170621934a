"""What the gate's tests share: a whole stack with ingests at --gate=enforce in front of the provider, budgets, calls and their costs."""

import contextlib
import hashlib
import http.client
import json
import uuid
from decimal import Decimal

import psycopg

from oracle import postgres
from stack import Stack, wait_until

PRICES = {"gpt-4o": (2500, 10000), "gpt-4o-mini": (150, 600)}  # nano-USD a token in and out, LiteLLM's price file
LIFETIME = {"kind": "lifetime"}
ENFORCE = {"SPEND_GATE": "enforce"}


def fresh(word):
    return f"{word}-{uuid.uuid4().hex[:10]}"


def usd(nanos):
    return f"{Decimal(nanos) / 10**9:f}"


def chat(prompt=100, completion=10, model="gpt-4o", order="", max_tokens=None, **more):
    """A chat body of exactly prompt * 4 bytes, so that what is held for its input is what the provider reports."""
    body = {"model": model, "max_tokens": completion if max_tokens is None else max_tokens,
            "messages": [{"role": "user", "content": f"fake: prompt={prompt} completion={completion} {order}".rstrip()}], **more}
    length = len(json.dumps(body))
    assert length <= prompt * 4, f"prompt={prompt} is too few for a body of {length} bytes"
    body["messages"][0]["content"] = " " * (prompt * 4 - length) + body["messages"][0]["content"]
    return body


def cost(prompt=100, completion=10, model="gpt-4o"):
    plain, output = PRICES[model]
    return prompt * plain + completion * output


class Answer:
    def __init__(self, status, headers, raw):
        self.status, self.headers, self.raw = status, headers, raw

    @property
    def call_id(self):
        return self.headers.get("x-spend-call-id")

    @property
    def error(self):
        return json.loads(self.raw)["error"]


class Caller:
    """One connection to an ingest, kept."""

    def __init__(self, port, timeout_s=60):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def call(self, body, tags=(), key=None, path="/v1/chat/completions", headers=None):
        """body: a document, or bytes with headers of their own."""
        headers = {"Content-Type": "application/json", **({"x-litellm-tags": ",".join(tags)} if tags else {}),
                   **({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        self.connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), headers)
        reply = self.connection.getresponse()
        return Answer(reply.status, reply.headers, reply.read())

    def close(self):
        self.connection.close()


class GateBench:
    def __init__(self, stack):
        self.stack = stack
        self.api = stack.api

    def put(self, path, **body):
        status, document = self.api("PUT", path, body)
        assert status in (200, 201), (path, status, document)
        return document

    def account(self, **more):
        name = fresh("account")
        self.put(f"/v1/accounts/{name}", name=name, **more)
        return name

    def key(self, **more):
        """A registered key: (what the caller sends, its hash)."""
        secret = "sk-" + fresh("key")
        digest = hashlib.sha256(secret.encode()).hexdigest()
        if more:
            self.put(f"/v1/keys/{digest}", **more)
        return secret, digest

    def budget(self, scope, value, limit_nanos, window=None, **more):
        return self.put(f"/v1/budgets/{fresh('budget')}", scope=scope, value=value,
                        limit=None if limit_nanos is None else usd(limit_nanos), window=window or LIFETIME, **more)["budget_id"]

    def shown(self, budget, query=""):
        status, document = self.api("GET", f"/v1/budgets/{budget}{query}")
        assert status == 200, document
        return document

    def amounts(self, budget):
        """(spent, held) in nanos."""
        seen = self.shown(budget)
        return tuple(int(Decimal(seen[name]) * 10**9) for name in ("spent", "held"))

    def await_amounts(self, budget, spent, held=0, timeout_s=30):
        wait_until(lambda: self.amounts(budget) == (spent, held), timeout_s, f"{budget} spent {spent} held {held}; it is {self.amounts(budget)}")

    def caller(self, ingest="ingest"):
        return Caller(self.stack.services[ingest].port)

    def query(self, sql, *args):
        with psycopg.connect(self.stack.database_url()) as db:
            return db.execute(sql, args).fetchall()

    def breaches(self):
        """What the invariants say of one snapshot of Postgres."""
        return postgres.snapshot_breaches(self.stack.database_url())

    def nothing_held(self):
        return self.query("SELECT (SELECT coalesce(sum(held_nanos), 0) FROM spend.budget_window) + (SELECT coalesce(sum(held_nanos), 0)"
                          " FROM spend.balance) + (SELECT count(*) FROM spend.hold WHERE state IN ('placed', 'captured'))") == [(0,)]


@contextlib.contextmanager
def running_gate(ingests=("ingest",), ledger_env=None, **env):
    """Ledger, attributor and ingests with the gate; env: of the ingests."""
    with Stack() as stack:
        stack.migrate()
        stack.ledger(env=ledger_env).start()
        stack.attributor().start()
        for name in ingests:
            stack.ingest(name, env={**ENFORCE, **env}).start()
        yield GateBench(stack)
        stack.stop_services()
        assert stack.deadlocks() == 0
