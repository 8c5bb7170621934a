"""Holds on a real Postgres: placed, refused, repeated, captured, voided, renewed, expired, and settled by the call's bill."""

import random
import threading
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import psycopg
import pytest

from api_test import fresh, put, refused
from budget_test import LIFETIME, budget, get
from ledger_bench import attributed, dead, holding_ledger, key_hash
from oracle import build
from oracle.build import now_us
from stack import wait_until

USD = 1_000_000_000


@pytest.fixture(scope="module")
def bench():
    with holding_ledger(SPEND_HOLD_LIFETIME="4s") as bench:
        yield bench


def ask(api, what, calls, token="ingest"):
    status, document = api("POST", f"/v1/holds{what}", calls, token=token)
    assert status == 200, document
    return document["items"]


def call(tags=(), tokens=100, size=400, **more):
    """A call that is held for size / 4 tokens in and so many out: 0.00125 USD as it stands."""
    return {"call_id": str(uuid.uuid4()), "operation": "chat", "model": "held", "tags": list(tags), "body_bytes": size,
            "max_tokens": tokens, **more}


COST = Decimal("0.00125")


def place(api, *calls):
    return ask(api, "", list(calls))


def end(api, what, *calls):
    return [item["state"] for item in ask(api, what, [{"call_id": c["call_id"]} for c in calls])]


def capture(api, one, outcome="completed", **usage):
    body = {"call_id": one["call_id"], "operation": "chat", "model": "held", "outcome": outcome, **({"usage": usage} if usage else {})}
    return ask(api, "/capture", [body])[0]["state"]


def amounts(api, made, query=""):
    seen = get(api, made, query)
    return Decimal(seen["spent"]), Decimal(seen["held"])


def settled(bench, one, account, raw, tags=(), gate="held", **fields):
    record = build.call(tags, gate=gate, call_id=uuid.UUID(one["call_id"]).bytes, model_requested="held", **fields)
    bench.feeder.bill(attributed(record, account, raw))
    return record


def test_a_call_is_held_for_what_it_may_cost_and_a_repeat_changes_nothing(bench, api):
    tier = fresh("tier")
    put(api, f"/v1/tiers/{tier}", markup="2")
    account = bench.account(tier)
    raw, billed = budget(api, "account", account), budget(api, "account", account, measure="billed")
    one = call([f"account_id={account}"])
    (first,) = place(api, one)
    assert (first["state"], first["admitted"], first["priced"], first["blocking"], first["conflict"]) == ("placed", True, True, [], None)
    assert place(api, one) == [first] and place(api, one, one) == [first, first]
    assert amounts(api, raw) == (0, COST) and amounts(api, billed) == (0, 2 * COST)
    assert api("GET", f"/v1/accounts/{account}")[1]["held"] == "0.0025"
    assert end(api, "/void", one) == ["voided"] and end(api, "/void", one) == ["voided"]
    assert amounts(api, raw) == (0, 0) and amounts(api, billed) == (0, 0)
    assert api("GET", f"/v1/accounts/{account}")[1]["held"] == "0"
    assert place(api, one)[0]["state"] == "voided"  # a late POST revives nothing
    assert bench.breaches() == []


def test_the_first_call_over_the_limit_is_refused_whole_and_says_why(bench, api):
    tag = f"tenant={fresh('t')}"
    made = budget(api, "tag", tag, str(3 * COST))
    wide = budget(api, "tag", tag, "100")
    calls = [call([tag]) for _ in range(5)]
    answers = place(api, *calls)
    assert [a["state"] for a in answers] == ["placed"] * 3 + ["refused"] * 2
    (block,) = answers[3]["blocking"]
    assert (block["budget_id"], block["scope"], block["value"]) == (made["budget_id"], "tag", tag)
    assert (Decimal(block["limit"]), Decimal(block["spent"]), Decimal(block["held"])) == (3 * COST, 0, 3 * COST)
    assert block["window_end"] is None
    assert place(api, calls[4]) == [answers[4]]
    assert amounts(api, made) == (0, 3 * COST) and amounts(api, wide) == (0, 3 * COST)  # nothing of a refused one is held
    end(api, "/void", calls[0])
    assert place(api, call([tag]))[0]["state"] == "placed"
    assert bench.breaches() == []


