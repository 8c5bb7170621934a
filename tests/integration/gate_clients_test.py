"""Refused calls as the real clients of OpenAI and LiteLLM see them: beside what a real LiteLLM answers them for the same budget, and
with the other statuses. LiteLLM keeps budgets in a database that it has not here, so its own checks are called by its own hook for
authentication (LITELLM_AUTH): the error, its words, its body and the status are LiteLLM's."""

import contextlib
import json
import os
import re
import subprocess

import pytest

from gate_bench import Caller, GateBench, chat, cost, fresh, usd
from stack import ROOT, Stack, free_port, http, wait_until

SPENT, LIMIT = 540_408_000, 50_000_000  # the very figures of a key that LiteLLM let go on
EXPENSIVE = {"model": "gpt-4o-mini", "prompt": 2720, "completion": 900_000}  # .. which this call costs
CLIENTS = {"openai": ("openai", "clients"), "openai-older": ("openai", "litellm"), "litellm": ("litellm", "litellm")}
OPENAI = ("chat", "stream", "async", "async_stream", "responses", "embeddings")
LITELLM = tuple(way + how for way in ("openai", "litellm_proxy") for how in ("", "_stream", "_async", "_async_stream"))
SCENARIOS = {"openai": OPENAI, "openai-older": OPENAI, "litellm": LITELLM}
SCOPES = ("key", "team", "tag")
CASES = [(scope, client, scenario) for scope in SCOPES for client in CLIENTS for scenario in SCENARIOS[client]]
SEEN = ("raised", "kinds", "status_code", "code", "type", "param", "message")  # what programs decide by

LITELLM_CONFIG = """
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {model: openai/gpt-4o-mini, api_base: os.environ/PROVIDER_URL, api_key: fake}
general_settings: {master_key: sk-master, custom_auth: gate_auth.check}
"""
LITELLM_AUTH = f"""
from litellm.proxy import proxy_server
from litellm.proxy._types import LiteLLM_BudgetTable, LiteLLM_TagTable, LiteLLM_TeamTable, UserAPIKeyAuth
from litellm.proxy.auth import auth_checks

SPENT, LIMIT = {SPENT / 10**9}, {LIMIT / 10**9}


async def check(request, api_key):
    scope, _, value = api_key.removeprefix("sk-").partition(".")
    token, log = UserAPIKeyAuth(api_key=api_key), proxy_server.proxy_logging_obj
    if scope == "key":
        await auth_checks._virtual_key_max_budget_check(UserAPIKeyAuth(api_key=api_key, spend=SPENT, max_budget=LIMIT), log)
    if scope == "team":
        await auth_checks._team_max_budget_check(LiteLLM_TeamTable(team_id=value, spend=SPENT, max_budget=LIMIT), token, log)
    if scope == "tag":
        tag = LiteLLM_TagTable(tag_name=value, spend=SPENT, litellm_budget_table=LiteLLM_BudgetTable(max_budget=LIMIT))
        await proxy_server.user_api_key_cache.async_set_cache(key="tag:" + value, value=tag)
        await auth_checks._tag_max_budget_check(request_body={{"metadata": {{"tags": [value]}}}}, prisma_client=object(),
                                                user_api_key_cache=proxy_server.user_api_key_cache, proxy_logging_obj=log,
                                                valid_token=token)
    return token
"""


