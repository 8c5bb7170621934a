"""The gate in a call's way, live: what a budget lets through and refuses, what a caller is told, what is held meanwhile and after."""

import http.client
import json
import threading

import pytest

from gate_bench import chat, cost, fresh, running_gate, usd
from stack import wait_until

ONE = cost()  # what a chat() is held for, and costs


@pytest.fixture(scope="module")
def gate():
    with running_gate(SPEND_ABORT_DRAIN="2s") as bench:
        yield bench


@pytest.fixture
def caller(gate):
    caller = gate.caller()
    yield caller
    caller.close()


# -- S1: a tag counts whatever carried it

def in_header(tags):
    return chat(), {"x-litellm-tags": ",".join(tags)}


def in_headers_untidily(tags):
    return chat(), {"X-LiteLLM-Tags": " ,, " + " , ".join(tags) + " ,"}


def in_root(tags):
    return chat(tags=tags), {}


def in_root_text(tags):
    return chat(tags=",".join(tags)), {}


def in_metadata(tags):
    return chat(metadata={"tags": tags}), {}


def in_litellm_metadata(tags):
    return chat(litellm_metadata={"tags": tags}), {}


def in_all(tags):
    return chat(tags=tags, metadata={"tags": tags}, litellm_metadata={"tags": tags}), {"x-litellm-tags": ",".join(tags)}


def twice_in_one_body(tags):
    """Of two members of one name Python's reader takes the last; both count here."""
    text = json.dumps(chat(metadata={"tags": tags}))[:-1] + ', "metadata": {"tags": ["other"]}}'
    return text.replace(" " * (len(text) - 400), "", 1).encode(), {}


FORMS = {form.__name__: form for form in (in_header, in_headers_untidily, in_root, in_root_text, in_metadata, in_litellm_metadata, in_all,
                                           twice_in_one_body)}


@pytest.mark.parametrize("form", FORMS)
def test_s1_a_tags_budget_stops_the_first_call_over_it_whatever_carries_the_tag(gate, caller, form):
    tag, account = f"tenant={fresh('t')}", gate.account()
    budget = gate.budget("tag", tag, 3 * ONE)
    ways = [FORMS[form]] * 4
    check_refused_at_the_fourth(gate, caller, budget, [f"account_id={account}", tag], ways)


@pytest.mark.parametrize("last", FORMS)
def test_s1_by_a_mix_of_forms(gate, caller, last):
    tag, account = f"tenant={fresh('t')}", gate.account()
    budget = gate.budget("tag", tag, 3 * ONE)
    others = [way for name, way in FORMS.items() if name != last]
    check_refused_at_the_fourth(gate, caller, budget, [f"account_id={account}", tag], [*others[-3:], FORMS[last]])


def check_refused_at_the_fourth(gate, caller, budget, tags, ways):
    for way in ways[:3]:
        body, headers = way(tags)
        assert caller.call(body, headers=headers).status == 200
    body, headers = ways[3](tags)
    refused = caller.call(body, headers=headers)
    assert refused.status == 400, refused.raw
    error = refused.error
    assert (error["type"], error["code"], error["param"]) == ("budget_exceeded", "400", None)
    assert error["budgets"][0]["budget_id"] == budget and error["budgets"][0]["scope"] == "tag"
    gate.await_amounts(budget, 3 * ONE)
    again = caller.call(body, headers=headers)
    cost_now = usd(3 * ONE)
    assert again.error["message"] == f"Budget has been exceeded! Tag={tags[-1]} Current cost: {cost_now}, Max budget: {cost_now}"
    assert "retry-after" not in again.headers  # a lifetime does not end
    assert {line["call_id"] for line in gate.stack.provider_calls()}.isdisjoint({refused.call_id, again.call_id})
    wait_until(gate.nothing_held, 30, "nothing held")
    assert gate.breaches() == []


# -- what is held, and for how long

def test_a_call_is_held_while_it_runs_and_spent_when_it_is_billed(gate, caller):
    account = gate.account()
    budget = gate.budget("account", account, 10 * ONE)
    done = []
    body = chat(prompt=100, completion=10, order="delay_ms=1500", max_tokens=30)
    thread = threading.Thread(target=lambda: done.append(caller.call(body, [f"account_id={account}"])))
    thread.start()
    gate.await_amounts(budget, 0, cost(100, 30))
    assert gate.breaches() == []
    thread.join()
    assert done[0].status == 200
    gate.await_amounts(budget, ONE)
    seen = gate.shown(budget)
    assert seen["ungated"] == "0", seen
    record = gate.api("GET", f"/v1/calls/{done[0].call_id}")[1]
    assert record["state"] == "billed"
    (admitted,) = gate.query("SELECT admitted_at <= clock_timestamp() FROM spend.call WHERE call_id = %s", done[0].call_id)
    assert admitted == (True,)


