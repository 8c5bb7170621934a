"""Every POST that LiteLLM serves, asked through ingest: what may cost money is a call, however the path is written."""

import subprocess

import pytest

from stack import ROOT, http
from ingest_test import ingest_stack

# They cost nothing at a provider: LiteLLM's own administration, things stored, listed, stopped, or only looked at.
FREE = tuple("""
    /access_group/ /add/allowed_ip /api/event_logging/ /assistants /batches/ /budget/ /cache/ /claude-code/ /cloudzero/ /compliance/ /config
    /cost/estimate /credentials /customer/ /debug/ /delete/allowed_ip /email/ /end_user/ /fallback /files /fine_tuning/jobs/ /global/
    /guardrails /invitation/ /jwt/ /key/ /langfuse/ /login /mcp-rest/ /milvus/ /model/ /model_group/ /model_hub/
    /models/{model_name:path}:countTokens /moderations /onboarding/ /organization/ /policies /policy/test /policy/validate /project/ /register
    /reload/ /schedule/ /scim/ /search_tools /spend/calculate /tag/ /team/ /token /toolset/ /upload/logo /user/ /utils/
    /v1/messages/count_tokens /v3/login /vantage/ /vector_store/ /{mcp_server_name}/ /{provider}/v1/batches/ /{provider}/v1/files
""".split())
# They stand below what costs nothing, and ask models or search for money all the same.
COSTLY = ("/utils/test_policies_and_guardrails", "/search_tools/test_connection")
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


def test_a_post_is_a_call_or_known_to_cost_nothing(routes):
    assert len(routes) > 250 and set(COSTLY) <= set(routes)
    with ingest_stack() as stack:
        ingest = stack.ingest().start()
        missed = [path for path in routes if (path in COSTLY or not path.startswith(FREE)) and not is_call(ingest, filled(path))]
        assert not missed, "\n".join(missed)
        behind = stack.ingest("behind", upstream=stack.provider_url + "/v1").start()
        missed = [path for path in routes if "/v1" + path in routes and not is_call(behind, filled(path))]
        assert not missed, "\n".join(missed)
