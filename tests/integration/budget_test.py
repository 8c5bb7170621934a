"""Budgets on a real Postgres and Kafka: what the API makes and refuses, in which windows calls count, how windows end."""

import uuid
from datetime import datetime, timedelta, timezone

import pytest

from api_test import at, fresh, pages, put, refused
from ledger_bench import attributed, dead, key_hash
from oracle import build
from stack import wait_until

LIFETIME = {"kind": "lifetime"}
MONTH = {"kind": "calendar", "period": "month"}
USD = 1_000_000_000


def budget(api, scope, value, limit="10", window=LIFETIME, **more):
    name = fresh("budget")
    return put(api, f"/v1/budgets/{name}", scope=scope, value=value, limit=limit, window=window, **more)


def get(api, made, query=""):
    status, document = api("GET", f"/v1/budgets/{made['budget_id']}{query}", token="reader")
    assert status == 200, document
    return document


def resets(api, made):
    return pages(api, f"/v1/budgets/{made['budget_id']}/resets", 100)


def spent(api, made, query=""):
    return get(api, made, query)["spent"]


# -- the API

def test_a_budget_is_made_read_listed_and_changed(api):
    made = budget(api, "tag", "tenant=acme", "12.50", {**MONTH, "tz": "Europe/Berlin"}, thresholds=[10, 200])
    assert made["revision"] == 1 and made["spent"] == "0" and made["held"] == "0" and made["remaining"] == "12.5"
    assert (made["measure"], made["mode"], made["thresholds"], made["each"]) == ("raw", "hard", [10, 200], None)
    assert made["window"] == {"kind": "calendar", "period": "month", "seconds": None, "tz": "Europe/Berlin", "anchor": None}
    assert at(made["window_start"]) <= datetime.now(timezone.utc) < at(made["window_end"])
    assert get(api, made) == made
    assert made["budget_id"] in [b["budget_id"] for b in pages(api, "/v1/budgets", 3)]
    body = {"scope": "tag", "value": "tenant=acme", "limit": "12.50", "window": {**MONTH, "tz": "Europe/Berlin"}, "thresholds": [10, 200]}
    assert put(api, f"/v1/budgets/{made['budget_id']}", **body) == made  # the same again writes nothing
    changed = put(api, f"/v1/budgets/{made['budget_id']}", **{**body, "limit": None, "mode": "shadow"})
    assert (changed["revision"], changed["limit"], changed["remaining"], changed["mode"]) == (1, None, None, "shadow")
    assert changed["window_start"] == made["window_start"]


@pytest.mark.parametrize("change", [{"value": "other"}, {"scope": "user"}, {"measure": "billed"}, {"window": MONTH},
                                    {"window": {"kind": "interval", "seconds": 60}}])
def test_another_subject_measure_or_window_is_a_new_revision(api, change):
    made = budget(api, "team", "core")
    body = {"scope": "team", "value": "core", "limit": "10", "window": LIFETIME, **change}
    again = put(api, f"/v1/budgets/{made['budget_id']}", **body)
    assert again["revision"] == 2 and again["spent"] == "0"
    assert put(api, f"/v1/budgets/{made['budget_id']}", **body) == again


GOOD = {"scope": "team", "value": "core", "limit": "10", "window": LIFETIME}


@pytest.mark.parametrize(("change", "words"), [
    ({"scope": "organisation"}, "key, user, team"), ({"value": None}, "value"), ({"each": "team"}, "either"),
    ({"limit": "-1"}, "negative"), ({"limit": 1.5}, "decimal"), ({"limit": ...}, "null for none"), ({"mode": "soft"}, "shadow"),
    ({"measure": "net"}, "raw"), ({"thresholds": [80, 50]}, "ascending"), ({"thresholds": [0]}, "percentages"),
    ({"thresholds": ["50"]}, "integers"), ({"window": {"kind": "daily"}}, "calendar"), ({"window": {"kind": "calendar"}}, "period"),
    ({"window": {**MONTH, "tz": "Mars/Olympus"}}, "IANA"), ({"window": {**MONTH, "tz": "UTC+3"}}, "IANA"),
    ({"window": {**MONTH, "seconds": 5}}, "seconds"), ({"window": {"kind": "interval"}}, "seconds"),
    ({"window": {"kind": "interval", "seconds": 0}}, "seconds"), ({"window": {**LIFETIME, "anchor": "2026-01-01T00:00:00Z"}}, "anchor"),
    ({"window": {**LIFETIME, "zone": "UTC"}}, "zone"), ({"window": ...}, "window"), ({"scope": "key", "value": "sk-1"}, "SHA-256"),
    ({"value": None, "each": "tenant"}, "each"), ({"scope": "tag", "value": None, "each": "a=b"}, "each"),
    ({"value": "x" * 129}, "128"), ({"colour": "red"}, "colour")])
