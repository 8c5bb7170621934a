"""The two commands a newcomer types, and what they promise: the demo's bill, up again, down."""

import os
import subprocess
import sys

import pytest

from integration.settle import judge
from stack import LOCAL, Stack, process_birth

SERVICES = ("ledger", "attributor", "ingest")


class Local:
    """One state directory under deploy/local's own scripts; the binaries are those of build/release, made by `up`."""

    def __init__(self, stack):
        self.stack = stack

    def run(self, script, *args, env=None):
        done = subprocess.run([LOCAL / script, "--dir", self.stack.dir, *args], env={**self.stack.clean_env(), **(env or {})},
                              capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pids(self):
        return {path.stem: int(path.read_text().split()[0]) for path in (self.stack.dir / "run").glob("*.pid")}

    def environment(self, service):
        raw = open(f"/proc/{self.pids()[service]}/environ", "rb").read().decode()
        return dict(item.split("=", 1) for item in raw.split("\0") if "=" in item)


@pytest.fixture(scope="module")
def local():
    one = Local(Stack())
    yield one
    one.stack.close()


def test_a_shell_that_sourced_env_wishes_nothing_of_another_stack(tmp_path):
    """Its upstream was one: the demo in such a shell, after down --purge, sent its calls to a port of the past."""
    script = f""". {LOCAL}/lib/common.sh; for part in process kafka postgres services; do . {LOCAL}/lib/$part.sh; done
        state_open {tmp_path}/first; env_write; . {tmp_path}/first/env
        state_open {tmp_path}/second; settings_load; [ "$(upstream_url)" = "$(provider_url)" ]"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SPEND_")}
    done = subprocess.run(["bash", "-c", script], env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "second" / "given").read_text() == ""


@pytest.mark.parametrize("time", ["first", "second"])
def test_the_demo_ends_with_a_bill(local, time):
    out = local.run("demo")
    for words in ("The bill of account", "tokens in", "raw cost", "billed", "balance before", "balance after"):
        assert words in out, out
    assert f"deploy/local/down --dir {local.stack.dir} stops it" in out, out


def test_the_demo_of_s0_bills_what_litellm_stripped(local):
    out = local.run("demo", "--case", "S0")
    assert "0 calls found" in out and "spend.dlq.untagged" in out and "balance after" in out, out


@pytest.mark.parametrize("case", ["S1", "S2", "S3"])  # S4 takes its time: it waits for windows to end
def test_the_demos_of_budgets_end_as_they_say(local, case):
    out = local.run("demo", "--case", case)
    assert "Budget has been exceeded!" in out and "spendctl explain" in out, out


def test_the_oracle_agrees_with_what_the_demos_left(local):
    judge(local.stack)


def test_up_again_starts_only_what_died_and_with_the_settings_it_had(local):
    local.run("down")
    local.run("up", env={"SPEND_LOG_LEVEL": "debug"})
    before = local.pids()
    os.kill(before["ingest"], 9)
    local.run("up")
    after = local.pids()
    assert {name for name in after if after[name] != before.get(name)} == {"ingest"}
    assert all(local.environment(name)["SPEND_LOG_LEVEL"] == "debug" for name in SERVICES)


def test_each_service_has_only_its_own_secrets(local):
    local.run("up")
    assert "spend_ledger:" in local.environment("ledger")["SPEND_DATABASE_URL"]
    for name in ("attributor", "ingest"):
        assert "SPEND_DATABASE_URL" not in local.environment(name)
    assert local.environment("ingest")["SPEND_LEDGER_TOKEN"] == local.stack.secret("ingest")


def test_down_says_that_nothing_runs(tmp_path):
    for made in (False, True):
        if made:
            (tmp_path / "run").mkdir()
        done = subprocess.run([LOCAL / "down", "--dir", tmp_path], capture_output=True, text=True, check=True)
        assert "nothing" in done.stdout and str(tmp_path) in done.stdout, done.stdout


def test_help_names_every_flag():
    for script, flags in {"demo": ("--case", "--dir", "--bin"), "down": ("--dir", "--purge"),
                          "up": ("--litellm", "--gate", "--dir", "--bin", "--only")}.items():
        done = subprocess.run([LOCAL / script, "--help"], capture_output=True, text=True, check=True)
        assert not [flag for flag in flags if flag not in done.stdout], done.stdout


def test_env_is_one_export_a_line_and_puts_spendctl_on_the_path(local):
    local.run("up")
    lines = (local.stack.dir / "env").read_text().splitlines()
    assert [line.split("=")[0].removeprefix("export ") for line in lines] == [
        "SPEND_INGEST_URL", "SPEND_LEDGER_URL", "SPEND_LEDGER_TOKEN", "SPEND_KAFKA_BROKERS", "SPEND_DATABASE_URL",
        "SPEND_UPSTREAM_URL", "SPENDLINE_ENV_UPSTREAM_URL", "PATH"]
    done = subprocess.run(["bash", "-c", f". {local.stack.dir}/env && command -v spendctl && psql -Atc 'select usesuper "
                           "from pg_user where usename = current_user' \"$SPEND_DATABASE_URL\""],
                          capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "t"


def test_down_stops_what_up_started_and_nothing_else_and_keeps_data(local):
    local.run("up")
    ours = local.pids()
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    local.run("down")
    assert set(SERVICES) <= set(ours) and not [name for name, pid in ours.items() if process_birth(pid)]
    assert stranger.poll() is None
    stranger.communicate(b"\n")
    assert (local.stack.dir / "kafka-data" / "meta.properties").exists()
    local.run("up")
    local.run("down", "--purge")
    assert not local.stack.dir.exists()
