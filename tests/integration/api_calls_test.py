"""Calls, dead letters and price books through the ledger's API."""

import itertools
import json
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import quote

import pytest

from ledger_bench import attributed, dead, key_hash
from oracle import avro, build
from stack import wait_until
from api_test import LEAD_S, LIMITS, PRICE_FILE, at, fresh, pages, put, refused


def id_of(call):
    return str(uuid.UUID(bytes=call["call_id"]))


# gpt-4o in the shipped book: input 2.5e-6, cache_read 1.25e-6, output 1e-5 USD a token
USAGE = {"input": 1000, "cache_read": 200, "output": 350, "reasoning": 100}
RAW = 1000 * 2_500 + 200 * 1_250 + 350 * 10_000 + 100 * 10_000


def test_a_billed_call_tells_its_whole_story(bench, api):
    tier = fresh("tier")
    put(api, f"/v1/tiers/{tier}", markup="1.30")
    account = bench.account(tier)
    call = build.call([build.tag(f"account_id={account}", "header"), build.tag("colour=blue", "root", "metadata")],
                      key_hash=key_hash("k"), usage=build.usage(**USAGE), provider="openai", model_replied="gpt-4o",
                      reported_cost_nanos=77)
    refused(api("GET", f"/v1/calls/{id_of(call)}"), 404, "not_found")
    bench.feeder.bill(attributed(call, account, RAW, task_id="job", conversation_id="talk", user="u", team="t"))
    bench.settle()
    status, told = api("GET", f"/v1/calls/{id_of(call).upper()}", token="reader")
    assert status == 200 and told["call_id"] == id_of(call)
    assert (told["state"], told["reason"], told["hint"]) == ("billed", None, None)
    assert (told["outcome"], told["quality"], told["source"]) == (call["outcome"], call["quality"], "gateway")
    assert (told["account_id"], told["task"], told["conversation"], told["route"]) == (account, "job", "talk", "tag")
    assert (told["user"], told["team"], told["key_hash"]) == ("u", "t", key_hash("k"))
    assert told["tags"] == [f"account_id={account}", "colour=blue"]
    assert told["tag_origins"] == [["header"], ["root", "metadata"]]
    assert {k: v for k, v in told["usage"].items() if v is not None} == USAGE and told["usage"]["images"] is None
    assert (told["raw"], told["billed"], told["markup"]) == ("0.00725", "0.009425", "1.3")
    assert (told["price_version"], told["price_key"], told["rating"]) == (1, "gpt-4o", "exact")
    assert told["reported_cost"] == "0.000000077"
    assert told["origin"] == {"topic": "spend.calls", "partition": 0, "offset": 0}
    assert told["record"]["topic"] == "spend.attributed"
    (entry,) = told["entries"]
    assert (entry["account_id"], entry["kind"], entry["amount"], entry["raw"]) == (account, "deduction", "-0.009425", "0.00725")
    assert entry == api("GET", f"/v1/accounts/{account}/entries")[1]["items"][0]
    assert at(told["admitted_at"]).timestamp() * 1e6 == pytest.approx(call["admitted_at"], abs=2)


def test_lines_of_a_price_add_up_to_the_raw_cost(bench, api):
    account = bench.account()
    call = build.call(usage=build.usage(**USAGE), model_replied="gpt-4o")
    bench.feeder.bill(attributed(call, account, RAW))
    bench.settle()
    told = api("GET", f"/v1/calls/{id_of(call)}")[1]
    assert {line["class"]: line["units"] for line in told["lines"]} == USAGE
    assert all(Decimal(line["price"]) * line["units"] == Decimal(line["amount"]) for line in told["lines"])
    assert sum(Decimal(line["amount"]) for line in told["lines"]) == Decimal(told["raw"])
    assert {line["rate"] for line in told["lines"]} >= {"input_cost_per_token", "output_cost_per_token"}


def test_lines_that_would_not_add_up_are_not_shown(bench, api):
    account = bench.account()
    call = build.call(usage=build.usage(**USAGE), model_replied="gpt-4o")
    bench.feeder.bill(attributed(call, account, RAW + 1))
    bench.settle()
    told = api("GET", f"/v1/calls/{id_of(call)}")[1]
    assert told["lines"] is None and told["raw"] == "0.007250001"
    assert "ev=api_lines_differ" in bench.stack.services["ledger"].log()


def test_a_moved_call_shows_the_entries_of_both_accounts(bench, api):
    old, new = bench.account(), bench.account()
    log = build.call(source="proxy_log", source_id="x")
    bench.feeder.bill(attributed(log, old, 400))
    bench.settle()
    bench.feeder.bill(attributed({**log, "source": "gateway", "source_id": None}, new, 450))
    bench.settle()
    told = api("GET", f"/v1/calls/{id_of(log)}")[1]
    assert told["account_id"] == new
    assert sorted((e["account_id"], e["kind"], e["amount"]) for e in told["entries"]) == sorted([
        (old, "deduction", "-0.0000004"), (old, "reversal", "0.0000004"), (new, "deduction", "-0.00000045")])


