"""`demo --case S1` to `S4`: four failures of budgets, and how each ends at Spendline's gate. Standard library, and psql for what
Postgres itself says.

Exits 1 when a case does not end as it must.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from demo import SUSPENSE, Failed, State, main, request, table, usd, wait_for

LIFETIME = {"kind": "lifetime"}
INPUT, OUTPUT = 400, 100  # tokens of a call; what is held for it is the same
ONE = INPUT * Decimal("0.0000025") + OUTPUT * Decimal("0.00001")  # gpt-4o: $0.002


def must(condition, what):
    if not condition:
        raise Failed(what)


class Case(State):
    def __init__(self, directory):
        super().__init__(directory)
        self.url = f"http://127.0.0.1:{self.ports['ingest_gate']}"
        self.account = f"acme-{self.run}"
        self.api("PUT", f"/v1/accounts/{self.account}", {"name": "Acme Corp."})

    def known(self):
        """The attributor, too, has heard of what was made."""
        now_us = time.time_ns() // 1000
        wait_for("the attributor hears of the account", lambda: self.watermark_us() > now_us)

    def key(self, word, **more):
        secret = f"sk-{word}-{self.run}"
        digest = hashlib.sha256(secret.encode()).hexdigest()
        self.api("PUT", f"/v1/keys/{digest}", more)
        return secret, digest

    def budget(self, name, scope, value, limit, window=None):
        budget = f"{name}-{self.run}"
        self.api("PUT", f"/v1/budgets/{budget}", {"scope": scope, "value": value, "limit": f"{limit:f}", "window": window or LIFETIME})
        return budget

    def shown(self, budget):
        return self.api("GET", f"/v1/budgets/{budget}")

    def amounts(self, budget):
        seen = self.shown(budget)
        return Decimal(seen["spent"]), Decimal(seen["held"])

    def query(self, sql):
        """Rows of texts, from Postgres itself."""
        done = subprocess.run(["psql", "-XAtq", "-F", "\t", "-c", sql, self.env["SPEND_DATABASE_URL"]], capture_output=True, text=True, check=False)
        must(done.returncode == 0, f"psql: {done.stderr}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def body(self, order="", **more):
        """A chat of INPUT tokens, as the gate counts them: a quarter of the body's bytes."""
        body = {"model": "gpt-4o", "max_tokens": OUTPUT, **more,
                "messages": [{"role": "user", "content": f"fake: prompt={INPUT} completion={OUTPUT} {order}".rstrip()}]}
        body["messages"][0]["content"] = " " * (INPUT * 4 - len(json.dumps(body))) + body["messages"][0]["content"]
        return body

    def call(self, body, tags=(), key=None):
        """(status, headers, what a refusal says or None)."""
        headers = ([("x-litellm-tags", ",".join(tags))] if tags else []) + ([("Authorization", f"Bearer {key}")] if key else [])
        status, answer, raw = request("POST", self.url + "/v1/chat/completions", body, headers)
        if status == 200:
            self.last_call = answer["x-spend-call-id"]
        return status, answer, json.loads(raw)["error"] if status != 200 else None

    def call_and_leave(self, body, tags):
        """Goes away once the first of the stream is there."""
        at = urlsplit(self.url)
        data = json.dumps(body).encode()
        with socket.create_connection((at.hostname, at.port), timeout=60) as caller:
            caller.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: demo\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
                           f"x-litellm-tags: {','.join(tags)}\r\n\r\n".encode() + data)
            must(caller.recv(4096).startswith(b"HTTP/1.1 200"), "a stream did not begin")

    def until_refused(self, send, most=100):
        """(calls let through, the refusal)."""
        for count in range(most):
            status, headers, error = send()
            if status != 200:
                must(error["type"] == "budget_exceeded", f"a call answered {status}: {error}")
                return count, status, headers, error
        raise Failed(f"{most} calls were let through")

    def reached_provider(self, call_id):
        return call_id in (self.dir / "log" / "provider-calls.jsonl").read_text()


