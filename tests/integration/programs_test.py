"""What the programs say of themselves: their help, the words they use for a wrong start, the numbers they show."""

import re
import subprocess

import pytest
from stack import Stack, free_port, http, wait_until

NEEDS = {
    "spend-ingest": {"SPEND_KAFKA_BROKERS": "127.0.0.1:1", "SPEND_UPSTREAM_URL": "http://127.0.0.1:1", "SPEND_JOURNAL_DIR": "/none",
                     "SPEND_LEDGER_URL": "http://127.0.0.1:1", "SPEND_LEDGER_TOKEN": "a-token-of-ingest",
                     "SPEND_SPEND_LOG_SECRET": "0123456789abcdef0123456789abcdef"},
    "spend-attributor": {"SPEND_KAFKA_BROKERS": "127.0.0.1:1"},
    "spend-ledger": {"SPEND_KAFKA_BROKERS": "127.0.0.1:1", "SPEND_DATABASE_URL": "postgresql://127.0.0.1:1/none",
                     "SPEND_OPERATOR_TOKEN": "a-token-of-an-operator"},
}
LISTENS = [("spend-ingest", "listen"), ("spend-ledger", "listen"), *((program, "admin-listen") for program in NEEDS)]


@pytest.fixture(scope="module")
def stack():
    with Stack() as one:
        one.start_services()
        yield one


def started(stack, program, *flags):
    return subprocess.run([stack.bin_dir / program, *flags], env=stack.clean_env(NEEDS[program]), capture_output=True, text=True,
                          check=False)


@pytest.mark.parametrize("program, flag", LISTENS)
def test_check_config_refuses_an_address_nobody_can_listen_on(stack, program, flag):
    for bad in ("foo", "localhost:", "localhost:65536", ":4100"):
        done = started(stack, program, "--check-config", f"--{flag}={bad}")
        assert done.returncode == 2 and f"--{flag}" in done.stderr and "host:port" in done.stderr, done
    for good in ("localhost:4100", "0.0.0.0:4100", "[::1]:4100"):
        done = started(stack, program, "--check-config", f"--{flag}={good}")
        assert done.returncode == 0, done


@pytest.mark.parametrize("program", NEEDS)
def test_help_says_what_check_config_does(stack, program):
    done = started(stack, program, "--help")
    assert done.returncode == 0 and re.search(r"--check-config +\w+", done.stdout), done.stdout


def test_ingest_listens_on_a_host_by_name(stack):
    port = free_port()
    service = stack.ingest("named", flags=[f"--listen=localhost:{port}"]).start()
    status, _, _ = wait_until(lambda: http("GET", f"http://localhost:{port}/v1/models"), 20, "an answer")
    assert status == 200
    service.stop()


@pytest.mark.parametrize("name", ["ingest", "attributor", "ledger"])
def test_every_metric_says_what_it_counts(stack, name):
    text = http("GET", stack.services[name].admin_url + "/metrics")[2].decode()
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.M))
    assert len(helps) > 5 and helps.keys() == set(re.findall(r"^# TYPE (\S+)", text, re.M))
    assert not [metric for metric, words in helps.items() if not words.strip()]
