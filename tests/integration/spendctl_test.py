"""spendctl as a person and as a program meet it: its tables, its JSON, its exit codes, and what it says when it fails."""

import json
import os
import subprocess
import uuid

import pytest

from ledger_bench import attributed, dead, key_hash
from oracle import build
from stack import free_port
from api_test import PRICE_FILE, fresh, put
from api_calls_test import RAW, USAGE, id_of


def fine(answer):
    assert answer[0] == 0 and answer[2] == "", answer
    return answer[1]


def rows(text):
    """The table's lines as lists of words."""
    return [line.split() for line in text.splitlines() if line.startswith("  ")]


def test_help_lists_every_command_and_each_has_its_own(ctl):
    overview = fine(ctl("--help"))
    assert overview == fine(ctl("help")) and "SPEND_LEDGER_URL" in overview and "exit codes" in overview
    commands = [line[2:18].strip() for line in overview.splitlines() if line.startswith("  ") and line[2] != " "]
    assert {"account list", "account show", "account set", "account credit", "budget list", "budget show", "budget set",
            "budget reset", "budget resets", "budget lint", "explain", "prices import", "prices list",
            "prices show", "version"} == set(commands)
    for command in commands:
        page = fine(ctl(*command.split(), "--help"))
        assert page.startswith(f"spendctl {command}: ") and "usage:" in page and "--json" in page
        assert command == "version" or f"\n  spendctl {command}" in page, f"{command} has no example"


@pytest.mark.parametrize("args", [("frobnicate",), ("account",), ("account", "frobnicate"), ("account", "show"),
                                  ("account", "show", "a", "b"), ("account", "list", "--nope"),
                                  ("account", "credit", "a", "--amount", "1"), ("account", "credit", "a", "--external-id"),
                                  ("account", "list", "--limit", "x"), ("prices", "import", "f", "--dry-run=yes"), ()])
def test_a_wrong_command_line_says_what_to_do(ctl, args):
    code, out, err = ctl(*args)
    assert code == 1 and out == "" and ("--help" in err or "--limit" in err)


def test_half_a_command_names_what_could_follow(ctl):
    code, _, err = ctl("account")
    assert code == 1 and all(f"account {verb}" in err for verb in ("list", "show", "set", "credit")) and "prices" not in err


def test_without_connection_it_says_which_variable_is_missing(bench, ctl):
    code, _, err = ctl("account", "list", SPEND_LEDGER_URL="")
    assert code == 1 and "SPEND_LEDGER_URL" in err and ".local/env" in err
    code, _, err = ctl("account", "list", SPEND_LEDGER_URL=f"http://127.0.0.1:{free_port()}")
    assert code == 1 and "is the ledger running" in err
    code, _, err = ctl("account", "list", SPEND_LEDGER_TOKEN="wrong")
    assert code == 1 and "SPEND_LEDGER_TOKEN" in err
    code, _, err = ctl("account", "set", "x", SPEND_LEDGER_TOKEN=bench.stack.secret("reader"))
    assert code == 1 and "operator" in err


def test_version_is_the_ledger_s(ctl):
    assert fine(ctl("version")) == fine(ctl("--version"))
    assert json.loads(fine(ctl("version", "--json")))["version"] in fine(ctl("version"))


def test_an_account_is_set_credited_shown_and_listed(bench, ctl):
    account = "müller & söhne/" + fresh("a")
    out = fine(ctl("account", "set", account, "--name", "Müller", "--overdraft", "5"))
    assert f"Account {account}" in out and ["overdraft", "5", "USD"] in rows(out) and "default" in out
    out = fine(ctl("account", "credit", account, "--external-id", "po-1", "--amount", "12.50"))
    assert "top_up of 12.5 USD" in out and "balance 12.5 USD" in out
    again = fine(ctl("account", "credit", account, "--external-id", "po-1", "--amount", "12.50"))
    assert again.startswith(out) and "posted before" in again and "nothing was added" in again and "before" not in out
    code, _, err = ctl("account", "credit", account, "--external-id=po-1", "--amount=13")
    assert code == 1 and "already" in err and "new external_id" in err
    fine(ctl("account", "set", account, "--overdraft", "none"))
    shown = json.loads(fine(ctl("account", "show", account, "--json")))
    assert (shown["name"], shown["balance"], shown["overdraft_limit"]) == ("Müller", "12.5", None)
    assert "no limit" in fine(ctl("account", "show", account))
    listed = fine(ctl("account", "list"))
    assert account in listed and "~suspense/untagged" in listed
    starts = {line.rindex(" 0") for line in listed.splitlines()[1:]}
    assert len(starts) == 1, "the last column is not aligned"
    items = json.loads(fine(ctl("account", "list", "--json", "--limit", "2")))
    assert len(items["items"]) == 2 and items["next"]
    assert "--limit" in fine(ctl("account", "list", "--limit", "2"))
    code, _, err = ctl("account", "show", "nobody-here")
    assert code == 1 and "nobody-here" in err and "spendctl account set" in err and "/v1/" not in err


