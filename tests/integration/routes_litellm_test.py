"""Every POST that LiteLLM serves, asked through ingest: what may cost money is a call, however the path is written."""

import subprocess

import pytest

from stack import ROOT, http
from ingest_test import ingest_stack

# They cost nothing at a provider: things are stored, listed, stopped, or only looked at.
FREE = ("/files", "/assistants", "/moderations", "/batches/", "/fine_tuning/jobs/")
SCRIPT = """
import os
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
from litellm.proxy.proxy_server import app
for path in sorted({route.path for route in app.routes if "POST" in (getattr(route, "methods", None) or ())}):
    print("route", path)
"""


@pytest.fixture(scope="module", name="routes")
def routes_fixture():
    done = subprocess.run([ROOT / ".local/litellm/bin/python", "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.removeprefix("route ") for line in done.stdout.splitlines() if line.startswith("route ")]


def is_call(ingest, path):
    name = 'spend_ingest_requests_total{kind="call"}'
    calls = ingest.metrics()[name]
    http("POST", ingest.url + path, {"model": "m"})
    return ingest.metrics()[name] > calls


def filled(path):
    """The path with something for each of its parameters."""
    while "{" in path:
        begin, end = path.index("{"), path.index("}")
        path = path[:begin] + "x" + path[end + 1:]
    return path


def test_a_path_is_a_call_with_and_without_v1(routes):
    both = [path for path in routes if "/v1" + path in routes]
    assert len(routes) > 250 and len(both) > 20
    with ingest_stack() as stack:
        ingest = stack.ingest().start()
        missed = [path for path in both if not path.startswith(FREE) and not is_call(ingest, filled(path))]
        assert missed == []
        behind = stack.ingest("behind", upstream=stack.provider_url + "/v1").start()
        missed = [path for path in both if not is_call(behind, filled(path))]
        assert missed == []
