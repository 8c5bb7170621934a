"""The ledger's API on a real Postgres: each endpoint, what it refuses and how it says so, and what it leaves behind."""

import json
import socket
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

import pytest

from ledger_bench import attributed, key_hash
from oracle import avro, build
from stack import ROOT, http, wait_until

PRICE_FILE = ROOT / "tests/testdata/litellm/model_prices.json"
LEAD_S = 60


def fresh(kind):
    return f"{kind}-{uuid.uuid4().hex[:10]}"


def put(api, path, **body):
    status, document = api("PUT", path, body)
    assert status == 200, document
    return document


def refused(answer, status, kind, *words):
    """The answer is an error of that status and type, its message holds the words, and it says what to do."""
    assert answer[0] == status, answer
    error = answer[1]["error"]
    assert error["type"] == kind and error["hint"], error
    for word in words:
        assert word in error["message"] + " " + error["hint"], (word, error)
    return error


LIMITS = (1, 3, 10)


def pages(api, path, limit):
    """Every item of a list, page after page; each page but the last is full."""
    items, cursor, sep = [], "", "&" if "?" in path else "?"
    while cursor is not None:
        status, page = api("GET", f"{path}{sep}limit={limit}{cursor and '&cursor=' + cursor}", token="reader")
        assert status == 200 and (len(page["items"]) == limit or page["next"] is None), page
        items += page["items"]
        cursor = page["next"]
    return items


def at(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def registry_record(bench, key):
    """The newest record of a key on spend.registry, once it is there."""
    def there():
        bench.config.refresh()
        found = [r for r in bench.config.records["spend.registry"] if r.key == key.encode()]
        return found and avro.REGISTRY.decode(found[-1].value)
    return wait_until(there, 20, f"{key} on spend.registry")


# -- who may ask

def test_time_is_postgres_s_and_for_every_token(bench, api):
    for token in ("operator", "reader", "ingest"):
        status, document = api("GET", "/v1/time", token=token)
        assert status == 200 and abs(document["time_us"] - time.time() * 1e6) < 5e6
        assert at(document["time"]).timestamp() * 1e6 == pytest.approx(document["time_us"], abs=2)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer wrong-token", "Basic b3A6", "operator"])
def test_without_a_valid_token_nothing_is_answered(bench, header):
    url = bench.stack.services["ledger"].url
    status, headers, raw = http("GET", url + "/v1/accounts", headers={} if header is None else {"Authorization": header})
    refused((status, json.loads(raw)), 401, "unauthorized", "Bearer")
    assert headers["WWW-Authenticate"] == "Bearer" and headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(("method", "path"), [
    ("PUT", "/v1/accounts/x"), ("POST", "/v1/accounts/x/credits"), ("PUT", "/v1/tiers/x"), ("PUT", f"/v1/keys/{'0' * 64}"),
    ("PUT", "/v1/tasks/x"), ("POST", "/v1/tasks/x/finish"), ("PUT", "/v1/conversations/x"), ("PUT", "/v1/models/x"),
    ("POST", "/v1/prices")])
def test_a_reader_reads_and_writes_nothing(bench, api, method, path):
    before = bench.query("SELECT count(*) FROM admin_audit")
    refused(api(method, path, {}, token="reader"), 403, "forbidden", "operator")
    refused(api(method, path, {}, token="ingest"), 403, "forbidden", "operator")
    assert bench.query("SELECT count(*) FROM admin_audit") == before


@pytest.mark.parametrize("path", ["/v1/accounts", "/v1/prices", "/v1/dead-letters", "/v1/calls/01a20777-d6c0-7000-849f-dd097982ac6d"])
def test_the_ingest_token_reads_no_ledger(api, path):
    refused(api("GET", path, token="ingest"), 403, "forbidden")


# -- paths, queries, bodies

def test_unknown_paths_and_methods_are_told_apart(api):
    for path in ("/", "/v1", "/v1/nothing", "/v1/accounts/a/b/c", "/v2/accounts"):
        refused(api("GET", path), 404, "not_found")
    refused(api("POST", "/v1/accounts"), 405, "method_not_allowed")
    refused(api("PUT", "/v1/time"), 405, "method_not_allowed")
    for method in ("DELETE", "OPTIONS", "PATCH"):
        refused(api(method, "/v1/accounts/x"), 405, "method_not_allowed")
    refused(api("GET", "/v1/calls/not-a-uuid"), 404, "not_found", "x-spend-call-id")


@pytest.mark.parametrize("path", ["/v1/accounts/%", "/v1/accounts/%zz", "/v1/accounts/%00", "/v1/accounts/%ff",
                                  "/v1/accounts?limit=0", "/v1/accounts?limit=1001", "/v1/accounts?limit=x",
                                  "/v1/accounts?cursor=zz", "/v1/prices/zero/models/x"])
def test_malformed_targets_are_refused(api, path):
    refused(api("GET", path), 400, "invalid")


def test_an_unknown_query_parameter_is_named(api):
    refused(api("GET", "/v1/accounts?limt=5"), 400, "unknown_parameter", "limt")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'{"account_id":"a"} x', b'{"account_id":"a","account_id":"b"}',
                                  b'{"account_id":5}', b'{"account_id":""}', b'{"account_id":"~x"}', b'{"account_id":"\xff"}',
                                  b'{"account_id":"a\\u0000b"}', b"[" * 60000,
                                  json.dumps({"account_id": "x" * 129}).encode()])