def test_a_list_goes_over_its_pages(bench, ctl):
    names = {bench.account() for _ in range(5)}
    bench.execute("INSERT INTO account (account_id, config_version) SELECT 'bulk-' || n, 1 FROM generate_series(1, 1500) AS n")
    bench.execute("INSERT INTO account_version SELECT id, 'epoch', now(), 'default', 1 FROM account"
                  " WHERE account_id LIKE 'bulk-%%'")
    items = json.loads(fine(ctl("account", "list", "--json", "--limit", "5000")))
    ids = [item["account_id"] for item in items["items"]]
    assert len(ids) == len(set(ids)) > 1500 and names <= set(ids) and items["next"] is None


def test_explain_tells_a_call_on_one_screen(bench, ctl):
    tier = fresh("tier")
    put(bench.stack.api, f"/v1/tiers/{tier}", markup="1.30")
    account = bench.account(tier)
    call = build.call([build.tag(f"account_id={account}", "header"), build.tag("colour=blue", "root", "metadata")],
                      key_hash=key_hash("k"), usage=build.usage(**USAGE), model_replied="gpt-4o")
    bench.feeder.bill(attributed(call, account, RAW, task_id="job"))
    bench.settle()
    out = fine(ctl("explain", id_of(call)))
    assert len(out.splitlines()) <= 45
    assert f"Call {id_of(call)}: billed" in out and f"{account}, named by the tag account_id={account}" in out
    assert ["colour=blue", "root,", "metadata"] in rows(out)
    assert ["input", "1000", "0.0000025", "0.0025", "input_cost_per_token"] in rows(out)
    assert "Price book 1, entry gpt-4o (exact)" in out
    assert ["raw", "cost", "0.00725", "USD"] in rows(out)
    assert "0.009425 USD (raw cost x 1.3)" in out
    assert any(row[:5] == [account, "1", "deduction", "call", "-0.009425"] for row in rows(out))
    assert "spend.calls, partition 0, offset 0" in out and "spend.attributed" in out
    assert json.loads(fine(ctl("explain", id_of(call), "--json")))["state"] == "billed"


def test_explain_of_a_dead_letter_says_what_mends_it_and_exits_2(bench, ctl):
    call = build.call([build.tag("colour=blue")])
    bench.feeder.letter(dead(call, "untagged", 900))
    bench.settle()
    code, out, err = ctl("explain", id_of(call))
    assert (code, err) == (2, "")
    assert ["raw", "cost", "0.0000009", "USD"] in rows(out)
    assert "NOT BILLED" in out and "untagged" in out and "what mends it" in out and "~suspense/untagged" in out
    code, out, _ = ctl("explain", id_of(call), "--json")
    assert code == 2 and json.loads(out)["reason"] == "untagged"


def test_explain_of_an_unpriced_call_shows_no_amount(bench, ctl):
    call = build.call([build.tag("colour=blue")])
    bench.feeder.letter(dead(call, "unpriced", None))
    bench.settle()
    out = ctl("explain", id_of(call))[1]
    assert ["raw", "cost", "no", "amount"] in rows(out) and "- USD" not in out, out