@pytest.mark.parametrize(("limit", "mode", "state"), [("0", "hard", "refused"), ("0", "shadow", "placed"), (None, "hard", "placed")])
def test_zero_lets_nothing_pass_null_everything_and_a_shadow_only_counts(api, limit, mode, state):
    tag = f"tenant={fresh('t')}"
    budget(api, "tag", tag, limit, mode=mode)
    known, unknown = place(api, call([tag]), call([tag], model="no-such-model"))
    blocks = {key: [b["budget_id"] for b in known[key]] for key in ("blocking", "warnings")}
    assert [len(blocks[key]) for key in blocks] == [int(state == "refused"), int(mode == "shadow")]
    assert unknown | {key: [b["budget_id"] for b in unknown[key]] for key in blocks} == known | blocks | {
        "call_id": unknown["call_id"], "state": state, "admitted": state == "placed", "priced": False}


def test_a_shadow_budget_warns_of_what_it_would_refuse(bench, api):
    tag = f"tenant={fresh('t')}"
    shadow, hard = budget(api, "tag", tag, str(COST), mode="shadow"), budget(api, "tag", tag, str(2 * COST))
    calls = [call([tag]) for _ in range(3)]
    answers = place(api, *calls)
    assert [a["state"] for a in answers] == ["placed", "placed", "refused"]
    assert [[b["budget_id"] for b in a["warnings"]] for a in answers] == [[], [shadow["budget_id"]], [shadow["budget_id"]]]
    assert [[b["budget_id"] for b in a["blocking"]] for a in answers] == [[], [], [hard["budget_id"]]]
    (warning,) = answers[1]["warnings"]
    assert warning.keys() == answers[2]["blocking"][0].keys() and Decimal(warning["held"]) == COST == Decimal(warning["limit"])
    assert place(api, *calls) == answers and amounts(api, shadow) == (0, 2 * COST)
    assert bench.breaches() == []


def observe(api, *calls):
    status, document = api("POST", "/v1/holds?observe=true", list(calls), token="ingest")
    assert status == 200, document
    return document["items"]


def test_what_is_observed_is_judged_alone_and_neither_written_nor_waited_for(bench, api):
    account, key = bench.account(), fresh("tenant")
    put(api, f"/v1/accounts/{account}", name=account, overdraft_limit=str(COST))
    made = budget(api, "account", account, str(COST))
    each = put(api, f"/v1/budgets/{fresh('each')}", scope="tag", each=key, limit="0", mode="shadow", window=LIFETIME)
    tags = [f"account_id={account}", f"{key}=a"]
    one = call(tags)
    place(api, call(tags[:1], size=0, tokens=0))  # the window is there
    rows = "SELECT (SELECT count(*) FROM hold) AS holds, (SELECT count(*) FROM budget_window) AS windows, (SELECT sum(version) FROM budget_window)"
    before = bench.query(rows)
    with psycopg.connect(bench.stack.database_url("postgres"), options="-c search_path=spend") as other:
        other.execute("LOCK hold, call IN ACCESS EXCLUSIVE MODE; SELECT FROM budget_window FOR UPDATE; SELECT FROM balance FOR UPDATE")
        answers = observe(api, one, one, call(tags, tokens=200))
    assert [(a["state"], a["admitted"]) for a in answers] == [("observed", True), ("observed", True), ("refused", True)]
    assert [b["budget_id"] for b in answers[2]["blocking"]] == [made["budget_id"], None] and answers[0]["blocking"] == []
    for answer in answers:
        (warning,) = answer["warnings"]  # a value that nobody has seen yet
        assert (warning["budget_id"], warning["value"], warning["spent"]) == (each["budget_id"], f"{key}=a", "0")
        assert warning["window_start"] is not None
    assert bench.query(rows) == before and amounts(api, made) == (0, 0)
    assert place(api, one)[0]["state"] == "placed" and observe(api, one)[0]["state"] == "refused"
    assert "observe" in str(refused(api("POST", "/v1/holds?observe=yes", [one], token="ingest"), 400, "invalid"))
    assert bench.breaches() == []