def header_bypass(case):
    """S1"""
    forms = {
        "x-litellm-tags header": lambda tags: (case.body(), tags),
        "tags": lambda tags: (case.body(tags=tags), ()),
        "metadata.tags": lambda tags: (case.body(metadata={"tags": tags}), ()),
        "litellm_metadata.tags": lambda tags: (case.body(litellm_metadata={"tags": tags}), ()),
    }
    case.known()
    print(f"\nOnce, a tag in the x-litellm-tags header was merged after the budget check: such calls passed whatever the tag had spent.\n"
          f"Here each tag has a budget of {usd(3 * ONE)}, and a call costs {usd(ONE)}: three pass. The last row sends three by body, the fourth by header.")
    rows = []
    for number, (name, forms_of_calls) in enumerate([*((name, [form] * 5) for name, form in forms.items()),
                                                     ("three by body, then header", [forms["metadata.tags"]] * 3 + [forms["x-litellm-tags header"]] * 2)]):
        tag = f"tenant=t{number}-{case.run}"
        budget = case.budget(f"s1-{number}", "tag", tag, 3 * ONE)
        sent = iter(forms_of_calls)
        passed, status, headers, error = case.until_refused(lambda sent=sent, tag=tag: case.call(*next(sent)([f"account_id={case.account}", tag])))
        wait_for("the bills", lambda budget=budget: case.amounts(budget) == (3 * ONE, 0))
        _, _, error = case.call(*next(sent)([f"account_id={case.account}", tag]))
        rows.append([name, passed, f"{status} {error['type']}", "no" if not case.reached_provider(headers["x-spend-call-id"]) else "YES",
                     usd(case.amounts(budget)[0])])
    table("What the gate did", ["where the tag stood", "let through", "then", "refused call reached the provider", "spent"], rows)
    print(f"\n  Asked again, once all was billed: {error['message']}")
    must(all(row[1:4] == [3, f"{row[2].split()[0]} budget_exceeded", "no"] for row in rows), "S1 did not end as it must")


def phantom_spend(case):
    """S2"""
    case.known()
    tag = f"tenant=s2-{case.run}"
    limit = 20 * ONE
    tags = [f"account_id={case.account}", tag]
    budget = case.budget("s2", "tag", tag, limit)
    print(f"\nOnce, a counter of spend was raised before each call, and never lowered when the call failed or its caller left: it ran at 3 to 6\n"
          f"times the real spend and refused calls at 35 % of the budget. Here the tag has {usd(limit)}, and a call is held for {usd(ONE)}.")
    left = [threading.Thread(target=case.call_and_leave, args=(case.body("chunks=4 chunk_ms=800", stream=True), tags)) for _ in range(5)]
    for thread in left:
        thread.start()
    held = wait_for("five calls are held", lambda: (found := case.amounts(budget)[1]) >= 5 * ONE and found)
    for thread in left:
        thread.join()
    failed = [case.call(case.body("status=500"), tags)[0] for _ in range(40)]
    print(f"\n  {len(failed)} calls failed upstream, 5 streams were left by their callers; at one moment {usd(held)} was held.")
    wait_for("nothing is held", lambda: case.amounts(budget) == (5 * ONE, 0))
    print(f"  Now {usd(0)} is held and {usd(5 * ONE)} spent: the failed ones cost nothing, the five were generated to their end and are billed.")
    passed, status, _, error = case.until_refused(lambda: case.call(case.body(), tags))
    spent = wait_for("the bills", lambda: (found := case.amounts(budget))[1] == 0 and found[0])
    _, _, _, error = case.until_refused(lambda: case.call(case.body(), tags))
    window = case.query("SELECT w.spent_nanos, w.held_nanos FROM spend.budget_window w JOIN spend.budget b ON b.id = w.budget"
                        f" WHERE b.budget_id = '{budget}'")
    bills = case.query(f"SELECT coalesce(sum(raw_nanos), 0), count(*) FILTER (WHERE raw_nanos > 0) FROM spend.call WHERE '{tag}' = ANY (tags)")
    print(f"  {passed} more calls passed before the first refusal, {status}, at {spent / limit:.0%} of the budget.")
    print(f"\n  The refusal says:     {error['message']}")
    print(f"  budget_window says:   spent_nanos {window[0][0]}, held_nanos {window[0][1]}")
    print(f"  the bills add up to:  {bills[0][0]} nanos in {bills[0][1]} calls of this tag that cost anything")
    must(error["message"].endswith(f"Current cost: {usd(spent)[1:]}, Max budget: {usd(limit)[1:]}") and spent == limit
         and int(window[0][0]) == int(bills[0][0]) == int(spent * 10**9) and window[0][1] == "0", "S2 did not end as it must")


