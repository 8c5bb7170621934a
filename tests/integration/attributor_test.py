"""The attributor against a real Kafka: the configuration is written by a small producer here, no ledger takes part.

Every test ends with the oracle's judgement: each record of spend.calls has one disposition, and the right one.
"""

import signal
import subprocess
import time
from collections import Counter

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from oracle import avro, build
from oracle.kafka import Tail
from oracle.oracle import Oracle
from stack import Stack, http, wait_until

GROUP = "spend-attributor"


class Config:
    """Stands in for the ledger's configuration outbox: facts, books and heartbeats, in order."""

    def __init__(self, brokers):
        self.producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 0})
        self.price_version = 0
        self.told = 0  # records on spend.registry

    def send(self, topic, key, value, **headers):
        self.told += topic == "spend.registry"
        self.producer.produce(topic, value, key, headers=headers)
        assert self.producer.flush(30) == 0

    def fact(self, kind, name, **fields):
        self.send("spend.registry", *build.registry_record(build.fact(kind, name, build.version(build.now_us(), **fields))))

    def book(self, number=1, **how):
        self.send("spend.prices", *build.book_record(build.book(number, **how)))
        self.price_version = max(self.price_version, number)

    def beat(self, watermark=None, price_version=None, generation=None):
        watermark = build.now_us() if watermark is None else watermark
        version = self.price_version if price_version is None else price_version
        told = {"spend_generation": str(generation)} if generation else {}
        self.send("spend.registry", *build.registry_record(build.heartbeat(watermark, version)), **told)


class Callers:
    """Produces calls as ingest would."""

    def __init__(self, brokers):
        self.producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 5,
                                  "message.max.bytes": 1_040_000})

    def send(self, *calls):
        for call in calls:
            self.send_raw(build.call_key(call), avro.CALL.encode(call))
        assert self.producer.flush(60) == 0
        return calls

    def send_raw(self, key, value, partition=-1):
        while True:
            try:
                self.producer.produce("spend.calls", value, key, **({"partition": partition} if partition >= 0 else {}))
                return
            except BufferError:
                self.producer.poll(0.1)


class Bench:
    """A Kafka, its configuration and its callers; the tests of this file share it, each with accounts of its own."""

    def __init__(self, stack):
        self.stack = stack
        self.config, self.callers = Config(stack.brokers), Callers(stack.brokers)
        self.oracle = Oracle(stack.brokers)
        self.count = 0

    def account(self):
        self.count += 1
        name = f"account-{self.count}"
        self.config.fact("account", name, tier="default")
        return name

    def attributor(self, name="a", **env):
        service = self.stack.services.get(name) or self.stack.attributor(name)
        return service.start(env={"SPEND_BATCH_MAX": "200", **env})

    def decided(self):
        """How many records have a disposition, for read_committed readers."""
        self.oracle.tail.refresh()
        records = self.oracle.tail.records
        return sum(len(records[topic]) for topic in records if topic == "spend.attributed" or "dlq" in topic)

    def dispositions(self):
        """{where a call lies: [topic and value of what was made of it]}."""
        self.oracle.tail.refresh()
        out = {}
        for topic, records in self.oracle.tail.records.items():
            schema = avro.ATTRIBUTED if topic == "spend.attributed" else avro.DEAD_LETTER
            for record in records if topic == "spend.attributed" or "dlq" in topic else ():
                value = schema.decode(record.value)
                origin = value["origin"]
                out.setdefault((origin["topic"], origin["partition"], origin["offset"]), []).append((topic, value))
        return out

    def of(self, *calls):
        """The dispositions of these calls, by call_id."""
        wanted = {call["call_id"] for call in calls}
        out = {}
        for made in self.dispositions().values():
            for topic, value in made:
                call_id = value["call"]["call_id"] if value.get("call") else None
                if call_id in wanted:
                    out.setdefault(call_id, []).append((topic, value))
        return out

    def settle(self):
        self.config.beat()
        self.oracle.settle(90)

    def judge(self):
        """Settles; the oracle must agree, and each record must have exactly one disposition."""
        self.settle()
        assert self.oracle.judge().check() == []
        counts = Counter(len(made) for made in self.dispositions().values())
        assert set(counts) == {1} and counts[1] == len(self.oracle.tail.records["spend.calls"])


