"""The batch step on a real Postgres, driven through a real Kafka: what one record, and several of one call, come to."""

import uuid

import psycopg
import pytest

from ledger_bench import attributed, billed, dead, key_hash, running_ledger, uuid_of
from oracle import avro, build, fold

INT64_MAX = 2**63 - 1


@pytest.fixture(scope="module")
def bench():
    with running_ledger() as bench:
        yield bench
        bench.check_entries()


def test_a_call_is_deducted_once_and_its_row_tells_everything(bench):
    account = bench.account()
    call = build.call([build.tag(f"account_id={account}", "header"), build.tag("colour=blue", "root", "metadata")],
                      key_hash=key_hash("k"), usage=build.usage(input=7, cache_read=0, output=3), provider="openai",
                      service_tier="flex", reported_cost_nanos=77, model_replied="gpt-4o-2024")
    record = attributed(call, account, 123_456, task_id="job", conversation_id="talk", user="u", team="t")
    for _ in range(3):
        bench.feeder.bill(record)
    bench.settle()
    (entry,) = bench.entries(account)
    assert (entry["kind"], entry["cause"], entry["amount_nanos"], entry["balance_after_nanos"]) == (
        "deduction", "call", -123_456, -123_456)
    assert (entry["account_seq"], entry["task"], entry["conversation"], entry["model"]) == (1, "job", "talk", "gpt-4o-2024")
    assert (entry["raw_nanos"], entry["markup_ppm"], entry["price_version"]) == (123_456, 1_000_000, 1)
    row = bench.call(call)
    assert row["posted_at"] == [entry["posted_at"]] and entry["call_id"] == uuid_of(call)
    assert (row["usage_input"], row["usage_cache_read"], row["usage_cache_write_5m"], row["usage_output"]) == (7, 0, None, 3)
    assert (row["tags"], row["tag_origins"]) == ([f"account_id={account}", "colour=blue"], [1, 2 | 4])
    assert (row["provider"], row["service_tier"], row["reported_cost_nanos"], row["reason"]) == ("openai", "flex", 77, None)
    assert (row["user_id"], row["team"], row["route"], row["key_hash"]) == ("u", "t", "tag", key_hash("k"))
    digest = fold.call_hash(call)
    assert row["identity_rank"] == fold.identity_rank(call, digest) and row["hash"] == digest
    assert row["measurement_rank"] == fold.measurement_rank(call, digest)
    assert row["attribution_rank"] == fold.attribution_rank(call, digest, "attributed")
    assert row["record_topic"] == "spend.attributed" and row["origin_topic"] == "spend.calls"


def test_a_better_measurement_posts_the_difference_and_a_worse_one_nothing(bench):
    account = bench.account()
    estimate = build.call(quality="estimated", usage=build.usage(input=9))
    final = {**estimate, "quality": "final"}
    partial = {**estimate, "quality": "partial"}
    for call, raw in ((estimate, 500), (final, 800), (partial, 100), (estimate, 500)):
        bench.feeder.bill(attributed(call, account, raw))
        bench.settle()
    assert bench.amounts(account) == [("deduction", -500), ("adjustment", -300)]
    assert [e["cause"] for e in bench.entries(account)] == ["call", "correction"]
    assert bench.call(final)["billed_nanos"] == 800 and len(bench.call(final)["posted_at"]) == 2


def test_records_of_one_call_in_one_batch_fold_before_anything_is_posted(bench):
    account = bench.account()
    first = build.call(quality="estimated")
    for quality, raw in (("estimated", 5), ("final", 11), ("partial", 7)):
        bench.feeder.bill(attributed({**first, "quality": quality}, account, raw))
    other = build.call()
    bench.feeder.bill(attributed(other, account, 2))
    bench.settle()
    assert bench.call(first)["billed_nanos"] == 11
    assert sum(amount for _, amount in bench.amounts(account)) == -13


def test_an_account_move_reverses_the_old_bill_and_deducts_the_new_one(bench):
    old, new = bench.account(), bench.account()
    log = build.call(source="proxy_log", source_id="x", quality="final")
    bench.feeder.bill(attributed(log, old, 400, task_id="old-task"))
    bench.settle()
    gateway = {**log, "source": "gateway", "source_id": None}
    bench.feeder.bill(attributed(gateway, new, 450, task_id="new-task"))
    bench.settle()
    assert bench.amounts(old) == [("deduction", -400), ("reversal", 400)] and bench.balance(old) == 0
    assert bench.amounts(new) == [("deduction", -450)]
    assert [e["task"] for e in bench.entries(old)] == ["old-task", "old-task"]
    assert bench.call(gateway)["account_id"] == new and bench.call(gateway)["task"] == "new-task"


