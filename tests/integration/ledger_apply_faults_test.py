"""The ledger under kills, lost connections and rivals: every record counts once, spend.entries has every entry once."""

import random
import threading
import time

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from ledger_bench import Bench, attributed, dead
from oracle import avro, build, fold
from oracle.kafka import Tail
from stack import Stack, http, wait_until

QUALITIES = ("estimated", "partial", "final")
SOURCES = ("proxy_log", "gateway")
REASONS = ("untagged", "unknown", "conflict")


@pytest.fixture(scope="module")
def running():
    with Stack(parts=("kafka", "postgres")) as stack:
        stack.migrate()
        bench = Bench(stack)
        yield bench
        bench.tail.close()


@pytest.fixture
def bench(running):
    running.stack.up("kafka", "postgres")  # whatever the test before this one left behind
    running.start()
    running.feeder.failed.clear()
    yield running
    running.settle(120)
    running.check_entries()
    assert running.stack.deadlocks() == 0
    for name, service in running.stack.services.items():
        if name != "ledger":
            service.stop()


class Load:
    """Calls seen by several observers, fed in any order to any partition; and what they must come to."""

    def __init__(self, bench, seed, calls=300, accounts=6):
        self.bench, self.random = bench, random.Random(seed)
        self.accounts = [bench.account() for _ in range(accounts)]
        self.records = [record for _ in range(calls) for record in self.observations()]
        self.random.shuffle(self.records)
        self.folded = {}
        for kind, record in self.records:
            self.expect(kind, record)

    def observations(self):
        """Of one call: two to five records, some of them repeats, some dead letters."""
        first = build.call()
        for _ in range(self.random.randint(2, 5)):
            source = self.random.choice(SOURCES)
            call = {**first, "source": source, "source_id": "x" if source == "proxy_log" else None,
                    "quality": self.random.choice(QUALITIES)}
            raw = 1000 + int.from_bytes(fold.call_hash(call)[:2], "big")
            account = self.accounts[fold.call_hash(call)[2] % len(self.accounts)]
            # what a record says is a function of the call seen: the same hash is always the same record
            if fold.call_hash(call)[3] % 10 == 0:
                yield "suspense", dead(call, REASONS[fold.call_hash(call)[4] % 3], raw)
            else:
                yield "attributed", attributed(call, account, raw)

    def expect(self, kind, record):
        call = record["call"]
        account = record["account_id"] if kind == "attributed" else f"~suspense/{record['reason']}"
        folded = self.folded.setdefault(call["call_id"], fold.Folded())
        folded.add(call, record["hash"], kind, {"account": account, "raw": record["raw_nanos"]})

    def feed(self, share=slice(None), pause_s=0.0):
        for kind, record in self.records[share]:
            if kind == "attributed":
                self.bench.feeder.bill(record, partition=self.random.randrange(12))
            else:
                self.bench.feeder.letter(record)
            if pause_s:
                self.bench.feeder.producer.poll(0)
                time.sleep(pause_s)
        self.bench.feeder.flush()

    def check(self):
        """Each call is billed to the account and with the amount that its records, in whatever order, come to."""
        rows = {row["call_id"].bytes: (row["account_id"], row["billed_nanos"]) for row in self.bench.query(
            "SELECT call_id, account_id, billed_nanos FROM call c JOIN account a ON a.id = c.account")}
        want = {call_id: (f.attributed["account"], f.measured[2]["raw"]) for call_id, f in self.folded.items()}
        assert {call_id: rows.get(call_id) for call_id in want} == want
        for account in self.accounts:
            assert self.bench.balance(account) == -sum(raw for owner, raw in want.values() if owner == account)


def feeding(load, pause_s=0.002):
    """Feeds in the background; join() raises what went wrong there."""
    failed = []

    def run():
        try:
            load.feed(pause_s=pause_s)
        except BaseException as error:
            failed.append(error)
    thread = threading.Thread(target=run)
    thread.start()

    def join():
        thread.join()
        assert not failed, failed
    return thread, join


