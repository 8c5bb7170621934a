"""What several files of tests share: one ledger a file, and its API."""

import subprocess

import pytest

from ledger_bench import running_ledger


@pytest.fixture(scope="module")
def bench():
    with running_ledger() as bench:
        yield bench


@pytest.fixture(name="api")
def fixture_api(bench):
    return bench.stack.api


@pytest.fixture(name="ctl")
def fixture_ctl(bench):
    """Runs spendctl: (exit code, stdout, stderr)."""
    def run(*args, stdin=None, **env):
        environment = bench.stack.clean_env({"SPEND_LEDGER_URL": bench.stack.services["ledger"].url,
                                             "SPEND_LEDGER_TOKEN": bench.stack.secret("operator"), **env})
        done = subprocess.run([str(bench.stack.bin_dir / "spendctl"), *args], env=environment, input=stdin,
                              capture_output=True, check=False, timeout=60)
        return done.returncode, done.stdout.decode(), done.stderr.decode()
    return run
