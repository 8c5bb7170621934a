"""Topics that were deleted and made again: what was in them is published again, or the reader stops and says so."""

import subprocess
import sys

import pytest
from confluent_kafka.admin import AdminClient

from ledger_bench import attributed, running_ledger
from oracle import avro, build
from oracle.kafka import Tail
from stack import LOCAL, ROOT, http, wait_until

ROUNDS = 4  # the moment in which a heartbeat would outlive its topic is short


@pytest.fixture(scope="module")
def running():
    with running_ledger() as bench:
        yield bench


@pytest.fixture
def bench(running):
    running.start()
    return running


def delete(stack, *names):
    admin = AdminClient({"bootstrap.servers": stack.brokers})
    for done in admin.delete_topics(list(names), operation_timeout=30).values():
        done.result(60)


def make(stack, *names):
    admin = AdminClient({"bootstrap.servers": stack.brokers})

    def is_made():
        done = subprocess.run([sys.executable, str(LOCAL / "lib/topics.py"), "--brokers", stack.brokers, "--replication", "1",
                               str(ROOT / "deploy/topics/topics.json")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        topics = admin.list_topics(timeout=10).topics
        return all(name in topics and topics[name].partitions for name in names)
    wait_until(is_made, 60, "topics made")


def make_anew(stack, *names):
    delete(stack, *names)
    make(stack, *names)


def config_of(stack):
    """What a new reader of the two topics finds: registry records in order, versions of price books."""
    tail = Tail(stack.brokers, ("spend.registry", "spend.prices"))
    try:
        tail.refresh()
        registry = [avro.REGISTRY.decode(r.value) for r in tail.records["spend.registry"]]
        return registry, [int(r.key) for r in tail.records["spend.prices"]]
    finally:
        tail.close()


def accounts(records):
    return {value["id"] for value in records if value["kind"] == "account"}


def made(bench, more):
    """So many accounts are made; all there are."""
    for _ in range(more):
        bench.account()
    return {row["account_id"] for row in bench.query("SELECT account_id FROM account WHERE account_id NOT LIKE '~%%'")}


def check_whole(stack, names):
    registry, books = config_of(stack)
    first_beat = next(n for n, value in enumerate(registry) if value["kind"] == "heartbeat")
    assert accounts(registry[:first_beat]) == names, "a heartbeat stands before facts that it says are there"
    assert {value["id"] for value in registry if value["kind"] == "tier"} == {"default"} and set(books) == {1}
    assert not any(value["id"].startswith("~") for value in registry)


def counted(stack, name):
    return stack.services["ledger"].metrics()[f"spend_ledger_config_{name}"]


def test_configuration_goes_out_again_before_the_next_heartbeat(bench):
    stack = bench.stack
    names = made(bench, 5)
    ledger = stack.services["ledger"]
    ledger.stop()
    for _ in range(ROUNDS):
        ledger.start(env={"SPEND_CONFIG_HEARTBEAT": "10ms"})  # one is always on its way when the topics go
        repeats = counted(stack, "repeats_total")
        make_anew(stack, "spend.registry", "spend.prices")
        wait_until(lambda: counted(stack, "repeats_total") > repeats, 120, "facts published again")
        beats = counted(stack, 'published_total{kind="heartbeat"}')
        wait_until(lambda: counted(stack, 'published_total{kind="heartbeat"}') > beats, 30, "a heartbeat after them")
        ledger.stop()
        check_whole(stack, names)
    # a change after that goes out as ever
    ledger.start(env={"SPEND_CONFIG_HEARTBEAT": "500ms"})
    name = bench.account()
    wait_until(lambda: name in accounts(config_of(stack)[0]), 30, "the next fact published")


@pytest.mark.parametrize("topics", [("spend.registry", "spend.prices"), ("spend.registry",), ("spend.prices",)], ids="+".join)
def test_topics_that_were_made_anew_while_no_ledger_ran_are_filled_again(bench, topics):
    """Also when the ends that were noted do not tell: what stood there has not been outgrown, or was noted in vain."""
    stack = bench.stack
    names = made(bench, 5)
    ledger = stack.services["ledger"]
    wait_until(lambda: accounts(config_of(stack)[0]) >= names and config_of(stack)[1], 30, "facts published")
    ledger.stop()
    make_anew(stack, *topics)
    bench.execute("UPDATE config_version SET registry_end = 0, prices_end = 0")
    ledger.start()
    wait_until(lambda: counted(stack, 'published_total{kind="heartbeat"}') > 0, 60, "heartbeats")
    assert counted(stack, "repeats_total") == 1
    ledger.stop()
    registry, books = config_of(stack)
    assert accounts(registry) == names and set(books) == {1}
    if "spend.registry" in topics:
        check_whole(stack, names)
    ledger.start()
    wait_until(lambda: counted(stack, 'published_total{kind="heartbeat"}') > 0, 30, "heartbeats")
    assert counted(stack, "repeats_total") == 0


def test_an_input_made_anew_and_grown_past_what_was_applied_stops_the_ledger(bench):
    stack = bench.stack
    account = bench.account()
    for raw in (1, 2, 3):
        bench.feeder.bill(attributed(build.call(), account, raw), partition=4)
    bench.settle()
    service = stack.services["ledger"]
    service.stop()
    make_anew(stack, "spend.attributed")
    mark = len(service.log())
    for _ in range(8):
        bench.feeder.bill(attributed(build.call(), account, 10), partition=4)
    bench.feeder.flush()
    service.start(wait=False)
    assert service.process.wait(60) == 1
    assert "spend.attributed/4: at offset 2 does not stand what was applied from there: the topic was made anew" in \
        service.log()[mark:]
    assert bench.balance(account) == -6
    # a stream of its own reads the new topic from its beginning
    service.start(env={"SPEND_STREAM": "anew"})
    wait_until(lambda: bench.balance(account) == -86, 60, "the new topic applied")


@pytest.mark.parametrize("missing", ["spend.calls", "spend.instances"])
def test_an_ingest_without_a_topic_is_not_ready_and_says_which(bench, missing):
    """Calls would be answered, and stand in the journal alone."""
    stack = bench.stack
    delete(stack, missing)
    ingest = stack.ingest(f"without-{missing}", upstream="http://127.0.0.1:9", journal=stack.dir / "made" / missing)
    ingest.start(wait=False)

    def complaint():
        status, _, raw = http("GET", ingest.admin_url + "/readyz")
        return status == 503 and f"{missing} was not found yet".encode() in raw
    wait_until(complaint, 60, "not ready for want of a topic")
    wait_until(lambda: f"topic {missing} is missing: create the topics" in ingest.log(), 60, "the topic named in the log")
    assert ingest.log().count("ev=topic_missing") == 1
    make(stack, missing)
    ingest.wait_ready(60)
    ingest.stop()