def test_the_same_calls_in_any_partition_and_order_come_to_the_same_bills(bench):
    load = Load(bench, seed=1)
    load.feed()
    load.feed(slice(0, 400))
    bench.settle()
    load.check()


def test_two_ledgers_on_the_same_calls_bill_once_without_deadlock(bench):
    bench.start("ledger", "second")
    metrics = {name: bench.stack.services[name] for name in ("ledger", "second")}
    wait_until(lambda: len({p for p in members(bench).values() if p}) and all(members(bench).values()), 60, "both share")
    load = Load(bench, seed=2, calls=1500, accounts=4)
    load.feed()
    bench.settle(120)
    load.check()
    applied = {name: s.metrics()['spend_ledger_records_total{result="applied"}'] for name, s in metrics.items()}
    assert all(applied.values()), applied


def members(bench):
    admin = AdminClient({"bootstrap.servers": bench.stack.brokers})
    description = admin.describe_consumer_groups(["spend-ledger-live"])["spend-ledger-live"].result(20)
    out = {member.group_instance_id: len(member.assignment.topic_partitions) for member in description.members}
    return out if len(out) == 2 else {"none": 0}


def test_two_ledgers_take_over_from_each_other(bench):
    load = Load(bench, seed=3, calls=500)
    thread, join = feeding(load)
    rng = random.Random(3)
    for name in ("second", "third", "second", "third"):
        bench.start(name)
        time.sleep(rng.uniform(0.2, 1.0))
        bench.stack.services[name].kill()
    join()
    assert not thread.is_alive()
    bench.settle(180)
    load.check()


@pytest.mark.parametrize("seed", [11, 12])
def test_a_ledger_killed_at_any_moment_loses_and_doubles_nothing(bench, seed):
    load = Load(bench, seed=seed, calls=500)
    thread, join = feeding(load)
    rng = random.Random(seed)
    kills = 0
    while thread.is_alive() or kills < 8:
        time.sleep(rng.uniform(0.0, 0.6))
        bench.stack.services["ledger"].kill()
        kills += 1
        bench.stack.services["ledger"].start()
        assert bench.breaches() == []
    join()
    bench.settle(180)
    load.check()


def test_lost_connections_leave_every_commit_known(bench):
    """Backends are ended at random, also in the middle of COMMIT: the compare-and-set tells what became of it."""
    load = Load(bench, seed=21, calls=800)
    thread, join = feeding(load)
    ended = {}
    with psycopg.connect(bench.stack.database_url(), autocommit=True) as db:
        while thread.is_alive():
            for (name,) in db.execute("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE"
                                      " 'spend-ledger/%' AND pg_terminate_backend(pid)").fetchall():
                ended[name] = ended.get(name, 0) + 1
            time.sleep(0.03)
    join()
    assert {"spend-ledger/apply", "spend-ledger/publisher", "spend-ledger/config_publisher"} <= ended.keys()
    bench.settle(120)
    load.check()


def test_postgres_killed_and_back_is_only_a_pause(bench):
    load = Load(bench, seed=31, calls=400)
    load.feed(slice(0, 300))
    bench.stack.kill_part("postgres")
    load.feed(slice(300, None))
    service = bench.stack.services["ledger"]
    wait_until(lambda: not service.ready(), 30, "not ready while Postgres is away")
    # each part asks Postgres in its own time: the publisher may have missed it first
    wait_until(lambda: service.metrics()["spend_ledger_postgres_up"] == 0, 30, "Postgres missed by the batches")
    assert http("GET", service.admin_url + "/healthz")[0] == 200
    bench.stack.up("postgres")
    service.wait_ready(60)
    bench.settle(120)
    load.check()


