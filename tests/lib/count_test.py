"""What tests/run says at its end must be what happened."""

import subprocess
import sys
from pathlib import Path

COUNT = Path(__file__).parent / "count.py"
CTEST = """<testsuite><testcase name="money" classname="money" status="{status}"><system-out>{output}</system-out>
</testcase></testsuite>"""
GOOD = "[==========] Running 2 test(s).\n[       OK ] test_a\n[       OK ] test_b\n[  PASSED  ] 2 test(s).\n"
BAD = ("[       OK ] test_a\n[  FAILED  ] test_b\n[==========] 2 test(s) run.\n[  PASSED  ] 1 test(s).\n"
       "[  FAILED  ] tests: 1 test(s), listed below:\n[  FAILED  ] test_b\n\n 1 FAILED TEST(S)\n")


def counted(tmp_path, text):
    path = tmp_path / "one.xml"
    path.write_text(text)
    done = subprocess.run([sys.executable, COUNT, path], capture_output=True, text=True, check=True)
    return done.stdout.split(), done.stderr


def test_each_cmocka_case_counts(tmp_path):
    assert counted(tmp_path, CTEST.format(status="run", output=GOOD)) == (["2", "0", "0"], "")


def test_a_failed_case_counts_once_and_is_named(tmp_path):
    assert counted(tmp_path, CTEST.format(status="fail", output=BAD)) == (["1", "1", "0"], "FAILED money.money test_b\n")


def test_a_program_that_crashes_after_its_cases_is_a_failure(tmp_path):
    assert counted(tmp_path, CTEST.format(status="fail", output=GOOD))[0] == ["2", "1", "0"]


def test_a_skipped_case_is_neither(tmp_path):
    skipped = GOOD + "[  SKIPPED ] test_c\n[  SKIPPED ] 1 test(s), listed below:\n[  SKIPPED ] test_c\n"
    assert counted(tmp_path, CTEST.format(status="run", output=skipped))[0] == ["2", "0", "1"]


def test_a_program_without_cmocka_is_one_case(tmp_path):
    assert counted(tmp_path, CTEST.format(status="run", output="fine"))[0] == ["1", "0", "0"]


def test_pytest_failures_errors_and_skips_are_told_apart(tmp_path):
    text = """<testsuites><testsuite><testcase classname="a" name="ok"/><testcase classname="a" name="no"><failure/></testcase>
    <testcase classname="a" name="broken"><error/></testcase><testcase classname="a" name="later"><skipped/></testcase>
    </testsuite></testsuites>"""
    numbers, names = counted(tmp_path, text)
    assert numbers == ["1", "2", "1"] and names == "FAILED a.no\nFAILED a.broken\n"


def test_a_missing_or_torn_file_is_a_failure(tmp_path):
    assert counted(tmp_path, "<testsuites><test")[0] == ["0", "1", "0"]