def test_a_failing_upstream_one_that_breaks_off_and_a_caller_that_leaves_hold_nothing_after(gate):
    account = gate.account()
    budget = gate.budget("account", account, 10 * ONE)
    tags = [f"account_id={account}"]
    first, second = gate.caller(), gate.caller()
    assert first.call(chat(order="status=500"), tags).status == 500
    with pytest.raises(http.client.IncompleteRead):
        first.call(chat(order="cut=1"), tags)
    second.connection.request("POST", "/v1/chat/completions", json.dumps(chat(order="delay_ms=60000")), {"x-litellm-tags": tags[0]})
    wait_until(lambda: gate.amounts(budget)[1] > 0, 30, "the third is held")
    second.connection.sock.close()
    second.close()
    first.close()
    wait_until(lambda: gate.amounts(budget)[1] == 0, 60, "nothing held")


def test_other_statuses_and_every_blocking_budget_is_named(gate, caller):
    account, (key, digest) = gate.account(), gate.key(user=fresh("user"))
    tag = f"tenant={fresh('t')}"
    day = {"kind": "calendar", "period": "day", "tz": "UTC"}
    first, second = gate.budget("tag", tag, 1, day), gate.budget("key", digest, 2)
    shadow = gate.budget("account", account, 3, mode="shadow")
    answer = caller.call(chat(), [f"account_id={account}", tag], key)
    assert answer.status == 400
    assert {b["budget_id"] for b in answer.error["budgets"]} == {first, second} and shadow not in answer.raw.decode()
    assert f"Tag={tag} Current cost: 0, Max budget: 0.000000001" in answer.error["message"]
    assert "Current cost: 0, Max budget: 0.000000002" in answer.error["message"]
    assert "retry-after" not in answer.headers  # the key's budget never ends
    gate.api("PUT", f"/v1/budgets/{second}", {"scope": "key", "value": digest, "limit": None, "window": {"kind": "lifetime"}})
    answer = caller.call(chat(), [f"account_id={account}", tag], key)
    assert 0 < int(answer.headers["retry-after"]) <= 86400


def test_an_empty_balance_is_402_and_a_conflict_403(gate, caller):
    account, other = gate.account(overdraft_limit="0"), gate.account()
    answer = caller.call(chat(), [f"account_id={account}"])
    assert (answer.status, answer.error["type"], answer.error["code"]) == (402, "balance_exhausted", "402")
    gate.api("POST", f"/v1/accounts/{account}/credits", {"external_id": "1", "kind": "top_up", "amount": usd(ONE)})
    assert caller.call(chat(), [f"account_id={account}"]).status == 200
    wait_until(lambda: gate.api("GET", f"/v1/accounts/{account}")[1] | {"held": "0", "balance": "0"} == gate.api("GET", f"/v1/accounts/{account}")[1],
               30, "the balance is used up")
    assert caller.call(chat(), [f"account_id={account}"]).status == 402
    key, _ = gate.key(account_id=account)
    answer = caller.call(chat(), [f"account_id={other}"], key)
    assert (answer.status, answer.error["type"]) == (403, "conflict"), answer.raw
    assert account in answer.error["message"] or other in answer.error["message"]
    wait_until(gate.nothing_held, 30, "nothing held")


@pytest.mark.parametrize("body, tags, kind", [
    (b"no json", (), "body_unparsed"), (b'{"model": "gpt-4o"', (), "body_unparsed"),
    (None, [f"t{i}=1" for i in range(65)], "too_many_tags"), (None, ["x" * 257], "too_many_tags")])
def test_what_cannot_be_judged_does_not_pass(gate, caller, body, tags, kind):
    answer = caller.call(body or chat(), tags)
    assert (answer.status, answer.error["type"]) == (400, kind)


def test_a_model_without_a_price_passes_unheld_and_is_counted(gate, caller):
    before = gate.stack.services["ingest"].metrics()["spend_ingest_gate_unpriced_total"]
    assert caller.call(chat(model="no-such-model"), [f"account_id={gate.account()}"]).status == 200
    assert gate.stack.services["ingest"].metrics()["spend_ingest_gate_unpriced_total"] == before + 1
