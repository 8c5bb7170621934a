"""`spendctl budget ..` as a person and as a program meet it, on a real ledger: what it shows, sets, resets, and what it finds."""

import json
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from api_test import at, fresh, put
from ledger_bench import attributed, key_hash
from oracle import build
from spendctl_test import fine, rows
from stack import wait_until

USD = 1_000_000_000
LIFETIME = {"kind": "lifetime"}
MONTH = {"kind": "calendar", "period": "month", "tz": "Europe/Berlin"}
BERLIN = {"TZ": "Europe/Berlin"}


def spend(bench, *dollars, tags=(), account=None, **fields):
    account = account or bench.account()
    for amount in dollars:
        bench.feeder.bill(attributed(build.call(list(tags)), account, int(amount * USD), **fields))
    bench.settle()


def facts(text):
    """The lines "  label  text" of a budget."""
    return {line[2:16].strip(): line[17:] for line in text.splitlines() if line.startswith("  ") and line[2] != " "}


def shown(text, zone):
    """A time of the API as spendctl shows it."""
    local = at(text).astimezone(ZoneInfo(zone))
    return local.strftime("%Y-%m-%d %H:%M:%S %Z" if local.second else "%Y-%m-%d %H:%M %Z")


def refusal(answer, *words):
    code, out, err = answer
    assert code == 1 and out == "", answer
    assert all(word in err for word in words) and err.count("\n") == 2 and "/v1/" not in err, err
    return err


def lint(ctl, **env):
    code, out, err = ctl("budget", "lint", "--json", **env)
    assert err == "" and code in (0, 2), (code, out, err)
    checks = json.loads(out)["checks"]
    assert (code == 2) == any(check["status"] == "fail" for check in checks)
    return code, checks


def found(ctl, name, budget):
    """The one finding of that kind about the budget, None without."""
    mine = [c for c in lint(ctl)[1] if c["name"] == name and c["budget"] == budget]
    assert len(mine) <= 1, mine
    return mine[0] if mine else None


# -- lint first: nothing has been set yet

def test_lint_of_what_is_fine_exits_0(bench, ctl):
    code, checks = lint(ctl)
    assert code == 0 and {c["status"] for c in checks} == {"ok"} and {c["budget"] for c in checks} == {None}
    assert [c["name"] for c in checks] == ["never_matched", "unknown_value", "zero_limit", "pointless_limit", "no_thresholds", "many_values"]
    out = fine(ctl("budget", "lint"))
    assert out.startswith("0 budgets\n") and out.count("  ok ") == 6
    assert rows(fine(ctl("budget", "list"))) == [["(none)"]]


def test_lint_warns_of_a_value_that_nothing_registered_names_and_exits_0(bench, api, ctl):
    key, other = key_hash(fresh("k")), key_hash(fresh("k"))
    put(api, f"/v1/keys/{key}", user="ann", team="core")
    known = [("account", bench.account()), ("key", key), ("user", "ann"), ("team", "core"), ("tag", "no=matter"), ("task", "label"),
             ("conversation", "talk"), ("model", "gpt-4o")]
    unknown = {("account", "nobody's"): r"spendctl account set 'nobody'\''s'", ("key", other): other, ("user", "bob"): '\'{"user":"bob"}\'',
               ("team", "ann"): '\'{"team":"ann"}\''}
    for scope, value in known:
        put(api, f"/v1/budgets/{fresh('known')}", scope=scope, value=value, limit="1", window=LIFETIME)
    names = {subject: put(api, f"/v1/budgets/{fresh('unknown')}", scope=subject[0], value=subject[1], limit="1", window=LIFETIME)["budget_id"]
             for subject in unknown}
    code, checks = lint(ctl)
    warned = {c["budget"]: c for c in checks if c["status"] == "warn"}
    assert code == 0 and warned.keys() == set(names.values())
    for subject, hint in unknown.items():
        check = warned[names[subject]]
        assert check["name"] == "unknown_value" and subject[1] in check["detail"] and hint in check["hint"], check
    out = fine(ctl("budget", "lint"))
    assert f"  warn           {names['account', 'nobody' + chr(39) + 's']}: nothing is registered as account nobody's\n" in out