def test_a_dead_letter_says_why_and_what_mends_it(bench, api):
    call = build.call([build.tag("colour=blue")])
    bench.feeder.letter(dead(call, "untagged", 900))
    bench.settle()
    told = api("GET", f"/v1/calls/{id_of(call)}")[1]
    assert (told["state"], told["reason"], told["detail"]) == ("dead", "untagged", "it is untagged")
    assert "account_id" in told["hint"] and told["account_id"] == "~suspense/untagged" and told["raw"] == "0.0000009"
    assert told["entries"][0]["amount"] == "-0.0000009"


def test_an_unpriced_call_has_no_amount_and_no_entry(bench, api):
    call = build.call(model_replied="no-such-model")
    bench.feeder.letter(dead(call, "unpriced", None))
    bench.settle()
    told = api("GET", f"/v1/calls/{id_of(call)}")[1]
    assert (told["state"], told["reason"], told["raw"], told["billed"]) == ("dead", "unpriced", None, None)
    assert told["entries"] == [] and told["lines"] is None and "price" in told["hint"].lower()


def test_dead_letters_are_listed_by_reason_over_pages(bench, api):
    mine = {reason: [build.call() for _ in range(13)] for reason in ("untagged", "unknown", "conflict")}
    for reason, calls in mine.items():
        for call in calls:
            bench.feeder.letter(dead(call, reason, 5))
    bench.settle()
    for reason, limit in itertools.product((*mine, None), LIMITS):
        listed = pages(api, "/v1/dead-letters" + (f"?reason={reason}" if reason else ""), limit)
        rows = bench.query("SELECT reason, call_id::text FROM call WHERE reason IS NOT NULL AND coalesce(%s, reason) = reason"
                           " ORDER BY reason, call_id", (reason,))
        assert [(item["reason"], item["call_id"]) for item in listed] == [(row["reason"], row["call_id"]) for row in rows]
        calls = mine[reason] if reason else sum(mine.values(), [])
        assert {id_of(call) for call in calls} <= {item["call_id"] for item in listed}
        assert all(item["raw"] and item["first_seen"] and item["detail"] for item in listed if item["reason"] != "unpriced")
    refused(api("GET", "/v1/dead-letters?reason=nonsense"), 400, "invalid", "nonsense")
    refused(api("GET", "/v1/dead-letters?reason=malformed"), 400, "invalid", "spend.dlq.malformed")


# -- price books

def test_the_first_book_ships_and_holds_from_the_start(bench, api):
    first = api("GET", "/v1/prices")[1]["items"][0]
    assert (first["version"], first["effective_from"]) == (1, "1970-01-01T00:00:00.000000Z")
    assert first["entries"] == first["added"] > 2000
    loaded = bench.query("SELECT count(*) AS n FROM price_book")
    bench.stack.migrate()
    assert bench.query("SELECT count(*) AS n FROM price_book") == loaded
    bench.config.refresh()
    book = avro.PRICES.decode([r for r in bench.config.records["spend.prices"] if r.key == b"1"][-1].value)
    assert book["effective_from"] == 0 and len(book["entries"]) == first["entries"]


def test_a_price_file_becomes_the_next_book_once(bench, api):
    prices = json.loads(PRICE_FILE.read_text())
    prices["gpt-4o"]["input_cost_per_token"] = 3e-06
    prices["brand-new"] = {"input_cost_per_token": 1e-06, "litellm_provider": "openai", "mode": "chat"}
    del prices["gpt-4o-mini"]
    body = json.dumps(prices).encode()
    before = len(api("GET", "/v1/prices")[1]["items"])
    status, dry = api("POST", "/v1/prices?dry_run=true", body)
    assert (status, dry["dry_run"], dry["version"], dry["added"], dry["changed"], dry["removed"]) == (
        200, True, before + 1, 1, 1, 1)
    assert dry["changes"] == [
        {"key": "brand-new", "what": "added", "name": None, "from": None, "to": None},
        {"key": "gpt-4o", "what": "changed", "name": "input_cost_per_token", "from": "0.0000025", "to": "0.000003"},
        {"key": "gpt-4o-mini", "what": "removed", "name": None, "from": None, "to": None}]
    assert dry["changes_left_out"] == 0
    assert len(api("GET", "/v1/prices")[1]["items"]) == before
    status, made = api("POST", "/v1/prices?source=mine.json", body)
    assert (status, made["version"], made["added"], made["changed"], made["removed"]) == (200, before + 1, 1, 1, 1)
    assert isinstance(made["rounded"], list) and isinstance(made["skipped"], list)
    listed = api("GET", "/v1/prices")[1]["items"][-1]
    assert (listed["version"], listed["source"]) == (made["version"], "mine.json")
    assert at(listed["effective_from"]) - at(listed["recorded_at"]) == timedelta(seconds=LEAD_S)
    status, again = api("POST", "/v1/prices", body)
    assert (status, again["unchanged"], again["version"]) == (200, True, made["version"])
    assert len(api("GET", "/v1/prices")[1]["items"]) == before + 1
    # not in force yet: the current book is the old one
    assert api("GET", "/v1/prices/current/models/gpt-4o")[1]["version"] == 1
    new = api("GET", f"/v1/prices/{made['version']}/models/gpt-4o")[1]
    assert {"name": "input_cost_per_token", "price": "0.000003"} in new["rates"]
    rows = bench.query("SELECT names, femtos FROM price WHERE version = %s AND key = 'gpt-4o'", (made["version"],))[0]
    assert dict(zip(rows["names"], rows["femtos"]))["input_cost_per_token"] == 3_000_000_000

    def published():
        bench.config.refresh()
        return [r for r in bench.config.records["spend.prices"] if r.key == str(made["version"]).encode()]
    book = avro.PRICES.decode(wait_until(published, 20, "the book on spend.prices")[-1].value)
    assert book["source"] == "mine.json" and any(e["key"] == "brand-new" for e in book["entries"])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"m":{"input_cost_per_token":-1}}', b'{}', b'{"m":5}', b'{"error":"not found"}',
                                  b'{"m":{"input_cost_per_token":1e-6},"m":{"input_cost_per_token":2e-6}}',
                                  b'{"m":{"input_cost_per_token":1e30}}'])
