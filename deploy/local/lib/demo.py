"""The calls of `demo`, and the bill they end with. Standard library only.

Exits 1 when the bill does not add up: balance before, less what was billed, must be the balance after, to the nano.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

WAIT_S = 60
SUSPENSE = "~suspense/untagged"


class Failed(Exception):
    pass


def wait_for(what, condition):
    end = time.monotonic() + WAIT_S
    while not (value := condition()):
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {WAIT_S} s")
        time.sleep(0.1)
    return value


def request(method, url, body=None, headers=()):
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data=data, method=method)
    for name, value in [("Content-Type", "application/json"), *headers]:
        asked.add_header(name, value)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=120) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


class State:
    """What `up` left behind: connections from env, the rest of the ports and keys."""

    def __init__(self, directory):
        self.dir = Path(directory)
        self.run = f"{time.time_ns() // 1_000_000:x}"  # names what this run makes
        self.last_call = None  # the one whose story is told of in the end
        lines = (self.dir / "env").read_text().splitlines()
        self.env = {k: v.strip("'") for k, v in (line[len("export "):].split("=", 1) for line in lines)}
        self.ports = dict(line.split("=") for line in (self.dir / "ports").read_text().split())
        self.secrets = dict(line.split("=") for line in (self.dir / "secrets").read_text().split())

    def api(self, method, path, body=None, missing_is_fine=False):
        status, _, raw = request(method, self.env["SPEND_LEDGER_URL"] + path, body,
                                 [("Authorization", f"Bearer {self.env['SPEND_LEDGER_TOKEN']}")])
        if status == 404 and missing_is_fine:
            return None
        if status >= 300:
            raise Failed(f"{method} {path} answered {status}: {raw.decode(errors='replace')[:500]}")
        return json.loads(raw) if raw else None

    def watermark_us(self):
        """Up to when the attributor knows the configuration."""
        _, _, raw = request("GET", f"http://127.0.0.1:{self.ports['attributor_admin']}/metrics")
        rows = (line.split() for line in raw.decode().splitlines())
        return next((int(row[1]) for row in rows if row[:1] == ["spend_attributor_config_watermark_us"]), 0)

    def balance(self, account):
        found = self.api("GET", f"/v1/accounts/{quote(account, safe='')}", missing_is_fine=True)
        return Decimal(found["balance"]) if found else Decimal(0)


def usd(amount):
    amount = Decimal(amount)
    return f"{'-' if amount < 0 else ''}${abs(amount).normalize():f}"


def table(title, head, rows):
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}")
    for row in [head, ["-" * width for width in widths], *rows]:
        print("  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


class Caller:
    """Sends chat completions as an application would, and reads what comes back."""

    def __init__(self, url, key, model):
        self.url, self.key, self.model = url, key, model

    def call(self, text, tags="", metadata_tags=(), root_tags=(), stream=False, ask_usage=False):
        body = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        if metadata_tags:
            body["metadata"] = {"tags": list(metadata_tags)}
        if root_tags:
            body["tags"] = list(root_tags)
        if stream:
            body["stream"] = True
        if ask_usage:
            body["stream_options"] = {"include_usage": True}
        headers = [("x-litellm-tags", tags)] if tags else []
        if self.key:
            headers.append(("Authorization", f"Bearer {self.key}"))
        status, answer, raw = request("POST", self.url + "/v1/chat/completions", body, headers)
        call_id = answer.get("x-spend-call-id")
        if status != 200 or not call_id:
            raise Failed(f"the call answered {status}, x-spend-call-id {call_id}: {raw.decode(errors='replace')[:500]}")
        return call_id


def prepare(state):
    """An account with a tier and money, a conversation and a task, all new in each run."""
    run = state.run
    account, conversation, task = f"acme-{run}", f"support-{run}", f"ticket-{run}"
    state.api("PUT", "/v1/tiers/standard", {"markup": "1.30"})
    state.api("PUT", f"/v1/accounts/{account}", {"name": "Acme Corp.", "tier": "standard"})
    state.api("POST", f"/v1/accounts/{account}/credits",
              {"external_id": f"opening-{run}", "kind": "opening", "amount": "10", "note": "demo"})
    state.api("PUT", f"/v1/conversations/{conversation}", {"account_id": account})
    state.api("PUT", f"/v1/tasks/{task}", {"account_id": account, "conversation_id": conversation})
    now_us = time.time_ns() // 1000
    wait_for("the attributor hears of the new account", lambda: state.watermark_us() > now_us)
    return account, conversation, task


def wait_state(state, call_id, wanted):
    def there():
        found = state.api("GET", f"/v1/calls/{call_id}", missing_is_fine=True)
        if found and found["state"] == "dead" and wanted != "dead":
            raise Failed(f"call {call_id} is a dead letter: {found.get('reason')}")
        return found if found and found["state"] == wanted else None
    return wait_for(f"call {call_id} is {wanted}", there)


def tokens(call, *classes):
    return sum(call["usage"].get(name) or 0 for name in classes)


def print_bill(state, account, calls, before):
    """calls: [(how it was sent, call document)]."""
    rows = []
    for how, call in calls:
        rows.append([call["call_id"][-12:], how, tokens(call, "input", "cache_read"), tokens(call, "cache_read"),
                     tokens(call, "output", "reasoning"), usd(call["raw"]), usd(call["billed"])])
    raw = sum((Decimal(call["raw"]) for _, call in calls), Decimal(0))
    billed = sum((Decimal(call["billed"]) for _, call in calls), Decimal(0))
    rows.append(["total", f"{len(calls)} calls", *(sum(row[i] for row in rows) for i in (2, 3, 4)), usd(raw), usd(billed)])
    table(f"The bill of account {account} (tier standard: raw cost x 1.30)",
          ["call", "how it was sent", "tokens in", "of them cached", "tokens out", "raw cost", "billed"], rows)
    prices = {line["class"]: Decimal(line["price"]) * 10**6 for _, call in calls for line in call["lines"] or [] if line["units"]}
    print(f"  {calls[0][1]['model_replied']}, price book {calls[0][1]['price_version']}, USD a million tokens: "
          + ", ".join(f"{name} {usd(price)}" for name, price in prices.items()))
    after = state.balance(account)
    print(f"\n  balance before  {usd(before)}\n  billed          {usd(billed)}\n  balance after   {usd(after)}")
    if before - billed != after or any(call["account_id"] != account for _, call in calls):
        raise Failed("the bill does not add up")
    return billed


def print_task_bill(state, task):
    bill = state.api("GET", f"/v1/tasks/{task}/bill")
    print(f"\n  task {task}: {bill['calls']} calls, raw {usd(bill['raw'])}, billed {usd(bill['billed'])}, {bill['status']}"
          + (" (more calls may come)" if bill["status"] == "open" else ""))


def plain(state):
    account, conversation, task = prepare(state)
    before = state.balance(account)
    print(f"\nAccount {account} has {usd(before)}. Sending calls through {state.env['SPEND_INGEST_URL']} ..")
    model = os.environ.get("DEMO_MODEL", "gpt-4o")
    caller = Caller(state.env["SPEND_INGEST_URL"], os.environ.get("OPENAI_API_KEY"), model)
    full = f"account_id={account},task={task},conversation={conversation}"
    sent = [
        ("plain, tags in the header", caller.call("Say hello. fake: prompt=1200 cached=200 completion=450 reasoning=100", tags=full)),
        ("streamed, tags in metadata", caller.call("Say hello. fake: prompt=800 completion=300", stream=True, ask_usage=True,
                                                  metadata_tags=full.split(","))),
        ("streamed, usage not asked for", caller.call("Say hello. fake: prompt=90 completion=40 chunks=20", stream=True, tags=full)),
        ("plain, only the task is named", caller.call("Say hello. fake: prompt=2000 cached=1500 completion=10",
                                                     root_tags=[f"task={task}"])),
    ]
    calls = [(how, wait_state(state, call_id, "billed")) for how, call_id in sent]
    print_bill(state, account, calls, before)
    print_task_bill(state, task)
    state.last_call = sent[0][1]


def read_callbacks(state):
    path = state.dir / "log" / "litellm-callbacks.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return {item["litellm_call_id"]: item for item in found if item}


def silent_outage(state):
    account, conversation, task = prepare(state)
    before, suspense = state.balance(account), state.balance(SUSPENSE)
    url = f"http://127.0.0.1:{state.ports['ingest_litellm']}"
    print(f"\nAccount {account} has {usd(before)}. Calls go caller -> spend-ingest ({url}) -> LiteLLM -> provider.\n"
          "This LiteLLM strips callers' tags and answers 200: billing that counts by its tags finds nothing, and nobody hears of it.\n"
          "An upgrade that began to do so once left 6.5 days of spend unbilled.")
    caller = Caller(url, f"sk-{state.secrets['litellm']}", "gpt-4o")
    names = [f"account_id={account}", f"task={task}", f"conversation={conversation}"]
    order = "Say hello. fake: prompt=1200 cached=200 completion=450 reasoning=100"
    sent = [
        ("plain, header", caller.call(order, tags=",".join(names))),
        ("streamed, header", caller.call(order, tags=" , ".join(names), stream=True)),
        ("plain, metadata.tags", caller.call(order, metadata_tags=names)),
        ("streamed, root tags", caller.call(order, root_tags=names, stream=True, ask_usage=True)),
    ]
    untagged = caller.call("Say hello. fake: prompt=1000 completion=100")
    calls = [(how, wait_state(state, call_id, "billed")) for how, call_id in sent]
    dead = wait_state(state, untagged, "dead")

    wanted = {call_id for _, call_id in sent}
    wait_for("LiteLLM's callback", lambda: wanted <= read_callbacks(state).keys())
    callbacks = read_callbacks(state)
    table("What LiteLLM itself recorded (its generic_api callback)", ["call", "its request_tags"],
          [[call_id[-12:], json.dumps(callbacks[call_id]["request_tags"])] for _, call_id in sent])
    with_task = [callbacks[c] for c in wanted if f"task={task}" in (callbacks[c]["request_tags"] or [])]
    print(f"\n  Billing by LiteLLM's tags, as before: {len(with_task)} calls found for {task}. \"No cost data.\"")
    print_bill(state, account, calls, before)
    print_task_bill(state, task)
    now = state.balance(SUSPENSE)
    print(f"\nThe call that came without any tag ({untagged[-12:]}) is not lost either:\n"
          f"  it waits in spend.dlq.{dead['reason']} with its cost {usd(dead['raw'])}\n"
          f"  {SUSPENSE}: {usd(suspense)} before, {usd(now)} after")
    if with_task or suspense - Decimal(dead["raw"]) > now:
        raise Failed("S0 did not end as it must")
    state.last_call = sent[0][1]


def main(doc, cases, make=State):
    """Runs one of cases, {name: function of what `make` makes of the state's directory}, and says how to go on."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--state", required=True)
    parser.add_argument("--case", choices=cases, required=True)
    parser.add_argument("--down", default="deploy/local/down", help="the command that stops the stack")
    args = parser.parse_args()
    try:
        state = make(args.state)
        cases[args.case](state)
    except (Failed, OSError) as error:
        sys.exit(f"demo: {error}\ndemo: the services' logs are in {args.state}/log")
    print(f"\nThe whole story of one call:   source {args.state}/env; spendctl explain {state.last_call}\n"
          f"Everything keeps running:      {args.down} stops it")


if __name__ == "__main__":
    main(__doc__, {"plain": plain, "S0": silent_outage})