def told(client, url, keys, *wanted):
    """[{scenario: what came of it} for each key] of one client's program."""
    program, environment = CLIENTS[client]
    done = subprocess.run([ROOT / f".local/{environment}/bin/python", ROOT / "tests/integration/gate_clients.py", program, url, ",".join(keys),
                           *(wanted or SCENARIOS[client])],
                          capture_output=True, text=True, check=False,
                          env={**os.environ, "NO_PROXY": "127.0.0.1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout).values())


def told_one(client, url, key, *wanted):
    return told(client, url, [key], *wanted)[0]


@contextlib.contextmanager
def running_litellm(stack):
    """A LiteLLM whose keys say what is over its budget: its URL."""
    folder, port = stack.dir / "litellm-gate", free_port()
    folder.mkdir()
    (folder / "config.yaml").write_text(LITELLM_CONFIG, encoding="utf-8")
    (folder / "gate_auth.py").write_text(LITELLM_AUTH, encoding="utf-8")
    environment = {name: value for name, value in stack.clean_env().items() if name != "DEBUG"}
    with open(stack.log_path("litellm-gate"), "wb") as log:
        process = subprocess.Popen([ROOT / ".local/litellm/bin/litellm", "--config", folder / "config.yaml", "--host", "127.0.0.1",
                                    "--port", str(port), "--telemetry", "False"], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env={**environment, "PROVIDER_URL": stack.provider_url + "/v1", "NO_PROXY": "127.0.0.1",
                                        "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: http("GET", url + "/health/liveliness", timeout_s=2)[0] == 200, 120, "LiteLLM is there")
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module", name="gate")
def gate_fixture():
    with Stack() as stack:
        stack.migrate()
        stack.ledger().start()
        stack.attributor().start()
        for status in ("400", "402", "429"):
            stack.ingest(f"ingest-{status}", env={"SPEND_GATE": "enforce", "SPEND_BUDGET_STATUS": status}).start()
        yield GateBench(stack)
        stack.stop_services()


def url_of(gate, status="400"):
    return gate.stack.services[f"ingest-{status}"].url


def spender(gate, scope):
    """A key whose budget, or whose team's, or whose tag's, stands at SPENT of LIMIT: (what its caller sends, the value, the budget)."""
    account, value = gate.account(), fresh(scope)
    bound = {"key": {}, "team": {"team": value}, "tag": {"tags": [value]}}[scope]
    key, digest = gate.key(account_id=account, **bound)
    budget = gate.budget(scope, digest if scope == "key" else value, 2 * SPENT)
    caller = gate.caller("ingest-400")
    assert caller.call(chat(max_tokens=10, **EXPENSIVE), key=key).status == 200
    caller.close()
    gate.await_amounts(budget, SPENT)
    gate.put(f"/v1/budgets/{budget}", scope=scope, value=digest if scope == "key" else value, limit=usd(LIMIT), window={"kind": "lifetime"})
    return key, value, budget


@pytest.fixture(scope="module", name="heard")
def heard_fixture(gate):
    """{(scope, client): (what LiteLLM's refusal comes to, what ours does)}, and {scope: budget}."""
    spenders = {scope: spender(gate, scope) for scope in SCOPES}
    found = {}
    with running_litellm(gate.stack) as litellm:
        for client in CLIENTS:
            theirs = told(client, litellm, [f"sk-{scope}.{value}" for scope, (_, value, _) in spenders.items()])
            ours = told(client, url_of(gate), [key for key, _, _ in spenders.values()])
            found |= {(scope, client): both for scope, both in zip(SCOPES, zip(theirs, ours))}
    return found, {scope: budget for scope, (_, _, budget) in spenders.items()}


@pytest.mark.parametrize("scope, client, scenario", CASES)
def test_a_budget_is_told_as_litellm_tells_it(heard, scope, client, scenario):
    told_by, budgets = heard
    theirs, ours = (results[scenario] for results in told_by[scope, client])
    ours["message"] = re.sub(r", 'budgets': \[.*\]", "", ours["message"])  # the older client's has the whole body in it
    assert {name: ours[name] for name in SEEN} == {name: theirs[name] for name in SEEN}
    assert (ours["raised"], ours["status_code"]) == ("BadRequestError", 400)
    assert "Current cost: 0.540408, Max budget: 0.05" in ours["message"]
    if client != "litellm":  # its client keeps no body
        assert (ours["code"], ours["type"]) == ("400", "budget_exceeded")
        assert {**ours["body"], "budgets": None} == {**theirs["body"], "budgets": None}
        assert [(named["budget_id"], named["spent"], named["limit"]) for named in ours["body"]["budgets"]] == [(budgets[scope], "0.540408", "0.05")]


@pytest.mark.parametrize("status, raised", [("402", {"openai": "APIStatusError", "litellm": "APIError"}),
                                            ("429", {"openai": "RateLimitError", "litellm": "RateLimitError"})])
def test_other_statuses(gate, status, raised):
    key, _, budget = spender(gate, "key")
    for client, name in raised.items():
        for scenario, found in told_one(client, url_of(gate, status), key).items():
            assert (found["raised"], found["status_code"]) == (name, int(status)), (client, scenario, found)
            assert found["retry_after"] is None  # a lifetime does not end
            if client == "openai":
                assert (found["code"], found["type"], found["body"]["budgets"][0]["budget_id"]) == (status, "budget_exceeded", budget)


def test_a_refusal_that_waiting_does_not_help_is_not_sent_again(gate):
    key, _, _ = spender(gate, "key")
    for status in ("400", "402"):
        for found in told_one("openai", url_of(gate, status), key, "retried", "retried_stream").values():
            assert found["status_code"] == int(status) and found["waits"] == [], found


def test_429_is_sent_again_when_retry_after_says_and_passes_in_the_next_window(gate):
    key, digest = gate.key(account_id=gate.account())
    budget = gate.budget("key", digest, cost(100, 3, "gpt-4o-mini"), {"kind": "interval", "seconds": 16})
    caller = gate.caller("ingest-429")

    def refused():
        """Just now, with most of the window left."""
        answer = caller.call(chat(100, 3, "gpt-4o-mini"), key=key)
        return answer.status == 429 and int(answer.headers["retry-after"]) >= 10
    wait_until(refused, 60, "the window is used up early")
    found = told_one("openai", url_of(gate, "429"), key, "retried")["retried"]
    assert found["raised"] is None and len(found["waits"]) == 1, found
    assert found["waits"][0] >= 2, found  # of its own accord it would wait half a second
    caller.close()
    assert len(gate.api("GET", f"/v1/budgets/{budget}/resets")[1]["items"]) >= 1


@pytest.mark.parametrize("client, unnamed, forbidden", [("openai", "APIStatusError", "PermissionDeniedError"), ("litellm", "APIError", "APIError")])
def test_an_empty_balance_and_a_conflict(gate, client, unnamed, forbidden):
    broke, _ = gate.key(account_id=gate.account(overdraft_limit="0"))
    disputed, _ = gate.key(account_id=gate.account(), tags=[f"account_id={gate.account()}"])
    exhausted, conflict = told(client, url_of(gate), [broke, disputed])
    for scenario, found in exhausted.items():
        assert (found["raised"], found["status_code"]) == (unnamed, 402), (scenario, found)
        assert "Account balance has been exhausted!" in found["message"]
        assert client == "litellm" or found["type"] == "balance_exhausted"
    for scenario, found in conflict.items():
        assert (found["raised"], found["status_code"]) == (forbidden, 403), (scenario, found)
        assert client == "litellm" or (found["type"], found["code"]) == ("conflict", "403")


def test_nobody_to_ask_is_503_and_a_client_that_tries_again_passes_once_the_ledger_is_back(gate):
    key, _ = gate.key(account_id=gate.account())
    ledger, ingest = gate.stack.services["ledger"], gate.stack.services["ingest-400"]
    ledger.kill()
    caller = Caller(ingest.port)
    wait_until(lambda: caller.call(chat(), key=key).status == 503 and ingest.metrics()["spend_ingest_gate_away"] == 1, 30, "away")
    for client, name in {"openai": "InternalServerError", "litellm": "ServiceUnavailableError"}.items():
        for scenario, found in told_one(client, url_of(gate), key).items():
            assert (found["raised"], found["status_code"]) == (name, 503), (client, scenario, found)
            assert client == "litellm" or (found["type"], found["code"]) == ("ledger_unavailable", "503")
    found = told_one("openai", url_of(gate), key, "retried")["retried"]
    assert found["status_code"] == 503 and len(found["waits"]) == 2, found
    assert min(found["waits"]) >= int(found["retry_after"]), found
    ledger.start()
    wait_until(lambda: caller.call(chat(), key=key).status == 200, 30, "calls pass again")
    caller.close()
    for client in ("openai", "litellm"):
        assert {found["raised"] for found in told_one(client, url_of(gate), key, SCENARIOS[client][0], SCENARIOS[client][1]).values()} == {None}