def test_explain_tells_a_task_and_a_label(bench, ctl):
    account, task, label = bench.account(), fresh("task"), fresh("label")
    put(bench.stack.api, f"/v1/tasks/{task}", account_id=account)
    calls = [build.call(model_replied="gpt-4o") for _ in range(2)]
    for call in calls:
        bench.feeder.bill(attributed(call, account, RAW, task_id=task))
    bench.feeder.bill(attributed(build.call(), account, 5_000_000, task_id=label))
    bench.settle()
    out = fine(ctl("explain", task))
    assert f"Task {task}: open" in out and all(id_of(call) in out for call in calls)
    assert ["calls", "2"] in rows(out) and "0.0145 USD (1 cents)" in out
    code, _, err = ctl("explain", label)
    assert code == 1 and f"spendctl explain {label} --account" in err.replace("TASK", label) and "?account_id" not in err
    assert "0.005 USD" in fine(ctl("explain", label, "--account", account))


def test_explain_of_a_finished_task_without_spend_exits_2(bench, ctl):
    account, task = bench.account(), str(uuid.uuid4())
    put(bench.stack.api, f"/v1/tasks/{task}", account_id=account)
    assert bench.stack.api("POST", f"/v1/tasks/{task}/finish")[0] == 200
    for args in ((task,), (task, "--task")):
        code, out, _ = ctl("explain", *args)
        assert code == 2 and "NO SPEND" in out and f"task={task}" in out


def test_explain_of_nothing_known_fails(ctl):
    code, out, err = ctl("explain", str(uuid.uuid4()))
    assert code == 1 and out == "" and "neither a call nor a task" in err


def test_what_a_terminal_would_obey_is_not_printed(bench, ctl):
    account = bench.account()
    bench.execute("UPDATE account SET name = E'evil\\x1b[31m' WHERE account_id = %s", (account,))
    assert "\x1b" not in fine(ctl("account", "show", account)) and "evil?[31m" in fine(ctl("account", "list", "--limit", "9999"))


def test_prices_are_shown_imported_and_listed(bench, ctl, tmp_path):
    out = fine(ctl("prices", "show", "gpt-4o"))
    assert "Model gpt-4o in price book 1" in out and ["input_cost_per_token", "0.0000025"] in rows(out)
    prices = json.loads(PRICE_FILE.read_text())
    prices["gpt-4o"]["input_cost_per_token"] = 4e-06
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(prices))
    out = fine(ctl("prices", "import", str(mine), "--dry-run"))
    assert "Nothing was changed" in out
    assert ["gpt-4o", "changed", "input_cost_per_token", "0.0000025", "0.000004"] in rows(out)
    out = fine(ctl("prices", "import", str(mine)))
    assert "Price book 2 holds from" in out and ["changed", "1"] in rows(out)
    assert "already: nothing changes" in fine(ctl("prices", "import", "-", stdin=mine.read_bytes()))
    assert "mine.json" in fine(ctl("prices", "list"))
    assert ["input_cost_per_token", "0.000004"] in rows(fine(ctl("prices", "show", "gpt-4o", "--book", "2")))
    assert json.loads(fine(ctl("prices", "list", "--json")))["items"][1]["changed"] == 1
    mine.write_text("{}")
    code, _, err = ctl("prices", "import", str(mine))
    assert code == 1 and "no entry" in err and "nothing" in err
    code, _, err = ctl("prices", "import", str(tmp_path / "absent.json"))
    assert code == 1 and "absent.json" in err
    mine.write_bytes(b" " * (9 << 20))
    code, _, err = ctl("prices", "import", str(mine))
    assert code == 1 and "larger" in err
    code, _, err = ctl("prices", "show", "no-such-model")
    assert code == 1 and "no-such-model" in err and "spendctl prices import" in err
    for book in ("99", "x"):
        code, _, err = ctl("prices", "show", "gpt-4o", "--book", book)
        assert code == 1 and "spendctl prices list" in err and "/v1/" not in err


def test_a_reader_that_leaves_early_is_no_crash(bench, ctl):
    read_end, write_end = os.pipe()
    os.close(read_end)
    environment = bench.stack.clean_env({"SPEND_LEDGER_URL": bench.stack.services["ledger"].url,
                                         "SPEND_LEDGER_TOKEN": bench.stack.secret("operator")})
    done = subprocess.run([str(bench.stack.bin_dir / "spendctl"), "account", "list", "--json"], env=environment,
                          stdout=write_end, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(write_end)
    assert done.returncode == 1