def test_postgres_away_is_told_also_while_there_is_nothing_to_apply(bench):
    bench.settle()
    service = bench.stack.services["ledger"]
    bench.stack.kill_part("postgres")
    wait_until(lambda: service.metrics()["spend_ledger_postgres_up"] == 0, 30, "Postgres missed")
    tries = service.metrics()["spend_ledger_batch_retries_total"]

    def tried_in_vain():
        metrics = service.metrics()
        assert metrics["spend_ledger_postgres_up"] == 0
        return metrics["spend_ledger_batch_retries_total"] >= tries + 3
    wait_until(tried_in_vain, 60, "asked again and again")
    bench.stack.up("postgres")
    service.wait_ready(60)
    assert service.metrics()["spend_ledger_postgres_up"] == 1


def test_kafka_killed_and_back_is_only_a_pause(bench):
    load = Load(bench, seed=41, calls=300)
    load.feed(slice(0, 500))
    bench.stack.kill_part("kafka")
    service = bench.stack.services["ledger"]
    wait_until(lambda: service.metrics()['spend_kafka_connected{client="ledger"}'] == 0, 30, "the broker missed")
    bench.stack.up("kafka")
    bench.feeder.failed.clear()
    load.feed()
    bench.settle(180)
    load.check()


def test_a_partition_that_somebody_locks_waits_alone(bench):
    account = bench.account()
    bench.feeder.bill(attributed(build.call(), account, 1), partition=4)
    bench.settle()
    service = bench.stack.services["ledger"]
    service.stop()
    with psycopg.connect(bench.stack.database_url()) as holder:
        holder.execute("UPDATE spend.consumer_offset SET next = next WHERE topic = 'spend.attributed' AND partition = 4")
        bench.start()  # ready: its assignment waits for nobody
        bench.feeder.bill(attributed(build.call(), account, 100), partition=4)
        bench.feeder.flush()
        wait_until(lambda: not service.ready(), 60, "not ready while a partition waits")
        for _ in range(20):
            bench.feeder.bill(attributed(build.call(), account, 1), partition=5)
        bench.feeder.flush()
        wait_until(lambda: bench.balance(account) == -21, 30, "the other partitions go on")
        holder.rollback()
    wait_until(lambda: bench.balance(account) == -121, 30, "the locked partition applied")
    service.wait_ready()


def test_a_ledger_frozen_in_mid_copy_loses_its_session(bench):
    """No time-out of Postgres ends a COPY whose client is silent; the living ledger does."""
    account = bench.account()
    bench.feeder.bill(attributed(build.call(), account, 1), partition=6)
    bench.settle()
    url = bench.stack.database_url("spend_ledger")
    service = bench.stack.services["ledger"]
    with psycopg.connect(url, application_name="spend-ledger/apply", options="-c search_path=spend") as frozen:
        frozen.execute("UPDATE consumer_offset SET next = next WHERE topic = 'spend.attributed' AND partition = 6")
        with frozen.cursor() as cursor, pytest.raises(psycopg.OperationalError), cursor.copy("COPY outbox (topic) FROM STDIN") as copy:
            bench.feeder.bill(attributed(build.call(), account, 10), partition=6)
            bench.feeder.flush()
            wait_until(lambda: bench.balance(account) == -11, 90, "the frozen session ended and its partition applied")
            copy.write("x\n")
            while True:
                copy.write("x\n" * 100000)
    assert service.metrics()["spend_ledger_frozen_sessions_total"] == 1


def test_a_rival_that_moves_the_offset_makes_the_ledger_read_again(bench):
    load = Load(bench, seed=51, calls=100)
    load.feed()
    bench.settle()
    bench.execute("UPDATE consumer_offset SET next = 0 WHERE topic = 'spend.attributed' AND partition < 6")
    again = Load(bench, seed=52, calls=100)
    again.feed()
    bench.settle(120)
    load.check()
    again.check()
    assert bench.stack.services["ledger"].metrics()["spend_ledger_offset_lost_total"] >= 1