def test_a_budget_that_says_nothing_sensible_is_refused_whole(api, change, words):
    body = {name: value for name, value in {**GOOD, **change}.items() if value is not ...}
    name = fresh("budget")
    assert words in str(refused(api("PUT", f"/v1/budgets/{name}", body), 400, "unknown_field" if "colour" in change or "zone" in str(change) else "invalid"))
    refused(api("GET", f"/v1/budgets/{name}"), 404, "not_found", "PUT /v1/budgets")


def test_roles_and_what_is_not_there(api):
    made = budget(api, "user", "bob")
    path = f"/v1/budgets/{made['budget_id']}"
    refused(api("PUT", path, GOOD, token="reader"), 403, "forbidden")
    refused(api("POST", path + "/reset", {"reason": "x"}, token="reader"), 403, "forbidden")
    refused(api("GET", path, token="ingest"), 403, "forbidden")
    refused(api("POST", path + "/reset", {}), 400, "invalid", "reason")
    for method, tail in (("GET", ""), ("GET", "/resets"), ("GET", "/values"), ("POST", "/reset")):
        refused(api(method, "/v1/budgets/nothing" + tail, {"reason": "x"} if method == "POST" else None), 404, "not_found")


# -- what counts where

SCOPES = {
    "key": (key_hash("k1"), {"key_hash": key_hash("k1")}, {}), "user": ("bob", {}, {"user": "bob"}),
    "team": ("core", {}, {"team": "core"}), "task": ("job", {}, {"task_id": "job"}),
    "conversation": ("talk", {}, {"conversation_id": "talk"}), "tag": ("tenant=acme", {}, {}),
    "model": ("gpt-4o", {}, {}), "account": (None, {}, {})}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("measure", ["raw", "billed"])
def test_every_scope_counts_what_its_calls_cost(bench, api, scope, measure):
    tier = fresh("tier")
    put(api, f"/v1/tiers/{tier}", markup="1.5")
    account = bench.account(tier)
    value, of_call, of_record = SCOPES[scope]
    unique = fresh("v")
    if scope in ("user", "team", "task", "conversation"):
        value, of_record = unique, {name: unique for name in of_record}
    if scope == "key":
        value = key_hash(unique)
        of_call = {"key_hash": value}
    if scope == "model":
        value = unique
        of_call = {"model_requested": unique}
    value = account if scope == "account" else f"tenant={unique}" if scope == "tag" else value
    made = budget(api, scope, value, measure=measure)
    each = put(api, f"/v1/budgets/{fresh('each')}", scope=scope, each="tenant" if scope == "tag" else scope, limit=None,
               window=LIFETIME, measure=measure)
    tags = [f"tenant={unique}"] if scope == "tag" else []
    call = build.call(tags, **of_call)
    other = build.call(["tenant=other"], model_requested="another", key_hash=key_hash("other"))
    bench.feeder.bill(attributed(call, account, 2 * USD, **of_record))
    bench.feeder.bill(attributed(call, account, 2 * USD, **of_record))  # repeated: once
    if scope != "account":
        bench.feeder.bill(attributed(other, account, USD))
    bench.settle()
    want = {"raw": "2", "billed": "3"}[measure]
    seen = get(api, made)
    assert (seen["spent"], seen["held"], seen["ungated"]) == (want, "0", want)
    assert seen["remaining"] == {"2": "8", "3": "7"}[want]
    told = api("GET", f"/v1/calls/{uuid.UUID(bytes=call['call_id'])}")[1]["windows"]
    assert {w["budget_id"] for w in told} >= {made["budget_id"], each["budget_id"]}
    mine = next(w for w in told if w["budget_id"] == made["budget_id"])
    assert mine == {"budget_id": made["budget_id"], "scope": scope, "value": value, "measure": measure, "revision": 1,
                    "window_start": made["window_start"], "window_end": None}
    assert at(seen["last_matched_at"]) == datetime.fromtimestamp(call["admitted_at"] / 1e6, timezone.utc)
    assert get(api, each, f"?value={value.replace('=', '%3D')}")["spent"] == want
    put(api, f"/v1/budgets/{each['budget_id']}", scope="user", value=fresh("gone"), limit=None, window=LIFETIME)