@pytest.fixture(scope="module")
def running():
    with Stack(parts=("kafka",)) as stack:
        bench = Bench(stack)
        bench.config.book(1)
        bench.config.beat()
        yield bench
        bench.oracle.tail.close()


@pytest.fixture
def bench(running):
    yield running
    for service in list(running.stack.services.values()):
        service.stop()


class Watcher:
    """Sees the first record that reaches a topic, committed or not, as soon as a reader can."""

    def __init__(self, brokers, topic):
        self.consumer = Consumer({"bootstrap.servers": brokers, "group.id": "watcher", "isolation.level": "read_uncommitted",
                                  "enable.auto.commit": False, "fetch.wait.max.ms": 5})
        self.parts = [TopicPartition(topic, n) for n in self.consumer.list_topics(topic, timeout=20).topics[topic].partitions]

    def start_at_end(self):
        ends = [self.consumer.get_watermark_offsets(part, timeout=20)[1] for part in self.parts]
        self.consumer.assign([TopicPartition(p.topic, p.partition, end) for p, end in zip(self.parts, ends, strict=True)])

    def wait_for_one(self):
        message = self.consumer.poll(30)
        assert message is not None and not message.error()

    def close(self):
        self.consumer.close()


def members(brokers):
    admin = AdminClient({"bootstrap.servers": brokers})
    description = admin.describe_consumer_groups([GROUP])[GROUP].result(20)
    return {member.group_instance_id: len(member.assignment.topic_partitions) for member in description.members}


def test_every_verdict_is_the_oracles(bench):
    config, callers = bench.config, bench.callers
    acme, other = bench.account(), bench.account()
    key = "a1" * 32
    config.fact("task", "job-1", account_id=acme, conversation_id="talk-1")
    config.fact("conversation", "talk-2", account_id=acme)
    config.fact("key", key, account_id=acme, user="u", team="t", tags=["cost_center=7"])
    config.fact("model", "our-gpt", price_key="gpt-4o-mini")
    sent = {
        "tag": build.call([f"account_id={acme}", "task=free", "conversation=label"]),
        "task": build.call(["task=job-1"]),
        "conversation": build.call(["conversation=talk-2"]),
        "key": build.call(key_hash=key),
        "alias": build.call([f"account_id={acme}"], model_replied="our-gpt"),
        "cached": build.call([f"account_id={acme}"], usage=build.usage(input=7, cache_read=9, output=3, reasoning=5)),
        "failed": build.call([f"account_id={acme}"], usage=build.usage(), outcome="failed", quality="unknown"),
        "untagged": build.call(["colour=blue"]),
        "unknown": build.call(["account_id=nobody"]),
        "conflict": build.call([f"account_id={other}", "task=job-1"]),
        "foreign": build.call([f"account_id={other}"], key_hash=key),
        "unpriced": build.call([f"account_id={acme}"], model_requested=None, model_replied="mystery"),
        "audio": build.call([f"account_id={acme}"], usage=build.usage(input=1, audio_in=5)),
        "images": build.call([f"account_id={acme}"], usage=build.usage(images=1)),
    }
    callers.send(*sent.values())
    service = bench.attributor()
    bench.judge()
    made = bench.of(*sent.values())
    topics = {name: made[call["call_id"]][0][0] for name, call in sent.items()}
    dead = {"untagged": "untagged", "unknown": "unknown", "conflict": "conflict", "foreign": "conflict",
            "unpriced": "unpriced", "images": "unpriced"}
    assert topics == {name: f"spend.dlq.{dead[name]}" if name in dead else "spend.attributed" for name in sent}
    values = {name: made[call["call_id"]][0][1] for name, call in sent.items()}
    assert [values[name]["route"] for name in ("tag", "task", "conversation", "key")] == ["tag", "task", "conversation", "key"]
    assert values["task"]["conversation_id"] == "talk-1"
    assert [t["origins"] for t in values["key"]["call"]["tags"]] == [["key"]]
    # by hand: 7 x 2.5e-6 + 9 x 1.25e-6 + 8 x 1e-5 USD
    assert values["cached"]["raw_nanos"] == 108_750
    assert (values["failed"]["raw_nanos"], values["failed"]["rating"]) == (0, "free")
    # the book has no price of audio: LiteLLM charges nothing for it then, and so do we, and say so
    assert (values["audio"]["raw_nanos"], values["audio"]["rating"]) == (2_500, "assumed")
    metrics = service.metrics()
    assert metrics["spend_attributor_assumed_total"] == 1
    assert metrics['spend_attributor_records_total{verdict="attributed"}'] == 8
    assert metrics['spend_attributor_records_total{verdict="conflict"}'] == 2