def test_lint_finds_what_no_call_was_ever_of(bench, api, ctl):
    def aged(days=2, **body):
        made = put(api, f"/v1/budgets/{fresh('aged')}", **{"limit": "9", "window": LIFETIME, **body})
        bench.execute("UPDATE budget SET created_at = created_at - %s, changed_at = changed_at - %s WHERE budget_id = %s",
                      (timedelta(days=days),) * 2 + (made["budget_id"],))
        return made["budget_id"]
    tag = fresh("t")
    never, never_each = aged(scope="tag", value=f"{tag}=typo"), aged(scope="tag", each=f"{tag}-typo")
    young, matched = aged(days=0.9, scope="tag", value=f"{tag}=typo"), aged(scope="tag", value=f"{tag}=acme")
    matched_each = aged(scope="tag", each=tag)
    before = aged(scope="tag", value=f"{tag}=acme", window={"kind": "interval", "seconds": 4})
    spend(bench, 1, tags=[f"{tag}=acme"])
    wait_until(lambda: api("GET", f"/v1/budgets/{before}")[1]["spent"] == "0", 20, "the next window, without a call")
    for name, value in ((never, "--value"), (never_each, "--each")):
        check = found(ctl, "never_matched", name)
        assert check["status"] == "fail" and tag in check["detail"] and f"spendctl budget set {name} {value}" in check["hint"]
    assert not any(found(ctl, "never_matched", name) for name in (young, matched, matched_each, before))
    code, out, _ = ctl("budget", "lint")
    assert code == 2 and f"  fail           {never}: no call has ever been of tag {tag}=typo\n" in out
    again = put(api, f"/v1/budgets/{never}", scope="tag", value=f"{tag}=other", limit="9", window=LIFETIME)
    assert again["revision"] == 2 and found(ctl, "never_matched", never) is None, "a revision of a moment ago is young"


def test_lint_finds_limits_that_say_nothing(bench, api, ctl):
    tag = fresh("t")
    def make(limit, **more):
        return put(api, f"/v1/budgets/{fresh('b')}", **{"scope": "tag", "value": f"{tag}=x", "limit": limit, "window": MONTH, **more})["budget_id"]
    low, high, higher = make("5"), make("7"), make("7.000000001")
    same = make("5")
    others = [make("9", measure="billed"), make("9", window=LIFETIME), make("9", mode="shadow"), make("9", value=f"{tag}=y"), make(None)]
    for name in (high, higher):
        check = found(ctl, "pointless_limit", name)
        assert low in check["detail"] or same in check["detail"]
        assert check["status"] == "fail" and check["hint"] == f"spendctl budget set {name} --mode shadow"
        fine(ctl(*check["hint"].split()[1:]))  # what it says mends it
        assert found(ctl, "pointless_limit", name) is None
    assert not any(found(ctl, "pointless_limit", name) for name in (low, same, *others))
    zero, shadow = make("0", value=f"{tag}=z"), make("0", value=f"{tag}=z", mode="shadow")
    assert "nothing passes" in found(ctl, "zero_limit", zero)["detail"] and found(ctl, "zero_limit", shadow) is None
    assert "nothing passes" in facts(fine(ctl("budget", "show", zero)))["limit"]
    mute, free = make("5", thresholds=[], value=f"{tag}=m"), make(None, thresholds=[], value=f"{tag}=m")
    check = found(ctl, "no_thresholds", mute)
    assert check["hint"] == f"spendctl budget set {mute} --thresholds 50,80,100" and found(ctl, "no_thresholds", free) is None
    fine(ctl(*check["hint"].split()[1:]))
    assert found(ctl, "no_thresholds", mute) is None