def test_a_dead_letter_is_deducted_from_its_suspense_account_until_it_is_attributed(bench):
    account = bench.account()
    call = build.call()
    before = bench.balance("~suspense/untagged")
    bench.feeder.letter(dead(call, "untagged", 900))
    bench.settle()
    assert bench.balance("~suspense/untagged") == before - 900
    row = bench.call(call)
    assert (row["account_id"], row["reason"], row["detail"]) == ("~suspense/untagged", "untagged", "it is untagged")
    assert (row["markup_ppm"], row["billed_nanos"], row["record_topic"]) == (1_000_000, 900, "spend.dlq.untagged")
    bench.feeder.bill(attributed(call, account, 900))
    bench.settle()
    assert bench.balance("~suspense/untagged") == before and bench.amounts(account) == [("deduction", -900)]
    assert bench.call(call)["reason"] is None
    # the suspense record again, late: attributed stays above it
    bench.feeder.letter(dead(call, "untagged", 900))
    bench.settle()
    assert bench.call(call)["account_id"] == account and bench.balance("~suspense/untagged") == before


def test_an_unpriced_call_has_a_row_and_no_entry(bench):
    call = build.call()
    before = bench.balance("~suspense/unpriced")
    bench.feeder.letter(dead(call, "unpriced", None))
    bench.settle()
    row = bench.call(call)
    assert (row["reason"], row["raw_nanos"], row["billed_nanos"], row["posted_at"]) == ("unpriced", None, None, [])
    assert bench.balance("~suspense/unpriced") == before
    # the same observation, decided again when there was a price, is billed
    account = bench.account()
    bench.feeder.bill(attributed(call, account, 60))
    bench.settle()
    assert bench.amounts(account) == [("deduction", -60)] and bench.call(call)["reason"] is None


def test_a_measurement_without_a_price_reverses_what_was_posted(bench):
    account = bench.account()
    call = build.call(quality="estimated")
    bench.feeder.bill(attributed(call, account, 70))
    bench.settle()
    bench.feeder.letter(dead({**call, "quality": "final"}, "unpriced", None))
    bench.settle()
    assert bench.amounts(account) == [("deduction", -70), ("reversal", 70)]
    row = bench.call(call)
    assert (row["account_id"], row["reason"], row["raw_nanos"]) == (account, "unpriced", None)


def test_a_call_that_costs_nothing_makes_no_entry(bench):
    account = bench.account()
    call = build.call(outcome="failed", quality="unknown", usage=build.usage())
    bench.feeder.bill(attributed(call, account, 0, rating="free"))
    bench.settle()
    assert bench.entries(account) == [] and bench.call(call)["billed_nanos"] == 0


def test_the_markup_of_the_tier_in_force_applies_and_rounds_half_to_even_once(bench):
    bench.put("/v1/tiers/third", {"markup": "1.333333"})
    account = bench.account(tier="third")
    raws = [1, 2, 3, 1_000_001, 999_999_999_999]
    calls = [build.call() for _ in raws]
    for call, raw in zip(calls, raws, strict=True):
        bench.feeder.bill(attributed(call, account, raw))
    bench.settle()
    assert [bench.call(c)["billed_nanos"] for c in calls] == [billed(raw, 1_333_333) for raw in raws]
    assert bench.balance(account) == -sum(billed(raw, 1_333_333) for raw in raws)
    assert {e["markup_ppm"] for e in bench.entries(account)} == {1_333_333}


def test_two_records_of_one_rank_give_one_notice_and_the_greater_hash_counts(bench):
    account = bench.account()
    one = build.call(usage=build.usage(input=1))
    variants = [{**one, "usage": build.usage(input=n)} for n in (1, 2, 3)]
    for number, call in enumerate(variants):
        bench.feeder.bill(attributed(call, account, 100 + number))
        bench.settle()
    best = max(range(3), key=lambda n: fold.call_hash(variants[n]))
    assert bench.balance(account) == -(100 + best)
    notices = [avro.DEAD_LETTER.decode(r.value) for r in bench.tail.records["spend.dlq.conflict"]]
    (notice,) = [n for n in notices if n["call_id"] == one["call_id"]]
    assert (notice["kind"], notice["reason"], notice["call"]) == ("notice", "conflict", None)
    assert notice["origin"]["topic"] == "spend.attributed" and notice["original"][:2] == avro.MAGIC
    assert bench.call(one)["conflicted"] is True


