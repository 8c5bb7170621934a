"""What the programs say of themselves: their help, the words they use for a wrong start, the numbers they show."""

import re
import subprocess
import sys

import pytest
from stack import LOCAL, ROOT, Stack, free_port, http, wait_until

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


def topics(*args, file=ROOT / "deploy/topics/topics.json"):
    """(exit code, what it said) of the program that makes the topics."""
    done = subprocess.run([sys.executable, str(LOCAL / "lib/topics.py"), *args, str(file)], capture_output=True, text=True,
                          check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_topics_says_that_nothing_is_to_do(stack):
    code, said = topics("--brokers", stack.brokers, "--replication", "1")
    assert code == 0 and "nothing to do" in said, said


def test_topics_names_the_flag_when_there_are_too_few_brokers(stack, tmp_path):
    new = tmp_path / "topics.json"
    new.write_text((ROOT / "deploy/topics/topics.json").read_text().replace("spend.calls", "spend.other"))
    code, said = topics("--brokers", stack.brokers, file=new)
    assert code == 1 and "--replication" in said and "Traceback" not in said and len(said.splitlines()) == 1, said


def test_topics_says_in_one_line_that_no_broker_answers():
    code, said = topics("--brokers", f"127.0.0.1:{free_port()}", "--wait", "1")
    assert code == 1 and "no broker answers" in said and len(said.splitlines()) == 1, said


def test_topics_says_in_one_line_that_its_file_is_missing(tmp_path):
    code, said = topics("--brokers", "127.0.0.1:1", file=tmp_path / "absent.json")
    assert code == 1 and "absent.json" in said and len(said.splitlines()) == 1, said