def test_lint_finds_an_each_of_too_many_values(bench, api, ctl):
    made = put(api, f"/v1/budgets/{fresh('each')}", scope="tag", each=fresh("k"), limit="5", window=MONTH)["budget_id"]
    count = "UPDATE budget_revision r SET value_count = %s FROM budget b WHERE b.id = r.budget AND b.budget_id = %s"
    bench.execute(count, (90_000, made))
    assert found(ctl, "many_values", made) is None
    bench.execute(count, (90_001, made))
    check = found(ctl, "many_values", made)
    bench.execute(count, (0, made))
    assert check["status"] == "fail" and "90001" in check["detail"] and "SPEND_BUDGET_VALUES" in check["hint"]


# -- list and show

def test_budgets_are_listed_in_a_zone(bench, api, ctl):
    tag = fresh("t")
    month = put(api, f"/v1/budgets/{fresh('month')}", scope="tag", value=f"{tag}=x", limit="20", window=MONTH)
    ever = put(api, f"/v1/budgets/{fresh('ever')}", scope="tag", each=tag, limit=None, window=LIFETIME, mode="shadow")
    key = put(api, f"/v1/budgets/{fresh('key')}", scope="key", value=key_hash("k"), limit="1", window=LIFETIME)
    spend(bench, 4.25, tags=[f"{tag}=x"])
    def row(budget, out):
        return next(r for r in rows(out) if r[0] == budget["budget_id"])
    out = fine(ctl("budget", "list", **BERLIN))
    assert rows(out)[0] == ["budget", "scope", "value", "mode", "limit", "spent", "held", "remaining", "next", "reset"]
    want = ["tag", f"{tag}=x", "hard", "20", "4.25", "0", "15.75"]
    end = shown(month["window_end"], "Europe/Berlin")
    assert end.split()[1:] in (["00:00", "CET"], ["00:00", "CEST"])
    assert row(month, out)[1:] == want + end.split()
    assert row(ever, out)[1:] == ["tag", "each", tag, "shadow", "none", "-", "-", "-", "never"]
    assert row(key, out)[2] == key_hash("k")[:12] + ".." and row(key, out)[-1] == "never"
    for zone in ("Asia/Kathmandu", "UTC"):
        out = fine(ctl("budget", "list", "--tz", zone, "--scope", "tag", **BERLIN))
        assert row(month, out)[1:] == want + shown(month["window_end"], zone).split() and key["budget_id"] not in out
    items = json.loads(fine(ctl("budget", "list", "--scope", "key", "--json")))["items"]
    assert {item["scope"] for item in items} == {"key"} and key["budget_id"] in [item["budget_id"] for item in items]
    refusal(ctl("budget", "list", "--scope", "organisation"), "organisation", "key, user, team")


@pytest.mark.parametrize("command", [("list",), ("show", "b"), ("resets", "b")])
@pytest.mark.parametrize("zone", ["Mars/Olympus", "europe/berlin", "UTC+3", "", "../zoneinfo/UTC"])
def test_a_zone_that_does_not_exist_is_refused(ctl, command, zone):
    for more in ((), ("--json",)):
        err = refusal(ctl("budget", *command, "--tz", zone, *more), f'"{zone}"', "IANA")
        assert "Europe/Berlin" in err
    refusal(ctl("budget", *command, TZ="Mars/Olympus"), "TZ is set to it", "unset TZ")


def test_the_list_goes_over_its_pages(bench, ctl):
    bench.execute("SELECT budget_put('bulk-' || n, 'user', 'bulk-' || n, NULL, NULL, 'raw', 'lifetime', NULL, NULL, 'UTC', NULL, true,"
                  " '{}', now(), 1) FROM generate_series(1, 1100) AS n")
    out = fine(ctl("budget", "list", "--scope", "user"))
    assert {f"bulk-{n}" for n in range(1, 1101)} <= {row[0] for row in rows(out)}
    document = json.loads(fine(ctl("budget", "list", "--json")))
    assert document["next"] is None and len({b["budget_id"] for b in document["items"]}) == len(document["items"]) > 1100


