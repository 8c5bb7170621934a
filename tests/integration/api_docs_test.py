"""docs/openapi.yaml names exactly what the ledger answers, and its errors are the documented ones."""

import re

from stack import ROOT

ROUTES = ROOT / "services/ledger/api_route.c"
OPENAPI = ROOT / "docs/openapi.yaml"


def routed():
    """{(method, path with {})} of the route table; FACTS rows stand for three."""
    text = ROUTES.read_text(encoding="utf-8")
    found = {(m.lower(), p) for m, p in re.findall(r'ROUTE\((\w+), "([^"]+)"', text)}
    found |= {(m.lower(), p) for m, p in re.findall(r'\.method = API_(\w+), \.pattern = "([^"]+)"', text)}
    found |= {(m.lower(), p) for m, p in re.findall(r'\.method = API_(\w+),\s+\.pattern = "([^"]+)"', text)}
    found |= {("post", path) for path in re.findall(r'HOLDS\("([^"]+)"', text)}
    for path in re.findall(r'FACTS\("([^"]+)"', text):
        found |= {("get", path), ("get", path + "/{}"), ("put", path + "/{}")}
    return found


def documented():
    paths = OPENAPI.read_text(encoding="utf-8").partition("\npaths:\n")[2].partition("\ncomponents:\n")[0]
    found, path = set(), None
    for line in paths.splitlines():
        if match := re.fullmatch(r"  (/\S+):", line):
            path = re.sub(r"\{\w+\}", "{}", match.group(1))
        elif match := re.fullmatch(r"    (get|put|post|delete|patch):", line):
            found.add((match.group(1), path))
    return found


def test_every_route_is_documented_and_nothing_else():
    assert len(routed()) > 20
    assert routed() == documented()


def test_every_error_type_is_documented():
    used = set()
    for path in (ROOT / "services/ledger").glob("*.c"):
        used |= set(re.findall(r'api_refuse\(\s*\w+,\s*[^,]+,\s*"(\w+)"', path.read_text(encoding="utf-8")))
    used |= set(re.findall(r'write_error\(\w+, \d+, "(\w+)"', (ROOT / "services/ledger/api_request.c").read_text()))
    listed = re.search(r"type:\s+enum: \[(invalid,[^]]+)\]", OPENAPI.read_text(encoding="utf-8")).group(1)
    assert len(used) > 8 and used <= set(re.split(r",\s+", listed))