def test_what_cannot_be_applied_is_parked_with_its_bytes_and_stops_nobody(bench):
    account = bench.account()
    good = [build.call() for _ in range(6)]
    record = attributed(build.call(), account, 5)
    whole = avro.ATTRIBUTED.encode(record)
    nobody = attributed(build.call(), "nobody-made-this", 5)
    negative = attributed(build.call(), account, -5)
    ours = attributed(build.call(), "~suspense/untagged", 5)
    nul = attributed(build.call(), account, 5, task_id="a\0b")
    poison = [b"", b"\xc3\x01", whole[:-1], whole + b"x", whole[2:], bytes(90_000), b"\xc3\x01" + bytes(8) + whole[10:],
              avro.ATTRIBUTED.encode(nobody), avro.ATTRIBUTED.encode(negative), avro.ATTRIBUTED.encode(ours),
              avro.ATTRIBUTED.encode(nul)]
    for number, value in enumerate(poison):
        bench.feeder.raw("spend.attributed", b"k%d" % number, value, partition=3)
        if number % 2 == 0:
            bench.feeder.bill(attributed(good[number // 2], account, 10), partition=3)
    bench.feeder.raw("spend.attributed", b"tombstone", None, partition=3)
    bench.feeder.raw("spend.attributed", b"k" * 20_000, b"no avro", partition=3)
    bench.feeder.raw("spend.dlq.unknown", b"no letter", b"no letter")
    bench.settle()
    assert bench.balance(account) == -60
    parked = {r.key: avro.DEAD_LETTER.decode(r.value) for r in bench.tail.records["spend.dlq.malformed"]}
    for number, value in enumerate(poison):
        letter = parked[b"k%d" % number]
        assert letter["original"] == value and letter["reason"] == "malformed" and letter["kind"] == "call"
        assert (letter["origin"]["topic"], letter["origin"]["partition"]) == ("spend.attributed", 3)
    assert parked[b"tombstone"]["original"] == b"" and parked[b"no letter"]["origin"]["topic"] == "spend.dlq.unknown"
    assert parked[b"k" * 4096]["original"] == b"no avro"
    assert "does not know the account" in parked[b"k7"]["detail"]
    assert bench.call(record["call"]) is None and bench.call(nobody["call"]) is None


def test_a_record_as_large_as_a_topic_takes_is_parked_too(bench):
    value = bytes(range(256)) * 4000
    bench.feeder.raw("spend.attributed", b"huge", value)
    bench.settle()
    (letter,) = [avro.DEAD_LETTER.decode(r.value) for r in bench.tail.records["spend.dlq.malformed"] if r.key == b"huge"]
    assert value.startswith(letter["original"]) and len(letter["original"]) > 90_000
    assert "original cut at" in letter["detail"]


def test_amounts_that_do_not_fit_are_parked_one_by_one(bench):
    bench.put("/v1/tiers/double", {"markup": "2"})
    rich, double = bench.account(), bench.account(tier="double")
    fits, over = build.call(), build.call()
    small = [build.call() for _ in range(20)]
    wide = build.call()
    bench.feeder.bill(attributed(fits, rich, INT64_MAX), partition=5)
    for number, call in enumerate(small):
        bench.feeder.bill(attributed(call, double, 3), partition=5)
        if number == 7:
            bench.feeder.bill(attributed(wide, double, INT64_MAX), partition=5)
        if number == 12:
            bench.feeder.bill(attributed(over, rich, 2), partition=5)
    bench.settle()
    assert bench.balance(rich) == -INT64_MAX and bench.balance(double) == -120
    assert "billed amount" in bench.parked(wide)[0]["detail"] and "balance" in bench.parked(over)[0]["detail"]
    assert bench.call(over) is None and bench.call(wide) is None


def test_entries_cannot_be_changed_or_taken_away_by_anybody(bench):
    for role, refusal in (("spend_ledger", psycopg.errors.InsufficientPrivilege),
                          ("spend_owner", psycopg.errors.RestrictViolation),
                          ("postgres", psycopg.errors.RestrictViolation)):
        for sql in ("UPDATE entry SET amount_nanos = 0", "DELETE FROM entry", "TRUNCATE entry"):
            with pytest.raises(refusal):
                bench.execute(sql, role=role)
    for sql in ("DELETE FROM call", "UPDATE tier SET markup_ppm = 0", "DELETE FROM balance", "DROP TABLE entry",
                "UPDATE consumer_offset SET cluster_id = 'x'"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bench.execute(sql, role="spend_ledger")


def test_a_calls_entries_are_found_by_the_times_in_its_row(bench):
    account = bench.account()
    call = build.call(quality="estimated")
    for quality, raw in (("estimated", 5), ("final", 9)):
        bench.feeder.bill(attributed({**call, "quality": quality}, account, raw))
        bench.settle()
    rows = bench.query("SELECT e.amount_nanos FROM call c JOIN entry e ON e.posted_at = ANY (c.posted_at)"
                       " AND e.call_id = c.call_id WHERE c.call_id = %s ORDER BY e.account_seq", (uuid_of(call),))
    assert [row["amount_nanos"] for row in rows] == [-5, -4]


def test_migrating_again_changes_nothing_and_a_changed_migration_is_refused(bench):
    before = bench.query("SELECT * FROM schema_migration ORDER BY number")
    bench.stack.migrate()
    assert bench.query("SELECT * FROM schema_migration ORDER BY number") == before
    bench.execute("UPDATE schema_migration SET sha256 = 'other' WHERE number = 1")
    with pytest.raises(AssertionError, match="is not what this database was made with"):
        bench.stack.migrate()
    bench.execute("UPDATE schema_migration SET sha256 = %s WHERE number = 1", (before[0]["sha256"],))


def test_ids_of_calls_are_uuids_of_any_version(bench):
    account = bench.account()
    calls = [{**build.call(), "call_id": uuid.uuid4().bytes} for _ in range(50)]
    for call in calls:
        bench.feeder.bill(attributed(call, account, 1))
    bench.settle()
    assert bench.balance(account) == -50
