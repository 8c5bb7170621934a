"""Case S0, live: a real LiteLLM strips the callers' tags and answers 200; every call is billed all the same, to the right
account, task and conversation, to the nano. Untagged spend is parked with its cost."""

import contextlib
import copy
import random
from collections import Counter

import pytest

from integration.load import FORMS, Plan, send
from integration.settle import judge, read_topic, settle
from oracle import avro
from stack import Stack, wait_until

# nano-USD a token, from LiteLLM's price file, by hand: input, cached, output
PRICES = {"gpt-4o": (2500, 1250, 10000), "gpt-4o-mini": (150, 75, 600)}
ACCOUNT, MARKUP_PPM = "s0-acme", 1_250_000
ASK_AGAIN = 6


def raw_nanos(plan):
    plain, cached, output = PRICES[plan.model]
    return (plan.prompt - plan.cached) * plain + plan.cached * cached + plan.completion * output


def billed_nanos(raw):
    """Half-even, on its own integers."""
    quotient, rest = divmod(raw * MARKUP_PPM, 1_000_000)
    return quotient + (rest * 2 > 1_000_000 or (rest * 2 == 1_000_000 and quotient % 2 == 1))


def usd_to_nanos(text):
    sign, text = (-1, text[1:]) if text.startswith("-") else (1, text)
    whole, _, decimals = text.partition(".")
    return sign * (int(whole) * 10**9 + int(decimals.ljust(9, "0")))


def plans(key):
    rng, number = random.Random(0), 0
    for form in FORMS:
        for stream in (False, True):
            for model in PRICES:
                plan = Plan(number, rng, [ACCOUNT])
                plan.form, plan.stream, plan.model, plan.key = form, stream, model, key
                plan.task, plan.conversation = f"s0-task-{number % 3}", f"s0-conv-{number % 2}"
                number += 1
                yield plan
    for stream in (False, True):
        plan = Plan(number, rng, None)
        plan.form, plan.stream, plan.key, plan.task, plan.conversation = "header", stream, key, None, None
        number += 1
        yield plan


def way(plan):
    return plan.form, plan.stream, plan.account is None


def heard(stack, results):
    """The ways of tagging of which LiteLLM's callbacks have told."""
    ids = {callback["litellm_call_id"] for callback in stack.litellm_callbacks() if callback}
    return {way(result.plan) for result in results if result.call_id in ids}


def make_heard(stack, url, results):
    """LiteLLM clears its queue after each POST of callbacks, every 5 s, with what was put there meanwhile: of a way of tagging
    that it never told of, another call is made."""
    ways = {way(result.plan) for result in results}
    for _ in range(ASK_AGAIN):
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: heard(stack, results) == ways, 15, "LiteLLM's callbacks")
            return
        for lost in ways - heard(stack, results):
            plan = copy.copy(next(result.plan for result in results if way(result.plan) == lost))
            plan.number = len(results)
            results.append(send(url, plan))
    wait_until(lambda: heard(stack, results) == ways, 60, "LiteLLM's callbacks")


@pytest.fixture(scope="module")
def told():
    """The stack, and what each caller asked for and got, after everything has settled."""
    with Stack(parts=("kafka", "postgres", "provider", "litellm")) as stack:
        stack.start_services(upstream=stack.litellm_url)
        assert stack.api("PUT", "/v1/tiers/s0", {"markup": "1.25"})[0] in (200, 201)
        assert stack.api("PUT", f"/v1/accounts/{ACCOUNT}", {"name": "Acme", "tier": "s0"})[0] in (200, 201)
        assert stack.api("PUT", "/v1/tasks/s0-task-0", {"account_id": ACCOUNT})[0] in (200, 201)
        url = stack.services["ingest"].url
        results = [send(url, plan) for plan in plans(stack.litellm_key)]
        make_heard(stack, url, results)
        settle(stack)
        yield stack, results


def test_litellm_answers_200_and_strips_every_tag(told):
    stack, results = told
    assert [result.status for result in results] == [200] * len(results)
    assert heard(stack, results) == {way(result.plan) for result in results}
    callbacks = [callback for callback in stack.litellm_callbacks() if callback]
    ids = {result.call_id for result in results}
    assert {callback["litellm_call_id"] for callback in callbacks} <= ids, "LiteLLM did not take our call ids"
    tags = Counter(tag.split(":")[0] for callback in callbacks for tag in callback["request_tags"])
    assert set(tags) <= {"User-Agent"}, tags


def test_every_tagged_call_is_billed_to_the_nano(told):
    stack, results = told
    tagged = [result for result in results if result.plan.account]
    for result in tagged:
        status, call = stack.api("GET", f"/v1/calls/{result.call_id}")
        plan = result.plan
        assert status == 200 and call["state"] == "billed", (plan.form, call)
        assert (call["account_id"], call["task"], call["conversation"]) == (ACCOUNT, plan.task, plan.conversation), plan.form
        raw = raw_nanos(plan)
        assert usd_to_nanos(call["raw"]) == raw, (plan.form, plan.stream)
        assert usd_to_nanos(call["billed"]) == billed_nanos(raw)
        assert call["quality"] == "final" and call["outcome"] == "completed"
        assert len(call["entries"]) == 1
    total = sum(billed_nanos(raw_nanos(result.plan)) for result in tagged)
    assert usd_to_nanos(stack.api("GET", f"/v1/accounts/{ACCOUNT}")[1]["balance"]) == -total
    bill = stack.api("GET", "/v1/tasks/s0-task-0/bill")[1]
    mine = [result.plan for result in tagged if result.plan.task == "s0-task-0"]
    assert bill["calls"] == len(mine)
    assert usd_to_nanos(bill["billed"]) == sum(billed_nanos(raw_nanos(plan)) for plan in mine)


def test_untagged_calls_wait_in_suspense_with_their_cost(told):
    stack, results = told
    untagged = [result for result in results if not result.plan.account]
    assert len(untagged) >= 2
    letters = [avro.DEAD_LETTER.decode(m.value()) for m in read_topic(stack.brokers, ["spend.dlq.untagged"])]
    assert sorted(letter["raw_nanos"] for letter in letters) == sorted(raw_nanos(result.plan) for result in untagged)
    assert {letter["call_id"].hex() for letter in letters} == {r.call_id.replace("-", "") for r in untagged}
    for result in untagged:
        call = stack.api("GET", f"/v1/calls/{result.call_id}")[1]
        assert call["state"] == "dead" and call["reason"] == "untagged"
    account = stack.api("GET", "/v1/accounts/~suspense%2Funtagged")[1]
    assert usd_to_nanos(account["balance"]) == -sum(raw_nanos(result.plan) for result in untagged)
    listed = stack.api("GET", "/v1/dead-letters?reason=untagged")[1]["items"]
    assert {item["call_id"] for item in listed} == {result.call_id for result in untagged}


def test_the_oracle_agrees(told):
    judge(told[0])


def test_nothing_secret_is_on_a_topic_or_in_a_log(told):
    stack, results = told
    key = stack.litellm_key.encode()
    topics = ["spend.calls", "spend.attributed", "spend.dlq.untagged", "spend.entries"]
    for message in read_topic(stack.brokers, topics):
        assert key not in message.value() and b"fake: prompt=" not in message.value()
    for service in stack.services.values():
        assert stack.litellm_key not in service.log()