def test_what_came_before_a_budget_does_not_count_and_nothing_is_forgotten(bench, api):
    account = bench.account()
    before = build.call()
    made = budget(api, "account", account)
    after = build.call()
    for call in (after, before):
        bench.feeder.bill(attributed(call, account, USD))
    bench.settle()
    assert spent(api, made) == "1" and bench.call(before)["windows_raw"] == []
    moved = put(api, f"/v1/budgets/{made['budget_id']}", scope="account", value=account, limit="10", window=MONTH)
    bench.feeder.bill(attributed({**after, "quality": "partial"}, account, USD))  # worse: nothing
    late = {**build.call(at=after["admitted_at"] + 1)}
    bench.feeder.bill(attributed(late, account, 5 * USD))  # of the first revision, though it comes later
    bench.settle()
    assert spent(api, moved) == "0"
    rows = bench.query("SELECT w.spent_nanos FROM budget_window w JOIN budget b ON b.id = w.budget WHERE b.budget_id = %s"
                       " ORDER BY w.revision, w.window_start", (made["budget_id"],))
    assert [row["spent_nanos"] for row in rows] == [6 * USD, 0]


def test_corrections_move_the_difference_and_follow_the_account(bench, api):
    first, second = bench.account(), bench.account()
    tag = f"tenant={fresh('t')}"
    budgets = [budget(api, "account", first), budget(api, "account", second), budget(api, "tag", tag)]
    call = build.call([tag], quality="estimated")
    bench.feeder.bill(attributed(call, first, 5 * USD))
    bench.settle()
    assert [spent(api, b) for b in budgets] == ["5", "0", "5"]
    bench.feeder.bill(attributed({**call, "quality": "final"}, first, 3 * USD))
    bench.settle()
    assert [spent(api, b) for b in budgets] == ["3", "0", "3"]
    redrive = {"id": uuid.uuid4().bytes, "at": build.now_us(), "set": None}
    bench.feeder.bill(attributed({**call, "quality": "final"}, second, 3 * USD, redrive=redrive, route="redrive"))
    bench.settle()
    assert [spent(api, b) for b in budgets] == ["0", "3", "3"]


def test_spend_without_an_account_counts_for_its_key_user_team_and_tags(bench, api):
    key = key_hash(fresh("k"))
    put(api, f"/v1/keys/{key}", user="ann-" + key[:6], team="t-" + key[:6])
    tag = f"job={fresh('j')}"
    budgets = [budget(api, "key", key), budget(api, "user", "ann-" + key[:6]), budget(api, "team", "t-" + key[:6]), budget(api, "tag", tag)]
    bench.feeder.letter(dead(build.call([tag], key_hash=key), "untagged", USD))
    bench.settle()
    assert [spent(api, b) for b in budgets] == ["1"] * 4


def test_an_unpriced_call_is_matched_and_costs_nothing_yet(bench, api):
    tag = f"tenant={fresh('t')}"
    made = budget(api, "tag", tag)
    call = build.call([tag])
    bench.feeder.letter(dead(call, "unpriced", None))
    bench.settle()
    seen = get(api, made)
    assert seen["spent"] == "0" and seen["last_matched_at"] is not None
    bench.feeder.bill(attributed(call, bench.account(), USD))
    bench.settle()
    assert spent(api, made) == "1"