def test_bodies_that_are_no_task_are_refused(api, body):
    refused(api("PUT", f"/v1/tasks/{fresh('t')}", body), 400, "invalid")


def test_a_misspelt_field_is_refused_by_name(bench, api):
    name = fresh("a")
    refused(api("PUT", f"/v1/accounts/{name}", {"name": "x", "teir": "default"}), 400, "unknown_field", "teir", "tier")
    refused(api("GET", f"/v1/accounts/{name}"), 404, "not_found", name)


def test_bodies_have_a_cap(bench, api):
    big = b'{"name":"' + b"x" * 70_000 + b'"}'
    refused(api("PUT", "/v1/accounts/x", big), 413, "too_large")
    refused(api("POST", "/v1/prices", b"x" * (9 << 20)), 413, "too_large")


def test_the_ledger_s_time_is_never_behind_its_configuration(bench, api):
    """Calls are admitted by it: after Postgres's clock was set back they must still see what was configured before."""
    bench.execute("UPDATE config_version SET watermark = clock_timestamp() + '3 s'::interval")
    ahead = bench.query("SELECT watermark FROM config_version")[0]["watermark"]
    assert at(api("GET", "/v1/time")[1]["time"]) >= ahead
    account = bench.account()
    recorded = at(api("GET", f"/v1/accounts/{account}")[1]["versions"][0]["recorded_at"])
    assert ahead < recorded <= at(api("GET", "/v1/time")[1]["time"])


def test_two_content_lengths_are_refused(bench):
    ledger = bench.stack.services["ledger"]
    with socket.create_connection(("127.0.0.1", ledger.port), timeout=10) as raw:
        raw.sendall(b"GET /v1/time HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 400")


# -- accounts and tiers

def test_an_account_is_made_read_and_listed(bench, api):
    name = "kunde/öst & co"
    path = f"/v1/accounts/{quote(name, safe='')}"
    made = put(api, path, name="Öst", overdraft_limit="12.5")
    assert (made["account_id"], made["name"], made["tier"], made["markup"]) == (name, "Öst", "default", "1")
    assert (made["balance"], made["held"], made["overdraft_limit"]) == ("0", "0", "12.5")
    assert [v["effective_from"] for v in made["versions"]] == ["1970-01-01T00:00:00.000000Z"]
    assert api("GET", path) == (200, made)
    assert api("GET", path, token="reader") == (200, made)
    listed, cursor = [], ""
    while cursor is not None:
        _, page = api("GET", f"/v1/accounts?limit=2{cursor and '&cursor=' + cursor}")
        assert len(page["items"]) <= 2
        listed += page["items"]
        cursor = page["next"]
    ids = [item["account_id"] for item in listed]
    assert made in listed and "~suspense/untagged" in ids and len(ids) == len(set(ids))
    record = registry_record(bench, f"account:{name}")
    assert [(v["effective_from"], v["tier"]) for v in record["versions"]] == [(0, "default")]


def test_suspense_accounts_are_read_but_nobody_writes_them(api):
    assert api("GET", "/v1/accounts/~suspense%2Funtagged")[0] == 200
    refused(api("PUT", "/v1/accounts/~mine", {}), 400, "invalid", "~")
    refused(api("POST", "/v1/accounts/~suspense%2Funtagged/credits",
                {"external_id": "x", "kind": "top_up", "amount": "1"}), 400, "invalid")


