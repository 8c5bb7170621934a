"""Spendline built with a defect: a copy of the services, one change of their source, the three programs made from it.

A change names text that must stand in its file exactly once: where the code has moved on, the test says so and is mended;
a defect is never left out in silence.
"""

import shutil
import subprocess
from dataclasses import dataclass

from stack import ROOT

SOURCES = ("CMakeLists.txt", "cmake", "schemas", "services")
PROGRAMS = ("spend-ingest", "spend-attributor", "spend-ledger")


@dataclass(frozen=True)
class Change:
    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Defect:
    name: str
    kinds: frozenset  # of the differences that the oracle must name, all of them
    change: Change
    extras: frozenset = frozenset()  # what the scenario adds: "crashes", "refusals"


# Each process of the ledger dies in its fifth batch, right after its offset's compare-and-set.
CRASH = """    static int batches;
    if (++batches == 5)
        _Exit(9);
"""
STORE_OFFSET = """    if (!pg_session_commit(b->options.pg, err) || !pg_session_begin(b->options.pg, err))
        return false;
"""


def after_the_compare_and_set(more):
    line = "        return look_at_offset(at, err);\n"
    return Change("services/ledger/batch_apply.c", line, line + more)


DEFECTS = (
    # a repeat bills as if nothing had been billed before
    Defect("repeat_billed_again", frozenset({"balance", "invariant"}), Change(
        "services/ledger/batch_fold.c", "    call->changed = call->changed || changes != 0;\n",
        "    call->changed = true;\n"
        "    if (changes == 0)\n"
        "        call->before = (struct call_row){.call_id = call->row.call_id};\n")),
    Defect("offset_stored_early", frozenset({"call", "balance"}), after_the_compare_and_set(STORE_OFFSET + CRASH),
           frozenset({"crashes"})),
    Defect("tag_source_ignored", frozenset({"provider"}), Change(
        "services/ingest/tag_capture.c", "return metadata_read(r, value, TAG_ORIGIN_LITELLM_METADATA);",
        "return json_scan_skip(&r->scan, value, NULL);")),
    Defect("float_money", frozenset({"attributed", "bill", "balance"}), Change(
        "services/common/spend/rater.c", "    return money_from_femtos(sum, RATE_PER_MAX, &out->raw_nanos) || overflow(err);\n",
        "    double usd = 0;\n"
        "    for (size_t i = 0; i < out->line_count; i++)\n"
        "        usd += (double)out->lines[i].units * ((double)out->lines[i].femtos / 1e15);\n"
        "    out->raw_nanos = (int64_t)(usd * 1e9);\n"
        "    return true;\n")),
    Defect("dead_letter_lost", frozenset({"lost"}), Change(
        "services/attributor/attribute_loop.c", "if (!record_send(l, item, &decision, err))",
        "if (decision.verdict != DECIDE_UNTAGGED && !record_send(l, item, &decision, err))")),
    Defect("delivery_error_swallowed", frozenset({"provider", "gap"}), Change(
        "services/ingest/delivery.c", "    meter_add(METER_DELIVERY_RETRIED, 1);\n",
        "    journal_delivered(call);\n"
        "    return;\n"), frozenset({"refusals"})),
    Defect("markup_applied_twice", frozenset({"bill", "balance"}), Change(
        "services/ledger/call_fold.c", "!money_mark_up(row->raw_nanos.v, markup_ppm, &row->billed_nanos.v)",
        "(!money_mark_up(row->raw_nanos.v, markup_ppm, &row->billed_nanos.v) ||\n"
        "                                !money_mark_up(row->billed_nanos.v, markup_ppm, &row->billed_nanos.v))")),
    Defect("cached_tokens_at_full_price", frozenset({"attributed", "bill", "balance"}), Change(
        "services/common/spend/rater.c", "{USAGE_CACHE_READ, SIDE_IN, {PRICE_CACHE_READ, PRICES}, true, 1}",
        "{USAGE_CACHE_READ, SIDE_IN, {PRICE_INPUT, PRICES}, true, 1}")),
)
# The same scenario with everything that provokes a defect, and none built in: the oracle must agree.
CONTROL = Defect("none", frozenset(), after_the_compare_and_set(CRASH), frozenset({"crashes", "refusals"}))


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-4000:]}"


class Workshop:
    """One copy of the sources and one build of it, for one defect after the other."""

    def __init__(self, directory):
        self.sources, self.build = directory / "sources", directory / "build"
        self.sources.mkdir()
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.sources / name)
            else:
                shutil.copy(ROOT / name, self.sources / name)
        (self.sources / "tests").mkdir()
        (self.sources / "tests" / "CMakeLists.txt").touch()  # the build asks for it; nothing of it is made here
        run("cmake", "-S", str(self.sources), "-B", str(self.build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
            "-DCMAKE_C_FLAGS_DEBUG=-O1")
        self.make()

    @property
    def programs(self):
        return self.build / "bin"

    def make(self):
        run("cmake", "--build", str(self.build), "--parallel", "2", "--target", *PROGRAMS)

    def make_with(self, change):
        """Builds the programs with this one change. The sources are whole again afterwards."""
        path = self.sources / change.file
        whole = path.read_text(encoding="utf-8")
        found = whole.count(change.old)
        assert found == 1, f"{change.file}: this stands there {found} times, once is needed:\n{change.old}"
        path.write_text(whole.replace(change.old, change.new), encoding="utf-8")
        try:
            self.make()
        finally:
            path.write_text(whole, encoding="utf-8")