def test_each_value_has_a_window_of_its_own(bench, api):
    account, key = bench.account(), fresh("tenant")
    made = put(api, f"/v1/budgets/{fresh('each')}", scope="tag", each=key, limit="5", window=MONTH)
    assert (made["value"], made["each"], made["spent"], made["window_start"]) == (None, key, None, None)
    for name, raw in (("a", 1), ("b", 2), ("a", 3)):
        bench.feeder.bill(attributed(build.call([f"{key}={name}", "other=x", key]), account, raw * USD))
    bench.settle()
    assert get(api, made)["values"] == 2
    values = pages(api, f"/v1/budgets/{made['budget_id']}/values", 1)
    assert [(v["value"], v["spent"], v["remaining"]) for v in values] == [(f"{key}=a", "4", "1"), (f"{key}=b", "2", "3")]
    refused(api("GET", f"/v1/budgets/{made['budget_id']}?value=nobody"), 404, "not_found")
    refused(api("POST", f"/v1/budgets/{made['budget_id']}/reset", {"reason": "x"}), 404, "not_found", "value")
    reset = api("POST", f"/v1/budgets/{made['budget_id']}/reset", {"reason": "again", "value": f"{key}=a"})
    assert reset[0] == 200 and reset[1]["spent"] == "0", reset
    assert spent(api, made, f"?value={key}%3Db") == "2"


# -- how windows end

def test_a_reset_by_hand_closes_the_window_and_what_settles_later_counts_where_it_was_admitted(bench, api):
    account = bench.account()
    made = budget(api, "account", account, window=MONTH)
    early = build.call()
    bench.feeder.bill(attributed(build.call(), account, USD))
    bench.settle()
    status, after = api("POST", f"/v1/budgets/{made['budget_id']}/reset", {"reason": "a new quarter"})
    assert status == 200 and after["spent"] == "0" and after["window_end"] == made["window_end"], after
    late = build.call()
    for call in (early, late):
        bench.feeder.bill(attributed(call, account, 2 * USD))
    bench.settle()
    assert spent(api, made) == "2"
    (reset,) = resets(api, made)
    assert (reset["spent"], reset["actor"], reset["reason"], reset["value"]) == ("3", "operator", "a new quarter", account)
    assert (reset["window_start"], reset["window_end"]) == (made["window_start"], after["window_start"])
    assert api("POST", f"/v1/budgets/{made['budget_id']}/reset", {"reason": "x", "value": "another"})[0] == 404 and len(resets(api, made)) == 1
    assert get(api, made)["last_matched_at"] is not None
    audit = bench.query("SELECT action FROM admin_audit WHERE object = %s ORDER BY id", (made["budget_id"],))
    assert [row["action"] for row in audit] == ["put budget", "reset budget"]


def test_a_reset_before_a_window_that_is_there_already(bench, api):
    account = bench.account()
    made = budget(api, "account", account, window={"kind": "interval", "seconds": 3600})
    bench.feeder.bill(attributed(build.call(), account, USD))
    bench.feeder.bill(attributed(build.call(at=build.now_us() + 3600_000_000), account, 2 * USD))  # a clock that is ahead
    bench.settle()
    assert spent(api, made) == "1"
    newest = "SELECT w.window_start FROM budget_value v JOIN budget_window w ON w.id = v.newest JOIN budget b ON b.id = v.budget WHERE b.budget_id = %s"
    before = bench.query(newest, (made["budget_id"],))
    status, after = api("POST", f"/v1/budgets/{made['budget_id']}/reset", {"reason": "again"})
    assert status == 200 and (after["spent"], spent(api, made)) == ("0", "0") and after["window_end"] == made["window_end"], after
    assert bench.query(newest, (made["budget_id"],)) == before
    by_hand, by_clock = sorted(resets(api, made), key=lambda r: r["window_end"])
    assert (by_hand["spent"], by_hand["window_end"]) == ("1", after["window_start"])
    assert (by_clock["spent"], by_clock["window_start"], by_clock["window_end"]) == ("0", after["window_start"], made["window_end"])