def test_everything_of_a_budget_is_shown(bench, api, ctl):
    account = bench.account()
    made = put(api, f"/v1/budgets/{fresh('b')}", scope="account", value=account, limit="10", window=MONTH, thresholds=[50, 80, 100])
    out = fine(ctl("budget", "show", made["budget_id"], **BERLIN))
    assert facts(out)["last matched"] == "no call yet" and facts(out)["thresholds"] == "50 %, 80 %, 100 %"
    spend(bench, 8, account=account)
    seen = api("GET", f"/v1/budgets/{made['budget_id']}")[1]
    out = fine(ctl("budget", "show", made["budget_id"], **BERLIN))
    assert out.startswith(f"Budget {made['budget_id']}\n")
    assert facts(out) == {
        "about": f"account {account}", "limit": "10 USD", "measure": "raw: what the provider charges", "mode": "hard",
        "thresholds": "50 % reached, 80 % reached, 100 %", "window": "calendar month in Europe/Berlin",
        "from": shown(seen["window_start"], "Europe/Berlin"), "to": shown(seen["window_end"], "Europe/Berlin"), "spent": "8 USD",
        "held": "0 USD", "remaining": "2 USD", "ungated": "8 USD of what is spent: no hold stood for it",
        "last matched": shown(seen["last_matched_at"], "Europe/Berlin"), "revision": "1"}
    assert facts(fine(ctl("budget", "show", made["budget_id"], "--tz", "Asia/Tokyo")))["to"] == shown(seen["window_end"], "Asia/Tokyo")
    assert json.loads(fine(ctl("budget", "show", made["budget_id"], "--json"))) == seen
    ever = put(api, f"/v1/budgets/{fresh('b')}", scope="account", value=account, limit=None, window=LIFETIME, measure="billed", mode="shadow")
    out = facts(fine(ctl("budget", "show", ever["budget_id"])))
    assert (out["limit"], out["to"], out["window"]) == ("none", "never", "lifetime") and "remaining" not in out
    assert out["measure"].startswith("billed") and out["mode"].startswith("shadow")
    refusal(ctl("budget", "show", "nobody-s"), "nobody-s", "spendctl budget set", "spendctl budget list")


def test_the_values_of_an_each_are_shown_largest_first_from_every_page(bench, api, ctl):
    key = fresh("tenant")
    made = put(api, f"/v1/budgets/{fresh('each')}", scope="tag", each=key, limit="5", window=MONTH)["budget_id"]
    for value, dollars in (("zz", 3), ("a", 1), ("zzz", 10), ("b", 2)):  # 10 is less than 3 as text
        spend(bench, dollars, tags=[f"{key}={value}"])
    out = fine(ctl("budget", "show", made, **BERLIN))
    assert facts(out)["about"] == f"each value of tag {key}" and "spent" not in facts(out)
    assert "4 values have a window of their own\n" in out
    values = [row for row in rows(out) if row[0].startswith(key)]
    assert [row[:4] for row in values] == [[f"{key}={v}", s, "0", r] for v, s, r in
                                           (("zzz", "10", "-5"), ("zz", "3", "2"), ("b", "2", "3"), ("a", "1", "4"))]
    bench.execute("SELECT window_open(b.id, 1, %s || n, now(), 100000) FROM budget b, generate_series(1, 1200) AS n WHERE budget_id = %s",
                  (f"{key}=m", made))
    out = fine(ctl("budget", "show", made))
    assert "1204 values have a window of their own; the 20 with the most spent:\n" in out
    assert [row[1] for row in rows(out) if row[0].startswith(key)][:5] == ["10", "3", "2", "1", "0"]
    out = fine(ctl("budget", "show", made, "--limit", "3"))
    assert "the 3 with the most spent" in out and [r[1] for r in rows(out) if r[0].startswith(key)] == ["10", "3", "2"]
    document = json.loads(fine(ctl("budget", "show", made, "--limit", "2", "--json")))
    assert document["values"] == 1204 and [v["spent"] for v in document["largest"]] == ["10", "3"]
    one = facts(fine(ctl("budget", "show", made, "--value", f"{key}=zz")))
    assert one["about"] == f"tag {key}=zz" and one["spent"] == "3 USD" and one["thresholds"] == "50 % reached, 80 %, 100 %"
    refusal(ctl("budget", "show", made, "--value", "nobody"), "nobody", "spendctl budget show")
    code, _, err = ctl("budget", "show", made, "--limit", "0")
    assert code == 1 and "--limit 0" in err


