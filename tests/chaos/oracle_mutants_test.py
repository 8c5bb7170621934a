"""The oracle against services that are really broken: each of eight defects is patched into a copy of the sources, built,
and run under load; the oracle must name it. (tests/integration/test_oracle.py does the same in memory, in seconds.)

A patch that no longer applies fails its test: the code moved, so move the patch.
"""

import shutil
import subprocess
from collections import Counter

import pytest

from integration.load import Load, Repeater
from integration.settle import ask_oracle, settle
from stack import ROOT, Stack, wait_until

ACCOUNTS = {"whole": "default", "more": "plus", "thirds": "thirds"}
TARGETS = ("spend-ingest", "spend-attributor", "spend-ledger")

# name -> (what the oracle must say at least, [(file, text, its replacement)])
MUTANTS = {
    "repeat_not_dropped": ({"invariant", "balance"}, [
        ("ledger/batch_fold.c", "call->changed = call->changed || changes != 0;", "call->changed = true;"),
        ("ledger/batch_fold.c", "struct bill before = call_bill_of(&call->before);", "struct bill before = {0};")]),
    "offset_stored_early": ({"lost"}, [
        ("attributor/attribute_loop.c", "        if (*sent == 0 && !transaction_begin",
         "        if (*sent > 0 && item->message.offset % 9 == 3) {\n            pending_mark(l->pending, item);\n"
         "            continue;\n        }\n        if (*sent == 0 && !transaction_begin")]),
    "tag_source_ignored": ({"provider"}, [("ingest/tag_capture.c", 'SV_LIT("x-litellm-tags")', 'SV_LIT("x-nothing")')]),
    "float_money": ({"bill", "balance"}, [
        ("common/base/money.c", "bool money_mark_up(int64_t raw_nanos, int64_t markup_ppm, int64_t *billed_nanos)\n{",
         "bool money_mark_up(int64_t raw_nanos, int64_t markup_ppm, int64_t *billed_nanos)\n{\n    if (raw_nanos >= 0) {\n"
         "        *billed_nanos = (int64_t)((double)raw_nanos / 1e9 * ((double)markup_ppm / 1e6) * 1e9 + 0.5);\n"
         "        return true;\n    }")]),
    "dead_letter_lost": ({"lost"}, [
        ("attributor/attribute_loop.c", "if (!record_send(l, item, &decision, err))",
         "if (decision.verdict != DECIDE_UNTAGGED && !record_send(l, item, &decision, err))")]),
    # its gap in the numbers is named too, once the instance's next heartbeat has come
    "delivery_error_swallowed": ({"provider"}, [
        ("ingest/delivery.c", "    if (!producer_send(d->producer, &out, err))",
         "    static int count;\n    if (++count % 40 == 7) {\n        journal_delivered(call);\n        return true;\n    }\n"
         "    if (!producer_send(d->producer, &out, err))")]),
    "markup_applied_twice": ({"bill", "balance"}, [
        ("ledger/call_fold.c", "    row->billed_nanos = (struct opt_i64){.has = row->raw_nanos.has};",
         "    row->billed_nanos = (struct opt_i64){.has = row->raw_nanos.has};\n"
         "    if (markup_ppm > MARKUP_ONE_PPM && !money_mark_up(markup_ppm, markup_ppm, &markup_ppm))\n        return false;")]),
    "cached_tokens_at_full_price": ({"attributed", "bill", "balance"}, [
        ("common/spend/rater.c", "{USAGE_CACHE_READ, PRICE_CACHE_READ,", "{USAGE_CACHE_READ, PRICE_INPUT,")]),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what is tracked, configured once; each mutant builds on it."""
    tree = tmp_path_factory.mktemp("mutants")
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
                            text=True, check=True).stdout.splitlines()
    for path in listed:
        if not path.startswith("tests/testdata/") and (ROOT / path).is_file():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, tree / path)
    subprocess.run(["cmake", "--preset", "dev"], cwd=tree, check=True, capture_output=True)
    return tree


def build(tree):
    done = subprocess.run(["cmake", "--build", "--preset", "dev", "--target", *TARGETS, "-j2"], cwd=tree, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def kinds_found(tree):
    """What the oracle says of these binaries after a small load: {kind: how often}."""
    with Stack(bin_dir=tree / "build/dev/bin") as stack:
        stack.start_services()
        for tier, markup in (("plus", "1.30"), ("thirds", "1.333333")):
            assert stack.api("PUT", f"/v1/tiers/{tier}", {"markup": markup})[0] in (200, 201)
        for account, tier in ACCOUNTS.items():
            assert stack.api("PUT", f"/v1/accounts/{account}", {"name": account, "tier": tier})[0] in (200, 201)
        with Repeater(stack.brokers, every=3) as repeater:
            Load(lambda: [stack.services["ingest"].url], list(ACCOUNTS), 240, callers=8, untagged=0.1).start().join(300)
            wait_until(lambda: repeater.repeated >= 50, 60, "records repeated")
        try:
            settle(stack, 30)
        except TimeoutError:
            pass  # some defects never settle: the oracle says so too
        code, report = ask_oracle(stack, "--settle", "10")
        found = Counter(text.split(":")[0] for text in report["differences"])
        assert code == (2 if found else 0)
        return found


def test_without_a_defect_the_oracle_agrees(copy):
    build(copy)
    assert kinds_found(copy) == {}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_service_is_named(copy, name):
    wanted, patches = MUTANTS[name]
    before = {path: (copy / "services" / path).read_text() for path, _, _ in patches}
    try:
        for path, old, new in patches:
            text = (copy / "services" / path).read_text()
            assert text.count(old) == 1, f"{name} no longer applies to {path}"
            (copy / "services" / path).write_text(text.replace(old, new))
        build(copy)
        found = kinds_found(copy)
    finally:
        for path, text in before.items():
            (copy / "services" / path).write_text(text)
    assert wanted <= set(found), found
