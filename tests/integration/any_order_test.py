"""Repeats, any order, estimates after finals, callbacks before gateways, and conflicts end in the
same canonical dump, byte for byte."""

import copy
import random

from integration.calls import call, key_of, produce, tag, uuid7
from integration.settle import judge, read_topic, settle
from oracle import avro
from oracle.dump import canonical_dump
from stack import Stack

ACCOUNTS = ("order-a", "order-b", "order-c")


def stories(rng, count):
    """Calls told by several records each: who saw what, and how well."""
    for number in range(count):
        account = rng.choice(ACCOUNTS)
        tags = [f"account_id={account}", f"task=t{number % 7}"]
        gateway = call(tags, usage={"input": rng.randrange(500), "cache_read": rng.randrange(50),
                                    "output": rng.randrange(300), "reasoning": rng.randrange(40)})
        told = [gateway]
        kind = number % 8
        estimate = copy.deepcopy(gateway)
        estimate.update(quality="estimated", outcome="aborted")
        estimate["usage"].update(input=999, output=1)
        callback = copy.deepcopy(gateway)
        callback.update(source="proxy_log", source_id=f"cb-{number}", tags=[], instance=None, seq=None)
        if kind == 1:
            told.append(estimate)
        elif kind == 2:
            told += [callback, estimate]
        elif kind == 3:  # the callback knows more than the gateway
            gateway.update(quality="estimated", outcome="aborted")
            callback["tags"] = [tag("User-Agent: x", ("event",))]
            told.append(callback)
        elif kind == 4:  # two gateways' records of one rank: a conflict, broken by the hash
            other = copy.deepcopy(gateway)
            other["usage"].update(input=gateway["usage"]["input"] + 1)
            told.append(other)
        elif kind == 5:  # the tags name other accounts: the account moves
            other = copy.deepcopy(gateway)
            other.update(source="events_api", source_id=f"ev-{number}", tags=[tag(f"account_id={ACCOUNTS[0]}", ("event",))])
            told.append(other)
        elif kind == 6:  # a foreign failure never undoes what the gateway saw
            failed = copy.deepcopy(callback)
            failed.update(outcome="failed", usage=dict.fromkeys(gateway["usage"]))
            told.append(failed)
        elif kind == 7:  # untagged first, then an event that knows the account
            gateway["tags"] = []
            event = copy.deepcopy(gateway)
            event.update(source="events_api", source_id=f"ev-{number}", tags=[tag(f"account_id={account}", ("event",))])
            told.append(event)
        yield told


def items(records):
    return [(key_of(record), avro.CALL.encode(record)) for record in records]


def test_order_and_repetition_do_not_matter():
    rng = random.Random(6)
    with Stack() as stack:
        stack.start_services(ingest=False)
        assert stack.api("PUT", "/v1/tiers/plus", {"markup": "1.17"})[0] in (200, 201)
        for account in ACCOUNTS:
            tier = "plus" if account == "order-b" else "default"
            assert stack.api("PUT", f"/v1/accounts/{account}", {"name": account, "tier": tier})[0] in (200, 201)
        for name, about in {"each-task": {"scope": "task", "each": "task", "measure": "billed"}, "tag": {"scope": "tag", "value": "task=t3"},
                            "account": {"scope": "account", "value": "order-b", "measure": "billed"},
                            "model": {"scope": "model", "each": "model"}}.items():
            window = {"kind": "calendar", "period": "hour"} if name == "account" else {"kind": "lifetime"}
            body = {"limit": "1", "window": window, **about}
            assert stack.api("PUT", f"/v1/budgets/{name}", body)[0] == 200
        told = [record for story in stories(rng, 400) for record in story]
        rng.shuffle(told)
        produce(stack.brokers, items(told))
        settle(stack)
        first = canonical_dump(stack.database_url())
        assert len(first.splitlines()) > 400 and sum(line.startswith('["window"') for line in first.splitlines()) >= 10

        for _ in range(3):
            again = [(m.key(), m.value()) for m in read_topic(stack.brokers, ["spend.calls"])][:len(told)]
            rng.shuffle(again)
            produce(stack.brokers, again)
            settle(stack)
            assert canonical_dump(stack.database_url()) == first
        judge(stack, provider=False)


def test_every_order_of_one_call_ends_alike():
    """The same stories under fresh ids, each in its own order: alike but for the id."""
    rng = random.Random(7)
    with Stack() as stack:
        stack.start_services(ingest=False)
        for account in ACCOUNTS:
            assert stack.api("PUT", f"/v1/accounts/{account}", {"name": account})[0] in (200, 201)
        told = list(stories(rng, 64))
        ids = {}
        for turn in range(4):
            batch = []
            for number, story in enumerate(told):
                fresh = ids.setdefault((turn, number), uuid7())
                story = [{**record, "call_id": fresh} for record in story]
                if turn:
                    rng.shuffle(story)
                batch += story
            # records of one call go to one partition: produced one by one they are applied in this order, in several batches
            produce(stack.brokers, items(batch))
            settle(stack)
        judge(stack, provider=False)
        lines = {}
        for line in canonical_dump(stack.database_url()).splitlines():
            for (turn, number), call_id in ids.items():
                import uuid
                text = str(uuid.UUID(bytes=call_id))
                if text in line:
                    lines.setdefault(number, {}).setdefault(turn, []).append(line.replace(text, "ID"))
        assert len(lines) == len(told)
        for number, turns in lines.items():
            assert len(turns) == 4 and all(turns[turn] == turns[0] for turn in turns), (number, turns)