def gate_absent(case):
    """S3"""
    user = f"bob-{case.run}"
    first, digest = case.key("first", user=user)
    second, _ = case.key("second", user=user)
    case.known()
    key_budget, user_budget = case.budget("s3-key", "key", digest, Decimal("0.05")), case.budget("s3-user", "user", user, Decimal("0.06"))
    suspense = case.balance(SUSPENSE)
    print(f"\nOnce, a key at $0.540408 of a $0.05 budget kept working, and so did users over theirs. Here a key has $0.05, its user, who has a\n"
          f"second key, $0.06. A call costs {usd(ONE)}. Every other call is untagged: nobody's account pays for it, the budgets count it all the same.")
    sent = {"tagged": 0, "untagged": 0}

    def send(key):
        way = "tagged" if sum(sent.values()) % 2 == 0 else "untagged"
        found = case.call(case.body(), [f"account_id={case.account}"] if way == "tagged" else (), key)
        sent[way] += found[0] == 200
        return found
    rows = []
    for name, key, budget in (("first key", first, key_budget), ("second key", second, user_budget)):
        passed, status, _, error = case.until_refused(lambda key=key: send(key))
        wait_for("the bills", lambda: case.amounts(user_budget)[1] == 0 and case.amounts(key_budget)[1] == 0)
        for way, tags in (("tagged", [f"account_id={case.account}"]), ("untagged", ())):
            status, _, error = case.call(case.body(), tags, key)
            blocking = ", ".join(named["scope"] for named in error["budgets"])
            rows.append([name, passed, way, f"{status} {error['type']}", blocking, error["message"]])
            must(budget in [named["budget_id"] for named in error["budgets"]], "S3 did not end as it must")
    table("What the gate did", ["caller", "let through", "next call", "answer", "which budget", "message"], rows)
    spent = [case.amounts(budget)[0] for budget in (key_budget, user_budget)]
    now = case.balance(SUSPENSE)
    print(f"\n  The key stands at {usd(spent[0])} of $0.05, the user at {usd(spent[1])} of $0.06. {sent['tagged']} calls were tagged, {sent['untagged']} not;\n"
          f"  what the untagged ones cost waits in {SUSPENSE}: {usd(suspense)} before, {usd(now)} after.")
    must(spent == [Decimal("0.05"), Decimal("0.06")] and suspense - now >= sent["untagged"] * ONE and sent["untagged"] > 0, "S3 did not end as it must")


def reset_forgotten(case):
    """S4"""
    case.known()
    seconds, tag = 20, f"tenant=s4-{case.run}"
    tags = [f"account_id={case.account}", tag]
    budget = case.budget("s4", "tag", tag, 2 * ONE, {"kind": "interval", "seconds": seconds})
    print(f"\nOnce, a reset job knew keys, users and teams but no tags: the date moved on, the spend stayed, and calls were refused for ever.\n"
          f"Here the tag has {usd(2 * ONE)} every {seconds} s, and there is no reset job: what is spent stands in a row a window.")
    passed, status, headers, error = case.until_refused(lambda: case.call(case.body(), tags))
    end = error["budgets"][0]["window_end"]
    wait_for("the bills", lambda: case.amounts(budget) == (2 * ONE, 0))
    status, headers, error = case.call(case.body(), tags)
    print(f"\n  {passed} calls passed, then {status}: {error['message']}\n  The window ends at {end}; Retry-After said {headers['retry-after']} s.")
    pid = int((case.dir / "run" / "ledger.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    print("  The ledger is killed before that, and nobody calls.")
    wait_for("the window's end", lambda: case.query(f"SELECT clock_timestamp() > '{end}'::timestamptz") == [["t"]])
    up = Path(__file__).resolve().parents[1] / "up"
    done = subprocess.run([str(up), "--dir", str(case.dir), "--bin", case.env["PATH"].split("'")[0], "--only", "ledger"],
                          capture_output=True, text=True, check=False)
    must(done.returncode == 0, done.stdout + done.stderr)
    windows = ("SELECT w.window_start, w.window_end, w.spent_nanos FROM spend.budget_window w JOIN spend.budget b ON b.id = w.budget"
               f" WHERE b.budget_id = '{budget}' ORDER BY 1")
    wait_for("the next window", lambda: len(case.query(windows)) >= 2)
    print(f"  It is back after the end, and still nobody calls: Postgres has the next window, and one reset row for each that ended: {seconds} s each.")
    wait_for("another window, idle", lambda: len(case.query(windows)) >= 3)
    table("spend.budget_window", ["window_start", "window_end", "spent_nanos"], case.query(windows))
    rows = case.api("GET", f"/v1/budgets/{budget}/resets")["items"]
    table("GET /v1/budgets/../resets", ["window_end", "spent", "actor"], [[row["window_end"], row["spent"], row["actor"]] for row in reversed(rows)])
    ended = [row for row in rows if row["window_end"] == end]
    status, _, error = case.call(case.body(), tags)
    print(f"\n  A call in the new window answers {status}.")
    must(status == 200 and len(ended) == 1 and Decimal(ended[0]["spent"]) == 2 * ONE
         and len({row["window_end"] for row in rows}) == len(rows), "S4 did not end as it must")


if __name__ == "__main__":
    main(__doc__, {"S1": header_bypass, "S2": phantom_spend, "S3": gate_absent, "S4": reset_forgotten}, make=Case)