def failing_start(bench):
    """Starts the ledger, which must end by itself, with a sentence about what to do."""
    service = bench.stack.services["ledger"]
    service.stop()
    mark = len(service.log())
    yield service
    service.start(wait=False)
    assert service.process.wait(60) == 1
    yield service.log()[mark:]


def test_offsets_of_another_cluster_stop_the_ledger(bench):
    run = failing_start(bench)
    next(run)
    (own,) = {row["cluster_id"] for row in bench.query("SELECT cluster_id FROM consumer_offset")}
    bench.execute("UPDATE consumer_offset SET cluster_id = 'another' WHERE partition = 1")
    log = next(run)
    assert "was read from Kafka cluster another" in log and "connect to that cluster" in log
    bench.execute("UPDATE consumer_offset SET cluster_id = %s", (own,))
    bench.start()


def test_a_publisher_sends_nothing_to_another_cluster(bench):
    """What is configured while Kafka is away must not go out, and be forgotten, to a cluster that is not ours."""
    run = failing_start(bench)
    next(run)
    (own,) = {row["cluster_id"] for row in bench.query("SELECT cluster_id FROM publisher")}
    bench.execute("UPDATE publisher SET cluster_id = 'another'")
    bench.execute("INSERT INTO config_outbox (topic, key, value, recorded_at) VALUES ('spend.registry', 'account:~', '', now())")
    log = next(run)
    assert "publishes to Kafka cluster another" in log and "connect to that cluster" in log and "ev=leads" not in log
    assert bench.query("SELECT count(*) AS n FROM config_outbox")[0]["n"] == 1
    bench.execute("DELETE FROM config_outbox")
    # a move on purpose: here is where everything goes, and all of the configuration goes first
    whole = bench.config_generation()
    bench.execute("UPDATE publisher SET cluster_id = NULL")
    bench.start()
    wait_until(lambda: bench.config_generation() == whole + 1, 30, "the configuration published whole")
    assert bench.query("SELECT cluster_id FROM publisher")[0]["cluster_id"] == own


def test_records_deleted_before_they_were_applied_stop_the_ledger(bench):
    account = bench.account()
    bench.feeder.bill(attributed(build.call(), account, 1), partition=7)
    bench.settle()
    run = failing_start(bench)
    next(run)
    at = bench.offsets()["spend.attributed", 7]
    for _ in range(5):
        bench.feeder.bill(attributed(build.call(), account, 10), partition=7)
    bench.feeder.flush()
    admin = AdminClient({"bootstrap.servers": bench.stack.brokers})
    part = TopicPartition("spend.attributed", 7, at + 3)
    admin.delete_records([part])[part].result(30)
    bench.tail.next["spend.attributed", 7] = at + 3
    log = next(run)
    assert f"spend.attributed/7: 3 records after offset {at} were deleted" in log and f"next = {at + 3}" in log
    bench.execute("UPDATE consumer_offset SET next = %s WHERE topic = 'spend.attributed' AND partition = 7", (at + 3,))
    bench.start()
    bench.settle()
    assert bench.balance(account) == -21


@pytest.mark.parametrize("position", ["kept", "expired"])
def test_a_set_that_was_published_and_not_deleted_is_not_published_again(bench, position):
    """What a kill between Kafka's commit and the DELETE leaves, also when the group's position has expired since."""
    load = Load(bench, seed=61, calls=30)
    load.feed()
    bench.feeder.raw("spend.attributed", b"poison", b"poison")
    bench.settle()
    count = bench.check_entries()
    bench.stack.services["ledger"].stop()
    (last,) = bench.query("SELECT pub_seq FROM publisher")
    bench.execute("INSERT INTO outbox (pub_seq, accounts, first_seqs, counts) SELECT %s, array_agg(account_id),"
                  " array_agg(seq), array_agg(1) FROM balance WHERE seq > 0", (last["pub_seq"],))
    if position == "expired":
        admin = AdminClient({"bootstrap.servers": bench.stack.brokers})
        wait_until(lambda: admin.delete_consumer_groups(["spend-publisher"])["spend-publisher"].result(20) is None, 30,
                   "position deleted")
    bench.start()
    bench.settle()
    assert bench.check_entries() == count
    more = Load(bench, seed=62, calls=30)
    more.feed()
    bench.settle()
    assert bench.check_entries() > count