def test_a_call_that_is_refused_anyway_takes_no_value_of_an_each(bench, api):
    account, key = bench.account(), fresh("tenant")
    put(api, f"/v1/accounts/{account}", name=account, overdraft_limit="0")
    each = put(api, f"/v1/budgets/{fresh('each')}", scope="tag", each=key, limit=str(COST), window=LIFETIME)
    stop = budget(api, "tag", fresh("stop"), "0")
    calls = [call([f"{key}={n}", stop["value"]]) for n in range(40)]
    answers = place(api, *calls, call([f"{key}=fits"]), call([f"{key}=fits"]), call([f"account_id={account}", f"{key}=poor"]),
                    call([f"{key}=large"], tokens=101), forced(call([f"{key}=forced", stop["value"]])))
    assert [a["state"] for a in answers] == ["refused"] * 40 + ["placed", "refused", "refused", "refused", "placed"]
    blocking = [[b["budget_id"] for b in a["blocking"]] for a in answers]
    assert blocking == [[stop["budget_id"]]] * 40 + [[], [each["budget_id"]], [None], [each["budget_id"]], [stop["budget_id"]]]
    assert place(api, *calls) == answers[:40]
    rows = bench.query("SELECT v.value FROM budget_value v JOIN budget b ON b.id = v.budget WHERE b.budget_id = %s ORDER BY 1",
                       (each["budget_id"],))
    assert [row["value"] for row in rows] == [f"{key}=fits", f"{key}=forced"]
    end(api, "/void", *(call for call, a in zip(calls, answers) if a["state"] == "placed"))
    assert bench.breaches() == []


def test_a_value_beyond_the_most_is_observed_in_what_the_rest_share(bench, api):
    bench.stack.ledger("narrow").start(env={"SPEND_BUDGET_VALUES": "1", "SPEND_WINDOW_TICK": "1s"})
    key = fresh("tenant")
    put(api, f"/v1/budgets/{fresh('each')}", scope="tag", each=key, limit=str(COST), window=LIFETIME)

    def ask_narrow(value, query=""):
        status, document = bench.stack.api("POST", f"/v1/holds{query}", [call([f"{key}={value}"])], token="ingest", ledger="narrow")
        assert status == 200, document
        return document["items"][0]
    assert [ask_narrow(value)["state"] for value in "abc"] == ["placed", "placed", "refused"]  # b and c share one
    assert [ask_narrow(value, "?observe=true")["state"] for value in "acd"] == ["refused"] * 3
    assert ask_narrow("d", "?observe=true")["blocking"][0]["value"] == "~other"
    bench.stack.services["narrow"].stop()


def forced(one, ago_s=None, **more):
    at = None if ago_s is None else (datetime.now(timezone.utc) - timedelta(seconds=ago_s)).isoformat()
    return {**one, "forced": 1, **({} if at is None else {"admitted_at": at}), **more}


def test_a_forced_call_is_held_whatever_stands_in_its_way(bench, api):
    tag = f"tenant={fresh('t')}"
    made = budget(api, "tag", tag, "0")
    one, two = call([tag]), call([tag])
    answer = place(api, forced(one))[0]
    assert (answer["state"], answer["admitted"], [b["budget_id"] for b in answer["blocking"]]) == ("placed", True, [made["budget_id"]])
    assert place(api, one)[0] == answer and place(api, forced(one))[0] == answer and amounts(api, made) == (0, COST)
    assert place(api, two)[0]["state"] == "refused"  # the answer is lost, and its caller lets it through
    told = place(api, forced(two), forced(two))
    assert told[0] == told[1] and (told[0]["state"], told[0]["admitted"]) == ("placed", True) and amounts(api, made) == (0, 2 * COST)
    assert place(api, two)[0] == told[0] and end(api, "/renew", two) == ["placed"]
    assert bench.query("SELECT forced FROM hold WHERE call_id = %s", (two["call_id"],)) == [{"forced": True}]
    end(api, "/void", one)
    assert place(api, forced(one))[0]["state"] == "voided"
    assert amounts(api, made) == (0, COST) and bench.breaches() == []