def test_what_settles_late_shows_in_its_window_and_not_in_that_of_now(bench, api):
    account, key = bench.account(), fresh("tenant")
    made = put(api, f"/v1/budgets/{fresh('each')}", scope="tag", each=key, limit="5", window={"kind": "interval", "seconds": 2})
    early = build.call([f"{key}=a"])
    bench.feeder.bill(attributed(build.call([f"{key}=a"]), account, 0))
    bench.settle()
    idle = "SELECT v.newest FROM budget_value v JOIN budget b ON b.id = v.budget WHERE b.budget_id = %s AND v.roll_at = 'infinity'"
    wait_until(lambda: bench.query(idle, (made["budget_id"],)), 30, "its windows roll no more")
    bench.feeder.bill(attributed(early, account, USD))
    bench.settle()
    (value,) = pages(api, f"/v1/budgets/{made['budget_id']}/values", 10)
    assert (value["spent"], value["remaining"], value["ungated"], value["away"]) == ("0", "5", "0", "0")
    assert at(value["window_start"]) <= datetime.now(timezone.utc) and at(value["window_end"]) - at(value["window_start"]) == timedelta(seconds=2)
    assert at(value["window_start"]) > datetime.fromtimestamp(early["admitted_at"] / 1e6, timezone.utc)
    rows = bench.query("SELECT w.spent_nanos FROM budget_window w JOIN budget b ON b.id = w.budget WHERE b.budget_id = %s AND spent_nanos > 0",
                       (made["budget_id"],))
    assert rows == [{"spent_nanos": USD}]


def test_three_windows_in_a_row_also_idle(bench, api):
    account = bench.account()
    made = budget(api, "account", account, window={"kind": "interval", "seconds": 3})
    bench.feeder.bill(attributed(build.call(), account, USD))
    bench.settle()
    first = wait_until(lambda: resets(api, made), 20, "the first window ended")
    assert (first[0]["spent"], first[0]["actor"]) == ("1", "clock")
    bench.feeder.bill(attributed(build.call(), account, 2 * USD))
    bench.settle()
    seen = wait_until(lambda: len(resets(api, made)) >= 3 and resets(api, made), 30, "three windows ended")
    assert sorted(r["spent"] for r in seen)[-2:] == ["1", "2"] and {r["actor"] for r in seen} == {"clock"}
    ends = [(at(r["window_start"]), at(r["window_end"])) for r in seen]
    assert all(end - start == timedelta(seconds=3) for start, end in ends)
    assert all(left[1] == right[0] for left, right in zip(ends, ends[1:]))  # one row a window, none left out
    assert spent(api, made) == "0"


def test_one_batch_may_bring_calls_of_any_number_of_windows(bench, api):
    account = bench.account()
    made = budget(api, "account", account, window={"kind": "interval", "seconds": 60})
    now = build.now_us()
    for number in range(40):  # the clock of those who call may be ahead; a replay brings months
        bench.feeder.bill(attributed(build.call(at=now + number * 60_000_000), account, USD))
    bench.settle()
    rows = bench.query("SELECT w.spent_nanos FROM budget_window w JOIN budget b ON b.id = w.budget WHERE b.budget_id = %s", (made["budget_id"],))
    assert sorted(row["spent_nanos"] for row in rows) == [USD] * 40


def test_a_window_that_is_due_is_reset_like_any_other(api):
    made = budget(api, "user", fresh("u"), window={"kind": "interval", "seconds": 1})
    for _ in range(5):
        before = datetime.now(timezone.utc)
        wait_until(lambda since=before: datetime.now(timezone.utc) - since > timedelta(seconds=1.1), 5, "the next window")
        status, document = api("POST", f"/v1/budgets/{made['budget_id']}/reset", {"reason": "due"})
        assert status == 200 and document["spent"] == "0", document
    assert sum(r["actor"] == "operator" for r in resets(api, made)) == 5


def test_the_zone_of_a_window_without_days_is_only_shown(api):
    made = budget(api, "user", fresh("u"))
    body = {"scope": "user", "value": made["value"], "limit": "10", "window": {**LIFETIME, "tz": "Asia/Tokyo"}}
    again = put(api, f"/v1/budgets/{made['budget_id']}", **body)
    assert (again["revision"], again["window"]["tz"]) == (1, "Asia/Tokyo") and put(api, f"/v1/budgets/{made['budget_id']}", **body) == again


def test_the_invariant_notices_a_window_that_is_off(bench, api):
    account = bench.account()
    made = budget(api, "account", account)
    bench.feeder.bill(attributed(build.call(), account, USD))
    bench.settle()
    move = "UPDATE budget_window w SET spent_nanos = spent_nanos + %s FROM budget b WHERE b.id = w.budget AND b.budget_id = %s"
    bench.execute(move, (1, made["budget_id"]))
    assert any(made["budget_id"] in breach for breach in bench.breaches())
    bench.execute(move, (-1, made["budget_id"]))
    assert bench.breaches() == []