def test_records_carry_cloudevents_headers_and_their_keys(bench):
    acme = bench.account()
    good, bad = bench.callers.send(build.call([f"account_id={acme}"]), build.call())
    bench.attributor()
    bench.judge()
    records = {}
    for topic in ("spend.attributed", "spend.dlq.untagged"):
        for record in bench.oracle.tail.records[topic]:
            schema = avro.ATTRIBUTED if topic == "spend.attributed" else avro.DEAD_LETTER
            records[schema.decode(record.value)["call"]["call_id"]] = record
    assert records[good["call_id"]].key == acme.encode()
    assert records[bad["call_id"]].key == build.call_key(bad)
    for call, kind in ((good, b"spend.attributed_call"), (bad, b"spend.dead_letter")):
        headers = records[call["call_id"]].headers
        assert headers["ce_type"] == kind and headers["ce_source"] == b"spend-attributor/a"
        assert headers["ce_specversion"] == b"1.0" and headers["ce_time"].endswith(b"Z")
        assert headers["ce_id"].startswith(b"spend.calls/")


def test_a_fact_put_just_before_the_call_is_seen_and_a_later_one_is_not(bench):
    bench.attributor()
    acme = bench.account()
    call = build.call([f"account_id={acme}"])
    late_name = f"late-{acme}"
    late = build.call([f"account_id={late_name}"])
    bench.callers.send(call, late)
    bench.config.fact("account", late_name, tier="default")
    bench.judge()
    made = bench.of(call, late)
    assert made[call["call_id"]][0][0] == "spend.attributed"
    assert made[late["call_id"]][0][0] == "spend.dlq.unknown"


def test_calls_wait_for_the_watermark_and_the_loop_stays_alive(bench):
    acme = bench.account()
    service = bench.attributor(SPEND_BATCH_MAX="5")
    bench.settle()
    before = bench.decided()
    calls = bench.callers.send(*(build.call([f"account_id={acme}"]) for _ in range(300)))
    full = wait_until(lambda: (m := service.metrics())["spend_attributor_held_records"] >= 20 and m, 30, "a full hold")
    assert full["spend_attributor_held_records"] <= 20 + 5
    # past the time a member may be silent: it polls all the same
    end = time.monotonic() + 12
    while time.monotonic() < end:
        assert http("GET", service.admin_url + "/healthz")[0] == 200
        time.sleep(1)
    assert bench.decided() == before and members(bench.stack.brokers) == {"a": 12}
    assert service.metrics()["spend_attributor_config_lag_us"] > 5_000_000
    assert "ev=config_lag" in service.log()
    bench.judge()
    assert len(bench.of(*calls)) == len(calls)