def test_a_forced_call_is_held_in_the_windows_of_when_it_was_let_through(bench, api):
    tag = f"tenant={fresh('t')}"
    old = budget(api, "tag", tag, "0")
    put(api, f"/v1/budgets/{old['budget_id']}", scope="tag", value=fresh("gone"), limit=None, window=LIFETIME)
    made = budget(api, "tag", tag, "0", window={"kind": "interval", "seconds": 2})
    since = datetime.fromisoformat(made["created_at"])
    wait_until(lambda: datetime.now(timezone.utc) - since > timedelta(seconds=4), 10, "two windows ended")
    one = call([tag])
    at = (since + timedelta(seconds=1)).isoformat()
    assert place(api, {**one, "forced": 1, "admitted_at": at})[0]["admitted_at"] == at.replace("+00:00", "Z")
    rows = bench.query("SELECT w.window_start FROM budget_window w JOIN budget b ON b.id = w.budget WHERE b.budget_id = %s AND w.held_nanos > 0",
                       (made["budget_id"],))
    assert [row["window_start"] for row in rows] == [since] and bench.breaches() == []
    for ago in (-100, 25 * 3600):  # that cannot be
        (answer,) = place(api, forced(call([tag]), ago))
        assert answer["state"] == "placed"
        assert abs(time_of(answer["admitted_at"]) - datetime.now(timezone.utc)) < timedelta(seconds=30)
    refused(api("POST", "/v1/holds", [call() | {"admitted_at": at}], token="ingest"), 400, "invalid")


def test_a_balance_is_gated_like_a_budget(bench, api):
    account = bench.account()
    assert place(api, call([f"account_id={account}"]))[0]["state"] == "placed"  # null: not checked
    put(api, f"/v1/accounts/{account}", name=account, overdraft_limit=str(COST))
    answer = place(api, call([f"account_id={account}"]))[0]
    assert answer["state"] == "refused" and answer["blocking"][0]["budget_id"] is None, answer  # the first hold uses it up
    api("POST", f"/v1/accounts/{account}/credits", {"external_id": "1", "kind": "top_up", "amount": "1"})
    assert place(api, call([f"account_id={account}"]))[0]["state"] == "placed"
    assert bench.breaches() == []


def test_a_capture_holds_what_was_used_and_the_bill_ends_it(bench, api):
    account = bench.account()
    made = budget(api, "account", account)
    tags = [f"account_id={account}"]
    one, two, three = call(tags), call(tags), call(tags)
    place(api, one, two, three)
    assert capture(api, one, input=40, output=10) == "captured"
    assert amounts(api, made) == (0, 2 * COST + Decimal("0.0002"))
    assert capture(api, one, input=40, output=20) == "captured"  # told again, better
    assert capture(api, two) == "captured"  # no usage: what was placed stays
    assert capture(api, three, outcome="failed") == "captured"  # nothing is charged for it
    assert amounts(api, made) == (0, COST + Decimal("0.0003"))
    assert end(api, "/renew", one, two) == ["captured"] * 2
    settled(bench, one, account, 300_000, tags)
    settled(bench, two, account, 1_000_000, tags)
    settled(bench, three, account, 0, tags)
    bench.settle()
    assert amounts(api, made) == (Decimal("0.0013"), 0) and get(api, made)["ungated"] == "0"
    for _ in range(2):
        assert capture(api, one, input=1) == "settled" and [a["state"] for a in place(api, one, two)] == ["settled"] * 2
        assert end(api, "/renew", one, two) == end(api, "/void", one, two) == ["settled"] * 2
    assert amounts(api, made) == (Decimal("0.0013"), 0)
    assert bench.breaches() == []


def test_a_capture_or_a_bill_before_the_place_leaves_nothing_to_hold(bench, api):
    account = bench.account()
    made = budget(api, "account", account)
    tags = [f"account_id={account}"]
    one, two = call(tags), call(tags)
    assert capture(api, one, input=1, output=1) == "voided"
    assert place(api, one)[0]["state"] == "voided"
    settled(bench, two, account, 500, tags)
    bench.settle()
    assert place(api, two)[0]["state"] == "settled"
    assert end(api, "/renew", call()) == ["unknown"]
    assert amounts(api, made) == (Decimal("0.0000005"), 0) and bench.breaches() == []


def two_held(bench, api):
    """(account, its budget, the calls' tags, and both calls)."""
    account = bench.account()
    made, tags = budget(api, "account", account), [f"account_id={account}"]
    calls = call(tags), call(tags)
    place(api, *calls)
    return account, made, tags, *calls


def test_a_hold_that_nobody_renews_expires_and_its_bill_comes_all_the_same(bench, api):
    account, made, tags, kept, lost = two_held(bench, api)

    def gone():
        assert end(api, "/renew", kept) == ["placed"]
        return amounts(api, made)[1] == COST
    wait_until(gone, 30, "one hold expired", every_s=0.5)
    assert end(api, "/renew", lost) == ["expired"] and place(api, lost)[0]["state"] == "expired"
    for one in (kept, lost):
        settled(bench, one, account, 1_000, tags)
    bench.settle()
    assert amounts(api, made) == (Decimal("0.000002"), 0) and bench.breaches() == []