def test_what_an_account_s_body_leaves_out_stays(bench, api):
    name = fresh("a")
    put(api, f"/v1/accounts/{name}", name="first", overdraft_limit="5")
    assert put(api, f"/v1/accounts/{name}", name="second")["overdraft_limit"] == "5"
    assert put(api, f"/v1/accounts/{name}", overdraft_limit=None)["overdraft_limit"] is None
    last = put(api, f"/v1/accounts/{name}")
    assert last["name"] == "second" and len(last["versions"]) == 1


def test_an_unknown_tier_is_refused_with_what_to_do(api):
    refused(api("PUT", f"/v1/accounts/{fresh('a')}", {"tier": "gold-plated"}), 400, "invalid", "gold-plated", "/v1/tiers")


def test_the_same_value_again_writes_nothing(bench, api):
    name, tier = fresh("a"), fresh("tier")
    first = put(api, f"/v1/tiers/{tier}", markup="1.30")
    put(api, f"/v1/accounts/{name}", name="x", tier=tier)
    before = bench.query("SELECT version, (SELECT count(*) FROM admin_audit) AS audits FROM config_version")
    assert put(api, f"/v1/tiers/{tier}", markup="1.3") == first
    assert put(api, f"/v1/tiers/{tier}", markup="1.300000") == first
    put(api, f"/v1/accounts/{name}", name="x", tier=tier)
    assert bench.query("SELECT version, (SELECT count(*) FROM admin_audit) AS audits FROM config_version") == before


def test_a_later_version_holds_from_the_lead_on_and_no_earlier(bench, api):
    tier = fresh("tier")
    put(api, f"/v1/tiers/{tier}", markup="1.30")
    now = datetime.now(timezone.utc)
    for early in (now - timedelta(days=1), now, now + timedelta(seconds=LEAD_S - 5)):
        refused(api("PUT", f"/v1/tiers/{tier}", {"markup": "2", "effective_from": early.isoformat()}), 400, "too_early",
                "cannot bill calls of the past")
    second = put(api, f"/v1/tiers/{tier}", markup="2")
    assert at(second["effective_from"]) - at(second["recorded_at"]) == timedelta(seconds=LEAD_S)
    later = now + timedelta(days=30)
    third = put(api, f"/v1/tiers/{tier}", markup="3", effective_from=later.isoformat())
    assert at(third["effective_from"]) == later
    assert [v["markup"] for v in third["versions"]] == ["1.3", "2", "3"]
    record = registry_record(bench, f"tier:{tier}")
    assert [v["markup_ppm"] for v in record["versions"]] == [1_300_000, 2_000_000, 3_000_000]
    assert record["versions"][0]["effective_from"] == 0
    assert all(v["recorded_at"] > 0 for v in record["versions"])


def test_what_was_another_in_between_did_not_hold_ever_since(bench, api):
    tier = fresh("tier")
    put(api, f"/v1/tiers/{tier}", markup="1")
    for year, markup_ppm in ((2021, 2_000_000), (2022, 1_000_000)):
        bench.execute("WITH now AS (SELECT * FROM config_begin()) INSERT INTO tier SELECT %s, %s, recorded_at, %s, version"
                      " FROM now", (tier, datetime(year, 1, 1, tzinfo=timezone.utc), markup_ppm))
    past = {"markup": "1", "effective_from": "2020-06-01T00:00:00Z"}
    refused(api("PUT", f"/v1/tiers/{tier}", past), 400, "too_early", "calls of the past")
    past["effective_from"] = "2022-06-01T00:00:00Z"
    assert api("PUT", f"/v1/tiers/{tier}", past)[0] == 200


