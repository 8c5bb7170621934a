"""S3: no way of calling past a budget. One table: every scope x operation x plain and streamed x attributed or not. Each budget counts
what such a call cost, refuses the next one once its limit is below that, before the upstream hears of it, and lets it pass again."""

import functools
from decimal import Decimal

import pytest

from gate_bench import LIFETIME, fresh, running_gate
from shapes_test import MESSAGES, ORDER, TEXT, form
from stack import wait_until

# path, what the model is priced as, body, does it stream
OPERATIONS = {
    "chat": ("/v1/chat/completions", "gpt-4o", MESSAGES, True),
    "completion": ("/v1/completions", "gpt-3.5-turbo-instruct", {"prompt": TEXT["input"]}, True),
    "responses": ("/v1/responses", "gpt-5", TEXT, True),
    "messages": ("/v1/messages", "claude-sonnet-4-5", MESSAGES, True),
    "embeddings": ("/v1/embeddings", "text-embedding-3-small", TEXT, False),
    "rerank": ("/v1/rerank", "rerank-v3.5", {"query": TEXT["input"], "documents": ["a", "b"]}, False),
    "image": ("/v1/images/generations", "gpt-image-1", {"prompt": "a cat fake: prompt=50 images=40 completion=60"}, False),
    "speech": ("/v1/audio/speech", "tts-1", {"voice": "alloy", "input": "hello  there fake: units=1"}, False),
    "transcription": ("/v1/audio/transcriptions", "gpt-4o-transcribe", {"prompt": "fake: prompt=14 audio=14 completion=5"}, False),
}
OF_ACCOUNTS = ("account", "task", "conversation")  # a call that leads to none has none of these
SCOPES = ("key", "user", "team", "account", "task", "conversation", "tag", "model")
GROUPS = [(operation, stream, attributed) for operation in OPERATIONS for stream in (False, True)[:1 + OPERATIONS[operation][3]]
          for attributed in (True, False)]
CELLS = [(scope, *group) for group in GROUPS for scope in SCOPES if group[2] or scope not in OF_ACCOUNTS]


@pytest.fixture(scope="module")
def gate():
    with running_gate() as bench:
        yield bench


class Group:
    """One kind of call, its scopes' own values, and a budget on each."""

    def __init__(self, gate, operation, stream, attributed):
        self.gate, self.stream, self.operation = gate, stream, operation
        self.path, price_key, self.body, _ = OPERATIONS[operation]
        self.values = {scope: fresh(scope) for scope in SCOPES}
        self.key, self.values["key"] = gate.key(user=self.values["user"], team=self.values["team"])
        self.values["tag"] = f"tenant={self.values['tag']}"
        gate.put(f"/v1/models/{self.values['model']}", price_key=price_key)
        self.tags = [self.values["tag"]]
        if attributed:
            self.values["account"] = gate.account()
            self.tags += [f"account_id={self.values['account']}", f"task={self.values['task']}", f"conversation={self.values['conversation']}"]
        scopes = [scope for scope in SCOPES if attributed or scope not in OF_ACCOUNTS]
        self.budget = {scope: gate.budget(scope, self.values[scope], None) for scope in scopes}
        assert self.call().status == 200
        for budget in self.budget.values():
            wait_until(lambda budget=budget: gate.amounts(budget)[0] > 0 and gate.amounts(budget)[1] == 0, 30, "the call is charged")
        self.passed, self.unit = 1, gate.amounts(self.budget["key"])[0]

    def call(self):
        caller = self.gate.caller()
        body = {"model": self.values["model"], **self.body, **({"stream": True} if self.stream else {})}
        try:
            if self.operation == "transcription":
                raw, headers = form(body)
                return caller.call(raw, self.tags, self.key, self.path, headers)
            return caller.call(body, self.tags, self.key, self.path)
        finally:
            caller.close()

    def limit(self, scope, limit):
        self.gate.put(f"/v1/budgets/{self.budget[scope]}", scope=scope, value=self.values[scope], limit=limit, window=LIFETIME)


@functools.cache
def group_of(gate, operation, stream, attributed):
    return Group(gate, operation, stream, attributed)


@pytest.mark.parametrize("scope, operation, stream, attributed", CELLS)
def test_a_budget_that_is_used_up_stops_the_next_call(gate, scope, operation, stream, attributed):
    group = group_of(gate, operation, stream, attributed)
    spent = Decimal(group.passed * group.unit) / 10**9
    gate.await_amounts(group.budget[scope], group.passed * group.unit)
    group.limit(scope, f"{spent / 2:.9f}")
    refused = group.call()
    assert refused.status == 400, refused.raw
    assert refused.error["type"] == "budget_exceeded"
    assert [(b["budget_id"], b["scope"], b["value"], Decimal(b["spent"])) for b in refused.error["budgets"]] == [
        (group.budget[scope], scope, group.values[scope], spent)]
    assert f"Current cost: {gate.shown(group.budget[scope])['spent']}, " in refused.error["message"]
    group.limit(scope, None)
    assert group.call().status == 200
    group.passed += 1
    assert all(line["call_id"] != refused.call_id for line in gate.stack.provider_calls())


def test_every_cell_is_there():
    assert len(CELLS) == len(set(CELLS)) == sum(8 if attributed else 5 for _, _, attributed in GROUPS)
    assert ORDER in MESSAGES["messages"][0]["content"]


def test_nothing_is_held_when_all_is_over(gate):
    wait_until(gate.nothing_held, 60, "nothing held")
    assert gate.breaches() == []