# -- set

def test_a_budget_is_made_and_what_is_left_out_stands(bench, api, ctl):
    name, tag = fresh("b"), fresh("t")
    make = ("--scope", "tag", "--value", f"{tag}=x", "--limit", "12.50", "--window", "month", "--tz", "Europe/Berlin", "--measure", "billed",
            "--mode", "shadow", "--thresholds", "10,200")
    refusal(ctl("budget", "set", name, *make[2:]), name, "--scope", "--window", "spendctl budget list")
    out = fine(ctl("budget", "set", name, *make))
    assert out.startswith(f"Made:\n\nBudget {name}\n") and facts(out)["window"] == "calendar month in Europe/Berlin"
    made = api("GET", f"/v1/budgets/{name}")[1]
    assert (made["limit"], made["measure"], made["mode"], made["thresholds"]) == ("12.5", "billed", "shadow", [10, 200])
    spend(bench, 3, tags=[f"{tag}=x"])
    assert fine(ctl("budget", "set", name, *make)).startswith("It is so already: nothing was changed.\n")
    changes = [(("--limit", "20"), {"limit": "20"}, "limit          12.5 USD -> 20 USD"),
               (("--mode", "hard"), {"mode": "hard"}, "mode           shadow -> hard"),
               (("--thresholds", "50,80"), {"thresholds": [50, 80]}, "thresholds     10 % reached, 200 % -> 50 %, 80 %"),
               (("--limit", "none", "--thresholds", "none"), {"limit": None, "thresholds": []}, "limit          20 USD -> none")]
    want = {**made, "spent": "3", "ungated": "3", "threshold_crossed": 10}
    for args, change, words in changes:
        out = fine(ctl("budget", "set", name, *args))
        want |= change
        seen = api("GET", f"/v1/budgets/{name}")[1]
        assert out.startswith("Changed:\n  ") and f"\n  {words}\n" in out
        assert out.split("\n\n")[0].count("\n") == len(change), "it names what changed and nothing else"
        for member in ("remaining", "changed_at", "last_matched_at"):
            want[member] = seen[member]
        assert seen == want
    assert json.loads(fine(ctl("budget", "set", name, "--limit", "7", "--json")))["limit"] == "7"


def test_what_begins_anew_is_said_before_and_wants_to_be_meant(bench, api, ctl):
    tag = fresh("t")
    window = {"kind": "interval", "seconds": 3600, "anchor": "2026-01-01T00:00:00Z"}
    for args, change in ((("--value", f"{tag}=y"), {"value": f"{tag}=y"}), (("--each", tag), {"value": None, "each": tag}),
                         (("--scope", "user"), {"scope": "user"}), (("--measure", "billed"), {"measure": "billed"}),
                         (("--window", "7200s"), {"seconds": 7200}), (("--anchor", "2026-01-01T00:01:00Z"), {"anchor": "2026-01-01T00:01:00.000000Z"}),
                         (("--window", "day", "--tz", "Asia/Tokyo"),
                          {"kind": "calendar", "period": "day", "seconds": None, "anchor": None, "tz": "Asia/Tokyo"})):
        name = fresh("b")
        made = put(api, f"/v1/budgets/{name}", scope="tag", value=f"{tag}=x", limit="9", window=window, thresholds=[7], mode="shadow")
        err = refusal(ctl("budget", "set", name, *args), "revision 2", "revision 1 keeps 0 USD", "--begin-anew")
        assert name in err and api("GET", f"/v1/budgets/{name}")[1] == made, "it was changed all the same"
        out = fine(ctl("budget", "set", name, *args, "--begin-anew"))
        assert "revision       1 -> 2: it begins anew, with nothing spent" in out
        seen = api("GET", f"/v1/budgets/{name}")[1]
        want = {m: change.get(m, made[m]) for m in ("scope", "value", "each", "limit", "measure", "mode", "thresholds")}
        want["window"] = {m: change.get(m, made["window"][m]) for m in made["window"]}
        assert {m: seen[m] for m in want} == want and seen["revision"] == 2