def test_what_a_change_is_compared_with_is_what_holds_from_when_it_is_wanted(api):
    """Not with the version recorded last: that one may be planned for later only, or be over by then."""
    tier, path = fresh("tier"), "/v1/tiers/"
    planned = (datetime.now(timezone.utc) + timedelta(days=30)).isoformat()

    def markups(document):
        return [v["markup"] for v in document["versions"]]
    put(api, path + tier, markup="1")
    assert markups(put(api, path + tier, markup="1.3", effective_from=planned)) == ["1", "1.3"]
    refused(api("PUT", path + tier, {"markup": "1.3", "effective_from": "2020-06-01T00:00:00Z"}), 400, "too_early", "cannot bill calls of the past")
    # from the past the value that holds is no change; what held then, and does not soon, is one
    past = {"markup": "1", "effective_from": "2020-06-01T00:00:00Z"}
    assert api("PUT", path + tier, past)[0] == 200
    # wanted now, not in 30 days
    now = put(api, path + tier, markup="1.3")
    refused(api("PUT", path + tier, past), 400, "too_early", "cannot bill calls of the past")
    assert markups(now) == ["1", "1.3", "1.3"] and at(now["effective_from"]) < at(planned) - timedelta(days=29)
    assert put(api, path + tier, markup="1.3") == now
    # a plan is taken back by a version of the same time
    tier = fresh("tier")
    put(api, path + tier, markup="1")
    put(api, path + tier, markup="1.3", effective_from=planned)
    back = put(api, path + tier, markup="1", effective_from=planned)
    assert markups(back) == ["1", "1.3", "1"] and at(back["effective_from"]) == at(planned)
    assert put(api, path + tier, markup="1", effective_from=planned) == back == put(api, path + tier, markup="1")


def test_an_account_s_tier_and_markup_are_those_in_force_now(api):
    name, old, new = fresh("a"), fresh("tier"), fresh("tier")
    put(api, f"/v1/tiers/{old}", markup="1.1")
    put(api, f"/v1/tiers/{new}", markup="1.2")
    put(api, f"/v1/accounts/{name}", tier=old)
    changed = put(api, f"/v1/accounts/{name}", tier=new)
    assert (changed["tier"], changed["markup"]) == (old, "1.1")
    assert [v["tier"] for v in changed["versions"]] == [old, new]


@pytest.mark.parametrize("markup", ["-1", "1.0000001", "", "1e3", "x", 1.5, True, None, [], "9" * 30])
def test_a_markup_is_a_plain_decimal(api, markup):
    refused(api("PUT", f"/v1/tiers/{fresh('t')}", {"markup": markup}), 400, "invalid", "markup")


def test_a_history_is_bounded_and_no_needed_version_is_lost(bench, api):
    tier = fresh("tier")
    put(api, f"/v1/tiers/{tier}", markup="1")
    for n in range(63):
        put(api, f"/v1/tiers/{tier}", markup=f"1.{n + 1:02}")
    refused(api("PUT", f"/v1/tiers/{tier}", {"markup": "9"}), 409, "too_many_versions", "400")
    assert len(registry_record(bench, f"tier:{tier}")["versions"]) == 64
    # once the first one that would stay has held for longer than calls are kept, the oldest may go
    bench.execute("UPDATE tier SET effective_from = now() - '401 days'::interval WHERE name = %s AND markup_ppm = 1010000",
                  (tier,))
    assert len(put(api, f"/v1/tiers/{tier}", markup="9")["versions"]) == 65
    record = wait_until(lambda: [r for r in [registry_record(bench, f"tier:{tier}")]
                                 if r["versions"][-1]["markup_ppm"] == 9_000_000], 20, "the new version")[0]
    assert len(record["versions"]) == 64 and record["versions"][0]["markup_ppm"] == 1_010_000


def test_concurrent_writers_make_one_version_each_in_one_order(bench, api):
    tier = fresh("tier")
    put(api, f"/v1/tiers/{tier}", markup="1")
    second = bench.start("ledger", "ledger-2") and bench.stack.services["ledger-2"]
    answers = []

    def write(ledger, markup):
        answers.append(bench.stack.api("PUT", f"/v1/tiers/{tier}", {"markup": markup}, ledger=ledger))
    threads = [threading.Thread(target=write, args=(ledger, f"1.{n:02}"))
               for n in range(1, 9) for ledger in ("ledger", second.name)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers] == [200] * 16
    rows = bench.query("SELECT markup_ppm, recorded_at, config_version FROM tier WHERE name = %s ORDER BY config_version",
                       (tier,))
    assert all(a["markup_ppm"] != b["markup_ppm"] and a["recorded_at"] < b["recorded_at"] for a, b in zip(rows, rows[1:]))
    record = registry_record(bench, f"tier:{tier}")
    wait_until(lambda: len(registry_record(bench, f"tier:{tier}")["versions"]) == len(rows), 20, "all versions published")
    assert record["id"] == tier