def test_a_watermark_counts_only_with_the_price_book_that_it_names(bench):
    acme = bench.account()
    bench.attributor()
    bench.settle()
    before = bench.decided()
    number = bench.config.price_version + 1
    recorded = build.now_us()
    call = build.call([f"account_id={acme}"], model_replied="brand-new")
    bench.config.beat(build.now_us(), price_version=number)
    bench.callers.send(call)
    service = bench.stack.services["a"]
    wait_until(lambda: service.metrics()["spend_attributor_held_records"] == 1, 30, "the call held")
    assert bench.decided() == before
    new = {**build.PRICES, "brand-new": {"input_cost_per_token": "1e-06", "output_cost_per_token": "2e-06"}}
    bench.config.book(number, prices=new, recorded_at=recorded)
    bench.judge()
    topic, value = bench.of(call)[call["call_id"]][0]
    assert topic == "spend.attributed" and value["price_version"] == number
    assert value["raw_nanos"] == 100 * 1000 + 45 * 2000


def test_configuration_that_went_out_whole_again_is_read_from_its_beginning(bench):
    """A topic that was made anew and outgrew our place before we looked: what lies before it was never seen."""
    acme = bench.account()
    bench.config.beat(generation=1)
    service = bench.attributor()
    (call,) = bench.callers.send(build.call([f"account_id={acme}"]))
    bench.judge()
    assert bench.of(call)[call["call_id"]][0][0] == "spend.attributed"
    bench.config.beat(generation=2)
    assert service.process.wait(60) == 1
    assert "went out whole again (generation 2 after 1): start again" in service.log()
    # what was told before the start is part of what is read
    (call,) = bench.callers.send(build.call([f"account_id={acme}"]))
    there = bench.config.told
    again = bench.attributor()
    bench.judge()
    assert bench.of(call)[call["call_id"]][0][0] == "spend.attributed"
    # .. but read twice: the topic might have been made anew while it was read
    assert again.metrics()['spend_attributor_config_records_total{topic="spend.registry"}'] >= 2 * there


def test_malformed_records_keep_their_bytes_and_hold_up_nobody(bench):
    acme = bench.account()
    good = build.call([f"account_id={acme}"])
    whole = avro.CALL.encode(good)
    bad = [whole[:n] for n in range(len(whole))] + [whole + b"\0", b"", b"x" * 70_000]
    for number, value in enumerate(bad):
        bench.callers.send_raw(build.call_key(good), value, number % 12)
    bench.callers.send_raw(None, None, 0)
    bench.callers.send_raw(b"k" * 100_000, b"v" * 900_000, 1)
    late = [build.call([f"account_id={acme}"]) for _ in range(48)]
    bench.callers.send(good, *late)
    bench.attributor()
    bench.settle()
    letters = [avro.DEAD_LETTER.decode(r.value) for r in bench.oracle.tail.records["spend.dlq.malformed"]]
    originals = Counter(letter["original"] for letter in letters)
    for value, count in Counter(bad).items():
        assert originals[value] == count + (value == b""), len(value)  # the tombstone's is empty too
    longest = max(letters, key=lambda letter: len(letter["original"]))
    assert longest["original"] == b"v" * len(longest["original"]) and "900000 bytes" in longest["detail"]
    assert len(bench.of(good, *late)) == 49


