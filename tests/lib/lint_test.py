"""Rules of the tree that no compiler checks: who may include whom, sizes, shell scripts, nothing of one machine."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES = 600
FUNCTION_LINES = 70
SERVICES = ("ingest", "attributor", "ledger", "spendctl")
# lines that are neither blank nor comment, of .c and .h, without tests: small is a promise
BUDGETS = {"ingest": 9700, "attributor": 1500, "ledger": 11500, "common": 11600, "spendctl": 2500}
# room -> the rooms it may include; a service may include every room of common
ROOMS = {"base": ("base",), "spend": ("base", "spend"), "run": ("base", "spend", "run"),
         "kafka": ("base", "spend", "kafka"), "journal": ("base", "journal")}
# library header -> where alone it may be included
LIBRARIES = {
    r"librdkafka/": r"services/common/kafka/",
    r"avro(\.h|/)": r"services/common/spend/avro_codec",
    r"curl/": r"services/common/run/http_client",
    r"libpq-fe\.h": r"services/(ledger/pg_session|spendctl/import_)",
    r"event2/": r"services/(common/run/|ingest/|ledger/api)",
}


def tracked(*patterns):
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split("\n")
    return sorted(path for path in set(listed) if path and (ROOT / path).is_file())


def text(path):
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def sources():
    return [path for path in tracked("services/*.c", "services/*.h")]


def includes(path):
    return re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', text(path), re.M)


def room(path):
    """base, spend, run, kafka, journal, or the service's name."""
    parts = path.split("/")
    return parts[2] if parts[1] == "common" else parts[1]


def included_room(name):
    """The room an include of ours points into, None for a system header or the file's own folder."""
    match = re.match(r"(?:common/)?(base|spend|run|kafka|journal)/|(ingest|attributor|ledger|spendctl)/", name)
    return match and (match.group(1) or match.group(2))


def test_there_is_something_to_check():
    assert len(sources()) > 10


def test_includes_point_one_way():
    wrong = []
    for path in sources():
        own = room(path)
        allowed = ROOMS.get(own, (*ROOMS, own))
        for name in includes(path):
            target = included_room(name)
            if (target and target not in allowed) or ".." in name.split("/"):
                wrong.append(f"{path} includes {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_stays_in_its_room(library):
    wrong = [f"{path} includes {name}" for path in sources() for name in includes(path)
             if re.match(library, name) and not re.match(LIBRARIES[library], path)]
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_are_short():
    wrong = []
    for path in sources():
        lines = text(path).split("\n")
        if len(lines) > FILE_LINES and not path.endswith("_test.c"):
            wrong.append(f"{path}: {len(lines)} lines")
        start = None
        for number, line in enumerate(lines, 1):
            if line.startswith("{"):
                start = number
            elif line.startswith("}") and start:
                if number - start > FUNCTION_LINES and not path.endswith("_test.c"):
                    wrong.append(f"{path}:{start}: a function of {number - start} lines")
                start = None
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("service", BUDGETS)
def test_small_is_a_promise(service):
    total = 0
    for path in sources():
        if path.startswith(f"services/{service}/") and not path.endswith("_test.c"):
            code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text(path), flags=re.S)
            total += sum(1 for line in code.split("\n") if line.strip())
    assert total < BUDGETS[service]


def test_every_pure_module_has_a_test_beside_it():
    missing = [path for path in sources() if re.match(r"services/common/(base|spend)/.*\.c$", path)
               and not path.endswith("_test.c") and not (ROOT / path.replace(".c", "_test.c")).exists()]
    assert not missing, "\n".join(missing)


def test_nothing_of_one_machine_and_nothing_left_for_later():
    # the needles are put together here so that this file does not find itself
    machine = re.compile(r"(^|[^a-z.$}])/" + "(work|root|farm)/", re.M)
    later = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b|not imple" + "mented")
    wrong = []
    for path in tracked():
        if path.startswith(("tests/testdata/", "tests/fuzz/corpus/")) or path.endswith((".png", ".gz", ".json")):
            continue
        for number, line in enumerate(text(path).split("\n"), 1):
            if machine.search(line) or (later.search(line) and path.startswith(("services/", "deploy/", "tests/"))):
                wrong.append(f"{path}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def shell_scripts():
    return [path for path in tracked("deploy", "tests", ".ci", "tools")
            if path.endswith(".sh") or re.match(r"#!.*\b(ba)?sh\b", text(path).split("\n", 1)[0])]


@pytest.mark.parametrize("path", shell_scripts())
def test_shellcheck_is_quiet(path):
    done = subprocess.run(["shellcheck", "-x", "-P", "deploy/local", path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_c_files_are_formatted():
    done = subprocess.run(["clang-format-16", "--dry-run", "-Werror", *sources()], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr[:3000]