# -- credits and entries

def credit(api, account, amount, external_id=None, kind="top_up", **more):
    return api("POST", f"/v1/accounts/{account}/credits",
               {"external_id": external_id or fresh("c"), "kind": kind, "amount": amount, **more})


def test_a_credit_is_posted_once_for_its_external_id(bench, api):
    account = bench.account()
    status, first = credit(api, account, "10.25", "po-1", note="by wire")
    assert status == 201
    assert (first["account_seq"], first["amount"], first["balance_after"], first["kind"]) == (1, "10.25", "10.25", "top_up")
    assert credit(api, account, "10.25", "po-1", note="by wire") == (200, first)
    assert credit(api, account, "10.250000000", "po-1") == (200, first)
    refused(credit(api, account, "10.26", "po-1"), 409, "conflict", "10.25", "external_id")
    refused(credit(api, account, "10.25", "po-1", kind="grant"), 409, "conflict")
    assert api("GET", f"/v1/accounts/{account}")[1]["balance"] == "10.25"
    assert bench.amounts(account) == [("top_up", 10_250_000_000)]
    # the same external_id of another account is another credit
    assert credit(api, bench.account(), "1", "po-1")[0] == 201


@pytest.mark.parametrize(("amount", "kind"), [("0", "top_up"), ("-1", "top_up"), ("-0.5", "refund"), (1.5, "top_up"),
                                              ("1.0000000001", "top_up"), ("1e2", "top_up"), ("", "top_up"),
                                              ("99999999999999", "top_up"), (None, "top_up"), ("1", "deduction"),
                                              ("1", "gift"), ("1", 5)])
def test_what_is_no_credit_is_refused(bench, api, amount, kind):
    account = bench.account()
    refused(credit(api, account, amount, kind=kind), 400, "invalid")
    assert bench.amounts(account) == []


def test_amounts_may_be_integers_and_an_opening_may_be_a_debt(bench, api):
    account = bench.account()
    assert credit(api, account, 3)[1]["balance_after"] == "3"
    assert credit(api, account, "-7.5", kind="opening")[1]["balance_after"] == "-4.5"
    assert credit(api, account, "0.000000001", kind="grant")[1]["balance_after"] == "-4.499999999"


def test_a_credit_needs_an_account_and_cannot_overflow_it(bench, api):
    refused(credit(api, "nobody-here", "1"), 404, "not_found", "PUT /v1/accounts")
    account = bench.account()
    assert credit(api, account, "9000000000")[0] == 201
    refused(credit(api, account, "9000000000"), 400, "invalid", "range")
    assert bench.amounts(account) == [("top_up", 9_000_000_000 * 10**9)]


