"""What several files of tests share: one ledger a file, and its API."""

import pytest

from ledger_bench import running_ledger


@pytest.fixture(scope="module")
def bench():
    with running_ledger() as bench:
        yield bench


@pytest.fixture(name="api")
def fixture_api(bench):
    return bench.stack.api
