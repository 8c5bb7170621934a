"""Adds up JUnit files: prints `PASSED FAILED SKIPPED`, and names each failure on stderr.

A ctest program holds many cmocka cases: each counts by itself, read from the program's own output. A program that failed
without naming a case (a crash, a leak) is one failure more.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree

CASE_OK = re.compile(r"^\[ +OK +\] (\S+)", re.M)
CASE_SKIPPED = re.compile(r"^\[ +SKIPPED +\] (test_\w+)", re.M)
CASE_FAILED = re.compile(r"^\[ +FAILED +\] (test_\w+)", re.M)


def count_case(case):
    """(passed, failed, skipped, names of failures) of one <testcase>."""
    name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
    output = case.findtext("system-out") or ""
    # ctest says it in an attribute, pytest in a child
    broken = case.get("status") == "fail" or case.find("failure") is not None or case.find("error") is not None
    if case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
        return 0, 0, 1, []
    passed = len(CASE_OK.findall(output))
    failed = sorted(set(CASE_FAILED.findall(output)))
    if broken and not failed:
        failed = [""]
    skipped = len(set(CASE_SKIPPED.findall(output)))
    if not broken and not passed and not skipped:
        passed = 1
    return passed, len(failed), skipped, [f"{name} {which}".strip() for which in failed]


def main():
    totals = [0, 0, 0]
    for path in sys.argv[1:]:
        try:
            cases = ElementTree.parse(path).getroot().iter("testcase")
            counts = [count_case(case) for case in cases]
        except (OSError, ElementTree.ParseError) as error:
            counts = [(0, 1, 0, [f"{path}: {error}"])]
        for *numbers, names in counts:
            totals = [total + number for total, number in zip(totals, numbers)]
            for name in names:
                print(f"FAILED {name}", file=sys.stderr)
    print(*totals)


if __name__ == "__main__":
    main()
