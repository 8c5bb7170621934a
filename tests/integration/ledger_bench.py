"""What the ledger's tests share: a Kafka and a Postgres, ledgers, and a producer that stands in for the attributor."""

import contextlib
import functools
import hashlib
import time
import uuid

import psycopg
from confluent_kafka import Producer
from psycopg.rows import dict_row

from oracle import avro, build, fold, money, postgres, rater
from oracle.kafka import Tail
from stack import Stack, wait_until

INPUTS = ("spend.attributed", "spend.dlq.untagged", "spend.dlq.unknown", "spend.dlq.conflict", "spend.dlq.unpriced",
          "spend.dlq.malformed")
OUTPUTS = ("spend.entries", "spend.dlq.malformed", "spend.dlq.conflict")
START = {"topic": "spend.calls", "partition": 0, "offset": 0}


def uuid_of(call):
    return uuid.UUID(bytes=call["call_id"])


def attributed(call, account, raw, **fields):
    """An AttributedCall as the attributor makes it; raw None is refused by nobody here."""
    made = {
        "call": call, "hash": fold.call_hash(call), "origin": START, "account_id": account, "task_id": None,
        "conversation_id": None, "user": None, "team": None, "route": "tag", "redrive": None, "raw_nanos": raw,
        "rating": "exact", "price_version": 1, "price_key": "gpt-4o", "rater_version": rater.RATER_VERSION,
        "config_watermark": build.now_us()}
    assert fields.keys() <= made.keys(), fields.keys() - made.keys()
    return {**made, **fields}


def dead(call, reason, raw, **fields):
    """A DeadLetter of kind call."""
    made = {
        "kind": "call", "reason": reason, "detail": f"it is {reason}", "call_id": call["call_id"],
        "original": avro.CALL.encode(call), "origin": START, "first_seen": call["admitted_at"], "attempts": 1, "call": call,
        "hash": fold.call_hash(call), "raw_nanos": raw, "estimated": False, "price_version": raw and 1,
        "rater_version": rater.RATER_VERSION, "redrive": None}
    assert fields.keys() <= made.keys(), fields.keys() - made.keys()
    return {**made, **fields}


class Feeder:
    """Produces to the ledger's input topics; a partition is chosen by the account, as by the attributor."""

    def __init__(self, brokers):
        self.producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 5,
                                  "partitioner": "murmur2_random", "message.max.bytes": 1_040_000})
        self.failed = []

    def raw(self, topic, key, value, partition=None):
        where = {} if partition is None else {"partition": partition}
        while True:
            try:
                self.producer.produce(topic, value, key, on_delivery=lambda e, _: e and self.failed.append(e), **where)
                return
            except BufferError:
                self.producer.poll(0.1)

    def bill(self, record, partition=None):
        self.raw("spend.attributed", record["account_id"].encode(), avro.ATTRIBUTED.encode(record), partition)

    def letter(self, record):
        self.raw(f"spend.dlq.{record['reason']}", build.call_key({"call_id": record["call_id"]}),
                 avro.DEAD_LETTER.encode(record))

    def malformed(self, call):
        """What the attributor makes of a record that it cannot read: only the key tells whose it is."""
        letter = {**dead(call, "malformed", None, call_id=None, hash=None, rater_version=None, original=b"?"), "call": None}
        self.raw("spend.dlq.malformed", build.call_key(call), avro.DEAD_LETTER.encode(letter))

    def flush(self):
        assert self.producer.flush(60) == 0 and not self.failed, self.failed[:3]