def test_an_unpriced_call_keeps_its_hold_until_it_is_priced_or_voided(bench, api):
    account = bench.account()
    made = budget(api, "account", account)
    tags = [f"account_id={account}"]
    one = call(tags)
    place(api, one)
    assert capture(api, one) == "captured"
    record = build.call(tags, gate="held", call_id=uuid.UUID(one["call_id"]).bytes)
    bench.feeder.letter(dead(record, "unpriced", None))
    bench.settle()
    assert amounts(api, made) == (0, COST)
    bench.feeder.bill(attributed(record, account, 7_000))
    bench.settle()
    assert amounts(api, made) == (Decimal("0.000007"), 0) and parts(api, made) == (7000, 0, 0)
    assert bench.breaches() == []


def test_untagged_calls_stop_at_the_budgets_of_their_key_user_and_team(bench, api):
    key = key_hash(fresh("k"))
    put(api, f"/v1/keys/{key}", user="u" + key[:8], team="t" + key[:8], tags=[f"bound={key[:8]}"])
    for scope, value in (("key", key), ("user", "u" + key[:8]), ("team", "t" + key[:8]), ("tag", f"bound={key[:8]}"), ("task", "job" + key[:8])):
        made = budget(api, scope, value, str(COST))
        one = call(["task=job" + key[:8]], key_hash=key)
        assert [a["state"] for a in place(api, one, call(["task=job" + key[:8]], key_hash=key))] == ["placed", "refused"], scope
        end(api, "/void", one)
        record = build.call(["task=job" + key[:8]], key_hash=key)
        bench.feeder.letter(dead(record, "untagged", 1000))
        bench.settle()
        assert amounts(api, made) == (Decimal("0.000001"), 0), scope
        put(api, f"/v1/budgets/{made['budget_id']}", scope=scope, value=fresh("gone") if scope != "key" else key_hash("gone"), limit=None,
            window=LIFETIME)


def test_one_absurd_call_is_its_own_trouble(bench, api):
    tag = f"tenant={fresh('t')}"
    made = budget(api, "tag", tag, "10")
    absurd = call([tag], model="wandb/deepseek-ai/DeepSeek-R1-0528", n=5_000_000, size=7_000_000)  # 0.54 USD a token
    assert [a["state"] for a in place(api, call([tag]), absurd, call([tag]))] == ["placed", "refused", "placed"]
    one = call([tag])
    place(api, one)
    assert capture(api, one, input=2**62, output=2**62) == "captured"  # no usage that is true: what was placed stays
    assert amounts(api, made) == (0, 3 * COST) and bench.breaches() == []


def test_a_hold_that_expired_leaves_its_bill_ungated(bench, api):
    account = bench.account()
    made = budget(api, "account", account)
    one = call([f"account_id={account}"])
    place(api, one)
    wait_until(lambda: amounts(api, made)[1] == 0, 30, "the hold expired", every_s=0.5)
    settled(bench, one, account, 5_000, [f"account_id={account}"])
    bench.settle()
    assert get(api, made)["ungated"] == "0.000005" and bench.breaches() == []