def test_killed_in_the_middle_every_call_is_decided_once(bench):
    acme = bench.account()
    service = bench.attributor(SPEND_BATCH_MAX="50")
    bench.settle()
    total = 3000
    for _ in range(6):
        bench.callers.send(*(build.call([f"account_id={acme}"] if n % 5 else []) for n in range(total // 6)))
        goal = bench.decided() + 100
        bench.config.beat()
        wait_until(lambda goal=goal: bench.decided() >= goal, 60, "some calls decided")
        service.restart()
    bench.judge()


def test_killed_with_a_transaction_open_nothing_of_it_is_seen(bench):
    """Killed while a large hold is let go, until readers of uncommitted records have seen what nobody else may."""
    acme = bench.account()
    service = bench.attributor(SPEND_BATCH_MAX="10000")
    bench.settle()
    before, sent = bench.decided(), 0
    uncommitted = Tail(bench.stack.brokers, ["spend.attributed"], isolation="read_uncommitted")
    watcher = Watcher(bench.stack.brokers, "spend.attributed")
    while True:
        bench.callers.send(*(build.call([f"account_id={acme}"]) for _ in range(3000)))
        sent += 3000
        wait_until(lambda: service.metrics()["spend_attributor_held_records"] == 3000, 60, "all held")
        watcher.start_at_end()
        bench.config.beat()
        watcher.wait_for_one()
        service.kill()
        service.start()
        bench.settle()
        uncommitted.refresh()
        torn = len(uncommitted.records["spend.attributed"]) - len(bench.oracle.tail.records["spend.attributed"])
        if torn > 0:
            watcher.close()
            break
        assert sent < 60_000, "no kill ever met an open transaction"
    assert bench.decided() == before + sent
    bench.judge()


def test_two_replicas_share_and_one_takes_over_for_the_other(bench):
    acme = bench.account()
    first, second = bench.attributor("a"), bench.attributor("b")
    wait_until(lambda: members(bench.stack.brokers) == {"a": 6, "b": 6}, 60, "six partitions each", every_s=0.5)
    bench.callers.send(*(build.call([f"account_id={acme}"]) for _ in range(600)))
    bench.settle()
    assert all(s.metrics()['spend_attributor_records_total{verdict="attributed"}'] > 0 for s in (first, second))
    bench.callers.send(*(build.call([f"account_id={acme}"]) for _ in range(600)))
    second.kill()
    bench.config.beat()
    wait_until(lambda: members(bench.stack.brokers) == {"a": 12}, 60, "the other's partitions", every_s=0.5)
    bench.judge()


def test_a_rebalance_while_calls_wait_loses_and_doubles_nothing(bench):
    acme = bench.account()
    first = bench.attributor("a", SPEND_BATCH_MAX="10")
    bench.settle()
    calls = bench.callers.send(*(build.call([f"account_id={acme}"]) for _ in range(400)))
    wait_until(lambda: first.metrics()["spend_attributor_held_records"] >= 40, 30, "a full hold")
    bench.attributor("b", SPEND_BATCH_MAX="10")
    wait_until(lambda: members(bench.stack.brokers) == {"a": 6, "b": 6}, 60, "six partitions each", every_s=0.5)
    bench.judge()
    assert len(bench.of(*calls)) == len(calls)


def test_a_replica_that_was_frozen_decides_nothing_twice(bench):
    acme = bench.account()
    first, second = bench.attributor("a"), bench.attributor("b")
    wait_until(lambda: members(bench.stack.brokers) == {"a": 6, "b": 6}, 60, "six partitions each", every_s=0.5)
    bench.settle()
    bench.callers.send(*(build.call([f"account_id={acme}"]) for _ in range(1000)))
    wait_until(lambda: second.metrics()["spend_attributor_held_records"] > 100, 30, "calls held")
    second.kill(signal.SIGSTOP)
    bench.config.beat()
    wait_until(lambda: members(bench.stack.brokers) == {"a": 12}, 60, "the frozen one's partitions", every_s=0.5)
    bench.settle()
    second.kill(signal.SIGCONT)
    try:
        bench.callers.send(*(build.call([f"account_id={acme}"]) for _ in range(200)))
        bench.judge()
    finally:
        # fenced, it may have ended: that is right; a healthy one is stopped by the fixture
        if second.process.poll() is not None:
            assert second.process.returncode == 1
            bench.stack.services.pop("b")
    assert first.alive


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_broker_that_goes_and_comes_back_costs_nothing(bench, number):
    acme = bench.account()
    first, second = bench.attributor("a", SPEND_BATCH_MAX="20"), bench.attributor("b", SPEND_BATCH_MAX="20")
    wait_until(lambda: members(bench.stack.brokers) == {"a": 6, "b": 6}, 60, "six partitions each", every_s=0.5)
    bench.settle()
    bench.callers.send(*(build.call([f"account_id={acme}"]) for _ in range(2000)))
    goal = bench.decided() + 100
    bench.config.beat()
    wait_until(lambda: bench.decided() >= goal, 60, "some calls decided")
    bench.stack.kill_part("kafka", number)
    bench.stack.up("kafka")
    bench.judge()
    assert first.alive and second.alive


def test_of_two_processes_of_one_replica_one_ends_and_nothing_is_doubled(bench):
    """They fence each other; the one that is fenced again soon after it started over gives up."""
    first = bench.attributor("a")
    bench.settle()
    twin = bench.stack.attributor("twin", env={"SPEND_REPLICA": "a"}).start()
    acme = bench.account()

    def one_has_ended():
        bench.callers.send(*(build.call([f"account_id={acme}"]) for _ in range(20)))
        bench.config.beat()
        return not (first.alive and twin.alive)
    wait_until(one_has_ended, 90, "one of them ended", every_s=0.5)
    ended, stays = (twin, first) if first.alive else (first, twin)
    assert ended.process.returncode == 1 and "ev=attributor_failed" in ended.log()
    bench.judge()
    assert stays.alive
    bench.stack.services.pop(ended.name)


def test_without_a_broker_it_is_alive_and_says_what_it_waits_for(bench):
    service = bench.stack.attributor("lonely", env={"SPEND_KAFKA_BROKERS": "127.0.0.1:1"})
    service.start(wait=False)
    wait_until(lambda: http("GET", service.admin_url + "/healthz")[0] == 200, 20, "the admin port")
    status, _, text = http("GET", service.admin_url + "/readyz")
    assert status == 503
    for part in ("registry", "prices", "kafka"):
        assert part in text.decode()
    assert service.process.poll() is None


@pytest.mark.parametrize("flags, word", [
    (["--replica=a b"], "--replica"), (["--batch-max=0"], "batch-max"), (["--no-such"], "no-such"),
    (["--kafka-conf=enable.idempotence=false"], "enable.idempotence")])
def test_a_wrong_option_is_refused_with_its_name(running, flags, word):
    program = running.stack.bin_dir / "spend-attributor"
    env = running.stack.clean_env({"SPEND_KAFKA_BROKERS": running.stack.brokers})
    done = subprocess.run([program, "--check-config", *flags], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and word in done.stderr, done
    good = subprocess.run([program, "--check-config"], env=env, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr


# -- the last two leave a topic that no attributor can go on with


def test_an_offset_out_of_range_stops_it_loudly(bench):
    service = bench.attributor()
    bench.settle()
    service.stop()
    acme = bench.account()
    bench.callers.send(*(build.call([f"account_id={acme}"]) for _ in range(240)))
    admin = AdminClient({"bootstrap.servers": bench.stack.brokers})
    parts = [TopicPartition("spend.calls", n, -1) for n in range(12)]
    for future in admin.delete_records(parts).values():
        future.result(30)
    service.start(wait=False)
    assert service.process.wait(60) == 1
    assert "ev=attributor_failed" in service.log() and "spend.calls" in service.log_tail()
    bench.stack.services.pop("a")


def test_configuration_that_cannot_be_read_stops_it_loudly(bench):
    bench.config.send("spend.registry", b"account:broken", b"\xc3\x01broken")
    service = bench.stack.attributor("c")
    service.start(wait=False)
    assert service.process.wait(60) == 1
    assert "spend.registry/0/" in service.log()
    bench.stack.services.pop("c")
