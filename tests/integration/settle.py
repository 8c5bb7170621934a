"""Waits until everything on spend.calls has been decided and applied, and has the oracle judge the result."""

import json
import subprocess
import sys

import psycopg
from confluent_kafka import Consumer, TopicPartition

from stack import ROOT, wait_until

MONEY_TOPICS = ("spend.attributed", "spend.dlq.untagged", "spend.dlq.unknown", "spend.dlq.conflict", "spend.dlq.unpriced")


def ends(brokers, group, topics, isolation="read_committed"):
    """{(topic, partition): (what the group has committed, the stable end)}."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "isolation.level": isolation,
                         "enable.auto.commit": False})
    try:
        listed = consumer.list_topics(timeout=20).topics
        parts = [TopicPartition(topic, p) for topic in topics for p in listed[topic].partitions]
        committed = {(part.topic, part.partition): part.offset for part in consumer.committed(parts, timeout=20)}
        return {(part.topic, part.partition): (committed[(part.topic, part.partition)],
                                               consumer.get_watermark_offsets(part, timeout=20)[1]) for part in parts}
    finally:
        consumer.close()


def read_topic(brokers, topics, isolation="read_committed"):
    """Every record there is now, in order per partition."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "settle-reader", "isolation.level": isolation,
                         "enable.auto.commit": False, "enable.partition.eof": True, "fetch.message.max.bytes": 9 << 20})
    records, open_parts = [], set()
    try:
        listed = consumer.list_topics(timeout=20).topics
        parts = [TopicPartition(topic, p, 0) for topic in topics for p in listed[topic].partitions]
        open_parts = {(part.topic, part.partition) for part in parts}
        consumer.assign(parts)
        while open_parts:
            message = consumer.poll(20)
            assert message is not None, f"nothing came from {sorted(open_parts)} in 20 s"
            if message.error():
                open_parts.discard((message.topic(), message.partition()))
            else:
                records.append(message)
        return records
    finally:
        consumer.close()


def journals_delivered(stack):
    """Every living ingest has its calls on spend.calls, and nobody's journal waits to be recovered."""
    for name, service in stack.services.items():
        if service.program == "spend-ingest" and service.alive:
            if service.metrics()["spend_ingest_journal_undelivered"]:
                return False
    return True


def call_ids_applied(stack, ids):
    with psycopg.connect(stack.database_url()) as connection:
        known = {row[0].bytes for row in connection.execute("SELECT call_id FROM spend.call")}
    return ids - known


def attributor_at_end(stack):
    # no transaction writes to spend.calls, so its end is the offset after its last record
    return all(done >= end for done, end in ends(stack.brokers, "spend-attributor", ["spend.calls"],
                                                 "read_uncommitted").values() if end > 0)


def ledger_at_end(stack):
    """What Postgres says it has applied of each partition, against the last record (markers are no records)."""
    last = {}
    for message in read_topic(stack.brokers, MONEY_TOPICS):
        last[(message.topic(), message.partition())] = message.offset()
    with psycopg.connect(stack.database_url()) as connection:
        rows = connection.execute("SELECT topic, partition, next FROM spend.consumer_offset WHERE stream = 'live'")
        done = {(topic, partition): following for topic, partition, following in rows}
    return all(done.get(part, 0) > offset for part, offset in last.items())


def settle(stack, timeout_s=180):
    """Returns when every record is decided, applied and published; raises with what is still under way."""
    wait_until(lambda: journals_delivered(stack), timeout_s, "journals delivered", every_s=0.2)
    wait_until(lambda: attributor_at_end(stack), timeout_s, "spend.calls decided", every_s=0.5)
    wait_until(lambda: ledger_at_end(stack), timeout_s, "attributed calls and dead letters applied", every_s=0.5)

    def published():
        with psycopg.connect(stack.database_url()) as connection:
            return connection.execute("SELECT count(*) FROM spend.outbox").fetchone()[0] == 0
    wait_until(published, timeout_s, "entries published", every_s=0.2)


def ask_oracle(stack, *flags, provider=True):
    """(exit code, report) of the oracle over this stack. provider False: the calls were made by hand, no provider saw them."""
    witness = ["--provider-log", str(stack.dir / "log" / "provider-calls.jsonl")] if provider else []
    command = [sys.executable, "-m", "tests.oracle", "--brokers", stack.brokers, "--database-url", stack.database_url(),
               *witness, "--json", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"the oracle ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}") from None


def judge(stack, provider=True):
    """The oracle agrees, in every check."""
    code, report = ask_oracle(stack, provider=provider)
    assert code == 0, json.dumps(report, indent=1)[:6000]
    return report