def registry_records(tail, ids):
    """(newest recorded_at, watermark, price_version) of spend.registry in order, of heartbeats and facts whose id begins so;
    one of the first two is None. (Facts of before go out again, behind younger watermarks, when everything does.)"""
    for record in tail.records["spend.registry"]:
        value = avro.REGISTRY.decode(record.value)
        if value["kind"] == "heartbeat" or value["id"].startswith(ids):
            yield value["versions"][-1]["recorded_at"] if value["versions"] else None, value["watermark"], value["price_version"]


def test_the_watermark_never_passes_a_fact_that_is_not_there_yet(bench):
    bench.start("ledger", "second")
    stop = threading.Event()
    failed = []

    def write(ledger):
        try:
            while not stop.is_set():
                name = f"watermark-{ledger}-{time.monotonic_ns()}"
                status, _ = bench.stack.api("PUT", f"/v1/accounts/{name}", {"name": name}, ledger=ledger)
                assert status in (200, 201), status
        except BaseException as error:
            failed.append(error)
    writers = [threading.Thread(target=write, args=(name,)) for name in ("ledger", "second")]
    for thread in writers:
        thread.start()
    before = bench.query("SELECT count(*) AS n FROM account")[0]["n"]
    try:
        wait_until(lambda: bench.query("SELECT count(*) AS n FROM account")[0]["n"] > before + 200, 60, "facts written")
    finally:
        stop.set()
        for thread in writers:
            thread.join()
    assert not failed, failed
    last = bench.query("SELECT (extract(epoch FROM max(recorded_at)) * 1000000)::bigint AS at FROM account_version")[0]["at"]
    tail = Tail(bench.stack.brokers, ("spend.registry", "spend.prices"))

    def passed():
        tail.refresh()
        return any(mark and mark >= last for _, mark, _ in registry_records(tail, "watermark-"))
    wait_until(passed, 30, "the watermark passes the last fact")
    watermark, facts = 0, 0
    for newest, mark, price_version in registry_records(tail, "watermark-"):
        if mark is None:
            assert newest > watermark
            facts += 1
            continue
        assert mark >= watermark and price_version == 1
        watermark = mark
    assert facts > 20 and {int(record.key) for record in tail.records["spend.prices"]} == {1}
    tail.close()


def test_a_configured_fact_is_out_at_once_with_a_watermark_that_covers_it(bench):
    ledger = bench.stack.services["ledger"]
    ledger.stop()
    ledger.start(env={"SPEND_CONFIG_HEARTBEAT": "20s"})  # so long a fact waits, but for the first, unless it is sent at once
    registry = Tail(bench.stack.brokers, ("spend.registry",))
    for _ in range(3):
        name = bench.account()

        def read():
            registry.refresh()
            return [avro.REGISTRY.decode(r.value) for r in registry.records["spend.registry"]]
        wait_until(lambda name=name, read=read: name in {value["id"] for value in read()}, 10, "the fact on the topic")
        records = read()
        place = next(n for n, value in enumerate(records) if value["id"] == name)
        # its own transaction brings the heartbeat
        following = next(value for value in records[place:] if value["kind"] == "heartbeat")
        assert following["watermark"] >= records[place]["versions"][-1]["recorded_at"]
    registry.close()
    ledger.stop()
    ledger.start(env={"SPEND_CONFIG_HEARTBEAT": "500ms"})