def test_a_file_that_is_not_whole_and_sound_is_refused_whole(bench, api, body):
    before = api("GET", "/v1/prices")[1]
    refused(api("POST", "/v1/prices", body), 400, "invalid_prices", "nothing")
    assert api("GET", "/v1/prices")[1] == before


def test_a_book_of_the_past_is_refused_and_its_options_are_checked(api):
    past = quote((datetime.now(timezone.utc) - timedelta(hours=1)).isoformat(), safe="")
    refused(api("POST", f"/v1/prices?effective_from={past}", b'{"m":{"input_cost_per_token":1e-6}}'), 400, "too_early",
            "cannot bill calls of the past")
    refused(api("POST", "/v1/prices?dry_run=maybe", b"{}"), 400, "invalid", "dry_run")
    refused(api("POST", "/v1/prices?effective_from=soon", b"{}"), 400, "invalid", "effective_from")
    refused(api("POST", "/v1/prices?dryrun=true", b"{}"), 400, "unknown_parameter", "dryrun")


def test_a_price_file_is_compared_with_the_book_that_holds_from_when_it_is_wanted(api):
    later = quote((datetime.now(timezone.utc) + timedelta(days=20)).isoformat(), safe="")
    book = json.dumps({fresh("m"): {"input_cost_per_token": 1e-06, "litellm_provider": "openai", "mode": "chat"}}).encode()
    status, planned = api("POST", f"/v1/prices?effective_from={later}", book)
    assert (status, planned["unchanged"]) == (200, False)
    assert api("POST", f"/v1/prices?effective_from={later}", book)[1]["version"] == planned["version"]
    # the newest file is this very one, but it is wanted now
    status, now = api("POST", "/v1/prices", book)
    assert (status, now["unchanged"], now["version"]) == (200, False, planned["version"] + 1)
    assert at(now["effective_from"]) < at(planned["effective_from"])
    # the shipped file held once, and does not soon: that is a change, and not for the past
    past = quote((datetime.now(timezone.utc) - timedelta(days=1)).isoformat(), safe="")
    refused(api("POST", f"/v1/prices?effective_from={past}", PRICE_FILE.read_bytes()), 400, "too_early", "cannot bill calls of the past")


def test_a_model_without_a_price_is_not_found_with_what_to_do(api):
    refused(api("GET", "/v1/prices/current/models/no-such-model"), 404, "not_found", "PUT /v1/models")
    refused(api("GET", "/v1/prices/999/models/gpt-4o"), 404, "not_found")
    model = api("GET", "/v1/prices/current/models/" + quote("openai/gpt-4o", safe=""))[1]
    assert model["price_key"] in ("openai/gpt-4o", "gpt-4o")


def test_a_price_s_text_is_exact_to_the_femto(bench, api):
    names = bench.query("SELECT key, names, femtos FROM price WHERE version = 1 AND key = 'gpt-4o'")[0]
    told = api("GET", "/v1/prices/1/models/gpt-4o")[1]["rates"]
    assert {rate["name"]: Decimal(rate["price"]) for rate in told} == {
        name: Decimal(femtos) / 10**15 for name, femtos in zip(names["names"], names["femtos"])}


def test_price_books_are_listed_once_and_in_order(bench, api):
    later = quote((datetime.now(timezone.utc) + timedelta(days=30)).isoformat(), safe="")
    for _ in range(12):
        book = {fresh("m"): {"input_cost_per_token": 1e-06, "litellm_provider": "openai", "mode": "chat"}}
        assert api("POST", f"/v1/prices?effective_from={later}", json.dumps(book).encode())[0] == 200
    versions = [row["version"] for row in bench.query("SELECT version FROM price_book ORDER BY version")]
    assert len(versions) > 12
    for limit in LIMITS:
        assert [item["version"] for item in pages(api, "/v1/prices", limit)] == versions