def test_two_clients_and_two_ledgers_credit_one_account_without_gap_or_double(bench, api):
    bench.start("ledger", "ledger-2")
    account = bench.account()
    answers = []

    def run(ledger):
        for n in range(30):
            answers.append(bench.stack.api("POST", f"/v1/accounts/{account}/credits", {
                "external_id": f"c-{n}", "kind": "top_up", "amount": f"0.{n + 1:03}"}, ledger=ledger))
    threads = [threading.Thread(target=run, args=(name,)) for name in ("ledger", "ledger-2", "ledger", "ledger-2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in answers) == [200] * 90 + [201] * 30
    entries = bench.entries(account)
    assert [e["account_seq"] for e in entries] == list(range(1, 31))
    assert bench.balance(account) == sum((n + 1) * 1_000_000 for n in range(30)) == entries[-1]["balance_after_nanos"]
    bench.settle()
    bench.check_entries()


def test_entries_are_listed_in_order_over_pages(bench, api):
    account = bench.account()
    for n in range(25):
        credit(api, account, str(n + 1))
    for limit in LIMITS:
        items = pages(api, f"/v1/accounts/{account}/entries", limit)
        assert [(e["account_seq"], e["amount"], e["balance_after"]) for e in items] == [
            (n, str(n), str(n * (n + 1) // 2)) for n in range(1, 26)]
    assert all(e["kind"] == "top_up" and e["call_id"] is None and e["cause"] == "credit" for e in items)
    refused(api("GET", "/v1/accounts/nobody-here/entries"), 404, "not_found")
    cursor = api("GET", f"/v1/accounts/{account}/entries?limit=3")[1]["next"]
    refused(api("GET", f"/v1/tiers?cursor={cursor}"), 400, "invalid", "next")


def test_every_change_is_audited_with_who_made_it(bench, api):
    account = bench.account()
    credit(api, account, "2", "audited")
    rows = bench.query("SELECT role, action, detail FROM admin_audit WHERE object = %s ORDER BY id", (account,))
    assert [(row["role"], row["action"]) for row in rows] == [("operator", "put account"), ("operator", "post credit")]
    assert rows[1]["detail"] == {"external_id": "audited", "kind": "top_up", "amount": "2"}


# -- keys, tasks, conversations, models

def test_a_key_is_named_by_its_hash_and_never_by_itself(bench, api):
    account, key = bench.account(), key_hash(fresh("sk"))
    made = put(api, f"/v1/keys/{key.upper()}", account_id=account, user="u1", team="t1", tags=["env=prod"],
               tag_policy={"require": ["task"], "trust": "any"})
    assert (made["key_hash"], made["account_id"], made["user"], made["tags"]) == (key, account, "u1", ["env=prod"])
    assert api("GET", f"/v1/keys/{key}") == (200, made)
    record = registry_record(bench, f"key:{key}")["versions"][-1]
    assert (record["account_id"], record["tags"], record["tag_policy"]["require"], record["tag_policy"]["trust"]) == (
        account, ["env=prod"], ["task"], "any")
    secret = "sk-" + uuid.uuid4().hex
    error = refused(api("PUT", f"/v1/keys/{secret}", {"account_id": account}), 400, "invalid", "SHA-256")
    assert secret not in json.dumps(error)
    assert secret not in bench.stack.services["ledger"].log()
    assert not bench.query("SELECT 1 FROM admin_audit WHERE object LIKE %s", (f"%{secret}%",))


def test_a_key_s_binding_is_replaced_whole(bench, api):
    account, key = bench.account(), key_hash(fresh("sk"))
    put(api, f"/v1/keys/{key}", account_id=account, tags=["a=b"])
    unbound = put(api, f"/v1/keys/{key}", user="u2")
    assert (unbound["account_id"], unbound["tags"], unbound["user"]) == (None, [], "u2")
    assert [v["account_id"] for v in unbound["versions"]] == [account, None]
    assert put(api, f"/v1/keys/{key}", user="u2") == unbound


def test_the_longest_history_of_a_key_is_read_by_every_ledger(bench, api):
    account, key = bench.account(), key_hash(fresh("sk"))
    path = f"/v1/keys/{key}"
    answers = [api("PUT", path, {"tags": [f"{n:03}-{i:03}".ljust(252, "x") for i in range(64)]}) for n in range(63)]
    assert [status for status, _ in answers[:62]] == [200] * 62
    refused(answers[62], 400, "invalid")  # a record on spend.registry has no room for more
    call = build.call()
    bench.feeder.bill(attributed(call, account, 5_000))
    bench.settle()
    assert bench.amounts(account) == [("deduction", -5_000)]
    bench.stack.services["ledger"].stop()
    bench.start()
    status, listed = api("GET", path)
    assert status == 200 and len(listed["versions"]) == 62
    assert len(registry_record(bench, f"key:{key}")["versions"]) == 62


@pytest.mark.parametrize("body", [{"account_id": "nobody-here"}, {"tags": "a"}, {"tags": [1]}, {"tags": [""]},
                                  {"tags": ["x" * 257]}, {"tags": ["t"] * 65}, {"tag_policy": "any"},
                                  {"tag_policy": {"trust": "all"}}, {"tag_policy": {"trust": "list"}},
                                  {"tag_policy": {"accounts": ["x"]}},
                                  {"tag_policy": {"trust": "list", "accounts": ["nobody-here"]}}])
def test_what_is_no_key_binding_is_refused(api, body):
    refused(api("PUT", f"/v1/keys/{key_hash('k')}", body), 400, "invalid")
    refused(api("GET", f"/v1/keys/{key_hash('k')}"), 404, "not_found")


def test_a_task_s_place_is_set_once(bench, api):
    account, other, task, talk = bench.account(), bench.account(), fresh("task"), fresh("talk")
    put(api, f"/v1/conversations/{talk}", account_id=account)
    made = put(api, f"/v1/tasks/{task}", account_id=account, conversation_id=talk)
    assert put(api, f"/v1/tasks/{task}", account_id=account, conversation_id=talk) == made
    assert put(api, f"/v1/tasks/{task}", account_id=account) == made
    refused(api("PUT", f"/v1/tasks/{task}", {"account_id": other}), 409, "conflict", task)
    refused(api("PUT", f"/v1/tasks/{task}", {"account_id": account, "conversation_id": fresh("c")}), 409, "conflict")
    refused(api("PUT", f"/v1/conversations/{talk}", {"account_id": other}), 409, "conflict", talk)
    refused(api("PUT", f"/v1/tasks/{fresh('t')}", {"account_id": other, "conversation_id": talk}), 409, "conflict", talk)
    refused(api("PUT", f"/v1/tasks/{fresh('t')}", {"account_id": "nobody-here"}), 400, "invalid", "nobody-here")
    refused(api("PUT", f"/v1/tasks/{fresh('t')}", {}), 400, "invalid", "account_id")
    record = registry_record(bench, f"task:{task}")["versions"]
    assert [(v["effective_from"], v["account_id"], v["conversation_id"]) for v in record] == [(0, account, talk)]
    assert registry_record(bench, f"conversation:{talk}")["versions"][0]["account_id"] == account


def test_a_conversation_is_not_registered_away_from_its_tasks(bench, api):
    account, other, task, talk = bench.account(), bench.account(), fresh("task"), fresh("talk")
    put(api, f"/v1/tasks/{task}", account_id=account, conversation_id=talk)
    before = bench.query("SELECT version, (SELECT count(*) FROM admin_audit) AS audits FROM config_version")
    refused(api("PUT", f"/v1/conversations/{talk}", {"account_id": other}), 409, "conflict", talk, task)
    assert bench.query("SELECT version, (SELECT count(*) FROM admin_audit) AS audits FROM config_version") == before
    refused(api("GET", f"/v1/conversations/{talk}"), 404, "not_found", talk)
    assert put(api, f"/v1/conversations/{talk}", account_id=account)["account_id"] == account
    # a label that tasks of two accounts name has no account it could be registered for
    label = fresh("label")
    for owner in (account, other):
        put(api, f"/v1/tasks/{fresh('task')}", account_id=owner, conversation_id=label)
    for owner in (account, other):
        refused(api("PUT", f"/v1/conversations/{label}", {"account_id": owner}), 409, "conflict", label)


def test_a_task_and_its_conversation_written_at_once_never_part(bench, api):
    """Each is checked under the lock that the other is written under."""
    bench.start("ledger", "ledger-2")
    account, other = bench.account(), bench.account()
    for _ in range(20):
        task, talk, answers = fresh("task"), fresh("talk"), []
        gate = threading.Barrier(2)

        def write(ledger, path, body, gate=gate, answers=answers):
            gate.wait()
            answers.append(bench.stack.api("PUT", path, body, ledger=ledger))
        threads = [threading.Thread(target=write, args=row) for row in (
            ("ledger", f"/v1/tasks/{task}", {"account_id": account, "conversation_id": talk}),
            ("ledger-2", f"/v1/conversations/{talk}", {"account_id": other}))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(status for status, _ in answers) == [200, 409], answers


def test_a_model_alias_has_a_history(bench, api):
    alias = "azure/" + fresh("m")
    path = f"/v1/models/{quote(alias, safe='')}"
    assert put(api, path, price_key="gpt-4o")["price_key"] == "gpt-4o"
    assert [v["price_key"] for v in put(api, path, price_key="gpt-4o-mini")["versions"]] == ["gpt-4o", "gpt-4o-mini"]
    assert registry_record(bench, f"model:{alias}")["versions"][0]["price_key"] == "gpt-4o"
    # the second holds in a minute: what a call costs now is the first's price
    status, model = api("GET", f"/v1/prices/current/models/{quote(alias, safe='')}")
    assert (status, model["alias_of"], model["price_key"]) == (200, "gpt-4o", "gpt-4o")
    refused(api("PUT", path, {"price_key": "k" * 513}), 400, "invalid", "price_key")


@pytest.mark.parametrize(("kind", "name", "table"), [
    ("accounts", "account_id", "account"), ("tiers", "name", "tier"), ("keys", "key_hash", "api_key"),
    ("tasks", "task_id", "task"), ("conversations", "conversation_id", "conversation"), ("models", "alias", "model_alias")])
def test_every_kind_of_fact_is_listed_once_and_in_order(bench, api, kind, name, table):
    account = bench.account()
    bodies = {"accounts": {}, "tiers": {"markup": "1"}, "keys": {"account_id": account}, "tasks": {"account_id": account},
              "conversations": {"account_id": account}, "models": {"price_key": "gpt-4o"}}
    made = {}
    for n in range(13):  # ids whose order as numbers and as text differ
        fact = key_hash(fresh("k")) if kind == "keys" else f"{n}-{fresh('l')}"
        made[fact] = put(api, f"/v1/{kind}/{fact}", **bodies[kind])
    ids = [row["id"] for row in bench.query(f"SELECT DISTINCT {name} AS id FROM {table} ORDER BY {name}")]
    for limit in LIMITS:
        listed = pages(api, f"/v1/{kind}", limit)
        assert [item[name] for item in listed] == ids
    assert {item[name]: item for item in listed if item[name] in made} == made


def test_the_heartbeat_follows_every_write(bench, api):
    account = bench.account()
    recorded = bench.query("SELECT max(recorded_at) AS at FROM account_version v JOIN account a ON a.id = v.account"
                           " WHERE account_id = %s", (account,))[0]["at"].timestamp() * 1e6

    def beaten():
        bench.config.refresh()
        beats = [avro.REGISTRY.decode(r.value) for r in bench.config.records["spend.registry"] if r.key == b"heartbeat:config"]
        return beats and beats[-1]["watermark"] > recorded and beats[-1]["price_version"] >= 1
    wait_until(beaten, 20, "a heartbeat after the write")


# -- bills of tasks

def test_a_task_s_bill_goes_from_open_to_complete(bench, api):
    account, task = bench.account(), fresh("task")
    put(api, f"/v1/tasks/{task}", account_id=account)
    status, bill = api("GET", f"/v1/tasks/{task}/bill")
    assert (status, bill["status"], bill["calls"], bill["billed"], bill["cents"]) == (200, "open", 0, "0", 0)
    raws = (12_345_678, 2_654_322, 0)
    calls = [build.call([build.tag(f"task={task}")]) for _ in raws]
    for call, raw in zip(calls, raws):
        bench.feeder.bill(attributed(call, account, raw, task_id=task))
    bench.settle()
    bill = api("GET", f"/v1/tasks/{task}/bill")[1]
    assert (bill["status"], bill["calls"], bill["raw"], bill["billed"], bill["cents"]) == ("open", 3, "0.015", "0.015", 2)
    assert {c["call_id"] for c in bill["recent"]} == {str(uuid.UUID(bytes=c["call_id"])) for c in calls}
    finished = api("POST", f"/v1/tasks/{task}/finish")
    assert finished[0] == 200 and finished[1]["finished_at"]
    assert api("POST", f"/v1/tasks/{task}/finish") == finished
    assert api("GET", f"/v1/tasks/{task}/bill")[1]["status"] == "complete"


def test_a_finished_task_without_a_call_is_no_spend(bench, api):
    account, task = bench.account(), fresh("task")
    put(api, f"/v1/tasks/{task}", account_id=account)
    api("POST", f"/v1/tasks/{task}/finish")
    assert api("GET", f"/v1/tasks/{task}/bill")[1]["status"] == "no_spend"
    refused(api("POST", f"/v1/tasks/{fresh('t')}/finish"), 404, "not_found", "PUT /v1/tasks")


def test_a_label_s_bill_needs_its_account(bench, api):
    account, other, label = bench.account(), bench.account(), fresh("label")
    bench.feeder.bill(attributed(build.call(), account, 7_000_000, task_id=label))
    bench.settle()
    refused(api("GET", f"/v1/tasks/{label}/bill"), 404, "not_found", "account_id")
    refused(api("GET", f"/v1/tasks/{label}/bill?account_id={other}"), 404, "not_found")
    bill = api("GET", f"/v1/tasks/{label}/bill?account_id={account}")[1]
    assert (bill["status"], bill["calls"], bill["raw"], bill["account_id"]) == ("open", 1, "0.007", account)
    put(api, f"/v1/tasks/{label}", account_id=account)
    assert api("GET", f"/v1/tasks/{label}/bill")[1]["calls"] == 1
    refused(api("GET", f"/v1/tasks/{label}/bill?account_id={other}"), 409, "conflict")