def test_the_same_again_in_other_words_does_not_begin_anew(bench, api, ctl):
    name = fresh("b")
    put(api, f"/v1/budgets/{name}", scope="key", value=key_hash("k"), limit="9",
        window={"kind": "interval", "seconds": 3600, "anchor": "2026-01-01T00:00:00Z"})
    out = fine(ctl("budget", "set", name, "--value", key_hash("k").upper(), "--window", "3600s", "--anchor", "2026-01-01T01:00:00+01:00", "--limit", "9.0"))
    assert out.startswith("It is so already")
    fine(ctl("budget", "set", name, "--limit", "8", "--begin-anew"))
    assert api("GET", f"/v1/budgets/{name}")[1]["revision"] == 1


def test_a_key_is_named_by_its_hash_and_never_sent(bench, api, ctl):
    name, secret = fresh("b"), "sk-" + fresh("secret")
    made = ("--scope", "key", "--limit", "1", "--window", "day")
    def unheard(*args):
        err = refusal(ctl("budget", *args), "sha256sum", "nothing was sent")
        assert secret not in err and secret not in bench.stack.services["ledger"].log()
    unheard("set", name, *made, "--value", secret)
    assert api("GET", f"/v1/budgets/{name}")[0] == 404
    fine(ctl("budget", "set", name, *made, "--each", "key"))
    unheard("show", name, "--value", secret)
    unheard("reset", name, "--value", secret, "--reason", "x")


@pytest.mark.parametrize(("args", "words"), [
    (("--limit", "-1"), "negative"), (("--limit", "1,5"), "limit"), (("--mode", "soft"), "shadow"), (("--measure", "net"), "raw"),
    (("--window", "months"), "quarter"), (("--window", "0s"), "100 years"), (("--thresholds", "80,50"), "ascending"),
    (("--thresholds", "half"), "50,80,100"), (("--tz", "Mars/Olympus"), "IANA"), (("--anchor", "monday"), "2026-12-01"),
    (("--scope", "organisation"), "key, user, team"), (("--each", "team"), "both --value and --each"), (("--value", ""), "1 to 128")])
def test_a_budget_that_says_nothing_sensible_is_refused(ctl, args, words):
    good = {"--scope": "team", "--value": "core", "--limit": "1", "--window": "month", args[0]: args[1]}
    refusal(ctl("budget", "set", fresh("b"), *(word for pair in good.items() for word in pair)), words)


# -- reset and resets