class Bench:
    """A running stack as a ledger's test sees it."""

    def __init__(self, stack):
        self.stack = stack
        self.feeder = Feeder(stack.brokers)
        self.tail = Tail(stack.brokers, INPUTS + tuple(t for t in OUTPUTS if t not in INPUTS))
        self.count = 0

    @functools.cached_property
    def config(self):
        """What the ledger publishes of its configuration."""
        return Tail(self.stack.brokers, ("spend.registry", "spend.prices"))

    def close(self):
        self.tail.close()
        if "config" in self.__dict__:
            self.config.close()

    def start(self, *names, **env):
        for name in names or ("ledger",):
            service = self.stack.services.get(name) or self.stack.ledger(name)
            if not service.alive:
                service.start(env=env)
        return self.stack.services[(names or ("ledger",))[0]]

    # -- configuration

    def account(self, tier=None):
        self.count += 1
        name = f"account-{self.count}-{uuid.uuid4().hex[:6]}"
        self.put(f"/v1/accounts/{name}", {"name": name, **({"tier": tier} if tier else {})})
        return name

    def config_generation(self):
        """How often the whole configuration went out: the newest heartbeat says it."""
        self.config.refresh()
        told = [r.headers.get("spend_generation") for r in self.config.records["spend.registry"]]
        return max(map(int, filter(None, told)), default=0)

    def put(self, path, body):
        status, document = self.stack.api("PUT", path, body)
        assert status in (200, 201), (path, status, document)
        return document

    # -- the database

    def query(self, sql, args=(), role="postgres"):
        with psycopg.connect(self.stack.database_url(role), row_factory=dict_row, options="-c search_path=spend") as db:
            return db.execute(sql, args).fetchall()

    def execute(self, sql, args=(), role="postgres"):
        with psycopg.connect(self.stack.database_url(role), options="-c search_path=spend") as db:
            db.execute(sql, args)

    def call(self, call):
        rows = self.query("SELECT c.*, a.account_id FROM call c JOIN account a ON a.id = c.account WHERE call_id = %s",
                          (uuid_of(call),))
        return rows[0] if rows else None

    def entries(self, account):
        return self.query("SELECT e.* FROM entry e JOIN account a ON a.id = e.account_id WHERE a.account_id = %s"
                          " ORDER BY account_seq", (account,))

    def amounts(self, account):
        return [(e["kind"], e["amount_nanos"]) for e in self.entries(account)]

    def balance(self, account):
        return self.query("SELECT amount_nanos FROM balance b JOIN account a ON a.id = b.account_id WHERE a.account_id = %s",
                          (account,))[0]["amount_nanos"]

    # -- settling

    def offsets(self):
        rows = self.query("SELECT topic, partition, next FROM consumer_offset WHERE stream = 'live'")
        return {(row["topic"], row["partition"]): row["next"] for row in rows}

    def is_applied(self):
        """Each input record lies below its partition's offset; what is published itself comes back as input."""
        self.tail.refresh()
        done = self.offsets()
        last = {}
        for topic in INPUTS:
            for record in self.tail.records[topic]:
                last[topic, record.partition] = max(record.offset, last.get((topic, record.partition), -1))
        return all(done.get(where, 0) > offset for where, offset in last.items())

    def settle(self, timeout_s=60):
        """Everything produced is applied, everything posted is published, and the database's invariants hold."""
        self.feeder.flush()
        wait_until(self.is_applied, timeout_s, "records applied")
        wait_until(lambda: not self.query("SELECT 1 FROM outbox LIMIT 1"), timeout_s, "outbox published")
        wait_until(self.is_applied, timeout_s, "notices read back")
        assert self.breaches() == []
        self.tail.refresh()

    def breaches(self):
        return postgres.snapshot_breaches(self.stack.database_url())

    def parked(self, call=None):
        """Dead letters of this ledger on spend.dlq.malformed, by call_id when one is given."""
        letters = [avro.DEAD_LETTER.decode(r.value) for r in self.tail.records["spend.dlq.malformed"]]
        return [x for x in letters if call is None or x["call_id"] == call["call_id"]]

    def check_entries(self):
        """Committed readers of spend.entries have every entry once, in order per account, as Postgres has it."""
        seen = {}
        for record in self.tail.records["spend.entries"]:
            value = avro.ENTRY.decode(record.value)
            assert record.key == value["account_id"].encode()
            seen.setdefault(value["account_id"], []).append((value["account_seq"], value["amount_nanos"],
                                                             value["balance_after_nanos"]))
        rows = {}
        for row in self.query("SELECT a.account_id, account_seq, amount_nanos, balance_after_nanos FROM entry e"
                              " JOIN account a ON a.id = e.account_id ORDER BY 1, account_seq"):
            rows.setdefault(row["account_id"], []).append((row["account_seq"], row["amount_nanos"],
                                                           row["balance_after_nanos"]))
        assert seen == rows
        return sum(map(len, rows.values()))


@contextlib.contextmanager
def running_ledger():
    """A bench with a Kafka, a Postgres and a ledger of its own, whose invariants hold when the tests are through."""
    with Stack(parts=("kafka", "postgres")) as stack:
        stack.migrate()
        bench = Bench(stack)
        bench.start()
        yield bench
        assert stack.deadlocks() == 0
        assert bench.breaches() == []
        bench.close()


@contextlib.contextmanager
def holding_ledger(**env):
    """The same, with a ledger of these options and a model `held` that a hold can be priced by: 2.5 and 10 USD a million tokens."""
    with running_ledger() as bench:
        for service in bench.stack.services.values():
            service.stop()
        bench.start(SPEND_WINDOW_TICK="1s", **env)
        bench.put("/v1/models/held", {"price_key": "gpt-4o"})
        yield bench


def billed(raw, markup_ppm):
    return money.mark_up(raw, markup_ppm)


def key_hash(text):
    return hashlib.sha256(text.encode()).hexdigest()


def seconds(since):
    return time.monotonic() - since