def time_of(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def micros(text):
    return (time_of(text) - datetime.fromtimestamp(0, timezone.utc)) // timedelta(microseconds=1)


def parts(api, made, query=""):
    """What is spent, and of it ungated and away, in nanos."""
    seen = get(api, made, query)
    return tuple(int(Decimal(seen[key]) * USD) for key in ("spent", "ungated", "away"))


def test_what_no_hold_stood_for_is_told_by_the_window(bench, api):
    account, other, tag = bench.account(), bench.account(), f"tenant={fresh('t')}"
    mine, theirs, tagged = budget(api, "account", account), budget(api, "account", other), budget(api, "tag", tag)
    one = call([f"account_id={account}", tag])
    place(api, one)
    late = budget(api, "tag", tag)  # after the call was admitted: nothing is held there
    record = settled(bench, one, account, 1000, one["tags"], quality="estimated", at=now_us())
    bench.settle()
    assert [parts(api, b) for b in (mine, tagged)] == [(1000, 0, 0)] * 2
    assert parts(api, late) == (1000, 1000, 0)  # it counts all the same

    def correct(raw, quality, to=account, **more):
        bench.feeder.bill(attributed({**record, "quality": quality, **more}, to, raw))
        bench.settle()
    correct(1500, "partial")  # up: what is more is ungated
    assert [parts(api, b) for b in (mine, tagged, late)] == [(1500, 500, 0), (1500, 500, 0), (1500, 1500, 0)]
    correct(600, "final")  # down: the ungated goes first, and what the gate let through was more than is left
    assert [parts(api, b) for b in (mine, tagged, late)] == [(600, 0, 0), (600, 0, 0), (600, 600, 0)]
    again = {"id": uuid.uuid4().bytes, "at": now_us(), "set": None}
    bench.feeder.bill(attributed({**record, "quality": "final"}, other, 600, redrive=again))
    bench.settle()  # its account is another: no hold stood there, and the tag's did
    assert [parts(api, b) for b in (mine, theirs, tagged)] == [(0, 0, 0), (600, 600, 0), (600, 0, 0)]


def test_room_that_a_correction_gave_back_is_not_its_own_any_more(bench, api):
    account = bench.account()
    made = budget(api, "account", account)
    one = call([f"account_id={account}"])
    place(api, one)
    record = settled(bench, one, account, 1000, one["tags"], quality="estimated")
    for raw, quality, want in ((None, None, (1000, 0, 0)), (400, "partial", (400, 0, 0)), (900, "final", (900, 500, 0))):
        if raw is not None:
            bench.feeder.bill(attributed({**record, "quality": quality}, account, raw))
        bench.settle()
        assert parts(api, made) == want


@pytest.mark.parametrize(("gate", "held", "want"), [
    ("held", "place", (700, 0, 0)), ("held", "forced", (700, 0, 700)), ("held", None, (700, 700, 0)),
    ("forced", "forced", (700, 0, 700)), ("forced", None, (700, 0, 700)), ("observe", None, (700, 700, 0)),
    ("off", None, (700, 700, 0)), ("off", "place", (700, 0, 0)), ("held", "void", (700, 700, 0))])
def test_whoever_let_it_through_is_told_apart(bench, api, gate, held, want):
    account = bench.account()
    made, billed = budget(api, "account", account), budget(api, "account", account, measure="billed")
    one = call([f"account_id={account}"])
    if held:
        place(api, forced(one) if held == "forced" else one)
    if held == "void":
        end(api, "/void", one)
    settled(bench, one, account, 700, one["tags"], gate=gate)
    bench.settle()
    assert parts(api, made) == parts(api, billed) == want and amounts(api, made)[1] == 0


def test_a_call_whose_account_came_late_is_gated_where_it_was_held(bench, api):
    account, tag = bench.account(), f"tenant={fresh('t')}"
    mine, tagged = budget(api, "account", account), budget(api, "tag", tag)
    one = call([tag])
    place(api, one)
    record = settled(bench, one, account, 800, [tag])
    bench.settle()
    assert (parts(api, mine), parts(api, tagged)) == ((800, 800, 0), (800, 0, 0))
    assert bench.call(record)["gate_raw_nanos"] == 800


@pytest.mark.parametrize(("gate", "state"), [("held", "voided"), ("forced", "voided"), ("off", "captured")])
def test_what_can_never_be_billed_ends_its_own_hold_and_nobody_elses(bench, api, gate, state):
    account = bench.account()
    made = budget(api, "account", account, measure="billed")
    one, two = call([f"account_id={account}"]), call([f"account_id={account}"])
    place(api, one, two)
    assert capture(api, one) == "captured"
    settled(bench, one, "nobody-knows-it", 500, one["tags"], gate=gate)
    settled(bench, two, account, 500, two["tags"])  # in one batch with it, or not
    bench.settle()
    assert len(bench.parked({"call_id": uuid.UUID(one["call_id"]).bytes})) == 1
    assert end(api, "/renew", one) == [state]
    held = COST if state == "captured" else 0
    assert amounts(api, made)[1] == held and Decimal(api("GET", f"/v1/accounts/{account}")[1]["held"]) == held
    settled(bench, call() | {"call_id": str(uuid.uuid4())}, "nobody-knows-it", 500)  # one that had no hold: a tombstone
    bench.settle()
    end(api, "/void", one)
    assert bench.breaches() == []


def test_a_repeat_tells_whether_the_first_was_priced(api):
    known, unknown, never = call(), call(model="no-such-model"), call()
    answers = place(api, known, unknown)
    assert [a["priced"] for a in answers] == [True, False]
    put(api, "/v1/models/no-such-model", price_key="gpt-4o", effective_from="2020-01-01T00:00:00Z")
    assert place(api, known, unknown) == answers
    end(api, "/void", never)
    assert place(api, never)[0]["priced"] is None


def test_holds_outlive_an_outage_of_every_ledger(bench, api):
    account = bench.account()
    made = budget(api, "account", account)
    kept, lost = call([f"account_id={account}"]), call([f"account_id={account}"])
    place(api, kept, lost)
    for service in bench.stack.services.values():
        service.stop()
    ran = "SELECT ran_at, clock_timestamp() - ran_at > interval '7 seconds' AS away FROM hold_sweep_run"
    (before,) = bench.query(ran)
    wait_until(lambda: bench.query(ran)[0]["away"], 30, "away for longer than a hold lives", every_s=0.5)
    bench.start(SPEND_WINDOW_TICK="1s", SPEND_HOLD_LIFETIME="4s")
    wait_until(lambda: bench.query(ran)[0]["ran_at"] > before["ran_at"], 30, "holds were swept")
    assert end(api, "/renew", kept) == ["placed"] and amounts(api, made)[1] == 2 * COST

    def gone():
        assert end(api, "/renew", kept) == ["placed"]
        return end(api, "/renew", lost) if bench.query("SELECT FROM hold WHERE call_id = %s AND state = 'expired'", (lost["call_id"],)) else None
    assert wait_until(gone, 30, "the other expired", every_s=0.5) == ["expired"]
    assert amounts(api, made)[1] == COST and bench.breaches() == []


def test_a_reset_closes_the_window_behind_every_call_that_it_holds(bench, api):
    account = bench.account()
    made = budget(api, "account", account)
    bench.execute("UPDATE config_version SET watermark = clock_timestamp() + interval '2 seconds'")  # the clock was set back
    one = call([f"account_id={account}"])
    text = place(api, one)[0]["admitted_at"]
    assert api("POST", f"/v1/budgets/{made['budget_id']}/reset", {"reason": "now"})[0] == 200
    settled(bench, one, account, 500, one["tags"], at=micros(text))
    bench.settle()
    (row,) = bench.query("SELECT w.spent_nanos, w.ungated_nanos, w.held_nanos, x.at FROM budget_reset x JOIN budget_window w ON w.id = x.closed"
                         " JOIN budget b ON b.id = x.budget WHERE b.budget_id = %s", (made["budget_id"],))
    assert (row["spent_nanos"], row["ungated_nanos"], row["held_nanos"]) == (500, 0, 0)
    assert row["at"] == time_of(text) + timedelta(microseconds=1)


@pytest.mark.parametrize("seed", range(2))
def test_spent_never_passes_the_limit_but_by_what_is_ungated_and_away(bench, api, seed):
    """Bills and corrections of any size up to the estimate, calls that nobody asked for, forced ones, moves between accounts."""
    rng, accounts = random.Random(seed), [bench.account(), bench.account()]
    limit, estimate = 6 * COST, int(COST * USD)
    made = [budget(api, "account", account, str(limit)) for account in accounts]
    told = []
    for _ in range(6):
        for account in rng.choices(accounts, k=6):
            one, gate = call([f"account_id={account}"]), rng.choice(["held", "held", "held", "forced", "off"])
            if gate == "off" or place(api, forced(one) if gate == "forced" else one)[0]["admitted"]:
                told.append((settled(bench, one, account, rng.randrange(estimate + 1), one["tags"], gate=gate, quality="estimated"), account))
        for record, account in rng.sample(told, len(told) // 3):
            better = {**record, "quality": rng.choice(["partial", "final"]), "usage": build.usage(input=rng.randrange(99))}
            redrive = {"id": uuid.uuid4().bytes, "at": now_us(), "set": None} if rng.random() < 0.3 else None
            to = rng.choice(accounts) if redrive else account
            bench.feeder.bill(attributed(better, to, rng.randrange(estimate + 1), redrive=redrive))
        bench.settle()
        for one in made:
            spent, ungated, away = parts(api, one)
            assert 0 <= ungated and 0 <= away and ungated + away <= spent <= int(limit * USD) + ungated + away
    sums = [parts(api, one) for one in made]
    assert all(sum(column) > 0 for column in zip(*sums)) and max(spent for spent, _, _ in sums) > int(limit * USD) // 2


def test_a_call_admitted_while_a_budget_is_being_written_counts_in_it_ungated(bench, api):
    account, name = bench.account(), fresh("budget")
    one, two = call([f"account_id={account}"]), call([f"account_id={account}"])
    place(api, call())  # the gate has everything that is committed
    with psycopg.connect(bench.stack.database_url("postgres"), options="-c search_path=spend") as other:
        other.execute("SELECT budget_put(%s, 'account', %s, NULL, 0, 'raw', 'lifetime', NULL, NULL, 'UTC', NULL, true, '{}', c.recorded_at,"
                      " c.version) FROM config_begin() AS c", (name, account))
        answer = place(api, one)[0]
    assert (answer["state"], answer["blocking"]) == ("placed", []) and place(api, two)[0]["state"] == "refused"
    made = api("GET", f"/v1/budgets/{name}")[1]
    assert made["window_start"] < answer["admitted_at"] and made["held"] == "0"
    settled(bench, one, account, 900, one["tags"], at=micros(answer["admitted_at"]))
    bench.settle()
    assert parts(api, made) == (900, 900, 0)


def test_what_is_written_while_the_gate_reads_is_read_the_next_time(bench, api):
    second = bench.stack.services.get("second") or bench.stack.ledger("second")
    if not second.alive:
        second.start(env={"SPEND_WINDOW_TICK": "1s", "SPEND_HOLD_LIFETIME": "4s"})
    key, user = key_hash(fresh("k")), fresh("u")
    budget(api, "user", user, "0")
    place(api, call())
    put(api, f"/v1/keys/{key_hash(fresh('k'))}", user="nobody")  # something is to be read
    waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%FROM budget AS b JOIN budget_revision%%'"
    answers = []
    with psycopg.connect(bench.stack.database_url("postgres"), options="-c search_path=spend") as other:
        other.execute("LOCK budget IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=lambda: answers.extend(place(api, call())))
        thread.start()
        wait_until(lambda: bench.query(waits), 5, "the gate has read registry and prices, and waits for the budgets")
        status, _ = bench.stack.api("PUT", f"/v1/keys/{key}", {"user": user}, ledger="second")
        assert status in (200, 201)
    thread.join()
    assert answers[0]["state"] == "placed"
    assert place(api, call(key_hash=key))[0]["state"] == "refused"


def test_what_is_asked_for_wrongly_is_refused(api):
    for body, words in ([{}, "array"], [[{"operation": "chat"}], "call_id"], [[call() | {"call_id": "x"}], "call_id"],
                        [[call() | {"operation": "sing"}], "operation"], [[call() | {"max_tokens": -1}], "negative"],
                        [[call() for _ in range(257)], "256"]):
        assert words in str(refused(api("POST", "/v1/holds", body, token="ingest"), 400, "invalid"))
    refused(api("POST", "/v1/holds", [], token="reader"), 403, "forbidden")
    assert place(api) == []


@pytest.mark.parametrize("callers", [1, 2, 16])
def test_exactly_as_many_pass_as_fit_whoever_asks_at_once(bench, api, callers):
    other = bench.stack.services.get("second") or bench.stack.ledger("second").start(env={"SPEND_WINDOW_TICK": "1s"})
    for fit in (1, 7, 40):
        tag = f"tenant={fresh('t')}"
        made = budget(api, "tag", tag, str(fit * COST))
        answers = []

        def run(number, tag=tag, answers=answers):
            ledger = "second" if number % 2 else "ledger"
            for _ in range(60 // callers + 1):
                status, document = bench.stack.api("POST", "/v1/holds", [call([tag])], token="ingest", ledger=ledger)
                answers.append((status, document["items"][0]["state"]))
        threads = [threading.Thread(target=run, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) >= 60 and {status for status, _ in answers} == {200}
        assert sum(state == "placed" for _, state in answers) == fit
        assert amounts(api, made) == (0, fit * COST)
    assert other.alive and bench.breaches() == [] and bench.stack.deadlocks() == 0