def test_a_reset_says_what_the_window_had_spent(bench, api, ctl):
    account, name = bench.account(), fresh("b") + " it's"
    path = f"/v1/budgets/{name.replace(' ', '%20')}"
    made = put(api, path, scope="account", value=account, limit="10", window=MONTH)
    spend(bench, 1, 2.5, account=account)
    code, _, err = ctl("budget", "reset", name)
    assert code == 1 and "--reason" in err
    refusal(ctl("budget", "reset", name, "--reason", "x", "--value", "other"), "other", "spendctl budget show")
    assert api("GET", path)[1]["spent"] == "3.5", "a value that it does not have reset it"
    out = fine(ctl("budget", "reset", name, "--reason", "ticket 42", **BERLIN))
    after = api("GET", path)[1]
    start, closed = (shown(t, "Europe/Berlin") for t in (made["window_start"], after["window_start"]))
    assert out.startswith(f"Closed: the window from {start} to {closed} had spent 3.5 USD.\n")
    assert "spendctl budget resets '" + name.replace("'", r"'\''") + "'\n" in out and facts(out)["spent"] == "0 USD"
    document = json.loads(fine(ctl("budget", "reset", name, "--reason", "again", "--json")))
    assert document["closed"]["spent"] == "0" and document["closed"]["window_start"] == after["window_start"] and document["spent"] == "0"
    lines = fine(ctl("budget", "resets", name, "--tz", "Europe/Berlin")).splitlines()
    assert lines[0].split() == ["value", "from", "to", "spent", "by", "why"] and len(lines) == 3
    assert lines[1].split() == [account, *start.split(), *closed.split(), "3.5", "operator", "ticket", "42"]
    items = json.loads(fine(ctl("budget", "resets", name, "--json")))["items"]
    assert [(i["spent"], i["actor"], i["reason"]) for i in items] == [("3.5", "operator", "ticket 42"), ("0", "operator", "again")]
    refusal(ctl("budget", "resets", "nobody-s"), "nobody-s", "spendctl budget list")


def test_one_value_of_an_each_is_reset(bench, api, ctl):
    key = fresh("tenant")
    made = put(api, f"/v1/budgets/{fresh('each')}", scope="tag", each=key, limit="5", window=LIFETIME)["budget_id"]
    for value in ("a", "b"):
        spend(bench, 2, tags=[f"{key}={value}"])
    refusal(ctl("budget", "reset", made, "--reason", "x"), "each", "--value", "spendctl budget show")
    out = fine(ctl("budget", "reset", made, "--reason", "x", "--value", f"{key}=a"))
    assert "had spent 2 USD" in out and facts(out)["about"] == f"tag {key}=a" and facts(out)["spent"] == "0 USD"
    values = json.loads(fine(ctl("budget", "show", made, "--json")))["largest"]
    assert [(v["value"], v["spent"]) for v in values] == [(f"{key}=b", "2"), (f"{key}=a", "0")]


def test_windows_that_ended_by_themselves_are_the_clock_s(bench, api, ctl):
    account = bench.account()
    made = put(api, f"/v1/budgets/{fresh('b')}", scope="account", value=account, limit="5", window={"kind": "interval", "seconds": 2})["budget_id"]
    spend(bench, 1, account=account)
    def ended():
        return [r for r in rows(fine(ctl("budget", "resets", made, "--tz", "UTC")))[1:] if "clock" in r]
    seen = wait_until(lambda: len(ended()) >= 2 and ended(), 20, "two windows ended")
    assert any(row[7] == "1" for row in seen) and all(row[3] == row[6] == "UTC" for row in seen), seen
    each = put(api, f"/v1/budgets/{fresh('each')}", scope="account", each="account", limit="5", window={"kind": "interval", "seconds": 1})["budget_id"]
    spend(bench, 1, account=account)
    wait_until(lambda: json.loads(fine(ctl("budget", "show", each, "--json")))["largest"][0]["spent"] == "0", 20, "nothing to be reset")
    before = datetime.now(timezone.utc)
    (value,) = json.loads(fine(ctl("budget", "show", each, "--json")))["largest"]
    assert at(value["window_end"]) > before and at(value["window_end"]) - at(value["window_start"]) == timedelta(seconds=1)
    put(api, f"/v1/budgets/{each}", scope="user", value=fresh("gone"), limit=None, window=LIFETIME)


def test_a_reader_may_look_and_nothing_else(bench, api, ctl):
    reader = {"SPEND_LEDGER_TOKEN": bench.stack.secret("reader")}
    made = put(api, f"/v1/budgets/{fresh('b')}", scope="user", value="bob", limit="5", window=LIFETIME)["budget_id"]
    for args in (("list",), ("show", made), ("resets", made)):
        fine(ctl("budget", *args, **reader))
    lint(ctl, **reader)
    for args in (("set", made, "--limit", "1"), ("reset", made, "--reason", "x")):
        refusal(ctl("budget", *args, **reader), "operator")
