"""The oracle is itself tested, live: real services built with a defect, one at a time. It names each of the eight, and
agrees when the same things happen to services without one."""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from integration.calls import produce
from integration.defects import CONTROL, DEFECTS, Workshop, run
from integration.load import Load
from integration.settle import ask_oracle, journals_delivered, read_topic, settle
from stack import LOCAL, ROOT, Stack, wait_until

ACCOUNTS = [f"seed-{n}" for n in range(9)]
CALLS, REFUSED_CALLS, REPEAT_EVERY = 160, 40, 4
TOPIC_LIMIT, NOTHING_FITS = 1048588, 100
FAILED_REPORTS = 'spend_kafka_delivery_failed_total{topic="spend.calls"}'


@pytest.fixture(scope="module")
def workshop():
    with tempfile.TemporaryDirectory(prefix="spendline-defects-") as directory:
        yield Workshop(Path(directory))


@pytest.fixture(scope="module")
def stack(workshop):
    """One Kafka, Postgres and provider for all defects: new ones for each would take most of the time."""
    with Stack(bin_dir=workshop.programs) as one:
        yield one
        one.kill_part("kafka")  # nothing here is needed again
        one.kill_part("postgres", signal.SIGQUIT)


def topics(admin):
    return [topic for topic in admin.list_topics(timeout=20).topics if topic.startswith("spend.")]


def groups_remember(admin):
    """Some consumer group still has a position in a topic."""
    for group in admin.list_consumer_groups().result(20).valid:
        asked = [ConsumerGroupTopicPartitions(group.group_id)]
        if admin.list_consumer_group_offsets(asked)[group.group_id].result(20).topic_partitions:
            return True
    return False


def renew(stack):
    """Kafka, Postgres, the journal and the provider's log as on the first day."""
    admin = AdminClient({"bootstrap.servers": stack.brokers, "log_level": 0})
    for done in admin.delete_topics(topics(admin)).values():
        done.result(30)
    wait_until(lambda: not topics(admin), 30, "topics gone")
    wait_until(lambda: not groups_remember(admin), 30, "positions forgotten with their topics")
    run(sys.executable, str(LOCAL / "lib/topics.py"), "--brokers", stack.brokers, "--replication", "1",
        str(ROOT / "deploy/topics/topics.json"))
    with psycopg.connect(stack.database_url().removesuffix("spend") + "postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE spend WITH (FORCE)")
        connection.execute("CREATE DATABASE spend OWNER spend_owner")
    shutil.rmtree(stack.dir / "journal", ignore_errors=True)
    os.truncate(stack.dir / "log" / "provider-calls.jsonl", 0)


def kill_services(stack):
    for service in stack.services.values():
        if service.alive:
            service.kill()
    stack.services.clear()


class Keeper:
    """Starts a service again whenever it has died, and counts that."""

    def __init__(self, service):
        self.service, self.deaths = service, 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(60)

    def run(self):
        while not self.stopped.wait(0.05):
            if not self.service.alive:
                self.deaths += 1
                self.service.start(wait=False)


def register_accounts(stack):
    for tier, markup in (("plus", "1.30"), ("thirds", "1.333333")):
        assert stack.api("PUT", f"/v1/tiers/{tier}", {"markup": markup})[0] in (200, 201)
    for number, account in enumerate(ACCOUNTS):
        tier = ("default", "plus", "thirds")[number % 3]
        assert stack.api("PUT", f"/v1/accounts/{account}", {"name": account, "tier": tier})[0] in (200, 201)


def limit_calls_topic(stack, size):
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "spend.calls", incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": stack.brokers, "log_level": 0})
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)


def make_calls(stack, count, seed):
    load = Load(lambda: [stack.services["ingest"].url], ACCOUNTS, count, callers=8, seed=seed, untagged=0.1)
    load.start().join(60)


def make_refused_calls(stack):
    """Calls while the broker refuses every record of spend.calls, until ingest has heard of that."""
    wait_until(lambda: journals_delivered(stack), 30, "the calls before")
    limit_calls_topic(stack, NOTHING_FITS)

    def heard():
        make_calls(stack, REFUSED_CALLS, seed=2)
        return stack.services["ingest"].metrics().get(FAILED_REPORTS, 0) > 0
    wait_until(heard, 30, "failed delivery reports", every_s=0.3)
    limit_calls_topic(stack, TOPIC_LIMIT)


def repeat_calls(stack):
    """What an at-least-once producer may do: records again, bytes unchanged, long after they were billed."""
    records = read_topic(stack.brokers, ["spend.calls"])
    produce(stack.brokers, [(record.key(), record.value()) for record in records[::REPEAT_EVERY]])


def settle_if_it_can(stack, patience_s):
    """A defect may leave work that never ends: the oracle is asked all the same, and says that too."""
    with contextlib.suppress(TimeoutError):
        settle(stack, patience_s)


def run_scenario(stack, extras, patience_s):
    register_accounts(stack)
    make_calls(stack, CALLS, seed=1)
    if "refusals" in extras:
        make_refused_calls(stack)
    settle_if_it_can(stack, patience_s)
    repeat_calls(stack)
    stack.services["ingest"].stop()  # its last words are how many calls it had
    settle_if_it_can(stack, patience_s)


def verdict(stack, extras, patience_s):
    """The oracle's (exit code, report), after the scenario."""
    with Keeper(stack.services["ledger"]) as keeper:
        run_scenario(stack, extras, patience_s)
    assert bool(keeper.deaths) == ("crashes" in extras), f"{keeper.deaths} deaths\n{stack.services['ledger'].log_tail()}"
    return ask_oracle(stack, "--settle", "5")


def judge(workshop, stack, defect):
    workshop.make_with(defect.change)
    renew(stack)
    try:
        stack.start_services()
        # without a defect all work ends, however slow the machine and however often the ledger dies
        code, report = verdict(stack, defect.extras, 240 if defect is CONTROL else 60)
    finally:
        kill_services(stack)
    kinds = {text.partition(":")[0] for text in report["differences"]}
    shown = json.dumps({"kinds": sorted(kinds), **report}, indent=1)[:4000]
    return code, kinds, report, shown


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_built_into_the_services_is_named(workshop, stack, defect):
    code, kinds, _, shown = judge(workshop, stack, defect)
    assert code == 2 and defect.kinds <= kinds, shown


def test_the_same_scenario_without_a_defect_is_agreed(workshop, stack):
    code, kinds, report, shown = judge(workshop, stack, CONTROL)
    assert code == 0 and not kinds, shown
    assert report["calls"] >= CALLS + REFUSED_CALLS and report["records"] >= report["calls"] * (1 + 1 / REPEAT_EVERY) - 1, shown
